//! The images to look at: where the model was surest, rightly and wrongly.

use crate::EvalError;
use crate::confusion::check_indices;
use crate::predictions::check_probabilities;

/// The images of one actual class, by how sure the model was of what it said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClassRanking {
    /// Indices of images that were called what they are, the most confident first.
    pub best: Vec<usize>,
    /// Indices of images that were called another class, the most confident first.
    pub worst: Vec<usize>,
}

/// For each actual class, the `count` most confident right and the `count` most confident wrong predictions: `[K]`
/// rankings, whose indices go into the slices given here. Fewer where there are fewer.
///
/// `labels` (actual) and `predicted` are class indices in `0..classes`, `[N]`; `probabilities` is `[N, K]`, row by row,
/// each in 0 to 1. Confidence is the probability of the predicted class; equal ones stand in the order of the index.
///
/// # Errors
///
/// Fewer than two classes, no samples, slices of different length, an index that is no class, a probability that is
/// none.
pub fn best_and_worst(
    labels: &[usize],
    predicted: &[usize],
    probabilities: &[f32],
    classes: usize,
    count: usize,
) -> Result<Vec<ClassRanking>, EvalError> {
    if classes < 2 {
        return Err(EvalError::TooFewClasses { found: classes });
    }
    check_indices(labels, predicted, classes)?;
    check_probabilities(probabilities, labels.len(), classes)?;
    // Adding 0 turns -0 into 0, which the total order would tell apart.
    let confidence = |sample: usize| probabilities[sample * classes + predicted[sample]] + 0.0;
    let mut by_confidence: Vec<usize> = (0..labels.len()).collect();
    // A stable sort keeps ties in the order of the index.
    by_confidence.sort_by(|&first, &second| confidence(second).total_cmp(&confidence(first)));
    let mut rankings = vec![ClassRanking::default(); classes];
    for sample in by_confidence {
        let ranking = &mut rankings[labels[sample]];
        let list = if predicted[sample] == labels[sample] { &mut ranking.best } else { &mut ranking.worst };
        if list.len() < count {
            list.push(sample);
        }
    }
    Ok(rankings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_by_confidence_with_ties_in_order() {
        let labels = [0, 0, 0, 1, 0, 0, 1];
        let predicted = [0, 1, 0, 1, 0, 1, 0];
        let probabilities = [0.8, 0.2, 0.4, 0.6, 0.9, 0.1, 0.3, 0.7, 0.8, 0.2, 0.1, 0.9, 0.5, 0.5];
        let rankings = best_and_worst(&labels, &predicted, &probabilities, 2, 8).unwrap();
        assert_eq!(rankings[0], ClassRanking { best: vec![2, 0, 4], worst: vec![5, 1] });
        assert_eq!(rankings[1], ClassRanking { best: vec![3], worst: vec![6] });
        let one_each = best_and_worst(&labels, &predicted, &probabilities, 2, 1).unwrap();
        assert_eq!(one_each[0], ClassRanking { best: vec![2], worst: vec![5] });
    }

    #[test]
    fn minus_zero_ties_with_zero() {
        // A threshold may predict a class of probability 0, and -0 must not fall behind it.
        let rankings = best_and_worst(&[0, 0], &[0, 0], &[-0.0, 1.0, 0.0, 1.0], 2, 8).unwrap();
        assert_eq!(rankings[0].best, [0, 1]);
    }

    #[test]
    fn refuses_what_is_no_probability() {
        for bad in [f32::NAN, f32::INFINITY, -0.01, 1.01] {
            let error = best_and_worst(&[0, 1], &[0, 1], &[0.5, 0.5, 0.5, bad], 2, 8).unwrap_err();
            assert!(matches!(error, EvalError::NotAProbability { sample: 1, class: 1, .. }), "{error}");
        }
        let error = best_and_worst(&[0, 1], &[0, 1], &[0.5; 3], 2, 8).unwrap_err();
        assert_eq!(error, EvalError::Length { what: "probabilities", found: 3, expected: 4 });
        assert!(best_and_worst(&[0], &[2], &[0.5, 0.5], 2, 8).is_err());
        assert_eq!(best_and_worst(&[0], &[0], &[], 0, 8), Err(EvalError::TooFewClasses { found: 0 }));
    }
}

//! Counts of actual against predicted classes.

use crate::EvalError;
use crate::wording::{Align, align_columns};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// How often each class was called which: `[K, K]` counts, rows actual, columns predicted, with the class names.
///
/// Holds at least two classes with different, non-empty names and at least one sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: Vec<String>,
    counts: Vec<Vec<u64>>,
    samples: u64,
}

/// The four counts of one class against all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Images of the class that were called so.
    pub true_positive: u64,
    /// Images of the class that were called another: misses.
    pub false_negative: u64,
    /// Images of other classes that were called this one: false alarms.
    pub false_positive: u64,
    /// Images of other classes that were called another than this one.
    pub true_negative: u64,
}

impl ConfusionMatrix {
    /// Counts `labels` (actual) against `predicted`, both class indices in `0..classes.len()`, one for each sample.
    ///
    /// # Errors
    ///
    /// Fewer than two classes, empty or repeated names, no samples, slices of different length, an index that is no
    /// class.
    pub fn new(classes: Vec<String>, labels: &[usize], predicted: &[usize]) -> Result<Self, EvalError> {
        check_classes(&classes)?;
        check_indices(labels, predicted, classes.len())?;
        let mut counts = vec![vec![0; classes.len()]; classes.len()];
        for (&label, &prediction) in labels.iter().zip(predicted) {
            counts[label][prediction] += 1;
        }
        Self::from_counts(classes, counts)
    }

    /// Takes counts that are already there: `counts[actual][predicted]`.
    ///
    /// # Errors
    ///
    /// Fewer than two classes, empty or repeated names, counts that are not K by K, or that are all zero.
    pub fn from_counts(classes: Vec<String>, counts: Vec<Vec<u64>>) -> Result<Self, EvalError> {
        check_classes(&classes)?;
        let expected = classes.len();
        if counts.len() != expected {
            return Err(EvalError::MatrixShape { what: "rows".into(), found: counts.len(), expected });
        }
        for (row, cells) in counts.iter().enumerate() {
            if cells.len() != expected {
                let what = format!("columns in row {row}");
                return Err(EvalError::MatrixShape { what, found: cells.len(), expected });
            }
        }
        let samples = counts.iter().flatten().try_fold(0_u64, |sum, &count| sum.checked_add(count));
        match samples.ok_or(EvalError::CountOverflow)? {
            0 => Err(EvalError::NoSamples),
            samples => Ok(Self { classes, counts, samples }),
        }
    }

    /// The class names, in the order of the indices.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// `[K, K]` counts, `counts()[actual][predicted]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// How many samples were counted; at least one.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How many samples were called what they are.
    pub fn correct(&self) -> u64 {
        (0..self.classes.len()).map(|class| self.counts[class][class]).sum()
    }

    /// How many samples are of `class`: the sum of its row.
    ///
    /// # Panics
    ///
    /// Where `class` is not in `0..K`.
    pub fn actual(&self, class: usize) -> u64 {
        self.counts[class].iter().sum()
    }

    /// How many samples were called `class`: the sum of its column.
    ///
    /// # Panics
    ///
    /// Where `class` is not in `0..K`.
    pub fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    /// `class` against all others.
    ///
    /// # Panics
    ///
    /// Where `class` is not in `0..K`.
    pub fn outcomes(&self, class: usize) -> Outcomes {
        let true_positive = self.counts[class][class];
        let false_negative = self.actual(class) - true_positive;
        let false_positive = self.predicted(class) - true_positive;
        let true_negative = self.samples - true_positive - false_negative - false_positive;
        Outcomes { true_positive, false_negative, false_positive, true_negative }
    }

    /// Each row as shares of its sum, `[K, K]` in 0 to 1: where the images of a class went. `None` for the row of a
    /// class without images.
    pub fn row_normalised(&self) -> Vec<Option<Vec<f64>>> {
        let shares = |(class, row): (usize, &Vec<u64>)| {
            let total = self.actual(class);
            (total > 0).then(|| row.iter().map(|&count| count as f64 / total as f64).collect())
        };
        self.counts.iter().enumerate().map(shares).collect()
    }
}

/// An aligned text table with class names and totals; no newline at the end.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class_indices = 0..self.classes.len();
        let mut header = vec!["actual \\ predicted".to_string()];
        header.extend(self.classes.iter().cloned());
        header.push("total".into());
        let mut rows = vec![header];
        for class in class_indices.clone() {
            let mut row = vec![self.classes[class].clone()];
            row.extend(self.counts[class].iter().map(u64::to_string));
            row.push(self.actual(class).to_string());
            rows.push(row);
        }
        let mut totals = vec!["total".to_string()];
        totals.extend(class_indices.map(|class| self.predicted(class).to_string()));
        totals.push(self.samples.to_string());
        rows.push(totals);
        let mut alignment = vec![Align::Right; self.classes.len() + 2];
        alignment[0] = Align::Left;
        f.write_str(&align_columns(&rows, &alignment).join("\n"))
    }
}

/// Refuses class names that a table or a file could not tell apart.
pub(crate) fn check_classes(classes: &[String]) -> Result<(), EvalError> {
    if classes.len() < 2 {
        return Err(EvalError::TooFewClasses { found: classes.len() });
    }
    let mut seen = HashSet::new();
    for (index, name) in classes.iter().enumerate() {
        if name.trim().is_empty() {
            return Err(EvalError::EmptyClassName { index });
        }
        if !seen.insert(name) {
            return Err(EvalError::DuplicateClass { name: name.clone() });
        }
    }
    Ok(())
}

/// Checks that `labels` and `predicted` are equally many class indices, and at least one.
pub(crate) fn check_indices(labels: &[usize], predicted: &[usize], classes: usize) -> Result<(), EvalError> {
    if labels.is_empty() {
        return Err(EvalError::NoSamples);
    }
    if predicted.len() != labels.len() {
        return Err(EvalError::Length { what: "predicted classes", found: predicted.len(), expected: labels.len() });
    }
    for (what, indices) in [("label", labels), ("predicted class", predicted)] {
        if let Some(sample) = indices.iter().position(|&index| index >= classes) {
            return Err(EvalError::ClassOutOfRange { what, sample, found: indices[sample], classes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn rows_are_actual_and_columns_predicted() {
        let matrix = ConfusionMatrix::new(names(&["a", "b", "c"]), &[0, 0, 0, 1, 2], &[0, 1, 1, 1, 0]).unwrap();
        assert_eq!(matrix.counts(), [vec![1, 2, 0], vec![0, 1, 0], vec![1, 0, 0]]);
        assert_eq!((matrix.samples(), matrix.correct()), (5, 2));
        assert_eq!((matrix.actual(0), matrix.predicted(0)), (3, 2));
        let outcomes = Outcomes { true_positive: 1, false_negative: 2, false_positive: 1, true_negative: 1 };
        assert_eq!(matrix.outcomes(0), outcomes);
    }

    #[test]
    fn shares_of_a_row_without_images_do_not_exist() {
        let matrix = ConfusionMatrix::from_counts(names(&["a", "b"]), vec![vec![3, 1], vec![0, 0]]).unwrap();
        assert_eq!(matrix.row_normalised(), [Some(vec![0.75, 0.25]), None]);
    }

    #[test]
    fn prints_aligned_whatever_the_names() {
        let matrix =
            ConfusionMatrix::from_counts(names(&["é", "no finding"]), vec![vec![5, 12345], vec![0, 7]]).unwrap();
        let expected = "actual \\ predicted  é  no finding  total
é                   5       12345  12350
no finding          0           7      7
total               5       12352  12357";
        assert_eq!(matrix.to_string(), expected);
    }

    #[test]
    fn refuses_what_is_no_table_of_predictions() {
        let two = || names(&["a", "b"]);
        let cases = [
            (ConfusionMatrix::new(names(&["a"]), &[0], &[0]), EvalError::TooFewClasses { found: 1 }),
            (ConfusionMatrix::new(names(&["a", " "]), &[0], &[0]), EvalError::EmptyClassName { index: 1 }),
            (ConfusionMatrix::new(names(&["a", "a"]), &[0], &[0]), EvalError::DuplicateClass { name: "a".into() }),
            (ConfusionMatrix::new(two(), &[], &[]), EvalError::NoSamples),
            (
                ConfusionMatrix::new(two(), &[0, 1], &[0]),
                EvalError::Length { what: "predicted classes", found: 1, expected: 2 },
            ),
            (
                ConfusionMatrix::new(two(), &[0, 1], &[0, 2]),
                EvalError::ClassOutOfRange { what: "predicted class", sample: 1, found: 2, classes: 2 },
            ),
            (
                ConfusionMatrix::new(two(), &[9], &[0]),
                EvalError::ClassOutOfRange { what: "label", sample: 0, found: 9, classes: 2 },
            ),
            (ConfusionMatrix::from_counts(two(), vec![vec![0, 0]; 2]), EvalError::NoSamples),
            (ConfusionMatrix::from_counts(two(), vec![vec![u64::MAX, 1], vec![0, 0]]), EvalError::CountOverflow),
            (
                ConfusionMatrix::from_counts(two(), vec![vec![1, 0]]),
                EvalError::MatrixShape { what: "rows".into(), found: 1, expected: 2 },
            ),
            (
                ConfusionMatrix::from_counts(two(), vec![vec![1, 0], vec![1]]),
                EvalError::MatrixShape { what: "columns in row 1".into(), found: 1, expected: 2 },
            ),
        ];
        for (result, error) in cases {
            assert_eq!(result.unwrap_err(), error);
        }
    }
}

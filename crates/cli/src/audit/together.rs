//! All features together: what no one of them tells, several may. A logistic regression, each image scored by one that has
//! not seen its part of the data.

use super::shortcuts::{Feature, PARTS};
use std::collections::BTreeMap;

/// Values of a category that have a column of their own; rarer ones have none.
const MOST_VALUES: usize = 8;
/// Weight of the squared coefficients, against one image each: as if little were known beforehand.
const RIDGE: f64 = 1.0;
const MOST_STEPS: usize = 30;

/// For each of the `chosen` images how much its features speak for the positive side; whole clusters stand in one part.
/// `None` where there are fewer than two features, or a side is missing outside of a part.
pub fn together(
    features: &[(&str, Feature)],
    chosen: &[usize],
    positive: &[bool],
    cluster_of: &[usize],
) -> Option<Vec<f32>> {
    if features.len() < 2 {
        return None;
    }
    let columns: Vec<Vec<f64>> = features.iter().flat_map(|(_, feature)| columns(feature, chosen)).collect();
    let row = |at: usize| columns.iter().map(|column| column[at]).collect::<Vec<f64>>();
    let rows: Vec<Vec<f64>> = (0..chosen.len()).map(row).collect();
    let mut scores = vec![0.0; rows.len()];
    for part in 0..PARTS {
        let here = |at: &usize| cluster_of[*at] % PARTS == part;
        let elsewhere: Vec<usize> = (0..rows.len()).filter(|at| !here(at)).collect();
        let coefficients = fitted(&rows, positive, &elsewhere)?;
        for at in (0..rows.len()).filter(here) {
            // Without the constant, which differs between parts by how many positives they have themselves.
            scores[at] = coefficients.iter().zip(&rows[at]).map(|(c, x)| c * x).sum::<f64>() as f32;
        }
    }
    Some(scores)
}

/// A feature as numbers with mean 0 and variance 1; what is unknown lies in the middle.
fn columns(feature: &Feature, chosen: &[usize]) -> Vec<Vec<f64>> {
    let of = |value: &dyn Fn(usize) -> Option<f64>| {
        let values: Vec<Option<f64>> = chosen.iter().map(|&index| value(index)).collect();
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let spread = (known.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / known.len().max(1) as f64).sqrt();
        (spread > 0.0).then(|| values.iter().map(|value| value.map_or(0.0, |x| (x - mean) / spread)).collect())
    };
    match feature {
        Feature::Amount(values) => of(&|index| values[index].map(f64::from)).into_iter().collect(),
        Feature::Category(values) => {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            chosen.iter().for_each(|&index| *counts.entry(&values[index]).or_default() += 1);
            let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let frequent = counts.iter().take(MOST_VALUES);
            frequent.filter_map(|(name, _)| of(&|index| Some(f64::from(u8::from(values[index] == *name))))).collect()
        }
    }
}

/// The coefficients of a ridge regression on the log odds, by Newton's method with halved steps; the last, the constant, is
/// left out. `None` where a side is missing.
fn fitted(rows: &[Vec<f64>], positive: &[bool], of: &[usize]) -> Option<Vec<f64>> {
    let positives = of.iter().filter(|&&at| positive[at]).count();
    if positives == 0 || positives == of.len() {
        return None;
    }
    let width = rows[0].len() + 1;
    let with_constant = |at: usize| rows[at].iter().copied().chain([1.0]);
    let log_odds = |coefficients: &[f64], at: usize| -> f64 {
        with_constant(at).zip(coefficients).map(|(x, coefficient)| x * coefficient).sum()
    };
    let ridge = |place: usize| if place + 1 == width { 1e-9 } else { RIDGE };
    let loss = |coefficients: &[f64]| -> f64 {
        let penalty: f64 = coefficients.iter().enumerate().map(|(place, c)| ridge(place) * c * c / 2.0).sum();
        let of_image = |at: &usize| {
            let toward = log_odds(coefficients, *at) * if positive[*at] { 1.0 } else { -1.0 };
            // ln(1 + exp(-t)) without overflow.
            (-toward).max(0.0) + (-toward.abs()).exp().ln_1p()
        };
        penalty + of.iter().map(of_image).sum::<f64>()
    };
    let mut coefficients = vec![0.0; width];
    let mut current = loss(&coefficients);
    for _ in 0..MOST_STEPS {
        let mut gradient: Vec<f64> = (0..width).map(|place| ridge(place) * coefficients[place]).collect();
        let mut curvature = vec![vec![0.0; width]; width];
        (0..width).for_each(|place| curvature[place][place] = ridge(place));
        for &at in of {
            let probability = 1.0 / (1.0 + (-log_odds(&coefficients, at)).exp());
            let (slope, weight) = (probability - f64::from(u8::from(positive[at])), probability * (1.0 - probability));
            for (place, x) in with_constant(at).enumerate() {
                gradient[place] += slope * x;
                for (other, y) in with_constant(at).enumerate().take(place + 1) {
                    curvature[place][other] += weight * x * y;
                }
            }
        }
        let step = solved(curvature, gradient);
        let mut length = 1.0;
        let better = loop {
            let tried: Vec<f64> = coefficients.iter().zip(&step).map(|(c, step)| c - length * step).collect();
            let found = loss(&tried);
            if found < current {
                break Some((tried, found));
            }
            length /= 2.0;
            if length < 1e-6 {
                break None;
            }
        };
        let Some((tried, found)) = better else { break };
        let gain = current - found;
        (coefficients, current) = (tried, found);
        if gain < 1e-8 * current.max(1.0) {
            break;
        }
    }
    coefficients.pop();
    Some(coefficients)
}

/// Solves `matrix x = right` by Cholesky's factors; of the symmetric positive definite matrix the lower half is read.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let width = right.len();
    for row in 0..width {
        for column in 0..=row {
            let product: f64 = (0..column).map(|k| matrix[row][k] * matrix[column][k]).sum();
            let rest = matrix[row][column] - product;
            // The ridge keeps the diagonal above zero; rounding does not take all of it.
            matrix[row][column] = if row == column { rest.max(1e-12).sqrt() } else { rest / matrix[column][column] };
        }
    }
    for row in 0..width {
        let product: f64 = (0..row).map(|k| matrix[row][k] * right[k]).sum();
        right[row] = (right[row] - product) / matrix[row][row];
    }
    for row in (0..width).rev() {
        let product: f64 = (row + 1..width).map(|k| matrix[k][row] * right[k]).sum();
        right[row] = (right[row] - product) / matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_eval::{Clusters, RankedScores, auroc};

    fn area(scores: &[f32], positive: &[bool]) -> f64 {
        let clusters = Clusters::each_its_own(scores.len());
        auroc(&[RankedScores::new(scores, positive).unwrap()], &clusters, "a").value.unwrap()
    }

    /// Numbers between 0 and 1 without a pattern.
    fn noise(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        (0..count).map(|_| next()).collect()
    }

    fn amount(values: Vec<f32>) -> Feature {
        Feature::Amount(values.into_iter().map(Some).collect())
    }

    #[test]
    fn two_features_tell_what_neither_tells() {
        let count = 400;
        let positive: Vec<bool> = (0..count).map(|index| index % 2 == 0).collect();
        let width = noise(1, count);
        // The difference of two widely scattered numbers is the side.
        let other: Vec<f32> =
            width.iter().zip(&positive).map(|(width, side)| width + if *side { 0.05 } else { 0.0 }).collect();
        for alone in [&width, &other] {
            assert!((area(alone, &positive) - 0.5).abs() < 0.1, "{}", area(alone, &positive));
        }
        let (chosen, own): (Vec<usize>, Vec<usize>) = ((0..count).collect(), (0..count).collect());
        let both = [("width", amount(width.clone())), ("other", amount(other))];
        let scores = together(&both, &chosen, &positive, &own).unwrap();
        assert!(area(&scores, &positive) > 0.9, "{}", area(&scores, &positive));
        assert!(together(&both[..1], &chosen, &positive, &own).is_none());
    }

    #[test]
    fn what_says_nothing_stays_at_chance_and_patients_do_not_explain_themselves() {
        let count = 300;
        let patients: Vec<usize> = (0..count).map(|index| index / 10).collect();
        let positive: Vec<bool> = patients.iter().map(|patient| patient % 2 == 0).collect();
        let names: Vec<String> = patients.iter().map(|patient| format!("scanner {patient}")).collect();
        let features = [
            ("scanner", Feature::Category(names)),
            ("noise", amount(noise(2, count))),
            ("more", amount(noise(3, count))),
        ];
        let chosen: Vec<usize> = (0..count).collect();
        let found = area(&together(&features, &chosen, &positive, &patients).unwrap(), &positive);
        assert!((0.3..0.6).contains(&found), "{found}");
    }

    #[test]
    fn equations_are_solved() {
        let matrix = vec![vec![4.0, 9.0, 9.0], vec![2.0, 5.0, 9.0], vec![0.0, 1.0, 3.0]];
        let found = solved(matrix, vec![8.0, 15.0, 11.0]);
        // Of [[4, 2, 0], [2, 5, 1], [0, 1, 3]].
        let expected = [1.0, 2.0, 3.0];
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12), "{found:?}");
    }
}

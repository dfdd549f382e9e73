//! Holm's correction: of many differences, some look large by chance alone.

/// Holm's step-down corrected p values (S. Holm, Scandinavian Journal of Statistics 6, 1979, 65), in the order given:
/// the chance that any true null hypothesis among them has a corrected p value of at most alpha is at most alpha,
/// however the tests depend on each other.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut ascending: Vec<usize> = (0..p_values.len()).collect();
    ascending.sort_by(|&first, &second| p_values[first].total_cmp(&p_values[second]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, index) in ascending.into_iter().enumerate() {
        let remaining = (p_values.len() - rank) as f64;
        largest = largest.max((remaining * p_values[index]).min(1.0));
        corrected[index] = largest;
    }
    corrected
}

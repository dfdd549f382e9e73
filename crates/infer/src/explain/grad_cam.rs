//! Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
//! 2017), its equations 1 and 2.

/// The map `[H * W]` of activations and gradients `[C, H * W]`, before the formula's ReLU. A channel's weight is its mean
/// gradient.
pub(super) fn map(activation: &[f32], gradient: &[f32], positions: usize) -> Vec<f32> {
    weighted_sum(activation, gradient, positions, |_, gradient| {
        gradient.iter().map(|&g| f64::from(g)).sum::<f64>() / positions as f64
    })
}

/// The sum over channels of the activation times the channel's weight, which `weight` makes of the channel's activation
/// and gradient `[H * W]`.
pub(super) fn weighted_sum(
    activation: &[f32],
    gradient: &[f32],
    positions: usize,
    weight: impl Fn(&[f32], &[f32]) -> f64,
) -> Vec<f32> {
    let mut sums = vec![0.0f64; positions];
    for (activation, gradient) in activation.chunks_exact(positions).zip(gradient.chunks_exact(positions)) {
        let weight = weight(activation, gradient);
        sums.iter_mut().zip(activation).for_each(|(sum, &a)| *sum += weight * f64::from(a));
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn channels_count_by_their_mean_gradient() {
        // Two channels of three places: mean gradients 2 and -1.
        let found = super::map(&[1.0, 0.0, 2.0, 3.0, 1.0, 0.0], &[6.0, 0.0, 0.0, -1.0, -1.0, -1.0], 3);
        assert_eq!(found, [-1.0, -1.0, 4.0]);
    }
}

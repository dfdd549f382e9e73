//! Grad-CAM++ (Chattopadhay et al., "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional
//! Networks", WACV 2018), its equations 10, 19 and 20.

use super::grad_cam::weighted_sum;

/// Keeps the quotient defined where a gradient underflows; pytorch-grad-cam 1.5.7 has the same.
const EPSILON: f64 = 1e-6;

/// The map `[H * W]` of activations and gradients `[C, H * W]`, before the formula's ReLU. A channel's weight is the sum
/// over its places of alpha times the positive part of the gradient g, alpha = g^2 / (2 g^2 + (sum of activations) g^3):
/// the quotient of second and third derivatives for a score that is the exponential of the logit.
pub(super) fn map(activation: &[f32], gradient: &[f32], positions: usize) -> Vec<f32> {
    weighted_sum(activation, gradient, positions, |activation, gradient| {
        let total: f64 = activation.iter().map(|&a| f64::from(a)).sum();
        // Negative gradients have no part in the sum.
        let positive = gradient.iter().map(|&g| f64::from(g)).filter(|g| *g > 0.0);
        positive.map(|g| g.powi(3) / (2.0 * g.powi(2) + total * g.powi(3) + EPSILON)).sum()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_place_with_a_positive_gradient_gives_its_channel_weight() {
        // One channel, activations 1 and 3, gradients 0.5 and -2: alpha = 0.25 / (0.5 + 4 * 0.125) = 0.25.
        let found = super::map(&[1.0, 3.0], &[0.5, -2.0], 2);
        assert!((found[0] - 0.125).abs() < 1e-6 && (found[1] - 0.375).abs() < 1e-6, "{found:?}");
        assert_eq!(super::map(&[1.0, 3.0], &[0.0, -2.0], 2), [0.0, 0.0]);
    }
}

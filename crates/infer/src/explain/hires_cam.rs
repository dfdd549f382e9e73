//! HiResCAM (Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
//! networks", 2020, arXiv:2011.08891), its equation 3.

/// The map `[H * W]` of activations and gradients `[C, H * W]`: the sum over channels of activation times gradient. Where
/// nothing but pooling and linear layers follows the module, it sums up to the logit without biases.
pub(super) fn map(activation: &[f32], gradient: &[f32], positions: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; positions];
    for (activation, gradient) in activation.chunks_exact(positions).zip(gradient.chunks_exact(positions)) {
        let products = activation.iter().zip(gradient).map(|(&a, &g)| f64::from(a) * f64::from(g));
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn places_count_by_their_own_gradient() {
        let found = super::map(&[1.0, 0.0, 2.0, 3.0, 1.0, 0.0], &[6.0, 5.0, 0.0, -1.0, -1.0, -1.0], 3);
        assert_eq!(found, [3.0, -1.0, 0.0]);
    }
}

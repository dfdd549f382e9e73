//! Cross-entropy over softmax, as `torch.nn.CrossEntropyLoss` defines it.

/// Softmax of one row, in f64 through the largest logit, so that logits of any size give probabilities that sum to 1.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let (largest, sum) = largest_and_sum(logits);
    logits.iter().map(|&z| (f64::from(z) - largest).exp() / sum).collect()
}

/// The largest logit, and the sum of the exponentials of all logits less that one.
fn largest_and_sum(logits: &[f32]) -> (f64, f64) {
    let largest = f64::from(logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)));
    (largest, logits.iter().map(|&z| (f64::from(z) - largest).exp()).sum())
}

/// Cross-entropy with optional class weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// One positive weight a class; all ones where absent.
    pub class_weights: Option<Vec<f32>>,
}

impl CrossEntropy {
    /// The weight of one class.
    pub fn weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[class]))
    }

    /// Sum of the weights of a batch's labels: what the mean loss is divided by.
    pub fn total_weight(&self, labels: &[usize]) -> f64 {
        labels.iter().map(|&label| self.weight(label)).sum()
    }

    /// Weighted losses and their gradient. `logits` is `[N, K]`; writes one loss an image, already weighted and not
    /// divided, into `losses` in place of what that held, and the gradient of `sum(losses) / total_weight` into
    /// `gradient`, `[N, K]`. A batch cut into micro-batches passes the total of the whole batch.
    ///
    /// # Panics
    /// Where the lengths do not match or a label is not below K.
    pub fn losses(
        &self,
        logits: &[f32],
        labels: &[usize],
        total_weight: f64,
        gradient: &mut [f32],
        losses: &mut Vec<f64>,
    ) {
        let classes = logits.len() / labels.len();
        assert_eq!(logits.len(), classes * labels.len(), "logits are [N, K]");
        assert_eq!(gradient.len(), logits.len(), "the gradient has the shape of the logits");
        let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes));
        losses.clear();
        losses.extend(rows.zip(labels).map(|((row, gradient), &label)| {
            let weight = self.weight(label);
            let (largest, sum) = largest_and_sum(row);
            for (class, (g, &z)) in gradient.iter_mut().zip(row).enumerate() {
                let target = if class == label { 1.0 } else { 0.0 };
                let p = (f64::from(z) - largest).exp() / sum;
                *g = (weight / total_weight * (p - target)) as f32;
            }
            weight * cross_entropy(row, label)
        }));
    }
}

/// `-log softmax(logits)[label]`, exact for logits of any size.
pub fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let (largest, sum) = largest_and_sum(logits);
    sum.ln() + largest - f64::from(logits[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extreme_logits_stay_finite() {
        assert_eq!(cross_entropy(&[100.0, -100.0], 0), 0.0);
        assert_eq!(cross_entropy(&[100.0, -100.0], 1), 200.0);
        assert!((softmax(&[100.0, 100.0, 100.0])[0] - 1.0 / 3.0).abs() < 1e-15);
        let mut gradient = [0.0; 2];
        let mut losses = vec![7.0];
        CrossEntropy::default().losses(&[-1000.0, 1000.0], &[0], 1.0, &mut gradient, &mut losses);
        assert_eq!(losses.len(), 1);
        assert_eq!((losses[0], gradient), (2000.0, [-1.0, 1.0]));
    }

    #[test]
    fn the_gradient_is_that_of_the_weighted_mean() {
        let loss = CrossEntropy { class_weights: Some(vec![2.0, 0.5, 1.0]) };
        let labels = [1, 0];
        let logits = [0.3f32, -1.2, 0.7, 2.0, 0.1, -0.4];
        let total = loss.total_weight(&labels);
        let mut gradient = [0.0; 6];
        loss.losses(&logits, &labels, total, &mut gradient, &mut Vec::new());
        let mean = |logits: &[f32]| {
            let mut losses = Vec::new();
            loss.losses(logits, &labels, total, &mut [0.0; 6], &mut losses);
            losses.iter().sum::<f64>() / total
        };
        for index in 0..6 {
            let (mut up, mut down) = (logits, logits);
            up[index] += 1e-3;
            down[index] -= 1e-3;
            let difference = (mean(&up) - mean(&down)) / f64::from(up[index] - down[index]);
            assert!((difference - f64::from(gradient[index])).abs() < 1e-6, "{index}");
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        assert!(cross_entropy(&[f32::NAN, 0.0], 1).is_nan());
    }
}

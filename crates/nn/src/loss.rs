//! Cross-entropy over softmax, as `torch.nn.CrossEntropyLoss` defines it, and the focal loss.

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

/// Cross-entropy or one of its relatives, with optional class weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// One positive weight a class; all ones where absent.
    pub class_weights: Option<Vec<f32>>,
    /// Which of them.
    pub kind: LossKind,
}

/// A relative of cross-entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LossKind {
    /// `-log p` of the label's class.
    #[default]
    CrossEntropy,
    /// `torch.nn.CrossEntropyLoss(label_smoothing=S)`: a share S, in `(0, 1)`, of the target is spread evenly over all
    /// classes, each with its class's weight (Szegedy et al., CVPR 2016).
    LabelSmoothing(f32),
    /// `-(1 - p)^gamma log p` with gamma above 0, on the softmax probability p of the label's class, the class weights
    /// as alpha (Lin et al., ICCV 2017, there on sigmoids).
    Focal(f32),
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
            match self.kind {
                LossKind::CrossEntropy => plain(row, label, weight, total_weight, gradient),
                LossKind::LabelSmoothing(share) => self.smoothed(row, label, f64::from(share), total_weight, gradient),
                LossKind::Focal(gamma) => focal(row, label, weight, f64::from(gamma), total_weight, gradient),
            }
        }));
    }

    /// `-sum_c q_c log p_c` with `q_c = (1 - share) w_label [c = label] + share / K w_c`: the loss is linear in the
    /// target.
    fn smoothed(&self, row: &[f32], label: usize, share: f64, total_weight: f64, gradient: &mut [f32]) -> f64 {
        let (largest, sum) = largest_and_sum(row);
        let target = |class: usize| {
            let own = if class == label { (1.0 - share) * self.weight(label) } else { 0.0 };
            own + share / row.len() as f64 * self.weight(class)
        };
        let whole: f64 = (0..row.len()).map(target).sum();
        for (class, (g, &z)) in gradient.iter_mut().zip(row).enumerate() {
            let p = (f64::from(z) - largest).exp() / sum;
            *g = ((whole * p - target(class)) / total_weight) as f32;
        }
        (0..row.len()).map(|class| target(class) * cross_entropy(row, class)).sum()
    }
}

fn plain(row: &[f32], label: usize, weight: f64, total_weight: f64, gradient: &mut [f32]) -> f64 {
    let (largest, sum) = largest_and_sum(row);
    for (class, (g, &z)) in gradient.iter_mut().zip(row).enumerate() {
        let target = if class == label { 1.0 } else { 0.0 };
        let p = (f64::from(z) - largest).exp() / sum;
        *g = (weight / total_weight * (p - target)) as f32;
    }
    weight * cross_entropy(row, label)
}

fn focal(row: &[f32], label: usize, weight: f64, gamma: f64, total_weight: f64, gradient: &mut [f32]) -> f64 {
    let (largest, sum) = largest_and_sum(row);
    let p = |z: f32| (f64::from(z) - largest).exp() / sum;
    // 1 - p of the label is what the other classes have, and log p follows from it where p is near 1: a difference from
    // 1 would have lost its digits.
    let others = row.iter().enumerate().filter(|(class, _)| *class != label);
    let rest: f64 = others.map(|(_, &z)| p(z)).sum();
    let log_p = if rest < 0.5 { (-rest).ln_1p() } else { -cross_entropy(row, label) };
    // The derivative of the loss for log p; at p = 1, where a gamma below 1 would give 0 times infinity, its limit.
    let slope = match rest == 0.0 {
        true => 0.0,
        false => gamma * p(row[label]) * rest.powf(gamma - 1.0) * log_p - rest.powf(gamma),
    };
    for (class, (g, &z)) in gradient.iter_mut().zip(row).enumerate() {
        // The derivative of log p for a logit; for the label's own, 1 - p again.
        let of_logit = if class == label { rest } else { -p(z) };
        *g = (weight / total_weight * slope * of_logit) as f32;
    }
    -weight * rest.powf(gamma) * log_p
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
    fn relatives_stay_finite_and_meet_cross_entropy_at_their_ends() {
        let of = |kind: LossKind, logits: &[f32], label: usize| {
            let (mut gradient, mut losses) = (vec![0.0; logits.len()], Vec::new());
            let loss = CrossEntropy { kind, ..CrossEntropy::default() };
            loss.losses(logits, &[label], 1.0, &mut gradient, &mut losses);
            (losses[0], gradient)
        };
        for logits in [[1000.0, -1000.0], [30.0, -30.0], [-1000.0, 1000.0], [0.1, 0.2]] {
            for gamma in [0.25, 0.5, 1.0, 2.0] {
                let (loss, gradient) = of(LossKind::Focal(gamma), &logits, 0);
                assert!(
                    loss.is_finite() && gradient.iter().all(|g| g.is_finite()),
                    "{logits:?}, {gamma}: {gradient:?}"
                );
            }
            let (loss, gradient) = of(LossKind::LabelSmoothing(0.1), &logits, 0);
            assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{logits:?}: {gradient:?}");
        }
        // Surely wrong, the focal loss is cross-entropy; surely right, it is nothing.
        assert_eq!(of(LossKind::Focal(2.0), &[-1000.0, 1000.0], 0), (2000.0, vec![-1.0, 1.0]));
        assert_eq!(of(LossKind::Focal(0.5), &[1000.0, -1000.0], 0), (0.0, vec![0.0, 0.0]));
        let (tiny, plain) = (of(LossKind::Focal(1e-9), &[0.3, 0.9], 0), of(LossKind::CrossEntropy, &[0.3, 0.9], 0));
        assert!((tiny.0 - plain.0).abs() < 1e-8 && (tiny.1[0] - plain.1[0]).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_is_that_of_the_weighted_mean() {
        let class_weights = Some(vec![2.0, 0.5, 1.0]);
        for kind in [LossKind::CrossEntropy, LossKind::LabelSmoothing(0.2), LossKind::Focal(0.5), LossKind::Focal(2.0)]
        {
            gradient_against_differences(&CrossEntropy { class_weights: class_weights.clone(), kind });
        }
    }

    fn gradient_against_differences(loss: &CrossEntropy) {
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
            assert!((difference - f64::from(gradient[index])).abs() < 1e-6, "{loss:?}, {index}");
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        assert!(cross_entropy(&[f32::NAN, 0.0], 1).is_nan());
        for kind in [LossKind::CrossEntropy, LossKind::LabelSmoothing(0.1), LossKind::Focal(2.0)] {
            let (mut gradient, mut losses) = ([0.0; 2], Vec::new());
            let loss = CrossEntropy { kind, ..CrossEntropy::default() };
            loss.losses(&[f32::NAN, 0.0], &[1], 1.0, &mut gradient, &mut losses);
            assert!(losses[0].is_nan() && gradient[0].is_nan(), "{kind:?}");
        }
    }
}

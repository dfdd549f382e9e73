//! Integrated gradients (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017), its equations
//! 1 and 3.
//!
//! The baseline is the grey image of zeros behind the normalisation, ImageNet's mean, and not black: a pixel that equals
//! the baseline is attributed nothing, and black is what air looks like in a radiograph.

use super::{Completeness, Explainer};
use roentgen_nn::{EngineError, ParameterSet, ParameterStore};

/// The map `[S * S]` of a normalised image `[3, S, S]` for a class: pixel times mean gradient on the straight way from
/// the grey image, summed over the channels. The gradients are taken in the middle of each of `steps` equal parts.
pub(super) fn map(
    explainer: &mut Explainer,
    store: &mut ParameterStore,
    image: &[f32],
    class: usize,
    steps: usize,
) -> Result<(Vec<f32>, Completeness), EngineError> {
    let positions = image.len() / 3;
    let mut sums = vec![0.0f64; image.len()];
    let (mut images, mut gradients) = (Vec::new(), Vec::new());
    let all: Vec<usize> = (0..steps).collect();
    for part in all.chunks(explainer.compiled.batch) {
        images.clear();
        for &step in part {
            let share = ((step as f64 + 0.5) / steps as f64) as f32;
            images.extend(image.iter().map(|value| share * value));
        }
        explainer.compiled.logits(store, ParameterSet::Live, &images)?;
        explainer.backward(store, class, part.len())?;
        explainer.compiled.program.read_gradient(explainer.image, &mut gradients)?;
        for gradient in gradients.chunks_exact(image.len()) {
            sums.iter_mut().zip(gradient).for_each(|(sum, &g)| *sum += f64::from(g));
        }
    }
    let mut map = vec![0.0f64; positions];
    for (sums, values) in sums.chunks_exact(positions).zip(image.chunks_exact(positions)) {
        let attributed = sums.iter().zip(values).map(|(sum, &value)| sum / steps as f64 * f64::from(value));
        map.iter_mut().zip(attributed).for_each(|(total, channel)| *total += channel);
    }
    let mut logit = |image: &[f32]| -> Result<f64, EngineError> {
        Ok(f64::from(explainer.compiled.logits(store, ParameterSet::Live, image)?[class]))
    };
    let gained = logit(image)? - logit(&vec![0.0; image.len()])?;
    let completeness = Completeness { gained, attributed: map.iter().sum() };
    Ok((map.into_iter().map(|value| value as f32).collect(), completeness))
}

//! Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2).
//!
//! The square is grey: zero behind the normalisation, ImageNet's mean.

use crate::compiled::Compiled;
use roentgen_nn::{EngineError, ParameterSet, ParameterStore};

/// The map `[S * S]` of a normalised image `[3, S, S]`: for each pixel what the class's logit loses when a square covers
/// it, the mean over the squares that do. `explained` is the class and its logit for the whole image.
pub(super) fn map(
    compiled: &mut Compiled,
    store: &mut ParameterStore,
    image: &[f32],
    (class, logit): (usize, f32),
    patch: usize,
    stride: usize,
) -> Result<Vec<f32>, EngineError> {
    // The tensor is 3 * S * S long.
    let size = (image.len() / 3).isqrt();
    let starts = starts(size, patch, stride);
    let squares: Vec<(usize, usize)> =
        starts.iter().flat_map(|&top| starts.iter().map(move |&left| (top, left))).collect();
    let (mut lost, mut covered) = (vec![0.0f64; size * size], vec![0u32; size * size]);
    let mut images = Vec::new();
    for part in squares.chunks(compiled.batch) {
        images.clear();
        for &(top, left) in part {
            let begin = images.len();
            images.extend_from_slice(image);
            for plane in images[begin..].chunks_exact_mut(size * size) {
                for row in plane.chunks_exact_mut(size).skip(top).take(patch) {
                    row[left..left + patch].fill(0.0);
                }
            }
        }
        let logits = compiled.logits(store, ParameterSet::Live, &images)?;
        for (&(top, left), logits) in part.iter().zip(logits.chunks_exact(compiled.classes)) {
            let loss = f64::from(logit) - f64::from(logits[class]);
            for row in top..top + patch {
                for position in row * size + left..row * size + left + patch {
                    lost[position] += loss;
                    covered[position] += 1;
                }
            }
        }
    }
    Ok(lost.iter().zip(&covered).map(|(lost, &count)| (lost / f64::from(count)) as f32).collect())
}

/// Where squares begin along a side: every `stride`, and one that ends at the border. Each pixel is covered, because
/// `stride` is at most `patch`.
fn starts(size: usize, patch: usize, stride: usize) -> Vec<usize> {
    let last = size - patch;
    let mut starts: Vec<usize> = (0..last).step_by(stride).collect();
    starts.push(last);
    starts
}

#[cfg(test)]
mod tests {
    use super::starts;

    #[test]
    fn squares_cover_the_whole_side() {
        assert_eq!(starts(10, 4, 2), [0, 2, 4, 6]);
        assert_eq!(starts(10, 4, 4), [0, 4, 6]);
        assert_eq!(starts(4, 4, 1), [0]);
        for (size, patch, stride) in [(224, 28, 14), (97, 12, 12), (33, 4, 3), (5, 1, 1)] {
            let starts = starts(size, patch, stride);
            assert!((0..size).all(|pixel| starts.iter().any(|start| (*start..start + patch).contains(&pixel))));
        }
    }
}

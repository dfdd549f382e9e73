//! Whether a map is true to the model: deletion and insertion (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling
//! for Explanation of Black-box Models", BMVC 2018, section 4.3).
//!
//! Pixels are taken away in the order of the map, the strongest first, and the class's probability is watched: a true map
//! lets it fall early. Then they are put into a blurred image in the same order: a true map lets it rise early. As in the
//! authors' code, what is taken away becomes grey (zero behind the normalisation), and the blur is Gaussian of 11 pixels
//! with a deviation of 5 at 224 pixels; other sizes have them in proportion.

use super::HeatMap;
use crate::Predictor;
use roentgen_nn::loss::softmax;
use roentgen_nn::{EngineError, ParameterSet, ParameterStore};

/// The class's probability while its strongest pixels go or come.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// Shares of the pixels that were taken away or put in, from 0 to 1 in equal steps.
    pub shares: Vec<f64>,
    /// The probability after taking away; one value a share. Begins at the image.
    pub deletion: Vec<f64>,
    /// The probability after putting in; one value a share. Ends at the image.
    pub insertion: Vec<f64>,
}

impl Curves {
    /// Judges a map over the normalised image `[3, S, S]` that it explains, in `steps` equal steps.
    ///
    /// # Errors
    /// For a tensor of another length.
    ///
    /// # Panics
    /// Where `steps` is 0 or there is no such class.
    pub fn measure(
        predictor: &mut Predictor,
        store: &mut ParameterStore,
        image: &[f32],
        map: &HeatMap,
        class: usize,
        steps: usize,
    ) -> Result<Curves, EngineError> {
        assert!(steps > 0, "a curve has a step at least");
        let order = descending(&map.relevance());
        let mut follow = |from: &[f32], to: &[f32]| probabilities(predictor, store, (from, to), &order, class, steps);
        let grey = vec![0.0; image.len()];
        let deletion = follow(image, &grey)?;
        let insertion = follow(&blurred(image, map.image_size), image)?;
        let shares = (0..=steps).map(|step| step as f64 / steps as f64).collect();
        Ok(Curves { shares, deletion, insertion })
    }

    /// Area under the deletion curve, in `[0, 1]`; the less, the truer the map.
    pub fn deletion_area(&self) -> f64 {
        area(&self.deletion)
    }

    /// Area under the insertion curve, in `[0, 1]`; the more, the truer the map.
    pub fn insertion_area(&self) -> f64 {
        area(&self.insertion)
    }
}

/// By the trapezoidal rule, over equal steps from 0 to 1.
fn area(values: &[f64]) -> f64 {
    let sum: f64 = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum();
    sum / (values.len() - 1) as f64
}

/// Positions from the largest value to the smallest; equal ones as they come.
fn descending(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The class's probability while the pixels of one image become those of another, in an order.
fn probabilities(
    predictor: &mut Predictor,
    store: &mut ParameterStore,
    (from, to): (&[f32], &[f32]),
    order: &[usize],
    class: usize,
    steps: usize,
) -> Result<Vec<f64>, EngineError> {
    let compiled = &mut predictor.compiled;
    let positions = order.len();
    let mut present = from.to_vec();
    let mut changed = 0;
    let mut found = Vec::with_capacity(steps + 1);
    let mut images = Vec::new();
    for step in 0..=steps {
        let upto = positions * step / steps;
        for &position in &order[changed..upto] {
            for channel in 0..3 {
                present[channel * positions + position] = to[channel * positions + position];
            }
        }
        changed = upto;
        images.extend_from_slice(&present);
        if images.len() == compiled.batch * present.len() || step == steps {
            let logits = compiled.logits(store, ParameterSet::Live, &images)?;
            found.extend(logits.chunks_exact(compiled.classes).map(|logits| softmax(logits)[class]));
            images.clear();
        }
    }
    Ok(found)
}

/// The image `[3, S, S]` under a Gaussian blur, the border's pixels repeated beyond it.
fn blurred(image: &[f32], size: usize) -> Vec<f32> {
    let scale = size as f64 / 224.0;
    let (deviation, radius) = (5.0 * scale, (5.0 * scale).ceil() as isize);
    let weights: Vec<f64> = (-radius..=radius).map(|at| (-0.5 * (at as f64 / deviation).powi(2)).exp()).collect();
    let total: f64 = weights.iter().sum();
    // Along the rows and turned, twice: the second turn turns back.
    let along = |planes: &[f32]| -> Vec<f32> {
        let mut turned = vec![0.0; planes.len()];
        for (plane, turned) in planes.chunks_exact(size * size).zip(turned.chunks_exact_mut(size * size)) {
            for (y, row) in plane.chunks_exact(size).enumerate() {
                for x in 0..size {
                    let at = |offset: isize| row[(x as isize + offset).clamp(0, size as isize - 1) as usize];
                    let sum: f64 = (-radius..=radius).zip(&weights).map(|(o, weight)| f64::from(at(o)) * weight).sum();
                    turned[x * size + y] = (sum / total) as f32;
                }
            }
        }
        turned
    };
    along(&along(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_of_trapezoids_and_the_order_goes_down() {
        assert_eq!(area(&[1.0, 0.5, 0.0]), 0.5);
        assert_eq!(area(&[1.0, 0.0, 0.0]), 0.25);
        assert_eq!(descending(&[0.5, -1.0, 2.0, 0.5]), [2, 0, 3, 1]);
    }

    #[test]
    fn a_blur_keeps_what_is_even_and_spreads_a_point_alike_in_all_directions() {
        let size = 32;
        assert!(blurred(&vec![0.7; 3 * size * size], size).iter().all(|value| (value - 0.7).abs() < 1e-6));
        let mut point = vec![0.0; 3 * size * size];
        point[16 * size + 10] = 1.0;
        let found = blurred(&point, size);
        let at = |row: usize, column: usize| found[row * size + column];
        let alike = |a: f32, b: f32| (a - b).abs() < 1e-8;
        assert!(at(16, 10) > at(16, 11) && alike(at(16, 11), at(17, 10)) && alike(at(15, 10), at(17, 10)));
        assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(found[size * size..].iter().all(|&value| value == 0.0), "channels do not mix");
    }
}

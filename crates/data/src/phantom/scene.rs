//! One phantom: patient, exposure and shadows, projected onto pixels.

use rand::RngExt;
use roentgen_run::draw::{self, ChaCha8Rng, Purpose};

use super::acquisition::Acquisition;
use super::anatomy::Anatomy;
use super::canvas::Canvas;
use super::shadow::{Grain, Shadow};
use super::{part, patient_of};

/// Everything random about a phantom. The class is not among it.
pub(super) struct Scene {
    anatomy: Anatomy,
    acquisition: Acquisition,
    shadows: Vec<Shadow>,
    grain: Grain,
    /// Goes on with the noise of the pixels.
    generator: ChaCha8Rng,
}

/// Attenuation of a vessel across a lung of full depth.
const VESSEL_DENSITY: f32 = 0.07;
/// Attenuation of a cable on the skin.
const CABLE_DENSITY: f32 = 0.08;
/// Half the width of a cable as a fraction of the image's side.
const CABLE_HALF_WIDTH: f32 = 0.0035;
/// Lengths on the image are at most this many times those in the body, for the projection's aspect.
const MOST_STRETCH: f32 = 1.05;
/// Steps of the tone curve's table.
const TONE_STEPS: usize = 4096;

impl Scene {
    /// Draws phantom `item`.
    pub(super) fn draw(seed: u64, item: u64) -> Self {
        let patient = patient_of(seed, item);
        let anatomy = Anatomy::draw(&mut draw::stream(seed, Purpose::Phantom, part::PATIENT, patient));
        let mut generator = draw::stream(seed, Purpose::Phantom, part::IMAGE, item);
        let acquisition = Acquisition::draw(&mut generator);
        let grain = if generator.random_bool(0.5) { Grain::Mottled } else { Grain::Reticular };
        let shadows = (0..generator.random_range(3..=5))
            .map(|_| Shadow::draw(place_in_lung(&anatomy, &mut generator), grain, &mut generator))
            .collect();
        Self { anatomy, acquisition, shadows, grain, generator }
    }

    /// The grain that its opacities have, or would have.
    pub(super) fn grain(&self) -> Grain {
        self.grain
    }

    /// Names and values of what was drawn.
    pub(super) fn parameters(&self) -> Vec<(&'static str, f32)> {
        let mut all = self.anatomy.parameters();
        all.extend(self.acquisition.parameters());
        all.extend([
            ("reticular", f32::from(u8::from(self.grain == Grain::Reticular))),
            ("shadows", self.shadows.len() as f32),
            ("shadow_burden", self.shadows.iter().map(Shadow::burden).sum()),
            ("first_shadow_x", self.shadows[0].x),
            ("first_shadow_y", self.shadows[0].y),
        ]);
        all
    }

    /// Grey pixels, row by row from the top: `size * size` of them.
    pub(super) fn render(mut self, infected: bool, size: usize) -> Vec<u8> {
        let mut density = Canvas::new(size);
        let mut lung = Canvas::new(size);
        for index in 0..size * size {
            let (column, row) = density.centre(index);
            let (x, y) = self.acquisition.to_body(column, row);
            let beam = self.anatomy.beam(x, y);
            density.values[index] = beam.density;
            lung.values[index] = beam.lung;
        }
        self.add_vessels(&mut density, &lung);
        self.add_shadows(infected, &mut density, &lung);
        self.add_cables(&mut density);
        // Smaller pixels catch fewer photons. Where more is absorbed, fewer arrive and the noise is relatively
        // stronger.
        let strength = self.acquisition.noise * size as f32 / 256.0;
        density.add_noise(|value| strength * (0.5 + value.max(0.0)), &mut self.generator);
        density.blur(self.acquisition.blur * size as f32);
        self.expose(&density)
    }

    /// Vessels, seen through lung only.
    fn add_vessels(&self, density: &mut Canvas, lung: &Canvas) {
        let mut layer = Canvas::new(density.side);
        for point in self.anatomy.vessels() {
            let radius = self.acquisition.length_on_image(point.half_width);
            layer.stamp(self.acquisition.to_image(point.x, point.y), radius);
        }
        for ((value, vessel), lung) in density.values.iter_mut().zip(&layer.values).zip(&lung.values) {
            *value += VESSEL_DENSITY * vessel * lung;
        }
    }

    /// Opacities of an infected phantom or soft shadows of a normal one, seen through lung only.
    ///
    /// Both forms are drawn for both classes, and the soft one is scaled to attenuate as much in all as the other does.
    fn add_shadows(&self, infected: bool, density: &mut Canvas, lung: &Canvas) {
        let mut opacities = Canvas::new(density.side);
        let mut soft = Canvas::new(density.side);
        for shadow in &self.shadows {
            let reach = MOST_STRETCH * self.acquisition.length_on_image(shadow.reach());
            for index in density.square(self.acquisition.to_image(shadow.x, shadow.y), reach) {
                if lung.values[index] > 0.0 {
                    let (column, row) = density.centre(index);
                    let (x, y) = self.acquisition.to_body(column, row);
                    // Where two meet, the denser one counts.
                    let through = lung.values[index];
                    opacities.values[index] = opacities.values[index].max(through * shadow.opacity(x, y));
                    soft.values[index] = soft.values[index].max(through * shadow.soft(x, y));
                }
            }
        }
        let (layer, scale) =
            if infected { (&opacities, 1.0) } else { (&soft, opacities.sum() / soft.sum().max(1.0e-6)) };
        for (value, shade) in density.values.iter_mut().zip(&layer.values) {
            *value += scale * shade;
        }
    }

    /// Cables of a monitor over everything: thin, bright, sagging.
    fn add_cables(&self, density: &mut Canvas) {
        let mut layer = Canvas::new(density.side);
        for cable in &self.acquisition.cables {
            // A cable is at most twice as long as the image: two steps for each pixel leave no gap.
            let steps = 4 * density.side;
            for step in 0..=steps {
                layer.stamp(cable.at(step as f32 / steps as f32), CABLE_HALF_WIDTH);
            }
        }
        for (value, cable) in density.values.iter_mut().zip(&layer.values) {
            *value += CABLE_DENSITY * cable;
        }
    }

    /// Gradient, exposure, collimation, marker and tone curve; then 8 bits.
    fn expose(&self, density: &Canvas) -> Vec<u8> {
        let taken = &self.acquisition;
        let tone: Vec<u8> = (0..=TONE_STEPS)
            .map(|step| (255.0 * libm::powf(step as f32 / TONE_STEPS as f32, taken.gamma)).round() as u8)
            .collect();
        let grey = |index: usize| {
            let (column, row) = density.centre(index);
            let exposed =
                if taken.exposes(column, row) { taken.brighten(density.values[index], column, row) } else { 0.02 };
            let marked = taken.marker.as_ref().and_then(|marker| marker.covers(column, row)).unwrap_or(exposed);
            tone[(marked.clamp(0.0, 1.0) * TONE_STEPS as f32) as usize]
        };
        (0..density.values.len()).map(grey).collect()
    }
}

/// A point well inside a lung and not behind the heart, uniformly distributed.
fn place_in_lung(anatomy: &Anatomy, generator: &mut ChaCha8Rng) -> (f32, f32) {
    // About a fifth of the points will do, whatever the anatomy: the loop ends.
    loop {
        let (x, y) = (generator.random_range(-0.85..0.85), generator.random_range(-0.7..0.6));
        if anatomy.beam(x, y).lung > 0.75 {
            return (x, y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_changes_pixels_only_in_the_lungs() {
        let side = 96;
        for item in 0..20 {
            let [infected, normal] = [true, false].map(|infected| Scene::draw(9, item).render(infected, side));
            let scene = Scene::draw(9, item);
            // The widest blur reaches 2.5 * 0.004 * 96 pixels, rounded up.
            let reach = 1.0 / side as f32;
            let canvas = Canvas::new(side);
            let in_lung = |index: usize| {
                let (column, row) = scene.acquisition.to_body(canvas.centre(index).0, canvas.centre(index).1);
                scene.anatomy.beam(column, row).lung > 0.0
            };
            let changed: Vec<usize> = (0..side * side).filter(|&index| infected[index] != normal[index]).collect();
            assert!(changed.len() > 200, "only {} pixels of phantom {item} differ", changed.len());
            for index in changed {
                let near = canvas.square(canvas.centre(index), reach).any(in_lung);
                assert!(near, "phantom {item}: pixel {index} differs outside the lungs");
            }
        }
    }

    #[test]
    fn body_and_image_coordinates_are_inverse() {
        let scene = Scene::draw(1, 2);
        for (column, row) in [(0.1, 0.2), (0.5, 0.5), (0.9, 0.3)] {
            let (x, y) = scene.acquisition.to_body(column, row);
            let (back_column, back_row) = scene.acquisition.to_image(x, y);
            assert!((column - back_column).abs() < 1e-5 && (row - back_row).abs() < 1e-5);
        }
    }
}

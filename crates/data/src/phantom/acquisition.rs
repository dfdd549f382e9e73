//! How the radiograph was taken: pose, exposure, noise, collimation, cables and burned-in markers.
//!
//! Image coordinates are fractions of the side: column and row, 0..1 from the top left corner.

use rand::{Rng, RngExt};

use super::marker::Marker;

/// The settings of one exposure, drawn without knowledge of the class.
pub(super) struct Acquisition {
    /// Half the image's side in body units.
    field: f32,
    /// Width over height of the projected body, as a factor on each.
    aspect: f32,
    rotation_sine_cosine: (f32, f32),
    /// Where the body lies, in body units.
    shift: (f32, f32),
    /// Uneven beam and scatter: relative change of density from the middle to the right and the lower border.
    gradient: (f32, f32),
    brightness: f32,
    contrast: f32,
    pub(super) gamma: f32,
    /// Standard deviation of the photon noise at density 0.5, for an image of side 256.
    pub(super) noise: f32,
    /// Standard deviation of the detector's blur, as a fraction of the side.
    pub(super) blur: f32,
    /// Unexposed borders as fractions of the side: left, right, top, bottom.
    collimation: [f32; 4],
    pub(super) marker: Option<Marker>,
    pub(super) cables: Vec<Cable>,
}

/// A cable from the upper border into the image.
pub(super) struct Cable {
    from: (f32, f32),
    to: (f32, f32),
    sag: f32,
}

impl Cable {
    fn draw(generator: &mut impl Rng) -> Self {
        Self {
            from: (generator.random_range(0.05..0.95), 0.0),
            to: (generator.random_range(0.2..0.8), generator.random_range(0.5..1.0)),
            sag: generator.random_range(-0.2..0.2),
        }
    }

    /// Image coordinates of the point at `t` of the way, 0..=1: a parabola.
    pub(super) fn at(&self, t: f32) -> (f32, f32) {
        let column = self.from.0 + (self.to.0 - self.from.0) * t + 4.0 * self.sag * t * (1.0 - t);
        (column, self.from.1 + (self.to.1 - self.from.1) * t)
    }
}

impl Acquisition {
    /// Draws one exposure.
    pub(super) fn draw(generator: &mut impl Rng) -> Self {
        let mut border = || if generator.random_bool(0.3) { generator.random_range(0.0..0.05) } else { 0.0 };
        let collimation = [border(), border(), border(), border()];
        let marker = generator.random_bool(0.8).then(|| Marker::draw(generator));
        let cables = (0..generator.random_range(0..2)).map(|_| Cable::draw(generator)).collect();
        Self {
            field: generator.random_range(1.02..1.22),
            aspect: generator.random_range(0.97..1.03),
            rotation_sine_cosine: libm::sincosf(generator.random_range(-0.12..0.12)),
            shift: (generator.random_range(-0.09..0.09), generator.random_range(-0.03..0.15)),
            gradient: (generator.random_range(-0.06..0.06), generator.random_range(-0.06..0.06)),
            brightness: generator.random_range(-0.08..0.08),
            contrast: generator.random_range(0.90..1.15),
            gamma: generator.random_range(0.85..1.2),
            noise: generator.random_range(0.008..0.022),
            blur: generator.random_range(0.0020..0.0040),
            collimation,
            marker,
            cables,
        }
    }

    /// Names and values of what was drawn.
    pub(super) fn parameters(&self) -> Vec<(&'static str, f32)> {
        let marker = self.marker.as_ref();
        let flag = |is: bool| f32::from(u8::from(is));
        vec![
            ("field", self.field),
            ("aspect", self.aspect),
            ("rotation", self.rotation_sine_cosine.0),
            ("shift_x", self.shift.0),
            ("shift_y", self.shift.1),
            ("gradient_x", self.gradient.0),
            ("gradient_y", self.gradient.1),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("gamma", self.gamma),
            ("noise", self.noise),
            ("blur", self.blur),
            ("collimation_left", self.collimation[0]),
            ("collimation_right", self.collimation[1]),
            ("collimation_top", self.collimation[2]),
            ("collimation_bottom", self.collimation[3]),
            ("marker_present", flag(marker.is_some())),
            ("marker_is_left", flag(marker.is_some_and(|marker| marker.left))),
            ("marker_is_underlined", flag(marker.is_some_and(|marker| marker.underlined))),
            ("marker_x", marker.map_or(0.0, |marker| marker.x)),
            ("marker_y", marker.map_or(0.0, |marker| marker.y)),
            ("marker_brightness", marker.map_or(0.0, |marker| marker.brightness)),
            ("cables", self.cables.len() as f32),
        ]
    }

    /// Body coordinates of a point of the image.
    pub(super) fn to_body(&self, column: f32, row: f32) -> (f32, f32) {
        let (sine, cosine) = self.rotation_sine_cosine;
        let u = (2.0 * column - 1.0) * self.field - self.shift.0;
        let v = (2.0 * row - 1.0) * self.field - self.shift.1;
        ((cosine * u + sine * v) / self.aspect, (cosine * v - sine * u) * self.aspect)
    }

    /// The inverse of [`Self::to_body`].
    pub(super) fn to_image(&self, x: f32, y: f32) -> (f32, f32) {
        let (sine, cosine) = self.rotation_sine_cosine;
        let (x, y) = (x * self.aspect, y / self.aspect);
        let u = cosine * x - sine * y + self.shift.0;
        let v = sine * x + cosine * y + self.shift.1;
        ((u / self.field + 1.0) / 2.0, (v / self.field + 1.0) / 2.0)
    }

    /// A length in body units as a fraction of the image's side, leaving `aspect` aside.
    pub(super) fn length_on_image(&self, length: f32) -> f32 {
        length / (2.0 * self.field)
    }

    /// Whether the collimator lets the beam through to a point of the image.
    pub(super) fn exposes(&self, column: f32, row: f32) -> bool {
        let [left, right, top, bottom] = self.collimation;
        column >= left && column <= 1.0 - right && row >= top && row <= 1.0 - bottom
    }

    /// Brightness of `density` at a point of the image, before the tone curve; 0..1 is what the film can show.
    pub(super) fn brighten(&self, density: f32, column: f32, row: f32) -> f32 {
        let gradient = self.gradient.0 * (2.0 * column - 1.0) + self.gradient.1 * (2.0 * row - 1.0);
        0.5 + self.contrast * (density * (1.0 + gradient) - 0.5) + self.brightness
    }
}

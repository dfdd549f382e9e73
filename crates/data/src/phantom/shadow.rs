//! What an infected lung shows and a normal one does not, and what both show alike.
//!
//! Every phantom draws the same kind of list of shadows, whatever its class. In a normal phantom each becomes a soft,
//! slowly varying density, as folds of skin and muscle throw. In an infected one it becomes an opacity: the same
//! attenuation and about the same range of it, but with a ragged outline and a fine, mottled or reticular grain. So the
//! classes differ in local structure, and hardly in what a mean, a deviation or a histogram sees.

use rand::{Rng, RngExt};

use super::noise::{gradient_noise, rise};

/// The texture of an opacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// Patchy filling of the air spaces: bright and dark spots.
    Mottled,
    /// Thickened septa: a net of bright lines.
    Reticular,
}

/// One shadow, in body coordinates.
pub(super) struct Shadow {
    pub(super) x: f32,
    pub(super) y: f32,
    radius: f32,
    /// Width over height.
    elongation: f32,
    density: f32,
    grain: Grain,
    /// Size of one spot or mesh of the grain.
    grain_size: f32,
    salt: u32,
}

/// Where a shadow ends, in radii.
const FADED: f32 = 1.35;
/// How far the outline of an opacity runs in and out, in radii.
const RAGGEDNESS: f32 = 0.6;
/// How much wider the soft shadow of a normal phantom is than the opacity in its place.
const SOFT_SPREAD: f32 = 1.2;
/// Size of the spots in a soft shadow: several times that of an opacity's grain.
const SOFT_GRAIN_SIZE: f32 = 0.30;
/// How uneven a soft shadow is, against an opacity.
const SOFT_GRAIN_DEPTH: f32 = 0.6;

impl Shadow {
    /// Draws a shadow centred at `(x, y)`.
    pub(super) fn draw((x, y): (f32, f32), grain: Grain, generator: &mut impl Rng) -> Self {
        Self {
            x,
            y,
            radius: generator.random_range(0.26..0.38),
            elongation: generator.random_range(0.75..1.3),
            density: generator.random_range(0.17..0.23),
            grain,
            grain_size: generator.random_range(0.060..0.085),
            salt: generator.next_u32(),
        }
    }

    /// Integral of the opacity's attenuation without grain, up to a constant.
    pub(super) fn burden(&self) -> f32 {
        self.density * self.radius * self.radius
    }

    /// Half the side of the square around the centre outside which both forms are nil.
    pub(super) fn reach(&self) -> f32 {
        (FADED * SOFT_SPREAD).max(FADED + RAGGEDNESS) * self.radius * self.elongation.max(1.0 / self.elongation)
    }

    /// The soft form, of a normal phantom: as uneven as the opacity, but slowly so.
    pub(super) fn soft(&self, x: f32, y: f32) -> f32 {
        let envelope = fade(self.distance(x, y) / SOFT_SPREAD);
        if envelope == 0.0 {
            return 0.0;
        }
        self.density * envelope * (1.0 + SOFT_GRAIN_DEPTH * mottle(x, y, SOFT_GRAIN_SIZE, self.salt))
    }

    /// The patchy form, of an infected phantom.
    pub(super) fn opacity(&self, x: f32, y: f32) -> f32 {
        let distance = self.distance(x, y);
        // The noise stays within -1..1.
        if distance >= FADED + RAGGEDNESS {
            return 0.0;
        }
        let envelope = fade(distance + RAGGEDNESS * gradient_noise(x / 0.12, y / 0.12, self.salt));
        if envelope == 0.0 {
            return 0.0;
        }
        let texture = match self.grain {
            Grain::Mottled => mottle(x, y, self.grain_size, self.salt),
            Grain::Reticular => net(x, y, self.grain_size, self.salt),
        };
        self.density * envelope * (1.0 + texture)
    }

    /// Distance from the centre in radii.
    fn distance(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = ((x - self.x) / self.elongation, (y - self.y) * self.elongation);
        (dx * dx + dy * dy).sqrt() / self.radius
    }
}

/// Bright and dark spots of about `size`, from -1 to 1 with mean 0.
fn mottle(x: f32, y: f32, size: f32, salt: u32) -> f32 {
    let (u, v) = turned(x / size, y / size);
    let coarse = gradient_noise(u, v, salt ^ 0x5bd1_e995);
    let fine = gradient_noise(2.1 * v, 2.1 * u, salt ^ 0x1b87_3593);
    2.0 * rise(-0.5, 0.5, coarse + 0.4 * fine) - 1.0
}

/// A net of bright lines with meshes of about `size`, from -0.7 to 1.1 with mean near 0: the zero crossings of a smooth
/// field.
fn net(x: f32, y: f32, size: f32, salt: u32) -> f32 {
    let (u, v) = turned(x / size, y / size);
    1.8 * (1.0 - rise(0.0, 0.28, gradient_noise(u, v, salt ^ 0x5bd1_e995).abs())) - 0.7
}

/// Turned against the lattice of the noise, whose axes would show in the picture.
fn turned(x: f32, y: f32) -> (f32, f32) {
    (0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x)
}

/// From 1 near the centre to 0 at [`FADED`], in radii.
fn fade(distance: f32) -> f32 {
    1.0 - rise(0.35, FADED, distance)
}

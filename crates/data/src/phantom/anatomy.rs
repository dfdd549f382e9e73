//! The body of one phantom patient: where each part lies and how much it attenuates.
//!
//! Body coordinates: `x` to the right of the image (the patient's left), `y` down; the rib cage spans about -0.9..0.9
//! in `x`, the lungs -0.8..0.6 in `y`. Densities are on the scale of the finished radiograph: 0 is air outside the
//! body, about 1 the densest overlap of heart and spine. Functions of one half of the chest take `lateral`, the
//! distance from the midline, and the side; `to_wall` is what remains from there to the inner edge of the rib cage.

use rand::{Rng, RngExt};

use super::noise::rise;

/// Which half of the image a paired part lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Left in the image: the patient's right.
    Left,
    /// Right in the image: the patient's left, where the heart is.
    Right,
}

impl Side {
    fn of(x: f32) -> Self {
        if x < 0.0 { Self::Left } else { Self::Right }
    }

    fn sign(self) -> f32 {
        if self == Self::Left { -1.0 } else { 1.0 }
    }
}

/// Shape and density of one patient, drawn without knowledge of the class.
pub(super) struct Anatomy {
    chest_half_width: f32,
    torso_half_width: f32,
    soft_tissue: f32,
    mediastinum_half_width: f32,
    apex_y: f32,
    dome_y: [f32; 2],
    dome_height: f32,
    lung_depth: f32,
    heart_x: f32,
    heart_half_width: f32,
    heart_half_height: f32,
    aortic_knob: f32,
    spine_shift: f32,
    spine_density: f32,
    rib_start_y: f32,
    rib_spacing: f32,
    rib_half_width: f32,
    rib_density: f32,
    rib_drop: f32,
    clavicle_y: f32,
    clavicle_slope: f32,
    breast_density: f32,
    breast_y: f32,
    breast_radius: f32,
    gastric_bubble: f32,
    branches: Vec<Branch>,
}

/// What lies on the beam through one point of the body.
pub(super) struct Beam {
    /// Attenuation along the beam.
    pub(super) density: f32,
    /// How much aerated lung the beam crosses, 0..1.
    pub(super) lung: f32,
}

impl Anatomy {
    /// Draws one patient.
    pub(super) fn draw(generator: &mut impl Rng) -> Self {
        let dome_y = generator.random_range(0.44..0.60);
        let breast = generator.random_bool(0.5);
        Self {
            chest_half_width: generator.random_range(0.78..0.90),
            torso_half_width: generator.random_range(0.93..1.04),
            soft_tissue: generator.random_range(0.50..0.62),
            mediastinum_half_width: generator.random_range(0.13..0.18),
            apex_y: generator.random_range(-0.82..-0.72),
            // The liver lifts the patient's right dome.
            dome_y: [dome_y - generator.random_range(0.02..0.09), dome_y],
            dome_height: generator.random_range(0.10..0.22),
            lung_depth: generator.random_range(0.28..0.36),
            heart_x: generator.random_range(0.10..0.18),
            heart_half_width: generator.random_range(0.34..0.50),
            heart_half_height: generator.random_range(0.24..0.32),
            aortic_knob: generator.random_range(0.07..0.11),
            spine_shift: generator.random_range(-0.02..0.02),
            spine_density: generator.random_range(0.08..0.16),
            rib_start_y: generator.random_range(-0.86..-0.72),
            rib_spacing: generator.random_range(0.15..0.19),
            rib_half_width: generator.random_range(0.028..0.038),
            rib_density: generator.random_range(0.04..0.075),
            rib_drop: generator.random_range(0.30..0.50),
            clavicle_y: generator.random_range(-0.68..-0.54),
            clavicle_slope: generator.random_range(0.10..0.34),
            breast_density: if breast { generator.random_range(0.03..0.12) } else { 0.0 },
            breast_y: generator.random_range(0.20..0.45),
            breast_radius: generator.random_range(0.30..0.45),
            gastric_bubble: generator.random_range(0.0..0.22),
            branches: Branch::draw_all(generator),
        }
    }

    /// Names and values of everything drawn, for tests of independence.
    pub(super) fn parameters(&self) -> Vec<(&'static str, f32)> {
        vec![
            ("chest_half_width", self.chest_half_width),
            ("torso_half_width", self.torso_half_width),
            ("soft_tissue", self.soft_tissue),
            ("mediastinum_half_width", self.mediastinum_half_width),
            ("apex_y", self.apex_y),
            ("dome_y_left", self.dome_y[0]),
            ("dome_y_right", self.dome_y[1]),
            ("dome_height", self.dome_height),
            ("lung_depth", self.lung_depth),
            ("heart_x", self.heart_x),
            ("heart_half_width", self.heart_half_width),
            ("heart_half_height", self.heart_half_height),
            ("aortic_knob", self.aortic_knob),
            ("spine_shift", self.spine_shift),
            ("spine_density", self.spine_density),
            ("rib_start_y", self.rib_start_y),
            ("rib_spacing", self.rib_spacing),
            ("rib_half_width", self.rib_half_width),
            ("rib_density", self.rib_density),
            ("rib_drop", self.rib_drop),
            ("clavicle_y", self.clavicle_y),
            ("clavicle_slope", self.clavicle_slope),
            ("breast_density", self.breast_density),
            ("breast_y", self.breast_y),
            ("breast_radius", self.breast_radius),
            ("gastric_bubble", self.gastric_bubble),
        ]
    }

    /// Everything that the beam through `(x, y)` crosses, vessels excepted: those are strokes (see [`Self::vessels`]).
    pub(super) fn beam(&self, x: f32, y: f32) -> Beam {
        let side = Side::of(x);
        let lateral = x.abs();
        let body = self.soft_tissue(lateral, y);
        if body == 0.0 {
            return Beam { density: 0.0, lung: 0.0 };
        }
        let to_wall = self.chest_wall(y) - lateral;
        let heart = self.heart(x, y);
        let lung = self.lung_field(side, lateral, y, to_wall) * (1.0 - 0.85 * heart);
        let bone = self.spine(x, y)
            + self.posterior_ribs(lateral, y, to_wall)
            + self.anterior_ribs(lateral, y, to_wall)
            + self.clavicles(lateral, y);
        let overlying =
            self.breasts(lateral, y) + self.mediastinum(lateral, y) + 0.10 * heart + self.abdomen(side, lateral, y);
        // Bone and overlying tissue end with the body: the skin line stays one soft edge.
        let density = body + rise(0.05, 0.35, body) * (bone + overlying - self.lung_depth * lung);
        Beam { density: density.max(0.0), lung }
    }

    /// Neck, shoulders and flanks: an elliptic cross-section, so that the beam's path shortens towards the skin.
    fn soft_tissue(&self, lateral: f32, y: f32) -> f32 {
        let shoulders = 0.30 + (self.torso_half_width - 0.10) * rise(-1.25, -0.70, y);
        let half_width = shoulders - 0.20 * rise(-0.70, -0.15, y);
        let across = lateral / half_width;
        if across >= 1.0 {
            return 0.0;
        }
        self.soft_tissue * (1.0 - across.powi(4)).sqrt()
    }

    /// Half the width of the rib cage at height `y`: a narrow apex, widest low down.
    fn chest_wall(&self, y: f32) -> f32 {
        let up = ((y - 0.35) / (self.apex_y - 0.35 - 0.05)).max(0.0);
        self.chest_half_width * (1.0 - up * up).max(0.0).sqrt()
    }

    /// Aerated lung between mediastinum, chest wall, apex and diaphragm dome, 0..1; thinner towards its rim.
    fn lung_field(&self, side: Side, lateral: f32, y: f32, to_wall: f32) -> f32 {
        let wall = to_wall - 0.03;
        let hilum = lateral - self.mediastinum_half_width;
        let floor = self.diaphragm(side, lateral) - y;
        if wall <= 0.0 || hilum <= 0.0 || floor <= 0.0 {
            return 0.0;
        }
        let edge = rise(0.0, 0.05, wall) * rise(0.0, 0.07, hilum) * rise(0.0, 0.035, floor);
        let depth = 0.70 + 0.30 * rise(0.0, 0.30, wall) * rise(0.0, 0.25, floor);
        edge * depth
    }

    /// Height of the diaphragm: a dome that falls away to the costophrenic angle.
    fn diaphragm(&self, side: Side, lateral: f32) -> f32 {
        let across = (lateral - 0.36) / 0.45;
        self.dome_y[side as usize] + self.dome_height * across * across
    }

    /// Heart shadow: the left ventricle's ellipse, the right atrium's bulge and the aortic knob, 0..1.
    fn heart(&self, x: f32, y: f32) -> f32 {
        let lower_edge = self.dome_y[Side::Right as usize] + 0.06;
        let centre_y = lower_edge - 1.1 * self.heart_half_height;
        // The long axis points down to the patient's left.
        let (dx, dy) = (x - self.heart_x, y - centre_y);
        let (along, across) = (0.85 * dx + 0.53 * dy, 0.85 * dy - 0.53 * dx);
        let ventricle = disc(along / self.heart_half_width, across / self.heart_half_height, 0.14);
        let atrium = disc((x + 0.07) / 0.19, (y - centre_y) / 0.26, 0.20);
        let knob = disc((x - 0.12) / self.aortic_knob, (y + 0.30) / (self.aortic_knob * 1.2), 0.30);
        ventricle.max(atrium).max(0.8 * knob)
    }

    /// Great vessels and trachea: a dense band on the midline, with the dark air column above the carina.
    fn mediastinum(&self, lateral: f32, y: f32) -> f32 {
        let band = 0.13 * (1.0 - rise(0.0, 1.5 * self.mediastinum_half_width, lateral));
        let trachea = 0.09 * (1.0 - rise(0.03, 0.06, lateral)) * (1.0 - rise(-0.38, -0.24, y));
        band - trachea
    }

    /// Vertebral bodies: a column with a darker disc space between each two.
    fn spine(&self, x: f32, y: f32) -> f32 {
        let offset = (x - self.spine_shift).abs();
        let column = 1.0 - rise(0.065, 0.095, offset);
        let phase = (y / 0.155).rem_euclid(1.0);
        let body = 0.55 + 0.45 * rise(0.0, 0.14, (phase - 0.5).abs());
        self.spine_density * column * body
    }

    /// Back parts of the ribs: from the spine outward, level at first, then falling to the chest wall.
    fn posterior_ribs(&self, lateral: f32, y: f32, to_wall: f32) -> f32 {
        let reach = rise(0.07, 0.14, lateral) * rise(-0.05, 0.0, to_wall);
        if reach == 0.0 {
            return 0.0;
        }
        let fall = (self.rib_drop + 0.15 - 0.15 * y) * lateral * lateral - 0.08 * lateral;
        let phase = (y - fall - self.rib_start_y) / self.rib_spacing;
        let number = phase.round();
        if !(0.0..=9.0).contains(&number) {
            return 0.0;
        }
        self.rib_density * reach * band((phase - number) * self.rib_spacing, self.rib_half_width)
    }

    /// Front parts of the ribs: steeper, fainter, falling towards the midline and ending where cartilage begins.
    fn anterior_ribs(&self, lateral: f32, y: f32, to_wall: f32) -> f32 {
        let reach = rise(0.32, 0.48, lateral) * rise(-0.05, 0.0, to_wall);
        if reach == 0.0 {
            return 0.0;
        }
        let spacing = 1.15 * self.rib_spacing;
        let fall = 0.75 * (self.chest_half_width - lateral);
        let phase = (y - fall - self.rib_start_y - 0.05) / spacing;
        let number = phase.round();
        if !(0.0..=5.0).contains(&number) {
            return 0.0;
        }
        0.6 * self.rib_density * reach * band((phase - number) * spacing, 1.1 * self.rib_half_width)
    }

    /// Clavicles: one gently bent rod each, from the sternum up and out to the shoulder.
    fn clavicles(&self, lateral: f32, y: f32) -> f32 {
        let reach = rise(0.06, 0.11, lateral) * (1.0 - rise(0.78, 0.90, lateral));
        let bend = 0.35 * (lateral - 0.1) * (lateral - 0.45) * (lateral - 0.8);
        let centre = self.clavicle_y - self.clavicle_slope * (lateral - 0.1) + bend;
        1.2 * self.rib_density * reach * band(y - centre, 0.036)
    }

    /// Breast shadows: broad, smooth, sharper below than above; absent in half of the patients.
    fn breasts(&self, lateral: f32, y: f32) -> f32 {
        let (dx, dy) = ((lateral - 0.48) / self.breast_radius, (y - self.breast_y) / self.breast_radius);
        let softness = if dy > 0.0 { 0.25 } else { 0.9 };
        self.breast_density * disc(dx, dy, softness)
    }

    /// Below the diaphragm: dense abdomen, with a gastric air bubble under the patient's left dome.
    fn abdomen(&self, side: Side, lateral: f32, y: f32) -> f32 {
        let below = y - self.diaphragm(side, lateral);
        let tissue = 0.12 * rise(0.0, 0.30, below);
        if side == Side::Left {
            return tissue;
        }
        let bubble = disc((lateral - 0.36) / 0.20, (below - 0.12) / 0.09, 0.4);
        tissue - self.gastric_bubble * bubble
    }

    /// Lung vessels, from each hilum outward, bending and thinning, as points so near to each other that discs on them
    /// leave no gap.
    pub(super) fn vessels(&self) -> impl Iterator<Item = VesselPoint> + '_ {
        self.branches.iter().flat_map(|branch| {
            let (mut lateral, mut y) = (self.mediastinum_half_width + 0.02, branch.start_y);
            (0..VESSEL_POINTS).map(move |index| {
                let travelled = index as f32 / VESSEL_POINTS as f32;
                let (sine, cosine) = libm::sincosf(branch.direction + branch.bend * travelled);
                let step = branch.length / VESSEL_POINTS as f32;
                lateral += cosine * step;
                y += sine * step;
                VesselPoint {
                    x: branch.side.sign() * lateral,
                    y,
                    half_width: branch.half_width * (1.0 - 0.75 * travelled),
                }
            })
        })
    }
}

/// One branch of the vessels of a lung.
struct Branch {
    side: Side,
    start_y: f32,
    /// Angle below the horizontal at the hilum, and how much it changes on the way, in radians.
    direction: f32,
    bend: f32,
    length: f32,
    half_width: f32,
}

/// A disc of a vessel.
pub(super) struct VesselPoint {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) half_width: f32,
}

const BRANCHES_OF_A_LUNG: usize = 9;
const VESSEL_POINTS: usize = 64;

impl Branch {
    /// Draws the branches of both lungs, fanned out from above to below.
    fn draw_all(generator: &mut impl Rng) -> Vec<Self> {
        let mut all = Vec::with_capacity(2 * BRANCHES_OF_A_LUNG);
        for side in [Side::Left, Side::Right] {
            for number in 0..BRANCHES_OF_A_LUNG {
                all.push(Self {
                    side,
                    start_y: generator.random_range(-0.14..0.14),
                    direction: -1.35 + 0.33 * number as f32 + generator.random_range(-0.2..0.2),
                    bend: generator.random_range(-1.0..1.0),
                    length: generator.random_range(0.25..0.60),
                    half_width: generator.random_range(0.009..0.020),
                });
            }
        }
        all
    }
}

/// 1 inside the unit circle, falling to 0 at its edge over a rim of relative width `softness`.
fn disc(dx: f32, dy: f32, softness: f32) -> f32 {
    1.0 - rise(1.0 - softness, 1.0, (dx * dx + dy * dy).sqrt())
}

/// Cross-section of a tubular bone at `offset` from its axis: the cortex shows brighter than the marrow.
fn band(offset: f32, half_width: f32) -> f32 {
    let across = (offset / half_width).abs();
    (1.0 - rise(0.75, 1.15, across)) * (0.65 + 0.35 * across * across)
}

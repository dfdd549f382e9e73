//! Phantoms: drawn chest radiographs with a known class, for trying the whole tool without any data.
//!
//! A phantom is a schematic frontal radiograph: skin line, soft tissue, two lungs, ribs, clavicles, spine, heart,
//! diaphragm, vessels, photon noise, blur and burned-in markers. Phantoms prove that a pipeline learns and measures;
//! they say nothing about radiographs of people.
//!
//! The class must be learnt from local structure, and from nothing else:
//!
//! - Everything random about a phantom (the patient, the exposure, the markers, a few shadows in the lungs) is drawn
//!   before the class is known, so that nothing but the shadows can depend on it.
//! - An `infected` phantom shows each shadow as a patchy opacity with mottled or reticular grain. A `normal` one shows
//!   a soft, wider shadow with the same attenuation in all. So the image's mean, deviation and histogram tell next to
//!   nothing, and neither does any single place.
//!
//! All draws come from [`roentgen_run::draw::stream`] with [`Purpose::Phantom`]; the arithmetic uses no function of the
//! platform's mathematical library. The same seed therefore gives the same pixels on every machine, and the same files
//! as long as the PNG encoder stays at its version.

mod acquisition;
mod anatomy;
mod canvas;
mod marker;
mod noise;
mod scene;
mod set;
mod shadow;

use rand::RngExt;
use roentgen_run::draw::{self, Purpose};

use scene::Scene;
pub use set::{PhantomError, PhantomRow, PhantomSet, SIDES, generate};
pub use shadow::Grain;

/// Sub-streams of [`Purpose::Phantom`], in the place of the epoch. Never renumber: the images would change.
mod part {
    /// Exposure, shadows and pixel noise; the item is the image.
    pub(super) const IMAGE: u64 = 0;
    /// Anatomy; the item is the patient.
    pub(super) const PATIENT: u64 = 1;
    /// Whether a patient comes back for a second image; the item is the number of the pair of images.
    pub(super) const SECOND_IMAGE: u64 = 2;
    /// Order of the classes in a split; the item is the split.
    pub(super) const CLASSES: u64 = 3;
}

/// How likely it is that two neighbouring images show one patient.
const SECOND_IMAGE_PROBABILITY: f64 = 0.15;

/// Grey pixels of phantom `item` in the class that `infected` says: `size * size` bytes, row by row from the top, 0
/// black.
///
/// `size` is the side in pixels, 1 or more; below about 64 little can be seen. The two classes of one item differ only
/// inside the lungs (by more than rounding, and up to the reach of the blur).
pub fn draw_radiograph(seed: u64, item: u64, infected: bool, size: usize) -> Vec<u8> {
    Scene::draw(seed, item).render(infected, size)
}

/// Names and values of everything drawn for phantom `item`, except vessels and pixel noise: lengths in half-widths of
/// the body or fractions of the image's side, densities in fractions of full scale. None of it may depend on the class.
pub fn parameters(seed: u64, item: u64) -> Vec<(&'static str, f32)> {
    Scene::draw(seed, item).parameters()
}

/// The patient on image `item`: the image's own number, or the even one before it where a patient comes back.
fn patient_of(seed: u64, item: u64) -> u64 {
    let returns =
        draw::stream(seed, Purpose::Phantom, part::SECOND_IMAGE, item / 2).random_bool(SECOND_IMAGE_PROBABILITY);
    if returns { item & !1 } else { item }
}

//! How one image lies in another: an affine map between their squares.

/// Maps positions of one image into another, `(u, v)` in `[-0.5, 0.5]` each on both: `[[a, b, c], [d, e, f]]` for
/// `u' = a u + b v + c` and `v' = d u + e v + f`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placement(pub(super) [f32; 6]);

impl Placement {
    /// Rotation by an angle, with the scale `kept` (below 1 into a part of the image), a middle at `(u, v)`, mirrored
    /// first or not, in an image of this width over height.
    pub(super) fn new(degrees: f32, kept: f32, (u, v): (f32, f32), mirrored: bool, aspect: f32) -> Placement {
        let (sine, cosine) = degrees.to_radians().sin_cos();
        let side = if mirrored { -kept } else { kept };
        Placement([side * cosine, -kept * sine / aspect, u, side * sine * aspect, kept * cosine, v])
    }

    /// Where a position comes to lie.
    pub(super) fn of(&self, u: f32, v: f32) -> (f32, f32) {
        let Placement([a, b, c, d, e, f]) = *self;
        (a * u + b * v + c, d * u + e * v + f)
    }

    /// Signed share of the other's area that a whole image takes; negative where mirrored.
    pub(super) fn area(&self) -> f32 {
        let Placement([a, b, _, d, e, _]) = *self;
        a * e - b * d
    }

    /// The angle, in degrees, between the uprights of the two images; `aspect` is the other's width over height.
    pub(super) fn degrees(&self, aspect: f32) -> f32 {
        let Placement([_, b, _, _, e, _]) = *self;
        (-b * aspect).atan2(e).to_degrees()
    }
}

/// Ways in which a copy may lie in its original, close enough together that alignment finds what lies between: rotated
/// by up to 15 degrees, or cut to nine tenths of each side and at some places to less, mirrored or not.
pub(super) fn placements(aspect: f32) -> Vec<Placement> {
    const ANGLES: [f32; 4] = [-12.0, -6.0, 6.0, 12.0];
    let mut all = Vec::new();
    for mirrored in [false, true] {
        all.push(Placement::new(0.0, 1.0, (0.0, 0.0), mirrored, aspect));
        for (kept, offset) in [(0.9, 0.035), (0.8, 0.07)] {
            let offsets = [-offset, 0.0, offset];
            let middles = offsets.iter().flat_map(|&u| offsets.map(|v| (u, v)));
            all.extend(middles.map(|middle| Placement::new(0.0, kept, middle, mirrored, aspect)));
        }
        for degrees in ANGLES {
            all.extend([1.0, 0.9, 0.8].map(|kept| Placement::new(degrees, kept, (0.0, 0.0), mirrored, aspect)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_says_what_was_done() {
        for (degrees, kept, mirrored, aspect) in [(5.0, 0.9, false, 1.2), (-12.0, 0.8, true, 0.8)] {
            let placement = Placement::new(degrees, kept, (0.02, -0.01), mirrored, aspect);
            assert!((placement.degrees(aspect) - degrees).abs() < 1e-4);
            assert!((placement.area() - if mirrored { -kept * kept } else { kept * kept }).abs() < 1e-6);
            assert_eq!(placement.of(0.0, 0.0), (0.02, -0.01));
        }
    }

    #[test]
    fn rotation_is_that_of_pixels_not_of_the_square() {
        // A quarter turn of an image twice as wide as high: its upright, half its width long, lies along its width.
        let placement = Placement::new(90.0, 1.0, (0.0, 0.0), false, 2.0);
        let (u, v) = placement.of(0.0, 0.5);
        assert!((u + 0.25).abs() < 1e-6 && v.abs() < 1e-6, "{u} {v}");
    }
}

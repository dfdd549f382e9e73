//! Smooth random fields over the plane, from a hash instead of a table.

/// Smoothstep from 0 below `low` to 1 above `high`; `low < high`.
pub(super) fn rise(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Gradient noise (Perlin, "An image synthesizer", SIGGRAPH 1985): 0 on every point of the integer lattice, with a
/// random slope there, smooth between. `salt` chooses the field. Mean 0, standard deviation about 0.25, seldom beyond
/// 0.6.
pub(super) fn gradient_noise(x: f32, y: f32, salt: u32) -> f32 {
    let (column, row) = (x.floor(), y.floor());
    let (dx, dy) = (x - column, y - row);
    let (column, row) = (column as i32, row as i32);
    let corner = |right: i32, down: i32| {
        let (slope_x, slope_y) = slope(column + right, row + down, salt);
        slope_x * (dx - right as f32) + slope_y * (dy - down as f32)
    };
    let (tx, ty) = (rise(0.0, 1.0, dx), rise(0.0, 1.0, dy));
    let top = mix(corner(0, 0), corner(1, 0), tx);
    let bottom = mix(corner(0, 1), corner(1, 1), tx);
    mix(top, bottom, ty)
}

fn mix(from: f32, to: f32, t: f32) -> f32 {
    from + (to - from) * t
}

/// A random slope in the square -1..1, from the finaliser of MurmurHash3 (Appleby, public domain) over the lattice
/// point.
fn slope(column: i32, row: i32, salt: u32) -> (f32, f32) {
    let mut h =
        salt ^ (column as u32).wrapping_mul(0x9e37_79b1) ^ (row as u32).wrapping_mul(0x85eb_ca77).rotate_left(15);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    ((h & 0xffff) as f32 / 32_768.0 - 1.0, (h >> 16) as f32 / 32_768.0 - 1.0)
}

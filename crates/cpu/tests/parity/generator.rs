//! The Rust twin of `reference/networks.py`, which states the formulas: fills a store and makes images and labels, so
//! that fixtures hold results and no weights.

use roentgen_nn::network::{Op, TensorSpec};
use roentgen_nn::{Network, ParameterStore};

/// The 64-bit FNV-1a hash.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The 64-bit numbers that belong to `name`, one an element.
pub fn draws(name: &str) -> impl Iterator<Item = u64> + use<> {
    let key = fnv1a(name);
    (0u64..).map(move |index| splitmix64(key.wrapping_add(index)))
}

/// Overwrites `values` with a function of the uniform numbers in `[0, 1)` that belong to `name`.
fn write(name: &str, values: &mut [f32], transform: impl Fn(f64) -> f64) {
    for (value, draw) in values.iter_mut().zip(draws(name)) {
        *value = transform((draw >> 40) as f64 / f64::from(1 << 24)) as f32;
    }
}

/// One tensor of the state dict, row-major; empty for a counter.
pub fn tensor(network: &Network, spec: &TensorSpec) -> Vec<f32> {
    let (_, part) = spec.name.rsplit_once('.').expect("a tensor's name ends in its part of the module");
    let op = network.value(spec.value).op;
    let mut values = vec![0.0; spec.elements()];
    match (op, part) {
        (_, "num_batches_tracked") => return Vec::new(),
        (Op::BatchNorm2d { .. }, "weight" | "running_var") => {
            let last_of_branch = spec.name.starts_with("layer") && spec.name.ends_with(".bn2.weight");
            let scale = if last_of_branch { 0.5 } else { 1.0 };
            write(&spec.name, &mut values, |u| scale * (0.75 + 0.5 * u));
        }
        (Op::BatchNorm2d { .. }, _) => write(&spec.name, &mut values, |u| (2.0 * u - 1.0) * 0.1),
        (_, "bias") => write(&spec.name, &mut values, |u| (2.0 * u - 1.0) * 0.05),
        _ => {
            let fan_in = spec.shape[1..].iter().product::<usize>() as f64;
            let numerator = if matches!(op, Op::Conv2d { .. }) { 6.0 } else { 3.0 };
            let bound = (numerator / fan_in).sqrt();
            write(&spec.name, &mut values, |u| (2.0 * u - 1.0) * bound);
        }
    }
    values
}

/// A store in which every tensor has the generator's values.
pub fn filled_store(network: &Network) -> ParameterStore {
    let mut store = ParameterStore::new(network);
    for (index, spec) in network.tensors().iter().enumerate() {
        store.tensor_mut(index).copy_from_slice(&tensor(network, spec));
    }
    store
}

/// A batch `[N, 3, S, S]` with values in `[-2, 2)`.
pub fn images(key: &str, batch_size: usize, image_size: usize) -> Vec<f32> {
    let mut values = vec![0.0; batch_size * 3 * image_size * image_size];
    write(key, &mut values, |u| 4.0 * u - 2.0);
    values
}

//! A seeded random start, with the distributions that torchvision starts from.

use crate::network::{Network, Op, TensorKind};
use crate::store::ParameterStore;
use rand_core::Rng;
use roentgen_run::draw::{Purpose, name_key, stream};

/// Fills the tensors that `which` selects by name: convolutions from a normal distribution of variance `2 / fan_out`
/// (He et al., ICCV 2015; torchvision's `kaiming_normal_(mode="fan_out")`) with zero bias, linear layers uniformly in
/// `+-1 / sqrt(fan_in)` (torch's default), batch norms with scale 1, shift 0, mean 0, variance 1. Each tensor's numbers
/// depend on the seed and its name alone.
pub fn initialise(network: &Network, store: &mut ParameterStore, seed: u64, which: impl Fn(&str) -> bool) {
    for (index, spec) in network.tensors().iter().enumerate() {
        if !which(&spec.name) {
            continue;
        }
        if spec.kind == TensorKind::Counter {
            store.set_counter(index, 0);
            continue;
        }
        let mut generator = stream(seed, Purpose::Initialise, 0, name_key(&spec.name));
        let values = store.tensor_mut(index);
        match network.value(spec.value).op {
            Op::Conv2d { out_channels, kernel, .. } if spec.shape.len() == 4 => {
                let deviation = (2.0 / (out_channels * kernel * kernel) as f64).sqrt();
                values.iter_mut().for_each(|v| *v = (normal(&mut generator) * deviation) as f32);
            }
            Op::Linear { .. } => {
                let fan_in = network.value(network.value(spec.value).inputs[0]).shape.elements();
                let bound = 1.0 / (fan_in as f64).sqrt();
                values.iter_mut().for_each(|v| *v = ((2.0 * uniform(&mut generator) - 1.0) * bound) as f32);
            }
            Op::BatchNorm2d { .. } => {
                let one = spec.name.ends_with(".weight") || spec.name.ends_with(".running_var");
                values.fill(if one { 1.0 } else { 0.0 });
            }
            _ => values.fill(0.0),
        }
    }
}

/// Uniform in `[0, 1)` with 53 bits.
pub(crate) fn uniform(generator: &mut impl Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal by Box and Muller (1958).
fn normal(generator: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - uniform(generator)).ln()).sqrt();
    radius * (2.0 * std::f64::consts::PI * uniform(generator)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture;
    use crate::network::Head;
    use crate::store::ParameterSet;

    #[test]
    fn the_start_has_torchvisions_distributions_and_depends_on_seed_and_name() {
        let head = Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 };
        let network = architecture::build("resnet18", 64, head).unwrap();
        let start = |seed| {
            let mut store = ParameterStore::new(&network);
            initialise(&network, &mut store, seed, |_| true);
            store
        };
        let (a, b) = (start(1), start(2));
        let values = |store: &ParameterStore, name: &str| {
            store.tensor(ParameterSet::Live, store.index_of(name).unwrap()).to_vec()
        };
        let weight = values(&a, "layer2.0.conv2.weight");
        let variance = weight.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / weight.len() as f64;
        assert!((variance / (2.0 / (128.0 * 9.0)) - 1.0).abs() < 0.02, "{variance}");
        let head = values(&a, "fc.0.weight");
        let bound = 1.0 / 512f32.sqrt();
        assert!(head.iter().all(|w| w.abs() <= bound) && head.iter().any(|w| w.abs() > 0.99 * bound));
        assert!(values(&a, "bn1.weight").iter().all(|w| *w == 1.0));
        assert_ne!(weight, values(&b, "layer2.0.conv2.weight"));
        assert_eq!(weight, values(&start(1), "layer2.0.conv2.weight"));
        assert_ne!(weight[..64], values(&a, "layer2.1.conv1.weight")[..64]);
    }
}

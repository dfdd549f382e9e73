//! Explanations against pytorch-grad-cam and Captum, and what must hold of them without any reference.

#[path = "../../../cpu/tests/parity/generator.rs"]
mod generator;
mod parity;
mod properties;

use roentgen_cpu::CpuEngine;
use roentgen_infer::explain::{ExplainError, Explainer, Method};
use roentgen_nn::{Arithmetic, Head, Network, architecture};

fn network(name: &str, image_size: usize) -> Network {
    architecture::build(name, image_size, Head::Replaced { hidden: 380, dropout: 0.0, classes: 2 }).unwrap()
}

fn explainer(network: &Network, method: Method, module: Option<&str>) -> Result<Explainer, ExplainError> {
    Explainer::new(&CpuEngine::new(2).unwrap(), network, method, module, Arithmetic::default(), None)
}

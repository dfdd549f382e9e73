//! The fixtures that `reference/explain_fixtures.py` writes.

use crate::{explainer, generator, network};
use roentgen_infer::explain::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Relative to the map's largest absolute value.
const TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct ClassActivation {
    arch: String,
    image_size: usize,
    maps: Vec<Map>,
}

#[derive(Deserialize)]
struct Map {
    method: String,
    module: String,
    class: usize,
    height: usize,
    width: usize,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct ImageMethods {
    arch: String,
    image_size: usize,
    steps: usize,
    patch: usize,
    stride: usize,
    integrated_gradients: Vec<f64>,
    occlusion: Vec<f64>,
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/tests/fixtures/explain/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{what}: a map of zeros compares nothing");
    for (index, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs() / largest;
        assert!(off <= TOLERANCE, "{what}, element {index}: {found}, expected {expected}, {off:e} of the largest");
    }
}

#[test]
fn class_activation_maps_are_those_of_pytorch_grad_cam() {
    for name in ["class_activation_resnet18", "class_activation_vgg11"] {
        let fixture: ClassActivation = read(name);
        let network = network(&fixture.arch, fixture.image_size);
        let mut store = generator::filled_store(&network);
        let image = generator::images("explained", 1, fixture.image_size);
        for of_module in fixture.maps.chunk_by(|a, b| (&a.method, &a.module) == (&b.method, &b.module)) {
            let Map { method, module, .. } = &of_module[0];
            let named = Method::named(method, fixture.image_size).unwrap();
            let mut explainer = explainer(&network, named, Some(module)).unwrap();
            for map in of_module {
                let found = explainer.explain_tensor(&mut store, &image, Some(map.class)).unwrap().map;
                assert_eq!((found.height, found.width), (map.height, map.width));
                assert_close(&format!("{name}, {method} of {module}, class {}", map.class), &found.values, &map.values);
            }
        }
    }
}

#[test]
fn integrated_gradients_and_occlusion_are_those_of_captum() {
    let fixture: ImageMethods = read("image_resnet18");
    let network = network(&fixture.arch, fixture.image_size);
    let mut store = generator::filled_store(&network);
    let image = generator::images("explained", 1, fixture.image_size);
    for (method, expected) in [
        (Method::IntegratedGradients { steps: fixture.steps }, &fixture.integrated_gradients),
        (Method::Occlusion { patch: fixture.patch, stride: fixture.stride }, &fixture.occlusion),
    ] {
        let mut explainer = explainer(&network, method, None).unwrap();
        let found = explainer.explain_tensor(&mut store, &image, Some(1)).unwrap().map;
        assert_close(method.name(), &found.values, expected);
    }
}

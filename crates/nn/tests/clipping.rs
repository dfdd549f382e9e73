//! Gradient clipping against PyTorch (`reference/clip_fixtures.py`).

use roentgen_nn::{CallingThread, FreezePlan, FrozenBatchNorm, Gradients, Head, architecture};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn clipped_gradients_are_torchs() {
    let head = Head::Replaced { hidden: 3, dropout: 0.5, classes: 2 };
    let network = architecture::build("resnet18", 32, head).unwrap();
    let plan = FreezePlan::resolve(&network, &["fc.3"], FrozenBatchNorm::Stored).unwrap();
    let fixture: Value = serde_json::from_str(include_str!("fixtures/clipped_gradients.json")).unwrap();
    let (mut clipped, mut kept) = (0, 0);
    for case in fixture["cases"].as_array().unwrap() {
        let mut gradients = Gradients::new(&network, &plan);
        let before: Vec<f32> = numbers(&case["before"]).iter().map(|value| *value as f32).collect();
        let mut rest = before.as_slice();
        for tensor in plan.trainable_tensors() {
            let values = gradients.tensor_mut(tensor).unwrap();
            let (first, others) = rest.split_at(values.len());
            values.copy_from_slice(first);
            rest = others;
        }
        assert!(rest.is_empty());
        let largest = case["largest"].as_f64().unwrap();
        let norm = gradients.clip_norm(&CallingThread, largest);
        let expected = case["norm"].as_f64().unwrap();
        assert!((norm - expected).abs() <= 1e-12 * expected, "{norm}, torch {expected}");
        for (found, expected) in gradients.flat().iter().zip(numbers(&case["after"])) {
            assert!((f64::from(*found) - expected).abs() <= 1e-7 * expected.abs(), "{found}, torch {expected}");
        }
        if norm > largest {
            clipped += 1;
        } else {
            assert!(gradients.flat() == before);
            kept += 1;
        }
    }
    assert!(clipped >= 3 && kept >= 3, "{clipped} clipped, {kept} kept");
}

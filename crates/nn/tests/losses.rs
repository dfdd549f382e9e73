//! Label smoothing and the focal loss with their gradients, against PyTorch (`reference/loss_fixtures.py`).

use roentgen_nn::loss::{CrossEntropy, LossKind};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn losses_and_gradients_are_torchs() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/losses.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 21);
    for case in cases {
        let parameter = case["parameter"].as_f64().unwrap() as f32;
        let kind = match case["kind"].as_str().unwrap() {
            "focal" => LossKind::Focal(parameter),
            _ => LossKind::LabelSmoothing(parameter),
        };
        let weights = &case["class_weights"];
        let class_weights = weights.is_array().then(|| numbers(weights).iter().map(|weight| *weight as f32).collect());
        let loss = CrossEntropy { class_weights, kind };
        let logits: Vec<f32> = numbers(&case["logits"]).iter().map(|logit| *logit as f32).collect();
        let labels: Vec<usize> = numbers(&case["labels"]).iter().map(|label| *label as usize).collect();
        let total = loss.total_weight(&labels);
        let (mut gradient, mut losses) = (vec![0.0; logits.len()], Vec::new());
        loss.losses(&logits, &labels, total, &mut gradient, &mut losses);
        let (found, expected) = (losses.iter().sum::<f64>() / total, case["loss"].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-10 * expected.abs().max(1.0), "{loss:?}: {found}, torch {expected}");
        for (index, (found, expected)) in gradient.iter().zip(numbers(&case["gradient"])).enumerate() {
            let close = (f64::from(*found) - expected).abs() <= 1e-7 * expected.abs() + 1e-12;
            assert!(close, "{loss:?}, {index}: {found}, torch {expected}");
        }
    }
}

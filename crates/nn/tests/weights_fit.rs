//! Whether a state dict fits a network: exactly, with another head, or not, and then what the message says.

use roentgen_nn::architecture;
use roentgen_nn::network::{Head, TensorKind};
use roentgen_nn::weights::{ExpectedTensor, HeadFate, StateDict, StateTensor, Values, WeightsError};
use std::path::Path;

const HEAD: Head = Head::Replaced { hidden: 380, dropout: 0.5, classes: 2 };

fn expected(name: &str, head: Head) -> (Vec<ExpectedTensor>, &'static str) {
    let network = architecture::build(name, 64, head).unwrap();
    (network.tensors().iter().map(ExpectedTensor::from).collect(), network.head_module())
}

/// A state dict with the names and shapes of a network. Its values are one for each tensor, its number: fitting looks
/// at shapes alone, and VGG-16 would take half a gigabyte.
fn state_of(name: &str, head: Head) -> StateDict {
    let (tensors, _) = expected(name, head);
    let tensor = |(index, tensor): (usize, ExpectedTensor)| {
        let values = match tensor.kind {
            TensorKind::Counter => Values::I64(vec![index as i64]),
            _ => Values::F32(vec![index as f32]),
        };
        (tensor.name, StateTensor { shape: tensor.shape, values })
    };
    StateDict { tensors: tensors.into_iter().enumerate().map(tensor).collect() }
}

fn message(state: &StateDict, architecture: &str, head_may_differ: bool) -> String {
    let (expected, head) = expected(architecture, HEAD);
    match state.clone().fit(Path::new("weights.pth"), architecture, &expected, head, head_may_differ) {
        Err(error @ WeightsError::Mismatch(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_architecture_fits_itself_in_any_order() {
    for architecture in architecture::names() {
        let (expected, head) = expected(architecture, HEAD);
        let mut state = state_of(architecture, HEAD);
        let in_order = state.clone();
        state.tensors.reverse();
        let fitted = state.fit(Path::new("f"), architecture, &expected, head, false).unwrap();
        assert_eq!(fitted.head, HeadFate::Loaded);
        assert_eq!(fitted.tensors, in_order, "{architecture}");
    }
}

#[test]
fn torchvisions_own_head_starts_anew() {
    for architecture in ["resnet18", "vgg16", "vgg11_bn"] {
        let (expected, head) = expected(architecture, HEAD);
        let state = state_of(architecture, Head::Stock { classes: 1000 });
        let fitted = state.clone().fit(Path::new("f"), architecture, &expected, head, true).unwrap();
        let reason = "the file holds torchvision's own head (1000 classes)".to_owned();
        assert_eq!(fitted.head, HeadFate::StartedAnew { reason }, "{architecture}");
        let body: Vec<&str> =
            expected.iter().map(|tensor| tensor.name.as_str()).filter(|name| !name.starts_with(head)).collect();
        let names: Vec<&str> = fitted.tensors.tensors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, body, "{architecture}");
        assert!(state.fit(Path::new("f"), architecture, &expected, head, false).is_err());
    }
}

#[test]
fn another_number_of_classes_starts_the_whole_head_anew() {
    let (expected, head) = expected("resnet18", HEAD);
    let three = state_of("resnet18", Head::Replaced { hidden: 380, dropout: 0.5, classes: 3 });
    let fitted = three.fit(Path::new("f"), "resnet18", &expected, head, true).unwrap();
    let reason = "fc.3.weight is [3, 380] in the file, [2, 380] here".to_owned();
    assert_eq!(fitted.head, HeadFate::StartedAnew { reason });
    // Also the layer of the head that would fit.
    assert!(fitted.tensors.tensors.iter().all(|(name, _)| !name.starts_with("fc.")));

    let mut headless = state_of("resnet18", HEAD);
    headless.tensors.retain(|(name, _)| !name.starts_with("fc."));
    let fitted = headless.fit(Path::new("f"), "resnet18", &expected, head, true).unwrap();
    assert_eq!(fitted.head, HeadFate::StartedAnew { reason: "the file holds no head".to_owned() });

    let mut partial = state_of("resnet18", HEAD);
    partial.tensors.retain(|(name, _)| name != "fc.3.bias");
    let fitted = partial.clone().fit(Path::new("f"), "resnet18", &expected, head, true).unwrap();
    assert_eq!(fitted.head, HeadFate::StartedAnew { reason: "fc.3.bias is not in the file".to_owned() });
    assert!(message(&partial, "resnet18", false).contains("1 missing in the file: fc.3.bias;"));
}

#[test]
fn counters_may_be_absent_or_cast() {
    let (expected, head) = expected("resnet18", HEAD);
    let mut state = state_of("resnet18", HEAD);
    state.tensors.retain(|(name, _)| !name.ends_with("num_batches_tracked"));
    let fitted = state.clone().fit(Path::new("f"), "resnet18", &expected, head, false).unwrap();
    assert_eq!(fitted.tensors.tensors.len(), expected.len());
    let counter = fitted.tensors.get("bn1.num_batches_tracked").unwrap();
    assert_eq!(counter, &StateTensor { shape: vec![], values: Values::I64(vec![0]) });

    let as_real = StateTensor { shape: vec![], values: Values::F32(vec![17.0]) };
    state.tensors.push(("bn1.num_batches_tracked".to_owned(), as_real));
    let fitted = state.fit(Path::new("f"), "resnet18", &expected, head, false).unwrap();
    assert_eq!(fitted.tensors.get("bn1.num_batches_tracked").unwrap().values, Values::I64(vec![17]));
}

#[test]
fn another_architecture_is_recognised() {
    let stock = Head::Stock { classes: 1000 };
    for (file, wanted, parts) in [
        (
            "resnet34",
            "resnet18",
            vec!["surplus in the file: layer1.2.conv1.weight [64, 64, 3, 3]", "more; the file looks like resnet34:"],
        ),
        ("resnet18", "resnet34", vec!["missing in the file: layer1.2.conv1.weight, ", "the file looks like resnet18"]),
        (
            "vgg16",
            "resnet18",
            vec![
                "missing in the file: conv1.weight, ",
                "features.0.weight [64, 3, 3, 3]",
                "the file looks like vgg16:",
            ],
        ),
        ("resnet18", "vgg16", vec!["missing in the file: features.0.weight, ", "the file looks like resnet18:"]),
        ("vgg11_bn", "vgg11", vec!["looks like vgg11_bn:", "features.8.weight is [256, 128, 3, 3] in the file"]),
        ("vgg19", "vgg16", vec!["looks like vgg19:"]),
        ("vgg13", "vgg13_bn", vec!["looks like vgg13:"]),
    ] {
        let message = message(&state_of(file, stock), wanted, true);
        assert!(message.starts_with(&format!("weights.pth: these weights do not fit {wanted}; ")), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        assert!(message.matches(", ").count() < 90, "too long: {message}");
    }
}

#[test]
fn every_difference_is_named() {
    let mut state = state_of("resnet18", HEAD);
    state.tensors.retain(|(name, _)| name != "layer3.1.bn2.bias");
    state.tensors.push(("ema.decay\n".to_owned(), StateTensor { shape: vec![1], values: Values::F32(vec![0.0]) }));
    for (name, tensor) in &mut state.tensors {
        match name.as_str() {
            "conv1.weight" => tensor.shape = vec![64, 1, 7, 7],
            "bn1.weight" => tensor.values = Values::I64(vec![1; 64]),
            _ => {}
        }
    }
    assert_eq!(
        message(&state, "resnet18", true),
        "weights.pth: these weights do not fit resnet18; 1 missing in the file: layer3.1.bn2.bias; \
         1 surplus in the file: ema.decay\\n [1]; 2 of another shape: \
         conv1.weight is [64, 1, 7, 7] in the file, [64, 3, 7, 7] expected, \
         bn1.weight is integers in the file, real numbers expected; \
         choose the architecture that the file was made for, or another file"
    );
}

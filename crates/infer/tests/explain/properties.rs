//! What must hold of explanations without any reference.

use crate::{explainer, generator, network};
use roentgen_data::{Image, Raster};
use roentgen_infer::explain::{ExplainError, Method};

const SIZE: usize = 64;

/// A grey radiograph-like image, brighter to the lower right.
fn image() -> Image {
    let samples = (0..90 * 80).map(|i| ((i % 90) + (i / 90) + i * 7919 % 61) as u8).collect();
    Image::Gray8(Raster::new(90, 80, samples).unwrap())
}

#[test]
fn integrated_gradients_add_up_to_what_the_logit_gained() {
    let network = network("resnet18", SIZE);
    let mut store = generator::filled_store(&network);
    let mut off = Vec::new();
    for steps in [4, 128] {
        let mut explainer = explainer(&network, Method::IntegratedGradients { steps }, None).unwrap();
        let found = explainer.explain(&mut store, &image(), Some(0)).unwrap();
        let completeness = found.completeness.unwrap();
        let summed: f64 = found.map.values.iter().map(|&value| f64::from(value)).sum();
        assert!((summed - completeness.attributed).abs() < 1e-4 * (1.0 + summed.abs()));
        off.push((completeness.attributed - completeness.gained).abs() / completeness.gained.abs());
    }
    assert!(off[1] < 0.01 && off[1] < off[0], "the more steps, the closer: {off:?}");
}

#[test]
fn the_class_by_default_is_the_predicted_one() {
    let network = network("resnet18", SIZE);
    let mut store = generator::filled_store(&network);
    let mut explainer = explainer(&network, Method::GradCam, None).unwrap();
    assert_eq!(explainer.module(), Some("layer4.1"));
    let found = explainer.explain(&mut store, &image(), None).unwrap();
    let other = 1 - found.class;
    assert!(found.logits[found.class] > found.logits[other]);
    assert!((found.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    let named = explainer.explain(&mut store, &image(), Some(found.class)).unwrap();
    assert_eq!(named, found);
    let against = explainer.explain(&mut store, &image(), Some(other)).unwrap();
    assert!(against.class == other && against.map != found.map && against.logits == found.logits);
}

#[test]
fn what_cannot_be_explained_is_said() {
    let small = network("resnet18", 32);
    let refusal = |module, method| explainer(&small, method, module).err().unwrap();
    let no_map = "`layer4.1` gives 512 at 32 px, which is no map: name a module whose output has rows and columns, or use \
                  larger images";
    assert_eq!(refusal(None, Method::GradCam).to_string(), no_map);
    assert!(matches!(refusal(Some("fc"), Method::GradCam), ExplainError::NoMap { .. }));
    assert!(matches!(refusal(Some("layer5"), Method::HiResCam), ExplainError::Network(_)));
    let occlusion = Method::Occlusion { patch: 4, stride: 2 };
    assert!(matches!(refusal(Some("layer4"), occlusion), ExplainError::TakesNoModule { .. }));
    let mut store = generator::filled_store(&small);
    let mut explainer = explainer(&small, Method::GradCam, Some("layer3")).unwrap();
    let unknown = explainer.explain(&mut store, &image(), Some(2)).unwrap_err();
    assert_eq!(unknown, ExplainError::UnknownClass { found: 2, classes: 2 });
}

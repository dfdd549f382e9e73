//! Decoding and transforms against Pillow and torchvision; `reference/preprocess_fixtures.py` wrote the fixtures.

use std::fs;
use std::path::{Path, PathBuf};

use roentgen_data::transform::{IMAGENET_DEVIATION, IMAGENET_MEAN, resized_size};
use roentgen_data::{Augment, Image, Limits, Rectangle, SeedParameters, Transform, decode};
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Largest and mean difference on the scale 0 to 255.
#[derive(Debug)]
struct Difference {
    largest: f64,
    mean: f64,
}

fn difference(found: impl Iterator<Item = f64>, expected: impl Iterator<Item = f64>) -> Difference {
    let (mut largest, mut sum, mut count) = (0.0f64, 0.0, 0);
    for (one, other) in found.zip(expected) {
        largest = largest.max((one - other).abs());
        sum += (one - other).abs();
        count += 1;
    }
    assert!(count > 0, "nothing was compared");
    Difference { largest, mean: sum / f64::from(count) }
}

/// How far JPEG decoders may be apart. Everything else, and everything behind the decoder, is exact. Radiographs are
/// grey; in saturated colour one level of chroma is more than one of red or blue (factors 1.402 and 1.772).
fn bound(name: &str) -> Difference {
    match name {
        _ if name.ends_with(".png") => Difference { largest: 0.001, mean: 0.0002 },
        "grey.jpg" | "grey-progressive.jpg" | "grey-in-colour.jpg" | "orientation.jpg" | "cmyk.jpg" | "rgb.jpg" => {
            Difference { largest: 1.5, mean: 0.1 }
        }
        "colour-422.jpg" => Difference { largest: 3.5, mean: 0.3 },
        _ => Difference { largest: 3.5, mean: 0.15 },
    }
}

fn check(name: &str, what: &str, found: &Difference) {
    let allowed = bound(name);
    assert!(found.largest <= allowed.largest && found.mean <= allowed.mean, "{name}, {what}: {found:?} of {allowed:?}");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn number(value: &Value, key: &str) -> usize {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} of {value}")) as usize
}

fn bytes(path: &str) -> impl Iterator<Item = f64> {
    fs::read(Path::new(FIXTURES).join(path)).unwrap().into_iter().map(f64::from)
}

fn fixture_image(name: &str) -> Image {
    decode(&Path::new(FIXTURES).join("images").join(name), &Limits::default()).unwrap()
}

/// A normalised tensor `[3, S, S]` back on the scale 0 to 255.
fn levels(tensor: &[f32]) -> impl Iterator<Item = f64> {
    let plane = tensor.len() / 3;
    tensor.iter().enumerate().map(move |(index, &value)| {
        let channel = index / plane;
        (f64::from(value) * f64::from(IMAGENET_DEVIATION[channel]) + f64::from(IMAGENET_MEAN[channel])) * 255.0
    })
}

fn fixed(image: &Image, image_size: usize) -> Vec<f32> {
    let transform = Transform { image_size, augment: Augment::None };
    let mut tensor = vec![f32::NAN; transform.tensor_len()];
    transform.apply(image, None, &mut tensor);
    tensor
}

#[test]
fn decoded_pixels_are_pillows() {
    let cases = json(&Path::new(FIXTURES).join("cases.json"));
    for case in cases["images"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let image = fixture_image(name);
        assert_eq!((image.width(), image.height()), (number(case, "width"), number(case, "height")), "{name}");
        let found = match &image {
            Image::Gray16(raster) => {
                let expected = fs::read(format!("{FIXTURES}/decoded/{name}.u16")).unwrap();
                let expected = expected.chunks_exact(2).map(|pair| f64::from(u16::from_le_bytes([pair[0], pair[1]])));
                difference(raster.samples().iter().map(|&sample| f64::from(sample)), expected)
            }
            other => {
                let found = other.to_rgb8();
                assert_eq!(found.len(), 3 * other.width() * other.height());
                difference(found.into_iter().map(f64::from), bytes(&format!("decoded/{name}.rgb")))
            }
        };
        println!("{name}: {found:?}");
        check(name, "decoded", &found);
    }
}

#[test]
fn the_fixed_transform_is_torchvisions() {
    let cases = json(&Path::new(FIXTURES).join("cases.json"));
    let sizes = cases["sizes"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize);
    for size in sizes {
        for case in cases["images"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let tensor = fixed(&fixture_image(name), size);
            let found = if case["deep"].as_bool().unwrap() {
                let expected = fs::read(format!("{FIXTURES}/expected/{name}.{size}.f32")).unwrap();
                let plane: Vec<f64> = expected
                    .chunks_exact(4)
                    .map(|word| f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]])))
                    .collect();
                difference(levels(&tensor), plane.repeat(3).into_iter())
            } else {
                difference(levels(&tensor), bytes(&format!("expected/{name}.{size}.raw")))
            };
            println!("{name} at {size}: {found:?}");
            check(name, &format!("at {size}"), &found);
        }
    }
}

#[test]
fn the_augmentation_with_given_parameters_is_torchvisions() {
    let cases = json(&Path::new(FIXTURES).join("cases.json"));
    let size = number(&cases, "seed_size");
    let transform = Transform { image_size: size, augment: Augment::Seed };
    for (index, case) in cases["seed"].as_array().unwrap().iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let parameters = SeedParameters {
            angle_degrees: case["angle_degrees"].as_f64().unwrap(),
            crop: Rectangle {
                left: number(case, "left"),
                top: number(case, "top"),
                width: number(case, "width"),
                height: number(case, "height"),
            },
            flip: case["flip"].as_bool().unwrap(),
        };
        let mut tensor = vec![f32::NAN; transform.tensor_len()];
        transform.apply_seed(&fixture_image(name), &parameters, &mut tensor);
        let found = difference(levels(&tensor), bytes(&format!("seed/{index}.raw")));
        println!("{name}: {found:?}");
        check(name, &format!("seed case {index}"), &found);
    }
}

/// The shared data, or `None` where it is absent.
fn shared_data() -> Option<PathBuf> {
    let shared = std::env::var_os("ROENTGEN_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let data = shared.join("data");
    data.is_dir().then_some(data)
}

#[test]
fn real_radiographs_are_within_the_bounds() {
    let Some(data) = shared_data() else {
        println!("skipped: parity on real radiographs, because the shared data is absent");
        return;
    };
    let real = json(&Path::new(FIXTURES).join("real.json"));
    let (mut worst, mut total, mut count) = (0.0f64, 0.0, 0);
    for file in real["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let image = decode(&data.join(path), &Limits::default()).unwrap();
        for (size, expected) in file["expected"].as_object().unwrap() {
            let tensor = fixed(&image, size.parse().unwrap());
            let values: Vec<f64> = levels(&tensor).collect();
            let positions = real["positions"][size].as_array().unwrap();
            let samples = expected["samples"].as_array().unwrap().iter().map(|level| level.as_f64().unwrap());
            let found = difference(positions.iter().map(|index| values[index.as_u64().unwrap() as usize]), samples);
            let bias = (values.iter().sum::<f64>() - expected["sum"].as_f64().unwrap()) / values.len() as f64;
            if path.ends_with(".png") {
                check(path, &format!("at {size}"), &found);
            }
            assert!(found.largest <= 1.5 && bias.abs() < 0.1, "{path} at {size}: {found:?}, bias {bias}");
            worst = worst.max(found.largest);
            total += found.mean;
            count += 1;
        }
    }
    let mean = total / f64::from(count);
    println!("{count} comparisons: largest difference {worst:.3}, mean {mean:.4} of 255");
    // The 64 samples of one file are few for a bound on the mean, those of all files are not.
    assert!(count > 100 && mean < 0.1, "mean {mean} over {count} comparisons");
}

#[test]
fn the_resized_size_is_torchvisions() {
    // int(size * long / short) for the long side.
    assert_eq!(resized_size(405, 325, 224), (319, 256));
    assert_eq!(resized_size(541, 557, 224), (256, 263));
    assert_eq!(resized_size(1, 60, 224), (256, 15360));
}

//! Altered copies are found, whatever was done to them, and other images are not taken for copies.

use roentgen_data::audit::{Likeness, Resemblance, near_duplicates};
use roentgen_data::{Image, Limits, Manifest, Raster, Split, decode, decode_bytes, phantom, resize_for_display};
use std::path::PathBuf;

/// Images that copies are made of, and the sources themselves.
const COPIED: usize = 20;

fn grey(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Image {
    let samples = (0..width * height).map(|index| pixel(index % width, index / width)).collect();
    Image::Gray8(Raster::new(width, height, samples).unwrap())
}

fn samples(image: &Image) -> &Raster<u8, 1> {
    match image {
        Image::Gray8(raster) => raster,
        other => panic!("the images of this test are grey, 8 bits: {} x {}", other.width(), other.height()),
    }
}

/// Rotated about the middle, bilinear, black where nothing is known.
fn rotated(image: &Image, degrees: f32) -> Image {
    let raster = samples(image);
    let (sine, cosine) = degrees.to_radians().sin_cos();
    let middle = ((image.width() - 1) as f32 / 2.0, (image.height() - 1) as f32 / 2.0);
    grey(image.width(), image.height(), |x, y| {
        let (dx, dy) = (x as f32 - middle.0, y as f32 - middle.1);
        let (u, v) = (middle.0 + cosine * dx - sine * dy, middle.1 + sine * dx + cosine * dy);
        let inside = u >= 0.0 && v >= 0.0 && u < (image.width() - 1) as f32 && v < (image.height() - 1) as f32;
        if !inside {
            return 0;
        }
        let at = |x: usize, y: usize| f32::from(raster.row(y)[x]);
        let (left, top) = (u as usize, v as usize);
        let (a, b) = (u - left as f32, v - top as f32);
        let upper = at(left, top) * (1.0 - a) + at(left + 1, top) * a;
        let lower = at(left, top + 1) * (1.0 - a) + at(left + 1, top + 1) * a;
        (upper * (1.0 - b) + lower * b).round() as u8
    })
}

/// Nine tenths of either side, at a corner that `number` picks.
fn cropped(image: &Image, number: usize) -> Image {
    let (width, height) = (image.width() * 9 / 10, image.height() * 9 / 10);
    let left = if number & 1 == 0 { 0 } else { image.width() - width };
    let top = if number & 2 == 0 { 0 } else { image.height() - height };
    grey(width, height, |x, y| samples(image).row(y + top)[x + left])
}

fn levels(image: &Image, of: impl Fn(u8) -> u8) -> Image {
    grey(image.width(), image.height(), |x, y| of(samples(image).row(y)[x]))
}

fn gamma(image: &Image, exponent: f32) -> Image {
    levels(image, |level| (255.0 * (f32::from(level) / 255.0).powf(exponent)).round() as u8)
}

fn mirrored(image: &Image) -> Image {
    grey(image.width(), image.height(), |x, y| samples(image).row(y)[image.width() - 1 - x])
}

fn shrunk(image: &Image) -> Image {
    let short = image.width().min(image.height());
    let scaled = |side: usize| side * 4 / 5 * 320 / short.max(320);
    resize_for_display(image, scaled(image.width()), scaled(image.height()))
}

fn recompressed(image: &Image, quality: u8) -> Image {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
    let (width, height) = (image.width() as u32, image.height() as u32);
    image::ImageEncoder::write_image(encoder, samples(image).samples(), width, height, image::ExtendedColorType::L8)
        .unwrap();
    decode_bytes("recompressed", &bytes, &Limits::default()).unwrap()
}

type Alteration = (&'static str, fn(&Image, usize) -> Image);

const ALTERATIONS: [Alteration; 10] = [
    ("rotation by 5 degrees", |image, _| rotated(image, 5.0)),
    ("rotation by 10 degrees", |image, _| rotated(image, -10.0)),
    ("crop of 10 %", cropped),
    ("mirror", |image, _| mirrored(image)),
    ("gamma 0.7", |image, _| gamma(image, 0.7)),
    ("gamma 1.4", |image, _| gamma(image, 1.4)),
    ("JPEG of quality 50", |image, _| recompressed(image, 50)),
    ("four fifths of the size", |image, _| shrunk(image)),
    ("inversion", |image, _| levels(image, |level| 255 - level)),
    ("mirror, rotation, gamma", |image, _| gamma(&rotated(&mirrored(image), 4.0), 0.8)),
];

/// Looks for copies of the first [`COPIED`] images among all of them and one kind of copies; returns how many were
/// found, and the other pairs, which are of different images.
fn find(originals: &[Image], likenesses: &[Likeness], alter: fn(&Image, usize) -> Image) -> (usize, Vec<Resemblance>) {
    let copies: Vec<Likeness> =
        originals[..COPIED].iter().enumerate().map(|(number, image)| Likeness::of(&alter(image, number))).collect();
    let all: Vec<&Likeness> = likenesses.iter().chain(&copies).collect();
    let search = near_duplicates(&all, 2, |_| {}).unwrap();
    let (right, wrong): (Vec<_>, Vec<_>) =
        search.near_duplicates.into_iter().partition(|pair| pair.second == pair.first + originals.len());
    (right.len(), wrong)
}

#[test]
fn copies_of_phantoms_are_found_and_phantoms_are_no_copies_of_each_other() {
    let phantoms: Vec<Image> = (0..60)
        .map(|item| {
            let pixels = phantom::draw_radiograph(3, item, item % 2 == 0, 160);
            Image::Gray8(Raster::new(160, 160, pixels).unwrap())
        })
        .collect();
    let likenesses: Vec<Likeness> = phantoms.iter().map(Likeness::of).collect();
    for (name, alter) in ALTERATIONS {
        let (found, wrong) = find(&phantoms, &likenesses, alter);
        assert!(found * 100 >= 95 * COPIED, "{name}: {found} of {COPIED} found");
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

#[test]
fn copies_of_radiographs_are_found_and_other_exposures_are_none() {
    let shared = std::env::var_os("ROENTGEN_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let data = shared.join("data/cxr");
    if !data.is_dir() {
        println!("skipped: copies of real radiographs, because the shared data is absent");
        return;
    }
    let manifest = Manifest::open(&data).unwrap();
    // Sorted by patient: several have several exposures.
    let rows = &manifest.rows_of(Split::Test)[..80];
    let images: Vec<Image> =
        rows.iter().map(|&row| decode(&manifest.path_of(row), &Limits::default()).unwrap()).collect();
    let grey = |image: Image| match image {
        Image::Gray8(_) => image,
        other => levels_of_colour(&other),
    };
    let images: Vec<Image> = images.into_iter().map(grey).collect();
    let likenesses: Vec<Likeness> = images.iter().map(Likeness::of).collect();
    for (name, alter) in ALTERATIONS {
        let (found, wrong) = find(&images, &likenesses, alter);
        assert!(found * 100 >= 95 * COPIED, "{name}: {found} of {COPIED} found");
        for pair in wrong {
            // The data set has natural copies of its own; copies of these are pairs as well.
            let [first, second] = [pair.first, pair.second].map(|index| &manifest.rows[rows[index % images.len()]]);
            assert_eq!(first.patient_id, second.patient_id, "{name}: {first:?} {second:?} {pair:?}");
        }
    }
}

fn levels_of_colour(image: &Image) -> Image {
    let rgb = image.to_rgb8();
    grey(image.width(), image.height(), |x, y| rgb[3 * (y * image.width() + x) + 1])
}

#[test]
fn flat_images_resemble_nothing() {
    let likenesses: Vec<Likeness> = [0, 0, 90].map(|level| Likeness::of(&grey(50, 40, |_, _| level))).into();
    let search = near_duplicates(&likenesses.iter().collect::<Vec<_>>(), 1, |_| {}).unwrap();
    assert_eq!(search.near_duplicates, []);
    assert_eq!(near_duplicates(&[], 1, |_| {}).unwrap().near_duplicates, []);
}

#[test]
fn the_work_grows_slower_than_the_number_of_pairs() {
    let likeness = |item: u64| {
        let pixels = phantom::draw_radiograph(5, item, false, 64);
        Likeness::of(&Image::Gray8(Raster::new(64, 64, pixels).unwrap()))
    };
    let likenesses: Vec<Likeness> = (0..600).map(likeness).collect();
    let all: Vec<&Likeness> = likenesses.iter().collect();
    let compared = |count: usize| near_duplicates(&all[..count], 2, |_| {}).unwrap().compared as f64;
    // Four times the images: 16 times the pairs, 8 times the work.
    let growth = compared(600) / compared(150);
    assert!(growth < 11.0, "{growth}");
}

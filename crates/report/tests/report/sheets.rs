//! Contact sheets: size, content, names, and what is refused.

use crate::sample::{UNKIND_NAMES, tile, wedge};
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use roentgen_report::{Pixels, ReportError, Sheet, Tile, write_sheets};
use roentgen_run::RunDirectory;

fn sheet(class: &str, best: Vec<Tile>, worst: Vec<Tile>) -> Sheet {
    Sheet { class: class.into(), best, worst }
}

fn written(sheet: Sheet) -> RgbImage {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_sheets(&RunDirectory::new(folder.path()), "test", &[sheet]).unwrap();
    image::open(&paths[0]).unwrap().to_rgb8()
}

#[test]
fn a_sheet_has_room_for_every_tile_and_shows_its_pixels() {
    let tiles = |count: usize| -> Vec<Tile> {
        (0..count).map(|i| tile(wedge(224, 224), (224, 224), &format!("test/a/{i}.png"), "a", "a")).collect()
    };
    let full = written(sheet("a", tiles(8), tiles(4)));
    assert_eq!(full.width(), 2 * 24 + 4 * 224 + 3 * 16, "four columns with their gaps and margins");
    let fewer = written(sheet("a", tiles(4), tiles(4)));
    // A row is its gap, its pictures and three lines of caption.
    assert_eq!(full.height() - fewer.height(), 8 + 224 + 3 * 18);
    // Under the title and the first group's title stands the first picture, pixel for pixel.
    let first = crop_imm(&full, 24, 24 + 22 + 16 + 22 + 8, 224, 224).to_image();
    let Pixels::Grey(expected) = wedge(224, 224) else { unreachable!("a wedge is grey") };
    assert!(first.pixels().zip(&expected).all(|(pixel, &grey)| pixel.0 == [grey; 3]));
}

#[test]
fn a_mirrored_picture_is_another_sheet() {
    let picture = RgbImage::from_fn(100, 100, |x, _| image::Rgb([(2 * x) as u8; 3]));
    let shown = |picture: &RgbImage| {
        written(sheet("a", vec![tile(Pixels::Rgb(picture.as_raw().clone()), (100, 100), "x.png", "a", "a")], vec![]))
    };
    let (straight, mirrored) = (shown(&picture), shown(&flip_horizontal(&picture)));
    assert_eq!(straight.dimensions(), mirrored.dimensions());
    assert_ne!(straight, mirrored);
}

#[test]
fn captions_are_drawn_and_tell_images_apart() {
    let shown = |path: &str, patient: &str| {
        let tile = tile(wedge(30, 20), (30, 20), path, "a", "b");
        written(sheet("a", vec![], vec![Tile { patient_id: Some(patient.into()), ..tile }]))
    };
    let original = shown("test/a/1.png", "p1");
    assert_ne!(original, shown("test/a/2.png", "p1"), "the file name is on the sheet");
    assert_ne!(original, shown("test/a/1.png", "p2"), "the patient is on the sheet");
    assert_eq!(original, shown("elsewhere/1.png", "p1"), "the folder is not: there is no room for it");
}

#[test]
fn heat_maps_lie_in_a_sheet_of_their_own_that_goes_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(folder.path());
    let plain = tile(wedge(224, 224), (224, 224), "test/a/1.png", "a", "a");
    let mapped = Tile { heat_map: Some(Pixels::Rgb([200, 30, 90].repeat(224 * 224))), ..plain.clone() };
    let paths = write_sheets(&run, "test", &[sheet("a", vec![mapped.clone()], vec![])]).unwrap();
    let maps = run.plots_folder().join("heat-maps-test-a.png");
    let (images, shown) = (image::open(&paths[0]).unwrap().to_rgb8(), image::open(&maps).unwrap().to_rgb8());
    assert_eq!(images.dimensions(), shown.dimensions());
    let inside = |picture: &RgbImage| picture.get_pixel(24 + 50, 24 + 22 + 16 + 22 + 8 + 50).0;
    assert_eq!(inside(&shown), [200, 30, 90]);
    assert_eq!(inside(&images), [50 * 255 / 224; 3].map(|grey: u32| grey as u8));
    // An evaluation without maps leaves none of the last one.
    write_sheets(&run, "test", &[sheet("a", vec![plain], vec![])]).unwrap();
    assert!(!maps.exists());
    let bad = Tile { heat_map: Some(Pixels::Rgb(vec![0; 12])), ..mapped };
    assert!(matches!(write_sheets(&run, "test", &[sheet("a", vec![bad], vec![])]), Err(ReportError::TileSize { .. })));
}

#[test]
fn names_of_any_kind_stay_inside_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(folder.path());
    let sheets: Vec<Sheet> = (UNKIND_NAMES.iter())
        .chain(&["../../escape", "a/b", "a?b", ""])
        .map(|class| {
            let name = format!("test/{class}/Ünïcödé \u{301}胸.png");
            sheet(class, vec![tile(wedge(1, 500), (1, 500), &name, class, class)], vec![])
        })
        .collect();
    let paths = write_sheets(&run, "my/split", &sheets).unwrap();
    let names: std::collections::BTreeSet<_> = paths.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names.len(), sheets.len(), "no sheet replaced another");
    assert!(paths.iter().all(|path| path.is_file() && path.parent() == Some(run.plots_folder().as_path())));
}

#[test]
fn pixels_that_do_not_fit_their_size_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::new(folder.path());
    let sizes: [(Pixels, (usize, usize)); 4] = [
        (Pixels::Grey(vec![0; 11]), (4, 3)),
        (Pixels::Rgb(vec![0; 12]), (4, 3)),
        (Pixels::Grey(vec![]), (0, 3)),
        (Pixels::Grey(vec![0]), (usize::MAX, 2)),
    ];
    for (pixels, size) in sizes {
        let good = sheet("a", vec![tile(wedge(4, 4), (4, 4), "good.png", "a", "a")], vec![]);
        let bad = sheet("b", vec![], vec![tile(pixels, size, "bad.png", "b", "a")]);
        let error = write_sheets(&run, "test", &[good, bad]).unwrap_err();
        assert!(matches!(error, ReportError::TileSize { .. }) && error.to_string().contains("bad.png"), "{error}");
        assert!(!run.plots_folder().exists());
    }
}

#[test]
fn real_images_of_any_proportion_fit_their_place() {
    let Some(sheets) = crate::sample::sheets_of_real_images() else { return };
    let folder = tempfile::tempdir().unwrap();
    let paths = write_sheets(&RunDirectory::new(folder.path()), "test", &sheets).unwrap();
    for path in paths {
        let picture = image::open(&path).unwrap().to_rgb8();
        assert_eq!(picture.width(), 2 * 24 + 4 * 224 + 3 * 16);
        let column = crop_imm(&picture, 24 + 224, 0, 16, picture.height()).to_image();
        let gap_is_clear =
            column.enumerate_pixels().skip_while(|(_, y, _)| *y < 24 + 22 + 16 + 22).all(|(_, _, p)| p.0 == [255; 3]);
        assert!(gap_is_clear, "a picture or caption runs into the gap in {}", path.display());
    }
}

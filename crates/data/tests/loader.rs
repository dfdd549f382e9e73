//! Batches: the same whatever the threads, errors in order, threads that end.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roentgen_data::{
    Augment, Batch, DataError, Loader, LoaderRequest, Manifest, Split, Transform, balanced_order, check_images,
    epoch_order,
};
use tempfile::TempDir;

const IMAGES: [&str; 6] = ["grey8.png", "rgb8.png", "grey16.png", "cmyk.jpg", "tall.png", "colour-420.jpg"];

/// Two classes of `each` images.
fn data(each: usize) -> (TempDir, Arc<Manifest>) {
    let dir = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        let folder = dir.path().join("train").join(class);
        fs::create_dir_all(&folder).unwrap();
        for index in 0..each {
            let name = IMAGES[index % IMAGES.len()];
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images").join(name);
            fs::copy(source, folder.join(format!("{index:03}-{name}"))).unwrap();
        }
    }
    let manifest = Arc::new(Manifest::open(dir.path()).unwrap());
    (dir, manifest)
}

fn request(manifest: &Arc<Manifest>, threads: usize) -> LoaderRequest {
    LoaderRequest {
        manifest: Arc::clone(manifest),
        rows: epoch_order(&manifest.rows_of(Split::Train), 7, 3, true),
        batch_size: 5,
        transform: Transform { image_size: 16, augment: Augment::Seed },
        cache: None,
        seed: 7,
        epoch: 3,
        threads,
        batches_ahead: 2,
    }
}

fn load(request: LoaderRequest) -> Vec<Batch> {
    Loader::start(request).unwrap().map(Result::unwrap).collect()
}

#[test]
fn every_row_comes_once_in_order_with_its_label() {
    let (_dir, manifest) = data(6);
    let asked = request(&manifest, 2);
    let batches = load(asked.clone());
    let sizes: Vec<usize> = batches.iter().map(|batch| batch.rows.len()).collect();
    assert_eq!(sizes, [5, 5, 2]);
    let rows: Vec<usize> = batches.iter().flat_map(|batch| batch.rows.clone()).collect();
    assert_eq!(rows, asked.rows);
    for batch in &batches {
        assert_eq!(batch.images.len(), batch.rows.len() * 3 * 16 * 16);
        assert!(batch.images.iter().all(|value| value.is_finite()));
        for (&row, &label) in batch.rows.iter().zip(&batch.labels) {
            assert_eq!(label, manifest.rows[row].label);
        }
    }
}

#[test]
fn threads_batch_size_and_recycling_do_not_change_the_images() {
    let (_dir, manifest) = data(8);
    let expected = load(request(&manifest, 1));
    for threads in [2, 3, 7] {
        assert_eq!(load(request(&manifest, threads)), expected);
    }

    let mut recycling = Loader::start(LoaderRequest { batches_ahead: 1, ..request(&manifest, 2) }).unwrap();
    for batch in &expected {
        let found = recycling.next().unwrap().unwrap();
        assert_eq!(&found, batch);
        recycling.recycle(found);
    }
    assert!(recycling.next().is_none());

    let flat = |batches: &[Batch]| batches.iter().flat_map(|batch| batch.images.clone()).collect::<Vec<f32>>();
    let whole = load(LoaderRequest { batch_size: 100, ..request(&manifest, 2) });
    assert_eq!(whole.len(), 1);
    assert_eq!(flat(&whole), flat(&expected));
}

#[test]
fn seed_and_epoch_change_the_augmentation_and_nothing_else() {
    let (_dir, manifest) = data(3);
    let rows = manifest.rows_of(Split::Train);
    let with = |seed, epoch, augment| {
        let transform = Transform { image_size: 16, augment };
        load(LoaderRequest { rows: rows.clone(), seed, epoch, transform, ..request(&manifest, 2) })
    };
    assert_eq!(with(1, 1, Augment::Seed), with(1, 1, Augment::Seed));
    assert_ne!(with(1, 1, Augment::Seed), with(2, 1, Augment::Seed));
    assert_ne!(with(1, 1, Augment::Seed), with(1, 2, Augment::Seed));
    assert_eq!(with(1, 1, Augment::None), with(2, 2, Augment::None));
}

#[test]
fn the_first_bad_image_in_order_ends_the_pass() {
    let (_dir, manifest) = data(10);
    let bad = [8, 6];
    for row in bad {
        fs::write(manifest.path_of(row), "text").unwrap();
    }
    let rows: Vec<usize> = (0..20).collect();
    for threads in [1, 4] {
        let mut loader = Loader::start(LoaderRequest { rows: rows.clone(), ..request(&manifest, threads) }).unwrap();
        assert_eq!(loader.next().unwrap().unwrap().rows, [0, 1, 2, 3, 4]);
        let error = loader.next().unwrap().unwrap_err();
        let name = manifest.rows[6].path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
        assert!(loader.next().is_none());
        assert!(loader.next().is_none());
    }

    let calls = AtomicUsize::new(0);
    let found = check_images(&manifest, &rows, 3, None, |_| {
        calls.fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(found.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [6, 8]);
    assert!(found.iter().all(|(_, error)| matches!(error, DataError::NotAnImage { .. })));
    assert_eq!(calls.into_inner(), rows.len());
}

#[test]
fn dropping_a_loader_ends_its_threads() {
    let (_dir, manifest) = data(12);
    for taken in [0, 1, 2] {
        let mut loader = Loader::start(LoaderRequest { batch_size: 2, ..request(&manifest, 2) }).unwrap();
        for _ in 0..taken {
            loader.next().unwrap().unwrap();
        }
        drop(loader);
        // The threads hold the manifest; drop has joined the one that owns the others' work.
        assert_eq!(Arc::strong_count(&manifest), 1, "after {taken} batches");
    }
}

#[test]
fn waiting_is_counted() {
    let (_dir, manifest) = data(2);
    let mut loader = Loader::start(request(&manifest, 1)).unwrap();
    assert_eq!(loader.waited_s(), 0.0);
    while loader.next().is_some() {}
    assert!(loader.waited_s() > 0.0);
}

#[test]
fn no_rows_are_no_batches() {
    let (_dir, manifest) = data(1);
    assert!(load(LoaderRequest { rows: vec![], ..request(&manifest, 1) }).is_empty());
}

#[test]
fn settings_that_cannot_be() {
    let (_dir, manifest) = data(1);
    for (wrong, name) in [
        (LoaderRequest { batch_size: 0, ..request(&manifest, 1) }, "batch size is 0"),
        (request(&manifest, 0), "threads is 0"),
        (LoaderRequest { batches_ahead: 0, ..request(&manifest, 1) }, "batches ahead is 0"),
        (
            LoaderRequest { transform: Transform { image_size: 0, augment: Augment::None }, ..request(&manifest, 1) },
            "image size is 0",
        ),
        (LoaderRequest { rows: vec![2], ..request(&manifest, 1) }, "row is 2"),
    ] {
        assert!(Loader::start(wrong).unwrap_err().to_string().contains(name), "{name}");
    }
}

#[test]
fn the_order_is_a_permutation_of_seed_and_epoch() {
    let rows: Vec<usize> = (10..200).collect();
    assert_eq!(epoch_order(&rows, 1, 1, false), rows);
    let order = epoch_order(&rows, 1, 1, true);
    assert_ne!(order, rows);
    assert_eq!(order, epoch_order(&rows, 1, 1, true));
    assert_ne!(order, epoch_order(&rows, 1, 2, true));
    assert_ne!(order, epoch_order(&rows, 2, 1, true));
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(sorted, rows);
}

#[test]
fn a_balanced_order_draws_every_class_alike_and_depends_on_seed_and_epoch_alone() {
    // Class 2 has no row, class 1 a tenth of them.
    let rows: Vec<usize> = (100..1100).collect();
    let label = |row: usize| if row.is_multiple_of(10) { 1 } else { 3 * (row % 2) };
    let order = balanced_order(&rows, label, 7, 1);
    assert_eq!(order.len(), rows.len());
    assert!(order.iter().all(|row| rows.contains(row)));
    assert_eq!(order, balanced_order(&rows, label, 7, 1));
    assert_ne!(order, balanced_order(&rows, label, 7, 2));
    assert_ne!(order, balanced_order(&rows, label, 8, 1));
    let mut drawn = [0usize; 4];
    let mut of_row = vec![0usize; 1100];
    for row in (0..60).flat_map(|epoch| balanced_order(&rows, label, 7, epoch)) {
        drawn[label(row)] += 1;
        of_row[row] += 1;
    }
    // 20,000 of 60,000 expected, with a standard deviation of 115; 200 of a row in class 1, with 14.
    assert_eq!(drawn[2], 0);
    assert!([0, 1, 3].iter().all(|class| drawn[*class].abs_diff(20_000) < 600), "{drawn:?}");
    assert!((100..1100).step_by(10).all(|row| of_row[row].abs_diff(200) < 75), "{of_row:?}");
}

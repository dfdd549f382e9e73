//! The cache of decoded images: the same bits, whatever happens to its folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use roentgen_data::audit::examine;
use roentgen_data::{
    Augment, Batch, CacheNotice, DataError, Image, ImageCache, Limits, Loader, LoaderRequest, Manifest, Split,
    Transform, decode, resize_for_display,
};
use tempfile::TempDir;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images");
const SIZE: usize = 32;
const LARGE: u64 = 1 << 30;

type Notices = Arc<Mutex<Vec<CacheNotice>>>;

fn open(folder: &Path, limit_bytes: u64) -> (ImageCache, Notices) {
    let notices = Notices::default();
    let heard = Arc::clone(&notices);
    let cache = ImageCache::open(folder, limit_bytes, move |notice| heard.lock().unwrap().push(notice));
    (cache, notices)
}

fn read(cache: &ImageCache, path: &Path) -> Image {
    cache.read(path, &Limits::default(), SIZE).unwrap()
}

fn fixtures() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 20);
    paths
}

/// Files in the folder and its subfolders with an ending, sorted.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for subfolder in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        found.extend(fs::read_dir(subfolder).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|found| found == ending));
    found.sort();
    found
}

fn batches(manifest: &Arc<Manifest>, augment: Augment, cache: Option<Arc<ImageCache>>) -> Vec<Batch> {
    let request = LoaderRequest {
        manifest: Arc::clone(manifest),
        rows: manifest.rows_of(Split::Train),
        batch_size: 7,
        transform: Transform { image_size: SIZE, augment },
        cache,
        seed: 3,
        epoch: 2,
        threads: 2,
        batches_ahead: 1,
    };
    Loader::start(request).unwrap().map(Result::unwrap).collect()
}

#[test]
fn batches_have_the_same_bits_without_it_while_it_fills_and_from_it() {
    let data = tempfile::tempdir().unwrap();
    for (index, path) in fixtures().iter().enumerate() {
        let class = data.path().join("train").join(["a", "b"][index % 2]);
        fs::create_dir_all(&class).unwrap();
        fs::copy(path, class.join(path.file_name().unwrap())).unwrap();
    }
    let manifest = Arc::new(Manifest::open(data.path()).unwrap());
    let images = manifest.rows.len() as u64;
    for augment in [Augment::None, Augment::Seed] {
        let folder = tempfile::tempdir().unwrap();
        let expected = batches(&manifest, augment, None);
        let cache = Arc::new(open(folder.path(), LARGE).0);
        assert_eq!(batches(&manifest, augment, Some(cache.clone())), expected);
        assert_eq!((cache.usage().found, cache.usage().made), (0, images));
        assert_eq!(batches(&manifest, augment, Some(cache.clone())), expected);
        assert_eq!((cache.usage().found, cache.usage().made), (images, images));
        // And in another process.
        let (cache, notices) = open(folder.path(), LARGE);
        let cache = Arc::new(cache);
        assert_eq!(batches(&manifest, augment, Some(cache.clone())), expected);
        assert_eq!((cache.usage().found, cache.usage().made), (images, 0));
        let on_disk: u64 = files(folder.path(), "pixels").iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(cache.usage().bytes, on_disk);
        assert!(notices.lock().unwrap().is_empty());
    }
}

#[test]
fn every_size_of_input_has_entries_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = open(folder.path(), LARGE);
    for size in [14, 28] {
        for path in fixtures() {
            let original = decode(&path, &Limits::default()).unwrap();
            for _ in 0..2 {
                let image = cache.read(&path, &Limits::default(), size).unwrap();
                assert_eq!(image.width().min(image.height()), size * 8 / 7);
                let transform = Transform { image_size: size, augment: Augment::None };
                let (mut found, mut expected) = (vec![0.0; transform.tensor_len()], vec![1.0; transform.tensor_len()]);
                transform.apply(&image, None, &mut found);
                transform.apply(&original, None, &mut expected);
                assert_eq!(found, expected, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_damaged_or_foreign_entry_is_made_again_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(FIXTURES).join("grey8.png");
    let expected = read(&open(folder.path(), LARGE).0, &source);
    let [entry] = files(folder.path(), "pixels").try_into().unwrap();
    let whole = fs::read(&entry).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let mut newer = whole.clone();
    newer[8] = 2;
    for (bytes, said) in [
        (flipped, "checksum"),
        (newer, "version 2 of its form"),
        (whole[..100].to_vec(), "checksum"),
        (Vec::new(), "0 bytes"),
        (b"notes of somebody else, ".repeat(3), "does not begin"),
    ] {
        fs::write(&entry, bytes).unwrap();
        let (cache, notices) = open(folder.path(), LARGE);
        assert_eq!(read(&cache, &source), expected);
        assert_eq!((cache.usage().found, cache.usage().made), (0, 1));
        let notices = notices.lock().unwrap();
        let [CacheNotice::Damaged { .. }] = &notices[..] else { panic!("{notices:?}") };
        let text = notices[0].to_string();
        assert!(text.contains(entry.to_str().unwrap()) && text.contains(said), "{text}");
        assert_eq!(fs::read(&entry).unwrap(), whole);
    }
}

#[test]
fn damage_is_said_once_and_does_not_fill_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let paths = fixtures();
    paths.iter().for_each(|path| drop(read(&open(folder.path(), LARGE).0, path)));
    let entries = files(folder.path(), "pixels");
    let total: u64 = entries.iter().map(|entry| entry.metadata().unwrap().len()).sum();
    for entry in &entries {
        let mut bytes = fs::read(entry).unwrap();
        bytes[8] = 7;
        fs::write(entry, bytes).unwrap();
    }
    let (cache, notices) = open(folder.path(), total + 100);
    paths.iter().for_each(|path| drop(read(&cache, path)));
    // No room for both: entries that are made again take the place of the damaged ones.
    assert!(matches!(notices.lock().unwrap()[..], [CacheNotice::Damaged { .. }]), "{notices:?}");
    assert_eq!((cache.usage().damaged, cache.usage().bytes), (entries.len() as u64, total));
    assert_eq!(files(folder.path(), "pixels"), entries);
}

#[test]
fn damage_is_counted_by_entry_and_the_sum_said_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let sources: Vec<PathBuf> = fixtures().into_iter().take(2).collect();
    sources.iter().for_each(|path| drop(read(&open(folder.path(), LARGE).0, path)));
    let entries = files(folder.path(), "pixels");
    let damage = || entries.iter().for_each(|entry| fs::write(entry, b"damaged").unwrap());
    let (cache, notices) = open(folder.path(), LARGE);
    for _ in 0..2 {
        damage();
        sources.iter().for_each(|path| drop(read(&cache, path)));
    }
    assert_eq!((cache.usage().damaged, cache.usage().made), (2, 4));
    drop(cache);
    let notices = notices.lock().unwrap();
    let [CacheNotice::Damaged { .. }, sum @ CacheNotice::Mended { entries: 2, .. }] = &notices[..] else {
        panic!("{notices:?}")
    };
    let text = sum.to_string();
    assert!(text.ends_with(": 2 entries were damaged and were decoded again"), "{text}");
}

#[test]
fn an_audit_sees_the_same_without_it_while_it_fills_and_from_it() {
    let data = tempfile::tempdir().unwrap();
    let dicom = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dicom/syntaxes/rle-12.dcm");
    for (index, path) in fixtures().iter().chain([&PathBuf::from(dicom)]).enumerate() {
        let class = data.path().join("train").join(["a", "b"][index % 2]);
        fs::create_dir_all(&class).unwrap();
        fs::copy(path, class.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(data.path().join("train/a/bad.png"), "text").unwrap();
    let manifest = Manifest::open(data.path()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let look = |cache: Option<&ImageCache>| {
        let seen = examine(&manifest, 2, cache, |_| {}).unwrap();
        assert_eq!(seen.bad.len(), 1);
        seen.images.into_iter().map(|image| (image.row, image.look)).collect::<Vec<_>>()
    };
    let expected = look(None);
    let made = expected.len() as u64;
    for (expected_made, damage) in [(made, false), (0, false), (1, true), (0, false)] {
        if damage {
            let entry = files(folder.path(), "look").swap_remove(3);
            let mut bytes = fs::read(&entry).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(entry, bytes).unwrap();
        }
        let (cache, notices) = open(folder.path(), LARGE);
        assert!(look(Some(&cache)) == expected);
        assert_eq!((cache.usage().made, notices.lock().unwrap().len()), (expected_made, usize::from(damage)));
        let on_disk: u64 = files(folder.path(), "look").iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(cache.usage().bytes, on_disk);
    }
}

#[test]
fn a_changed_file_and_a_copy_are_told_by_their_content() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [file, copy] = ["a.png", "b.png"].map(|name| data.path().join(name));
    fs::copy(Path::new(FIXTURES).join("grey8.png"), &file).unwrap();
    fs::copy(&file, &copy).unwrap();
    let (cache, _) = open(folder.path(), LARGE);
    assert_eq!(read(&cache, &file), read(&cache, &copy));
    assert_eq!((cache.usage().found, cache.usage().made), (1, 1));
    let before = file.metadata().unwrap().modified().unwrap();
    fs::copy(Path::new(FIXTURES).join("grey4.png"), &file).unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
    let (cache, _) = open(folder.path(), LARGE);
    assert_ne!(read(&cache, &file), read(&cache, &copy));
    fs::write(&file, "text").unwrap();
    let error = open(folder.path(), LARGE).0.read(&file, &Limits::default(), SIZE).unwrap_err();
    assert!(matches!(error, DataError::NotAnImage { .. }), "{error}");
}

#[test]
fn a_full_cache_gives_up_what_was_used_longest_ago_and_keeps_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = ["grey8.png", "bit1.png", "grey2.png", "grey4.png", "rgb8.png"]
        .iter()
        .map(|name| Path::new(FIXTURES).join(name))
        .collect();
    let mut lengths = Vec::new();
    for (age, path) in paths[..3].iter().enumerate() {
        let before = files(folder.path(), "pixels");
        read(&open(folder.path(), LARGE).0, path);
        let new = files(folder.path(), "pixels").into_iter().find(|file| !before.contains(file)).unwrap();
        lengths.push(new.metadata().unwrap().len());
        let used = SystemTime::now() - Duration::from_secs(1000 - 100 * age as u64);
        File::options().write(true).open(&new).unwrap().set_modified(used).unwrap();
    }
    // Files that are not its own stay, and count nothing; what a killed process left goes, what is being written stays.
    let own = files(folder.path(), "pixels")[0].clone();
    let (notes, old) = (own.with_file_name("notes.pixels"), own.with_extension("1-0.part"));
    let young = own.with_extension("1-1.part");
    for path in [&notes, &old, &young] {
        fs::write(path, vec![0; 5000]).unwrap();
    }
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(7200))
        .unwrap();

    let limit = lengths.iter().sum::<u64>() + 100;
    let (cache, notices) = open(folder.path(), limit);
    assert!(notes.exists() && !old.exists() && young.exists());
    // The oldest is used now, so that the second has to make room.
    read(&cache, &paths[0]);
    let fourth = read(&cache, &paths[3]);
    assert!(notices.lock().unwrap().is_empty());
    assert!(cache.usage().bytes <= limit);
    let made_by = |path: &Path| {
        let (cache, _) = open(folder.path(), LARGE);
        read(&cache, path);
        cache.usage().made
    };
    let (tiny, heard) = open(folder.path(), 50);
    assert_eq!(read(&tiny, &paths[3]), fourth, "what is there is read, whatever the bound");
    read(&tiny, &paths[4]);
    read(&tiny, &paths[4]);
    assert!(matches!(heard.lock().unwrap()[..], [CacheNotice::Full { limit_bytes: 50, .. }]));
    assert_eq!(files(folder.path(), "pixels").len(), 4, "three entries and the notes");
    assert_eq!([0, 2, 3].map(|index| made_by(&paths[index])), [0; 3]);
    assert_eq!(made_by(&paths[1]), 1);
}

#[test]
fn a_folder_that_cannot_be_written_costs_time_and_nothing_else() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cache");
    fs::write(&folder, "a file").unwrap();
    let (cache, notices) = open(&folder, LARGE);
    for _ in 0..2 {
        for path in fixtures() {
            assert_eq!(resize_for_display(&read(&cache, &path), 9, 9).width(), 9);
        }
    }
    assert!(matches!(notices.lock().unwrap()[..], [CacheNotice::GivenUp { .. }]), "said once");
}

#[test]
fn several_at_once_see_whole_images_only() {
    let folder = tempfile::tempdir().unwrap();
    let paths = fixtures();
    let expected: Vec<Image> = {
        let alone = tempfile::tempdir().unwrap();
        let (cache, _) = open(alone.path(), LARGE);
        paths.iter().map(|path| read(&cache, path)).collect()
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Each as another process would.
                let (cache, notices) = open(folder.path(), LARGE);
                for _ in 0..3 {
                    for (path, expected) in paths.iter().zip(&expected) {
                        assert_eq!(&read(&cache, path), expected);
                    }
                }
                assert!(notices.lock().unwrap().is_empty());
            });
        }
    });
    assert_eq!(files(folder.path(), "part"), [] as [PathBuf; 0]);
}

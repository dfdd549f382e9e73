//! Folders and tables as users have them, right and wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use roentgen_data::{DataError, Manifest, MissingImages, Sex, Split, write_table};
use tempfile::TempDir;

/// A folder with these files; the content does not matter here, because opening does not decode.
fn folder(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        add(&dir, file, "content");
    }
    dir
}

fn add(dir: &TempDir, file: &str, content: &str) {
    let path = dir.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

const SMALL: [&str; 8] = [
    "train/normal/b.png",
    "train/normal/a.JPG",
    "train/infected/c.jpeg",
    "validation/normal/d.png",
    "validation/infected/e.png",
    "test/normal/f.png",
    "test/infected/g.png",
    "test/infected/h.png",
];

fn small_with_table(table: &str) -> Result<Manifest, DataError> {
    let dir = folder(&SMALL);
    add(&dir, "manifest.csv", table);
    Manifest::open(dir.path())
}

fn message(result: Result<Manifest, DataError>) -> String {
    result.expect_err("this should be an error").to_string()
}

fn paths(manifest: &Manifest) -> Vec<String> {
    manifest.rows.iter().map(|row| row.path.to_str().unwrap().replace('\\', "/")).collect()
}

#[test]
fn rows_stand_in_the_order_of_split_class_and_path() {
    let dir = folder(&SMALL);
    let manifest = Manifest::open(dir.path()).unwrap();
    assert_eq!(manifest.classes, ["infected", "normal"]);
    assert_eq!(
        paths(&manifest)[..4],
        ["train/infected/c.jpeg", "train/normal/a.JPG", "train/normal/b.png", "validation/infected/e.png"]
    );
    assert_eq!(manifest.rows_of(Split::Train), [0, 1, 2]);
    assert_eq!(manifest.rows_of(Split::Test), [5, 6, 7]);
    assert_eq!(manifest.rows[1].label, 1);
    assert!(manifest.warnings.is_empty(), "{:?}", manifest.warnings);
    assert!(manifest.path_of(0).is_file());
}

#[test]
fn subfolders_follow_the_files_of_their_parent_as_in_torchvision() {
    // ImageFolder sorts os.walk by folder, then the names: x before a/b, although a/b sorts first as a path.
    let dir = folder(&["train/n/x.png", "train/n/a/b.png", "train/n/a.b/c.png", "train/m/y.png"]);
    let manifest = Manifest::open(dir.path()).unwrap();
    assert_eq!(paths(&manifest), ["train/m/y.png", "train/n/x.png", "train/n/a/b.png", "train/n/a.b/c.png"]);
}

#[test]
fn the_validation_folder_has_three_names_but_only_one_at_a_time() {
    for name in ["validation", "val", "valid"] {
        let dir = folder(&[&format!("{name}/n/a.png"), &format!("{name}/p/b.png")]);
        let manifest = Manifest::open(dir.path()).unwrap();
        assert_eq!(manifest.rows_of(Split::Validation), [0, 1]);
    }
    let dir = folder(&["val/n/a.png", "valid/n/b.png"]);
    assert!(matches!(Manifest::open(dir.path()), Err(DataError::SplitTwice { first: "val", second: "valid", .. })));
}

#[test]
fn hidden_entries_are_ignored_and_other_files_are_mentioned() {
    let dir = folder(&[
        "train/n/a.png",
        "train/p/b.png",
        "train/.ipynb_checkpoints/a-checkpoint.png",
        "train/n/.hidden.png",
        "train/n/notes.txt",
        "train/readme.md",
        "licence.txt",
    ]);
    let manifest = Manifest::open(dir.path()).unwrap();
    assert_eq!(manifest.classes, ["n", "p"]);
    assert_eq!(manifest.rows.len(), 2);
    for name in ["notes.txt", "readme.md", "licence.txt"] {
        assert!(manifest.warnings.iter().any(|warning| warning.contains(name)), "{name}: {:?}", manifest.warnings);
    }
    assert!(!manifest.warnings.iter().any(|warning| warning.contains("ipynb") || warning.contains("hidden")));
}

#[test]
fn reading_headers_says_how_far_it_is() {
    let dir = folder(&["train/n/a.dcm", "train/n/IM1.ima", "train/n/c.png", "train/p/d.dcm"]);
    let heard = Mutex::new(Vec::new());
    let hear = |done, all| heard.lock().unwrap().push((done, all));
    assert_eq!(
        Manifest::open_watched(dir.path(), MissingImages::Refuse, hear).unwrap(),
        Manifest::open(dir.path()).unwrap()
    );
    let mut heard = heard.into_inner().unwrap();
    heard.sort_unstable();
    // A PNG has no patient to ask for.
    assert_eq!(heard, [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn an_empty_folder_and_a_missing_one() {
    let dir = folder(&[]);
    assert!(matches!(Manifest::open(dir.path()), Err(DataError::NoSplits { .. })));
    let dir = folder(&["training/n/a.png"]);
    assert!(message(Manifest::open(dir.path())).contains("found `training`"));
    let dir = folder(&["train/n/notes.txt"]);
    assert!(matches!(Manifest::open(dir.path()), Err(DataError::NoImages { .. })));
    let dir = folder(&["file"]);
    assert!(matches!(Manifest::open(&dir.path().join("file")), Err(DataError::NotADataSet { .. })));
    assert!(message(Manifest::open(Path::new("/no/such/folder"))).contains("/no/such/folder"));
}

#[test]
fn a_class_that_a_split_lacks() {
    for split in ["train", "validation"] {
        let gone = format!("{split}/infected/");
        let kept: Vec<&str> = SMALL.into_iter().filter(|file| !file.starts_with(&gone)).collect();
        let dir = folder(&kept);
        let required = |split: &str| {
            let manifest = Manifest::open(dir.path()).unwrap();
            assert!(manifest.warnings.iter().any(|w| w.contains(split) && w.contains("undefined")));
            manifest.require_every_class(split.parse().unwrap())
        };
        let text = required(split).unwrap_err().to_string();
        assert!(text.contains(&format!("{split}/infected")) && text.contains("add images"), "{text}");
        // A folder without images is no better than none.
        fs::create_dir(dir.path().join(split).join("infected")).unwrap();
        assert!(matches!(required(split), Err(DataError::ClassMissing { .. })));
    }
    let dir = folder(&SMALL[..6]);
    let manifest = Manifest::open(dir.path()).unwrap();
    assert!(manifest.warnings.iter().any(|warning| warning.contains("test") && warning.contains("undefined")));
}

#[test]
fn what_a_caller_may_require() {
    let dir = folder(&["train/n/a.png"]);
    let manifest = Manifest::open(dir.path()).unwrap();
    assert_eq!(manifest.require_split(Split::Train).unwrap(), [0]);
    let text = manifest.require_split(Split::Test).unwrap_err().to_string();
    assert!(text.contains("`test`") && text.contains("found: train"), "{text}");
    assert!(matches!(manifest.require_two_classes(), Err(DataError::OneClass { .. })));
    assert!(Manifest::open(folder(&SMALL).path()).unwrap().require_two_classes().is_ok());
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_utf8_is_an_error_and_a_link_to_the_parent_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&["train/n/a.png"]);
    let link = dir.path().join("train/n/loop");
    std::os::unix::fs::symlink(dir.path().join("train/n"), &link).unwrap();
    assert!(matches!(Manifest::open(dir.path()), Err(DataError::NestedTooDeep { .. })));
    fs::remove_file(link).unwrap();

    let name = OsStr::from_bytes(b"r\xf6ntgen.png");
    if fs::write(dir.path().join("train/n").join(name), "x").is_err() {
        println!("skipped: this file system takes no names outside UTF-8");
        return;
    }
    let error = Manifest::open(dir.path()).unwrap_err();
    assert!(matches!(&error, DataError::NameNotUtf8 { path } if path.file_name() == Some(name)), "{error:?}");
    assert!(error.to_string().contains("rename"), "{error}");
}

#[test]
fn the_table_adds_patient_finding_and_source() {
    // A byte order mark, CRLF, another order, an unknown column, quotes, an empty field, a row for some images only.
    let manifest = small_with_table(
        "\u{feff}patient_id,age,path,finding,label,split,source\r\n\
         p1,50,test/infected/g.png,\"COVID-19, ARDS\",infected,test,\r\n\
         p1,,validation/normal/d.png,,normal,val,s\r\n\
         p2,,./train/normal/b.png,,,,\r\n",
    )
    .unwrap();
    let row = |name: &str| manifest.rows.iter().find(|row| row.path == Path::new(name)).unwrap();
    assert_eq!(row("test/infected/g.png").finding.as_deref(), Some("COVID-19, ARDS"));
    assert_eq!(row("test/infected/g.png").source, None);
    assert_eq!(row("validation/normal/d.png").source.as_deref(), Some("s"));
    assert_eq!(row("train/normal/b.png").patient_id.as_deref(), Some("p2"));
    assert_eq!(row("train/normal/a.JPG").patient_id, None);
    assert!(manifest.warnings.iter().any(|warning| warning.contains("5 of 8")), "{:?}", manifest.warnings);
    let shared = manifest.patients_across_splits();
    assert_eq!(shared.len(), 1);
    assert_eq!(shared[0].patient_id, "p1");
    assert_eq!(shared[0].images, [(Split::Validation, 1), (Split::Test, 1)]);
}

#[test]
fn a_table_that_contradicts_the_folders_names_the_line() {
    for (table, line, word) in [
        ("path,label\ntrain/normal/b.png,normal\ntrain/normal/gone.png,normal\n", "line 3", "gone.png"),
        (
            "path,source\ntrain/normal/b.png,x\ntrain/normal/a.JPG,x\ntrain/normal/b.png,y\n",
            "line 4",
            "line 2 already, with other values",
        ),
        ("path,label\r\ntrain/normal/b.png,infected\r\n", "line 2", "class `normal`"),
        ("path,split\ntrain/normal/b.png,test\n", "line 2", "split `train`"),
        ("path,split\ntrain/normal/b.png,holdout\n", "line 2", "holdout"),
        ("path,split\n,train\n", "line 2", "empty"),
    ] {
        let text = message(small_with_table(table));
        assert!(text.contains("manifest.csv") && text.contains(line) && text.contains(word), "{text}");
    }
}

#[test]
fn a_table_that_cannot_be_read() {
    assert!(message(small_with_table("file,label\nx,y\n")).contains("no column `path`"));
    assert!(message(small_with_table("path,path\nx,y\n")).contains("twice"));
    assert!(message(small_with_table("")).contains("no column `path`"));
    let text = message(small_with_table("path,label\ntrain/normal/b.png\n"));
    assert!(text.contains("line 2 has 1 columns"), "{text}");
    let text = message(small_with_table("path,label\r\ntrain/normal/b.png,normal\r\n\r\nx\r\n"));
    assert!(text.contains("line 4 has 1 columns"), "{text}");
    let text = message(small_with_table("path;label\ntrain/normal/b.png;normal\n"));
    assert!(text.contains("commas between the columns"), "{text}");
    let dir = folder(&SMALL);
    fs::write(dir.path().join("manifest.csv"), b"\xff\xfep\0a\0").unwrap();
    assert!(message(Manifest::open(dir.path())).contains("UTF-16"));
}

/// A folder of images without splits, and a table of them.
fn listed(table: &[u8]) -> TempDir {
    let dir = folder(&["images/a.png", "images/b.png", "images/c.png", "images/r\u{f6}ntgen.png"]);
    fs::write(dir.path().join("list.csv"), table).unwrap();
    dir
}

#[test]
fn a_table_alone_is_a_data_set() {
    let dir = listed(
        b"path,label,split,patient_id,view,age,sex\nimages/c.png,sick,test,p 1,PA,57.0,M\nimages/a.png,well,train,,,414,?\n\
          images/b.png,\"sick\",valid,p2,\"AP, supine\",013M,f\nimages/a.png,well,train,,,,\n",
    );
    let manifest = Manifest::open(&dir.path().join("list.csv")).unwrap();
    assert_eq!(manifest.classes, ["sick", "well"]);
    assert_eq!(paths(&manifest), ["images/a.png", "images/b.png", "images/c.png"]);
    assert_eq!(manifest.rows.iter().map(|row| row.split).collect::<Vec<_>>(), Split::ALL);
    let [a, b, c] = manifest.rows.as_slice() else { panic!("three rows") };
    assert_eq!(
        (c.patient_id.as_deref(), c.view.as_deref(), c.age, c.sex),
        (Some("p 1"), Some("PA"), Some(57), Some(Sex::Male))
    );
    assert_eq!((b.view.as_deref(), b.age, b.sex), (Some("AP, supine"), Some(1), Some(Sex::Female)));
    assert_eq!((a.patient_id.as_deref(), a.age, a.sex), (None, None, None));
    for word in ["1 row stands there twice", "1 age cannot be", "none of F, M and O"] {
        assert!(manifest.warnings.iter().any(|warning| warning.contains(word)), "{word}: {:?}", manifest.warnings);
    }
    assert!(manifest.path_of(0).is_file());
    // In a folder without splits, manifest.csv says it all.
    fs::rename(dir.path().join("list.csv"), dir.path().join("manifest.csv")).unwrap();
    let of_folder = Manifest::open(dir.path()).unwrap();
    assert_eq!(of_folder.rows, manifest.rows);
    assert_eq!(of_folder.fingerprint().unwrap(), manifest.fingerprint().unwrap());
}

#[test]
fn a_table_that_is_no_utf8_is_read_as_iso_8859_1() {
    let dir = listed(b"path,label\r\nimages/r\xf6ntgen.png,a\r\nimages/a.png,b\r\n");
    let manifest = Manifest::open(&dir.path().join("list.csv")).unwrap();
    assert_eq!(paths(&manifest), ["images/r\u{f6}ntgen.png", "images/a.png"]);
    assert!(manifest.warnings.iter().any(|warning| warning.contains("ISO-8859-1")), "{:?}", manifest.warnings);
}

#[test]
fn a_table_without_splits_says_what_to_do() {
    let dir = listed(b"path,label\nimages/a.png,a\nimages/b.png,b\n");
    let table = dir.path().join("list.csv");
    let manifest = Manifest::open(&table).unwrap();
    assert!(manifest.rows.iter().all(|row| row.split == Split::Unassigned));
    let text = manifest.require_split(Split::Train).unwrap_err().to_string();
    let command = format!("roentgen data split {}", table.display());
    assert!(text.contains(&command) && text.contains("--folds"), "{text}");
    let dir = listed(b"path,label,split\nimages/a.png,a,train\nimages/b.png,b,train\nimages/c.png,b,test\n");
    let manifest = Manifest::open(&dir.path().join("list.csv")).unwrap();
    let text = manifest.require_every_class(Split::Test).unwrap_err().to_string();
    assert!(text.contains("list.csv") && text.contains("test split") && text.contains("`a`"), "{text}");
    let text = manifest.require_split(Split::Validation).unwrap_err().to_string();
    assert!(text.contains("list.csv") && text.contains("train, test"), "{text}");
}

#[test]
fn images_that_are_not_there_are_counted_and_the_first_named() {
    let gone: String = (0..12).map(|index| format!("images/gone{index:02}.png,a\n")).collect();
    let dir = listed(format!("path,label\nimages/a.png,a\nimages/b.png,b\n{gone}").as_bytes());
    let table = dir.path().join("list.csv");
    let text = message(Manifest::open(&table));
    for word in
        ["list.csv: 12 of 14 images are not there", "gone00.png", "gone09.png", "and 2 more", "--on-bad-image skip"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("gone10"), "{text}");
    let those_there = |table: &Path| Manifest::open_watched(table, MissingImages::LeaveOut, |_, _| {});
    let manifest = those_there(&table).unwrap();
    assert_eq!(paths(&manifest), ["images/a.png", "images/b.png"]);
    assert!(manifest.warnings.iter().any(|warning| warning.contains("12 of 14") && warning.contains("left out")));
    let dir = listed(b"path,label\nimages/x.png,a\n");
    assert!(message(those_there(&dir.path().join("list.csv"))).contains("1 of 1"));
}

#[test]
fn tables_that_are_no_data_set() {
    for (table, word) in [
        ("path\nimages/a.png\n", "line 2: no label"),
        ("path,label\nimages/a.png,a\nimages/b.png,\n", "line 3: no label"),
        ("path,label\n", "no rows"),
        ("label\na\n", "no column `path`"),
        ("path,label,split\nimages/a.png,a,trian\n", "line 2: `trian` is no split"),
        ("path,label\nimages/a.png,a\nimages/a.png,b\n", "line 3: `images/a.png` stands in line 2 already, with other"),
    ] {
        let dir = listed(table.as_bytes());
        let text = message(Manifest::open(&dir.path().join("list.csv")));
        assert!(text.contains("list.csv") && text.contains(word), "{text}");
    }
}

#[test]
fn a_table_that_is_written_reads_the_same() {
    let dir = listed(
        b"path,label,split,finding,patient_id,view,age,sex\nimages/c.png,x,test,\"A, \"\"B\"\"\",p 1,PA,57,M\n\
          images/a.png,y,,\"line\nbreak\",,,,\n",
    );
    let table = dir.path().join("list.csv");
    let manifest = Manifest::open(&table).unwrap();
    let mut bytes = Vec::new();
    write_table(&manifest, &mut bytes, |row| row.path.display().to_string()).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.starts_with("path,split,label,finding,patient_id,view,age,sex\n"), "{text}");
    fs::write(&table, bytes).unwrap();
    assert_eq!(Manifest::open(&table).unwrap(), manifest);
}

#[test]
fn the_shared_table_is_the_shared_folder() {
    let Some(data) = shared() else { return };
    let (folder, table) = (Manifest::open(&data).unwrap(), Manifest::open(&data.join("manifest.csv")).unwrap());
    assert_eq!(folder.rows, table.rows);
    assert_eq!(folder.fingerprint().unwrap(), table.fingerprint().unwrap());
}

#[test]
fn the_fingerprint_is_of_what_matters() {
    let dir = folder(&SMALL);
    let open = || Manifest::open(dir.path()).unwrap();
    let first = open().fingerprint().unwrap();
    assert_eq!(first.len(), 64);
    assert_eq!(first, open().fingerprint().unwrap());
    // The place does not count.
    assert_eq!(first, Manifest::open(folder(&SMALL).path()).unwrap().fingerprint().unwrap());

    let changed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = open();
        change(&mut manifest);
        manifest.fingerprint().unwrap()
    };
    let mut seen = vec![first];
    seen.push(changed(&|manifest| manifest.rows[0].label = 1));
    seen.push(changed(&|manifest| manifest.rows[0].split = Split::Test));
    seen.push(changed(&|manifest| manifest.rows[0].patient_id = Some(String::new())));
    seen.push(changed(&|manifest| manifest.rows[0].patient_id = Some("p".into())));
    seen.push(changed(&|manifest| manifest.classes[0].push('x')));
    seen.push(changed(&|manifest| manifest.rows.swap(0, 1)));
    fs::write(dir.path().join(SMALL[0]), "longer content").unwrap();
    seen.push(open().fingerprint().unwrap());
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
    fs::remove_file(dir.path().join(SMALL[0])).unwrap();
    let mut gone = open();
    gone.rows[0].path = PathBuf::from("gone.png");
    assert!(gone.fingerprint().unwrap_err().to_string().contains("gone.png"));
}

#[test]
fn splits_have_names() {
    for split in Split::ALL {
        assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
    }
    assert!("holdout".parse::<Split>().unwrap_err().to_string().contains("train, validation or test"));
}

/// The shared data set, where it is.
fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("ROENTGEN_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let data = shared.join("data/cxr");
    if !data.is_dir() {
        println!("skipped: opening the shared data set, which is absent");
        return None;
    }
    Some(data)
}

#[test]
fn the_shared_data_set_opens() {
    let Some(data) = shared() else { return };
    let manifest = Manifest::open(&data).unwrap();
    assert_eq!(manifest.classes, ["infected", "normal"]);
    let counts = Split::ALL.map(|split| manifest.rows_of(split).len());
    assert_eq!(counts, [583, 135, 178]);
    assert!(manifest.rows.iter().all(|row| row.patient_id.is_some()), "the table names every image");
    assert!(manifest.patients_across_splits().is_empty());
    assert!(manifest.warnings.is_empty(), "{:?}", manifest.warnings);
}

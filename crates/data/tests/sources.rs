//! Published collections in their true formats, each with its traps. The tables are small and made by hand; the images
//! are empty files, because importing does not decode.

use std::fs;
use std::path::{Path, PathBuf};

use roentgen_data::sources::Kind;
use roentgen_data::{DataError, Imported, Manifest, Row, Rules, Sex, Source, Split, import};
use tempfile::TempDir;

/// A copy of a fixture's tables, with these images beside them.
fn collection(fixture: &str, images: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sources").join(fixture);
    for entry in fs::read_dir(tables).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    for image in images {
        let path = dir.path().join(image);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    dir
}

/// Imports what is found in the folder.
fn imported(dir: &Path, kind: Kind) -> Imported {
    imported_by(dir, kind, &Rules::default())
}

fn imported_by(dir: &Path, kind: Kind, rules: &Rules) -> Imported {
    let source = Source::detect(dir).unwrap();
    assert_eq!(source.kind, Some(kind));
    let imported = import(&[source], rules).unwrap();
    // Nothing is lost: each image is a row or has a reason.
    assert_eq!(imported.named[0], imported.kept[0] + imported.dropped.len());
    assert_eq!(imported.kept[0], imported.manifest.rows.len());
    assert!((0..imported.manifest.rows.len()).all(|row| imported.manifest.path_of(row).is_file()));
    imported
}

fn row<'a>(imported: &'a Imported, name: &str) -> &'a Row {
    let rows = &imported.manifest.rows;
    rows.iter().find(|row| row.path.ends_with(name)).unwrap_or_else(|| panic!("{name} is not among {rows:?}"))
}

fn class<'a>(imported: &'a Imported, name: &str) -> &'a str {
    &imported.manifest.classes[row(imported, name).label]
}

#[track_caller]
fn dropped(imported: &Imported, name: &str, reason: &str) {
    let found = imported.dropped.iter().find(|dropped| dropped.name.ends_with(name) && dropped.reason.contains(reason));
    assert!(found.is_some(), "{name} because {reason}: {:?}", imported.dropped);
}

#[track_caller]
fn warned(imported: &Imported, word: &str) {
    let warnings = &imported.manifest.warnings;
    assert!(warnings.iter().any(|warning| warning.contains(word)), "{word}: {warnings:?}");
}

#[test]
fn covidx_lists_are_read_from_the_right() {
    let files = [
        "lung-a-day0.jpeg",
        "lung-a-day5.jpeg",
        "COVID-00003a.jpg",
        "DX.1.2.840.1.png",
        "0a1b-77.png",
        "0a1b-78.png",
        "sirm-9.png",
        "b-no-source.png",
        "c-no-source.png",
    ];
    let files: Vec<String> = files.iter().map(|name| format!("train/{name}")).collect();
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.extend(["test/MIDRC-1.png", "test/0a1b-90.png"]);
    let dir = collection("covidx-a", &files);
    let imported = imported(dir.path(), Kind::Covidx);
    assert_eq!(imported.manifest.classes, ["infected", "normal"]);
    assert_eq!(imported.manifest.rows.len(), 11);
    assert_eq!(row(&imported, "sirm-9.png").patient_id.as_deref(), Some("sirm-COVID-19 (9)"));
    assert_eq!(row(&imported, "lung-a-day0.jpeg").patient_id.as_deref(), Some("covid-chestxray-3"));
    assert_eq!(row(&imported, "COVID-00003a.jpg").patient_id.as_deref(), Some("figure1-COVID-00003"));
    assert_eq!(row(&imported, "DX.1.2.840.1.png").patient_id.as_deref(), Some("actualmed-ANON7"));
    assert_eq!(row(&imported, "b-no-source.png").patient_id.as_deref(), Some("covidx-17"));
    // RSNA's ids are of images.
    assert_eq!(row(&imported, "0a1b-77.png").patient_id, None);
    assert_eq!(row(&imported, "0a1b-78.png").source.as_deref(), Some("rsna"));
    assert_eq!(row(&imported, "MIDRC-1.png").split, Split::Test);
    assert_eq!(class(&imported, "lung-a-day0.jpeg"), "infected");
    assert_eq!(class(&imported, "0a1b-90.png"), "normal");
    dropped(&imported, "0a1b-77.png", "repeats an earlier row");
    dropped(&imported, "gone.png", "not there");
    warned(&imported, "`rnsa` was read as `rsna`, 1 times");
    warned(&imported, "1 lines are not `patientid filename label [source]`");
    warned(&imported, "the first being line 10");
    warned(&imported, "not provable");
    warned(&imported, "in the test images the source alone tells the class (infected from ricord, normal from rsna)");
    assert!(!imported.manifest.warnings.iter().any(|warning| warning.contains("in the train images")));
}

#[test]
fn covidx_b_calls_other_pneumonias_negative() {
    let images =
        ["train/MIDRC-1.png", "train/MIDRC-2.png", "train/0a1b-90.png", "test/MIDRC-3.png", "test/0a1b-91.png"];
    let dir = collection("covidx-b", &images);
    let two = imported(dir.path(), Kind::Covidx);
    assert_eq!(two.manifest.classes, ["infected"]);
    dropped(&two, "0a1b-90.png", "no rule for `COVID-19 negative`");
    warned(&two, "`negative`, which in these lists is normal or another pneumonia");
    let rules = "[[class]]\nname = \"positive\"\nfindings = [\"COVID-19\"]\n[[class]]\nname = \"negative\"\n\
                 findings = [\"COVID-19 negative\"]\n";
    let own = imported_by(dir.path(), Kind::Covidx, &Rules::parse(Path::new("r.toml"), rules).unwrap());
    assert_eq!(own.manifest.classes, ["negative", "positive"]);
    assert_eq!(own.manifest.rows.len(), 5);
    warned(&own, "in the train images the source alone tells the class");
    // Two lists of one split: the user says which.
    fs::copy(dir.path().join("train.txt"), dir.path().join("train_COVIDx9B.txt")).unwrap();
    assert!(matches!(Manifest::open(dir.path()), Err(DataError::SeveralLists { .. })));
    let list = Manifest::open(&dir.path().join("train.txt")).unwrap();
    assert_eq!(list.rows.len(), 2);
    assert!(list.rows.iter().all(|row| row.split == Split::Train));
}

#[test]
fn early_columns_of_the_covid_chestxray_dataset() {
    let names = ["first-day0.jpeg", "first-day3.jpeg", "first-slice.jpg", "second-L.jpeg", "third.png", "fourth.png"];
    let files: Vec<String> = names.iter().map(|name| format!("images/{name}")).collect();
    let dir = collection("covid-chestxray-early", &files.iter().map(String::as_str).collect::<Vec<_>>());
    let imported = imported(dir.path(), Kind::CovidChestxray);
    assert_eq!(imported.manifest.rows.len(), 3);
    let day3 = row(&imported, "first-day3.jpeg");
    assert_eq!(day3.finding.as_deref(), Some("COVID-19, ARDS"));
    assert_eq!(
        (day3.patient_id.as_deref(), day3.age, day3.sex),
        (Some("covid-chestxray-2"), Some(65), Some(Sex::Male))
    );
    assert_eq!(class(&imported, "first-day3.jpeg"), "infected");
    assert_eq!(class(&imported, "third.png"), "normal");
    assert!(imported.manifest.rows.iter().all(|row| row.split == Split::Unassigned));
    dropped(&imported, "first-slice.jpg", "computed tomography");
    dropped(&imported, "second-L.jpeg", "view `L`");
    dropped(&imported, "fourth.png", "no rule for `SARS`");
    dropped(&imported, "not-there.png", "not there");
}

#[test]
fn late_columns_of_the_covid_chestxray_dataset() {
    let names = ["first.jpeg", "slice.jpeg", "healthy.jpeg", "unread.jpeg", "side.jpeg", "front.jpeg"];
    let mut files: Vec<String> = names.iter().map(|name| format!("images/{name}")).collect();
    files.push("volumes/volume.nii.gz".into());
    let dir = collection("covid-chestxray-late", &files.iter().map(String::as_str).collect::<Vec<_>>());
    let two = imported(dir.path(), Kind::CovidChestxray);
    assert_eq!(two.manifest.rows.len(), 3);
    assert_eq!(class(&two, "first.jpeg"), "infected");
    assert_eq!(
        (row(&two, "healthy.jpeg").age, row(&two, "healthy.jpeg").view.as_deref()),
        (Some(50), Some("AP Supine"))
    );
    dropped(&two, "slice.jpeg", "computed tomography");
    dropped(&two, "volume.nii.gz", "computed tomography");
    dropped(&two, "side.jpeg", "view `L`");
    dropped(&two, "unread.jpeg", "no rule for `todo`");
    let rules = "frontal_only = false\n[[class]]\nname = \"covid\"\nfindings = [\"COVID-19\"]\n[[class]]\n\
                 name = \"bacteria\"\nfindings = [\"Bacterial\"]\n[[class]]\nname = \"virus\"\nfindings = [\"Viral\"]\n";
    let more = imported_by(dir.path(), Kind::CovidChestxray, &Rules::parse(Path::new("r"), rules).unwrap());
    assert_eq!(more.manifest.classes, ["bacteria", "covid"]);
    assert_eq!(class(&more, "first.jpeg"), "covid");
    assert_eq!(class(&more, "side.jpeg"), "bacteria");
}

#[test]
fn figure1_has_no_file_names_and_is_no_utf8() {
    let images = [
        "images/COVID-00001.jpg",
        "images/COVID-00002.png",
        "images/COVID-00003a.jpg",
        "images/COVID-00003b.jpg",
        "images/COVID-00004.jpeg",
        "images/COVID-00005.jpg",
    ];
    let dir = collection("figure1", &images);
    let imported = imported(dir.path(), Kind::Figure1);
    assert_eq!(imported.manifest.rows.len(), 5);
    // The letter numbers the image, not the patient.
    for name in ["COVID-00003a.jpg", "COVID-00003b.jpg"] {
        assert_eq!(row(&imported, name).patient_id.as_deref(), Some("figure1-COVID-00003"));
    }
    assert_eq!(row(&imported, "COVID-00002.png").age, Some(50));
    assert_eq!(class(&imported, "COVID-00004.jpeg"), "normal");
    dropped(&imported, "COVID-00005", "no finding is given");
    warned(&imported, "ISO-8859-1");
}

#[test]
fn actualmed_leaves_inconclusive_images_open() {
    let images =
        ["images/CR.1.2.840.1.png", "images/CR.1.2.840.2.png", "images/CR.1.2.840.3.png", "images/CR.1.2.840.4.png"];
    let dir = collection("actualmed", &images);
    let imported = imported(dir.path(), Kind::Actualmed);
    assert_eq!(imported.manifest.rows.len(), 3);
    assert_eq!(class(&imported, "CR.1.2.840.2.png"), "normal");
    // One patient, ill and well again.
    assert_eq!(row(&imported, "CR.1.2.840.3.png").patient_id, row(&imported, "CR.1.2.840.4.png").patient_id);
    assert_ne!(class(&imported, "CR.1.2.840.3.png"), class(&imported, "CR.1.2.840.4.png"));
    dropped(&imported, "CR.1.2.840.1.png", "no finding is given");
}

#[test]
fn rsna_has_a_row_for_each_box_and_ids_of_images() {
    let ids = ["0004cfab-14fd", "00313ee0-9eaa", "00436515-870c", "00704310-78a8"];
    let files: Vec<String> = ids.iter().map(|id| format!("stage_2_train_images/{id}.png")).collect();
    let dir = collection("rsna", &files.iter().map(String::as_str).collect::<Vec<_>>());
    let two = imported(dir.path(), Kind::Rsna);
    assert_eq!((two.named[0], two.manifest.rows.len()), (4, 3));
    assert_eq!(class(&two, "00436515-870c.png"), "infected");
    assert_eq!(class(&two, "00313ee0-9eaa.png"), "normal");
    dropped(&two, "0004cfab-14fd", "no rule for `No Lung Opacity, Not Normal`");
    warned(&two, "1 further rows are further boxes");
    warned(&two, "not provable");
    assert!(two.manifest.rows.iter().all(|row| row.patient_id.is_none()));
    // Without the classes, what is no pneumonia may be anything.
    fs::remove_file(dir.path().join("stage_2_detailed_class_info.csv")).unwrap();
    let one = imported(dir.path(), Kind::Rsna);
    assert_eq!(one.manifest.classes, ["infected"]);
    dropped(&one, "00313ee0-9eaa", "no finding is given");
}

#[test]
fn nih_joins_its_labels_and_scatters_its_images() {
    let images = [
        "images_001/images/00000193_019.png",
        "images_001/images/00000193_020.png",
        "images_001/images/00000218_000.png",
        "images_012/images/00011973_002.png",
        "images_012/images/00030800_000.png",
    ];
    let dir = collection("nih", &images);
    let table = dir.path().join("Data_Entry_2017.csv");
    let text = fs::read_to_string(&table).unwrap();
    fs::write(&table, text.replacen("058Y,M,", "058Y,X,", 1)).unwrap();
    let imported = imported(dir.path(), Kind::Nih);
    let pneumonia = row(&imported, "00000193_019.png");
    assert_eq!(pneumonia.finding.as_deref(), Some("Infiltration, Pneumonia"));
    assert_eq!((pneumonia.patient_id.as_deref(), pneumonia.age), (Some("nih-00000193"), Some(58)));
    assert_eq!((pneumonia.split, class(&imported, "00000193_019.png")), (Split::Train, "infected"));
    assert_eq!(row(&imported, "00000218_000.png").age, Some(1));
    assert_eq!((row(&imported, "00011973_002.png").age, row(&imported, "00011973_002.png").split), (None, Split::Test));
    dropped(&imported, "00000193_020.png", "no rule for `Infiltration`");
    warned(&imported, "1 age cannot be");
    warned(&imported, "1 entry of the column sex is none of F, M and O");
    warned(&imported, "--keep-test");
}

const CHEXPERT: [&str; 6] = [
    "train/patient00001/study1/view1_frontal.jpg",
    "train/patient00001/study1/view2_lateral.jpg",
    "train/patient00002/study2/view1_frontal.jpg",
    "train/patient00003/study1/view1_frontal.jpg",
    "train/patient00004/study1/view1_frontal.jpg",
    "valid/patient64541/study1/view1_frontal.jpg",
];

#[test]
fn chexpert_is_uncertain_and_has_its_patients_in_paths() {
    let dir = collection("chexpert", &CHEXPERT);
    let two = imported(dir.path(), Kind::Chexpert);
    assert_eq!(two.manifest.rows.len(), 3);
    let normal = row(&two, CHEXPERT[0]);
    assert_eq!(
        (normal.patient_id.as_deref(), normal.age, normal.sex),
        (Some("chexpert-00001"), Some(68), Some(Sex::Female))
    );
    assert_eq!((class(&two, CHEXPERT[0]), class(&two, CHEXPERT[2])), ("normal", "infected"));
    assert_eq!((row(&two, CHEXPERT[5]).split, row(&two, CHEXPERT[2]).view.as_deref()), (Split::Validation, Some("PA")));
    dropped(&two, CHEXPERT[1], "view `Lateral`");
    dropped(&two, CHEXPERT[3], "`Pneumonia` is uncertain");
    dropped(&two, CHEXPERT[4], "no rule for `Edema`");
    warned(&two, "1 entry of the column sex is none of F, M and O");
    let rules = "uncertain = \"positive\"\n[[class]]\nname = \"pneumonia\"\nfindings = [\"Pneumonia\"]\n[[class]]\n\
                 name = \"rest\"\nfindings = [\"No Finding\", \"Edema\"]\n";
    let more = imported_by(dir.path(), Kind::Chexpert, &Rules::parse(Path::new("r"), rules).unwrap());
    assert_eq!(class(&more, CHEXPERT[3]), "pneumonia");
    assert_eq!(class(&more, CHEXPERT[4]), "rest");
}

#[test]
fn mimic_labels_studies_and_splits_images() {
    let images = [
        "files/p10/p10000032/s50414267/02aa804e-bde0.jpg",
        "files/p10/p10000032/s50414267/174413ec-4ec4.jpg",
        "files/p11/p11000033/s53189527/2a2277a9-b0de.jpg",
        "files/p12/p12000764/s57375967/e084de3b-be89.jpg",
        "files/p13/p13000935/s50578979/68b5c4b1-227d.jpg",
    ];
    let dir = collection("mimic", &images);
    let imported = imported(dir.path(), Kind::Mimic);
    assert_eq!(imported.manifest.rows.len(), 2);
    assert_eq!((class(&imported, images[0]), row(&imported, images[0]).split), ("normal", Split::Train));
    assert_eq!((class(&imported, images[2]), row(&imported, images[2]).split), ("infected", Split::Validation));
    assert_eq!(row(&imported, images[0]).patient_id.as_deref(), Some("mimic-10000032"));
    dropped(&imported, "174413ec-4ec4.jpg", "view `LATERAL`");
    dropped(&imported, "e084de3b-be89.jpg", "`Pneumonia` is uncertain");
    dropped(&imported, "68b5c4b1-227d.jpg", "no finding is given");
    // As downloaded, the tables are packed.
    let table = dir.path().join("mimic-cxr-2.0.0-metadata.csv");
    fs::rename(&table, table.with_extension("csv.gz")).unwrap();
    assert!(Manifest::open(dir.path()).unwrap_err().to_string().contains("gunzip"));
}

#[test]
fn paediatric_file_names_hold_the_patients() {
    let dir = tempfile::tempdir().unwrap();
    let images = [
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/IM-0115-0001-0002.jpeg",
        "train/PNEUMONIA/person1946_bacteria_4874.jpeg",
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "val/PNEUMONIA/person1946_bacteria_4875.jpeg",
        "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
        "test/NORMAL/IM-0001-0001.jpeg",
        "train/NORMAL/.DS_Store",
    ];
    for image in images {
        let path = dir.path().join(image);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    let imported = imported(dir.path(), Kind::Paediatric);
    assert_eq!(imported.manifest.classes, ["infected", "normal"]);
    assert_eq!(imported.manifest.rows.len(), 8);
    let patient = |name: &str| row(&imported, name).patient_id.as_deref().unwrap();
    assert_eq!(patient(images[0]), patient(images[1]));
    // Training and validation share their numbers, and a child; the test has its own.
    assert_eq!(patient(images[2]), patient(images[4]));
    assert_ne!(patient(images[3]), patient(images[6]));
    assert_eq!(imported.manifest.patients_across_splits().len(), 1);
    assert_eq!(row(&imported, images[6]).finding.as_deref(), Some("PNEUMONIA/virus"));
    warned(&imported, "not provable");
    let kinds = "[[class]]\nname = \"bacteria\"\nfindings = [\"bacteria\"]\n[[class]]\nname = \"virus\"\nfindings = [\"virus\"]\n\
                 [[class]]\nname = \"normal\"\nfindings = [\"NORMAL\"]\n";
    let three = imported_by(dir.path(), Kind::Paediatric, &Rules::parse(Path::new("r"), kinds).unwrap());
    assert_eq!(three.manifest.classes, ["bacteria", "normal", "virus"]);
    // A table of the user's own wins.
    fs::write(dir.path().join("manifest.csv"), "path\n").unwrap();
    assert_eq!(Manifest::open(dir.path()).unwrap().classes, ["NORMAL", "PNEUMONIA"]);
}

#[test]
fn a_published_collection_opens_where_it_lies() {
    let dir = collection("chexpert", &CHEXPERT);
    let manifest = Manifest::open(dir.path()).unwrap();
    assert_eq!(manifest.rows.len(), 3);
    assert_eq!(manifest.rows[0].path, PathBuf::from(CHEXPERT[2]));
    let said = &manifest.warnings[0];
    for word in ["chexpert, 3 of 6 images", "view `Lateral`: 1", "`Pneumonia` is uncertain: 1"] {
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn several_sources_become_one() {
    let chexpert = collection("chexpert", &CHEXPERT);
    let actualmed = collection("actualmed", &["images/CR.1.2.840.2.png", "images/CR.1.2.840.3.png"]);
    let ours = tempfile::tempdir().unwrap();
    fs::write(ours.path().join("a.png"), b"").unwrap();
    fs::write(ours.path().join("list.csv"), "path,label,patient_id,split\na.png,normal,me,test\n").unwrap();
    let list = ours.path().join("list.csv");
    let sources =
        [chexpert.path(), actualmed.path(), list.as_path(), list.as_path()].map(|place| Source::detect(place).unwrap());
    let merged = import(&sources, &Rules::default()).unwrap();
    assert_eq!(merged.kept, [3, 2, 1, 0]);
    assert_eq!(merged.named, [6, 4, 1, 1]);
    assert_eq!(merged.manifest.classes, ["infected", "normal"]);
    assert!((0..6).all(|row| merged.manifest.path_of(row).is_file()));
    assert_eq!(merged.reasons(3), [("stands in an earlier source already", 1)]);
    assert_eq!(row(&merged, "a.png").patient_id.as_deref(), Some("me"));
    let covidx = collection("covidx-b", &["train/MIDRC-1.png"]);
    let sources = [covidx.path(), actualmed.path()].map(|place| Source::detect(place).unwrap());
    warned(&import(&sources, &Rules::default()).unwrap(), "covidx and actualmed hold the same radiographs");
}

#[test]
fn a_row_that_names_no_file_is_counted() {
    // The column that names the image, and, of RSNA, how many rows are no image of their own.
    let tables = [
        ("nih", "Data_Entry_2017.csv", "Image Index", Kind::Nih),
        ("chexpert", "train.csv", "Path", Kind::Chexpert),
        ("covid-chestxray-late", "metadata.csv", "filename", Kind::CovidChestxray),
        ("actualmed", "metadata.csv", "imagename", Kind::Actualmed),
        ("figure1", "metadata.csv", "patientid", Kind::Figure1),
        ("mimic", "mimic-cxr-2.0.0-metadata.csv", "dicom_id", Kind::Mimic),
        ("rsna", "stage_2_train_labels.csv", "patientId", Kind::Rsna),
    ];
    let rules = "[[class]]\nname = \"all\"\nfindings = [\"x\"]\n";
    let rules = Rules::parse(Path::new("r.toml"), rules).unwrap();
    for (fixture, table, column, kind) in tables {
        let dir = collection(fixture, &[]);
        let file = dir.path().join(table);
        let named = || match import(&[Source { kind: Some(kind), place: dir.path().to_owned() }], &rules) {
            Err(DataError::NothingImported { named, reasons, .. }) => (named, reasons),
            other => panic!("{fixture}: {other:?}"),
        };
        let (before, _) = named();
        // As the last row, without its name.
        let text: String = fs::read(&file).unwrap().into_iter().map(char::from).collect();
        let header: Vec<&str> =
            text.lines().next().unwrap().trim_start_matches("\u{ef}\u{bb}\u{bf}").split(',').collect();
        let place = header.iter().position(|name| name.trim_matches('"').eq_ignore_ascii_case(column)).unwrap();
        let row: Vec<&str> = (0..header.len()).map(|index| if index == place { "" } else { "1" }).collect();
        fs::write(&file, format!("{}\n{}\n", text.trim_end(), row.join(","))).unwrap();
        let (after, reasons) = named();
        assert_eq!(after, before + 1, "{fixture}");
        assert!(reasons.contains("1 because its row names no file"), "{fixture}: {reasons}");
    }
}

#[test]
fn a_table_has_no_say_over_files_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("in/mylist.txt");
    for file in ["in/images/a.png", "outside.png"] {
        fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        fs::write(dir.path().join(file), b"").unwrap();
    }
    let outside = dir.path().join("outside.png");
    let lines = ["a.png", "../outside.png", outside.to_str().unwrap(), &outside.to_str().unwrap()[1..]];
    let lines = lines.map(|file| format!("1 {file} normal cohen\n"));
    fs::write(&list, lines.concat()).unwrap();
    let imported = import(&[Source::detect(&list).unwrap()], &Rules::default()).unwrap();
    assert_eq!((imported.named[0], imported.kept[0]), (4, 1));
    assert_eq!(imported.reasons(0), [("the image file is not there", 3)]);
}

#[test]
fn a_patient_of_two_tables_is_one_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for hospital in ["a", "b"] {
        fs::write(dir.path().join(format!("{hospital}.png")), b"").unwrap();
        let table = format!("path,label,patient_id\n{hospital}.png,normal,1\n");
        fs::write(dir.path().join(format!("{hospital}.csv")), table).unwrap();
    }
    let sources = ["a.csv", "b.csv"].map(|name| Source::detect(&dir.path().join(name)).unwrap());
    warned(&import(&sources, &Rules::default()).unwrap(), "1 patient stands in more than one of ");
    let alone = import(&sources[..1], &Rules::default()).unwrap();
    assert!(alone.manifest.warnings.is_empty(), "{:?}", alone.manifest.warnings);
}

#[test]
fn what_cannot_be_imported() {
    // No image is there.
    let text = Manifest::open(collection("nih", &[]).path()).unwrap_err().to_string();
    assert!(text.contains("none of the 5 images") && text.contains("4 because the image file is not there"), "{text}");
    // No rule maps a finding.
    let dir = collection("actualmed", &["images/CR.1.2.840.3.png"]);
    let rules = Rules::parse(Path::new("r"), "[[class]]\nname = \"x\"\nfindings = [\"Edema\"]").unwrap();
    let text = import(&[Source::detect(dir.path()).unwrap()], &rules).unwrap_err().to_string();
    assert!(text.contains("no rule for `COVID-19`") && text.contains("--rules"), "{text}");
    // A column is gone.
    let file = dir.path().join("metadata.csv");
    let table = fs::read_to_string(&file).unwrap().replace("finding,", "diagnosis,");
    fs::write(&file, table).unwrap();
    let source = Source { kind: Some(Kind::Actualmed), place: dir.path().to_owned() };
    let text = import(&[source], &rules).unwrap_err().to_string();
    assert!(text.contains("metadata.csv: no column `finding`") && text.contains("`diagnosis`"), "{text}");
    // Two rows of one image that contradict each other.
    let dir = collection("actualmed", &["images/CR.1.2.840.2.png", "images/CR.1.2.840.3.png"]);
    let file = dir.path().join("metadata.csv");
    let table = fs::read_to_string(&file).unwrap() + "ANON9,,,,COVID-19,,,,PA,X-ray,CR.1.2.840.2.png,,\n";
    fs::write(&file, table).unwrap();
    let contradicted = imported(dir.path(), Kind::Actualmed);
    assert_eq!(contradicted.manifest.rows.len(), 1);
    assert_eq!(contradicted.dropped.iter().filter(|dropped| dropped.reason.contains("different things")).count(), 2);
}

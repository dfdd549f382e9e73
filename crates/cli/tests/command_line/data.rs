//! `roentgen data`: published tables in, splits by whole patients, and a table that trains.

use crate::support::*;
use std::fs;
use std::path::Path;

/// Actualmed's table, in small, and its images.
fn actualmed(folder: &Path) {
    let images = folder.join("actualmed/images");
    fs::create_dir_all(&images).unwrap();
    let mut table = "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,imagename,\
                     artifacts/distortion,notes\n"
        .to_owned();
    for index in 0..24 {
        let finding = ["COVID-19", "No finding", ""][if index < 22 { index % 2 } else { 2 }];
        table += &format!("ANON{},,M,50+,{finding},,,,PA,X-ray,{index:02}.png,,\"a, b\"\n", index / 2 % 9);
        disc(&images.join(format!("{index:02}.png")), finding == "COVID-19", index);
    }
    fs::write(folder.join("actualmed/metadata.csv"), table).unwrap();
}

#[test]
fn from_a_published_data_set_to_a_trained_model() {
    let folder = scratch();
    actualmed(folder.path());
    let import = ["data", "import", "actualmed", "actualmed", "--out", "tables/all.csv", "--dropped", "dropped.csv"];
    fs::create_dir(folder.path().join("tables")).unwrap();
    assert_snapshot("data_import", &roentgen(folder.path(), &import).succeeds());
    let dropped = fs::read_to_string(folder.path().join("dropped.csv")).unwrap();
    assert_eq!(
        dropped,
        "source,image,reason\nactualmed,22.png,no finding is given\nactualmed,23.png,no finding is given\n"
    );
    let table = fs::read_to_string(folder.path().join("tables/all.csv")).unwrap();
    assert!(table.starts_with("path,label,finding,patient_id,source,view,age,sex\n"), "{table}");
    assert!(
        table.contains("../actualmed/images/00.png,infected,COVID-19,actualmed-ANON0,Actualmed,PA,50,M\n"),
        "{table}"
    );
    // A table is not written over.
    roentgen(folder.path(), &import).fails(2, &["--out tables/all.csv: exists already"]);

    train(folder.path(), &["--data", "tables/all.csv", "--out", "run", "--epochs", "1"])
        .fails(1, &["tables/all.csv: no image is in a split", "roentgen data split tables/all.csv", "--folds"]);
    let split =
        ["data", "split", "tables/all.csv", "--ratios", "0.6,0.2,0.2", "--seed", "3", "--out", "tables/all.csv"];
    assert_snapshot("data_split", &roentgen(folder.path(), &split).succeeds());
    train(folder.path(), &["--data", "tables/all.csv", "--out", "run", "--epochs", "1"]).succeeds();
    roentgen(folder.path(), &["evaluate", "run"]).succeeds();
    let predictions = fs::read_to_string(folder.path().join("run/predictions-test.csv")).unwrap();
    assert!(predictions.contains("actualmed-ANON"), "{predictions}");

    // Where it lies, it is known by its files.
    let answer = train(folder.path(), &["--data", "actualmed", "--out", "other", "--epochs", "1"]);
    let answer = answer.fails(1, &["warning: actualmed: actualmed, 22 of 24 images", "no finding is given: 2"]);
    assert!(answer.stderr.contains("no image is in a split"), "{}", answer.stderr);
}

#[test]
fn folds_are_tables_and_names_tell_patients() {
    let folder = scratch();
    let data = data_set(folder.path());
    for split in ["train", "validation", "test"] {
        for class in ["infected", "normal"] {
            for entry in fs::read_dir(data.join(split).join(class)).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let index: usize = name[..2].parse().unwrap();
                fs::rename(entry.path(), entry.path().with_file_name(format!("{:08}_{split}{name}", index / 2)))
                    .unwrap();
            }
        }
    }
    let split = ["data", "split", "data", "--folds", "3", "--patient-pattern", r"^(\d{8})_", "--out", "cv.csv"];
    let answer = roentgen(folder.path(), &split).succeeds();
    assert!(answer.stderr.contains("patients of 40 of 40 images"), "{}", answer.stderr);
    let tested = |fold: usize| -> Vec<String> {
        let table = fs::read_to_string(folder.path().join(format!("cv-{fold}.csv"))).unwrap();
        table
            .lines()
            .filter(|line| line.contains(",test,"))
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect()
    };
    let mut all: Vec<String> = (1..=3).flat_map(tested).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
    // The same seed gives the same bytes.
    let first = fs::read(folder.path().join("cv-1.csv")).unwrap();
    (1..=3).for_each(|fold| fs::remove_file(folder.path().join(format!("cv-{fold}.csv"))).unwrap());
    roentgen(folder.path(), &split).succeeds();
    assert_eq!(fs::read(folder.path().join("cv-1.csv")).unwrap(), first);
}

#[test]
fn calls_that_cannot_be() {
    let folder = scratch();
    data_set(folder.path());
    let call = |arguments: &[&str], code, words: &[&str]| {
        let before = contents(folder.path());
        roentgen(folder.path(), arguments).fails(code, words);
        assert_same(&before, &contents(folder.path()));
    };
    call(&["data", "split", "data", "--ratios", "0.7,0.2", "--out", "a.csv"], 2, &["three numbers"]);
    call(&["data", "split", "data", "--ratios", "0.7,0.2,0.2", "--out", "a.csv"], 2, &["0.7,0.2,0.2", "sum to 1"]);
    call(&["data", "split", "data", "--folds", "2", "--out", "a.csv"], 2, &["at least 3"]);
    call(&["data", "split", "data", "--folds", "3", "--out", "a.txt"], 2, &["a .csv file"]);
    call(&["data", "split", "gone", "--folds", "3", "--out", "a.csv"], 2, &["gone: no such folder"]);
    let pattern = ["data", "split", "data", "--folds", "3", "--patient-pattern", "(", "--out", "a.csv"];
    call(&pattern, 2, &["the pattern of patients"]);
    let pattern = ["data", "split", "data", "--folds", "3", "--patient-pattern", "^x", "--out", "a.csv"];
    call(&pattern, 2, &["matches no file name", "00.png"]);
    call(&["data", "import", "nih", "--out", "a.csv"], 2, &["nih DIR"]);
    call(&["data", "import", "nhi=data", "--out", "a.csv"], 2, &["nhi", "covidx, covid-chestxray"]);
    call(&["data", "import", "nih", "data", "--out", "a.csv"], 1, &["data: no Data_Entry_2017.csv"]);
    fs::write(folder.path().join("rules.toml"), "[[clas]]").unwrap();
    call(&["data", "import", "data", "--rules", "rules.toml", "--out", "a.csv"], 2, &["rules.toml", "clas"]);
}

#[test]
fn a_folder_of_class_folders_is_split_and_trained_on() {
    let folder = scratch();
    let classes = folder.path().join("xrays");
    for class in ["infected", "normal"] {
        fs::create_dir_all(classes.join(class).join("more")).unwrap();
        for index in 0..12 {
            let place = if index % 2 == 0 { "" } else { "more" };
            disc(&classes.join(class).join(place).join(format!("{index:02}.png")), class == "infected", index);
        }
    }
    fs::create_dir(classes.join("notes")).unwrap();
    train(folder.path(), &["--data", "xrays", "--out", "run"])
        .fails(1, &["xrays: no image is in a split", "roentgen data split xrays", "--folds"]);
    let split = ["data", "split", "xrays", "--ratios", "0.5,0.25,0.25", "--out", "all.csv"];
    let answer = roentgen(folder.path(), &split).succeeds();
    assert!(answer.stdout.starts_with("              infected    normal    images"), "{}", answer.stdout);
    train(folder.path(), &["--data", "all.csv", "--out", "run", "--epochs", "1"]).succeeds();
    // A folder of data sets is none.
    fs::create_dir_all(folder.path().join("several")).unwrap();
    data_set(&folder.path().join("several"));
    fs::rename(&classes, folder.path().join("several/xrays")).unwrap();
    roentgen(folder.path(), &["audit", "--data", "several"]).fails(1, &["several: no split folder", "CLASS/ folders"]);
}

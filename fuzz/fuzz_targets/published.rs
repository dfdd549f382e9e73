//! Published data sets whose table is any bytes: the first byte says which, the rest is the table. MIMIC-CXR has three, with a
//! zero byte between them; the paediatric set has none, and its bytes are the names of files. Opening answers or gives an error
//! that names the folder.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use roentgen_data::sources::Kind;
use roentgen_data::{Rules, Source, import};

const TABLES: [(Kind, &str); 9] = [
    (Kind::Covidx, "train.txt"),
    (Kind::CovidChestxray, "metadata.csv"),
    (Kind::Figure1, "metadata.csv"),
    (Kind::Actualmed, "metadata.csv"),
    (Kind::Rsna, "stage_2_train_labels.csv"),
    (Kind::Nih, "Data_Entry_2017.csv"),
    (Kind::Chexpert, "train.csv"),
    (Kind::Mimic, "mimic-cxr-2.0.0-metadata.csv"),
    (Kind::Paediatric, "PNEUMONIA"),
];

/// The other two tables of MIMIC-CXR.
const FURTHER: [&str; 2] = ["mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.0.0-split.csv"];

/// Files of the paediatric set, whose names are lines; what no file can be called is left out.
fn write_names(folder: &Path, names: &[u8]) {
    let place = folder.join("train/PNEUMONIA");
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).expect("a folder can be made");
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_. ".contains(byte);
    for name in names.split(|&byte| byte == b'\n').take(8) {
        let name: String = name.iter().filter(|byte| is_name(byte)).take(60).map(|&byte| char::from(byte)).collect();
        if !name.trim_matches('.').is_empty() {
            fs::write(place.join(name), b"").expect("a file can be written");
        }
    }
}

/// One folder a process, in memory where the system has such a place; `images/a.png` is there for tables that name it.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = base.join(format!("roentgen-fuzz-{}", std::process::id()));
    fs::create_dir_all(folder.join("images")).expect("a folder for temporary files can be made");
    fs::write(folder.join("images/a.png"), b"").expect("and written to");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, table)) = bytes.split_first() else { return };
    let (kind, name) = TABLES[usize::from(first) % TABLES.len()];
    let folder = FOLDER.join(kind.name());
    if !folder.is_dir() {
        fs::create_dir_all(folder.join("images")).expect("a folder can be made");
        fs::write(folder.join("images/a.png"), b"").expect("and written to");
    }
    match kind {
        Kind::Paediatric => write_names(&folder, table),
        Kind::Mimic => {
            let mut tables = table.splitn(3, |&byte| byte == 0);
            for name in [name].into_iter().chain(FURTHER) {
                fs::write(folder.join(name), tables.next().unwrap_or_default()).expect("the table can be written");
            }
        }
        _ => fs::write(folder.join(name), table).expect("the table can be written"),
    }
    let _ = Kind::detect(&folder);
    match import(&[Source { kind: Some(kind), place: folder.clone() }], &Rules::default()) {
        Ok(imported) => {
            assert_eq!(imported.named[0], imported.kept[0] + imported.dropped.len(), "an image was lost");
            assert_eq!(imported.kept[0], imported.manifest.rows.len());
        }
        Err(error) => assert!(error.to_string().contains(kind.name()), "{error}"),
    }
});

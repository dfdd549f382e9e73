//! Experiments: named rows over a common base, as a TOML file.
//!
//! ```toml
//! format_version = 1
//! title = "What to unfreeze"
//! seeds = [0, 1, 2]                 # each row once a seed; where absent, once with the base's
//! folds = 5                         # cross-validation in place of the data's own splits; optional
//!
//! [base.network]                    # any setting of config.toml
//! architecture = "resnet18"
//!
//! [[row]]
//! name = "head"                     # of its folder
//! title = "ResNet-18, head only"    # in tables; the name where absent
//! freeze.unfreeze = ["head"]        # any setting of config.toml, over the base
//! ```

use crate::config::{CrossValidation, DataSettings, EngineSettings, FreezeSettings, NetworkSettings, TrainingSettings};
use crate::error::with_nearest_name;
use crate::{Config, FORMAT_VERSION, RunError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// The longest name of a row.
const LONGEST_NAME: usize = 60;

/// An experiment as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// What it is called.
    pub title: String,
    /// How it departs from what it repeats, in words, one sentence each.
    pub deviations: Vec<String>,
    /// Seeds; each row is trained once with each.
    pub seeds: Vec<u64>,
    /// Folds of a cross-validation; each row is trained once with each held out.
    pub folds: Option<usize>,
    /// What all rows have in common.
    pub base: Config,
    /// The rows in the order of the tables.
    pub rows: Vec<Row>,
}

/// One row of the tables: a setting of everything, trained once a seed and fold.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Letters, digits, `.`, `_` and `-`; no two rows have the same.
    pub name: String,
    /// How tables call it.
    pub title: String,
    /// What was published for it elsewhere, to stand beside.
    pub published: Option<Published>,
    /// Settings that it puts over the base.
    overrides: Table,
}

/// Figures that somebody else reported for a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Accuracy in `[0, 1]`.
    pub accuracy: f64,
    /// F1 in `[0, 1]`, and of which class.
    pub f1: f64,
    /// The class whose F1 that is.
    pub f1_class: String,
    /// Rows actual, columns predicted.
    pub confusion_matrix: Vec<Vec<u64>>,
}

/// One training run of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRun {
    /// Index of its row.
    pub row: usize,
    /// The fold that is held out, from 1.
    pub fold: Option<usize>,
    /// Name of its folder in the experiment's `runs/`.
    pub folder: String,
    /// All its settings.
    pub config: Config,
}

/// Settings that decide what rows are compared on, or how the program runs: they stand in the base alone.
const NOT_OF_A_ROW: [&str; 8] = [
    "data.root",
    "data.positive",
    "data.cross_validation",
    "engine.device",
    "engine.threads",
    "engine.memory_limit_mib",
    "engine.cache_limit_mib",
    // The experiment's `seeds` decide.
    "training.seed",
];

/// What stands in the file, to be told of unknown keys and wrong types with their lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[allow(dead_code)]
    format_version: u32,
    title: Option<String>,
    #[serde(default)]
    deviations: Vec<String>,
    seeds: Option<Vec<u64>>,
    folds: Option<usize>,
    #[allow(dead_code)]
    base: Option<Settings>,
    row: Vec<RowInFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Settings {
    data: Option<DataSettings>,
    network: Option<NetworkSettings>,
    freeze: Option<FreezeSettings>,
    training: Option<TrainingSettings>,
    engine: Option<EngineSettings>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct RowInFile {
    name: String,
    title: Option<String>,
    published: Option<Published>,
    data: Option<DataSettings>,
    network: Option<NetworkSettings>,
    freeze: Option<FreezeSettings>,
    training: Option<TrainingSettings>,
    engine: Option<EngineSettings>,
}

const EXPECTED: &str = "an experiment: format_version = 1, [base.*] tables of settings, and [[row]] tables with a name";

impl Experiment {
    /// Reads an experiment.
    ///
    /// # Errors
    /// Where the file cannot be read, holds an unknown key or a wrong value (with the line), has no rows or two of one
    /// name, or states a newer format version.
    pub fn read(path: &Path) -> Result<Experiment, RunError> {
        let text = std::fs::read_to_string(path).map_err(RunError::io(path, "read"))?;
        Experiment::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Experiment, RunError> {
        let malformed = |found: String| RunError::malformed(path, with_nearest_name(found), EXPECTED);
        let table: Table = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        match table.get("format_version").and_then(Value::as_integer) {
            Some(version) if version > i64::from(FORMAT_VERSION) => {
                let found = u32::try_from(version).unwrap_or(u32::MAX);
                return Err(RunError::NewerFormat { path: path.to_owned(), found, supported: FORMAT_VERSION });
            }
            _ => {}
        }
        let file: File = toml::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if file.row.is_empty() {
            return Err(malformed("no row".into()));
        }
        let mut rows: Vec<Row> = Vec::new();
        let tables = table.get("row").and_then(Value::as_array).expect("the file has rows, as parsed above");
        for (row, table) in file.row.into_iter().zip(tables) {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let is_name = row.name.chars().all(fits) && !row.name.starts_with('.');
            if row.name.is_empty() || row.name.len() > LONGEST_NAME || !is_name {
                let name = row.name;
                return Err(malformed(format!(
                    "a row is called `{name}`, where letters, digits, `.`, `_` and `-` are needed, at most {LONGEST_NAME}"
                )));
            }
            // Folders of some systems do not tell upper from lower case.
            if rows.iter().any(|known| known.name.eq_ignore_ascii_case(&row.name)) {
                return Err(malformed(format!(
                    "two rows are called `{}`, where each needs a name of its own",
                    row.name
                )));
            }
            let mut overrides = table.as_table().cloned().unwrap_or_default();
            for key in ["name", "title", "published"] {
                overrides.remove(key);
            }
            if let Some(key) = NOT_OF_A_ROW.into_iter().find(|key| has(&overrides, key)) {
                return Err(malformed(format!(
                    "row `{}` sets {key}, which the rows of one experiment share: set it under [base]",
                    row.name
                )));
            }
            rows.push(Row {
                title: row.title.unwrap_or_else(|| row.name.clone()),
                name: row.name,
                published: row.published,
                overrides,
            });
        }
        let mut base = Value::try_from(Config::default()).map_err(|e| malformed(e.to_string()))?;
        if let Some(given) = table.get("base") {
            put_over(&mut base, given);
        }
        let title = file.title.unwrap_or_else(|| path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        let base: Config = base.try_into().map_err(|e: toml::de::Error| malformed(e.to_string()))?;
        let seeds = file.seeds.unwrap_or_else(|| vec![base.training.seed]);
        if seeds.is_empty() || (1..seeds.len()).any(|index| seeds[..index].contains(&seeds[index])) {
            return Err(malformed(format!("seeds = {seeds:?}, where at least one is needed and each once")));
        }
        Ok(Experiment { title, deviations: file.deviations, seeds, folds: file.folds, base, rows })
    }

    /// An experiment made by a program: rows differ in what they train.
    pub fn over_freeze_plans(
        title: String,
        seeds: Vec<u64>,
        base: Config,
        plans: Vec<(String, Vec<String>)>,
    ) -> Experiment {
        let rows = plans.into_iter().map(|(name, unfreeze)| {
            let names = unfreeze.iter().cloned().map(Value::String).collect();
            let freeze = Table::from_iter([("unfreeze".to_owned(), Value::Array(names))]);
            let overrides = Table::from_iter([("freeze".to_owned(), Value::Table(freeze))]);
            Row { name, title: unfreeze.join(", "), published: None, overrides }
        });
        Experiment { title, deviations: Vec::new(), seeds, folds: None, base, rows: rows.collect() }
    }

    /// Whether every row sets a setting, named as in `config.toml` (`training.epochs`), so that the base has no say.
    pub fn every_row_sets(&self, name: &str) -> bool {
        self.rows.iter().all(|row| has(&row.overrides, name))
    }

    /// The settings of a row, without seed and fold.
    pub fn config_of(&self, row: usize) -> Config {
        let mut config = Value::try_from(&self.base).expect("a configuration holds nothing that TOML cannot say");
        put_over(&mut config, &Value::Table(self.rows[row].overrides.clone()));
        config
            .try_into()
            .expect("base and row were each read as settings; only a whole table replaces one of another kind")
    }

    /// Every training run: the rows in order, each with all its seeds and folds.
    pub fn runs(&self) -> Vec<PlannedRun> {
        let folds: Vec<Option<usize>> = match self.folds {
            Some(folds) => (1..=folds).map(Some).collect(),
            None => vec![None],
        };
        let mut runs = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let settings = self.config_of(index);
            for &seed in &self.seeds {
                for &fold in &folds {
                    let mut config = settings.clone();
                    // Always with the seed: an experiment that gets more of them finds its runs.
                    let mut folder = format!("{}-seed-{seed}", row.name);
                    if let (Some(fold), Some(folds)) = (fold, self.folds) {
                        folder += &format!("-fold-{fold}");
                        config.data.cross_validation = Some(CrossValidation { folds, held_out: fold, seed: 0 });
                    }
                    config.training.seed = seed;
                    runs.push(PlannedRun { row: index, fold, folder, config });
                }
            }
        }
        runs
    }

    /// The experiment as a file that reads back the same.
    pub fn to_toml(&self) -> String {
        let mut table = Table::new();
        table.insert("format_version".into(), Value::Integer(i64::from(FORMAT_VERSION)));
        table.insert("title".into(), Value::String(self.title.clone()));
        if !self.deviations.is_empty() {
            table.insert(
                "deviations".into(),
                Value::Array(self.deviations.iter().cloned().map(Value::String).collect()),
            );
        }
        let say = "an experiment holds nothing that TOML cannot say";
        table.insert("seeds".into(), Value::try_from(&self.seeds).expect(say));
        if let Some(folds) = self.folds {
            table.insert("folds".into(), Value::try_from(folds).expect(say));
        }
        let mut base = Value::try_from(&self.base).expect(say);
        base.as_table_mut().expect("a configuration is a table").remove("format_version");
        table.insert("base".into(), base);
        let rows = self.rows.iter().map(|row| {
            let mut entry = Table::new();
            entry.insert("name".into(), Value::String(row.name.clone()));
            entry.insert("title".into(), Value::String(row.title.clone()));
            if let Some(published) = &row.published {
                entry.insert("published".into(), Value::try_from(published).expect(say));
            }
            entry.extend(row.overrides.clone());
            Value::Table(entry)
        });
        table.insert("row".into(), Value::Array(rows.collect()));
        toml::to_string_pretty(&table).expect(say)
    }
}

/// Whether a table has a setting, named as in `config.toml`.
fn has(table: &Table, name: &str) -> bool {
    let mut parts = name.split('.');
    let first = parts.next().and_then(|part| table.get(part));
    parts.try_fold(first, |value, part| Some(value?.get(part))).flatten().is_some()
}

/// Puts the values of one table over those of another, deep. A table of another `kind` has settings of its own, and takes the
/// other's place.
fn put_over(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Table(below), Value::Table(above))
            if above.get("kind").is_none_or(|kind| below.get("kind") == Some(kind)) =>
        {
            for (key, value) in above {
                match below.get_mut(key) {
                    Some(known) => put_over(known, value),
                    None => {
                        below.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (below, above) => *below = above.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OneCycle, Schedule};

    const TEXT: &str = r#"
format_version = 1
seeds = [3, 4]

[base.training]
epochs = 7
learning_rate = 0.01

[[row]]
name = "head"

[[row]]
name = "vgg"
title = "VGG-16, everything"
network.architecture = "vgg16"
freeze.unfreeze = ["all"]
training.epochs = 2
"#;

    fn parse(text: &str) -> Result<Experiment, RunError> {
        Experiment::parse(Path::new("e.toml"), text)
    }

    #[test]
    fn rows_stand_over_the_base_and_the_base_over_the_defaults() {
        let experiment = parse(TEXT).unwrap();
        assert_eq!(experiment.title, "e");
        let (head, vgg) = (experiment.config_of(0), experiment.config_of(1));
        assert_eq!((head.training.epochs, vgg.training.epochs), (7, 2));
        assert_eq!((head.training.learning_rate, vgg.training.learning_rate), (0.01, 0.01));
        assert_eq!((head.training.momentum, head.network.architecture.as_str()), (0.9, "resnet18"));
        assert_eq!((vgg.network.architecture.as_str(), vgg.freeze.unfreeze.len()), ("vgg16", 1));
        let runs = experiment.runs();
        let names: Vec<&str> = runs.iter().map(|run| run.folder.as_str()).collect();
        assert_eq!(names, ["head-seed-3", "head-seed-4", "vgg-seed-3", "vgg-seed-4"]);
        assert_eq!(runs[3].config.training.seed, 4);
        let seed = TEXT.replace("seeds = [3, 4]", "").replace("learning_rate = 0.01", "seed = 6");
        assert_eq!(parse(&seed).unwrap().seeds, [6]);
        let mut narrow = experiment.clone();
        narrow.rows.remove(0);
        assert!(narrow.every_row_sets("training.epochs") && !experiment.every_row_sets("training.epochs"));
        assert!(!narrow.every_row_sets("training.momentum") && !narrow.every_row_sets("data.image_size"));
    }

    #[test]
    fn it_reads_back_what_it_writes() {
        let mut experiment = parse(TEXT).unwrap();
        experiment.folds = Some(3);
        experiment.deviations = vec!["Other images.".into()];
        experiment.rows[0].published = Some(Published {
            accuracy: 0.9,
            f1: 0.8,
            f1_class: "normal".into(),
            confusion_matrix: vec![vec![1, 2], vec![3, 4]],
        });
        assert_eq!(parse(&experiment.to_toml()).unwrap(), experiment);
        let runs = experiment.runs();
        assert_eq!(runs.len(), 12);
        assert_eq!(runs[1].folder, "head-seed-3-fold-2");
        assert_eq!(runs[1].config.data.cross_validation.unwrap().held_out, 2);
        let plans = vec![("a".to_owned(), vec!["layer4".to_owned(), "head".to_owned()])];
        let made = Experiment::over_freeze_plans("made".into(), vec![1], Config::default(), plans);
        assert_eq!(parse(&made.to_toml()).unwrap(), made);
        assert_eq!(made.config_of(0).freeze.unfreeze, ["layer4", "head"]);
    }

    #[test]
    fn a_schedule_of_another_kind_takes_the_place_of_the_base_s() {
        let step = "[base.training.schedule]\nkind = \"step\"\nevery_epochs = 2\n\n[base.training]\nepochs = 7";
        let text = TEXT.replace("[base.training]\nepochs = 7", step);
        let cosine = text.replace("training.epochs = 2", "training.schedule = { kind = \"cosine\" }");
        let experiment = parse(&cosine).unwrap();
        assert!(matches!(experiment.config_of(0).training.schedule, Schedule::Step { .. }));
        assert!(matches!(experiment.config_of(1).training.schedule, Schedule::Cosine { .. }));
        // A base that is changed afterwards leaves the row its own.
        let mut experiment = experiment;
        experiment.base.training.schedule = Schedule::OneCycle(OneCycle::default());
        assert!(matches!(experiment.runs()[3].config.training.schedule, Schedule::Cosine { .. }));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let refusal = |from: &str, to: &str| parse(&TEXT.replace(from, to)).unwrap_err().to_string();
        let unknown = refusal("epochs = 2", "epoch = 2");
        assert!(
            unknown.contains("e.toml") && unknown.contains("line 17") && unknown.contains("the nearest is `epochs`"),
            "{unknown}"
        );
        let wrong = refusal("epochs = 7", "epochs = \"seven\"");
        assert!(wrong.contains("line 6"), "{wrong}");
        assert!(refusal("name = \"vgg\"", "name = \"Head\"").contains("two rows are called `Head`"));
        assert!(refusal("name = \"vgg\"", "name = \"../vgg\"").contains("letters, digits"));
        assert!(refusal("seeds = [3, 4]", "seeds = [3, 3]").contains("each once"));
        assert!(refusal("format_version = 1", "format_version = 9\nnews = 1").contains("version 9"));
        assert!(refusal("[base.training]", "[base.train]").contains("the nearest is `training`"));
        assert!(refusal("training.epochs = 2", "training.seed = 2").contains("row `vgg` sets training.seed"));
        let threads = refusal("training.epochs = 2", "engine.threads = 2");
        assert!(threads.contains("row `vgg` sets engine.threads") && threads.contains("[base]"), "{threads}");
        assert!(parse("format_version = 1\nrow = []\n").unwrap_err().to_string().contains("no row"));
    }
}

//! The model card (Mitchell et al., "Model Cards for Model Reporting", 2019): what a model is, what it was made from, how good
//! it is, and what only people can say. Nothing in it is made up: what the run does not hold is said to be missing.

use crate::numerals::{counted, four_decimals, percent, thousands};
use crate::page::{notices, run_name};
use crate::scores::{evaluated_splits, headline, read_metrics};
use crate::settings::{DataCounts, Row, audit_command, commands, data_counts, environment_rows, settings};
use crate::{ReportError, templates};
use roentgen_eval::{Estimate, Metrics};
use roentgen_run::card::{CardStatements, QUESTIONS};
use roentgen_run::directory::write_atomically;
use roentgen_run::environment::{Environment, ImagesBySource};
use roentgen_run::{RunDirectory, RunError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

const PURPOSE: &str = "For research and engineering; not a medical device, and nothing that it says is a diagnosis.";

/// Version of `model-card.json`.
const FORMAT_VERSION: u32 = 1;

/// A model card as `model-card.json` holds it.
#[derive(Serialize)]
pub struct ModelCard {
    format_version: u32,
    name: String,
    architecture: String,
    classes: Vec<String>,
    purpose: &'static str,
    /// What a reader of any figure must have read before.
    notices: Vec<String>,
    /// What people say, by key of `card.toml`; `null` where it is still open.
    statements: BTreeMap<&'static str, Option<String>>,
    data: Option<Data>,
    /// `audit.json` as it is.
    audit: Option<serde_json::Value>,
    settings: Vec<Row>,
    /// The content of each `metrics-<split>.json`, by split.
    metrics: BTreeMap<String, Metrics>,
    limits: Vec<String>,
    /// The commands that make the model again.
    commands: Vec<String>,
}

/// What the model was trained, validated and tested on.
#[derive(Serialize)]
struct Data {
    fingerprint: Option<String>,
    /// Images by split and class.
    images: BTreeMap<String, BTreeMap<String, usize>>,
    /// Images by split, source and class.
    sources: Option<BTreeMap<String, ImagesBySource>>,
    /// Patients by split.
    patients: Option<BTreeMap<String, usize>>,
    patients_in_several_splits: Vec<String>,
    /// Images that could not be decoded and were left out.
    skipped_images: usize,
}

impl ModelCard {
    /// Keys of `card.toml` that nobody has answered yet.
    pub fn open_questions(&self) -> impl Iterator<Item = &'static str> {
        QUESTIONS.iter().map(|(key, _)| *key).filter(|key| self.statements.get(key).is_none_or(Option::is_none))
    }
}

/// Writes `model-card.md` and `model-card.json` from what the run directory holds, `card.toml` included, and returns
/// them with the card. Where there is no `card.toml`, one with open questions is written; one that is there is never
/// touched.
///
/// # Errors
/// Where a file of the run is there and cannot be read or is not of its form, or where the system refuses to write.
pub fn write_card(run: &RunDirectory) -> Result<(ModelCard, [PathBuf; 2]), ReportError> {
    let config = run.config()?;
    let environment_file = run.environment_file();
    let environment = environment_file.is_file().then(|| Environment::read(&environment_file)).transpose()?;
    let statements_file = run.card_statements_file();
    if !statements_file.is_file() {
        CardStatements::write_questions(&statements_file)?;
    }
    let statements = CardStatements::read(&statements_file)?;
    let splits = evaluated_splits(run)?;
    let mut metrics = BTreeMap::new();
    for split in &splits {
        metrics.insert(split.clone(), read_metrics(run, split)?);
    }
    let of_metrics = || splits.first().and_then(|split| metrics.get(split)).map(|metrics| metrics.classes().to_vec());
    let classes = environment.as_ref().map(|environment| environment.classes.clone()).or_else(of_metrics);
    let card = ModelCard {
        format_version: FORMAT_VERSION,
        name: run_name(run.path()),
        architecture: config.network.architecture.clone(),
        classes: classes.unwrap_or_default(),
        purpose: PURPOSE,
        notices: notices(environment.as_ref()),
        statements: QUESTIONS
            .iter()
            .zip(statements.answers())
            .map(|((key, _), answer)| (*key, Some(answer.trim().to_owned()).filter(|answer| !answer.is_empty())))
            .collect(),
        data: environment.as_ref().map(data),
        audit: audit(run)?,
        settings: settings(&config, environment.as_ref()),
        limits: limits(environment.as_ref(), &metrics),
        commands: commands(run, &config, environment.as_ref(), &splits),
        metrics,
    };
    let context = MarkdownContext::new(&card, environment.as_ref(), &splits, audit_command(run, &config));
    let text = templates::render(templates::CARD, context)?;
    write_atomically(&run.card_file(), |file| file.write_all(tidy(&text).as_bytes()))?;
    write_atomically(&run.card_document_file(), |file| {
        serde_json::to_writer_pretty(&mut *file, &card)?;
        writeln!(file)
    })?;
    Ok((card, [run.card_file(), run.card_document_file()]))
}

fn data(environment: &Environment) -> Data {
    Data {
        fingerprint: Some(environment.data_fingerprint.clone()).filter(|fingerprint| !fingerprint.is_empty()),
        images: environment.images.clone(),
        sources: environment.sources.clone(),
        patients: environment.patients.clone(),
        patients_in_several_splits: environment.patients_in_several_splits.clone(),
        skipped_images: environment.skipped_images.len(),
    }
}

fn audit(run: &RunDirectory) -> Result<Option<serde_json::Value>, RunError> {
    let path = run.audit_file();
    if !path.is_file() {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(&path).map_err(|source| RunError::Io { path: path.clone(), action: "read", source })?;
    let expected = "the JSON that `roentgen audit` writes".to_owned();
    serde_json::from_str(&text).map(Some).map_err(|error| RunError::Malformed {
        path,
        found: error.to_string(),
        expected,
    })
}

/// What the run itself says against its figures.
fn limits(environment: Option<&Environment>, metrics: &BTreeMap<String, Metrics>) -> Vec<String> {
    let mut limits = Vec::new();
    limits.push(
        "The figures say how the model does on these images; on images of another hospital, device or population it may \
         do worse, and nothing here says by how much."
            .to_owned(),
    );
    limits.push("It answers every image, also one that shows no chest: it has no way to refuse.".to_owned());
    limits.extend(environment.map(of_sources).unwrap_or_default());
    if !metrics.contains_key("test") {
        limits.push("It has not been evaluated on test images of its own data.".to_owned());
    }
    if metrics.keys().all(|split| ["train", "validation", "test"].contains(&split.as_str())) {
        limits.push("It has not been evaluated on data of another origin (external validation).".to_owned());
    }
    limits
}

/// Where the source of an image gives its class away.
fn of_sources(environment: &Environment) -> Vec<String> {
    let mut images = ImagesBySource::new();
    for (source, classes) in environment.sources.iter().flat_map(BTreeMap::values).flatten() {
        let into = images.entry(source.clone()).or_default();
        classes.iter().for_each(|(class, count)| *into.entry(class.clone()).or_default() += count);
    }
    if images.len() == 1 {
        return vec!["All images are of one source: how it does on another was not measured.".to_owned()];
    }
    let mut found = Vec::new();
    for (source, classes) in &images {
        if let [(class, &count)] = classes.iter().collect::<Vec<_>>()[..]
            && environment.classes.len() > 1
        {
            let source =
                if source.is_empty() { "without a source".to_owned() } else { format!("of the source `{source}`") };
            found.push(format!(
                "All {} {source} are `{class}`: a model may tell where an image comes from instead of what it shows.",
                counted(count, "image")
            ));
        }
    }
    found
}

/// What the template shows.
#[derive(Serialize)]
struct MarkdownContext<'a> {
    name: &'a str,
    architecture: &'a str,
    classes: &'a [String],
    purpose: &'a str,
    notices: &'a [String],
    people: Vec<Statement<'a>>,
    data: Option<DataCounts>,
    sources: Vec<SourceRow<'a>>,
    skipped_images: usize,
    audit: Vec<Summary>,
    audit_command: String,
    settings: &'a [Row],
    evaluations: Vec<EvaluationContext<'a>>,
    limits: &'a [String],
    commands: &'a [String],
    environment: Vec<Row>,
}

#[derive(Serialize)]
struct Statement<'a> {
    key: &'a str,
    title: String,
    question: &'a str,
    answer: Option<&'a str>,
}

#[derive(Serialize)]
struct SourceRow<'a> {
    split: &'a str,
    source: &'a str,
    /// In the order of the classes.
    images: Vec<String>,
}

/// One line about a part of `audit.json`.
#[derive(Serialize)]
struct Summary {
    name: String,
    value: String,
}

#[derive(Serialize)]
struct EvaluationContext<'a> {
    split: &'a str,
    headline: String,
    positive: &'a str,
    classes: &'a [String],
    accuracy: String,
    methods: String,
    rows: Vec<ClassRow<'a>>,
    matrix: Vec<MatrixRow<'a>>,
    calibration: Option<String>,
    thresholds: Vec<ThresholdRow>,
    thresholds_from: String,
    notes: &'a [String],
}

#[derive(Serialize)]
struct ClassRow<'a> {
    name: &'a str,
    positive: bool,
    cells: Vec<String>,
}

#[derive(Serialize)]
struct MatrixRow<'a> {
    name: &'a str,
    counts: Vec<String>,
}

#[derive(Serialize)]
struct ThresholdRow {
    rule: String,
    at: String,
    sensitivity: String,
    specificity: String,
}

impl<'a> MarkdownContext<'a> {
    fn new(
        card: &'a ModelCard,
        environment: Option<&'a Environment>,
        splits: &'a [String],
        audit_command: String,
    ) -> MarkdownContext<'a> {
        let statement = |&(key, question): &(&'static str, &'static str)| Statement {
            key,
            // `intended_use` reads as "Intended use".
            title: key[..1].to_uppercase() + &key[1..].replace('_', " "),
            question,
            answer: card.statements.get(key).and_then(Option::as_deref),
        };
        let sources = environment.and_then(|environment| environment.sources.as_ref());
        let by_split = |(split, sources): (&'a String, &'a ImagesBySource)| {
            sources.iter().map(|(source, counts)| {
                let of_class = |class: &String| thousands(counts.get(class).copied().unwrap_or(0));
                SourceRow { split, source, images: card.classes.iter().map(of_class).collect() }
            })
        };
        MarkdownContext {
            name: &card.name,
            architecture: &card.architecture,
            classes: &card.classes,
            purpose: card.purpose,
            notices: &card.notices,
            people: QUESTIONS.iter().map(statement).collect(),
            data: environment.map(data_counts),
            sources: sources.into_iter().flatten().flat_map(by_split).collect(),
            skipped_images: card.data.as_ref().map_or(0, |data| data.skipped_images),
            audit: card.audit.as_ref().map(|audit| summary(audit, environment)).unwrap_or_default(),
            audit_command,
            settings: &card.settings,
            evaluations: splits.iter().filter_map(|split| Some(evaluation(split, card.metrics.get(split)?))).collect(),
            limits: &card.limits,
            commands: &card.commands,
            environment: environment.map(environment_rows).unwrap_or_default(),
        }
    }
}

fn evaluation<'a>(split: &'a str, metrics: &'a Metrics) -> EvaluationContext<'a> {
    let classes = metrics.classes();
    let mut size = counted(metrics.samples() as usize, "image");
    if let Some(patients) = metrics.patients {
        size += &format!(" of {}", counted(patients as usize, "patient"));
    }
    let row = |(class, name): (usize, &'a String)| {
        let auroc = metrics.probabilities.as_ref().map(|probabilities| &probabilities.auroc[class]);
        let scores = [&metrics.precision, &metrics.sensitivity, &metrics.specificity, &metrics.f1];
        let mut cells: Vec<String> = scores.iter().map(|estimates| estimates[class].to_string()).collect();
        cells.push(auroc.map_or("not computed".into(), ToString::to_string));
        ClassRow { name, positive: class == metrics.positive, cells }
    };
    let mut methods: Vec<&str> = Vec::new();
    for estimates in [&metrics.precision, &metrics.sensitivity, &metrics.specificity, &metrics.f1] {
        methods.extend(estimates.iter().map(|estimate| estimate.method.as_str()));
    }
    methods.push(&metrics.accuracy.method);
    methods.sort_unstable();
    methods.dedup();
    let calibration = metrics.probabilities.as_ref().map(|probabilities| {
        let calibration = &probabilities.calibration;
        let mut text = format!(
            "expected calibration error {}, where a calibrated model would show {} by chance; mean confidence {}, \
             accuracy {}; Brier score {}.",
            four_decimals(calibration.expected_calibration_error),
            four_decimals(calibration.expected_by_chance),
            percent(calibration.mean_confidence),
            percent(calibration.accuracy),
            probabilities.brier
        );
        if let Some(scaling) = &metrics.temperature {
            text += &format!(
                " A temperature of {} (fitted on {} images of {}) gives {}.",
                four_decimals(scaling.temperature),
                scaling.fitted_images,
                scaling.fitted_on,
                four_decimals(scaling.after.expected_calibration_error)
            );
        }
        text
    });
    let thresholds: Vec<ThresholdRow> = metrics
        .thresholds
        .iter()
        .map(|applied| ThresholdRow {
            rule: applied.threshold.rule.to_string(),
            at: four_decimals(applied.threshold.threshold),
            sensitivity: applied.sensitivity.to_string(),
            specificity: applied.specificity.to_string(),
        })
        .collect();
    EvaluationContext {
        split,
        headline: headline(split, metrics, &size),
        positive: metrics.positive_name(),
        classes,
        accuracy: metrics.accuracy.to_string(),
        methods: methods.join("; "),
        rows: classes.iter().enumerate().map(row).collect(),
        matrix: classes
            .iter()
            .zip(metrics.confusion_matrix.counts())
            .map(|(name, row)| MatrixRow { name, counts: row.iter().map(|&count| thousands(count as usize)).collect() })
            .collect(),
        calibration,
        thresholds_from: metrics
            .thresholds
            .first()
            .map(|applied| format!("{} images of the split {}", applied.fitted_images, applied.fitted_on))
            .unwrap_or_default(),
        thresholds,
        notes: &metrics.notes,
    }
}

/// Parts of `audit.json` that are no findings.
const NO_FINDINGS: [&str; 3] = ["format_version", "method", "data_fingerprint"];

/// An audit in lines: whether it is of the run's data; its findings by level and in their own words; the most telling
/// shortcut; of its other parts a text or number as it is, of a list how long it is.
fn summary(audit: &serde_json::Value, environment: Option<&Environment>) -> Vec<Summary> {
    use serde_json::Value;
    let value = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("{} in all", thousands(list.len())),
        other => other.to_string(),
    };
    let Value::Object(parts) = audit else {
        return vec![Summary { name: "audit.json".into(), value: value(audit) }];
    };
    let mut lines = Vec::new();
    let own = environment.map(|environment| &environment.data_fingerprint).filter(|own| !own.is_empty());
    if let (Some(own), Some(audited)) = (own, audit["data_fingerprint"].as_str())
        && own != audited
    {
        let value = "the audit is of other data, or of other splits, than this model was trained on".to_owned();
        lines.push(Summary { name: "warning".into(), value });
    }
    for (name, part) in parts.iter().filter(|(name, _)| !NO_FINDINGS.contains(&name.as_str())) {
        let value = match (name.as_str(), part) {
            ("shortcuts", Value::Array(shortcuts)) => told_by_shortcuts(shortcuts),
            _ => value(part),
        };
        lines.push(Summary { name: name.replace('_', " "), value });
        for finding in part.as_array().into_iter().flatten() {
            if let (Some(level), Some(words)) = (finding["level"].as_str(), finding["summary"].as_str()) {
                lines.push(Summary { name: level.to_owned(), value: words.to_owned() });
            }
        }
    }
    lines
}

/// How many features of the files give something away, and what the most telling one does.
fn told_by_shortcuts(shortcuts: &[serde_json::Value]) -> String {
    let suspicious = shortcuts.iter().filter(|shortcut| shortcut["suspicious"] == true).count();
    let text = match (suspicious, shortcuts.len()) {
        (_, 0) => return "no feature of the files was compared".to_owned(),
        (0, all) => format!("none of {all} is suspicious"),
        (some, all) => format!("{some} of {all} suspicious"),
    };
    let areas = shortcuts.iter().filter_map(|shortcut| {
        let area = serde_json::from_value::<Estimate>(shortcut["auroc"].clone()).ok()?;
        Some((area.value?, area, shortcut))
    });
    match areas.max_by(|(one, ..), (other, ..)| one.total_cmp(other)) {
        Some((_, area, shortcut)) => {
            let words = |key: &str| shortcut[key].as_str().unwrap_or("?").to_owned();
            format!("{text}; the most telling is {}, which tells {} by AUROC {area}", words("feature"), words("target"))
        }
        None => text,
    }
}

/// Without the empty lines in a row that a template leaves.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut empty_before = true;
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && empty_before) {
            tidied.push_str(line);
            tidied.push('\n');
        }
        empty_before = line.is_empty();
    }
    tidied
}

//! The report: one HTML page that holds everything, pictures included, and needs neither script nor network.

use crate::scores::{Evaluation, evaluations};
use crate::settings::{DataCounts, Row, commands, data_counts, environment_rows, leak_notice, settings};
use crate::trend::curve_statements;
use crate::{ReportError, curves, templates};
use roentgen_run::RunDirectory;
use roentgen_run::config::Augmentation;
use roentgen_run::directory::write_atomically;
use roentgen_run::environment::{Environment, SkippedImage};
use roentgen_run::history::{EpochRecord, StepRecord, read_table};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct PageContext<'a> {
    name: String,
    architecture: &'a str,
    /// What whoever reads a number must have read before.
    notices: Vec<String>,
    headlines: Vec<&'a str>,
    settings: Vec<Row>,
    data: Option<DataCounts>,
    curves: Vec<Figure>,
    curves_are_augmented: bool,
    duration: Option<String>,
    evaluations: &'a [Evaluation],
    curve_statements: Vec<String>,
    skipped_images: &'a [SkippedImage],
    environment: Vec<Row>,
    commands: Vec<String>,
    configuration: String,
}

/// A picture on the page.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// The `svg` element.
    pub(crate) svg: String,
    pub(crate) caption: String,
}

/// Writes `report.html` from what the run directory holds, and every plot as a file into `plots/`. Returns the page's
/// path.
///
/// A run needs no more than its `config.toml`: what is not there yet (environment, history, evaluations, images) is
/// said to be missing. The warnings of `environment.json` stand at the top of the page.
///
/// # Errors
/// Where a file of the run is there and cannot be read, is not of its form or of a newer version, or where the system
/// refuses to write. The old page then stays as it was.
pub fn write_report(run: &RunDirectory) -> Result<PathBuf, ReportError> {
    let config = run.config()?;
    let environment_file = run.environment_file();
    let environment = environment_file.is_file().then(|| Environment::read(&environment_file)).transpose()?;
    let history: Vec<EpochRecord> = read_table_if_there(&run.history_file())?;
    let steps: Vec<StepRecord> = read_table_if_there(&run.steps_file())?;
    let evaluations = evaluations(run)?;
    let pictures = curves::draw(&history, &steps)?;
    for picture in &pictures {
        picture.picture.write(run)?;
    }

    let splits: Vec<String> = evaluations.iter().map(|evaluation| evaluation.split.clone()).collect();
    let seconds: f64 = history.iter().map(|row| row.seconds).sum();
    let context = PageContext {
        name: run_name(run.path()),
        architecture: &config.network.architecture,
        notices: notices(environment.as_ref()),
        headlines: evaluations.iter().map(|evaluation| evaluation.headline.as_str()).collect(),
        settings: settings(&config, environment.as_ref()),
        data: environment.as_ref().map(data_counts),
        curves: pictures.into_iter().map(|p| Figure { svg: p.picture.inline, caption: p.caption }).collect(),
        curves_are_augmented: config.data.augment != Augmentation::None,
        duration: (seconds > 0.0).then(|| crate::numerals::duration(seconds)),
        evaluations: &evaluations,
        curve_statements: curve_statements(&history, &config),
        skipped_images: environment.as_ref().map_or(&[], |environment| &environment.skipped_images),
        environment: environment.as_ref().map(environment_rows).unwrap_or_default(),
        commands: commands(run, &config, environment.as_ref(), &splits),
        configuration: config.to_toml(),
    };
    let page = templates::render(templates::PAGE, context)?;
    let path = run.report_file();
    write_atomically(&path, |file| file.write_all(page.as_bytes()))?;
    Ok(path)
}

fn read_table_if_there<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    if path.is_file() { Ok(read_table(path)?) } else { Ok(Vec::new()) }
}

/// The folder's own name, also where the run was named by `.` or `..`.
pub(crate) fn run_name(path: &Path) -> String {
    let named = path.file_name().map(ToOwned::to_owned);
    let name = named.or_else(|| path.canonicalize().ok()?.file_name().map(ToOwned::to_owned));
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

pub(crate) fn notices(environment: Option<&Environment>) -> Vec<String> {
    let Some(environment) = environment else {
        return vec!["environment.json is missing: data, patients and parameters of this run are not known.".into()];
    };
    leak_notice(environment).into_iter().chain(environment.warnings.iter().cloned()).collect()
}

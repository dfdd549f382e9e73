//! The report of a search over freeze plans: what each cost, what it was worth, and which was chosen.

use crate::numerals::thousands;
use crate::plots::{Candidate, Picture, Scatter, frontier};
use crate::{ReportError, templates};
use roentgen_run::directory::write_atomically;
use roentgen_run::{FORMAT_VERSION, RunError};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A search as far as it has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SearchResults {
    /// Version of this form.
    pub format_version: u32,
    /// What was searched, in words.
    pub title: String,
    /// How, in words: one sentence each.
    pub method: Vec<String>,
    /// The candidates in the order of their trained parameters.
    pub candidates: Vec<CandidateResult>,
    /// Name of the winner, once it is fixed.
    pub winner: Option<String>,
    /// What was found, in words.
    pub statements: Vec<String>,
}

/// One freeze plan and what it came to on the validation images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CandidateResult {
    /// Its name.
    pub name: String,
    /// What it trains.
    pub unfreeze: Vec<String>,
    /// Trained parameters.
    pub trainable_parameters: usize,
    /// Epochs that it was trained for.
    pub epochs: usize,
    /// Seconds of an epoch, mean over its trainings.
    pub seconds_per_epoch: f64,
    /// Validation loss, mean over its trainings; lower is better.
    pub validation_loss: f64,
    /// Validation accuracy, mean over its trainings, in `[0, 1]`.
    pub validation_accuracy: f64,
    /// Trainings that its figures are the mean of, one a seed: 1 for a candidate that was given up before the full
    /// length, 0 for one that failed.
    pub seeds: usize,
    /// Why it cannot be trained, where it cannot.
    pub failed: Option<String>,
}

#[derive(Serialize)]
struct PageContext<'a> {
    title: &'a str,
    method: &'a [String],
    statements: &'a [String],
    pictures: Vec<String>,
    candidates: Vec<RowContext>,
}

#[derive(Serialize)]
struct RowContext {
    name: String,
    unfreeze: String,
    trained: String,
    epochs: usize,
    seeds: usize,
    seconds: String,
    loss: String,
    accuracy: String,
    verdict: &'static str,
}

impl SearchResults {
    /// `search.json` in the folder of a search.
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("search.json")
    }

    /// Reads what [`SearchResults::write`] wrote into a folder.
    ///
    /// # Errors
    /// Where `search.json` cannot be read, holds something else, or was written by a newer version.
    pub fn read(folder: &Path) -> Result<SearchResults, ReportError> {
        let path = SearchResults::file(folder);
        let text = std::fs::read_to_string(&path).map_err(|source| RunError::Io {
            path: path.clone(),
            action: "read",
            source,
        })?;
        let results: SearchResults = serde_json::from_str(&text).map_err(|error| RunError::Malformed {
            path: path.clone(),
            found: error.to_string(),
            expected: "the results of a search; the command that made them makes them again".into(),
        })?;
        let found = results.format_version;
        if found > FORMAT_VERSION {
            return Err(RunError::NewerFormat { path, found, supported: FORMAT_VERSION }.into());
        }
        Ok(results)
    }

    /// Whether a candidate is the winner, lies on the frontier of accuracy against trained parameters, or failed.
    fn verdict(&self, candidate: &CandidateResult) -> &'static str {
        if candidate.failed.is_some() {
            return "failed";
        }
        if self.winner.as_ref() == Some(&candidate.name) {
            return "winner";
        }
        let trained: Vec<&CandidateResult> = self.trained().collect();
        let costs: Vec<(f64, f64)> =
            trained.iter().map(|c| (c.trainable_parameters as f64, c.validation_accuracy)).collect();
        if frontier(&costs).iter().any(|index| trained[*index].name == candidate.name) { "frontier" } else { "" }
    }

    fn trained(&self) -> impl Iterator<Item = &CandidateResult> {
        self.candidates.iter().filter(|candidate| candidate.failed.is_none() && candidate.epochs > 0)
    }

    /// The candidates as a table for a terminal.
    pub fn to_text(&self) -> String {
        let width = self.candidates.iter().map(|candidate| candidate.name.len()).max().unwrap_or(0).max(9);
        let mut text = format!(
            "{:width$}  {:>12}  {:>6}  {:>5}  {:>7}  {:>15}  {:>19}\n",
            "candidate", "trained", "epochs", "seeds", "s/epoch", "validation loss", "validation accuracy"
        );
        for c in &self.candidates {
            let line = match &c.failed {
                Some(reason) => {
                    format!("{:width$}  {:>12}  failed: {reason}", c.name, thousands(c.trainable_parameters))
                }
                None => format!(
                    "{:width$}  {:>12}  {:>6}  {:>5}  {:>7.1}  {:>15.4}  {:>19.4}  {}",
                    c.name,
                    thousands(c.trainable_parameters),
                    c.epochs,
                    c.seeds,
                    c.seconds_per_epoch,
                    c.validation_loss,
                    c.validation_accuracy,
                    self.verdict(c)
                ),
            };
            writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
        }
        self.statements.iter().for_each(|statement| text += &format!("\n{statement}"));
        text + "\n"
    }

    fn to_csv(&self) -> String {
        let mut text = String::from(
            "name,unfreeze,trainable_parameters,epochs,seeds,seconds_per_epoch,validation_loss,validation_accuracy,verdict\n",
        );
        for c in &self.candidates {
            let unfreeze = c.unfreeze.join(" ");
            let figures = match c.failed {
                Some(_) => ",,".to_owned(),
                None => format!("{:.2},{:.6},{:.6}", c.seconds_per_epoch, c.validation_loss, c.validation_accuracy),
            };
            let (trained, epochs, seeds) = (c.trainable_parameters, c.epochs, c.seeds);
            text += &format!("{},{unfreeze},{trained},{epochs},{seeds},{figures},{}\n", c.name, self.verdict(c));
        }
        text
    }

    /// Writes `search.json`, `frontier.csv`, the plots and `report.html` into a folder; returns the page's path.
    ///
    /// # Errors
    /// Where the system refuses to write.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, ReportError> {
        let pictures = self.pictures()?;
        for picture in &pictures {
            picture.write_into(&folder.join("plots"))?;
        }
        let write =
            |name: &str, text: &str| write_atomically(&folder.join(name), |file| file.write_all(text.as_bytes()));
        write("frontier.csv", &self.to_csv())?;
        write_atomically(&SearchResults::file(folder), |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            writeln!(file)
        })?;
        let row = |c: &CandidateResult| {
            let figure = |text: String| if c.failed.is_some() { String::new() } else { text };
            RowContext {
                name: c.name.clone(),
                unfreeze: c.unfreeze.join(", "),
                trained: thousands(c.trainable_parameters),
                epochs: c.epochs,
                seeds: c.seeds,
                seconds: figure(format!("{:.1}", c.seconds_per_epoch)),
                loss: figure(format!("{:.4}", c.validation_loss)),
                accuracy: figure(format!("{:.4}", c.validation_accuracy)),
                verdict: self.verdict(c),
            }
        };
        let context = PageContext {
            title: &self.title,
            method: &self.method,
            statements: &self.statements,
            pictures: pictures.into_iter().map(|picture| picture.inline).collect(),
            candidates: self.candidates.iter().map(row).collect(),
        };
        write("report.html", &templates::render(templates::SEARCH, context)?)?;
        Ok(folder.join("report.html"))
    }

    fn pictures(&self) -> Result<Vec<Picture>, ReportError> {
        type Cost = fn(&CandidateResult) -> f64;
        let costs: [(&str, &str, &str, Cost); 2] = [
            ("Accuracy against trained parameters", "trained parameters", "frontier-parameters.svg", |c| {
                c.trainable_parameters as f64
            }),
            ("Accuracy against time", "seconds an epoch", "frontier-seconds.svg", |c| c.seconds_per_epoch.max(1e-3)),
        ];
        let mut pictures = Vec::new();
        for (title, horizontal_label, file_name, cost) in costs {
            let points: Vec<Candidate<'_>> = self
                .trained()
                .map(|c| Candidate {
                    label: &c.name,
                    cost: cost(c),
                    worth: c.validation_accuracy,
                    stands_out: self.winner.as_ref() == Some(&c.name),
                })
                .collect();
            let description = format!(
                "{title}: {} freeze plans. {}",
                points.len(),
                self.winner.as_ref().map_or_else(String::new, |winner| format!("The winner is {winner}."))
            );
            let vertical_label = "validation accuracy";
            pictures.extend(Scatter { title, horizontal_label, vertical_label, points, description }.draw(file_name)?);
        }
        Ok(pictures)
    }
}

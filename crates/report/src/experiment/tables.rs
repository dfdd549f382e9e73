//! The tables of an experiment as Markdown and CSV.

use super::results::{FoldSpread, Results, RowResult};
use crate::numerals::{listed, thousands};
use roentgen_eval::Repeated;
use std::fmt::Write;

impl Results {
    /// The rows by architecture, in the order of the file: each is a table.
    pub(crate) fn by_architecture(&self) -> Vec<(&str, Vec<&RowResult>)> {
        let mut tables: Vec<(&str, Vec<&RowResult>)> = Vec::new();
        for row in &self.rows {
            match tables.iter_mut().find(|(architecture, _)| *architecture == row.architecture) {
                Some((_, rows)) => rows.push(row),
                None => tables.push((&row.architecture, vec![row])),
            }
        }
        tables
    }

    /// The heads of the columns that hold a metric, in order.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        let positive = self.positive.as_deref().unwrap_or("the positive class");
        let mut names = vec!["accuracy".to_owned()];
        names.extend(self.classes.iter().map(|class| format!("F1 of {class}")));
        names.extend([format!("sensitivity for {positive}"), format!("specificity for {positive}")]);
        names.extend(["AUROC".to_owned(), "AUPRC".to_owned()]);
        names
    }

    /// The tables as Markdown, one an architecture.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}; in brackets 95 % intervals", self.title, self.basis());
        if self.rows.iter().any(|row| row.metrics.as_ref().is_some_and(|metrics| metrics.accuracy.values.len() > 1)) {
            text += "; mean over the seeds, after the sign their standard deviation";
        }
        if self.rows.iter().any(|row| row.folds.is_some()) {
            text += "; over the folds: mean and standard deviation of the folds, each by itself";
        }
        text += ".\n";
        if !self.classes.is_empty() {
            text += &format!(
                "Confusion matrices: rows actual, columns predicted, in the order {}.\n",
                listed(&self.classes)
            );
        }
        for (number, (architecture, rows)) in self.by_architecture().into_iter().enumerate() {
            let mut heads = vec!["experiment".to_owned()];
            heads.extend(self.metric_names());
            heads.extend(["confusion matrix", "trained parameters", "s/epoch"].map(str::to_owned));
            let folds = rows.iter().any(|row| row.folds.is_some());
            if folds {
                heads.push("over the folds".into());
            }
            let published = rows.iter().any(|row| row.published.is_some());
            if published {
                heads.push("published".into());
            }
            writeln!(text, "\nTable {}: {architecture}\n", number + 1).expect("a string takes everything");
            text += &(markdown_line(&heads) + &markdown_line(&vec!["---".to_owned(); heads.len()]));
            for row in rows {
                let mut cells = vec![row.title.clone()];
                match row.metrics() {
                    Some(metrics) => cells.extend(metrics.iter().map(|metric| in_words(metric))),
                    None => {
                        cells.push(row.why_empty());
                        cells.resize(self.metric_names().len() + 1, String::new());
                    }
                }
                cells.push(row.confusion_matrix.as_deref().map_or_else(String::new, |counts| {
                    format!("{} ![picture](plots/confusion-{}.svg)", matrix_in_words(counts), row.name)
                }));
                cells.push(row.trainable_parameters.map_or_else(String::new, thousands));
                cells.push(row.seconds_per_epoch.map_or_else(String::new, |seconds| format!("{seconds:.1}")));
                if folds {
                    cells.push(row.folds.as_ref().map_or_else(String::new, FoldSpread::in_words));
                }
                if published {
                    cells.push(row.published.as_ref().map_or_else(String::new, |published| {
                        let (accuracy, f1, class) = (published.accuracy, published.f1, &published.f1_class);
                        let matrix = matrix_in_words(&published.confusion_matrix);
                        format!("accuracy {accuracy}, F1 of {class} {f1}, {matrix}")
                    }));
                }
                text += &markdown_line(&cells);
            }
        }
        if !self.deviations.is_empty() {
            text += "\nDeviations:\n\n";
            self.deviations.iter().for_each(|deviation| text += &format!("- {deviation}\n"));
        }
        if !self.statements.is_empty() {
            text += "\nDifferences:\n\n";
            self.statements.iter().for_each(|statement| text += &format!("- {statement}\n"));
        }
        if self.differences.is_some() {
            text += &format!("\nAll differences:\n\n{}", self.differences_to_markdown());
        }
        text
    }

    /// All rows as CSV, for programs: a metric has its value, its interval and its deviation over the seeds in columns of
    /// their own, and of accuracy and AUROC there are mean and deviation over the folds of a cross-validation; empty where
    /// there is none.
    pub fn to_csv(&self) -> String {
        let mut heads: Vec<String> = [
            "name",
            "title",
            "architecture",
            "unfreeze",
            "trainings",
            "trainable_parameters",
            "parameters",
            "seconds_per_epoch",
        ]
        .map(str::to_owned)
        .into();
        for metric in self.metric_columns() {
            heads.extend([
                metric.clone(),
                format!("{metric}_low"),
                format!("{metric}_high"),
                format!("{metric}_deviation"),
            ]);
        }
        for metric in ["accuracy", "auroc"] {
            heads.extend([format!("{metric}_fold_mean"), format!("{metric}_fold_deviation")]);
        }
        heads.extend(["confusion_matrix", "published_accuracy", "published_f1"].map(str::to_owned));
        let mut text = csv_line(&heads);
        for row in &self.rows {
            let optional = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.6}"));
            let count = |value: Option<usize>| value.map_or_else(String::new, |value| value.to_string());
            let mut cells = vec![
                row.name.clone(),
                row.title.clone(),
                row.architecture.clone(),
                row.unfreeze.join(" "),
                (row.trainings.len() - row.missing.len()).to_string(),
                count(row.trainable_parameters),
                count(row.parameters),
                row.seconds_per_epoch.map_or_else(String::new, |seconds| format!("{seconds:.2}")),
            ];
            match row.metrics() {
                Some(metrics) => {
                    for metric in metrics {
                        let estimate = &metric.estimate;
                        cells.extend([estimate.value, estimate.low, estimate.high, metric.deviation].map(optional));
                    }
                }
                None => cells.extend(vec![String::new(); 4 * self.metric_columns().len()]),
            }
            let spread = |of: fn(&FoldSpread) -> Option<(f64, f64)>| {
                let of_folds = row.folds.as_ref().and_then(of);
                [of_folds.map(|(mean, _)| mean), of_folds.map(|(_, deviation)| deviation)].map(optional)
            };
            cells.extend(spread(|folds| Some(folds.accuracy)));
            cells.extend(spread(|folds| folds.auroc));
            let counts = |row: &Vec<u64>| row.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            let matrix = row.confusion_matrix.as_ref();
            cells.push(matrix.map_or_else(String::new, |m| m.iter().map(counts).collect::<Vec<_>>().join("; ")));
            let published = |value: fn(&roentgen_run::experiment::Published) -> f64| {
                row.published.as_ref().map_or_else(String::new, |published| value(published).to_string())
            };
            cells.extend([published(|published| published.accuracy), published(|published| published.f1)]);
            text += &csv_line(&cells);
        }
        text
    }

    fn metric_columns(&self) -> Vec<String> {
        let mut names = vec!["accuracy".to_owned()];
        names.extend(self.classes.iter().map(|class| format!("f1_{class}")));
        names.extend(["sensitivity", "specificity", "auroc", "auprc"].map(str::to_owned));
        names
    }
}

impl RowResult {
    /// The metrics in the order of [`Results::metric_names`].
    pub(crate) fn metrics(&self) -> Option<Vec<&Repeated>> {
        let metrics = self.metrics.as_ref()?;
        let mut all = vec![&metrics.accuracy];
        all.extend(&metrics.f1);
        all.extend([&metrics.sensitivity, &metrics.specificity, &metrics.auroc, &metrics.auprc]);
        Some(all)
    }

    /// Why there are no metrics: trainings that failed, else those that are missing, else what makes the row's answers
    /// unlike the others'.
    pub(crate) fn why_empty(&self) -> String {
        match (self.failures.as_slice(), self.missing.as_slice(), &self.undefined) {
            ([], [], Some(reason)) => format!("undefined: {reason}"),
            ([], missing, _) => format!("not finished: {}", missing.join(", ")),
            (failures, ..) => format!("failed: {}", failures.join("; ")),
        }
    }
}

impl FoldSpread {
    /// `accuracy 0.9100 ± 0.0200; AUROC 0.9500 ± 0.0100`
    pub(crate) fn in_words(&self) -> String {
        let one = |name: &str, (mean, deviation): (f64, f64)| format!("{name} {mean:.4} \u{b1} {deviation:.4}");
        let area = self.auroc.map_or_else(String::new, |auroc| format!("; {}", one("AUROC", auroc)));
        one("accuracy", self.accuracy) + &area
    }
}

/// `0.9267 (0.9124 to 0.9388)`, with the deviation where there are several trainings.
fn in_words(metric: &Repeated) -> String {
    let estimate = &metric.estimate;
    let (Some(value), Some(interval)) = (estimate.value, estimate.interval()) else { return "undefined".into() };
    let deviation = metric.deviation.map_or_else(String::new, |deviation| format!(" \u{b1} {deviation:.4}"));
    format!("{value:.4}{deviation} ({:.4} to {:.4})", interval.low, interval.high)
}

fn matrix_in_words(counts: &[Vec<u64>]) -> String {
    let row = |row: &Vec<u64>| format!("[{}]", row.iter().map(u64::to_string).collect::<Vec<_>>().join(", "));
    format!("[{}]", counts.iter().map(row).collect::<Vec<_>>().join(", "))
}

/// A line of a Markdown table.
pub(super) fn markdown_line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

pub(super) fn csv_line(cells: &[String]) -> String {
    let quoted = |cell: &String| match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

//! A comparison of models as the text that `roentgen compare` prints.

use crate::class_metric::ClassMetric;
use crate::difference::{Difference, Differences};
use crate::estimate::Estimate;
use crate::metrics::Metrics;
use crate::wording::{Align, align_columns, counted, p_value};

/// The metrics of each model side by side, every difference with its interval and p values, McNemar's counts, and the
/// sentences, as plain text of aligned lines with a newline at the end.
///
/// `metrics` are those of the models of `differences`, in their order.
pub fn format_comparison(metrics: &[Metrics], differences: &Differences) -> String {
    let mut size = counted(differences.images, "image");
    if let Some(patients) = differences.patients {
        size += &format!(" of {}", counted(patients, "patient"));
    }
    let mut lines = vec![format!("{size}; positive class {}", differences.positive), String::new()];
    lines.extend(metric_rows(metrics, &differences.models));
    lines.push(String::new());
    lines.extend(difference_rows(differences));
    lines.push(String::new());
    lines.extend(error_rows(differences));
    lines.push(String::new());
    lines.extend(differences.statements().iter().map(|sentence| format!("- {sentence}")));
    lines.join("\n") + "\n"
}

/// A line for each metric, a column for each model.
fn metric_rows(metrics: &[Metrics], models: &[String]) -> Vec<String> {
    let mut rows =
        vec![std::iter::once("metric").chain(models.iter().map(String::as_str)).map(str::to_owned).collect()];
    let mut row = |name: &str, of: &dyn Fn(&Metrics) -> String| {
        rows.push(std::iter::once(name.to_owned()).chain(metrics.iter().map(of)).collect::<Vec<String>>());
    };
    row("accuracy", &|metrics| metrics.accuracy.to_string());
    for metric in ClassMetric::ALL {
        row(metric.name(), &|metrics| metrics.of_classes(metric)[metrics.positive].to_string());
    }
    type OfClasses = fn(&Metrics) -> Option<&Estimate>;
    let of_probabilities: [(&str, OfClasses); 3] = [
        ("AUROC", |metrics| metrics.probabilities.as_ref().map(|p| &p.auroc[metrics.positive])),
        ("AUPRC", |metrics| metrics.probabilities.as_ref().map(|p| &p.auprc[metrics.positive])),
        ("Brier score", |metrics| metrics.probabilities.as_ref().map(|p| &p.brier)),
    ];
    for (name, estimate) in of_probabilities {
        row(name, &|metrics| estimate(metrics).map_or_else(String::new, Estimate::to_string));
    }
    align_columns(&rows, &vec![Align::Left; models.len() + 1])
}

fn difference_rows(differences: &Differences) -> Vec<String> {
    let mut rows =
        vec![["pair", "metric", "difference  (95 % interval)", "p", "corrected p", ""].map(String::from).to_vec()];
    for difference in &differences.differences {
        let pair = pair(differences, difference.first, difference.second);
        rows.push(match difference.effect {
            Some(effect) => vec![
                pair,
                difference.metric.to_string(),
                format!("{:+.4} ({:+.4} to {:+.4})", effect.difference, effect.low, effect.high),
                p_value(effect.p),
                p_value(effect.corrected_p),
                if effect.holds() { "holds" } else { "noise" }.to_owned(),
            ],
            None => vec![
                pair,
                difference.metric.to_string(),
                undefined(difference),
                String::new(),
                String::new(),
                String::new(),
            ],
        });
    }
    align_columns(&rows, &[Align::Left, Align::Left, Align::Left, Align::Right, Align::Right, Align::Left])
}

fn undefined(difference: &Difference) -> String {
    format!("undefined ({})", difference.reason.as_deref().unwrap_or("no reason recorded"))
}

fn error_rows(differences: &Differences) -> Vec<String> {
    let p = match differences.of_several_trainings() {
        true => "McNemar's p, ensembles, images independent",
        false => "McNemar's p, images independent",
    };
    let header = ["pair", "first alone right", "second alone right", p];
    let mut rows = vec![header.map(String::from).to_vec()];
    for errors in &differences.errors {
        rows.push(vec![
            pair(differences, errors.first, errors.second),
            errors.mcnemar.only_first_right.to_string(),
            errors.mcnemar.only_second_right.to_string(),
            p_value(errors.mcnemar.p),
        ]);
    }
    align_columns(&rows, &[Align::Left, Align::Right, Align::Right, Align::Right])
}

fn pair(differences: &Differences, first: usize, second: usize) -> String {
    format!("{} to {}", differences.models[first], differences.models[second])
}

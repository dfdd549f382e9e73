//! All differences between the rows of an experiment, as a table.

use super::results::Results;
use super::tables::{csv_line, markdown_line};
use roentgen_eval::{ComparedMetric, Difference, Differences, Effect, p_value};
use serde::Serialize;

/// One difference in words.
#[derive(Debug, Serialize)]
pub(crate) struct DifferenceRow {
    first: String,
    second: String,
    metric: String,
    difference: String,
    interval: String,
    /// What the p value is of.
    test: String,
    p: String,
    corrected_p: String,
    verdict: String,
    holds: bool,
    /// Images that one alone calls right: `12 / 5`. Beside accuracies only.
    alone_right: String,
    mcnemar_p: String,
}

impl Results {
    /// The heads of the columns that McNemar's test has.
    pub(crate) fn mcnemar_heads(&self) -> [&'static str; 2] {
        match self.differences.as_ref().is_some_and(Differences::of_several_trainings) {
            true => ["alone right, ensembles", "McNemar's p, ensembles"],
            false => ["alone right", "McNemar's p"],
        }
    }

    /// Every pair of rows in every metric.
    pub(crate) fn difference_rows(&self) -> Vec<DifferenceRow> {
        let Some(found) = &self.differences else { return Vec::new() };
        found.differences.iter().map(|difference| DifferenceRow::new(found, difference)).collect()
    }

    /// The differences as a Markdown table.
    pub(crate) fn differences_to_markdown(&self) -> String {
        let [alone, mcnemar] = self.mcnemar_heads();
        let heads =
            ["first", "second", "metric", "second less first", "test", "p", "p after Holm", "verdict", alone, mcnemar];
        let mut text = markdown_line(&heads.map(str::to_owned)) + &markdown_line(&heads.map(|_| "---".to_owned()));
        for row in self.difference_rows() {
            let size =
                if row.interval.is_empty() { String::new() } else { format!("{} ({})", row.difference, row.interval) };
            text += &markdown_line(&[
                row.first,
                row.second,
                row.metric,
                size,
                row.test,
                row.p,
                row.corrected_p,
                row.verdict,
                row.alone_right,
                row.mcnemar_p,
            ]);
        }
        text
    }

    /// The differences as CSV, for programs; empty where undefined, or where a test does not apply. McNemar's counts stand
    /// with the accuracies.
    pub fn differences_to_csv(&self) -> String {
        let heads = [
            "first",
            "second",
            "metric",
            "difference",
            "low",
            "high",
            "method",
            "p",
            "corrected_p",
            "holds",
            "only_first_right",
            "only_second_right",
            "mcnemar_p",
        ];
        let mut text = csv_line(&heads.map(str::to_owned));
        let Some(found) = &self.differences else { return text };
        for difference in &found.differences {
            let figure = |of: fn(&Effect) -> String| difference.effect.as_ref().map_or_else(String::new, of);
            let mcnemar = mcnemar(found, difference);
            let [first_alone, second_alone, mcnemar_p] = match mcnemar {
                Some(test) => {
                    [test.only_first_right.to_string(), test.only_second_right.to_string(), test.p.to_string()]
                }
                None => Default::default(),
            };
            text += &csv_line(&[
                found.models[difference.first].clone(),
                found.models[difference.second].clone(),
                difference.metric.to_string(),
                figure(|effect| format!("{:.6}", effect.difference)),
                figure(|effect| format!("{:.6}", effect.low)),
                figure(|effect| format!("{:.6}", effect.high)),
                difference.method.clone(),
                figure(|effect| effect.p.to_string()),
                figure(|effect| effect.corrected_p.to_string()),
                figure(|effect| effect.holds().to_string()),
                first_alone,
                second_alone,
                mcnemar_p,
            ]);
        }
        text
    }
}

/// McNemar's test of a pair, which is about right and wrong answers: for a difference in accuracy alone.
fn mcnemar<'a>(found: &'a Differences, difference: &Difference) -> Option<&'a roentgen_eval::McNemar> {
    let is_pair =
        |pair: &&roentgen_eval::PairedErrors| (pair.first, pair.second) == (difference.first, difference.second);
    let pair = found.errors.iter().find(is_pair).filter(|_| difference.metric == ComparedMetric::Accuracy);
    pair.map(|pair| &pair.mcnemar)
}

impl DifferenceRow {
    fn new(found: &Differences, difference: &Difference) -> Self {
        let figure = |of: &dyn Fn(&Effect) -> String| difference.effect.as_ref().map_or_else(String::new, of);
        let mcnemar = mcnemar(found, difference);
        let verdict = match (&difference.effect, &difference.reason) {
            (Some(effect), _) => if effect.holds() { "holds" } else { "noise" }.to_owned(),
            (None, reason) => format!("undefined ({})", reason.as_deref().unwrap_or("no reason recorded")),
        };
        Self {
            first: found.models[difference.first].clone(),
            second: found.models[difference.second].clone(),
            metric: difference.metric.to_string(),
            difference: figure(&|effect| format!("{:+.4}", effect.difference)),
            interval: figure(&|effect| format!("{:+.4} to {:+.4}", effect.low, effect.high)),
            test: difference.method.clone(),
            p: figure(&|effect| p_value(effect.p)),
            corrected_p: figure(&|effect| p_value(effect.corrected_p)),
            verdict,
            holds: difference.effect.as_ref().is_some_and(Effect::holds),
            alone_right: mcnemar
                .map_or_else(String::new, |test| format!("{} / {}", test.only_first_right, test.only_second_right)),
            mcnemar_p: mcnemar.map_or_else(String::new, |test| p_value(test.p)),
        }
    }
}

//! From which probability on an image is called positive, and who says so.

use crate::ServeError;
use roentgen_eval::{Metrics, Threshold, ThresholdRule};
use roentgen_run::RunDirectory;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where the threshold comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ThresholdChoice {
    /// Youden's index, from the run's evaluation.
    Youden,
    /// The least sensitivity that the run's evaluation was asked for.
    Sensitivity,
    /// The costs that the run's evaluation was given.
    Cost,
    /// A probability, 0 to 1.
    Fixed(f64),
}

impl ThresholdChoice {
    fn name(self) -> &'static str {
        match self {
            ThresholdChoice::Youden => "Youden's index",
            ThresholdChoice::Sensitivity => "sensitivity",
            ThresholdChoice::Cost => "cost",
            ThresholdChoice::Fixed(_) => "its value",
        }
    }

    fn is(self, rule: ThresholdRule) -> bool {
        matches!(
            (self, rule),
            (ThresholdChoice::Youden, ThresholdRule::Youden)
                | (ThresholdChoice::Sensitivity, ThresholdRule::Sensitivity { .. })
                | (ThresholdChoice::Cost, ThresholdRule::Cost { .. })
        )
    }
}

/// `youden`, `sensitivity`, `cost`, or a probability.
impl FromStr for ThresholdChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<ThresholdChoice, String> {
        match text {
            "youden" => Ok(ThresholdChoice::Youden),
            "sensitivity" => Ok(ThresholdChoice::Sensitivity),
            "cost" => Ok(ThresholdChoice::Cost),
            _ => match text.parse() {
                Ok(value) if (0.0..=1.0).contains(&value) => Ok(ThresholdChoice::Fixed(value)),
                _ => Err("expected youden, sensitivity, cost, or a probability from 0 to 1".into()),
            },
        }
    }
}

/// What is called positive.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    /// Index of the positive class.
    pub(crate) positive: usize,
    /// The least probability of that class.
    pub(crate) threshold: f64,
    /// Who says so, in words.
    pub(crate) source: String,
}

impl Decision {
    /// What a choice makes of an evaluation; `positive` is the positive class where there is no evaluation to name it.
    ///
    /// # Errors
    /// Where a rule was asked for by name and the evaluation has no threshold by it.
    pub(crate) fn new(
        run: &Path,
        choice: Option<ThresholdChoice>,
        evaluation: Option<&Metrics>,
        positive: usize,
    ) -> Result<Decision, ServeError> {
        let positive = evaluation.map_or(positive, |metrics| metrics.positive);
        if let Some(ThresholdChoice::Fixed(threshold)) = choice {
            return Ok(Decision { positive, threshold, source: "set when the server was started".into() });
        }
        let wanted = choice.unwrap_or(ThresholdChoice::Youden);
        let applied = evaluation.iter().flat_map(|metrics| &metrics.thresholds).find(|a| wanted.is(a.threshold.rule));
        match applied {
            Some(applied) => {
                let Threshold { rule, threshold, .. } = applied.threshold;
                let source = format!("{rule}, chosen on {} {} images", applied.fitted_images, applied.fitted_on);
                Ok(Decision { positive, threshold, source })
            }
            None if choice.is_some() => Err(ServeError::NoThreshold { run: run.to_owned(), rule: wanted.name() }),
            None => {
                let lacks = match evaluation {
                    None => "no evaluation",
                    Some(_) => "an evaluation, and no threshold was fitted for it",
                };
                Ok(Decision { positive, threshold: 0.5, source: format!("0.5, not calibrated: the run has {lacks}") })
            }
        }
    }
}

/// The evaluation that speaks for a run, with its name: of the test images, else of the validation images, else of the
/// first other data.
///
/// # Errors
/// Where the file is there and is no evaluation.
pub(crate) fn evaluation(run: &RunDirectory) -> Result<Option<(String, Metrics)>, ServeError> {
    let Some(name) = evaluations(run).into_iter().next() else { return Ok(None) };
    let file = run.metrics_file(&name);
    let broken =
        |found: String| ServeError::File { file: file.clone(), found, advice: "run `roentgen evaluate` again" };
    let text = std::fs::read_to_string(&file).map_err(|error| broken(error.to_string()))?;
    let metrics = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    Ok(Some((name, metrics)))
}

/// Names of evaluations, the one that speaks for the run first.
fn evaluations(run: &RunDirectory) -> Vec<String> {
    let name = |path: PathBuf| {
        let file = path.file_name()?.to_str()?;
        Some(file.strip_prefix("metrics-")?.strip_suffix(".json")?.to_owned())
    };
    let entries = std::fs::read_dir(run.path()).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| name(entry.path())).collect();
    let rank = |name: &String| ["test", "validation"].iter().position(|first| first == name).unwrap_or(2);
    names.sort_by(|one, other| rank(one).cmp(&rank(other)).then_with(|| one.cmp(other)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_eval::Predictions;
    use roentgen_run::draw::{Purpose, stream};

    #[test]
    fn choices_are_read() {
        assert_eq!("youden".parse(), Ok(ThresholdChoice::Youden));
        assert_eq!("0.25".parse(), Ok(ThresholdChoice::Fixed(0.25)));
        for wrong in ["1.5", "NaN", "youdens", ""] {
            assert!(wrong.parse::<ThresholdChoice>().unwrap_err().contains("expected youden"), "{wrong}");
        }
    }

    #[test]
    fn the_test_images_speak_first() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(folder.path());
        assert_eq!(evaluation(&run).unwrap(), None);
        for name in ["zz-test", "aa-test", "validation", "test"] {
            std::fs::write(run.metrics_file(name), "{}").unwrap();
        }
        assert_eq!(evaluations(&run), ["test", "validation", "aa-test", "zz-test"]);
        let error = evaluation(&run).unwrap_err().to_string();
        assert!(error.contains("metrics-test.json") && error.contains("roentgen evaluate"), "{error}");
    }

    fn without_thresholds() -> Metrics {
        let classes = ["normal".to_owned(), "infected".to_owned()];
        let predictions =
            Predictions::new(classes.to_vec(), vec![0, 1, 1], vec![0, 1, 0], vec![0.9, 0.1, 0.2, 0.8, 0.6, 0.4])
                .unwrap();
        Metrics::evaluate(&predictions, 1, &|resample| stream(0, Purpose::Bootstrap, 0, resample)).unwrap()
    }

    #[test]
    fn without_an_evaluation_it_is_a_half_and_says_so() {
        let run = Path::new("runs/a");
        let decision = Decision::new(run, None, None, 1).unwrap();
        assert_eq!((decision.positive, decision.threshold), (1, 0.5));
        assert!(decision.source.ends_with("not calibrated: the run has no evaluation"), "{}", decision.source);
        let decision = Decision::new(run, None, Some(&without_thresholds()), 0).unwrap();
        assert_eq!((decision.positive, decision.threshold), (1, 0.5));
        assert!(decision.source.ends_with("the run has an evaluation, and no threshold was fitted for it"));
        let error = Decision::new(run, Some(ThresholdChoice::Cost), None, 1).unwrap_err().to_string();
        assert!(error.contains("runs/a") && error.contains("cost"), "{error}");
        assert_eq!(Decision::new(run, Some(ThresholdChoice::Fixed(0.1)), None, 0).unwrap().threshold, 0.1);
    }
}

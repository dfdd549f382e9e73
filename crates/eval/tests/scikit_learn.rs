//! Metrics against scikit-learn's, intervals against scipy's: fixtures from `reference/metrics_fixtures.py`.

use roentgen_eval::{ClassMetric, ConfusionMatrix, Estimate, Metrics, best_and_worst, wilson};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
    wilson: Vec<Proportion>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    classes: usize,
    labels: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<f32>,
    confusion_matrix: Vec<Vec<u64>>,
    accuracy: Reference,
    precision: Vec<Option<f64>>,
    sensitivity: Vec<Option<f64>>,
    specificity: Vec<Option<f64>>,
    f1: Vec<Option<f64>>,
    intervals: ByMetric<Vec<Option<[f64; 2]>>>,
    #[serde(rename = "macro")]
    macro_average: ByMetric<Option<Reference>>,
    ranking: Vec<Ranking>,
}

#[derive(Deserialize, Clone, Copy)]
struct Reference {
    value: f64,
    interval: [f64; 2],
}

#[derive(Deserialize)]
struct ByMetric<T> {
    precision: T,
    sensitivity: T,
    specificity: T,
    f1: T,
}

impl<T> ByMetric<T> {
    fn get(&self, metric: ClassMetric) -> &T {
        match metric {
            ClassMetric::Precision => &self.precision,
            ClassMetric::Sensitivity => &self.sensitivity,
            ClassMetric::Specificity => &self.specificity,
            ClassMetric::F1 => &self.f1,
        }
    }
}

#[derive(Deserialize)]
struct Ranking {
    best: Vec<usize>,
    worst: Vec<usize>,
}

#[derive(Deserialize)]
struct Proportion {
    successes: u64,
    trials: u64,
    confidence: f64,
    interval: [f64; 2],
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("fixtures/scikit_learn.json")).unwrap()
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class {class}")).collect()
}

fn assert_estimate(what: &str, found: &Estimate, expected: Option<Reference>, tolerance: f64) {
    let Some(expected) = expected else {
        assert_eq!((found.value, found.low, found.high), (None, None, None), "{what}");
        assert!(found.reason.as_ref().is_some_and(|reason| !reason.is_empty()), "{what}");
        return;
    };
    assert_eq!(found.reason, None, "{what}");
    for (part, found, expected) in [
        ("value", found.value, expected.value),
        ("low", found.low, expected.interval[0]),
        ("high", found.high, expected.interval[1]),
    ] {
        let found = found.unwrap_or_else(|| panic!("{what}: {part} is undefined, expected {expected}"));
        assert!((found - expected).abs() < tolerance, "{what}: {part} is {found}, expected {expected}");
    }
}

#[test]
fn wilson_is_that_of_scipy() {
    for Proportion { successes, trials, confidence, interval } in fixtures().wilson {
        let found = wilson(successes, trials, confidence).unwrap();
        assert!((found.low - interval[0]).abs() < 1e-12, "{successes}/{trials} at {confidence}: {found:?}");
        assert!((found.high - interval[1]).abs() < 1e-12, "{successes}/{trials} at {confidence}: {found:?}");
    }
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    for case in fixtures().cases {
        let metrics = Metrics::compute(&names(case.classes), 0, &case.labels, &case.predicted, None).unwrap();
        assert_eq!(metrics.confusion_matrix.counts(), case.confusion_matrix, "{}", case.name);
        assert_estimate(&case.name, &metrics.accuracy, Some(case.accuracy), 1e-12);
        for metric in ClassMetric::ALL {
            let values = match metric {
                ClassMetric::Precision => &case.precision,
                ClassMetric::Sensitivity => &case.sensitivity,
                ClassMetric::Specificity => &case.specificity,
                ClassMetric::F1 => &case.f1,
            };
            for class in 0..case.classes {
                // scikit-learn has 0 for the F1 of a class that is predicted but has no image; here it is undefined.
                let unearned = metric == ClassMetric::F1 && !case.labels.contains(&class);
                let interval = case.intervals.get(metric)[class];
                let expected = values[class].zip(interval).filter(|_| !unearned);
                let expected = expected.map(|(value, interval)| Reference { value, interval });
                let what = format!("{}: {metric} of class {class}", case.name);
                assert_estimate(&what, &metrics.of_classes(metric)[class], expected, 1e-12);
            }
        }
    }
}

#[test]
fn macro_averages_have_the_intervals_of_numerical_derivatives() {
    for case in fixtures().cases {
        let metrics = Metrics::compute(&names(case.classes), 0, &case.labels, &case.predicted, None).unwrap();
        for metric in ClassMetric::ALL {
            let absent = (0..case.classes).any(|class| !case.labels.contains(&class));
            let expected = case.macro_average.get(metric).filter(|_| metric != ClassMetric::F1 || !absent);
            let what = format!("{}: macro {metric}", case.name);
            assert_estimate(&what, metrics.macro_average.get(metric), expected, 1e-7);
        }
    }
}

#[test]
fn rankings_are_those_of_a_sort_for_each_class() {
    let mut ties = 0;
    for case in fixtures().cases {
        let rankings = best_and_worst(&case.labels, &case.predicted, &case.probabilities, case.classes, 4).unwrap();
        assert_eq!(rankings.len(), case.classes);
        let confidence = |sample: usize| case.probabilities[sample * case.classes + case.predicted[sample]];
        for (found, expected) in rankings.iter().zip(&case.ranking) {
            assert_eq!(found.best, expected.best, "{}", case.name);
            assert_eq!(found.worst, expected.worst, "{}", case.name);
            ties += found.best.windows(2).filter(|pair| confidence(pair[0]) == confidence(pair[1])).count();
        }
    }
    assert!(ties > 10, "the fixtures hold too few ties to test their order: {ties}");
}

#[test]
fn the_assignment_has_two_f1_scores() {
    let classes = vec!["infected".to_string(), "normal".to_string()];
    let matrix = ConfusionMatrix::from_counts(classes, vec![vec![515, 100], vec![10, 875]]).unwrap();
    let metrics = Metrics::from_matrix(matrix, 0, None).unwrap();
    let rounded = |estimate: &Estimate| format!("{:.5}", estimate.value.unwrap());
    assert_eq!(rounded(&metrics.accuracy), "0.92667");
    assert_eq!(rounded(&metrics.f1[0]), "0.90351");
    assert_eq!(rounded(&metrics.f1[1]), "0.94086");
}

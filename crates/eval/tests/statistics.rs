//! Curves, calibration and tests against scikit-learn, statsmodels and the definitions: fixtures from
//! `reference/statistics_fixtures.py`.

use roentgen_eval::{
    Calibration, Clusters, Predictions, RankedScores, TemperatureScaling, ThresholdRule, auroc, brier_scores,
    delong_test, fit_temperature, holm, mcnemar,
};
use serde::Deserialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

#[derive(Deserialize)]
struct Fixtures {
    curves: Vec<CurveCase>,
    calibrations: Vec<CalibrationCase>,
    mcnemar: Vec<McNemarCase>,
    holm: Vec<HolmCase>,
}

#[derive(Deserialize)]
struct CurveCase {
    name: String,
    positive: Vec<bool>,
    patients: Vec<usize>,
    models: [ModelCase; 2],
    test: Option<TestCase>,
}

#[derive(Deserialize)]
struct ModelCase {
    scores: Vec<f32>,
    auroc: f64,
    interval: [f64; 2],
    false_positive_rate: Vec<f64>,
    true_positive_rate: Vec<f64>,
    thresholds: Vec<f64>,
    average_precision: f64,
    precision: Vec<f64>,
    recall: Vec<f64>,
    pr_thresholds: Vec<f64>,
    youden: [f64; 2],
}

#[derive(Deserialize)]
struct TestCase {
    difference: f64,
    standard_error: f64,
    p: f64,
}

#[derive(Deserialize)]
struct CalibrationCase {
    name: String,
    classes: usize,
    labels: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<f32>,
    brier: f64,
    bins: Vec<BinCase>,
    expected_calibration_error: f64,
    temperature: f64,
    loss_before: f64,
    loss_after: f64,
}

#[derive(Deserialize)]
struct BinCase {
    images: u64,
    mean_confidence: Option<f64>,
    accuracy: Option<f64>,
}

#[derive(Deserialize)]
struct McNemarCase {
    first: u64,
    second: u64,
    p: f64,
}

#[derive(Deserialize)]
struct HolmCase {
    p: Vec<f64>,
    corrected: Vec<f64>,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

#[track_caller]
fn assert_close(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() < tolerance, "{what}: {found}, expected {expected}");
}

#[track_caller]
fn assert_all_close(what: &str, found: impl Iterator<Item = f64>, expected: &[f64]) {
    let found: Vec<f64> = found.collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(&found, &expected)| assert_close(what, found, expected, 1e-12));
}

impl CurveCase {
    fn ranked(&self, model: usize) -> RankedScores {
        RankedScores::new(&self.models[model].scores, &self.positive).unwrap()
    }

    fn clusters(&self) -> Clusters {
        let names: Vec<Option<String>> = self.patients.iter().map(|patient| Some(patient.to_string())).collect();
        Clusters::of_patients(&names)
    }
}

#[test]
fn curves_and_areas_are_those_of_scikit_learn() {
    for case in fixtures().curves {
        for (index, model) in case.models.iter().enumerate() {
            let (name, ranked) = (&case.name, case.ranked(index));
            let roc = ranked.roc().unwrap();
            assert_all_close(name, roc.iter().map(|point| point.false_positive_rate), &model.false_positive_rate);
            assert_all_close(name, roc.iter().map(|point| point.true_positive_rate), &model.true_positive_rate);
            assert_all_close(name, roc[1..].iter().map(|point| f64::from(point.threshold)), &model.thresholds);
            assert_eq!(roc[0].threshold, f32::INFINITY);
            let curve = ranked.precision_recall().unwrap();
            assert_all_close(name, curve.iter().map(|point| point.precision), &model.precision);
            assert_all_close(name, curve.iter().map(|point| point.recall), &model.recall);
            assert_all_close(name, curve.iter().map(|point| f64::from(point.threshold)), &model.pr_thresholds);
            assert_close(name, ranked.auroc(|_| 1).unwrap(), model.auroc, 1e-12);
            assert_close(name, ranked.average_precision(|_| 1).unwrap(), model.average_precision, 1e-12);
            let youden = ThresholdRule::Youden.choose(&ranked).unwrap();
            assert_all_close(name, [youden.fitted_sensitivity, youden.fitted_specificity].into_iter(), &model.youden);
        }
    }
}

#[test]
fn delong_s_intervals_and_tests_are_those_of_the_definition() {
    let (mut by_patient, mut without_variation) = (0, 0);
    for case in fixtures().curves {
        let clusters = case.clusters();
        by_patient += usize::from(clusters.hold_several());
        for (index, model) in case.models.iter().enumerate() {
            let estimate = auroc(&[case.ranked(index)], &clusters, "infected");
            assert_close(&case.name, estimate.value.unwrap(), model.auroc, 1e-12);
            assert_close(&case.name, estimate.low.unwrap(), model.interval[0], 1e-9);
            assert_close(&case.name, estimate.high.unwrap(), model.interval[1], 1e-9);
            without_variation += usize::from(estimate.method.contains("Newcombe"));
        }
        let test = delong_test(&[case.ranked(0)], &[case.ranked(1)], &clusters).unwrap();
        match case.test {
            Some(expected) => {
                assert_close(&case.name, test.difference, expected.difference, 1e-12);
                assert_close(&case.name, test.standard_error, expected.standard_error, 1e-9);
                assert_close(&case.name, test.p, expected.p, 1e-9);
            }
            None => assert_eq!((test.difference, test.p), (0.0, 1.0), "{}", case.name),
        }
    }
    assert!(by_patient >= 2 && without_variation >= 2);
}

#[derive(Deserialize)]
struct DelongFixtures {
    cases: Vec<DelongCase>,
}

#[derive(Deserialize)]
struct DelongCase {
    name: String,
    positive: Vec<bool>,
    models: [DelongModel; 2],
    covariance: f64,
    z: f64,
}

#[derive(Deserialize)]
struct DelongModel {
    scores: Vec<f32>,
    auroc: f64,
    variance: f64,
}

/// pROC's numbers, from `reference/delong_fixtures.R`; by patient too, for patients whose images are all alike are no more
/// than one image each.
#[test]
fn delong_s_variances_and_tests_are_those_of_proc() {
    let fixtures: DelongFixtures = serde_json::from_str(include_str!("fixtures/delong.json")).unwrap();
    for (case, images_of_a_patient) in fixtures.cases.iter().flat_map(|case| [(case, 1), (case, 3)]) {
        let name = &case.name;
        let positive = case.positive.repeat(images_of_a_patient);
        let rank =
            |model: &DelongModel| [RankedScores::new(&model.scores.repeat(images_of_a_patient), &positive).unwrap()];
        let [first, second] = case.models.each_ref().map(rank);
        let patients: Vec<Option<String>> =
            (0..positive.len()).map(|image| Some((image % case.positive.len()).to_string())).collect();
        let clusters = Clusters::of_patients(&patients);
        let infected = case.positive.iter().filter(|&&positive| positive).count();
        let smaller_side = infected.min(case.positive.len() - infected);
        for (model, ranked) in case.models.iter().zip([&first, &second]) {
            let estimate = auroc(ranked, &clusters, "infected");
            let value = estimate.value.unwrap();
            assert_close(name, value, model.auroc, 1e-12);
            // The standard error is in the width of the interval on the logit scale.
            let [low, high] = [estimate.low, estimate.high].map(|bound| bound.unwrap());
            let logit = |share: f64| (share / (1.0 - share)).ln();
            let quantile = StudentsT::new(0.0, 1.0, smaller_side as f64 - 1.0).unwrap().inverse_cdf(0.975);
            let standard_error = (logit(high) - logit(low)) / 2.0 / quantile * value * (1.0 - value);
            assert_close(name, standard_error, model.variance.sqrt(), 1e-6);
        }
        let test = delong_test(&first, &second, &clusters).unwrap();
        let variance = case.models[0].variance + case.models[1].variance - 2.0 * case.covariance;
        assert_close(name, test.standard_error, variance.sqrt(), 1e-6);
        assert_close(name, test.difference / test.standard_error, case.z, 1e-6);
    }
}

#[test]
fn calibration_and_temperature_are_those_of_scikit_learn_and_scipy() {
    for case in fixtures().calibrations {
        let classes = (0..case.classes).map(|class| format!("class {class}")).collect();
        let predictions = Predictions::new(classes, case.labels, case.predicted, case.probabilities).unwrap();
        let name = &case.name;
        let brier = brier_scores(&predictions);
        assert_close(name, brier.iter().sum::<f64>() / brier.len() as f64, case.brier, 1e-7);
        let calibration = Calibration::of(&predictions);
        assert_close(name, calibration.expected_calibration_error, case.expected_calibration_error, 1e-12);
        for (found, expected) in calibration.bins.iter().zip(&case.bins) {
            assert_eq!(found.images, expected.images, "{name}: {found:?}");
            for (found, expected) in
                [(found.mean_confidence, expected.mean_confidence), (found.accuracy, expected.accuracy)]
            {
                assert_eq!(found.is_some(), expected.is_some(), "{name}");
                assert_close(name, found.unwrap_or_default(), expected.unwrap_or_default(), 1e-12);
            }
        }
        let temperature = fit_temperature(&predictions).unwrap();
        assert_close(name, temperature, case.temperature, 1e-6);
        let scaling = TemperatureScaling::apply(&predictions, temperature, "validation", 1).unwrap();
        assert_close(name, scaling.before.mean_cross_entropy, case.loss_before, 1e-6);
        assert_close(name, scaling.after.mean_cross_entropy, case.loss_after, 1e-6);
    }
}

#[test]
fn mcnemar_and_holm_are_those_of_statsmodels() {
    let fixtures = fixtures();
    for McNemarCase { first, second, p } in fixtures.mcnemar {
        assert_close(&format!("{first} against {second}"), mcnemar(first, second).p, p, 1e-9);
    }
    for HolmCase { p, corrected } in fixtures.holm {
        assert_all_close("Holm", holm(&p).into_iter(), &corrected);
    }
}

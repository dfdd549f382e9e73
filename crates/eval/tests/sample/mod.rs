//! Metrics that have everything.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{
    AppliedThreshold, Clusters, GroupTable, Metrics, Predictions, RankedScores, TemperatureScaling, ThresholdRule,
    fit_temperature,
};

/// Twelve images of eight patients from two hospitals, with thresholds and temperature from twenty others.
pub fn evaluated() -> Metrics {
    let predictions = |infected: &[f32], normal: &[f32]| {
        let scores: Vec<f32> = infected.iter().chain(normal).copied().collect();
        let labels = (0..scores.len()).map(|i| usize::from(i >= infected.len())).collect();
        let predicted = scores.iter().map(|&p| usize::from(p < 0.5)).collect();
        let probabilities: Vec<f32> = scores.iter().flat_map(|&p| [p, 1.0 - p]).collect();
        let losses = probabilities.chunks(2).enumerate();
        let losses = losses.map(|(i, row)| -row[usize::from(i >= infected.len())].ln()).collect();
        let classes = vec!["infected".to_owned(), "normal".to_owned()];
        Predictions::new(classes, labels, predicted, probabilities).unwrap().with_losses(losses).unwrap()
    };
    let validation = predictions(
        &[0.96875, 0.9375, 0.875, 0.75, 0.75, 0.625, 0.5625, 0.4375, 0.25, 0.875],
        &[0.03125, 0.0625, 0.125, 0.125, 0.25, 0.375, 0.4375, 0.625, 0.3125, 0.0625],
    );
    let patients = ["a", "a", "b", "c", "d", "d", "e", "e", "f", "g", "g", "h"].map(Some);
    let hospitals = ["east", "east", "west"].map(|name| Some(name.to_owned()));
    let test = predictions(&[0.9375, 0.875, 0.75, 0.5, 0.375, 0.8125], &[0.0625, 0.125, 0.25, 0.5625, 0.3125, 0.0625]);
    let test = test.with_clusters(Clusters::of_patients(&patients)).unwrap();
    let generator = ChaCha8Rng::seed_from_u64;
    let mut metrics = Metrics::evaluate(&test, 0, &generator).unwrap();
    let temperature = fit_temperature(&validation).unwrap();
    metrics.temperature = Some(TemperatureScaling::apply(&test, temperature, "validation", 20).unwrap());
    let ranked = RankedScores::new(&validation.scores(0), &validation.is_of(0)).unwrap();
    for rule in [
        ThresholdRule::Youden,
        ThresholdRule::Sensitivity { at_least: 0.95 },
        ThresholdRule::Cost { miss: 10.0, false_alarm: 1.0, prevalence: Some(0.25) },
    ] {
        let threshold = rule.choose(&ranked).unwrap();
        metrics.thresholds.push(AppliedThreshold::apply(threshold, "validation", 20, &test, 0, &generator).unwrap());
    }
    metrics.groups.extend(
        GroupTable::new(
            "source",
            &hospitals.iter().cycle().take(12).cloned().collect::<Vec<_>>(),
            &test,
            0,
            &generator,
        )
        .unwrap(),
    );
    metrics
}

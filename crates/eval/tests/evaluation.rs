//! Predictions with probabilities and patients: what `Metrics::evaluate` makes of them, by patient and by image.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{
    AppliedThreshold, CONFIDENCE, Clusters, Estimate, GroupTable, Metrics, Predictions, RESAMPLES, RankedScores, Scale,
    ThresholdRule, auroc, bootstrap, statements,
};

fn generator(resample: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(resample)
}

/// Random answers of some skill for `samples` images.
fn random_predictions(seed: u64, samples: usize, classes: usize) -> Predictions {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<usize> = (0..samples).map(|_| generator.random_range(0..classes)).collect();
    let mut probabilities = Vec::new();
    for &label in &labels {
        let mut row: Vec<f32> = (0..classes).map(|_| generator.random_range(0.05..1.0)).collect();
        row[label] += 0.5;
        let sum: f32 = row.iter().sum();
        probabilities.extend(row.into_iter().map(|p| p / sum));
    }
    let largest = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let predicted = probabilities.chunks(classes).map(largest).collect();
    let names = (0..classes).map(|class| format!("class {class}")).collect();
    Predictions::new(names, labels, predicted, probabilities).unwrap()
}

/// Every image `times` times, as images of one patient.
fn repeated(predictions: &Predictions, times: usize) -> Predictions {
    let repeat = |values: &[usize]| values.repeat(times);
    let samples = predictions.samples();
    let patients: Vec<Option<String>> = (0..samples * times).map(|i| Some((i % samples).to_string())).collect();
    Predictions::new(
        predictions.classes().to_vec(),
        repeat(predictions.labels()),
        repeat(predictions.predicted()),
        predictions.probabilities().repeat(times),
    )
    .unwrap()
    .with_clusters(Clusters::of_patients(&patients))
    .unwrap()
}

fn all_estimates(metrics: &Metrics) -> Vec<&Estimate> {
    let macro_average = &metrics.macro_average;
    let probabilities = metrics.probabilities.as_ref().unwrap();
    let mut estimates = vec![&metrics.accuracy, &probabilities.brier];
    estimates.extend([&macro_average.precision, &macro_average.sensitivity, &macro_average.specificity]);
    estimates.push(&macro_average.f1);
    for list in [&metrics.precision, &metrics.sensitivity, &metrics.specificity, &metrics.f1] {
        estimates.extend(list);
    }
    estimates.extend(probabilities.auroc.iter().chain(&probabilities.auprc));
    estimates
}

#[test]
fn independent_images_keep_the_intervals_that_need_no_resampling() {
    let predictions = random_predictions(1, 60, 3);
    let metrics = Metrics::evaluate(&predictions, 0, &generator).unwrap();
    let (labels, predicted) = (predictions.labels(), predictions.predicted());
    let mut plain = Metrics::compute(predictions.classes(), 0, labels, predicted, None).unwrap();
    plain.probabilities.clone_from(&metrics.probabilities);
    assert_eq!(metrics, plain);
    let probabilities = metrics.probabilities.unwrap();
    assert!(probabilities.auroc[0].method.contains("DeLong") && probabilities.brier.method.contains("by image"));
}

#[test]
fn intervals_by_patient_are_made_of_resampled_patients() {
    let mut generator_of_patients = ChaCha8Rng::seed_from_u64(5);
    let patients: Vec<Option<String>> =
        (0..150).map(|_| Some(generator_of_patients.random_range(0..60).to_string())).collect();
    let clusters = Clusters::of_patients(&patients);
    let predictions = random_predictions(2, 150, 3).with_clusters(clusters.clone()).unwrap();
    let metrics = Metrics::evaluate(&predictions, 1, &generator).unwrap();
    for estimate in all_estimates(&metrics) {
        assert!(estimate.method.contains("by patient"), "{}", estimate.method);
    }

    // The same by hand, for one metric of each kind.
    let is_of = |sample: usize| predictions.labels()[sample] == 1;
    let said = |sample: usize| predictions.predicted()[sample] == 1;
    let sum = |weights: &[u32], counts: &dyn Fn(usize) -> bool| -> f64 {
        (0..weights.len()).filter(|&sample| counts(sample)).map(|sample| f64::from(weights[sample])).sum()
    };
    let ranked = RankedScores::new(&predictions.scores(1), &predictions.is_of(1)).unwrap();
    let distributions = bootstrap(&clusters, RESAMPLES, &generator, |weights| {
        let hits = sum(weights, &|i| is_of(i) && said(i));
        let weight = |sample: usize| u64::from(weights[sample]);
        vec![
            Some(sum(weights, &|i| predictions.labels()[i] == predictions.predicted()[i]) / sum(weights, &|_| true)),
            Some(hits / sum(weights, &is_of)),
            Some(2.0 * hits / (sum(weights, &is_of) + sum(weights, &said))),
            ranked.average_precision(weight),
        ]
    });
    let units = |counts: &dyn Fn(usize) -> bool| {
        let of = (0..150).filter(|&sample| counts(sample)).map(|sample| clusters.of_samples()[sample]);
        of.collect::<std::collections::HashSet<_>>().len()
    };
    let probabilities = metrics.probabilities.as_ref().unwrap();
    for (index, (estimate, scale, units)) in [
        (&metrics.accuracy, Scale::Score, clusters.count()),
        (&metrics.sensitivity[1], Scale::Score, units(&is_of)),
        (&metrics.f1[1], Scale::Score, units(&|i| is_of(i) || said(i))),
        (&probabilities.auprc[1], Scale::Logit, units(&is_of)),
    ]
    .into_iter()
    .enumerate()
    {
        let expected = distributions[index].interval(estimate.value.unwrap(), scale, units, CONFIDENCE).unwrap();
        let found = estimate.interval().unwrap();
        assert!((found.low - expected.low).abs() < 1e-12, "{index}: {found:?}, expected {expected:?}");
        assert!((found.high - expected.high).abs() < 1e-12, "{index}: {found:?}, expected {expected:?}");
    }
    let area = auroc(&[ranked], &clusters, "class 1");
    assert_eq!(probabilities.auroc[1], area);
}

#[test]
fn repeating_every_image_changes_no_value_and_makes_nothing_surer() {
    for seed in 0..10 {
        let once = random_predictions(seed, 80, 2);
        let [twice, often] = [2, 7].map(|times| Metrics::evaluate(&repeated(&once, times), 0, &generator).unwrap());
        let once = Metrics::evaluate(&once, 0, &generator).unwrap();
        for ((once, twice), often) in
            all_estimates(&once).into_iter().zip(all_estimates(&twice)).zip(all_estimates(&often))
        {
            assert!((once.value.unwrap() - often.value.unwrap()).abs() < 1e-12);
            let [low, high] = [(twice.low, often.low), (twice.high, often.high)]
                .map(|(twice, often)| (twice.unwrap() - often.unwrap()).abs());
            assert!(low < 1e-12 && high < 1e-12, "{twice:?} and {often:?}");
            // Another method, so only about as wide.
            let ratio = often.interval().unwrap().width() / once.interval().unwrap().width();
            assert!((0.6..1.6).contains(&ratio), "seed {seed}: {once:?} and {often:?}");
        }
    }
}

#[test]
fn no_sample_settles_a_metric_also_where_resamples_do_not_vary() {
    let perfect = |samples: usize| {
        let labels: Vec<usize> = (0..samples).map(|i| i % 2).collect();
        let sure = |(i, &label): (usize, &usize)| {
            let p = 1.0 - (i % 3) as f32 / 1000.0;
            if label == 0 { [p, 1.0 - p] } else { [1.0 - p, p] }
        };
        let probabilities = labels.iter().enumerate().flat_map(sure).collect();
        Predictions::new(vec!["infected".into(), "normal".into()], labels.clone(), labels, probabilities).unwrap()
    };
    let by_patient = Metrics::evaluate(&repeated(&perfect(10), 3), 0, &generator).unwrap();
    let by_image = Metrics::evaluate(&perfect(10), 0, &generator).unwrap();
    for metrics in [&by_patient, &by_image] {
        for estimate in all_estimates(metrics) {
            assert!(estimate.interval().unwrap().width() > 0.01, "{estimate:?}");
        }
    }
    // Ten patients are ten trials, however many images they have.
    for (patient, image) in all_estimates(&by_patient).into_iter().zip(all_estimates(&by_image)) {
        let [patient, image] = [patient, image].map(|estimate| estimate.interval().unwrap().width());
        // A macro average takes half an image for each cell, of which there are more.
        assert!((patient - image).abs() < 0.01, "{patient} and {image}");
    }
    // One patient alone tells hardly anything.
    let one =
        repeated(&random_predictions(3, 12, 2), 1).with_clusters(Clusters::of_patients(&[Some("a"); 12])).unwrap();
    let accuracy = Metrics::evaluate(&one, 0, &generator).unwrap().accuracy;
    assert!(accuracy.interval().unwrap().width() > 0.5, "{accuracy:?}");
}

#[test]
fn the_order_of_images_and_patients_names_do_not_matter() {
    let predictions = repeated(&random_predictions(4, 30, 2), 2);
    let reversed: Vec<usize> = (0..predictions.samples()).rev().collect();
    let pick = |values: &[usize]| reversed.iter().map(|&i| values[i]).collect::<Vec<_>>();
    let probabilities = reversed.iter().flat_map(|&i| predictions.probabilities()[2 * i..][..2].to_vec()).collect();
    let names: Vec<Option<String>> =
        reversed.iter().map(|&i| Some(format!("other {}", predictions.clusters().of_samples()[i]))).collect();
    let classes = predictions.classes().to_vec();
    let turned = Predictions::new(classes, pick(predictions.labels()), pick(predictions.predicted()), probabilities)
        .unwrap()
        .with_clusters(Clusters::of_patients(&names))
        .unwrap();
    let [before, after] =
        [&predictions, &turned].map(|predictions| Metrics::evaluate(predictions, 0, &generator).unwrap());
    for (before, after) in all_estimates(&before).into_iter().zip(all_estimates(&after)) {
        assert!((before.value.unwrap() - after.value.unwrap()).abs() < 1e-12);
        // Patients are drawn in another order: the same distribution, another sample of it.
        let ratio = before.interval().unwrap().width() / after.interval().unwrap().width();
        assert!((0.85..1.15).contains(&ratio), "{before:?} and {after:?}");
    }
}

#[test]
fn an_applied_threshold_has_the_metrics_of_what_it_calls() {
    let (validation, test) = (random_predictions(6, 80, 3), random_predictions(7, 60, 3));
    let ranked = RankedScores::new(&validation.scores(1), &validation.is_of(1)).unwrap();
    let rule = ThresholdRule::Cost { miss: 5.0, false_alarm: 1.0, prevalence: None };
    let threshold = rule.choose(&ranked).unwrap();
    let applied = AppliedThreshold::apply(threshold, "validation", 80, &test, 1, &generator).unwrap();
    let labels: Vec<usize> = test.labels().iter().map(|&label| usize::from(label != 1)).collect();
    let called: Vec<usize> = test.scores(1).iter().map(|&p| usize::from(f64::from(p) < threshold.threshold)).collect();
    let plain = Metrics::compute(&["positive".into(), "other".into()], 0, &labels, &called, None).unwrap();
    assert_eq!(applied.outcomes, plain.confusion_matrix.outcomes(0));
    assert_eq!(applied.accuracy, plain.accuracy);
    assert_eq!(
        [&applied.precision, &applied.sensitivity, &applied.specificity, &applied.f1],
        [&plain.precision[0], &plain.sensitivity[0], &plain.specificity[0], &plain.f1[0]]
    );
    let expected = (5.0 * applied.outcomes.false_negative as f64 + applied.outcomes.false_positive as f64) / 60.0;
    assert!((applied.cost.unwrap() - expected).abs() < 1e-12);
}

#[test]
fn groups_have_the_metrics_of_their_images_alone() {
    let predictions = repeated(&random_predictions(8, 40, 2), 2);
    let names: Vec<Option<String>> =
        (0..80).map(|i| [Some("east"), None, Some("west")][i % 40 % 3].map(str::to_owned)).collect();
    let table = GroupTable::new("source", &names, &predictions, 0, &generator).unwrap().unwrap();
    assert_eq!(table.groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(), ["(unknown)", "east", "west"]);
    assert_eq!(table.groups.iter().map(|group| group.images).sum::<u64>(), 80);
    let east: Vec<usize> = (0..80).filter(|i| i % 40 % 3 == 0).collect();
    let right = east.iter().filter(|&&i| predictions.labels()[i] == predictions.predicted()[i]).count();
    let group = &table.groups[1];
    assert_eq!((group.images, group.patients), (28, Some(14)));
    assert_eq!(group.accuracy.value, Some(right as f64 / 28.0));
    let scores: Vec<f32> = east.iter().map(|&i| predictions.scores(0)[i]).collect();
    let positive: Vec<bool> = east.iter().map(|&i| predictions.labels()[i] == 0).collect();
    assert_eq!(group.auroc.value, RankedScores::new(&scores, &positive).unwrap().auroc(|_| 1));

    let one = vec![Some("east".to_owned()); 80];
    assert_eq!(GroupTable::new("source", &one, &predictions, 0, &generator).unwrap(), None);
    assert!(GroupTable::new("source", &one[1..], &predictions, 0, &generator).is_err());
}

#[test]
fn sources_that_give_the_class_away_are_named() {
    let predictions = random_predictions(9, 60, 2);
    let sentences = |source_of: &dyn Fn(usize) -> String| {
        let names: Vec<Option<String>> = (0..60).map(|i| Some(source_of(i))).collect();
        let mut metrics = Metrics::evaluate(&predictions, 0, &generator).unwrap();
        metrics.groups.extend(GroupTable::new("source", &names, &predictions, 0, &generator).unwrap());
        statements(&metrics).join("\n")
    };
    let by_class = sentences(&|i| format!("hospital {}", predictions.labels()[i]));
    assert!(by_class.contains("telling the sources apart"), "{by_class}");
    assert!(!sentences(&|i| format!("hospital {}", i % 2)).contains("telling the sources apart"));
}

#[test]
fn words_on_ranking_and_calibration_follow_the_intervals() {
    let sentences = |scores: &dyn Fn(usize, usize) -> f32| {
        let labels: Vec<usize> = (0..200).map(|i| i % 2).collect();
        let rows = labels.iter().enumerate().map(|(i, &label)| scores(i, label));
        let probabilities: Vec<f32> = rows.flat_map(|p| [p, 1.0 - p]).collect();
        let predicted = probabilities.chunks(2).map(|row| usize::from(row[1] > row[0])).collect();
        let classes = vec!["infected".to_owned(), "normal".to_owned()];
        let predictions = Predictions::new(classes, labels, predicted, probabilities).unwrap();
        statements(&Metrics::evaluate(&predictions, 0, &generator).unwrap()).join("\n")
    };
    // One image in five on the wrong side, whatever the confidence.
    let sided = |i: usize, label: usize, confidence: f32| {
        if (label == 0) == (i % 10 < 8) { confidence } else { 1.0 - confidence }
    };
    assert!(sentences(&|i, label| sided(i, label, 0.99)).contains("surer than it should be"));
    assert!(sentences(&|i, label| sided(i, label, 0.55)).contains("less sure than it could be"));
    let fair = sentences(&|i, label| sided(i, label, 0.8));
    assert!(!fair.contains("sure") && !fair.contains("rank"), "{fair}");
    assert!(sentences(&|i, _| (i / 2 % 10) as f32 / 10.0).contains("not shown to rank"));
    assert!(sentences(&|i, label| 1.0 - sided(i, label, 0.8)).contains("may be exchanged"));
}

#[test]
fn predictions_are_checked_when_they_are_made() {
    let new = |labels: Vec<usize>, probabilities: Vec<f32>| {
        let predicted = vec![0; labels.len()];
        Predictions::new(vec!["a".into(), "b".into()], labels, predicted, probabilities)
    };
    assert!(new(vec![], vec![]).is_err());
    assert!(new(vec![0, 2], vec![0.5; 4]).is_err());
    assert!(new(vec![0, 1], vec![0.5; 3]).is_err());
    assert!(new(vec![0, 1], vec![0.5, 0.5, f32::NAN, 0.5]).is_err());
    let good = new(vec![0, 1], vec![0.5; 4]).unwrap();
    assert!(good.clone().with_losses(vec![0.1]).is_err());
    assert!(good.clone().with_losses(vec![0.1, f32::INFINITY]).is_err());
    assert!(good.clone().with_clusters(Clusters::each_its_own(3)).is_err());
    assert!(RankedScores::new(&[0.5, f32::NAN], &[true, false]).is_err());
    assert!(Metrics::evaluate(&good, 2, &generator).is_err());
}

//! Comparisons of models: what is found, what is corrected, what is refused, and the words, word for word.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{
    Clusters, ComparedMetric, Differences, EvalError, Predictions, RepeatedMetrics, differences, holm, mcnemar,
};

fn generator(resample: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(resample)
}

/// Answers for 200 images, every second infected, of which one in `one_in` is wrong.
fn model(seed: u64, one_in: usize) -> Predictions {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<usize> = (0..200).map(|i| i % 2).collect();
    let (mut predicted, mut probabilities) = (Vec::new(), Vec::new());
    for &label in &labels {
        let wrong = generator.random_range(0..one_in) == 0;
        let confidence: f32 = generator.random_range(0.5..1.0);
        predicted.push(if wrong { 1 - label } else { label });
        let p = if predicted[predicted.len() - 1] == 0 { confidence } else { 1.0 - confidence };
        probabilities.extend([p, 1.0 - p]);
    }
    Predictions::new(vec!["infected".into(), "normal".into()], labels, predicted, probabilities).unwrap()
}

fn right(predictions: &Predictions) -> Vec<bool> {
    predictions.labels().iter().zip(predictions.predicted()).map(|(label, predicted)| label == predicted).collect()
}

fn compare(models: &[(&str, &Predictions)]) -> Differences {
    let single: Vec<_> = models.iter().map(|(name, model)| (*name, std::slice::from_ref(*model))).collect();
    differences(&single, 0, &generator).unwrap()
}

#[test]
fn every_pair_is_compared_and_all_are_corrected_together() {
    let models = [model(1, 3), model(2, 8), model(3, 8)];
    let named = [("a", &models[0]), ("b", &models[1]), ("c", &models[2])];
    let table = compare(&named);
    let pairs: Vec<_> = table.differences.iter().map(|d| (d.first, d.second, d.metric)).collect();
    let expected = [(0, 1), (0, 2), (1, 2)];
    assert_eq!(pairs, expected.iter().flat_map(|&(a, b)| ComparedMetric::ALL.map(|m| (a, b, m))).collect::<Vec<_>>());
    let effects: Vec<_> = table.differences.iter().map(|difference| difference.effect.unwrap()).collect();
    let corrected = holm(&effects.iter().map(|effect| effect.p).collect::<Vec<_>>());
    assert_eq!(effects.iter().map(|effect| effect.corrected_p).collect::<Vec<_>>(), corrected);
    for (errors, (first, second)) in table.errors.iter().zip(expected) {
        let [one, other] = [first, second].map(|index| right(&models[index]));
        let alone = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|&(&a, &b)| a && !b).count() as u64;
        assert_eq!(errors.mcnemar, mcnemar(alone(&one, &other), alone(&other, &one)));
    }
    // The bad model differs from both good ones, which do not differ from each other.
    let accuracy = |index: usize| table.differences[3 * index].effect.unwrap();
    assert!(accuracy(0).holds() && accuracy(1).holds() && !accuracy(2).holds());
    assert_eq!(accuracy(0).p, table.errors[0].mcnemar.p);
    for difference in &table.differences {
        let effect = difference.effect.unwrap();
        let [Some(first), Some(second)] = difference.values else { panic!("{difference:?}") };
        assert!((effect.difference - (second - first)).abs() < 1e-12, "{difference:?}");
        assert!(effect.low <= effect.difference && effect.difference <= effect.high && effect.p <= effect.corrected_p);
    }
}

#[test]
fn exchanging_the_models_turns_the_sign_and_nothing_else() {
    let (a, b) = (model(1, 5), model(2, 8));
    let (one, turned) = (compare(&[("a", &a), ("b", &b)]), compare(&[("b", &b), ("a", &a)]));
    for (one, turned) in one.differences.iter().zip(&turned.differences) {
        let (one, turned) = (one.effect.unwrap(), turned.effect.unwrap());
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} != {expected}");
        close(one.difference, -turned.difference);
        close(one.low, -turned.high);
        close(one.p, turned.p);
    }
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let model = model(1, 5);
    let table = compare(&[("a", &model), ("b", &model)]);
    for difference in &table.differences {
        let effect = difference.effect.unwrap();
        assert_eq!((effect.difference, effect.low, effect.high, effect.p), (0.0, 0.0, 0.0, 1.0));
    }
    assert!(table.statements()[0].contains("none holds"));
}

#[test]
fn repeating_every_image_of_a_patient_makes_no_difference_surer() {
    let (a, b) = (model(1, 5), model(2, 8));
    let repeated = |predictions: &Predictions, times: usize| {
        let classes = predictions.classes().to_vec();
        let patients: Vec<Option<String>> = (0..200 * times).map(|i| Some((i % 200).to_string())).collect();
        let (labels, predicted) = (predictions.labels().repeat(times), predictions.predicted().repeat(times));
        Predictions::new(classes, labels, predicted, predictions.probabilities().repeat(times))
            .unwrap()
            .with_clusters(Clusters::of_patients(&patients))
            .unwrap()
    };
    let [once, often] = [1, 5].map(|times| compare(&[("a", &repeated(&a, times)), ("b", &repeated(&b, times))]));
    assert!(!once.by_patient && often.by_patient);
    for (once, often) in once.differences.iter().zip(&often.differences) {
        let (one, five) = (once.effect.unwrap(), often.effect.unwrap());
        assert!((one.low - five.low).abs() < 1e-9 && (one.high - five.high).abs() < 1e-9, "{once:?} and {often:?}");
        // McNemar's test does not know patients; by patient another one stands in.
        assert!((one.p - five.p).abs() < 1e-9 || once.metric == ComparedMetric::Accuracy, "{once:?} and {often:?}");
    }
    assert!(often.errors[0].mcnemar.p < once.errors[0].mcnemar.p);
    assert!(often.differences[0].effect.unwrap().p > 10.0 * often.errors[0].mcnemar.p);
    assert!(often.statements().iter().any(|sentence| sentence.contains("takes patients as independent")));
}

#[test]
fn what_is_undefined_says_why_and_counts_for_nothing() {
    let of_one_class = |predicted: Vec<usize>| {
        let probabilities = predicted.iter().flat_map(|&p| if p == 0 { [0.9, 0.1] } else { [0.2, 0.8] }).collect();
        Predictions::new(vec!["infected".into(), "normal".into()], vec![1; 6], predicted, probabilities).unwrap()
    };
    let (a, b) = (of_one_class(vec![0, 1, 1, 1, 1, 1]), of_one_class(vec![1, 0, 0, 1, 1, 1]));
    let table = compare(&[("a", &a), ("b", &b)]);
    let [accuracy, f1, auroc] = &table.differences[..] else { panic!("one pair, three metrics") };
    assert!(accuracy.effect.is_some_and(|effect| effect.p == effect.corrected_p));
    assert_eq!((f1.effect, f1.reason.as_deref()), (None, Some("no image of `infected`")));
    assert!(auroc.effect.is_none() && auroc.reason.is_some());
    let text = table.statements().join("\n");
    assert!(
        text.contains("F1 of `infected`: whether `a` and `b` differ is undefined (no image of `infected`)."),
        "{text}"
    );
}

#[test]
fn models_of_other_images_are_refused() {
    let reference = model(1, 5);
    let message = |other: &Predictions| match differences(
        &[("a", std::slice::from_ref(&reference)), ("b", std::slice::from_ref(other))],
        0,
        &generator,
    ) {
        Err(error @ EvalError::ModelsDiffer { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let with = |labels: Vec<usize>, classes: [&str; 2]| {
        let (samples, classes) = (labels.len(), classes.map(str::to_owned).to_vec());
        Predictions::new(classes, labels, vec![0; samples], vec![0.5; 2 * samples]).unwrap()
    };
    let mut labels = reference.labels().to_vec();
    assert!(message(&with(labels.clone(), ["infected", "healthy"])).contains("infected, healthy"));
    assert!(message(&with(labels[1..].to_vec(), ["infected", "normal"])).contains("200 against 199"));
    labels[7] = 0;
    assert!(message(&with(labels, ["infected", "normal"])).contains("label of sample 7"));
    let patients = Clusters::of_patients(&[Some("p"); 200]);
    assert!(message(&reference.clone().with_clusters(patients).unwrap()).contains("patients"));
    let reference = [reference];
    assert_eq!(differences(&[("a", &reference)], 0, &generator), Err(EvalError::TooFewModels { found: 1 }));
    assert_eq!(differences(&[("a", &reference), ("b", &[])], 0, &generator), Err(EvalError::TooFewModels { found: 1 }));
    assert!(differences(&[("a", &reference), ("b", &reference)], 2, &generator).is_err());
}

#[test]
fn several_trainings_are_compared_by_the_means_of_their_metrics() {
    let (a, b) = ([model(1, 4), model(2, 4), model(3, 4)], [model(4, 6), model(5, 6), model(6, 6)]);
    let table = differences(&[("a", &a), ("b", &b)], 0, &generator).unwrap();
    assert_eq!(table.trainings, [3, 3]);
    let means = [&a, &b].map(|trainings| RepeatedMetrics::evaluate(trainings, 0, &generator).unwrap());
    let of = |metrics: &RepeatedMetrics| [&metrics.accuracy, &metrics.f1[0], &metrics.auroc].map(|m| m.estimate.value);
    let [of_a, of_b] = [of(&means[0]), of(&means[1])];
    for (place, difference) in table.differences.iter().enumerate() {
        for (found, expected) in difference.values.into_iter().zip([of_a[place], of_b[place]]) {
            assert!((found.unwrap() - expected.unwrap()).abs() < 1e-12, "{difference:?}");
        }
        let effect = difference.effect.unwrap();
        assert!((effect.difference - (of_b[place].unwrap() - of_a[place].unwrap())).abs() < 1e-12, "{difference:?}");
        // McNemar's test takes one answer an image, so it cannot be what decides.
        assert!(!difference.method.contains("McNemar"), "{}", difference.method);
    }
    // It is of the ensembles, which are right elsewhere than any single training.
    let ensembles = [&a, &b].map(|trainings| right(&Predictions::mean(trainings).unwrap()));
    let alone = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|&(&a, &b)| a && !b).count() as u64;
    let expected = mcnemar(alone(&ensembles[0], &ensembles[1]), alone(&ensembles[1], &ensembles[0]));
    assert_eq!(table.errors[0].mcnemar, expected);
    let text = table.statements().join("\n");
    let percent = |value: Option<f64>| format!("{:.1} %", 100.0 * value.unwrap());
    let expected = format!("Accuracy: `b` {} against `a` {}", percent(of_b[0]), percent(of_a[0]));
    assert!(text.contains(&expected) && text.contains("by the mean over its trainings"), "{expected} in\n{text}");
}

#[test]
fn three_times_the_same_training_is_that_training() {
    let (a, b) = (model(1, 4), model(2, 6));
    let thrice = [&a, &b].map(|model| vec![model.clone(); 3]);
    let repeated = differences(&[("a", &thrice[0]), ("b", &thrice[1])], 0, &generator).unwrap();
    let single = compare(&[("a", &a), ("b", &b)]);
    for (one, three) in single.differences.iter().zip(&repeated.differences) {
        let (one, three) = (one.effect.unwrap(), three.effect.unwrap());
        for (one, three) in [(one.difference, three.difference), (one.low, three.low), (one.high, three.high)] {
            assert!((one - three).abs() < 1e-9, "{one} and {three}");
        }
    }
    assert_eq!(single.errors, repeated.errors);
}

#[test]
fn many_rows_and_few_patients_can_still_show_a_large_difference() {
    // Six models on 30 patients: the smallest p value that can come out must survive the correction over 45 tests.
    let of = |wrong: &dyn Fn(usize) -> bool| {
        let labels: Vec<usize> = (0..60).map(|i| i / 2 % 2).collect();
        let predicted: Vec<usize> = labels.iter().enumerate().map(|(i, &l)| if wrong(i) { 1 - l } else { l }).collect();
        let probabilities = predicted.iter().flat_map(|&p| if p == 0 { [0.9, 0.1] } else { [0.2, 0.8] }).collect();
        let patients: Vec<Option<String>> = (0..60).map(|i| Some((i / 2).to_string())).collect();
        Predictions::new(vec!["infected".into(), "normal".into()], labels, predicted, probabilities)
            .and_then(|predictions| predictions.with_clusters(Clusters::of_patients(&patients)))
            .unwrap()
    };
    let models: Vec<Predictions> =
        (0..6).map(|model| of(&|i| if model == 0 { i % 8 != 0 } else { i % 20 == model })).collect();
    let named: Vec<(&str, &Predictions)> = ["a", "b", "c", "d", "e", "f"].into_iter().zip(&models).collect();
    let table = compare(&named);
    assert!(table.by_patient && table.differences.len() == 45);
    let accuracy = table.differences[0].effect.unwrap();
    assert!(accuracy.corrected_p < 1e-3, "{accuracy:?}");
}

#[test]
fn words() {
    let models = [model(1, 3), model(2, 8), model(3, 8)];
    let text = compare(&[("head", &models[0]), ("layer4", &models[1]), ("all", &models[2])]).statements().join("\n");
    assert_eq!(text + "\n", include_str!("fixtures/differences.txt"));
}

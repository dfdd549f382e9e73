//! Curves, thresholds, temperature and tests between models against brute force, and what must hold for any scores.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{
    Clusters, Predictions, RankedScores, ThresholdRule, at_temperature, auroc, delong_test, fit_temperature, holm,
    mcnemar,
};

const ROUNDS: u64 = 300;

/// One to forty images on a grid of scores from -0 on, so that ties and single classes are frequent.
fn random_scores(generator: &mut ChaCha8Rng) -> (Vec<f32>, Vec<bool>) {
    let size = generator.random_range(1..=40);
    let grid = generator.random_range(1..=20);
    let score = |_| match generator.random_range(0..=grid) {
        0 if generator.random() => -0.0,
        step => step as f32 / grid as f32,
    };
    let scores: Vec<f32> = (0..size).map(score).collect();
    let share: f64 = generator.random();
    (scores.clone(), scores.iter().map(|_| generator.random::<f64>() < share).collect())
}

fn for_random_scores(check: impl Fn(&[f32], &[bool], &mut ChaCha8Rng)) {
    for seed in 0..ROUNDS {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let (scores, positive) = random_scores(&mut generator);
        println!("seed {seed}: scores {scores:?}, positive {positive:?}");
        check(&scores, &positive, &mut generator);
    }
}

fn ranked(scores: &[f32], positive: &[bool]) -> RankedScores {
    RankedScores::new(scores, positive).unwrap()
}

#[track_caller]
fn assert_close(found: Option<f64>, expected: Option<f64>) {
    match (found, expected) {
        (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{found} != {expected}"),
        _ => assert_eq!(found, expected),
    }
}

/// Area under the ROC curve by all pairs; 0/0 is undefined.
fn by_pairs(scores: &[f32], positive: &[bool], weights: &[u32]) -> Option<f64> {
    let (mut right, mut pairs) = (0.0, 0.0);
    for i in 0..scores.len() {
        for j in 0..scores.len() {
            if positive[i] && !positive[j] {
                let weight = f64::from(weights[i] * weights[j]);
                pairs += weight;
                right += weight * if scores[i] > scores[j] { 1.0 } else { 0.5 * f64::from(scores[i] == scores[j]) };
            }
        }
    }
    (pairs > 0.0).then_some(right / pairs)
}

/// Average precision with every threshold counted anew.
fn by_thresholds(scores: &[f32], positive: &[bool], weights: &[u32]) -> Option<f64> {
    let mut thresholds: Vec<f32> = scores.iter().map(|score| score + 0.0).collect();
    thresholds.sort_by(|a, b| b.total_cmp(a));
    thresholds.dedup();
    let count = |counts: &dyn Fn(usize) -> bool| -> f64 {
        (0..scores.len()).filter(|&i| counts(i)).map(|i| f64::from(weights[i])).sum()
    };
    let positives = count(&|i| positive[i]);
    let (mut sum, mut recall_before) = (0.0, 0.0);
    for threshold in thresholds {
        let hits = count(&|i| positive[i] && scores[i] >= threshold);
        let called = count(&|i| scores[i] >= threshold);
        if called > 0.0 {
            sum += (hits / positives - recall_before) * hits / called;
        }
        recall_before = hits / positives;
    }
    (positives > 0.0).then_some(sum)
}

#[test]
fn areas_are_those_of_brute_force_also_where_images_count_often() {
    for_random_scores(|scores, positive, generator| {
        let ranked = ranked(scores, positive);
        let once = vec![1; scores.len()];
        let drawn: Vec<u32> = scores.iter().map(|_| generator.random_range(0..4)).collect();
        for weights in [once, drawn] {
            let weight = |sample: usize| u64::from(weights[sample]);
            assert_close(ranked.auroc(weight), by_pairs(scores, positive, &weights));
            assert_close(ranked.average_precision(weight), by_thresholds(scores, positive, &weights));
            // Counting an image twice is having it twice.
            let repeated: Vec<usize> = (0..scores.len()).flat_map(|i| vec![i; weights[i] as usize]).collect();
            if !repeated.is_empty() {
                let scores: Vec<f32> = repeated.iter().map(|&i| scores[i]).collect();
                let positive: Vec<bool> = repeated.iter().map(|&i| positive[i]).collect();
                assert_close(RankedScores::new(&scores, &positive).unwrap().auroc(|_| 1), ranked.auroc(weight));
            }
        }
    });
}

#[test]
fn areas_do_not_know_the_order_of_images_nor_the_scale_of_scores() {
    for_random_scores(|scores, positive, generator| {
        let area = ranked(scores, positive).auroc(|_| 1);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, generator.random_range(0..=last));
        }
        let permuted: Vec<f32> = order.iter().map(|&i| scores[i]).collect();
        let of_permuted: Vec<bool> = order.iter().map(|&i| positive[i]).collect();
        assert_eq!(ranked(&permuted, &of_permuted).auroc(|_| 1), area);
        let stretched: Vec<f32> = scores.iter().map(|score| (3.0 * score).exp()).collect();
        assert_eq!(ranked(&stretched, positive).auroc(|_| 1), area);
        let turned: Vec<f32> = scores.iter().map(|score| 1.0 - score).collect();
        let others: Vec<bool> = positive.iter().map(|positive| !positive).collect();
        // The other class by the other probability is the same question.
        assert_close(ranked(&turned, &others).auroc(|_| 1), area);
        assert_close(ranked(&turned, positive).auroc(|_| 1), area.map(|area| 1.0 - area));
    });
}

#[test]
fn curves_begin_and_end_where_they_must_and_never_turn_back() {
    for_random_scores(|scores, positive, _| {
        let ranked = ranked(scores, positive);
        assert_eq!(ranked.roc().is_some(), ranked.auroc(|_| 1).is_some());
        assert_eq!(ranked.precision_recall().is_some(), positive.contains(&true));
        if let Some(curve) = ranked.precision_recall() {
            assert_eq!(curve.last().unwrap().recall, 1.0);
        }
        let Some(roc) = ranked.roc() else { return };
        let ends = [roc[0], roc[roc.len() - 1]].map(|point| (point.false_positive_rate, point.true_positive_rate));
        assert_eq!(ends, [(0.0, 0.0), (1.0, 1.0)]);
        let mut area = 0.0;
        for pair in roc.windows(2) {
            let width = pair[1].false_positive_rate - pair[0].false_positive_rate;
            assert!(width >= 0.0 && pair[1].true_positive_rate >= pair[0].true_positive_rate);
            assert!(pair[1].threshold < pair[0].threshold);
            area += width * (pair[0].true_positive_rate + pair[1].true_positive_rate) / 2.0;
        }
        assert_close(Some(area), ranked.auroc(|_| 1));
    });
}

#[test]
fn thresholds_are_the_best_of_all_that_can_be_told_apart() {
    for_random_scores(|scores, positive, generator| {
        let rules = [
            ThresholdRule::Youden,
            ThresholdRule::Sensitivity { at_least: generator.random() },
            ThresholdRule::Cost { miss: generator.random_range(0.0..5.0), false_alarm: 1.0, prevalence: None },
            ThresholdRule::Cost { miss: 20.0, false_alarm: 1.0, prevalence: Some(generator.random()) },
        ];
        let positives = positive.iter().filter(|&&positive| positive).count() as f64;
        let negatives = positive.len() as f64 - positives;
        let rates = |called: &dyn Fn(f32) -> bool| {
            let count = |kind| (0..scores.len()).filter(|&i| positive[i] == kind && called(scores[i])).count() as f64;
            (count(true) / positives, 1.0 - count(false) / negatives)
        };
        for rule in rules {
            let Ok(chosen) = rule.choose(&ranked(scores, positive)) else {
                assert!(positives == 0.0 || negatives == 0.0);
                continue;
            };
            let (sensitivity, specificity) = rates(&|score| chosen.calls(score));
            assert_close(Some(sensitivity), Some(chosen.fitted_sensitivity));
            assert_close(Some(specificity), Some(chosen.fitted_specificity));
            let merit = |(sensitivity, specificity): (f64, f64)| match rule {
                ThresholdRule::Youden => sensitivity + specificity,
                ThresholdRule::Sensitivity { at_least } if sensitivity < at_least - 1e-12 => f64::NEG_INFINITY,
                ThresholdRule::Sensitivity { .. } => specificity,
                ThresholdRule::Cost { miss, false_alarm, prevalence } => {
                    let prevalence = prevalence.unwrap_or(positives / (positives + negatives));
                    -miss * prevalence * (1.0 - sensitivity) - false_alarm * (1.0 - prevalence) * (1.0 - specificity)
                }
            };
            let best = scores.iter().map(|&at| merit(rates(&|score| score >= at))).fold(merit((0.0, 1.0)), f64::max);
            assert!((merit((sensitivity, specificity)) - best).abs() < 1e-12, "{rule}: {chosen:?}, best merit {best}");
        }
    });
}

/// Softmax of random logits, labels drawn from it, `sharpness` times as sharp.
fn random_predictions(generator: &mut ChaCha8Rng, sharpness: f64) -> Predictions {
    let classes = generator.random_range(2..=4);
    let samples = generator.random_range(20..=80);
    let (mut labels, mut predicted, mut probabilities) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..samples {
        let logits: Vec<f64> = (0..classes).map(|_| generator.random_range(-2.0..2.0)).collect();
        let softmax = |scale: f64| {
            let sum: f64 = logits.iter().map(|logit| (scale * logit).exp()).sum();
            logits.iter().map(|logit| (scale * logit).exp() / sum).collect::<Vec<f64>>()
        };
        let mut rest: f64 = generator.random();
        let honest = softmax(1.0);
        let drawn = honest.iter().position(|p| {
            rest -= p;
            rest < 0.0
        });
        labels.push(drawn.unwrap_or(0));
        predicted.push((0..classes).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap());
        probabilities.extend(softmax(sharpness).into_iter().map(|p| p as f32));
    }
    let names = (0..classes).map(|class| format!("class {class}")).collect();
    Predictions::new(names, labels, predicted, probabilities).unwrap()
}

fn mean_cross_entropy(predictions: &Predictions) -> f64 {
    let classes = predictions.classes().len();
    let loss =
        |(sample, &label): (usize, &usize)| -f64::from(predictions.probabilities()[sample * classes + label]).ln();
    predictions.labels().iter().enumerate().map(loss).sum::<f64>() / predictions.samples() as f64
}

#[test]
fn no_other_temperature_is_better_and_sharper_logits_need_more() {
    for seed in 0..60 {
        let [plain, sharp] =
            [1.0, 2.0].map(|sharpness| random_predictions(&mut ChaCha8Rng::seed_from_u64(seed), sharpness));
        let Ok(temperature) = fit_temperature(&plain) else { panic!("seed {seed}: labels are drawn at random") };
        let loss = |temperature: f64| mean_cross_entropy(&at_temperature(&plain, temperature).unwrap());
        for other in [0.99, 1.01, 0.5, 2.0] {
            assert!(loss(temperature) < loss(temperature * other) + 1e-9, "seed {seed}: {temperature}");
        }
        let doubled = fit_temperature(&sharp).unwrap();
        assert!((doubled / temperature - 2.0).abs() < 1e-4, "seed {seed}: {temperature} and {doubled}");
    }
}

#[test]
fn temperature_is_undefined_where_nothing_bounds_it() {
    let predictions = |labels: &[usize], probabilities: &[f32]| {
        let predicted = probabilities.chunks(2).map(|row| usize::from(row[1] > row[0])).collect();
        Predictions::new(vec!["a".into(), "b".into()], labels.to_vec(), predicted, probabilities.to_vec()).unwrap()
    };
    let right = fit_temperature(&predictions(&[0, 1], &[0.9, 0.1, 0.4, 0.6])).unwrap_err();
    assert!(right.contains("no image was called wrong"), "{right}");
    let wrong = fit_temperature(&predictions(&[1, 0], &[0.9, 0.1, 0.4, 0.6])).unwrap_err();
    assert!(wrong.contains("no better than equal"), "{wrong}");
    // A probability of 0 for what came true is very wrong, and no more.
    let certain = fit_temperature(&predictions(&[0, 0, 1, 1], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0])).unwrap();
    assert!(certain.is_finite() && certain > 10.0, "{certain}");
}

#[test]
fn mcnemar_is_the_tail_of_coin_tosses() {
    for first in 0..=10_u64 {
        for second in 0..=10_u64 {
            // Of all sequences of as many tosses, those at least as lopsided.
            let tosses = first + second;
            let lopsided = |sequence: &u64| {
                let heads = u64::from(sequence.count_ones());
                heads.abs_diff(tosses - heads) >= first.abs_diff(second)
            };
            if tosses <= 14 {
                let share = (0..1_u64 << tosses).filter(lopsided).count() as f64 / (1_u64 << tosses) as f64;
                assert!((mcnemar(first, second).p - share).abs() < 1e-12, "{first} and {second}");
            }
        }
    }
}

#[test]
fn holm_never_lowers_a_p_value_nor_changes_their_order() {
    for seed in 0..ROUNDS {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let p_values: Vec<f64> =
            (0..generator.random_range(0..12)).map(|_| generator.random::<f64>().powi(4)).collect();
        let corrected = holm(&p_values);
        for (i, &p) in p_values.iter().enumerate() {
            // By definition: the largest of (number not smaller) times p over all that are not larger.
            let not_smaller = |p: f64| p_values.iter().filter(|&&other| other >= p).count() as f64;
            let not_larger = p_values.iter().filter(|&&other| other <= p);
            let expected = not_larger.map(|&other| (not_smaller(other) * other).min(1.0)).fold(0.0, f64::max);
            assert!((corrected[i] - expected).abs() < 1e-12 && corrected[i] >= p, "seed {seed}");
        }
    }
}

#[test]
fn delong_s_test_is_fair_to_both_models() {
    for_random_scores(|scores, positive, generator| {
        let other: Vec<f32> = scores.iter().map(|score| score + generator.random_range(-0.5..0.5)).collect();
        let (first, second) = ([ranked(scores, positive)], [ranked(&other, positive)]);
        let clusters = Clusters::each_its_own(scores.len());
        match (delong_test(&first, &second, &clusters), delong_test(&second, &first, &clusters)) {
            (Ok(one), Ok(turned)) => {
                assert_close(Some(one.difference), Some(-turned.difference));
                assert!((one.p - turned.p).abs() < 1e-9 && (0.0..=1.0).contains(&one.p));
            }
            (one, turned) => assert_eq!(one.err(), turned.err()),
        }
        if let Ok(same) = delong_test(&first, &first, &clusters) {
            assert_eq!((same.difference, same.p), (0.0, 1.0));
        }
        let estimate = auroc(&first, &clusters, "infected");
        if let (Some(low), Some(value), Some(high)) = (estimate.low, estimate.value, estimate.high) {
            assert!(0.0 <= low && low <= value && value <= high && high <= 1.0 && low < high, "{estimate:?}");
        } else {
            assert!(estimate.reason.is_some(), "{estimate:?}");
        }
    });
}

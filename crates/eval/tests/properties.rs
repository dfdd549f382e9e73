//! What must hold for any predictions: random ones, against counting loops, permuted, with classes swapped.

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{ClassMetric, ConfusionMatrix, Estimate, Metrics, best_and_worst, format_table, statements};

const ROUNDS: u64 = 300;

struct Sample {
    classes: Vec<String>,
    labels: Vec<usize>,
    predicted: Vec<usize>,
    losses: Vec<f32>,
}

impl Sample {
    /// Two to five classes, one to sixty images, so that absent classes and classes never predicted are frequent.
    fn random(generator: &mut ChaCha8Rng) -> Self {
        let classes: usize = generator.random_range(2..=5);
        let size = generator.random_range(1..=60);
        let skill: f64 = generator.random();
        let labels: Vec<usize> = (0..size).map(|_| generator.random_range(0..classes)).collect();
        let predict = |&label: &usize| {
            if generator.random::<f64>() < skill { label } else { generator.random_range(0..classes) }
        };
        let predicted = labels.iter().map(predict).collect();
        let losses = (0..size).map(|_| generator.random_range(0.0..4.0)).collect();
        Self { classes: (0..classes).map(|class| format!("class {class}")).collect(), labels, predicted, losses }
    }

    fn metrics(&self, positive: usize) -> Metrics {
        Metrics::compute(&self.classes, positive, &self.labels, &self.predicted, Some(&self.losses)).unwrap()
    }
}

/// Calls `check` with random samples, each from a generator of its own, whose seed a failure names.
fn for_random_samples(check: impl Fn(&Sample, &mut ChaCha8Rng)) {
    for seed in 0..ROUNDS {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let sample = Sample::random(&mut generator);
        println!("seed {seed}: labels {:?}, predicted {:?}", sample.labels, sample.predicted);
        check(&sample, &mut generator);
    }
}

fn all_estimates(metrics: &Metrics) -> Vec<&Estimate> {
    let mut estimates = vec![&metrics.accuracy];
    for metric in ClassMetric::ALL {
        estimates.extend(metrics.of_classes(metric));
        estimates.push(metrics.macro_average.get(metric));
    }
    estimates
}

/// Rounding may differ where sums run over classes in another order.
fn assert_close(found: &Estimate, expected: &Estimate) {
    for (found, expected) in [(found.value, expected.value), (found.low, expected.low), (found.high, expected.high)] {
        match (found, expected) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{found} != {expected}"),
            _ => assert_eq!(found, expected),
        }
    }
}

#[test]
fn counting_loops_find_the_same() {
    for_random_samples(|sample, _| {
        let metrics = sample.metrics(0);
        let count = |matches: &dyn Fn(usize, usize) -> bool| {
            let mut count = 0.0;
            for index in 0..sample.labels.len() {
                if matches(sample.labels[index], sample.predicted[index]) {
                    count += 1.0;
                }
            }
            count
        };
        // In floating point 0/0 is NaN, which here stands for undefined.
        let defined = |ratio: f64| (!ratio.is_nan()).then_some(ratio);
        let total = sample.labels.len() as f64;
        assert_eq!(metrics.accuracy.value, defined(count(&|a, p| a == p) / total));
        for class in 0..sample.classes.len() {
            let hits = count(&|a, p| a == class && p == class);
            let images = count(&|a, _| a == class);
            let said = count(&|_, p| p == class);
            let others = count(&|a, _| a != class);
            let rejected = count(&|a, p| a != class && p != class);
            assert_eq!(metrics.precision[class].value, defined(hits / said));
            assert_eq!(metrics.sensitivity[class].value, defined(hits / images));
            assert_eq!(metrics.specificity[class].value, defined(rejected / others));
            let f1 = if images > 0.0 { defined(2.0 * hits / (images + said)) } else { None };
            assert_eq!(metrics.f1[class].value, f1);
        }
        let mean = sample.losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / total;
        assert_eq!(metrics.mean_loss, Some(mean));
    });
}

#[test]
fn estimates_are_whole_or_undefined_with_a_reason() {
    let (mut defined, mut undefined) = (0, 0);
    for seed in 0..ROUNDS {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        for estimate in all_estimates(&Sample::random(&mut generator).metrics(0)) {
            match (estimate.low, estimate.value, estimate.high, &estimate.reason) {
                (Some(low), Some(value), Some(high), None) => {
                    assert!(0.0 <= low && low <= value && value <= high && high <= 1.0, "seed {seed}: {estimate:?}");
                    assert!(high - low > 0.0, "no finite sample settles a metric, seed {seed}: {estimate:?}");
                    defined += 1;
                }
                (None, None, None, Some(reason)) => {
                    assert!(!reason.is_empty());
                    undefined += 1;
                }
                _ => panic!("seed {seed}: neither defined nor undefined: {estimate:?}"),
            }
        }
    }
    assert!(defined > 1000 && undefined > 100, "the samples test one side only: {defined}, {undefined}");
}

#[test]
fn the_order_of_the_images_does_not_matter() {
    for_random_samples(|sample, generator| {
        let mut order: Vec<usize> = (0..sample.labels.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, generator.random_range(0..=last));
        }
        let permuted = Sample {
            classes: sample.classes.clone(),
            labels: order.iter().map(|&index| sample.labels[index]).collect(),
            predicted: order.iter().map(|&index| sample.predicted[index]).collect(),
            losses: order.iter().map(|&index| sample.losses[index]).collect(),
        };
        let (mut before, mut after) = (sample.metrics(0), permuted.metrics(0));
        let (loss_before, loss_after) = (before.mean_loss.take().unwrap(), after.mean_loss.take().unwrap());
        assert!((loss_before - loss_after).abs() < 1e-12);
        assert_eq!(before, after);
    });
}

#[test]
fn renumbering_the_classes_renumbers_the_metrics() {
    for_random_samples(|sample, generator| {
        let classes = sample.classes.len();
        let rotation = generator.random_range(1..classes);
        let renumbered = |class: usize| (class + rotation) % classes;
        let mut names = sample.classes.clone();
        names.rotate_right(rotation);
        let swapped = Sample {
            classes: names,
            labels: sample.labels.iter().copied().map(renumbered).collect(),
            predicted: sample.predicted.iter().copied().map(renumbered).collect(),
            losses: sample.losses.clone(),
        };
        let (before, after) = (sample.metrics(0), swapped.metrics(renumbered(0)));
        assert_eq!(before.accuracy, after.accuracy);
        assert_eq!(before.positive_name(), after.positive_name());
        for metric in ClassMetric::ALL {
            assert_close(after.macro_average.get(metric), before.macro_average.get(metric));
            for class in 0..classes {
                assert_eq!(after.of_classes(metric)[renumbered(class)], before.of_classes(metric)[class]);
            }
        }
    });
}

#[test]
fn of_two_classes_the_specificity_of_one_is_the_sensitivity_of_the_other() {
    let mut checked = 0;
    for seed in 0..ROUNDS {
        let sample = Sample::random(&mut ChaCha8Rng::seed_from_u64(seed));
        if sample.classes.len() != 2 {
            continue;
        }
        let metrics = sample.metrics(0);
        for (one, other) in [(0, 1), (1, 0)] {
            assert_close(&metrics.specificity[one], &metrics.sensitivity[other]);
        }
        assert_close(&metrics.macro_average.specificity, &metrics.macro_average.sensitivity);
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn exchanging_labels_and_predictions_exchanges_precision_and_sensitivity() {
    for_random_samples(|sample, _| {
        let exchanged = Sample {
            classes: sample.classes.clone(),
            labels: sample.predicted.clone(),
            predicted: sample.labels.clone(),
            losses: sample.losses.clone(),
        };
        let (before, after) = (sample.metrics(0), exchanged.metrics(0));
        assert_eq!(before.accuracy, after.accuracy);
        for class in 0..sample.classes.len() {
            assert_close(&before.precision[class], &after.sensitivity[class]);
            assert_close(&before.sensitivity[class], &after.precision[class]);
        }
        assert_close(&before.macro_average.precision, &after.macro_average.sensitivity);
    });
}

#[test]
fn rankings_hold_each_image_once_and_in_order() {
    for_random_samples(|sample, generator| {
        let classes = sample.classes.len();
        // Few different values, so that ties are frequent.
        let probabilities: Vec<f32> =
            (0..sample.labels.len() * classes).map(|_| generator.random_range(0..4) as f32 / 4.0).collect();
        let rankings = best_and_worst(&sample.labels, &sample.predicted, &probabilities, classes, usize::MAX).unwrap();
        let place = |index: usize| (-probabilities[index * classes + sample.predicted[index]], index);
        let mut seen: Vec<usize> = Vec::new();
        for (class, ranking) in rankings.iter().enumerate() {
            assert!(ranking.best.iter().all(|&i| sample.labels[i] == class && sample.predicted[i] == class));
            assert!(ranking.worst.iter().all(|&i| sample.labels[i] == class && sample.predicted[i] != class));
            for list in [&ranking.best, &ranking.worst] {
                assert!(list.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{list:?}");
                seen.extend(list);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..sample.labels.len()).collect::<Vec<_>>());
        let shorter = best_and_worst(&sample.labels, &sample.predicted, &probabilities, classes, 2).unwrap();
        for (short, long) in shorter.iter().zip(&rankings) {
            assert_eq!(short.best, long.best[..long.best.len().min(2)]);
            assert_eq!(short.worst, long.worst[..long.worst.len().min(2)]);
        }
    });
}

#[test]
fn text_never_shows_what_is_no_number() {
    for_random_samples(|sample, _| {
        let metrics = sample.metrics(0);
        let text = format_table(&metrics) + &statements(&metrics).join("\n");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        let undefined = all_estimates(&metrics).iter().filter(|estimate| estimate.value.is_none()).count();
        assert_eq!(format_table(&metrics).matches("undefined (").count(), undefined);
    });
}

/// The intervals are approximations; drawn from known shares they must hold the truth about as often as they say.
#[test]
fn intervals_hold_the_truth_about_95_times_in_100() {
    // Shares of [actual][predicted], images drawn.
    let populations = [
        (vec![vec![0.343, 0.067], vec![0.007, 0.583]], 150),
        (vec![vec![0.25, 0.15], vec![0.2, 0.4]], 60),
        (vec![vec![0.3, 0.05, 0.02], vec![0.04, 0.3, 0.03], vec![0.06, 0.05, 0.15]], 200),
    ];
    let draws = 2000;
    for (shares, images) in populations {
        let classes = shares.len();
        let names: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
        // A matrix of a billion images is the population to all the digits that matter.
        let whole = shares.iter().map(|row| row.iter().map(|share| (share * 1e9) as u64).collect()).collect();
        let truth = Metrics::from_matrix(ConfusionMatrix::from_counts(names.clone(), whole).unwrap(), 0, None).unwrap();
        let truth = all_estimates(&truth).into_iter().map(|estimate| estimate.value.unwrap()).collect::<Vec<_>>();
        let mut held = vec![0; truth.len()];
        let mut generator = ChaCha8Rng::seed_from_u64(classes as u64);
        for _ in 0..draws {
            let mut counts = vec![vec![0_u64; classes]; classes];
            for _ in 0..images {
                let mut rest: f64 = generator.random();
                let cells = (0..classes).flat_map(|actual| (0..classes).map(move |predicted| (actual, predicted)));
                let mut cell = (0, 0);
                for (actual, predicted) in cells {
                    cell = (actual, predicted);
                    rest -= shares[actual][predicted];
                    if rest < 0.0 {
                        break;
                    }
                }
                counts[cell.0][cell.1] += 1;
            }
            let matrix = ConfusionMatrix::from_counts(names.clone(), counts).unwrap();
            let metrics = Metrics::from_matrix(matrix, 0, None).unwrap();
            for (index, estimate) in all_estimates(&metrics).into_iter().enumerate() {
                let interval = estimate.interval().expect("a class of a quarter of the images is never absent");
                held[index] += u64::from(interval.contains(truth[index]));
            }
        }
        for (index, held) in held.into_iter().enumerate() {
            let share = held as f64 / f64::from(draws);
            println!("{classes} classes, {images} images, estimate {index}: {share}");
            assert!((0.925..0.985).contains(&share), "{classes} classes, estimate {index}: held {share}");
        }
    }
}

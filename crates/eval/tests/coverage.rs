//! Intervals and tests, simulated: of 2,000 samples drawn from a population that is known, 95 in 100 intervals must
//! hold its truth and 5 in 100 tests may find a difference that is not there, to within 1.5 percentage points (three
//! standard errors of such a count).
//!
//! They do so for 120 patients, a small test split, and for models good and bad; the good ones are the hard case, as few
//! images are then called wrong. Fewer resamples are drawn here than [`roentgen_eval::RESAMPLES`]: intervals vary more,
//! and hold as often.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{CONFIDENCE, Clusters, Interval, RankedScores, Scale, auroc, bootstrap, delong_test, mcnemar};
use statrs::distribution::{ContinuousCDF, Normal};
use std::collections::HashSet;

const DRAWS: u64 = 2000;
const RESAMPLES: usize = 200;
/// Patients in a sample, each with one or two images.
const PATIENTS: usize = 120;
/// Share of patients who are infected.
const INFECTED: f64 = 0.5;
/// How far apart the mean scores of infected and normal images are: for an area under the ROC curve of 0.77, and of 0.96.
const DISTANCES: [f64; 2] = [1.5, 3.5];
/// Standard deviation of what the scores of a patient's images have in common; that of the rest is 1.
const OF_PATIENT: f64 = 1.0;

/// Scores of two equally good models for images of patients.
struct Sample {
    distance: f64,
    positive: Vec<bool>,
    scores: [Vec<f32>; 2],
    clusters: Clusters,
}

impl Sample {
    /// Patients with 1 to `most_images` images each. Half of what a model adds to an image's score is common to both.
    fn draw(seed: u64, patients: usize, most_images: usize, distance: f64) -> Sample {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let (positive, scores, clusters) = (Vec::new(), [Vec::new(), Vec::new()], Clusters::each_its_own(0));
        let mut sample = Sample { distance, positive, scores, clusters };
        let mut names = Vec::new();
        for patient in 0..patients {
            let infected = generator.random::<f64>() < INFECTED;
            let of_patient = OF_PATIENT * normal(&mut generator);
            for _ in 0..generator.random_range(1..=most_images) {
                names.push(Some(patient.to_string()));
                sample.positive.push(infected);
                let common = of_patient + 0.5_f64.sqrt() * normal(&mut generator);
                for scores in &mut sample.scores {
                    let own = 0.5_f64.sqrt() * normal(&mut generator);
                    scores.push((distance * f64::from(u8::from(infected)) + common + own) as f32);
                }
            }
        }
        sample.clusters = Clusters::of_patients(&names);
        sample
    }

    fn ranked(&self, model: usize) -> RankedScores {
        RankedScores::new(&self.scores[model], &self.positive).unwrap()
    }

    /// How many patients have an image that `counts` accepts.
    fn patients(&self, counts: impl Fn(usize) -> bool) -> usize {
        let of = (0..self.positive.len()).filter(|&image| counts(image));
        of.map(|image| self.clusters.of_samples()[image]).collect::<HashSet<_>>().len()
    }

    /// Whether a model called each image infected: where the score is past the middle.
    fn called(&self, model: usize) -> Vec<bool> {
        self.scores[model].iter().map(|&score| f64::from(score) > self.distance / 2.0).collect()
    }

    /// The probability that a model gives each image of being infected, which is as honest as it can be.
    fn probabilities(&self, model: usize) -> Vec<f64> {
        self.scores[model].iter().map(|&score| probability(f64::from(score), self.distance)).collect()
    }
}

/// The standard deviation of the scores of a class.
fn deviation() -> f64 {
    (OF_PATIENT * OF_PATIENT + 1.0).sqrt()
}

/// Bayes' rule for a score.
fn probability(score: f64, distance: f64) -> f64 {
    1.0 / (1.0 + (-(score - distance / 2.0) * distance / deviation().powi(2)).exp())
}

/// Box and Muller's transform.
fn normal(generator: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (generator.random(), generator.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

const METRICS: [&str; 8] =
    ["sensitivity", "specificity", "accuracy", "precision", "F1", "AUROC", "AUPRC", "Brier score"];

/// What the population has, in the order of [`METRICS`].
fn truths(distance: f64) -> [f64; 8] {
    let cdf = |value: f64| Normal::standard().cdf(value);
    // The threshold lies in the middle and both classes are as frequent, so all five shares are the same one.
    let right = cdf(distance / 2.0 / deviation());
    // Average precision and Brier score by the mean over quantiles of the scores of the infected; those of the normal
    // mirror them.
    let (mut precision, mut square, steps) = (0.0, 0.0, 20_000_u32);
    for step in 0..steps {
        let noise = deviation() * Normal::standard().inverse_cdf((f64::from(step) + 0.5) / f64::from(steps));
        let score = distance + noise;
        let (hits, alarms) = (1.0 - cdf(noise / deviation()), 1.0 - cdf(score / deviation()));
        precision += hits / (hits + alarms) / f64::from(steps);
        square += (1.0 - probability(score, distance)).powi(2) / f64::from(steps);
    }
    [right, right, right, right, right, cdf(distance / deviation() / 2.0_f64.sqrt()), precision, square]
}

/// Sensitivity, specificity, accuracy, precision and F1.
fn decisions(positive: &[bool], called: &[bool], weights: &[u32]) -> [f64; 5] {
    let mut counts = [0_u32; 4];
    for ((&positive, &called), weight) in positive.iter().zip(called).zip(weights) {
        counts[2 * usize::from(positive) + usize::from(called)] += weight;
    }
    let [rejected, alarms, missed, hits] = counts.map(f64::from);
    [
        hits / (hits + missed),
        rejected / (rejected + alarms),
        (hits + rejected) / (hits + missed + rejected + alarms),
        hits / (hits + alarms),
        2.0 * hits / (2.0 * hits + missed + alarms),
    ]
}

#[track_caller]
fn assert_share(what: &str, count: u64, expected: f64) {
    assert_share_within(what, count, expected, 0.015);
}

#[track_caller]
fn assert_share_within(what: &str, count: u64, expected: f64, tolerance: f64) {
    let share = count as f64 / DRAWS as f64;
    println!("{what}: {share}");
    assert!((share - expected).abs() <= tolerance, "{what}: {share}, expected {expected} +- {tolerance}");
}

/// Calls `one` for each draw, on two threads, and adds up what it counts.
fn count<const N: usize>(one: impl Fn(u64) -> [bool; N] + Sync) -> [u64; N] {
    let half = |draws: std::ops::Range<u64>| {
        let mut counts = [0; N];
        for draw in draws {
            counts.iter_mut().zip(one(draw)).for_each(|(count, held)| *count += u64::from(held));
        }
        counts
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(0..DRAWS / 2));
        let mut counts = half(DRAWS / 2..DRAWS);
        counts.iter_mut().zip(other.join().unwrap()).for_each(|(count, other)| *count += other);
        counts
    })
}

/// The generators of a draw's resamples.
fn resampling(draw: u64) -> impl Fn(u64) -> ChaCha8Rng {
    move |resample| ChaCha8Rng::seed_from_u64((draw << 32) + resample + 1)
}

#[test]
fn intervals_by_patient_hold_the_truth_95_times_in_100() {
    // The last is an area of 0.99, where so few images are called wrong that no method keeps to 1.5 points.
    for (distance, tolerance) in [(DISTANCES[0], 0.015), (DISTANCES[1], 0.015), (4.5, 0.025)] {
        let truths = truths(distance);
        let held = count(|draw| {
            let sample = Sample::draw(draw, PATIENTS, 2, distance);
            let (positive, called, ranked) = (&sample.positive, sample.called(0), sample.ranked(0));
            let square = |(p, &positive): (f64, &bool)| (p - f64::from(u8::from(positive))).powi(2);
            let squares: Vec<f64> = sample.probabilities(0).into_iter().zip(positive).map(square).collect();
            let statistics = |weights: &[u32]| {
                let mut values: Vec<_> = decisions(positive, &called, weights).map(Some).to_vec();
                values.push(ranked.average_precision(|image| u64::from(weights[image])));
                let sum: f64 = squares.iter().zip(weights).map(|(square, &weight)| square * f64::from(weight)).sum();
                values.push(Some(sum / f64::from(weights.iter().sum::<u32>())));
                values
            };
            let distributions = bootstrap(&sample.clusters, RESAMPLES, &resampling(draw), statistics);
            let values = statistics(&vec![1; positive.len()]);
            let infected = sample.patients(|image| positive[image]);
            let normal = sample.patients(|image| !positive[image]);
            let said = sample.patients(|image| called[image]);
            let either = sample.patients(|image| called[image] || positive[image]);
            // What each rests on, as `Metrics::evaluate` has it.
            let units = [infected, normal, PATIENTS, said, either, infected, PATIENTS];
            let holds = |index: usize, truth: f64| {
                let scale = if index < 5 { Scale::Score } else { Scale::Logit };
                let interval = distributions[index].interval(values[index].unwrap(), scale, units[index], CONFIDENCE);
                // Who makes no error at all stands elsewhere.
                interval.is_none_or(|interval| interval.contains(truth))
            };
            let area = auroc(std::slice::from_ref(&ranked), &sample.clusters, "infected").interval().unwrap();
            let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|index| holds(index, truths[index]));
            [a, b, c, d, e, area.contains(truths[5]), holds(5, truths[6]), holds(6, truths[7])]
        });
        for (name, held) in METRICS.into_iter().zip(held) {
            assert_share_within(&format!("{name} at distance {distance}"), held, 0.95, tolerance);
        }
    }
}

#[test]
fn images_taken_as_independent_would_hold_it_less_often() {
    // What the bootstrap by patient is for; and proof that this simulation can tell.
    let truth = truths(DISTANCES[0])[2];
    let [held] = count(|draw| {
        let sample = Sample::draw(draw, 160, 5, DISTANCES[0]);
        let called = sample.called(0);
        let right = sample.positive.iter().zip(&called).filter(|(positive, called)| positive == called).count();
        [roentgen_eval::wilson(right as u64, called.len() as u64, CONFIDENCE).unwrap().contains(truth)]
    });
    assert!(held < DRAWS * 9 / 10, "{held}");
}

#[test]
fn paired_differences_by_patient_are_found_no_more_often_than_they_may_be() {
    for (distance, patients) in [(DISTANCES[0], PATIENTS), (DISTANCES[1], PATIENTS), (DISTANCES[0], 20)] {
        let counts = count(|draw| {
            let sample = Sample::draw(draw, patients, 2, distance);
            let called = [sample.called(0), sample.called(1)];
            let statistics = |weights: &[u32]| {
                let [first, second] = called.each_ref().map(|called| decisions(&sample.positive, called, weights));
                [2, 4]
                    .map(|place| Some(second[place] - first[place]).filter(|difference| difference.is_finite()))
                    .to_vec()
            };
            let distributions = bootstrap(&sample.clusters, RESAMPLES, &resampling(draw), statistics);
            let values = statistics(&vec![1; sample.positive.len()]);
            [0, 1].map(|index| {
                let test = distributions[index].difference(values[index].unwrap_or(0.0), patients, CONFIDENCE);
                let (interval, p) = test.unwrap();
                assert_eq!(interval.contains(0.0), p >= 1.0 - CONFIDENCE);
                p < 1.0 - CONFIDENCE
            })
        });
        for (name, found) in ["accuracy", "F1"].into_iter().zip(counts) {
            let share = found as f64 / DRAWS as f64;
            println!("{name}, {patients} patients, distance {distance}: {share}");
            // Resamples of few patients vary in size too, which makes the test of F1 cautious.
            assert!((0.015..=0.065).contains(&share), "{name}, {patients} patients, distance {distance}: {share}");
        }
    }
}

#[test]
fn delong_s_intervals_and_tests_are_as_often_right_as_they_say() {
    let distance = DISTANCES[0];
    let truth = truths(distance)[5];
    for (patients, most_images) in [(150, 1), (150, 4)] {
        let [held, held_difference, found] = count(|draw| {
            let sample = Sample::draw(draw, patients, most_images, distance);
            let [first, second] = [0, 1].map(|model| [sample.ranked(model)]);
            let interval = auroc(&first, &sample.clusters, "infected").interval().unwrap();
            let test = delong_test(&first, &second, &sample.clusters).unwrap();
            [interval.contains(truth), test.interval(CONFIDENCE).contains(0.0), test.p < 0.05]
        });
        assert_share(&format!("AUROC, up to {most_images} images"), held, 0.95);
        assert_share(&format!("difference, up to {most_images} images"), held_difference, 0.95);
        assert_share(&format!("test, up to {most_images} images"), found, 0.05);
    }
}

#[test]
fn delong_s_test_is_not_too_sure_of_twenty_patients() {
    // Models that err on other patients, so that it is the few patients and not the many images that count.
    let distance = DISTANCES[0];
    let [found] = count(|draw| {
        let sample = Sample::draw(draw, 20, 5, distance);
        let mut generator = ChaCha8Rng::seed_from_u64(draw + DRAWS);
        let of_patient: Vec<f64> = (0..20).map(|_| OF_PATIENT * normal(&mut generator)).collect();
        let other = sample.clusters.of_samples().iter().zip(&sample.positive).map(|(&patient, &positive)| {
            (distance * f64::from(u8::from(positive)) + of_patient[patient] + normal(&mut generator)) as f32
        });
        let other = RankedScores::new(&other.collect::<Vec<f32>>(), &sample.positive).unwrap();
        let test = delong_test(&[sample.ranked(0)], &[other], &sample.clusters);
        [test.is_ok_and(|test| test.p < 0.05)]
    });
    let share = found as f64 / DRAWS as f64;
    println!("{share}");
    // Taken for normal, the same statistic finds a difference in 7 of 100.
    assert!(share <= 0.065, "{share}");
}

#[test]
fn areas_near_one_are_held_too() {
    // Scores three times as far apart: about one sample in seven has no error at all.
    let far = 4.5;
    let truth = Normal::standard().cdf(far / 2.0);
    let [held, without_error] = count(|draw| {
        let mut generator = ChaCha8Rng::seed_from_u64(draw);
        let positive: Vec<bool> = (0..80).map(|image| image < 40).collect();
        let score =
            |&positive: &bool| (far * f64::from(u8::from(positive)) + 2.0_f64.sqrt() * normal(&mut generator)) as f32;
        let scores: Vec<f32> = positive.iter().map(score).collect();
        let ranked = RankedScores::new(&scores, &positive).unwrap();
        let estimate = auroc(&[ranked], &Clusters::each_its_own(80), "infected");
        let Interval { low, high } = estimate.interval().unwrap();
        [(low..=high).contains(&truth), estimate.value == Some(1.0)]
    });
    assert!(without_error > 20, "{without_error}");
    let share = held as f64 / DRAWS as f64;
    println!("{share}, {without_error} without error");
    // Wider than elsewhere: so few pairs are out of order that no method comes closer.
    assert!((0.93..=0.99).contains(&share), "{share}");
}

#[test]
fn mcnemar_never_finds_too_much() {
    let [found] = count(|draw| {
        let sample = Sample::draw(draw, 300, 1, DISTANCES[0]);
        let [first, second] = [sample.called(0), sample.called(1)];
        let alone = |one: &[bool], other: &[bool]| {
            (0..one.len()).filter(|&i| one[i] == sample.positive[i] && other[i] != sample.positive[i]).count() as u64
        };
        [mcnemar(alone(&first, &second), alone(&second, &first)).p < 0.05]
    });
    println!("{}", found as f64 / DRAWS as f64);
    // The exact test is conservative: coin tosses come in whole numbers.
    assert!((0.015..=0.05).contains(&(found as f64 / DRAWS as f64)), "{found}");
}

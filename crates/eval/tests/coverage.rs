//! Intervals and tests, simulated: of 2,000 samples drawn from a population that is known, 95 in 100 intervals must
//! hold its truth and 5 in 100 tests may find a difference that is not there, to within 1.5 percentage points (three
//! standard errors of such a count).
//!
//! That is a fair demand of a percentile bootstrap from some hundred independent patients a class on; on fewer it is
//! known to be short, which is why the notes name classes of few patients. Fewer resamples are drawn here than
//! [`roentgen_eval::RESAMPLES`], which the quantiles take into account: intervals vary more, and hold as often.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use roentgen_eval::{CONFIDENCE, Clusters, Interval, RankedScores, auroc, bootstrap, delong_test, mcnemar};
use statrs::distribution::{ContinuousCDF, Normal};
use std::collections::HashSet;

const DRAWS: u64 = 2000;
const RESAMPLES: usize = 300;
/// Patients in a sample, each with one or two images.
const PATIENTS: usize = 250;
/// Share of patients who are infected.
const INFECTED: f64 = 0.5;
/// How far apart the mean scores of infected and normal images are.
const DISTANCE: f64 = 1.5;
/// Standard deviation of what the scores of a patient's images have in common; that of the rest is 1.
const OF_PATIENT: f64 = 1.0;
/// An image with a larger score is called infected.
const THRESHOLD: f64 = 0.75;

/// Scores of two equally good models for images of patients.
struct Sample {
    positive: Vec<bool>,
    scores: [Vec<f32>; 2],
    clusters: Clusters,
}

impl Sample {
    /// Patients with 1 to `most_images` images each. Half of what a model adds to an image's score is common to both.
    fn draw(seed: u64, patients: usize, most_images: usize) -> Sample {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let mut sample =
            Sample { positive: Vec::new(), scores: [Vec::new(), Vec::new()], clusters: Clusters::each_its_own(0) };
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
                    scores.push((DISTANCE * f64::from(u8::from(infected)) + common + own) as f32);
                }
            }
        }
        sample.clusters = Clusters::of_patients(&names);
        sample
    }

    fn ranked(&self, model: usize) -> RankedScores {
        RankedScores::new(&self.scores[model], &self.positive).unwrap()
    }

    /// How many patients are infected, or are not.
    fn patients(&self, infected: bool) -> usize {
        let images = self.clusters.of_samples().iter().zip(&self.positive);
        images.filter(|&(_, &positive)| positive == infected).map(|(patient, _)| patient).collect::<HashSet<_>>().len()
    }

    /// Whether a model called each image infected.
    fn called(&self, model: usize) -> Vec<bool> {
        self.scores[model].iter().map(|&score| f64::from(score) > THRESHOLD).collect()
    }
}

/// Box and Muller's transform.
fn normal(generator: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (generator.random(), generator.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// What the population has: sensitivity, specificity, accuracy, F1, area under the ROC curve.
fn truths() -> [f64; 5] {
    let deviation = (OF_PATIENT * OF_PATIENT + 1.0).sqrt();
    let cdf = |value: f64| Normal::standard().cdf(value);
    let sensitivity = cdf((DISTANCE - THRESHOLD) / deviation);
    let specificity = cdf(THRESHOLD / deviation);
    let accuracy = INFECTED * sensitivity + (1.0 - INFECTED) * specificity;
    let hits = INFECTED * sensitivity;
    let f1 = 2.0 * hits / (hits + INFECTED + (1.0 - INFECTED) * (1.0 - specificity));
    [sensitivity, specificity, accuracy, f1, cdf(DISTANCE / deviation / 2.0_f64.sqrt())]
}

/// Sensitivity, specificity, accuracy and F1.
fn decisions(positive: &[bool], called: &[bool], weights: &[u32]) -> [f64; 4] {
    let mut counts = [[0_u32; 2]; 2];
    for ((&positive, &called), weight) in positive.iter().zip(called).zip(weights) {
        counts[usize::from(positive)][usize::from(called)] += weight;
    }
    let [[rejected, alarms], [missed, hits]] = counts.map(|row| row.map(f64::from));
    [
        hits / (hits + missed),
        rejected / (rejected + alarms),
        (hits + rejected) / (hits + missed + rejected + alarms),
        2.0 * hits / (2.0 * hits + missed + alarms),
    ]
}

#[track_caller]
fn assert_share(what: &str, count: u64, expected: f64) {
    let share = count as f64 / DRAWS as f64;
    println!("{what}: {share}");
    assert!((share - expected).abs() <= 0.015, "{what}: {share}, expected {expected}");
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
fn bootstrap_by_patient_holds_the_truth_95_times_in_100() {
    let truths = truths();
    let held = count(|draw| {
        let sample = Sample::draw(draw, PATIENTS, 2);
        let (called, ranked) = (sample.called(0), sample.ranked(0));
        let distributions = bootstrap(&sample.clusters, RESAMPLES, &resampling(draw), |weights| {
            let mut values: Vec<_> = decisions(&sample.positive, &called, weights).map(Some).to_vec();
            values.push(ranked.auroc(|image| u64::from(weights[image])));
            values
        });
        let (infected, normal) = (sample.patients(true), sample.patients(false));
        // What each rests on; a few more patients for F1, for whom false alarms count.
        let units = [infected, normal, PATIENTS, infected, infected.min(normal)];
        let holds = |index: usize| {
            distributions[index].percentile_interval(CONFIDENCE, units[index]).unwrap().contains(truths[index])
        };
        [0, 1, 2, 3, 4].map(holds)
    });
    for (name, held) in ["sensitivity", "specificity", "accuracy", "F1", "AUROC"].into_iter().zip(held) {
        assert_share(name, held, 0.95);
    }
}

#[test]
fn images_taken_as_independent_would_hold_it_less_often() {
    // What the bootstrap by patient is for; and proof that this simulation can tell.
    let truth = truths()[2];
    let [held] = count(|draw| {
        let sample = Sample::draw(draw, 160, 5);
        let called = sample.called(0);
        let right = sample.positive.iter().zip(&called).filter(|(positive, called)| positive == called).count();
        [roentgen_eval::wilson(right as u64, called.len() as u64, CONFIDENCE).unwrap().contains(truth)]
    });
    assert!(held < DRAWS * 9 / 10, "{held}");
}

#[test]
fn paired_differences_by_patient_hold_no_difference_95_times_in_100() {
    let counts = count(|draw| {
        let sample = Sample::draw(draw, PATIENTS, 2);
        let called = [sample.called(0), sample.called(1)];
        let distributions = bootstrap(&sample.clusters, RESAMPLES, &resampling(draw), |weights| {
            let [first, second] = called.each_ref().map(|called| decisions(&sample.positive, called, weights));
            vec![Some(second[2] - first[2]), Some(second[3] - first[3])]
        });
        let units = [PATIENTS, sample.patients(true)];
        let interval = |index: usize| distributions[index].percentile_interval(CONFIDENCE, units[index]).unwrap();
        let holds = |index: usize| interval(index).contains(0.0);
        let finds = |index: usize| distributions[index].p_value(units[index]).unwrap() < 0.05;
        [holds(0), holds(1), finds(0), finds(1)]
    });
    assert_share("accuracy, interval", counts[0], 0.95);
    assert_share("F1, interval", counts[1], 0.95);
    assert_share("accuracy, p value", counts[2], 0.05);
    assert_share("F1, p value", counts[3], 0.05);
}

#[test]
fn delong_s_intervals_and_tests_are_as_often_right_as_they_say() {
    let truth = truths()[4];
    for (patients, most_images) in [(150, 1), (150, 4)] {
        let [held, held_difference, found] = count(|draw| {
            let sample = Sample::draw(draw, patients, most_images);
            let [first, second] = [sample.ranked(0), sample.ranked(1)];
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
        let estimate = auroc(&ranked, &Clusters::each_its_own(80), "infected");
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
        let sample = Sample::draw(draw, 300, 1);
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

//! The learning rate step by step, against PyTorch's schedulers (`reference/schedule_fixtures.py`).

use roentgen_run::config::{OneCycle, Schedule, TrainingSettings};
use roentgen_train::LearningRate;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    learning_rate: f32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    schedule: Schedule,
    warmup_epochs: f32,
    epochs: usize,
    steps_in_epoch: usize,
    rates: Vec<f64>,
    momenta: Option<Vec<f64>>,
}

/// Both are rounded once, from f64.
fn close(found: f32, expected: f64) -> bool {
    (f64::from(found) - expected).abs() <= 1.2e-7 * expected.abs() + 1e-15
}

#[test]
fn every_schedule_has_torchs_values() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/schedules.json")).unwrap();
    assert!(fixture.cases.len() >= 13);
    for case in fixture.cases {
        let training = TrainingSettings {
            learning_rate: fixture.learning_rate,
            schedule: case.schedule,
            warmup_epochs: case.warmup_epochs,
            epochs: case.epochs,
            ..TrainingSettings::default()
        };
        let total = case.epochs * case.steps_in_epoch;
        assert_eq!(case.rates.len(), total);
        let rate = LearningRate::new(&training, case.steps_in_epoch, total as u64);
        for step in 0..total {
            let found = rate.at(step as u64);
            let what = format!("{:?}, warm-up {}, step {step}: {found:?}", case.schedule, case.warmup_epochs);
            assert!(close(found.learning_rate, case.rates[step]), "{what}, torch {}", case.rates[step]);
            match &case.momenta {
                None => assert_eq!(found.momentum, None, "{what}"),
                Some(momenta) => assert!(close(found.momentum.unwrap(), momenta[step]), "{what}, {}", momenta[step]),
            }
        }
    }
}

#[test]
fn a_constant_rate_is_the_setting_to_the_bit() {
    for learning_rate in [0.001, 0.1, 3e-5, 0.333_333_34] {
        let training = TrainingSettings { learning_rate, ..TrainingSettings::default() };
        let rate = LearningRate::new(&training, 7, 70);
        assert!((0..70).all(|step| rate.at(step).learning_rate.to_bits() == learning_rate.to_bits()));
    }
}

#[test]
fn runs_of_one_step_have_a_rate() {
    for schedule in [Schedule::Cosine { minimal_rate: 0.0 }, Schedule::OneCycle(OneCycle::default())] {
        for total in 1..5 {
            let training = TrainingSettings { schedule, epochs: total, ..TrainingSettings::default() };
            let rate = LearningRate::new(&training, 1, total as u64);
            assert!((0..total as u64).all(|step| rate.at(step).learning_rate > 0.0), "{schedule:?} over {total}");
        }
    }
}

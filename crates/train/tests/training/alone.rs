//! One run: it learns, it goes on to the same bits, and nothing but the settings decides them.

use crate::support::{StopAfter, config, data, results, setup, to_the_end, train};
use roentgen_cpu::CpuEngine;
use roentgen_data::Manifest;
use roentgen_nn::ParameterSet;
use roentgen_nn::weights::{StateDict, Values};
use roentgen_run::config::{Augmentation, OneCycle, Optimizer, Sampler, Schedule, Select, Unfreezing};
use roentgen_run::history::{EpochRecord, StepRecord, as_written, read_table};
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{Checkpoint, Event, LearningRate, Observer, Outcome, Setup, TrainError, fit};
use std::sync::Arc;

/// Stops in the first validation after a number of steps, once.
struct StopInValidation {
    steps: u64,
    reached: bool,
}

impl Observer for StopInValidation {
    fn event(&mut self, _run: usize, event: Event<'_>) {
        match event {
            Event::Step { .. } => self.steps -= 1,
            Event::Validation { .. } if self.steps == 0 => self.reached = true,
            _ => {}
        }
    }

    fn stop_requested(&self) -> bool {
        self.reached
    }
}

#[test]
fn a_run_that_was_stopped_anywhere_ends_with_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    for optimizer in [Optimizer::Sgd, Optimizer::Adamw] {
        let mut config = config(&folder.path().join("data"));
        config.training.optimizer = optimizer;
        let whole = folder.path().join(format!("whole-{optimizer:?}"));
        assert_eq!(train(&config, &whole, 2, to_the_end()).unwrap(), Outcome::Finished { epoch: 2 });
        // Three steps an epoch: inside the first, at its end, inside the second.
        let stops = match optimizer {
            Optimizer::Sgd => vec![vec![3], vec![1, 1, 1, 1, 1]],
            Optimizer::Adamw => vec![vec![2, 2]],
        };
        for stops in stops {
            let out = folder.path().join(format!("{optimizer:?}-{stops:?}"));
            for steps in stops {
                let outcome = train(&config, &out, 1, StopAfter(steps)).unwrap();
                assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
            }
            train(&config, &out, 2, to_the_end()).unwrap();
            assert!(results(&out) == results(&whole), "{}", out.display());
        }
    }
}

#[test]
fn a_stop_in_the_last_validation_loses_no_epoch() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["head".into()];
    config.training.select = Select::Best;
    for max_steps in [None, Some(5)] {
        config.training.max_steps = max_steps;
        let whole = folder.path().join(format!("whole-{max_steps:?}"));
        train(&config, &whole, 2, to_the_end()).unwrap();
        let out = folder.path().join(format!("stopped-{max_steps:?}"));
        let mut observer = StopInValidation { steps: max_steps.unwrap_or(6), reached: false };
        let stopped = fit(&mut setup(&config, &out), &CpuEngine::new(2).unwrap(), &mut observer).unwrap();
        assert!(matches!(stopped, Outcome::Interrupted { .. }), "{stopped:?}");
        train(&config, &out, 2, to_the_end()).unwrap();
        assert!(results(&out) == results(&whole));
        assert_eq!(results(&out).2.len(), 2);
    }
}

#[test]
fn what_a_killed_run_wrote_after_its_checkpoint_is_discarded() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let config = config(&folder.path().join("data"));
    let whole = folder.path().join("whole");
    train(&config, &whole, 2, to_the_end()).unwrap();
    let killed = folder.path().join("killed");
    train(&config, &killed, 2, StopAfter(4)).unwrap();
    let run = RunDirectory::new(&killed);
    for (file, text) in [(run.steps_file(), "5,2,0.1\n6,2,0."), (run.history_file(), "2,0.1,0.1,1,1,0.01,1,1,\n")] {
        let mut content = std::fs::read_to_string(&file).unwrap();
        content.push_str(text);
        std::fs::write(&file, content).unwrap();
    }
    train(&config, &killed, 2, to_the_end()).unwrap();
    assert!(results(&killed) == results(&whole));
}

#[test]
fn a_memory_limit_and_the_number_of_threads_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["head".into()];
    let out = |name: &str| folder.path().join(name);
    train(&config, &out("free"), 2, to_the_end()).unwrap();
    train(&config, &out("one thread"), 1, to_the_end()).unwrap();
    // Packed weights and scratch memory take 53.5 MiB, for training and for validation; 42.7 MiB are the parameters.
    config.engine.memory_limit_mib = Some(152);
    train(&config, &out("limited"), 2, to_the_end()).unwrap();
    assert!(results(&out("free")) == results(&out("one thread")));
    assert!(results(&out("free")) == results(&out("limited")));

    config.freeze.unfreeze = vec!["all".into()];
    let error = train(&config, &out("cannot be cut"), 2, to_the_end()).unwrap_err().to_string();
    assert!(error.contains("looks at the whole batch") && error.contains("limit of 152 MiB"), "{error}");
}

#[test]
fn it_learns_and_keeps_the_best_epoch() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["all".into()];
    config.training.epochs = 6;
    config.training.select = Select::Best;
    config.data.augment = Augmentation::None;
    let out = folder.path().join("run");
    let Outcome::Finished { epoch } = train(&config, &out, 2, to_the_end()).unwrap() else { panic!("not finished") };
    let run = RunDirectory::new(&out);
    let history: Vec<EpochRecord> = read_table(&run.history_file()).unwrap();
    let losses: Vec<f64> = history.iter().filter_map(|record| record.valid_loss).collect();
    let best = (0..losses.len()).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap();
    assert_eq!(epoch, best + 1);
    assert!(history[5].train_loss < 0.5 * history[0].train_loss, "{history:?}");
    let steps: Vec<StepRecord> = read_table(&run.steps_file()).unwrap();
    assert_eq!(steps.len(), 18);
    // The model is the best epoch's, byte for byte.
    assert_eq!(std::fs::read(run.model_file()).unwrap(), std::fs::read(run.best_checkpoint_file()).unwrap());
}

#[test]
fn a_diverging_run_stops_and_keeps_its_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    let out = folder.path().join("run");
    train(&config, &out, 2, StopAfter(3)).unwrap();
    config.training.learning_rate = 1e30;
    let error = train(&config, &out, 2, to_the_end()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 5, epoch: 2, .. }), "{error}");
    assert!(error.to_string().contains("The checkpoint after epoch 1 is kept"), "{error}");
    let run = RunDirectory::new(&out);
    let kept = Checkpoint::read(&run.last_checkpoint_file()).unwrap();
    assert_eq!((kept.epochs_done, kept.step), (1, 3));
    assert!(!run.model_file().exists());
    let weights = StateDict::open(&run.last_checkpoint_file()).unwrap();
    let finite = |values: &Values| !matches!(values, Values::F32(values) if values.iter().any(|v| !v.is_finite()));
    assert!(weights.tensors.iter().all(|(_, tensor)| finite(&tensor.values)));
}

#[test]
fn a_checkpoint_of_another_plan_or_other_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let config = config(&folder.path().join("data"));
    let out = folder.path().join("run");
    train(&config, &out, 2, StopAfter(1)).unwrap();
    let mut other = config.clone();
    other.freeze.unfreeze = vec!["head".into()];
    let error = train(&other, &out, 2, to_the_end()).unwrap_err().to_string();
    assert!(error.contains("it trains layer4,head") && error.contains("last.safetensors"), "{error}");
    std::fs::remove_file(folder.path().join("data/test/normal/03.png")).unwrap();
    let error = train(&config, &out, 2, to_the_end()).unwrap_err().to_string();
    assert!(error.contains("other data"), "{error}");
}

#[test]
fn a_schedule_goes_on_where_it_was_and_the_history_has_the_rate_of_the_last_step() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["head".into()];
    let run = |name: &str| folder.path().join(name);
    train(&config, &run("constant"), 2, to_the_end()).unwrap();
    config.training.schedule = Schedule::OneCycle(OneCycle::default());
    train(&config, &run("whole"), 2, to_the_end()).unwrap();
    train(&config, &run("stopped"), 2, StopAfter(4)).unwrap();
    train(&config, &run("stopped"), 2, to_the_end()).unwrap();
    assert!(results(&run("stopped")) == results(&run("whole")));
    assert!(results(&run("constant")).0 != results(&run("whole")).0);
    let history: Vec<EpochRecord> = read_table(&RunDirectory::new(run("whole")).history_file()).unwrap();
    let rate = LearningRate::new(&config.training, 3, 6);
    for (record, step) in history.iter().zip([2, 5]) {
        assert_eq!(record.learning_rate, as_written(rate.at(step).learning_rate));
    }
}

#[test]
fn a_part_with_a_rate_of_its_own_moves_by_it() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.training.max_steps = Some(1);
    let moved = |config: &Config, name: &str| {
        let out = folder.path().join(name);
        train(config, &out, 2, to_the_end()).unwrap();
        let start = setup(config, &folder.path().join("start")).store.state_dict(ParameterSet::Live);
        let model = StateDict::open(&RunDirectory::new(out).model_file()).unwrap();
        ["fc.3.weight", "layer4.1.conv2.weight", "layer4.1.bn2.weight"].map(|name| {
            let values = |dict: &StateDict| match &dict.get(name).unwrap().values {
                Values::F32(values) => values.clone(),
                Values::I64(_) => unreachable!("a weight"),
            };
            let pairs = values(&model).into_iter().zip(values(&start));
            pairs.map(|(after, before)| f64::from(after - before).powi(2)).sum::<f64>().sqrt()
        })
    };
    let plain = moved(&config, "plain");
    config.training.learning_rates = [("layer4".to_owned(), 0.02), ("layer4.1.bn2".to_owned(), 0.001)].into();
    let grouped = moved(&config, "grouped");
    // One step of SGD is proportional to the rate; the base is 0.01.
    for (part, factor) in [1.0, 2.0, 0.1].into_iter().enumerate() {
        let ratio = grouped[part] / plain[part];
        assert!((ratio / factor - 1.0).abs() < 1e-3, "{part}: {ratio}");
    }
}

#[test]
fn a_clipped_step_is_as_long_as_the_norm_allows() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.training.max_steps = Some(1);
    config.training.clip_norm = Some(1e-3);
    config.training.learning_rate = 10.0;
    let start = setup(&config, &folder.path().join("start")).store.state_dict(ParameterSet::Live);
    train(&config, &folder.path().join("run"), 2, to_the_end()).unwrap();
    let model = StateDict::open(&RunDirectory::new(folder.path().join("run")).model_file()).unwrap();
    let mut square = 0.0;
    for (name, tensor) in &start.tensors {
        let (Values::F32(before), Values::F32(after)) = (&tensor.values, &model.get(name).unwrap().values) else {
            continue;
        };
        if !name.contains("running_") {
            square += after.iter().zip(before).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        }
    }
    assert!((square.sqrt() / 0.01 - 1.0).abs() < 1e-3, "{}", square.sqrt());
}

#[test]
fn a_run_that_loses_patience_is_finished_whatever_it_was_interrupted_by() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["head".into()];
    config.training.epochs = 9;
    config.training.patience = Some(2);
    // Too small to change a weight: every epoch is like the first.
    config.training.learning_rate = 1e-30;
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    assert_eq!(train(&config, &whole, 2, to_the_end()).unwrap(), Outcome::Finished { epoch: 3 });
    // In the second epoch, and after the third but before its validation.
    train(&config, &stopped, 2, StopAfter(4)).unwrap();
    let mut observer = StopInValidation { steps: 5, reached: false };
    let outcome = fit(&mut setup(&config, &stopped), &CpuEngine::new(2).unwrap(), &mut observer).unwrap();
    assert_eq!(outcome, Outcome::Interrupted { steps_done: 9 });
    assert_eq!(train(&config, &stopped, 2, to_the_end()).unwrap(), Outcome::Finished { epoch: 3 });
    assert!(results(&stopped) == results(&whole));
    let run = RunDirectory::new(&stopped);
    let history: Vec<EpochRecord> = read_table(&run.history_file()).unwrap();
    let notes: Vec<bool> = history.iter().map(|record| record.note.is_some()).collect();
    assert_eq!(notes, [false, false, true]);
    // Killed after the last checkpoint: only the model is missing, and no step is taken for it.
    std::fs::remove_file(run.model_file()).unwrap();
    train(&config, &stopped, 2, to_the_end()).unwrap();
    assert!(results(&stopped) == results(&whole));
}

#[test]
fn a_balanced_run_goes_on_to_the_same_bits_and_keeps_its_values() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.freeze.unfreeze = vec!["head".into()];
    config.training.epochs = 3;
    config.data.augment = Augmentation::None;
    let run = |name: &str| folder.path().join(name);
    train(&config, &run("shuffled"), 2, to_the_end()).unwrap();
    config.data.sampler = Sampler::Balanced;
    train(&config, &run("whole"), 2, to_the_end()).unwrap();
    for steps in [2, 3] {
        train(&config, &run("stopped"), 1, StopAfter(steps)).unwrap();
    }
    train(&config, &run("stopped"), 1, to_the_end()).unwrap();
    config.engine.cache_limit_mib = 0;
    train(&config, &run("nothing kept"), 2, to_the_end()).unwrap();
    assert!(results(&run("whole")) == results(&run("stopped")));
    assert!(results(&run("whole")) == results(&run("nothing kept")));
    assert!(results(&run("whole")).1 != results(&run("shuffled")).1);
}

#[test]
fn averaged_weights_are_validated_written_and_resumed_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    let run = |name: &str| folder.path().join(name);
    train(&config, &run("live"), 2, to_the_end()).unwrap();
    config.training.average_decay = Some(0.9);
    train(&config, &run("whole"), 2, to_the_end()).unwrap();
    for steps in [2, 3] {
        train(&config, &run("stopped"), 1, StopAfter(steps)).unwrap();
    }
    train(&config, &run("stopped"), 2, to_the_end()).unwrap();
    assert!(results(&run("whole")) == results(&run("stopped")));
    // The steps are those of the live weights; what is validated and written is not.
    let (live, averaged) = (results(&run("live")), results(&run("whole")));
    assert!(live.1 == averaged.1 && live.0 != averaged.0 && live.2 != averaged.2);
    let last = StateDict::open(&RunDirectory::new(run("whole")).last_checkpoint_file()).unwrap();
    let model = StateDict::open(&RunDirectory::new(run("whole")).model_file()).unwrap();
    for name in ["fc.3.weight", "layer4.0.bn1.running_mean"] {
        assert!(last.get(&format!("averaged.{name}")) == model.get(name), "{name}");
    }
    assert!(last.get("live.fc.3.weight") != model.get("fc.3.weight"));
    assert!(last.get("averaged.conv1.weight").is_none(), "it never differs");
    // A checkpoint without them does not do.
    config.training.average_decay = None;
    train(&config, &run("without"), 2, StopAfter(1)).unwrap();
    config.training.average_decay = Some(0.9);
    let error = train(&config, &run("without"), 2, to_the_end()).unwrap_err().to_string();
    assert!(error.contains("no averaged weights `layer4"), "{error}");
}

#[test]
fn gradual_unfreezing_trains_what_it_says_and_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    let run = |name: &str| folder.path().join(name);
    config.freeze.unfreeze = vec!["head".into()];
    config.training.epochs = 3;
    config.training.optimizer = Optimizer::Adamw;
    config.training.average_decay = Some(0.8);
    config.training.learning_rates = [("layer4".to_owned(), 0.001)].into();
    config.freeze.unfreeze_at = vec![
        Unfreezing { epoch: 3, names: vec!["layer3.1.bn2".into()] },
        Unfreezing { epoch: 2, names: vec!["layer4.1".into()] },
    ];
    train(&config, &run("whole"), 2, to_the_end()).unwrap();
    // Three steps an epoch: inside stages, and where one ends and the next begins.
    for steps in [2, 1, 1, 2, 1] {
        train(&config, &run("stopped"), 1, StopAfter(steps)).unwrap();
    }
    train(&config, &run("stopped"), 2, to_the_end()).unwrap();
    assert!(results(&run("whole")) == results(&run("stopped")));

    // The first epoch is that of the head alone, though the run is cut deeper.
    let mut head = config.clone();
    head.freeze.unfreeze_at.clear();
    head.training.learning_rates.clear();
    train(&head, &run("head"), 2, to_the_end()).unwrap();
    assert_eq!(results(&run("whole")).2[0], results(&run("head")).2[0]);
    assert_ne!(results(&run("whole")).2[1], results(&run("head")).2[1]);

    // What moves when: tensors that differ from the start, checkpoint by checkpoint.
    let start = setup(&config, &run("start")).store.state_dict(ParameterSet::Live);
    let moved = |steps: u64, names: [&str; 3]| {
        let out = run(&format!("after {steps}"));
        train(&config, &out, 2, StopAfter(steps)).unwrap();
        let file = RunDirectory::new(&out).last_checkpoint_file();
        let last = StateDict::open(&file).unwrap();
        let trained = Checkpoint::read(&file).unwrap().trained;
        names.map(|name| {
            let moved = last.get(&format!("live.{name}")) != start.get(name);
            assert_eq!(moved, trained.iter().any(|trained| trained == name), "{name} after {steps}");
            moved
        })
    };
    let names = ["fc.3.weight", "layer4.1.conv2.weight", "layer3.1.bn2.weight"];
    assert_eq!(moved(3, names), [true, false, false]);
    assert_eq!(moved(4, names), [true, true, false]);
    assert_eq!(moved(7, names), [true, true, true]);
}

#[test]
fn settings_out_of_range_are_named() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let good = config(&folder.path().join("data"));
    let refusal = |change: &dyn Fn(&mut Config)| {
        let mut config = good.clone();
        change(&mut config);
        let manifest = Arc::new(Manifest::open(&config.data.root).unwrap());
        Setup::new(config, manifest, &[], None, RunDirectory::new("unused")).err().unwrap().to_string()
    };
    assert!(refusal(&|c| c.training.batch_size = 0).contains("the batch size is 0; expected at least 1"));
    assert!(refusal(&|c| c.training.learning_rate = f32::NAN).contains("the learning rate is NaN"));
    assert!(refusal(&|c| c.network.dropout = 1.0).contains("dropout is 1"));
    assert!(refusal(&|c| c.freeze.unfreeze = vec!["layer9".into()]).contains("layer4"));
    assert!(refusal(&|c| c.network.architecture = "resnet19".into()).contains("resnet18"));
}

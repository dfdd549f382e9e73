//! Runs that train together end as each would alone, and what is kept on disk changes no bit.

use crate::support::{StopAfter, config, data, results, setup, to_the_end, train};
use roentgen_cpu::CpuEngine;
use roentgen_data::{Manifest, Split};
use roentgen_infer::{Model, ModelFile, Predictor, Together, write_model};
use roentgen_nn::{Arithmetic, ParameterSet};
use roentgen_run::config::{Augmentation, Precision, Sampler, Unfreezing};
use roentgen_run::{Config, RunDirectory};
use roentgen_train::{Event, Observer, Outcome, Setup, TrainError, check_together, fit, fit_together};
use std::path::Path;
use std::sync::Arc;

/// Configurations of one architecture that differ in what they train, and in more that a group may differ in.
fn rows(data: &Path) -> Vec<Config> {
    let base = config(data);
    // A whole residual block, one convolution inside a block whose shortcut is frozen, and the head alone.
    [vec!["layer4", "head"], vec!["layer3.0.conv2", "head"], vec!["head"], vec!["all"]]
        .into_iter()
        .enumerate()
        .map(|(index, names)| {
            let mut config = base.clone();
            config.freeze.unfreeze = names.into_iter().map(str::to_owned).collect();
            config.training.learning_rate = 0.01 / (1 + index) as f32;
            config.training.epochs = 2 + index % 2;
            if index == 0 {
                // It begins with half of its block, is cut where the whole one asks for it, and keeps an average.
                config.freeze.unfreeze = vec!["layer4.1".into(), "head".into()];
                config.freeze.unfreeze_at = vec![Unfreezing { epoch: 2, names: vec!["layer4.0".into()] }];
                config.training.average_decay = Some(0.9);
                config.training.label_smoothing = 0.1;
            }
            config
        })
        .collect()
}

fn train_together(configs: &[Config], out: &Path, threads: usize, observer: &mut dyn Observer) -> Vec<Outcome> {
    let mut setups: Vec<Setup> =
        configs.iter().enumerate().map(|(index, config)| setup(config, &out.join(index.to_string()))).collect();
    let engine = CpuEngine::new(threads).unwrap();
    let outcomes = fit_together(&mut setups, &engine, &out.join("cache"), observer).unwrap();
    outcomes.into_iter().map(Result::unwrap).collect()
}

/// Every run of a group against the same run alone, without anything kept on disk.
fn assert_as_alone(configs: &[Config], out: &Path) {
    for (index, config) in configs.iter().enumerate() {
        let mut config = config.clone();
        config.engine.cache_limit_mib = 0;
        let alone = out.join(format!("alone-{index}"));
        train(&config, &alone, 2, to_the_end()).unwrap();
        let same = results(&alone) == results(&out.join(index.to_string()));
        assert!(same, "{:?} of {}", config.freeze.unfreeze, out.display());
    }
}

#[test]
fn runs_in_step_have_the_bits_of_separate_runs() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    for precision in [Precision::F32, Precision::Bf16] {
        let out = folder.path().join(format!("{precision:?}"));
        let mut configs = rows(&folder.path().join("data"));
        configs.iter_mut().for_each(|config| config.engine.precision = precision);
        let outcomes = train_together(&configs, &out, 2, &mut to_the_end());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Finished { .. })), "{outcomes:?}");
        assert_as_alone(&configs, &out);
        assert_answers_as_alone(&configs, &out);
    }
}

/// An untrained model: the random start of a configuration.
fn started(config: &Config, out: &Path) -> ModelFile {
    let setup = setup(config, out);
    write_model(&setup.run.model_file(), &setup.description(), &setup.store, ParameterSet::Live).unwrap();
    ModelFile::open(out).unwrap()
}

/// The models of a group answer together as each does alone, and so do some that have nothing to do with them.
fn assert_answers_as_alone(configs: &[Config], out: &Path) {
    let manifest = Arc::new(Manifest::open(&configs[0].data.root).unwrap());
    let engine = CpuEngine::new(2).unwrap();
    let arithmetic = roentgen_infer::arithmetic(configs[0].engine.precision, false);
    // From another start, so that nothing but the images is shared; and one that sees other images.
    let (mut stranger, mut larger) = (configs[2].clone(), configs[2].clone());
    stranger.training.seed = 9;
    larger.data.image_size = 48;
    let of_run = |run: usize| ModelFile::open(&out.join(run.to_string())).unwrap();
    let mut files: Vec<ModelFile> = (0..configs.len()).map(of_run).collect();
    files.extend([started(&stranger, &out.join("stranger")), started(&larger, &out.join("larger"))]);

    let mut together = Together::new(&engine, arithmetic, None, None, files[0].load().unwrap());
    let admitted: Vec<bool> = files[1..].iter().map(|file| together.admit(file).unwrap()).collect();
    assert_eq!(admitted, [true, true, true, true, false]);
    // The block, the convolution and the head begin behind the prefix; the row that trains all and the stranger with the
    // image.
    assert_eq!((together.models(), together.behind_prefix()), (5, 3));
    for split in [Split::Validation, Split::Test] {
        let rows = manifest.rows_of(split);
        let answers = together.rows(&manifest, rows.clone(), |_| true).unwrap();
        for (file, answers) in files.iter().zip(answers) {
            let Model { network, mut store, .. } = file.load().unwrap();
            let mut alone = Predictor::new(&engine, &network, arithmetic, None).unwrap();
            let expected = alone.rows(&mut store, ParameterSet::Live, &manifest, rows.clone(), |_| true).unwrap();
            assert!(answers == expected, "{} of {split}", file.path.display());
        }
    }
}

#[test]
fn models_answer_together_as_far_as_memory_allows() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let manifest = Arc::new(Manifest::open(&folder.path().join("data")).unwrap());
    let configs = rows(&folder.path().join("data"));
    let of_run = |(run, config)| started(config, &folder.path().join(format!("{run}")));
    let files: Vec<ModelFile> = configs.iter().enumerate().map(of_run).collect();
    let engine = CpuEngine::new(2).unwrap();
    let rows = manifest.rows_of(Split::Test);
    let mut models = Vec::new();
    let mut answers_of_first = Vec::new();
    for limit_mib in [64, 256, 4096] {
        let (arithmetic, limit) = (Arithmetic::default(), Some(limit_mib << 20));
        let mut together = Together::new(&engine, arithmetic, limit, None, files[0].load().unwrap());
        for file in &files[1..] {
            together.admit(file).unwrap();
        }
        models.push(together.models());
        let mut answers = together.rows(&manifest, rows.clone(), |_| true).unwrap();
        assert_eq!(answers.len(), together.models());
        answers_of_first.push(answers.remove(0));
    }
    // A model has 45 MB of parameters.
    assert!(models[0] == 1 && (2..4).contains(&models[1]) && models[2] == 4, "{models:?}");
    assert!(answers_of_first[0] == answers_of_first[1] && answers_of_first[0] == answers_of_first[2]);
}

#[test]
fn a_group_that_is_stopped_anywhere_ends_with_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    for views in [None, Some(2)] {
        let mut configs = rows(&folder.path().join("data"));
        configs.truncate(3);
        configs.iter_mut().for_each(|config| config.data.views = views);
        let out = folder.path().join(format!("{views:?}"));
        // Three runs, three steps an epoch: a stop inside the first epoch, and one after the shorter runs have ended.
        for steps in [5, 4, 7] {
            let outcomes = train_together(&configs, &out, 1, &mut StopAfter(steps));
            assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Interrupted { .. })), "{outcomes:?}");
        }
        // A kill between two checkpoints parts the runs: the first falls back to its start.
        let first = RunDirectory::new(out.join("0"));
        if views.is_none() {
            std::fs::remove_file(first.last_checkpoint_file()).unwrap();
        }
        train_together(&configs, &out, 2, &mut to_the_end());
        assert_as_alone(&configs, &out);
    }
}

/// Counts what is told of values on disk.
#[derive(Default)]
struct Told {
    kept: usize,
    replaced: usize,
    given_up: usize,
    over_limit: usize,
}

impl Observer for Told {
    fn event(&mut self, _run: usize, event: Event<'_>) {
        match event {
            Event::ValuesKept { .. } => self.kept += 1,
            Event::ValuesReplaced { .. } => self.replaced += 1,
            Event::ValuesGivenUp { .. } => self.given_up += 1,
            Event::ValuesOverLimit { .. } => self.over_limit += 1,
            _ => {}
        }
    }
}

#[test]
fn values_on_disk_change_no_bit_whatever_happens_to_them() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut configs = rows(&folder.path().join("data"));
    configs.truncate(3);
    for config in &mut configs {
        config.data.augment = Augmentation::None;
        config.training.epochs = 3;
    }
    let whole = folder.path().join("whole");
    let mut told = Told::default();
    train_together(&configs, &whole, 2, &mut told);
    assert_eq!((told.kept, told.replaced, told.given_up), (1, 0, 0));
    assert_as_alone(&configs, &whole);
    let cache = whole.join("cache");
    let file = cache.join("resnet18-32-plain-layer3.1.values");
    assert!(file.is_file() && cache.join("resnet18-32-plain-flatten.values").is_file());

    // Runs that come later find the values; a damaged record is computed again, and other weights replace them all.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 8;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let copy = |to: &Path| {
        std::fs::create_dir_all(to.join("cache")).unwrap();
        for entry in std::fs::read_dir(&cache).unwrap().flatten() {
            std::fs::copy(entry.path(), to.join("cache").join(entry.file_name())).unwrap();
        }
    };
    let again = folder.path().join("again");
    copy(&again);
    let mut told = Told::default();
    train_together(&configs, &again, 2, &mut told);
    assert_eq!((told.kept, told.replaced, told.given_up), (1, 0, 0));
    assert_ne!(std::fs::read(again.join("cache/resnet18-32-plain-layer3.1.values")).unwrap(), bytes);
    let other = folder.path().join("other");
    copy(&other);
    configs.iter_mut().for_each(|config| config.training.seed = 5);
    let mut told = Told::default();
    train_together(&configs, &other, 2, &mut told);
    // Three cuts with four values.
    assert_eq!((told.kept, told.replaced, told.given_up), (1, 4, 0));
    assert_as_alone(&configs, &other);

    // A place that cannot be written costs time alone.
    let blocked = folder.path().join("blocked");
    std::fs::create_dir_all(&blocked).unwrap();
    std::fs::write(blocked.join("cache"), b"a file where the folder should be").unwrap();
    let mut told = Told::default();
    train_together(&configs, &blocked, 2, &mut told);
    assert_eq!((told.kept, told.given_up), (1, 2));
    assert_as_alone(&configs, &blocked);
}

#[test]
fn one_run_keeps_its_values_while_it_trains_and_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.data.augment = Augmentation::None;
    let out = folder.path().join("kept");
    // The values are there after a stop, and are used when the run goes on.
    train(&config, &out, 2, StopAfter(4)).unwrap();
    assert!(out.join("cache/resnet18-32-plain-layer3.1.values").is_file());
    train(&config, &out, 2, to_the_end()).unwrap();
    assert!(!out.join("cache").exists());
    config.engine.cache_limit_mib = 0;
    let none = folder.path().join("none");
    let mut told = Told::default();
    fit(&mut setup(&config, &none), &CpuEngine::new(2).unwrap(), &mut told).unwrap();
    assert_eq!(told.kept, 0);
    assert!(results(&out) == results(&none));
}

#[test]
fn what_is_kept_stays_within_the_limit_whatever_earlier_groups_kept() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    config.data.augment = Augmentation::None;
    config.engine.cache_limit_mib = 1;
    let out = folder.path().join("out");
    let cache = out.join("cache");
    std::fs::create_dir_all(&cache).unwrap();
    let (earlier, notes) = (cache.join("vgg16-32-plain-flatten.values"), cache.join("notes.txt"));
    std::fs::write(&notes, vec![0; 1 << 20]).unwrap();
    for (bytes, stays) in [(1 << 10, true), (1 << 20, false)] {
        std::fs::write(&earlier, vec![0; bytes]).unwrap();
        let mut told = Told::default();
        let mut setups = vec![setup(&config, &out.join(bytes.to_string()))];
        fit_together(&mut setups, &CpuEngine::new(2).unwrap(), &cache, &mut told).unwrap();
        assert_eq!((told.kept, told.over_limit), (1, 0));
        assert_eq!(earlier.is_file(), stays, "{bytes} bytes");
        assert!(notes.is_file());
    }
}

#[test]
fn a_run_that_diverges_leaves_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut configs = rows(&folder.path().join("data"));
    configs[1].training.learning_rate = 1e30;
    let out = folder.path().join("out");
    let mut setups: Vec<Setup> =
        configs.iter().enumerate().map(|(index, config)| setup(config, &out.join(index.to_string()))).collect();
    let engine = CpuEngine::new(2).unwrap();
    let mut outcomes = fit_together(&mut setups, &engine, &out.join("cache"), &mut to_the_end()).unwrap();
    assert!(matches!(outcomes.remove(1), Err(TrainError::NotFinite { .. })));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Finished { .. }))));
    train(&configs[2], &out.join("alone"), 2, to_the_end()).unwrap();
    assert!(results(&out.join("2")) == results(&out.join("alone")));
}

#[test]
fn strangers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let base = config(&folder.path().join("data"));
    let refusal = |change: &dyn Fn(&mut Config)| {
        let mut other = base.clone();
        change(&mut other);
        let out = folder.path().join("refused");
        let mut setups = [setup(&base, &out.join("a")), setup(&other, &out.join("b"))];
        let engine = CpuEngine::new(1).unwrap();
        fit_together(&mut setups, &engine, &out, &mut to_the_end()).unwrap_err().to_string()
    };
    assert!(refusal(&|c| c.training.batch_size = 4).contains("another batch size"));
    assert!(refusal(&|c| c.data.sampler = Sampler::Balanced).contains("another sampler"));
    assert!(refusal(&|c| c.training.seed = 1).contains("another order of images"));
    assert!(refusal(&|c| c.network.architecture = "resnet34".into()).contains("another architecture"));
    let frozen_head = |c: &mut Config| {
        c.network.hidden = 48;
        c.freeze.unfreeze = vec!["fc.3".into()];
    };
    assert!(refusal(&frozen_head).contains("another width of a frozen head"));
    assert!(refusal(&|c| c.data.augment = Augmentation::None).contains("another augmentation"));
}

#[test]
fn memory_is_shared_evenly() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut config = config(&folder.path().join("data"));
    // No batch norm looks at the batch, so that it can be cut.
    config.freeze.unfreeze = vec!["layer3.0.conv2".into(), "head".into()];
    let batch = config.training.batch_size;
    let engine = CpuEngine::new(2).unwrap();
    let at_once = |limit_mib: usize| {
        let mut config = config.clone();
        config.engine.memory_limit_mib = Some(limit_mib);
        let setups = ["one", "other"].map(|name| setup(&config, &folder.path().join(name)));
        check_together(&setups.each_ref(), &engine).map_or(0, |together| together.trained_at_once)
    };
    // The least limits, in MiB, under which anything is possible, and under which nothing is cut.
    let least = |wanted: usize| {
        let (mut too_little, mut enough) = (0_usize, 4096_usize);
        while enough - too_little > 1 {
            let middle = enough.midpoint(too_little);
            if at_once(middle) >= wanted { enough = middle } else { too_little = middle }
        }
        enough
    };
    let (possible, uncut) = (least(1), least(batch));
    assert!(uncut < 4096 && possible + 2 < uncut, "{possible} and {uncut} MiB tell nothing");
    // Were one run cut as far as possible before the other gives way, it would be at one image here.
    let between = at_once(possible + 2 * (uncut - possible) / 5);
    assert!((2..batch).contains(&between), "{between} of {batch} images");
}

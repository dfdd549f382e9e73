//! `roentgen demo`: the main job on phantoms, with nothing needed.

use crate::arguments::{Computation, Demo, Evaluate, Thresholds};
use crate::failure::{Failure, Outcome};
use crate::image_cache::ImageCacheArguments;
use crate::{evaluate, train};
use roentgen_data::phantom::{self, PhantomSet};
use roentgen_run::config::{Augmentation, Select};
use roentgen_run::directory::RunState;
use roentgen_run::{Config, RunDirectory};
use std::time::Instant;

/// Side of the network's input: small, so that the demo takes minutes on two cores.
const IMAGE_SIZE: usize = 96;

/// Runs the command.
pub fn run(arguments: &Demo) -> Outcome {
    let begun = Instant::now();
    let data = arguments.out.join("phantoms");
    let run = RunDirectory::new(arguments.out.join("run"));
    let mut config = configuration(arguments);
    config.data.root.clone_from(&data);
    let state = run.state();
    if matches!(state, RunState::Resumable | RunState::Finished) && run.config()?.training.seed != arguments.seed {
        let message = "a demo with another seed stands there: give another --out";
        return Err(Failure::call(format!("{}: {message}", arguments.out.display())));
    }
    if !data.join("manifest.csv").is_file() {
        eprintln!("drawing phantom radiographs in {}", data.display());
        phantom::generate(&data, &PhantomSet::demo(arguments.seed))?;
    }
    let notice = format!(
        "These are computer-drawn phantoms, shown to the network at {IMAGE_SIZE} px: they prove that the pipeline works and \
         say nothing about real radiographs."
    );
    if state != RunState::Finished {
        let resumes = state == RunState::Resumable;
        let outcome = train::train(config, run.clone(), resumes, false, &[notice])?;
        if let roentgen_train::Outcome::Interrupted { .. } = outcome {
            return Err(Failure::work("stopped; the same command goes on where it was"));
        }
    }
    let request = Evaluate {
        run: Some(run.path().to_owned()),
        data: Some(data),
        split: "test".into(),
        predictions: None,
        map: Vec::new(),
        positive: None,
        thresholds: Thresholds::default(),
        images: 8,
        on_bad_image: None,
        image_cache: ImageCacheArguments::default(),
        json: false,
        computation: Computation { threads: arguments.threads, ..Computation::default() },
    };
    let metrics = evaluate::evaluate(&[&run], &request)?.remove(0);
    print!("{}", roentgen_eval::format_table(&metrics));
    let page = roentgen_report::write_report(&run)?;
    println!("\nreport: {}", page.display());
    eprintln!("done in {:.0} s; phantoms prove the pipeline and nothing medical", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Settings that take about a minute and a half on two AVX-512 cores.
fn configuration(arguments: &Demo) -> Config {
    let mut config = Config::default();
    config.data.image_size = IMAGE_SIZE;
    config.data.augment = Augmentation::None;
    config.network.weights = "none".into();
    config.freeze.unfreeze = vec!["all".into()];
    config.training.epochs = 9;
    config.training.batch_size = 32;
    config.training.learning_rate = 0.01;
    // At this learning rate single epochs fall back; the validation loss knows which.
    config.training.select = Select::Best;
    config.training.seed = arguments.seed;
    config.engine.threads = arguments.threads;
    // Phantoms are drawn once, and decoded fast at this size.
    config.engine.image_cache = Some("off".into());
    config
}

//! `roentgen experiment`: rows over a common base, each a run of its own, and the tables that compare them.

mod progress;
mod runner;

pub use runner::{Ended, Job, Runner};

use crate::arguments::ExperimentArguments;
use crate::evaluate::evaluate_once;
use crate::failure::{Failure, Outcome};
use crate::{interrupt, resolve};
use roentgen_report::write_experiment_report;
use roentgen_run::experiment_directory::ExperimentState;
use roentgen_run::{Experiment, ExperimentDirectory};
use std::path::Path;

/// Runs the command.
pub fn run(arguments: &ExperimentArguments) -> Outcome {
    let experiment = experiment(arguments)?;
    let directory = ExperimentDirectory::new(&arguments.out);
    let path = directory.path().display();
    if directory.state() == ExperimentState::Foreign {
        return Err(Failure::call(format!(
            "{path}: the folder holds something that is no experiment: give a new or empty folder with --out"
        )));
    }
    refuse_another(&experiment, &directory, &arguments.file)?;
    let stop = interrupt::flag();
    let threads = experiment.base.engine.threads;
    let mut runner = Runner::new(threads, directory.cache_folder(), arguments.allow_leaks, stop)?;
    let jobs = jobs(&experiment, &directory);
    runner.check(&jobs).map_err(|failure| at_line(failure, &arguments.file))?;
    let _held = directory.begin(&experiment)?;
    let ended = runner.train(&jobs, |runs| evaluate_once(runs, "test"))?;
    let Some(ended) = ended else {
        return Err(Failure::work(format!(
            "stopped; everything so far is saved in {path}: the same command goes on, and `roentgen report {path}` compares \
             the rows that are finished"
        )));
    };
    let page = write_experiment_report(&directory)?;
    print!("{}", std::fs::read_to_string(directory.table_file("md")).unwrap_or_default());
    eprintln!("report: {}", page.display());
    // Everything in it can be computed again.
    let _ = std::fs::remove_dir_all(directory.cache_folder());
    let failed: Vec<String> = ended
        .iter()
        .filter_map(|(name, ended)| match ended {
            Ended::Finished => None,
            Ended::Failed(reason) => Some(format!("{name}: {reason}")),
        })
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Failure::work(format!(
            "{} of {} runs failed, and the same command tries them again: {}",
            failed.len(),
            ended.len(),
            failed.join("; ")
        ))),
    }
}

/// An experiment that stands in the folder already must be this one, or a part of it.
fn refuse_another(experiment: &Experiment, directory: &ExperimentDirectory, file: &Path) -> Outcome {
    if directory.state() != ExperimentState::Begun {
        return Ok(());
    }
    let known = Experiment::read(&directory.experiment_file())?;
    let is_gone = |name: &&str| experiment.rows.iter().all(|row| row.name != **name);
    let gone: Vec<&str> = known.rows.iter().map(|row| row.name.as_str()).filter(is_gone).collect();
    if gone.is_empty() {
        return Ok(());
    }
    Err(Failure::call(format!(
        "{}: an experiment stands there (`{}`) with rows that {} has not ({}): give another --out",
        directory.path().display(),
        known.title,
        file.display(),
        gone.join(", ")
    )))
}

/// The experiment of the file, with what the command line says otherwise.
fn experiment(arguments: &ExperimentArguments) -> Outcome<Experiment> {
    let mut experiment = Experiment::read(&arguments.file).map_err(|error| Failure::Call(error.into()))?;
    let before = experiment.base.clone();
    resolve::apply(&arguments.settings, arguments.data.as_ref(), &mut experiment.base)?;
    if experiment.base.data.root.as_os_str().is_empty() {
        return Err(Failure::call("no data: give the folder with --data DIR"));
    }
    if let Some(seed) = arguments.settings.seed {
        experiment.seeds = vec![seed];
    }
    if let Some(seeds) = &arguments.seeds {
        experiment.seeds.clone_from(seeds);
        if (1..seeds.len()).any(|index| seeds[..index].contains(&seeds[index])) {
            return Err(Failure::call(format!("--seeds {seeds:?}: give each seed once")));
        }
    }
    if arguments.folds.is_some() {
        experiment.folds = arguments.folds;
    }
    if let Some(folds @ ..=2) = experiment.folds {
        return Err(Failure::call(format!("{folds} folds: give 3 at least, for training, validation and test")));
    }
    for (name, was, is) in before.differences(&experiment.base) {
        if name == "data.root" || name.starts_with("engine.") || name == "training.seed" {
            continue;
        }
        if experiment.every_row_sets(&name) {
            return Err(Failure::call(format!(
                "{name} = {is} has no effect: every row of {} sets it itself; change the file",
                arguments.file.display()
            )));
        }
        experiment.deviations.push(format!("{name} is {is} in place of {was}."));
    }
    Ok(experiment)
}

/// All runs of an experiment.
pub fn jobs(experiment: &Experiment, directory: &ExperimentDirectory) -> Vec<Job> {
    let job = |planned: roentgen_run::experiment::PlannedRun| Job {
        run: directory.run(&planned.folder),
        name: planned.folder,
        config: planned.config,
    };
    experiment.runs().into_iter().map(job).collect()
}

/// A wrong row, with the file and the line where the row stands.
fn at_line(failure: Failure, file: &Path) -> Failure {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let message = failure.to_string();
    let line = text.lines().position(|line| {
        let name = line.trim_start().strip_prefix("name").and_then(|rest| rest.trim_start().strip_prefix('='));
        // A run is called after its row and its seed.
        name.is_some_and(|name| message.starts_with(&format!("{}-seed-", name.trim().trim_matches('"'))))
    });
    match line {
        Some(line) => failure.about(&format!("{}, line {}", file.display(), line + 1)),
        None => failure.about(&file.display().to_string()),
    }
}

//! `roentgen search`: which freeze plan, by successive halving on the validation loss.
//!
//! K. Jamieson and A. Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016:
//! all candidates are trained for a few epochs, the better share goes on for several times as many, and so on; the last
//! few are trained at full length with several seeds. The test images stay sealed until the winner is fixed.

use crate::arguments::{SearchArguments, Space};
use crate::evaluate::evaluate_once;
use crate::experiment::{Ended, Job, Runner};
use crate::failure::{Failure, Outcome};
use crate::scoring::{positive_class, predictions, resampling};
use crate::wording::counted;
use crate::{interrupt, resolve};
use roentgen_eval::RepeatedMetrics;
use roentgen_nn::freeze_space::{Candidate, convolutions, single_convolutions, subsets, suffixes};
use roentgen_nn::{FreezePlan, FrozenBatchNorm, Head, Network, architecture};
use roentgen_report::{CandidateResult, SearchResults};
use roentgen_run::config::Select;
use roentgen_run::directory::{RunState, write_atomically};
use roentgen_run::draw::{Purpose, stream};
use roentgen_run::environment::Environment;
use roentgen_run::history::{EpochRecord, read_table};
use roentgen_run::predictions::PredictionTable;
use roentgen_run::{Config, Experiment, FORMAT_VERSION, RunDirectory};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Random candidates where `--candidates` does not say.
const RANDOM_CANDIDATES: usize = 16;

/// Runs the command.
pub fn run(arguments: &SearchArguments) -> Outcome {
    let search = Search::new(arguments)?;
    search.claim_folder()?;
    let stop = interrupt::flag();
    let out = &arguments.out;
    let mut runner =
        Runner::new(search.base.engine.threads, out.join("cache"), arguments.allow_leaks, stop)?.for_search();
    runner.check(&search.jobs(&search.all(), &search.seeds[..1], search.rungs()[0].epochs))?;
    let Some(found) = search.find(&mut runner)? else {
        let path = out.display();
        return Err(Failure::work(format!("stopped; everything so far is saved in {path}: the same command goes on")));
    };
    // Everything in it can be computed again.
    let _ = std::fs::remove_dir_all(out.join("cache"));
    let page = found.write(out)?;
    print!("{}", found.to_text());
    eprintln!("report: {}", page.display());
    Ok(())
}

/// What is searched, resolved.
struct Search<'a> {
    arguments: &'a SearchArguments,
    base: Config,
    network: Network,
    candidates: Vec<Candidate>,
    /// Trained parameters of each candidate.
    trained: Vec<usize>,
    seeds: Vec<u64>,
}

/// One step of the halving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rung {
    /// How many candidates are in it.
    candidates: usize,
    /// Epochs at whose end they are compared.
    epochs: usize,
}

impl<'a> Search<'a> {
    fn new(arguments: &'a SearchArguments) -> Outcome<Search<'a>> {
        let mut base = Config::default();
        resolve::apply(&arguments.settings, arguments.data.as_ref(), &mut base)?;
        if base.data.root.as_os_str().is_empty() {
            return Err(Failure::call("no data: give the folder with --data DIR"));
        }
        if arguments.settings.unfreeze.is_some() {
            return Err(Failure::call("--unfreeze is what is searched for: give --space and --among"));
        }
        if base.training.schedule.spans_the_run() {
            return Err(Failure::call(
                "--schedule: candidates go on from comparison to comparison, and this schedule is planned over a whole run: \
                 give constant or step",
            ));
        }
        for (option, value, least) in [
            ("eta", arguments.eta, 2),
            ("min-epochs", arguments.min_epochs, 1),
            ("finalists", arguments.finalists, 1),
            ("candidates", arguments.candidates.unwrap_or(1), 1),
        ] {
            if value < least {
                return Err(Failure::call(format!("--{option} {value}: expected {least} at least")));
            }
        }
        if arguments.candidates.is_some() && arguments.space != Space::Subsets {
            return Err(Failure::call(
                "--candidates is the number of random sets of --space subsets, and has no effect here",
            ));
        }
        let last_stage = base.freeze.unfreeze_at.iter().map(|stage| stage.epoch).max().unwrap_or(0);
        if base.training.warmup_epochs > arguments.min_epochs as f32 || last_stage > arguments.min_epochs {
            return Err(Failure::call(format!(
                "--min-epochs {}: candidates would be compared before the warm-up is over or everything is unfrozen: give more",
                arguments.min_epochs
            )));
        }
        if arguments.min_epochs > base.training.epochs {
            let (least, epochs) = (arguments.min_epochs, base.training.epochs);
            return Err(Failure::call(format!("--min-epochs {least} is more than the {epochs} epochs of a whole run")));
        }
        let head = Head::Replaced { hidden: base.network.hidden, dropout: base.network.dropout, classes: 2 };
        let network = architecture::build(&base.network.architecture, base.data.image_size, head)?;
        let among = convolutions(&network, &arguments.among)?;
        let candidates = match arguments.space {
            Space::Suffixes => suffixes(&network, &among),
            Space::Convolutions => single_convolutions(&among),
            Space::Subsets => {
                let Some(budget) = arguments.budget else {
                    return Err(Failure::call("--space subsets needs --budget, the most parameters to train"));
                };
                let mut generator = stream(base.training.seed, Purpose::FreezePlans, 0, 0);
                let draw = |below: usize| rand::RngExt::random_range(&mut generator, 0..below);
                subsets(&network, &among, budget, arguments.candidates.unwrap_or(RANDOM_CANDIDATES), draw)
            }
        };
        let trained = |candidate: &Candidate| -> Outcome<usize> {
            Ok(FreezePlan::resolve(&network, &candidate.selectors, FrozenBatchNorm::Stored)?.trainable_count(&network))
        };
        let trained = candidates.iter().map(trained).collect::<Outcome<Vec<usize>>>()?;
        let within = |index: &usize| arguments.budget.is_none_or(|budget| trained[*index] <= budget);
        let kept: Vec<usize> = (0..candidates.len()).filter(within).collect();
        if kept.is_empty() {
            let least = trained.iter().min().map_or_else(String::new, |least| format!("; the least is {least}"));
            return Err(Failure::call(format!("no candidate keeps the budget of trained parameters{least}")));
        }
        let seeds = arguments.seeds.clone();
        Ok(Search {
            arguments,
            candidates: kept.iter().map(|index| candidates[*index].clone()).collect(),
            trained: kept.iter().map(|index| trained[*index]).collect(),
            base,
            network,
            seeds,
        })
    }

    /// Takes the folder, or finds this very search there.
    fn claim_folder(&self) -> Outcome {
        let out = &self.arguments.out;
        let file = search_file(out);
        let text = self.description();
        let path = out.display();
        match std::fs::read_to_string(&file) {
            Ok(known) if known == text => return Ok(()),
            Ok(_) => {
                return Err(Failure::call(format!(
                    "{path}: another search stands there (its search.toml has other settings): give another --out"
                )));
            }
            Err(_) if RunDirectory::new(out).state() != RunState::Absent => {
                return Err(Failure::call(format!(
                    "{path}: the folder holds something that is no search: give a new or empty folder with --out"
                )));
            }
            Err(_) => {}
        }
        Ok(write_atomically(&file, |out| out.write_all(text.as_bytes()))?)
    }

    /// All that decides what is found: two searches with the same text are the same.
    fn description(&self) -> String {
        let mut base = self.base.clone();
        let engine = roentgen_run::config::EngineSettings::default();
        (base.engine.threads, base.engine.memory_limit_mib) = (engine.threads, engine.memory_limit_mib);
        base.engine.cache_limit_mib = engine.cache_limit_mib;
        (base.engine.image_cache, base.engine.image_cache_limit_mib) = (None, None);
        let plans = self.candidates.iter().map(|c| (c.name.clone(), c.selectors.clone())).collect();
        let a = self.arguments;
        format!(
            "# Successive halving: eta {}, first after {} epochs, {} finalists.\n{}",
            a.eta,
            a.min_epochs,
            a.finalists,
            Experiment::over_freeze_plans(self.title(), self.seeds.clone(), base, plans).to_toml()
        )
    }

    fn title(&self) -> String {
        let space = match self.arguments.space {
            Space::Suffixes => "from which layer on to unfreeze",
            Space::Convolutions => "which convolution to unfreeze beside the head",
            Space::Subsets => "which convolutions to unfreeze within a budget",
        };
        format!("{}: {space}", self.network.architecture())
    }

    fn all(&self) -> Vec<usize> {
        (0..self.candidates.len()).collect()
    }

    /// The halving: how many candidates are compared after how many epochs. The finalists' whole length is not part of it.
    fn rungs(&self) -> Vec<Rung> {
        let (eta, whole) = (self.arguments.eta, self.base.training.epochs);
        let mut rung = Rung { candidates: self.candidates.len(), epochs: self.arguments.min_epochs };
        let mut rungs = vec![rung];
        while rung.candidates.div_ceil(eta) > self.arguments.finalists && rung.epochs * eta < whole {
            rung = Rung { candidates: rung.candidates.div_ceil(eta), epochs: rung.epochs * eta };
            rungs.push(rung);
        }
        rungs
    }

    fn run_of(&self, candidate: usize, seed: u64) -> RunDirectory {
        RunDirectory::new(
            self.arguments.out.join("runs").join(format!("{}-seed-{seed}", self.candidates[candidate].name)),
        )
    }

    fn jobs(&self, candidates: &[usize], seeds: &[u64], epochs: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        for &candidate in candidates {
            for &seed in seeds {
                let mut config = self.base.clone();
                config.freeze.unfreeze.clone_from(&self.candidates[candidate].selectors);
                config.training.epochs = epochs;
                config.training.seed = seed;
                let name = format!("{}-seed-{seed}", self.candidates[candidate].name);
                jobs.push(Job { name, run: self.run_of(candidate, seed), config });
            }
        }
        jobs
    }

    /// Finds the winner. `None` where a stop was asked for.
    fn find(&self, runner: &mut Runner) -> Outcome<Option<SearchResults>> {
        let (first, whole) = (self.seeds[0], self.base.training.epochs);
        let mut failed: Vec<Option<String>> = vec![None; self.candidates.len()];
        let mut survivors = self.all();
        for rung in self.rungs() {
            eprintln!("{} candidates, compared after {}", survivors.len(), counted(rung.epochs, "epoch", "epochs"));
            let Some(ended) = runner.train(&self.jobs(&survivors, &[first], rung.epochs), nothing_more)? else {
                return Ok(None);
            };
            self.note_failures(&survivors, &[first], ended, &mut failed);
            survivors.retain(|candidate| failed[*candidate].is_none());
            let mut ranked = Vec::new();
            for &candidate in &survivors {
                ranked.push((self.validation(candidate, first, rung.epochs)?.0, candidate));
            }
            // Of equal losses the one with fewer trained parameters goes on.
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(self.trained[a.1].cmp(&self.trained[b.1])));
            let kept = rung.candidates.div_ceil(self.arguments.eta).max(self.arguments.finalists);
            survivors = ranked.into_iter().take(kept).map(|(_, candidate)| candidate).collect();
        }
        survivors.truncate(self.arguments.finalists);
        let (finalists, seeds) =
            (counted(survivors.len(), "finalist", "finalists"), counted(self.seeds.len(), "seed", "seeds"));
        eprintln!("{finalists}: {}, {seeds}", counted(whole, "epoch", "epochs"));
        let Some(ended) = runner.train(&self.jobs(&survivors, &self.seeds, whole), nothing_more)? else {
            return Ok(None);
        };
        self.note_failures(&survivors, &self.seeds, ended, &mut failed);
        survivors.retain(|candidate| failed[*candidate].is_none());
        let mut finals = Vec::new();
        for &candidate in &survivors {
            let mut sum = 0.0;
            for &seed in &self.seeds {
                sum += self.validation(candidate, seed, whole)?.0;
            }
            finals.push((sum / self.seeds.len() as f64, candidate));
        }
        finals.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some(&(loss, winner)) = finals.first() else {
            return Err(Failure::work(format!(
                "no candidate could be trained: {}",
                failed.iter().flatten().next().map_or("", |f| f)
            )));
        };
        let mut results = self.results(&failed, &survivors)?;
        let name = &self.candidates[winner].name;
        let cost = self.cost_share(&failed)?;
        results.winner = Some(name.clone());
        results.statements = vec![
            format!(
                "The winner is `{name}`, which trains {}: mean validation loss {loss:.4} over {} seeds.",
                self.candidates[winner].selectors.join(", "),
                self.seeds.len()
            ),
            format!(
                "The search trained {:.0} % of the epochs that every candidate at full length with every seed would have \
                 taken.",
                100.0 * cost
            ),
        ];
        // From here on the winner is fixed: it stands on the disk before the test images are looked at.
        results.write(&self.arguments.out)?;
        let plans = vec![(name.clone(), self.candidates[winner].selectors.clone())];
        let row = Experiment::over_freeze_plans(results.title.clone(), self.seeds.clone(), self.base.clone(), plans);
        let file = self.arguments.out.join("winner.toml");
        write_atomically(&file, |out| out.write_all(row.to_toml().as_bytes()))?;
        results.statements.push(self.test(winner)?);
        results.statements.push(format!(
            "`{}` holds the winner as a row of an experiment. Its test images were looked at now, after the choice; those of \
             the other candidates stay sealed.",
            file.display()
        ));
        Ok(Some(results))
    }

    fn note_failures(
        &self,
        candidates: &[usize],
        seeds: &[u64],
        ended: Vec<(String, Ended)>,
        failed: &mut [Option<String>],
    ) {
        let places = candidates.iter().flat_map(|candidate| seeds.iter().map(move |_| *candidate));
        for (candidate, (_, ended)) in places.zip(ended) {
            if let Ended::Failed(reason) = ended {
                failed[candidate] = Some(reason);
            }
        }
    }

    fn history(&self, candidate: usize, seed: u64) -> Outcome<Vec<EpochRecord>> {
        Ok(read_table(&self.run_of(candidate, seed).history_file())?)
    }

    /// Validation loss and accuracy of a candidate after so many epochs: of the epoch that would be kept.
    fn validation(&self, candidate: usize, seed: u64, epochs: usize) -> Outcome<(f64, f64)> {
        let history = self.history(candidate, seed)?;
        let reached = history.iter().filter(|row| row.epoch <= epochs);
        let figures: Vec<(f64, f64)> = reached.filter_map(|row| row.valid_loss.zip(row.valid_accuracy)).collect();
        let kept = match self.base.training.select {
            Select::Last => figures.last(),
            Select::Best => figures.iter().min_by(|a, b| a.0.total_cmp(&b.0)),
        };
        kept.copied().ok_or_else(|| {
            let root = self.base.data.root.display();
            Failure::work(format!("{root}: a search chooses by the validation loss, and there is no validation split"))
        })
    }

    /// Epochs that were trained, as a share of all candidates at full length with all seeds.
    fn cost_share(&self, failed: &[Option<String>]) -> Outcome<f64> {
        let mut epochs = 0;
        for candidate in self.all().into_iter().filter(|candidate| failed[*candidate].is_none()) {
            for &seed in self.seeds.iter().filter(|seed| self.run_of(candidate, **seed).history_file().is_file()) {
                epochs += self.history(candidate, seed)?.len();
            }
        }
        Ok(epochs as f64 / (self.candidates.len() * self.seeds.len() * self.base.training.epochs) as f64)
    }

    fn results(&self, failed: &[Option<String>], finalists: &[usize]) -> Outcome<SearchResults> {
        let mut candidates = Vec::new();
        for candidate in self.all() {
            let seeds: &[u64] = if finalists.contains(&candidate) { &self.seeds } else { &self.seeds[..1] };
            let (mut epochs, mut seconds, mut figures) = (0, Vec::new(), Vec::new());
            if failed[candidate].is_none() {
                for &seed in seeds {
                    let history = self.history(candidate, seed)?;
                    epochs = history.len();
                    seconds.extend(history.iter().map(|row| row.seconds));
                    figures.push(self.validation(candidate, seed, epochs)?);
                }
            }
            let trainings = figures.len();
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let (losses, accuracies): (Vec<f64>, Vec<f64>) = figures.into_iter().unzip();
            candidates.push(CandidateResult {
                name: self.candidates[candidate].name.clone(),
                unfreeze: self.candidates[candidate].selectors.clone(),
                trainable_parameters: self.trained[candidate],
                epochs,
                seconds_per_epoch: mean(&seconds),
                validation_loss: mean(&losses),
                validation_accuracy: mean(&accuracies),
                seeds: trainings,
                failed: failed[candidate].clone(),
            });
        }
        candidates.sort_by_key(|candidate| candidate.trainable_parameters);
        let a = self.arguments;
        let rungs: Vec<String> = self
            .rungs()
            .iter()
            .map(|rung| format!("{} after {}", rung.candidates, counted(rung.epochs, "epoch", "epochs")))
            .collect();
        Ok(SearchResults {
            format_version: FORMAT_VERSION,
            title: self.title(),
            method: vec![
                format!(
                    "Successive halving (Jamieson and Talwalkar 2016) on the validation loss: {}; the best of each {} go on.",
                    rungs.join(", "),
                    a.eta
                ),
                format!(
                    "{} trained for {} with the seeds {:?}; the lowest mean validation loss wins.",
                    match finalists.len() {
                        1 => "The one finalist was".to_owned(),
                        several => format!("The {several} finalists were"),
                    },
                    counted(self.base.training.epochs, "epoch", "epochs"),
                    self.seeds
                ),
                "Candidates train in step behind one frozen prefix, so that each image is decoded once for all of them; \
                 seconds are those of a candidate's own steps and an equal share of the rest."
                    .into(),
                "The winner's figures on the validation images are a little too good, because it was chosen by them; those \
                 on the test images are not."
                    .into(),
            ],
            candidates,
            winner: None,
            statements: Vec::new(),
        })
    }

    /// Evaluates the winner on the test images, in words.
    fn test(&self, winner: usize) -> Outcome<String> {
        let runs: Vec<RunDirectory> = self.seeds.iter().map(|seed| self.run_of(winner, *seed)).collect();
        for run in &runs {
            unseal(run)?;
            if Environment::read(&run.environment_file())?.images.get("test").is_none_or(|images| images.is_empty()) {
                return Ok("There are no test images.".into());
            }
        }
        evaluate_once(&runs.iter().collect::<Vec<_>>(), "test").into_iter().collect::<Outcome>()?;
        let mut trainings = Vec::new();
        for run in &runs {
            let file = run.predictions_file("test");
            trainings.push(predictions(&PredictionTable::read(&file)?, &file)?);
        }
        let classes = trainings[0].classes().to_vec();
        let positive = positive_class(&classes, self.base.data.positive.as_deref())?;
        let metrics = RepeatedMetrics::evaluate(&trainings, positive, &resampling(self.seeds[0]))?;
        let figure = |name: &str, repeated: &roentgen_eval::Repeated| {
            let estimate = &repeated.estimate;
            match (estimate.value, estimate.interval()) {
                (Some(value), Some(interval)) => {
                    format!("{name} {value:.4} (95 % interval {:.4} to {:.4})", interval.low, interval.high)
                }
                _ => format!("{name} undefined"),
            }
        };
        Ok(format!(
            "On the {} test images: {}, {} for `{}`, means over {} seeds.",
            trainings[0].samples(),
            figure("accuracy", &metrics.accuracy),
            figure("AUROC", &metrics.auroc),
            classes[positive],
            self.seeds.len()
        ))
    }
}

/// What is done with runs that are trained: they are looked at when all of a comparison are.
fn nothing_more(runs: &[&RunDirectory]) -> Vec<Outcome> {
    runs.iter().map(|_| Ok(())).collect()
}

/// `search.toml`: what is searched.
fn search_file(folder: &Path) -> PathBuf {
    folder.join("search.toml")
}

/// Whether a search was begun in a folder.
pub fn is_begun(folder: &Path) -> bool {
    search_file(folder).is_file()
}

fn unseal(run: &RunDirectory) -> Outcome {
    let seal = run.seal_file();
    match seal.is_file() {
        true => std::fs::remove_file(&seal).map_err(|e| Failure::work(format!("{}: {e}", seal.display()))),
        false => Ok(()),
    }
}

/// Says in a run that its test images must not be looked at before a search has fixed its winner.
pub fn seal(run: &RunDirectory) -> Outcome {
    let text = b"The test images of this run are not looked at: it belongs to a search, which chooses without them.\n";
    Ok(write_atomically(&run.seal_file(), |file| file.write_all(text))?)
}

/// As [`refuse_sealed`], of a run's folder or of a model file, which may lie in one.
pub fn refuse_sealed_model(model: &Path) -> Outcome {
    RunDirectory::sealed_at(model).map_or(Ok(()), |run| refuse_sealed(&run))
}

/// Refuses to look at images with a sealed run: they may be its test images, whatever they are called.
pub fn refuse_sealed(run: &RunDirectory) -> Outcome {
    let seal: &Path = &run.seal_file();
    match seal.is_file() {
        false => Ok(()),
        true => Err(Failure::call(format!(
            "{}: the run belongs to a search, which chooses its winner without the test images; only the winner's are \
             looked at, after the choice. Evaluate it on its own --split validation; for other images train it as a run by itself",
            run.path().display()
        ))),
    }
}

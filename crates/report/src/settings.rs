//! What a run was asked to do, on which data, and where: the tables of the page that hold no result.

use crate::numerals::{counted, listed, percent, thousands};
use crate::recipe;
use roentgen_run::config::{
    Augmentation, ClassWeights, FrozenBatchNorm, NamedClassWeights, OnBadImage, Optimizer, Precision, Select,
    TrainingSettings,
};
use roentgen_run::environment::Environment;
use roentgen_run::{Config, RunDirectory};
use serde::Serialize;
use std::path::Path;

/// A line of a table with two columns.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    value: String,
}

fn row(name: &'static str, value: impl Into<String>) -> Row {
    Row { name, value: value.into() }
}

/// Architecture, start, freeze plan and hyper-parameters.
pub(crate) fn settings(config: &Config, environment: Option<&Environment>) -> Vec<Row> {
    let Config { data, network, freeze, training, engine, .. } = config;
    let start = environment.map_or(&network.weights, |environment| &environment.start);
    let mut rows = vec![
        row("Architecture", &network.architecture),
        row("Start weights", start),
        row(
            "Head",
            match network.hidden {
                0 => "torchvision's own, one output a class".into(),
                hidden => format!("hidden layer of {hidden}, ReLU, dropout {}, one output a class", network.dropout),
            },
        ),
    ];
    let short_side = (data.image_size as f64 * 256.0 / 224.0).round();
    let input = format!("{0} x {0} pixels, cut from images with a short side of {short_side}", data.image_size);
    if config.is_imported() {
        rows.push(row("Trained", "elsewhere, in a way that is not known here: the weights were imported"));
        rows.extend(environment.map(|environment| row("Parameters", thousands(environment.parameters))));
        rows.push(row("Input", input));
        return rows;
    }
    rows.push(row("Trained", trained(&freeze.unfreeze)));
    if let Some(environment) = environment {
        rows.push(row("Parameters", parameters(environment.trainable_parameters, environment.parameters)));
    }
    rows.push(row(
        "Frozen batch norms",
        match freeze.frozen_batch_norm {
            FrozenBatchNorm::Eval => "evaluation mode: their stored statistics stay as they are",
            FrozenBatchNorm::Train => "training mode: their stored statistics follow the batches",
        },
    ));
    rows.extend([
        row("Input", input),
        row(
            "Augmentation",
            match data.augment {
                Augmentation::None => "none",
                Augmentation::Seed => "rotation up to 30 degrees, random resized crop, horizontal flip",
                Augmentation::Cxr => "small rotation and shift, contrast, borders cut at times, no flip",
            },
        ),
        row("Epochs", epochs(training)),
        row("Batch size", format!("{}{}", training.batch_size, if data.shuffle { "" } else { ", order not shuffled" })),
        row("Optimiser", optimizer(training)),
        row("Loss", format!("{}, {}", recipe::loss(config), class_weights(&training.class_weights))),
        row(
            "Weights kept",
            match training.select {
                Select::Last => "those of the last epoch",
                Select::Best => "those of the epoch with the lowest validation loss",
            },
        ),
        row(
            "Unreadable images",
            match data.on_bad_image {
                OnBadImage::Fail => "stop the run",
                OnBadImage::Skip => "are left out and listed",
            },
        ),
        row("Seed", training.seed.to_string()),
        row(
            "Precision",
            match engine.precision {
                Precision::F32 => "f32",
                Precision::Bf16 => "bf16 and f32",
            },
        ),
        row(
            "Convolutions",
            if engine.exact { "computed directly" } else { "by Winograd's algorithm where it is faster" },
        ),
    ]);
    rows.extend(recipe::recipe(config).into_iter().map(|(name, value)| row(name, value)));
    rows
}

fn trained(unfreeze: &[String]) -> String {
    match unfreeze {
        [one] if one == "all" => "every layer".into(),
        [one] if one == "head" => "the head alone; every other layer is frozen".into(),
        names => format!("{}; every other layer is frozen", listed(names)),
    }
}

fn parameters(trainable: usize, all: usize) -> String {
    let share = if all > 0 { trainable as f64 / all as f64 } else { 0.0 };
    format!("{} trainable of {} ({})", thousands(trainable), thousands(all), percent(share))
}

fn epochs(training: &TrainingSettings) -> String {
    match training.max_steps {
        Some(steps) => format!("{}, but at most {steps} optimiser steps", training.epochs),
        None => training.epochs.to_string(),
    }
}

fn optimizer(training: &TrainingSettings) -> String {
    let TrainingSettings { learning_rate, momentum, weight_decay, nesterov, .. } = training;
    match training.optimizer {
        Optimizer::Sgd => {
            let form = if *nesterov { " (Nesterov)" } else { "" };
            format!("SGD, learning rate {learning_rate}, momentum {momentum}{form}, weight decay {weight_decay}")
        }
        Optimizer::Adamw => {
            format!("AdamW, learning rate {learning_rate}, betas 0.9 and 0.999, weight decay {weight_decay}")
        }
    }
}

fn class_weights(weights: &ClassWeights) -> String {
    match weights {
        ClassWeights::Named(NamedClassWeights::None) => "every image counts the same".into(),
        ClassWeights::Named(NamedClassWeights::Balanced) => "classes weighted against their frequency".into(),
        ClassWeights::List(weights) => {
            let weights: Vec<String> = weights.iter().map(f32::to_string).collect();
            format!("class weights {}", listed(&weights))
        }
    }
}

/// Images and patients by split and class.
#[derive(Debug, Serialize)]
pub(crate) struct DataCounts {
    classes: Vec<String>,
    splits: Vec<SplitCounts>,
    patients_known: bool,
    pub(crate) patient_statement: String,
    /// Patients that stand in several splits.
    leaked_patients: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SplitCounts {
    name: String,
    images: Vec<String>,
    total: String,
    patients: Option<String>,
}

/// Counts the images of each split in the order train, validation, test, then any other.
pub(crate) fn data_counts(environment: &Environment) -> DataCounts {
    let mut names: Vec<&String> = environment.images.keys().collect();
    names.sort_by_key(|name| match name.as_str() {
        "train" => 0,
        "validation" | "valid" | "val" => 1,
        "test" => 2,
        _ => 3,
    });
    let split = |name: &String| {
        let of_class = |class: &String| environment.images[name].get(class).copied().unwrap_or(0);
        let images: Vec<usize> = environment.classes.iter().map(of_class).collect();
        SplitCounts {
            name: name.clone(),
            total: thousands(images.iter().sum()),
            images: images.into_iter().map(thousands).collect(),
            patients: environment.patients.as_ref().map(|patients| thousands(patients.get(name).copied().unwrap_or(0))),
        }
    };
    let leaked_patients = environment.patients_in_several_splits.clone();
    let patient_statement = if environment.patients.is_none() && leaked_patients.is_empty() {
        "Patients are unknown: that no patient stands in two splits is not provable.".to_owned()
    } else if leaked_patients.is_empty() {
        "No patient stands in more than one split.".to_owned()
    } else {
        let verb = if leaked_patients.len() == 1 { "stands" } else { "stand" };
        let patients = counted(leaked_patients.len(), "patient");
        format!("{patients} {verb} in more than one split: results on validation and test images are flattered.")
    };
    DataCounts {
        classes: environment.classes.clone(),
        splits: names.into_iter().map(split).collect(),
        patients_known: environment.patients.is_some(),
        patient_statement,
        leaked_patients,
    }
}

/// What stands above everything else where a run was trained although its splits leak.
pub(crate) fn leak_notice(environment: &Environment) -> Option<String> {
    let patients = environment.patients_in_several_splits.len();
    let images = environment.identical_in_several_splits.len();
    let parts = [(patients, "patient"), (images, "group of images with identical pixels")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {}", what.replacen("patient", "patients", 1).replacen("group", "groups", 1)),
        })
        .collect();
    let verb = if patients + images == 1 { "stands" } else { "stand" };
    (!parts.is_empty()).then(|| {
        format!(
            "Trained with --allow-leaks: {} {verb} in more than one split; results on validation and test images are \
         flattered.",
            parts.join(" and ")
        )
    })
}

/// What the run ran on.
pub(crate) fn environment_rows(environment: &Environment) -> Vec<Row> {
    let mut rows = vec![
        row("Program", format!("roentgen {}", environment.version)),
        row("Platform", &environment.platform),
        row("Instruction set", &environment.instruction_set),
        row("Threads", environment.threads.to_string()),
    ];
    // An imported model may name no data.
    if !environment.data_fingerprint.is_empty() {
        rows.push(row("Fingerprint of the data", &environment.data_fingerprint));
    }
    rows
}

/// The command that audits the run's data for its card.
pub(crate) fn audit_command(run: &RunDirectory, config: &Config) -> String {
    format!("roentgen audit --data {} --json > {}", own_data(config), quoted(&run.audit_file()))
}

/// The run's data as a command names them.
fn own_data(config: &Config) -> String {
    match config.data.root.as_os_str().is_empty() {
        true => "DIR".to_owned(),
        false => quoted(&config.data.root),
    }
}

/// The commands that make the run and its evaluations again.
pub(crate) fn commands(
    run: &RunDirectory,
    config: &Config,
    environment: Option<&Environment>,
    evaluated_splits: &[String],
) -> Vec<String> {
    let again = {
        let mut name = run.path().as_os_str().to_owned();
        name.push("-again");
        quoted(Path::new(&name))
    };
    let own_data = own_data(config);
    let mut commands = vec![match (config.is_imported(), environment) {
        (true, Some(environment)) => {
            let [weights, arch, classes] =
                [&config.network.weights, &config.network.architecture, &environment.classes.join(",")]
                    .map(|text| quoted(Path::new(text)));
            let size = config.data.image_size;
            let positive = config.data.positive.as_deref();
            let positive =
                positive.map(|class| format!(" --positive {}", quoted(Path::new(class)))).unwrap_or_default();
            let data = if own_data == "DIR" { String::new() } else { format!(" --data {own_data}") };
            format!(
                "roentgen import {weights} --arch {arch} --classes {classes}{positive} --image-size {size}{data} --out \
                 {again}"
            )
        }
        _ => format!("roentgen train --config {} --out {again}", quoted(&run.config_file())),
    }];
    for name in evaluated_splits {
        // Results on other data are called `<folder>-<fingerprint>-<split>`.
        let (data, split) = match name.rsplit_once('-') {
            Some((_, split)) => ("DIR", split),
            None => (own_data.as_str(), name.as_str()),
        };
        commands.push(format!("roentgen evaluate {again} --data {data} --split {}", quoted(Path::new(split))));
    }
    commands.push(format!("roentgen report {again}"));
    commands
}

/// A path as a POSIX shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_shell() {
        assert_eq!(quoted(Path::new("runs/a-1")), "runs/a-1");
        assert_eq!(quoted(Path::new("my runs/it's $x")), r"'my runs/it'\''s $x'");
        assert_eq!(quoted(Path::new("")), "''");
    }

    #[test]
    fn freeze_plans_and_optimisers_read_as_words() {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(trained(&names(&["layer4", "head"])), "layer4 and head; every other layer is frozen");
        assert_eq!(trained(&names(&["all"])), "every layer");
        assert_eq!(parameters(195_702, 11_372_214), "195,702 trainable of 11,372,214 (1.7\u{a0}%)");
        let adamw = TrainingSettings { optimizer: Optimizer::Adamw, weight_decay: 0.01, ..Default::default() };
        assert_eq!(optimizer(&adamw), "AdamW, learning rate 0.001, betas 0.9 and 0.999, weight decay 0.01");
    }
}

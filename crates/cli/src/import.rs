//! `roentgen import`

use crate::failure::{Failure, Outcome};
use crate::scoring::positive_class;
use crate::{download, search, start};
use clap::Args;
use roentgen_infer::{Model, ModelError, write_model};
use roentgen_nn::{Engine, ParameterSet};
use roentgen_run::config::OnBadImage;
use roentgen_run::directory::RunState;
use roentgen_run::environment::Environment;
use roentgen_run::{Config, RunDirectory};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// `roentgen import`
#[derive(Debug, Args)]
pub struct Import {
    /// Weight file: a state dict as torch.save writes it, in either form (.pth), or .safetensors
    pub weights: PathBuf,
    /// Architecture that the weights are of, such as resnet18
    #[arg(long, value_name = "NAME")]
    pub arch: String,
    /// Names of the classes in the order of the model's outputs; torchvision's ImageFolder sorts them
    #[arg(long, value_name = "NAME,NAME,...", value_delimiter = ',', required = true)]
    pub classes: Vec<String>,
    /// Side of the network's input in pixels, as in training
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub image_size: usize,
    /// The positive class [default: infected, or the one that is not normal]
    #[arg(long, value_name = "CLASS")]
    pub positive: Option<String>,
    /// The data that the model was trained on, where it is here: thresholds are then fitted on its validation images
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Run directory to write
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
}

/// Runs the command, and prints the run's path. The model is written last: until then the run counts as unfinished.
pub fn run(arguments: &Import) -> Outcome {
    let Import { weights, arch, classes, image_size, data, out, .. } = arguments;
    check_classes(classes)?;
    positive_class(classes, arguments.positive.as_deref())?;
    let run = RunDirectory::new(out);
    if !matches!(run.state(), RunState::Absent | RunState::Started) {
        let path = out.display();
        return Err(Failure::call(format!("{path}: something stands there already: give a new folder with --out")));
    }
    search::refuse_sealed_model(weights)?;
    let model = Model::from_weights(arch, weights, Some(classes), *image_size).map_err(|error| match error {
        error @ ModelError::Classes { .. } => Failure::Call(error.into()),
        error => error.into(),
    })?;
    let config = config(arguments, &model)?;
    let environment = environment(arguments, &model)?;
    run.create(&config)?;
    environment.write(&run.environment_file())?;
    write_model(&run.model_file(), &model.description, &model.store, ParameterSet::Live)?;
    let path = out.display();
    let place = if data.is_some() { "" } else { " --data DIR" };
    eprintln!("next: roentgen evaluate {path}{place} && roentgen report {path}");
    writeln!(std::io::stdout(), "{path}")?;
    Ok(())
}

fn check_classes(classes: &[String]) -> Outcome {
    if let Some(twice) = classes.iter().enumerate().find(|(i, class)| classes[..*i].contains(class)) {
        return Err(Failure::call(format!("--classes: `{}` is named twice", twice.1)));
    }
    if classes.len() < 2 || classes.iter().any(String::is_empty) {
        return Err(Failure::call(format!("--classes {}: expected at least two names", classes.join(","))));
    }
    Ok(())
}

/// What is known of the model; settings of a training that is not known keep their defaults beside `epochs = 0`.
fn config(arguments: &Import, model: &Model) -> Outcome<Config> {
    let mut config = Config::default();
    if let Some(root) = &arguments.data {
        config.data.root = root.clone();
    }
    config.data.image_size = arguments.image_size;
    config.data.positive = arguments.positive.clone();
    config.network.architecture = arguments.arch.clone();
    config.network.weights = match arguments.weights.to_str() {
        Some(path) => path.to_owned(),
        None => return Err(Failure::call(format!("{}: the name is not UTF-8", arguments.weights.display()))),
    };
    config.network.hidden = model.description.hidden.unwrap_or(0);
    config.network.dropout = 0.0;
    config.freeze.unfreeze = Vec::new();
    config.training.epochs = 0;
    Ok(config)
}

fn environment(arguments: &Import, model: &Model) -> Outcome<Environment> {
    let Import { weights, classes, data, .. } = arguments;
    let engine = start::engine(None)?;
    let mut environment = Environment {
        version: env!("CARGO_PKG_VERSION").into(),
        instruction_set: engine.description(),
        threads: engine.threads(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        data_fingerprint: String::new(),
        classes: classes.clone(),
        images: BTreeMap::new(),
        sources: None,
        patients: None,
        patients_in_several_splits: Vec::new(),
        identical_in_several_splits: Vec::new(),
        trainable_parameters: 0,
        parameters: model.network.parameter_count(),
        start: format!("imported from {} (SHA-256 {})", weights.display(), download::sha256(weights)?),
        skipped_images: Vec::new(),
        warnings: vec![
            "The model was trained elsewhere and imported: how, and on which images, is not known here.".into(),
        ],
    };
    let Some(root) = data else { return Ok(environment) };
    let manifest = start::manifest(root, None, OnBadImage::Fail, None)?;
    for class in &manifest.classes {
        if !classes.contains(class) {
            let known = classes.join(", ");
            return Err(Failure::call(format!(
                "{}: its class `{class}` is none of the model's ({known}): name the model's classes as the data does",
                root.display()
            )));
        }
    }
    let counts = start::counts(&manifest, &[]);
    environment.data_fingerprint = manifest.fingerprint()?;
    (environment.images, environment.sources, environment.patients) = (counts.images, counts.sources, counts.patients);
    let across = manifest.patients_across_splits();
    environment.patients_in_several_splits = across.into_iter().map(|leak| leak.patient_id).collect();
    environment.warnings = vec![format!(
        "The model was trained elsewhere and imported; that its training images are those of {} is what whoever \
         imported it says.",
        root.display()
    )];
    environment.warnings.extend(manifest.warnings.iter().cloned());
    Ok(environment)
}

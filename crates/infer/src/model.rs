//! Trained models: what a `model.safetensors` says of itself, and how one is opened.

use roentgen_nn::weights::{
    ExpectedTensor, HeadFate, StateDict, TensorToWrite, ValuesToWrite, WeightsError, read_safetensors_metadata,
    write_safetensors,
};
use roentgen_nn::{
    FreezePlan, FrozenBatchNorm, Head, Network, NetworkError, ParameterSet, ParameterStore, TensorKind, ValueId,
    architecture, initialise,
};
use roentgen_run::directory::write_atomically;
use roentgen_run::{FORMAT_VERSION, RunDirectory, RunError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The one metadata key of the weight files that this program writes; its text is a [`ModelDescription`] as JSON.
pub const METADATA_KEY: &str = "roentgen";

/// Why a model cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The weight file.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The architecture or the head.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A run that was not finished.
    #[error("{}: the run has no model.safetensors yet: finish it with `roentgen train --resume {}`", run.display(), run.display())]
    Unfinished {
        /// The run directory.
        run: PathBuf,
    },
    /// A weight file that does not say what it is.
    #[error("{}: {found}; expected a model that `roentgen train` wrote; for other weights give --arch", file.display())]
    NoDescription {
        /// The weight file.
        file: PathBuf,
        /// What stands in the place of the description.
        found: String,
    },
    /// A model whose images were prepared in a way that this program does not know.
    #[error("{}: {found}; expected {expected}: use the version of roentgen that wrote it", file.display())]
    Preprocessing {
        /// The weight file.
        file: PathBuf,
        /// What it asks for.
        found: String,
        /// What this program does.
        expected: String,
    },
    /// Another number of classes than the head has outputs.
    #[error(
        "{}: the head has {outputs} outputs, and {} classes are named ({}): name as many, in the order of the outputs",
        file.display(), classes.len(), classes.join(", ")
    )]
    Classes {
        /// The weight file.
        file: PathBuf,
        /// Outputs of its head.
        outputs: usize,
        /// The classes given.
        classes: Vec<String>,
    },
    /// More weights than an ONNX file can hold.
    #[error("{}: the model takes {bytes} bytes; an ONNX file holds at most 2 GiB: export it as safetensors", file.display())]
    TooLargeForOnnx {
        /// The file that was to be written.
        file: PathBuf,
        /// What it would take.
        bytes: usize,
    },
    /// Written by a newer version.
    #[error("{}: model format {found}; this program reads formats up to {FORMAT_VERSION}: use a newer roentgen", file.display())]
    NewerFormat {
        /// The weight file.
        file: PathBuf,
        /// The version found.
        found: u32,
    },
}

/// What a weight file says of itself: all that prediction needs beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Version of this description.
    pub format_version: u32,
    /// torchvision's name.
    pub architecture: String,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Width of the replaced head's hidden layer; absent for torchvision's own head.
    pub hidden: Option<usize>,
    /// Dropout probability of the replaced head.
    pub dropout: Option<f32>,
    /// From an image file to the network's input.
    pub preprocessing: Preprocessing,
    /// What was trained: `head`, `all`, or module names.
    pub unfreeze: Vec<String>,
    /// How frozen batch norms behaved while training: `eval` or `train`.
    pub frozen_batch_norm: String,
}

/// From an image file to the network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Short side after the resize, in pixels.
    pub resize_short_side: usize,
    /// Side of the centre crop, in pixels: the network's input.
    pub crop: usize,
    /// Subtracted from values in `[0, 1]`, by channel.
    pub mean: [f32; 3],
    /// Divided by, by channel.
    pub standard_deviation: [f32; 3],
}

impl Preprocessing {
    /// torchvision's for ImageNet weights, at an image size.
    pub fn imagenet(image_size: usize) -> Preprocessing {
        Preprocessing {
            resize_short_side: (image_size as f64 * 256.0 / 224.0).round() as usize,
            crop: image_size,
            mean: [0.485, 0.456, 0.406],
            standard_deviation: [0.229, 0.224, 0.225],
        }
    }
}

impl ModelDescription {
    /// Where the frozen prefix of the training ended, in a network of this description: what lies before it is as it was
    /// at the start. The image itself, where nothing is known to be as it was.
    pub fn cut(&self, network: &Network) -> Vec<ValueId> {
        let frozen = match self.frozen_batch_norm.as_str() {
            "eval" => FrozenBatchNorm::Stored,
            _ => FrozenBatchNorm::Batch,
        };
        // An imported model names nothing; names may be those of another version.
        FreezePlan::resolve(network, &self.unfreeze, frozen)
            .map_or_else(|_| vec![network.input()], |plan| plan.cut(network))
    }

    /// The head that the description asks for.
    pub fn head(&self) -> Head {
        let classes = self.classes.len();
        match self.hidden {
            Some(hidden) => Head::Replaced { hidden, dropout: self.dropout.unwrap_or(0.0), classes },
            None => Head::Stock { classes },
        }
    }
}

/// A network with its numbers, ready to predict.
pub struct Model {
    /// What it is.
    pub description: ModelDescription,
    /// Its network at its image size.
    pub network: Network,
    /// Its parameters.
    pub store: ParameterStore,
}

/// A file of weights that this program wrote, of which only the description was read.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub description: ModelDescription,
    /// Its network at its image size.
    pub network: Network,
}

impl ModelFile {
    /// Finds the model of a finished run directory, or a weight file that this program wrote.
    ///
    /// # Errors
    /// Where there is none, or it does not say what it is.
    pub fn open(path: &Path) -> Result<ModelFile, ModelError> {
        let file = if path.is_dir() {
            let run = RunDirectory::open(path)?;
            if !run.model_file().is_file() {
                return Err(ModelError::Unfinished { run: path.to_owned() });
            }
            run.model_file()
        } else {
            path.to_owned()
        };
        let description = read_description(&file)?;
        let ours = Preprocessing::imagenet(description.preprocessing.crop);
        if description.preprocessing != ours {
            let found = format!("preprocessing {:?}", description.preprocessing);
            return Err(ModelError::Preprocessing { file, found, expected: format!("{ours:?}") });
        }
        let network =
            architecture::build(&description.architecture, description.preprocessing.crop, description.head())?;
        Ok(ModelFile { path: file, description, network })
    }

    /// Reads the numbers.
    ///
    /// # Errors
    /// Where the file is not whole, or does not fit its own description.
    pub fn load(&self) -> Result<Model, ModelError> {
        let (store, _) = fitted(&self.network, &self.path, StateDict::open(&self.path)?, false)?;
        Ok(Model { description: self.description.clone(), network: self.network.clone(), store })
    }
}

impl Model {
    /// Opens a finished run directory, or a weight file that this program wrote.
    ///
    /// # Errors
    /// As [`ModelFile::open`] and [`ModelFile::load`].
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        ModelFile::open(path)?.load()
    }

    /// A model from a weight file that says nothing of itself, such as a PyTorch state dict: torchvision's own head, or
    /// `Linear, ReLU, Dropout, Linear` in its place, or `Sequential` with one linear layer, as the file's tensors have it.
    /// `classes` names the logits in their
    /// order; without it they are named by index. What the head's dropout was is not in the file, and does not matter
    /// for predictions.
    ///
    /// # Errors
    /// Where the file does not fit the architecture, or its head has another number of outputs than there are classes.
    pub fn from_weights(
        architecture: &str,
        file: &Path,
        classes: Option<&[String]>,
        image_size: usize,
    ) -> Result<Model, ModelError> {
        let probe = architecture::build(architecture, image_size, Head::Stock { classes: 1000 })?;
        let stock = probe.tensors().iter().rev().find(|t| t.kind == TensorKind::Parameter).map(|t| t.name.as_str());
        let mut state = StateDict::open(file)?;
        if let Some(linear) = stock.and_then(|bias| bias.strip_suffix(".bias")) {
            unwrap_linear(&mut state, linear);
        }
        // Rows of a matrix; where there is none, fitting says what is missing.
        let outputs = |name: &str| state.get(name).and_then(|tensor| tensor.shape.first().copied()).filter(|&n| n > 0);
        let module = probe.head_module();
        let hidden = outputs(&format!("{module}.0.weight"));
        let (hidden, outputs) = match (stock.and_then(outputs), hidden, outputs(&format!("{module}.3.weight"))) {
            (Some(outputs), ..) => (None, outputs),
            (None, Some(hidden), Some(outputs)) => (Some(hidden), outputs),
            _ => (None, classes.map_or(1000, <[String]>::len)),
        };
        if let Some(classes) = classes
            && classes.len() != outputs
        {
            let (file, classes) = (file.to_owned(), classes.to_vec());
            return Err(ModelError::Classes { file, outputs, classes });
        }
        let description = ModelDescription {
            format_version: FORMAT_VERSION,
            architecture: architecture.to_owned(),
            classes: classes.map_or_else(|| (0..outputs).map(|class| class.to_string()).collect(), <[String]>::to_vec),
            hidden,
            dropout: hidden.map(|_| 0.0),
            preprocessing: Preprocessing::imagenet(image_size),
            unfreeze: Vec::new(),
            frozen_batch_norm: "eval".into(),
        };
        let network = architecture::build(architecture, image_size, description.head())?;
        let (store, _) = fitted(&network, file, state, false)?;
        Ok(Model { description, network, store })
    }
}

/// Where the place of a linear layer holds a `Sequential` with one layer that has tensors, such as `Dropout, Linear`
/// (`fc.1.weight`, `fc.1.bias`), gives these the linear layer's names: in evaluation both are the same.
fn unwrap_linear(state: &mut StateDict, linear: &str) {
    let prefix = format!("{linear}.");
    // Index and name within the layer.
    let inner = |name: &str| -> Option<(usize, String)> {
        let (index, tensor) = name.strip_prefix(&prefix)?.split_once('.')?;
        Some((index.parse().ok()?, tensor.to_owned()))
    };
    let mut found: Vec<(usize, String)> = state.tensors.iter().filter_map(|(name, _)| inner(name)).collect();
    found.sort();
    if let [(one, bias), (same, weight)] = &found[..]
        && one == same
        && (bias.as_str(), weight.as_str()) == ("bias", "weight")
    {
        for (name, _) in &mut state.tensors {
            if let Some((_, tensor)) = inner(name) {
                *name = format!("{linear}.{tensor}");
            }
        }
    }
}

/// A store filled from a weight file, and what became of the head. Sizes are compared before the store is allocated.
///
/// # Errors
/// Where the file does not fit.
fn fitted(
    network: &Network,
    file: &Path,
    state: StateDict,
    head_may_differ: bool,
) -> Result<(ParameterStore, HeadFate), ModelError> {
    let expected: Vec<ExpectedTensor> = network.tensors().iter().map(ExpectedTensor::from).collect();
    let fitted = state.fit(file, network.architecture(), &expected, network.head_module(), head_may_differ)?;
    let mut store = ParameterStore::new(network);
    store.take(&fitted.tensors);
    Ok((store, fitted.head))
}

/// Where a training run starts from: fills the store and says in words what was done. `None` is a seeded random start;
/// a head that the file lacks or has in another form is drawn from the seed.
///
/// # Errors
/// Where the file cannot be read or does not fit.
pub fn start_weights(
    network: &Network,
    store: &mut ParameterStore,
    weights: Option<&Path>,
    seed: u64,
) -> Result<String, ModelError> {
    let Some(file) = weights else {
        initialise(network, store, seed, |_| true);
        return Ok(format!("random start from seed {seed}"));
    };
    let (filled, head) = fitted(network, file, StateDict::open(file)?, true)?;
    *store = filled;
    if head != HeadFate::Loaded {
        let inside = format!("{}.", network.head_module());
        initialise(network, store, seed, |name| name.starts_with(&inside));
    }
    Ok(match head {
        HeadFate::Loaded => format!("{}, head included", file.display()),
        HeadFate::StartedAnew { reason } => {
            format!("{}; the head starts anew from seed {seed}: {reason}", file.display())
        }
    })
}

fn read_description(file: &Path) -> Result<ModelDescription, ModelError> {
    let metadata = read_safetensors_metadata(file)?;
    let no_description = |found: String| ModelError::NoDescription { file: file.to_owned(), found };
    let text = metadata.get(METADATA_KEY).ok_or_else(|| no_description(format!("no metadata `{METADATA_KEY}`")))?;
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_str(text).map_err(|e| no_description(e.to_string()))?;
    if version.format_version > FORMAT_VERSION {
        return Err(ModelError::NewerFormat { file: file.to_owned(), found: version.format_version });
    }
    serde_json::from_str(text).map_err(|e| no_description(e.to_string()))
}

/// Writes a model, atomically: its bytes depend on the description and the tensors alone.
///
/// # Errors
/// Where the system refuses.
pub fn write_model(
    path: &Path,
    description: &ModelDescription,
    store: &ParameterStore,
    set: ParameterSet,
) -> Result<(), RunError> {
    let state = store.state_dict(set);
    let metadata = serde_json::to_string(description).expect("a description is plain data");
    write_atomically(path, |file| {
        let tensors: Vec<TensorToWrite<'_>> = state
            .tensors
            .iter()
            .map(|(name, tensor)| TensorToWrite {
                name,
                shape: &tensor.shape,
                values: ValuesToWrite::from(&tensor.values),
            })
            .collect();
        write_safetensors(file, &tensors, Some((METADATA_KEY, &metadata))).map_err(std::io::Error::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_nn::weights::{StateTensor, Values};

    /// Opens a model from weights whose head lies at other names.
    fn reopened(architecture: &str, rename: impl Fn(&str) -> String) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        let network = architecture::build(architecture, 32, Head::Stock { classes: 3 }).unwrap();
        let mut store = ParameterStore::new(&network);
        initialise(&network, &mut store, 5, |_| true);
        let state = store.state_dict(ParameterSet::Live);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        let names: Vec<String> = state.tensors.iter().map(|(name, _)| rename(name)).collect();
        let tensors: Vec<TensorToWrite<'_>> = (state.tensors.iter().zip(&names))
            .map(|((_, tensor), name)| TensorToWrite {
                name,
                shape: &tensor.shape,
                values: ValuesToWrite::from(&tensor.values),
            })
            .collect();
        write_safetensors(&mut std::fs::File::create(&file).unwrap(), &tensors, None).unwrap();
        let head = |state: &StateDict| match &state.tensors.last().unwrap().1.values {
            Values::F32(values) => values.clone(),
            other => panic!("{other:?}"),
        };
        let classes = ["a", "b", "c"].map(String::from);
        let model = Model::from_weights(architecture, &file, Some(&classes), 32)?;
        assert_eq!(model.description.head(), Head::Stock { classes: 3 });
        Ok((head(&state), head(&model.store.state_dict(ParameterSet::Live))))
    }

    #[test]
    fn a_linear_layer_in_a_sequential_is_the_head() {
        let (written, read) = reopened("resnet18", |name| name.replacen("fc.", "fc.1.", 1)).unwrap();
        assert_eq!(written, read);
        // Two layers are no such head.
        let error =
            reopened("resnet18", |name| name.replace("fc.weight", "fc.0.weight").replace("fc.bias", "fc.2.bias"));
        assert!(error.err().unwrap().to_string().contains("resnet18"));
        // Within VGG's classifier, whose other layers keep their names.
        let named = |names: &[&str]| {
            let tensor = StateTensor { shape: vec![1], values: Values::F32(vec![0.0]) };
            StateDict { tensors: names.iter().map(|name| (name.to_string(), tensor.clone())).collect() }
        };
        let mut state = named(&["classifier.3.bias", "classifier.6.2.weight", "classifier.6.2.bias"]);
        unwrap_linear(&mut state, "classifier.6");
        assert_eq!(state, named(&["classifier.3.bias", "classifier.6.weight", "classifier.6.bias"]));
    }
}

//! A network as data: a static graph of named values over few operations.
//!
//! Values stand in an order in which every input comes before its use. Their names are torchvision's module names
//! where a module has one, so that a weight file, a freeze plan, a tap and a reader speak of the same thing:
//! `layer4.1.conv2` is the output of that convolution, `layer4.1` that of the block.

use crate::nearest;

/// Shape of a value for one image: `[C, H, W]`. A vector of F features is `[F, 1, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeatureShape {
    /// Channels or features.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl FeatureShape {
    /// A vector of features.
    pub fn vector(features: usize) -> FeatureShape {
        FeatureShape { channels: features, height: 1, width: 1 }
    }

    /// Number of positions, `H * W`.
    pub fn positions(self) -> usize {
        self.height * self.width
    }

    /// Number of elements, `C * H * W`.
    pub fn elements(self) -> usize {
        self.channels * self.positions()
    }
}

impl std::fmt::Display for FeatureShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.positions() == 1 {
            write!(f, "{}", self.channels)
        } else {
            write!(f, "{}x{}x{}", self.channels, self.height, self.width)
        }
    }
}

/// What a value is computed by. Parameters have torchvision's names: the value's name with `.weight`, `.bias` and so
/// on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The normalised image.
    Input,
    /// `torch.nn.Conv2d` with a square kernel and zero padding.
    Conv2d {
        /// Channels of the output.
        out_channels: usize,
        /// Side of the kernel.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zeros added at each border.
        padding: usize,
        /// Whether it has a bias.
        bias: bool,
    },
    /// `torch.nn.BatchNorm2d` with affine parameters and running statistics.
    BatchNorm2d {
        /// Added to the variance.
        epsilon: f32,
        /// Share of the new statistics in the running ones.
        momentum: f32,
    },
    /// `max(x, 0)`.
    Relu,
    /// Sum of two values of one shape.
    Add,
    /// `torch.nn.MaxPool2d`, rounding down.
    MaxPool2d {
        /// Side of the window.
        kernel: usize,
        /// Step between windows.
        stride: usize,
        /// Border that is never the maximum.
        padding: usize,
    },
    /// `torch.nn.AdaptiveAvgPool2d`.
    AdaptiveAvgPool2d {
        /// Rows of the output.
        height: usize,
        /// Columns of the output.
        width: usize,
    },
    /// `[C, H, W]` to a vector in torchvision's order (channel, row, column).
    Flatten,
    /// `torch.nn.Linear` with bias.
    Linear {
        /// Features of the output.
        out_features: usize,
    },
    /// `torch.nn.Dropout`: in training mode an element is zero with this probability, the others grow by `1 / (1 - p)`.
    Dropout {
        /// Probability of a zero, in `[0, 1)`.
        probability: f32,
    },
}

impl Op {
    /// The operation's name as torch has it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "Input",
            Op::Conv2d { .. } => "Conv2d",
            Op::BatchNorm2d { .. } => "BatchNorm2d",
            Op::Relu => "ReLU",
            Op::Add => "Add",
            Op::MaxPool2d { .. } => "MaxPool2d",
            Op::AdaptiveAvgPool2d { .. } => "AdaptiveAvgPool2d",
            Op::Flatten => "Flatten",
            Op::Linear { .. } => "Linear",
            Op::Dropout { .. } => "Dropout",
        }
    }
}

/// Names a value of one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub(crate) usize);

impl ValueId {
    /// Position of the value in [`Network::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A named value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// torchvision's module name where there is one.
    pub name: String,
    /// What computes it.
    pub op: Op,
    /// What it is computed from.
    pub inputs: Vec<ValueId>,
    /// Its shape for one image.
    pub shape: FeatureShape,
}

/// What a tensor of the state dict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// Learned by the optimizer.
    Parameter,
    /// Gathered while training: a running mean or variance.
    Buffer,
    /// `num_batches_tracked`, a count.
    Counter,
}

/// A tensor of the state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// torchvision's name, such as `layer4.1.bn2.running_mean`.
    pub name: String,
    /// torchvision's shape; empty for a counter.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: TensorKind,
    /// The value that uses it.
    pub value: ValueId,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The last layers: torchvision's own, or those put in their place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// torchvision's own head.
    Stock {
        /// Number of classes; ImageNet has 1000.
        classes: usize,
    },
    /// `Linear(in, hidden), ReLU, Dropout, Linear(hidden, classes)`.
    Replaced {
        /// Width of the hidden layer.
        hidden: usize,
        /// Dropout probability, in `[0, 1)`.
        dropout: f32,
        /// Number of classes.
        classes: usize,
    },
}

impl Head {
    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Head::Stock { classes } | Head::Replaced { classes, .. } => classes,
        }
    }
}

/// Why a network cannot be built or a name in it not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No architecture of this name.
    #[error("unknown architecture `{name}`; nearest: {nearest}; known: {known}")]
    UnknownArchitecture {
        /// The name asked for.
        name: String,
        /// The most similar names.
        nearest: String,
        /// All names.
        known: String,
    },
    /// An image this small leaves nothing behind some layer.
    #[error(
        "an image of {image_size} px is too small for {architecture}: nothing is left at `{layer}`; use at least 32 px"
    )]
    ImageTooSmall {
        /// The architecture.
        architecture: String,
        /// The size asked for.
        image_size: usize,
        /// The layer whose output would be empty.
        layer: String,
    },
    /// A setting is out of range.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: String,
        /// The range.
        expected: &'static str,
    },
    /// No value of this name.
    #[error("{architecture} has no layer `{name}`; nearest: {nearest}")]
    UnknownLayer {
        /// The architecture.
        architecture: String,
        /// The name asked for.
        name: String,
        /// The most similar names.
        nearest: String,
    },
}

/// An architecture with its head at one image size.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    architecture: &'static str,
    image_size: usize,
    head_module: &'static str,
    head: Head,
    values: Vec<Value>,
    tensors: Vec<TensorSpec>,
}

impl Network {
    /// torchvision's name of the architecture.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// Side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// The module that holds the head: `fc` or `classifier`.
    pub fn head_module(&self) -> &'static str {
        self.head_module
    }

    /// The head.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Number of classes, the length of a row of logits.
    pub fn classes(&self) -> usize {
        self.head.classes()
    }

    /// All values, inputs before their uses; the first is the image, the last the logits.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// All values' names for the graph, in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId)
    }

    /// The image.
    pub fn input(&self) -> ValueId {
        ValueId(0)
    }

    /// The logits, `[classes]`.
    pub fn output(&self) -> ValueId {
        ValueId(self.values.len() - 1)
    }

    /// The state dict in torchvision's order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Index in [`Network::tensors`] of a tensor of a value, by its last name part (`weight`, `running_mean`).
    pub fn tensor_of(&self, id: ValueId, part: &str) -> Option<usize> {
        let name = format!("{}.{part}", self.values[id.0].name);
        self.tensors.iter().position(|tensor| tensor.name == name)
    }

    /// Indices of the tensors that some values are computed with, all the way from the image, in ascending order.
    pub fn tensors_behind(&self, values: &[ValueId]) -> Vec<usize> {
        let mut needed = vec![false; self.values.len()];
        values.iter().for_each(|id| needed[id.0] = true);
        for id in self.ids().rev() {
            if needed[id.0] {
                self.values[id.0].inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        (0..self.tensors.len()).filter(|index| needed[self.tensors[*index].value.0]).collect()
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.tensors.iter().filter(|t| t.kind == TensorKind::Parameter).map(TensorSpec::elements).sum()
    }

    /// The output of a module: the value of that name, or the last value inside the module of that name (`layer4`,
    /// `features`; `head` is the head module).
    ///
    /// # Errors
    /// Where there is none; the error offers the nearest names.
    pub fn module_output(&self, name: &str) -> Result<ValueId, NetworkError> {
        let name = if name == "head" { self.head_module } else { name };
        let inside = format!("{name}.");
        let exact = self.values.iter().position(|v| v.name == name);
        exact.or_else(|| self.values.iter().rposition(|v| v.name.starts_with(&inside))).map(ValueId).ok_or_else(|| {
            NetworkError::UnknownLayer {
                architecture: self.architecture.into(),
                name: name.into(),
                nearest: nearest::names(name, self.values.iter().map(|v| v.name.as_str())),
            }
        })
    }
}

/// Builds a network value by value; the architectures use it.
pub(crate) struct Builder {
    network: Network,
}

impl Builder {
    pub(crate) fn new(architecture: &'static str, image_size: usize, head_module: &'static str, head: Head) -> Builder {
        let shape = FeatureShape { channels: 3, height: image_size, width: image_size };
        let input = Value { name: "input".into(), op: Op::Input, inputs: vec![], shape };
        let network = Network { architecture, image_size, head_module, head, values: vec![input], tensors: Vec::new() };
        Builder { network }
    }

    pub(crate) fn shape(&self, id: ValueId) -> FeatureShape {
        self.network.values[id.0].shape
    }

    /// Adds a value and the tensors that it uses.
    pub(crate) fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[ValueId]) -> Result<ValueId, NetworkError> {
        let name = name.into();
        let from = self.shape(inputs[0]);
        let too_small = || NetworkError::ImageTooSmall {
            architecture: self.network.architecture.into(),
            image_size: self.network.image_size,
            layer: name.clone(),
        };
        let window = |size: usize, kernel: usize, stride: usize, padding: usize| {
            (size + 2 * padding).checked_sub(kernel).map(|rest| rest / stride + 1).ok_or_else(too_small)
        };
        let shape = match op {
            Op::Input => unreachable!("the input is made with the builder"),
            Op::Conv2d { out_channels, kernel, stride, padding, .. } => FeatureShape {
                channels: out_channels,
                height: window(from.height, kernel, stride, padding)?,
                width: window(from.width, kernel, stride, padding)?,
            },
            Op::MaxPool2d { kernel, stride, padding } => FeatureShape {
                channels: from.channels,
                height: window(from.height, kernel, stride, padding)?,
                width: window(from.width, kernel, stride, padding)?,
            },
            Op::AdaptiveAvgPool2d { height, width } => FeatureShape { channels: from.channels, height, width },
            Op::Flatten => FeatureShape::vector(from.elements()),
            Op::Linear { out_features } => FeatureShape::vector(out_features),
            Op::BatchNorm2d { .. } | Op::Relu | Op::Dropout { .. } => from,
            Op::Add => {
                assert_eq!(from, self.shape(inputs[1]), "{name}: the summands differ in shape");
                from
            }
        };
        let id = ValueId(self.network.values.len());
        let mut tensor = |part: &str, shape: Vec<usize>, kind: TensorKind| {
            self.network.tensors.push(TensorSpec { name: format!("{name}.{part}"), shape, kind, value: id });
        };
        match op {
            Op::Conv2d { out_channels, kernel, bias, .. } => {
                tensor("weight", vec![out_channels, from.channels, kernel, kernel], TensorKind::Parameter);
                if bias {
                    tensor("bias", vec![out_channels], TensorKind::Parameter);
                }
            }
            Op::BatchNorm2d { .. } => {
                tensor("weight", vec![from.channels], TensorKind::Parameter);
                tensor("bias", vec![from.channels], TensorKind::Parameter);
                tensor("running_mean", vec![from.channels], TensorKind::Buffer);
                tensor("running_var", vec![from.channels], TensorKind::Buffer);
                tensor("num_batches_tracked", vec![], TensorKind::Counter);
            }
            Op::Linear { out_features } => {
                tensor("weight", vec![out_features, from.channels], TensorKind::Parameter);
                tensor("bias", vec![out_features], TensorKind::Parameter);
            }
            _ => {}
        }
        self.network.values.push(Value { name, op, inputs: inputs.to_vec(), shape });
        Ok(id)
    }

    pub(crate) fn finish(self) -> Network {
        self.network
    }
}

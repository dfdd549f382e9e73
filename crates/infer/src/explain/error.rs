//! Why no explanation can be given.

use roentgen_nn::{EngineError, FeatureShape, NetworkError};

/// Why no explanation can be given.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExplainError {
    /// The engine: memory, or a module whose gradient it cannot reach.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No module of this name.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A module whose values have no place in the image.
    #[error(
        "`{module}` gives {shape} at {image_size} px, which is no map: name a module whose output has rows and columns, \
         or use larger images"
    )]
    NoMap {
        /// The module.
        module: String,
        /// The shape of its output.
        shape: FeatureShape,
        /// Side of the network's input in pixels.
        image_size: usize,
    },
    /// A module was named for a method that looks at the image alone.
    #[error("{method} explains in pixels of the image and takes no module; found `{module}`: leave it out")]
    TakesNoModule {
        /// The method.
        method: &'static str,
        /// The module named.
        module: String,
    },
    /// A class that the network does not have.
    #[error("class number {found}; the network has {classes} classes, numbered from 0")]
    UnknownClass {
        /// The number asked for.
        found: usize,
        /// How many there are.
        classes: usize,
    },
    /// A setting of a method is out of range.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        found: usize,
        /// The range.
        expected: String,
    },
}

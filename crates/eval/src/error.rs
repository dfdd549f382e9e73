//! What can be wrong with the slices or with a metrics document.

use thiserror::Error;

/// Why predictions could not be evaluated. Indices count from 0, in the order of the slices that were given.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// There is nothing to tell apart.
    #[error("found {found} classes, expected at least 2: a classifier tells two classes or more apart")]
    TooFewClasses {
        /// How many classes were given.
        found: usize,
    },
    /// A class without a name could not be printed or looked up.
    #[error("the name of class {index} is empty: give every class a name")]
    EmptyClassName {
        /// Index of the class.
        index: usize,
    },
    /// Two classes of one name could not be told apart in a file.
    #[error("the class name `{name}` occurs more than once: class names must differ")]
    DuplicateClass {
        /// The repeated name.
        name: String,
    },
    /// No metric of nothing.
    #[error("found no samples, expected at least one: choose a split that holds images")]
    NoSamples,
    /// Two slices that should speak of the same samples do not.
    #[error("found {found} {what}, expected {expected}: every sample needs its own")]
    Length {
        /// What the slice holds, in the plural.
        what: &'static str,
        /// How many values it has.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// A label or prediction that is no class.
    #[error("the {what} of sample {sample} is {found}, expected a class index from 0 to {}", classes - 1)]
    ClassOutOfRange {
        /// "label" or "predicted class".
        what: &'static str,
        /// Index of the sample.
        sample: usize,
        /// The value found.
        found: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// The positive class is no class.
    #[error("the positive class is {found}, expected a class index from 0 to {}", classes - 1)]
    PositiveOutOfRange {
        /// The index found.
        found: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// Neither a well-known name nor the elimination of one settles which class is positive.
    #[error(
        "which class is positive does not follow from the names {}: give --positive CLASS with one of them",
        quoted(classes)
    )]
    NoDefaultPositive {
        /// All class names.
        classes: Vec<String>,
    },
    /// NaN or infinity in a loss.
    #[error(
        "the loss of sample {sample} is {found}, expected a finite number: the model has diverged or the table is damaged"
    )]
    LossNotFinite {
        /// Index of the sample.
        sample: usize,
        /// The value found.
        found: f32,
    },
    /// NaN, infinity, or a number outside 0 to 1.
    #[error("the probability of class {class} for sample {sample} is {found}, expected a number from 0 to 1")]
    NotAProbability {
        /// Index of the sample.
        sample: usize,
        /// Index of the class.
        class: usize,
        /// The value found.
        found: f32,
    },
    /// NaN or infinity among scores.
    #[error("the score of sample {sample} is {found}, expected a finite number")]
    ScoreNotFinite {
        /// Index of the sample.
        sample: usize,
        /// The value found.
        found: f32,
    },
    /// A confusion matrix that is not K by K.
    #[error("the confusion matrix has {found} {what}, expected {expected}, one for each class")]
    MatrixShape {
        /// "rows", or "columns in row N".
        what: String,
        /// How many there are.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// Counts that no split has.
    #[error("the counts of the confusion matrix add up to more than {} images: the table is damaged", u64::MAX)]
    CountOverflow,
    /// Nothing to compare.
    #[error("found {found} models, expected at least 2: a comparison needs two")]
    TooFewModels {
        /// How many models were given.
        found: usize,
    },
    /// Models that did not answer for the same images.
    #[error(
        "`{first}` and `{second}` cannot be compared, for they differ in the {what}: evaluate both on the same split"
    )]
    ModelsDiffer {
        /// Name of the first model.
        first: String,
        /// Name of the model that differs from it.
        second: String,
        /// What differs.
        what: String,
    },
    /// A metrics document of another version.
    #[error(
        "found metrics of format version {found}, this program reads version {supported}: use a newer roentgen or evaluate again"
    )]
    FormatVersion {
        /// The version found.
        found: u32,
        /// The one version that can be read.
        supported: u32,
    },
    /// A metrics document that contradicts itself.
    #[error("the metrics contradict themselves: {what}; evaluate again")]
    Inconsistent {
        /// What was found and what was expected.
        what: String,
    },
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

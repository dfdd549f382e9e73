//! What can be wrong with a data set, said so that the user knows which file to look at and what to do.

use std::io;
use std::path::PathBuf;

use crate::manifest::Split;

/// Everything that can go wrong between a folder and a batch. Each message names the file or folder, what was found,
/// what was expected and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused to read a file or folder.
    #[error("{path}: cannot be read: {source}; check that it exists and that you may read it")]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The data set's path is neither a folder nor a table.
    #[error(
        "{path}: is neither a folder nor a .csv table; --data expects the folder that holds `train`, `validation` and \
         `test`, or a table with the columns path and label"
    )]
    NotADataSet {
        /// The path as given.
        path: PathBuf,
    },
    /// None of the split folders stands in the data set's folder.
    #[error(
        "{root}: no split folder; expected `train`, `validation` (or `val`, `valid`) or `test`, found {found}; \
             put the images into SPLIT/CLASS/ folders, or into CLASS/ folders of at least two classes"
    )]
    NoSplits {
        /// The data set's folder.
        root: PathBuf,
        /// The names that do stand there, ready to print.
        found: String,
    },
    /// Two folders both name the validation split.
    #[error("{root}: the validation split stands there twice, as `{first}` and as `{second}`; keep one of them")]
    SplitTwice {
        /// The data set's folder.
        root: PathBuf,
        /// One folder name.
        first: &'static str,
        /// The other folder name.
        second: &'static str,
    },
    /// There are split folders but no image in any of them.
    #[error("{root}: no image in any split; expected .png, .jpg, .jpeg or DICOM files in SPLIT/CLASS/ folders")]
    NoImages {
        /// The data set's folder.
        root: PathBuf,
    },
    /// A split has no images although the caller needs it.
    #[error(
        "{place}: the split `{split}` has no images (splits found: {found}); choose another split or add images to it"
    )]
    SplitMissing {
        /// The data set's folder or table.
        place: PathBuf,
        /// The split that was asked for.
        split: Split,
        /// The splits with images, ready to print.
        found: String,
    },
    /// No image is in any split.
    #[error(
        "{place}: no image is in a split, so that there is no `{split}` split; put them into splits with `roentgen data \
         split {place} --ratios 0.7,0.15,0.15 --out FILE.csv`, or cross-validate with `roentgen experiment --folds 5`"
    )]
    NotSplit {
        /// The data set's folder or table.
        place: PathBuf,
        /// The split that was asked for.
        split: Split,
    },
    /// A table names images that are not there.
    #[error(
        "{table}: {missing} of {images} images are not there: {first}; paths are relative to the table's folder; correct \
         them, or leave such images out with --on-bad-image skip"
    )]
    ImagesMissing {
        /// The table.
        table: PathBuf,
        /// How many files are missing.
        missing: usize,
        /// How many the table names.
        images: usize,
        /// The first ten of them, ready to print.
        first: String,
    },
    /// A class that other splits have has no row in the training or validation split of a table.
    #[error(
        "{table}: the {split} split has no images of the class `{class}`, which other splits have; add rows, split the data \
         anew, or remove the class from the other splits"
    )]
    ClassNotListed {
        /// The table.
        table: PathBuf,
        /// The split.
        split: Split,
        /// The class's name.
        class: String,
    },
    /// A file of label rules is wrong.
    #[error(
        "{file}: {problem}; expected an entry [[class]] with `name` and `findings` for each class, and where wanted \
         `uncertain` and `frontal_only`"
    )]
    RulesInvalid {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file that belongs to a published collection is not there.
    #[error("{dir}: no {expected}; give the folder that holds the published tables")]
    SourceFileMissing {
        /// The folder.
        dir: PathBuf,
        /// The file's name.
        expected: &'static str,
    },
    /// Several COVIDx lists of one split lie in a folder.
    #[error("{first} and {second} are lists of the same split; name the list in place of the folder")]
    SeveralLists {
        /// One list.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// No image of the sources became a row.
    #[error(
        "{place}: none of the {named} images that the tables name can be used: {reasons}; give rules that name its findings \
         to `roentgen data import --rules FILE.toml`, or the folder that holds the images"
    )]
    NothingImported {
        /// The first source.
        place: PathBuf,
        /// Images that the tables name.
        named: usize,
        /// The most frequent reasons, ready to print.
        reasons: String,
    },
    /// A table has a header and nothing else.
    #[error("{table}: no rows; expected one for each image")]
    TableEmpty {
        /// The table.
        table: PathBuf,
    },
    /// A class that other splits have is missing, or has no image, in the training or validation split.
    #[error(
        "{folder}: no images of the class `{class}`, which other splits have; add images there, \
             or remove the class from the other splits"
    )]
    ClassMissing {
        /// The class folder that was expected.
        folder: PathBuf,
        /// The class's name.
        class: String,
    },
    /// Training needs at least two classes.
    #[error(
        "{root}: only one class (`{class}`); training needs images of at least two classes, \
             in folders or in the table's column `label`"
    )]
    OneClass {
        /// The data set's folder.
        root: PathBuf,
        /// The only class.
        class: String,
    },
    /// A file or folder name cannot stand in a table of predictions.
    #[error(
        "{path}: the name is not UTF-8 (shown with replacement characters); rename the file, because tables and \
             reports could not name it"
    )]
    NameNotUtf8 {
        /// The path, lossless.
        path: PathBuf,
    },
    /// Folders stand too deep in one another, most likely because a link leads back to its own parent.
    #[error("{path}: folders nested more than {limit} deep; look for a link that leads back to its own parent")]
    NestedTooDeep {
        /// Where the search stopped.
        path: PathBuf,
        /// The deepest nesting that is followed.
        limit: usize,
    },
    /// A file is no table of comma-separated values.
    #[error("{table}: {detail}; expected text with commas between the columns, the same number of columns in each row")]
    TableUnreadable {
        /// The table.
        table: PathBuf,
        /// What the parser found, with the line.
        detail: String,
    },
    /// A table lacks a column, or has it twice.
    #[error("{table}: {problem} (columns found: {found}); expected {expected}")]
    TableColumns {
        /// The table.
        table: PathBuf,
        /// What is wrong.
        problem: String,
        /// The columns, ready to print.
        found: String,
        /// What was expected, ready to print.
        expected: String,
    },
    /// A row of a table cannot be, or contradicts the folders or another row.
    #[error("{table}: line {line}: {problem}")]
    TableRow {
        /// The table.
        table: PathBuf,
        /// Line number, the header being line 1.
        line: u64,
        /// What was found, what was expected and what to do.
        problem: String,
    },
    /// An image file of zero bytes.
    #[error("{file}: the file is empty (0 bytes); a PNG, JPEG or DICOM image was expected; copy it again or remove it")]
    ImageEmpty {
        /// The image file.
        file: String,
    },
    /// A file with an image's name but other content.
    #[error("{file}: is no PNG, JPEG or DICOM image but {found}; convert it or remove it")]
    NotAnImage {
        /// The image file.
        file: String,
        /// What the first bytes look like.
        found: String,
    },
    /// The file ends before the image does.
    #[error("{file}: the {format} image is truncated: {detail}; copy it again or remove it")]
    ImageTruncated {
        /// The image file.
        file: String,
        /// PNG, JPEG or DICOM.
        format: &'static str,
        /// Where it ends.
        detail: String,
    },
    /// The decoder found the image's bytes to be wrong.
    #[error("{file}: the {format} image is damaged: {detail}; copy it again or remove it")]
    ImageDamaged {
        /// The image file.
        file: String,
        /// PNG, JPEG or DICOM.
        format: &'static str,
        /// The decoder's words.
        detail: String,
    },
    /// A valid image of a kind that is not read.
    #[error("{file}: {found} is not supported; convert it to an 8- or 16-bit PNG or a baseline or progressive JPEG")]
    ImageUnsupported {
        /// The image file.
        file: String,
        /// The feature.
        found: String,
    },
    /// More pixels than the limit; found in the header, before any memory is taken.
    #[error("{file}: {width} x {height} pixels are more than the limit of {limit} pixels; scale the image down")]
    ImageTooLarge {
        /// The image file.
        file: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit in pixels.
        limit: u64,
    },
    /// One side is very many times as long as the other, so that scaling the short side would take unbounded memory.
    #[error(
        "{file}: {width} x {height} pixels: one side is more than {limit} times the other; no radiograph is, \
             remove it"
    )]
    ImageTooElongated {
        /// The image file.
        file: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit of the ratio.
        limit: u32,
    },
    /// The file itself is larger than the limit.
    #[error("{file}: the file has more than {limit} bytes; an image of a radiograph was expected, remove it")]
    FileTooLarge {
        /// The image file.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// An attribute of a DICOM file is missing or cannot be.
    #[error("{file}: the DICOM header is wrong: {problem}; correct it in a copy, as with dcmodify, or remove the file")]
    DicomHeader {
        /// The image file.
        file: String,
        /// Which attribute, what was found, what was expected.
        problem: String,
    },
    /// A DICOM file without an image, such as a report.
    #[error("{file}: is a DICOM file without pixel data (7FE0,0010); an image was expected; remove it")]
    NoPixelData {
        /// The file.
        file: String,
    },
    /// The pixels of a DICOM file are encoded in a way that is not read.
    #[error("{file}: its pixels are encoded in the transfer syntax {uid} ({name}), which is not read; {advice}")]
    TransferSyntax {
        /// The image file.
        file: String,
        /// The transfer syntax as the header has it.
        uid: String,
        /// What the standard calls it.
        name: &'static str,
        /// What would make it readable.
        advice: &'static str,
    },
    /// A file with several frames where one image was expected.
    #[error(
        "{file}: has {frames} frames, and an image is one; choose it with --frame N where images are named, or write it \
             to a file of its own"
    )]
    SeveralFrames {
        /// The image file.
        file: String,
        /// How many there are.
        frames: u32,
    },
    /// A frame was chosen that a file does not have.
    #[error("{file}: frame {frame} was asked for, and the file has {frames}; choose one of 1 to {frames}")]
    NoSuchFrame {
        /// The image file.
        file: String,
        /// What was asked for, counted from 1.
        frame: u32,
        /// How many there are.
        frames: u32,
    },
    /// A key for pseudonyms that could be guessed.
    #[error(
        "{path}: a key of {found} bytes; expected at least {expected} random ones: make one with \
             `head -c 32 /dev/urandom > KEYFILE` and keep it to yourself"
    )]
    KeyTooShort {
        /// The key's file.
        path: PathBuf,
        /// Its bytes.
        found: usize,
        /// The fewest that it must have.
        expected: usize,
    },
    /// A setting of the loader cannot be.
    #[error("{setting} is {found}; expected {expected}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        found: String,
        /// What can be.
        expected: &'static str,
    },
    /// The operating system gave no threads.
    #[error("{threads} threads for reading images could not be started: {detail}; ask for fewer with --threads")]
    Threads {
        /// The number asked for.
        threads: usize,
        /// The operating system's answer.
        detail: String,
    },
}

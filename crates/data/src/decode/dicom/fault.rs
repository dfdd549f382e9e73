//! What can be wrong within a DICOM file, before the file's name is put to it.

use crate::error::DataError;

/// Why a DICOM file gives no image. The texts are parts of a sentence: see the variants of [`DataError`].
#[derive(Debug)]
pub(super) enum Fault {
    /// The file ends early: where.
    Truncated(String),
    /// Bytes that cannot be what they should be.
    Damaged(String),
    /// An attribute that is missing, or cannot be: which, what was found, what was expected.
    Header(String),
    /// A valid image of a kind that is not read.
    Unsupported(String),
    /// There are no pixels.
    NoPixelData,
    /// The pixels are encoded in a way that is not read.
    TransferSyntax {
        /// As the header has it.
        uid: String,
        /// What the standard calls it.
        name: &'static str,
        /// What would make it readable.
        advice: &'static str,
    },
    /// A frame must be chosen.
    SeveralFrames(u32),
    /// The frame that was chosen, and how many there are.
    NoSuchFrame(u32, u32),
    /// What other formats can have too.
    Other(DataError),
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Fault {
        Fault::Other(error)
    }
}

impl Fault {
    /// The error, with the file's name.
    pub(super) fn in_file(self, file: &str) -> DataError {
        let file = file.to_owned();
        match self {
            Fault::Truncated(detail) => DataError::ImageTruncated { file, format: "DICOM", detail },
            Fault::Damaged(detail) => DataError::ImageDamaged { file, format: "DICOM", detail },
            Fault::Header(problem) => DataError::DicomHeader { file, problem },
            Fault::Unsupported(found) => DataError::ImageUnsupported { file, found },
            Fault::NoPixelData => DataError::NoPixelData { file },
            Fault::TransferSyntax { uid, name, advice } => DataError::TransferSyntax { file, uid, name, advice },
            Fault::SeveralFrames(frames) => DataError::SeveralFrames { file, frames },
            Fault::NoSuchFrame(frame, frames) => DataError::NoSuchFrame { file, frame, frames },
            Fault::Other(error) => error,
        }
    }
}

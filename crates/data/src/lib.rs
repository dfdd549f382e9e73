//! From folders of radiographs to batches of tensors.
//!
//! [`Manifest::open`] lists the images of a data set, [`decode`](decode::decode) turns a file into pixels,
//! [`Transform`] turns pixels into the normalised `[3, S, S]` that a network sees, and [`Loader`] does both on threads
//! ahead of whoever trains or evaluates. There is one such path for training, evaluation, prediction and serving.
//!
//! This crate does not know any network.

mod anonymous;
pub mod audit;
pub mod cache;
pub mod check;
mod clahe;
pub mod cxr;
pub mod decode;
mod encoding;
pub mod error;
mod folders;
mod folds;
mod import;
mod listing;
pub mod loader;
pub mod manifest;
mod patients;
mod person;
pub mod phantom;
mod planes;
pub mod raster;
mod resize;
mod rules;
pub mod seed;
pub mod sources;
mod table;
pub mod transform;
mod wording;

pub use anonymous::PatientKey;
pub use cache::{CacheNotice, CacheUse, ImageCache};
pub use check::check_images;
pub use cxr::CxrParameters;
pub use decode::{
    Limits, decode, decode_bytes, decode_frame, decode_frame_bytes, dicom_patient, dicom_patient_bytes, is_image_file,
};
pub use error::DataError;
pub use folds::{Fold, Shares};
pub use import::{Dropped, Imported, Source, import, import_watched};
pub use listing::{Entry, Listing, write_table};
pub use loader::{Batch, Loader, LoaderRequest, balanced_order, epoch_order, load_image};
pub use manifest::{Manifest, MissingImages, Row, SharedPatient, Split};
pub use patients::PatientPattern;
pub use person::{Sex, age_in_years};
pub use raster::{Image, Raster, Rectangle};
pub use rules::Rules;
pub use seed::SeedParameters;
pub use transform::{Augment, Seen, Transform, resize_for_display};

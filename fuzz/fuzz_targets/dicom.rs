//! A DICOM file: its header, its patient, and every way its pixels can be encoded.

#![no_main]

use std::num::NonZeroU32;

use libfuzzer_sys::fuzz_target;
use roentgen_data::{Limits, decode_frame_bytes, dicom_patient_bytes};

/// Small enough that time goes into headers and not into pixels.
const LIMITS: Limits = Limits { pixels: 1 << 16, aspect_ratio: 64, file_bytes: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    // Past what every file begins with, so that no execution is spent on finding it.
    let file = match bytes.get(128..132) {
        Some(b"DICM") => bytes.to_vec(),
        _ => [&[0; 128][..], b"DICM", bytes].concat(),
    };
    if let Ok(Some(patient)) = dicom_patient_bytes("file", &file) {
        assert!(!patient.is_empty(), "a patient without an id is unknown");
    }
    for frame in [None, NonZeroU32::new(2)] {
        if let Ok(image) = decode_frame_bytes("file", &file, &LIMITS, frame) {
            assert!(image.width() * image.height() <= 1 << 16);
        }
    }
});

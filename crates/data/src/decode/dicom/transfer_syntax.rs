//! How the pixels of a file are encoded: which transfer syntaxes are read, and what to do about the others.

use super::elements::Encoding;
use super::fault::Fault;

/// How pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As they are.
    Native,
    /// Run lengths, byte plane by byte plane (PS3.5, annex G).
    RunLength,
    /// JPEG baseline, or extended with 8 bits.
    Jpeg,
    /// Lossless JPEG, up to 16 bits.
    JpegLossless,
    /// JPEG 2000, with or without loss.
    Jpeg2000,
}

/// What is read: UID, encoding of the elements, coding of the pixels (PS3.6, annex A).
const READ: [(&str, Encoding, Coding); 10] = [
    ("1.2.840.10008.1.2", Encoding::IMPLICIT, Coding::Native),
    ("1.2.840.10008.1.2.1", Encoding::EXPLICIT, Coding::Native),
    ("1.2.840.10008.1.2.2", Encoding { explicit: true, big_endian: true }, Coding::Native),
    ("1.2.840.10008.1.2.5", Encoding::EXPLICIT, Coding::RunLength),
    ("1.2.840.10008.1.2.4.50", Encoding::EXPLICIT, Coding::Jpeg),
    ("1.2.840.10008.1.2.4.51", Encoding::EXPLICIT, Coding::Jpeg),
    ("1.2.840.10008.1.2.4.57", Encoding::EXPLICIT, Coding::JpegLossless),
    ("1.2.840.10008.1.2.4.70", Encoding::EXPLICIT, Coding::JpegLossless),
    ("1.2.840.10008.1.2.4.90", Encoding::EXPLICIT, Coding::Jpeg2000),
    ("1.2.840.10008.1.2.4.91", Encoding::EXPLICIT, Coding::Jpeg2000),
];

const GDCM: &str = "decode it with `gdcmconv --raw IN.dcm OUT.dcm`";
const DCMDJPLS: &str = "decode it with `dcmdjpls IN.dcm OUT.dcm`";
const VIDEO: &str = "a radiograph was expected and not a film; remove it";

/// What is not read: beginning of the UID, name, advice; the first that fits.
const KNOWN: [(&str, &str, &str); 9] = [
    ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", "inflate it with `dcmconv +te IN.dcm OUT.dcm`"),
    ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", DCMDJPLS),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless", DCMDJPLS),
    ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component Lossless", GDCM),
    ("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2 Multi-component", GDCM),
    ("1.2.840.10008.1.2.4.10", "MPEG-2, MPEG-4 or HEVC video", VIDEO),
    ("1.2.840.10008.1.2.4.11", "JPEG XL", "decode it with the software that wrote it"),
    ("1.2.840.10008.1.2.4.20", "High-Throughput JPEG 2000", GDCM),
    ("1.2.840.10008.1.2.4", "a JPEG process that is retired", "decode it with `dcmdjpeg IN.dcm OUT.dcm`"),
];

/// The UIDs of what is read.
pub(super) fn uids() -> impl Iterator<Item = &'static str> {
    READ.iter().map(|(uid, ..)| *uid)
}

/// A transfer syntax that is read, by its UID: UID, encoding of the elements, coding of the pixels.
pub(super) fn of_uid(uid: &str) -> Result<(&'static str, Encoding, Coding), Fault> {
    if let Some(known) = READ.iter().find(|(known, ..)| *known == uid) {
        return Ok(*known);
    }
    let known = KNOWN.iter().find(|(beginning, ..)| uid.starts_with(beginning));
    let (_, name, advice) = known.copied().unwrap_or(("", "an unknown transfer syntax", GDCM));
    Err(Fault::TransferSyntax { uid: uid.to_owned(), name, advice })
}

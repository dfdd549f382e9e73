//! Our own table of images: any bytes are a listing or an error, and a listing is what it says it is.

#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use roentgen_data::Listing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(listing) = Listing::parse(Path::new("fuzz.csv"), bytes) {
        let paths: BTreeSet<_> = listing.entries.iter().map(|entry| &entry.path).collect();
        assert_eq!(paths.len(), listing.entries.len(), "a path stands there twice");
        let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert!(listing.entries.iter().all(|entry| (1..=lines).contains(&entry.line)), "a line outside the file");
        assert!(listing.entries.is_sorted_by_key(|entry| entry.line), "lines out of order");
    }
});

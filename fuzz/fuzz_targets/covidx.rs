//! Lines of COVIDx lists: what is read is in the line, and puts it together again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use roentgen_data::sources::parse_covidx_line;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        if let Some(read) = parse_covidx_line(line) {
            assert!(!read.patient_id.is_empty() && !read.file.is_empty());
            assert!(!read.file.contains(char::is_whitespace));
            let again = format!("{} {} {} {}", read.patient_id, read.file, read.label, read.source.unwrap_or(""));
            assert_eq!(parse_covidx_line(&again), Some(read));
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&again), words(line));
        }
    }
});

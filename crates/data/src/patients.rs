//! Patients that only the names of files tell.

use std::path::Path;

use regex_lite::Regex;

use crate::error::DataError;
use crate::manifest::Manifest;

/// A pattern over file names that finds the patient, such as `^(\d{8})_`.
#[derive(Clone, Debug)]
pub struct PatientPattern(Regex);

impl PatientPattern {
    /// A regular expression: its first group is the patient, or all that it matches where it has none.
    ///
    /// # Errors
    /// [`DataError::Setting`] where it is none.
    pub fn new(pattern: &str) -> Result<PatientPattern, DataError> {
        let wrong = |error: regex_lite::Error| DataError::Setting {
            setting: "the pattern of patients",
            found: format!("`{pattern}` ({error})"),
            expected: r"a regular expression such as ^(\d{8})_",
        };
        Regex::new(pattern).map(PatientPattern).map_err(wrong)
    }

    /// The patient that a file's name tells; `None` where it does not match, or matches nothing.
    pub fn patient<'a>(&self, file: &'a Path) -> Option<&'a str> {
        let found = self.0.captures(file.file_name()?.to_str()?)?;
        found.get(1).or_else(|| found.get(0)).map(|part| part.as_str()).filter(|patient| !patient.is_empty())
    }
}

impl Manifest {
    /// Takes the patients from the names of the files where nothing else says them, and returns for how many images that
    /// was possible. The identity that a table gives stays.
    pub fn identify_patients(&mut self, pattern: &PatientPattern) -> usize {
        let mut identified = 0;
        for row in self.rows.iter_mut().filter(|row| row.patient_id.is_none()) {
            row.patient_id = pattern.patient(&row.path).map(str::to_owned);
            identified += usize::from(row.patient_id.is_some());
        }
        identified
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_or_the_match_is_the_patient() {
        let patient = |pattern: &str, file: &str| {
            PatientPattern::new(pattern).unwrap().patient(Path::new(file)).map(str::to_owned)
        };
        assert_eq!(patient(r"^(\d{8})_", "train/a/00000193_019.jpg").as_deref(), Some("00000193"));
        assert_eq!(patient(r"^person\d+", "person12_virus_3.jpeg").as_deref(), Some("person12"));
        assert_eq!(patient(r"^(?:(a)|b)", "b.png").as_deref(), Some("b"));
        assert_eq!(patient(r"^(\d{8})_", "IM-0001.jpeg"), None);
        // The folder is not asked.
        assert_eq!(patient(r"^train", "train/x.png"), None);
        assert_eq!(patient(r"^(\d*)", "x.png"), None);
        assert!(PatientPattern::new("(").unwrap_err().to_string().contains("`(`"));
    }
}

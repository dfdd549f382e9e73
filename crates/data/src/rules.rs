//! From what a source says of an image to the class that a task gives it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::DataError;

/// Which findings make which class; everything else is left out.
///
/// As TOML, an array of classes; where the findings of an image belong to several, the first of them counts:
///
/// ```toml
/// uncertain = "drop"        # what CheXpert's and MIMIC's -1 counts as: drop (default), positive, negative
/// frontal_only = true       # leave out lateral views (default)
///
/// [[class]]
/// name = "covid"
/// findings = ["COVID-19"]
///
/// [[class]]
/// name = "pneumonia"
/// findings = ["pneumonia"]
/// ```
///
/// Case plays no part. A finding such as `Pneumonia/Viral/COVID-19` belongs to the class of its last part that one
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    classes: Vec<Class>,
    uncertain: Uncertain,
    /// Whether lateral views are left out.
    pub frontal_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    name: String,
    findings: Vec<String>,
}

/// What a finding that is neither present nor absent counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Uncertain {
    /// The image is left out where the answer matters.
    #[default]
    Drop,
    Positive,
    Negative,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    #[serde(default)]
    uncertain: Uncertain,
    #[serde(default = "yes")]
    frontal_only: bool,
    #[serde(default)]
    class: Vec<Class>,
}

fn yes() -> bool {
    true
}

impl Default for Rules {
    /// `infected` is COVID-19 and pneumonia, `normal` is normal and "no finding".
    fn default() -> Rules {
        let class = |name: &str, findings: &[&str]| Class {
            name: name.to_owned(),
            findings: findings.iter().map(|finding| (*finding).to_owned()).collect(),
        };
        Rules {
            classes: vec![
                class("infected", &["COVID-19", "pneumonia"]),
                class("normal", &["normal", "No Finding", "No Findings"]),
            ],
            uncertain: Uncertain::Drop,
            frontal_only: true,
        }
    }
}

impl Rules {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] and [`DataError::RulesInvalid`].
    pub fn read(file: &Path) -> Result<Rules, DataError> {
        let bytes = fs::read(file).map_err(|source| DataError::Unreadable { path: file.to_owned(), source })?;
        Rules::parse(file, &String::from_utf8_lossy(&bytes))
    }

    /// Reads TOML; `file` is for messages.
    ///
    /// # Errors
    /// [`DataError::RulesInvalid`] where it is none, has no class, or names a class or a finding twice.
    pub fn parse(file: &Path, text: &str) -> Result<Rules, DataError> {
        let wrong = |problem: String| DataError::RulesInvalid { file: file.to_owned(), problem };
        let RulesFile { uncertain, frontal_only, class: classes } =
            toml::from_str(text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        if classes.is_empty() {
            return Err(wrong("no class".into()));
        }
        let mut names = BTreeSet::new();
        let mut findings = BTreeSet::new();
        for class in &classes {
            if class.name.trim().is_empty() || !names.insert(&class.name) {
                return Err(wrong(format!("the class `{}` has no name of its own", class.name)));
            }
            if class.findings.is_empty() {
                return Err(wrong(format!("the class `{}` has no findings", class.name)));
            }
            if let Some(finding) = class.findings.iter().find(|finding| !findings.insert(finding.to_lowercase())) {
                return Err(wrong(format!("the finding `{finding}` stands there twice")));
            }
        }
        Ok(Rules { classes, uncertain, frontal_only })
    }

    /// The findings that the classes name, with the class of each.
    pub(crate) fn findings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.classes
            .iter()
            .flat_map(|class| class.findings.iter().map(|finding| (finding.as_str(), class.name.as_str())))
    }

    /// The class of an image by what is certain and uncertain of it, or why it has none.
    pub(crate) fn class_of(&self, findings: &[String], uncertain: &[String]) -> Result<&str, String> {
        let best = |findings: &[String]| findings.iter().filter_map(|finding| self.class_of_finding(finding)).min();
        let certain = best(findings);
        let doubtful = best(uncertain);
        let class = match (certain, doubtful, self.uncertain) {
            (None, Some(_), Uncertain::Drop) => {
                return Err(format!("`{}` is uncertain", uncertain.join(", ")));
            }
            (Some(certain), Some(doubtful), Uncertain::Drop) if doubtful < certain => {
                return Err(format!("`{}` is uncertain", uncertain.join(", ")));
            }
            (certain, Some(doubtful), Uncertain::Positive) => {
                Some(certain.map_or(doubtful, |class| class.min(doubtful)))
            }
            (certain, ..) => certain,
        };
        match class {
            Some(class) => Ok(&self.classes[class].name),
            None if findings.is_empty() => Err("no finding is given".to_owned()),
            None => Err(format!("no rule for `{}`", findings.join(", "))),
        }
    }

    /// The class that names the finding, or the last part of `Pneumonia/Viral/COVID-19` that one names.
    fn class_of_finding(&self, finding: &str) -> Option<usize> {
        let named = |part: &str| {
            let part = part.trim().to_lowercase();
            self.classes.iter().position(|class| class.findings.iter().any(|known| known.to_lowercase() == part))
        };
        named(finding).or_else(|| finding.rsplit('/').find_map(named))
    }

    /// Whether a name of the rules is met in a finding.
    pub(crate) fn names(name: &str, finding: &str) -> bool {
        let name = name.to_lowercase();
        let finding = finding.to_lowercase();
        finding == name || finding.split('/').any(|part| part.trim() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(rules: &Rules, findings: &[&str], uncertain: &[&str]) -> Result<String, String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        rules.class_of(&owned(findings), &owned(uncertain)).map(str::to_owned)
    }

    #[test]
    fn two_classes_by_default() {
        let rules = Rules::default();
        for finding in
            ["COVID-19", "covid-19", "Pneumonia", "Pneumonia/Viral/COVID-19", "Pneumonia/Bacterial/Klebsiella"]
        {
            assert_eq!(class(&rules, &[finding], &[]).unwrap(), "infected", "{finding}");
        }
        for finding in ["No Finding", "No finding", "NORMAL"] {
            assert_eq!(class(&rules, &[finding], &[]).unwrap(), "normal", "{finding}");
        }
        assert_eq!(class(&rules, &["Infiltration", "Pneumonia"], &[]).unwrap(), "infected");
        assert_eq!(class(&rules, &["No Finding", "Support Devices"], &[]).unwrap(), "normal");
        assert_eq!(class(&rules, &["Edema"], &[]).unwrap_err(), "no rule for `Edema`");
        assert_eq!(class(&rules, &[], &[]).unwrap_err(), "no finding is given");
        // Part of a word is another word.
        assert!(class(&rules, &["Abnormal"], &[]).is_err());
    }

    const THREE: &str = "[[class]]\nname = \"covid\"\nfindings = [\"COVID-19\"]\n[[class]]\nname = \"pneumonia\"\n\
                         findings = [\"pneumonia\"]\n[[class]]\nname = \"normal\"\nfindings = [\"no finding\"]\n";

    #[test]
    fn several_classes_go_by_their_order_and_by_the_last_part() {
        let rules = Rules::parse(Path::new("three.toml"), THREE).unwrap();
        assert_eq!(class(&rules, &["Pneumonia/Viral/COVID-19"], &[]).unwrap(), "covid");
        assert_eq!(class(&rules, &["Pneumonia/Viral/SARS"], &[]).unwrap(), "pneumonia");
        assert_eq!(class(&rules, &["pneumonia", "COVID-19"], &[]).unwrap(), "covid");
    }

    #[test]
    fn what_is_uncertain() {
        let rules =
            |uncertain: &str| Rules::parse(Path::new("r"), &format!("uncertain = \"{uncertain}\"\n{THREE}")).unwrap();
        let drop = rules("drop");
        assert_eq!(class(&drop, &["No Finding"], &["Pneumonia"]).unwrap_err(), "`Pneumonia` is uncertain");
        assert_eq!(class(&drop, &["COVID-19"], &["Pneumonia"]).unwrap(), "covid");
        assert_eq!(class(&drop, &["No Finding"], &["Edema"]).unwrap(), "normal");
        assert_eq!(class(&rules("positive"), &["No Finding"], &["Pneumonia"]).unwrap(), "pneumonia");
        assert_eq!(class(&rules("negative"), &["No Finding"], &["Pneumonia"]).unwrap(), "normal");
    }

    #[test]
    fn rules_that_cannot_be() {
        for (text, word) in [
            ("", "no class"),
            ("uncertain = \"maybe\"", "maybe"),
            ("clas = 1", "clas"),
            ("[[class]]\nname = \"a\"\nfindings = []", "no findings"),
            ("[[class]]\nname = \"a\"\nfindings = [\"x\", \"X\"]", "twice"),
            ("[[class]]\nname = \"a\"\nfindings = [\"x\"]\n[[class]]\nname = \"a\"\nfindings = [\"y\"]", "of its own"),
        ] {
            let text = Rules::parse(Path::new("rules.toml"), text).unwrap_err().to_string();
            assert!(text.contains("rules.toml") && text.contains(word), "{text}");
        }
    }
}

//! `card.toml`: what only people can say about a model, for its card.

use crate::RunError;
use crate::directory::write_atomically;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// What only people can say about a model. An empty text says nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CardStatements {
    /// What the model is for, and who is to use it.
    pub intended_use: String,
    /// What it must not be used for.
    pub out_of_scope: String,
    /// Where the images come from: hospitals, years, devices, views, who was included and who was not.
    pub data_origin: String,
    /// How the labels came about, and how sure they are.
    pub labels: String,
    /// Consent, approval, privacy, and the licence of the data.
    pub ethics: String,
    /// What is known to go wrong, beside what the figures say.
    pub known_limits: String,
    /// Under which terms the model may be used.
    pub licence: String,
    /// Who answers questions.
    pub contact: String,
}

/// The keys of `card.toml` in their order, each with what it asks for.
pub const QUESTIONS: [(&str, &str); 8] = [
    ("intended_use", "What is the model for, and who is to use it?"),
    ("out_of_scope", "What must it not be used for?"),
    ("data_origin", "Where do the images come from: hospitals, years, devices, views; who was included, who was not?"),
    ("labels", "How did the labels come about, and how sure are they?"),
    ("ethics", "Consent, approval, privacy, and the licence of the data."),
    ("known_limits", "What is known to go wrong, beside what the figures say?"),
    ("licence", "Under which terms may the model be used?"),
    ("contact", "Who answers questions?"),
];

impl CardStatements {
    /// Reads `card.toml`.
    ///
    /// # Errors
    /// Where it cannot be read, or holds a key that is not known or no text.
    pub fn read(path: &Path) -> Result<CardStatements, RunError> {
        let text = std::fs::read_to_string(path).map_err(RunError::io(path, "read"))?;
        toml::from_str(&text).map_err(|e| RunError::malformed(path, e, "texts under the keys of a card.toml"))
    }

    /// Writes a `card.toml` in which every question is open.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write_questions(path: &Path) -> Result<(), RunError> {
        write_atomically(path, |file| {
            writeln!(
                file,
                "# What only people can say about this model. `roentgen card` puts it into the model card;"
            )?;
            writeln!(file, "# what is left empty is marked there as open.")?;
            QUESTIONS.iter().try_for_each(|(key, question)| writeln!(file, "\n# {question}\n{key} = \"\""))
        })
    }

    /// The answers in the order of [`QUESTIONS`].
    pub fn answers(&self) -> [&str; 8] {
        [
            &self.intended_use,
            &self.out_of_scope,
            &self.data_origin,
            &self.labels,
            &self.ethics,
            &self.known_limits,
            &self.licence,
            &self.contact,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_the_keys_and_answers_stand_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("card.toml");
        CardStatements::write_questions(&file).unwrap();
        assert_eq!(CardStatements::read(&file).unwrap(), CardStatements::default());
        for (index, (key, _)) in QUESTIONS.iter().enumerate() {
            let text = std::fs::read_to_string(&file).unwrap();
            let other = folder.path().join("other.toml");
            std::fs::write(&other, text.replace(&format!("{key} = \"\""), &format!("{key} = \"yes\""))).unwrap();
            let answers = CardStatements::read(&other).unwrap();
            assert_eq!(answers.answers().iter().position(|answer| *answer == "yes"), Some(index), "{key}");
        }
        std::fs::write(&file, "intended = \"x\"").unwrap();
        let message = CardStatements::read(&file).unwrap_err().to_string();
        assert!(message.contains("card.toml") && message.contains("intended_use"), "{message}");
    }
}

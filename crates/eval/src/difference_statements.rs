//! Differences between models in words.

use crate::difference::{ComparedMetric, Difference, Differences, Effect, SIGNIFICANCE};
use crate::wording::{counted, p_value, percent};

impl Differences {
    /// Sentences, each standing for itself: how many differences hold, then each difference with its size, its
    /// interval, on how many images it rests, and its corrected p value; last what a reader must know.
    ///
    /// A difference is claimed only where its corrected p value is below [`SIGNIFICANCE`]; otherwise the sentence calls
    /// it noise, as far as these images can tell.
    pub fn statements(&self) -> Vec<String> {
        self.sentences(|_| true)
    }

    /// As [`Differences::statements`], of single differences those alone that hold: of a table of many rows most are
    /// noise.
    pub fn statements_that_hold(&self) -> Vec<String> {
        self.sentences(|difference| difference.effect.as_ref().is_some_and(Effect::holds))
    }

    /// Whether some model was trained several times, so that McNemar's test is of ensembles.
    pub fn of_several_trainings(&self) -> bool {
        self.trainings.iter().any(|&trainings| trainings > 1)
    }

    fn sentences(&self, is_said: impl Fn(&Difference) -> bool) -> Vec<String> {
        let defined = || self.differences.iter().filter_map(|difference| difference.effect);
        let (all, holding) = (defined().count(), defined().filter(Effect::holds).count());
        let mut sentences = vec![format!(
            "Of {} between {}, {} after Holm's correction over all of them (corrected p below {SIGNIFICANCE}).",
            counted(all as u64, "difference"),
            counted(self.models.len() as u64, "model"),
            match holding {
                0 => "none holds".to_owned(),
                1 => "1 holds".to_owned(),
                holding => format!("{holding} hold"),
            }
        )];
        let said = self.differences.iter().filter(|difference| is_said(difference));
        sentences.extend(said.map(|difference| self.sentence(difference)));
        if self.by_patient {
            sentences.push(
                "Some patients have several images: every test here takes patients as independent, not images. \
                 McNemar's, which cannot, is shown beside them and decides nothing."
                    .into(),
            );
        }
        if self.of_several_trainings() {
            sentences.push(
                "A model that was trained several times is compared by the mean over its trainings; the tests are about \
                 other images, not about other trainings. McNemar's, which takes one answer an image, is of ensembles (the \
                 mean of the probabilities) and decides nothing."
                    .into(),
            );
        }
        if holding < all {
            sentences.push(
                "What is called noise is not shown to be equal: its interval says how large a difference these images \
                 leave possible."
                    .into(),
            );
        }
        sentences
    }

    fn sentence(&self, difference: &Difference) -> String {
        let (first, second) = (&self.models[difference.first], &self.models[difference.second]);
        let metric = match difference.metric {
            ComparedMetric::Accuracy => "Accuracy".to_owned(),
            metric => format!("{metric} of `{}`", self.positive),
        };
        let (Some(effect), [Some(of_first), Some(of_second)]) = (difference.effect, difference.values) else {
            let reason = difference.reason.as_deref().unwrap_or("no reason recorded");
            return format!("{metric}: whether `{first}` and `{second}` differ is undefined ({reason}).");
        };
        let in_percent = difference.metric == ComparedMetric::Accuracy;
        let value = |value: f64| if in_percent { percent(value) } else { format!("{value:.4}") };
        // Without the sign of a rounded zero.
        let size = |size: f64| match in_percent {
            true => format!("{:.1}", 100.0 * size + 0.0),
            false => format!("{:.4}", size + 0.0),
        };
        let points = if in_percent { " percentage points" } else { "" };
        let mut basis = counted(self.images, "image");
        if let Some(patients) = self.patients {
            basis += &format!(" of {}", counted(patients, "patient"));
        }
        let verdict = if effect.holds() { "holds" } else { "is noise, as far as these images can tell" };
        format!(
            "{metric}: `{second}` {} against `{first}` {}, a difference of {}{points} (95 % interval {} to {}; {basis}; \
             p {}, corrected {}): it {verdict}.",
            value(of_second),
            value(of_first),
            size(effect.difference),
            size(effect.low),
            size(effect.high),
            p_value(effect.p),
            p_value(effect.corrected_p),
        )
    }
}

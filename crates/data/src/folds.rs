//! Splits and folds: whole patients, each class spread evenly.

use rand::seq::SliceRandom;
use roentgen_run::draw::{ChaCha8Rng, Purpose, stream};
use std::collections::{BTreeMap, BTreeSet};

use crate::error::DataError;
use crate::manifest::{Manifest, Split};

/// The fewest folds that leave something for training, validation and test.
const FEWEST: usize = 3;

/// One fold of a cross-validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// How many folds there are, at least 3.
    pub folds: usize,
    /// The one that is tested on, from 1; the one after it (the first after the last) is validated on.
    pub held_out: usize,
    /// Decides which patient comes into which fold.
    pub seed: u64,
}

/// How much of the data goes where.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Share of the training images, 0 to 1.
    pub train: f64,
    /// Share of the validation images.
    pub validation: f64,
    /// Share of the test images; 0 with `keep_test`.
    pub test: f64,
    /// Decides which patient comes where.
    pub seed: u64,
    /// The test images stay as they are, and only the others are split; other images of their patients come into no
    /// split.
    pub keep_test: bool,
}

impl Manifest {
    /// Puts every image into training, validation or test anew, as one fold of a cross-validation has them: what was
    /// a split before plays no part. The images of a patient stay together; an image of an unknown patient stands for
    /// itself. Rows keep their numbers.
    ///
    /// The folds are those of a greedy search as in scikit-learn's `StratifiedGroupKFold`: the patients, those with
    /// many images first and otherwise in random order, each go where the classes are then spread most evenly.
    ///
    /// # Errors
    /// [`DataError::Setting`] for fewer than 3 folds, a fold beyond their number, or more folds than patients.
    pub fn cross_validate(&mut self, fold: Fold) -> Result<(), DataError> {
        let wrong =
            |setting, found: usize, expected| Err(DataError::Setting { setting, found: found.to_string(), expected });
        if fold.folds < FEWEST {
            return wrong("the number of folds", fold.folds, "at least 3: for training, validation and test");
        }
        if !(1..=fold.folds).contains(&fold.held_out) {
            return wrong("the fold to hold out", fold.held_out, "1 up to the number of folds");
        }
        let rows: Vec<usize> = (0..self.rows.len()).collect();
        let fold_of = self.parts(&rows, &vec![1.0; fold.folds], &mut stream(fold.seed, Purpose::Folds, 0, 0));
        if (0..fold.folds).any(|number| !fold_of.contains(&number)) {
            return wrong("the number of folds", fold.folds, "no more than there are patients");
        }
        let test = fold.held_out - 1;
        let validation = fold.held_out % fold.folds;
        for (row, number) in self.rows.iter_mut().zip(fold_of) {
            row.split = match number {
                number if number == test => Split::Test,
                number if number == validation => Split::Validation,
                _ => Split::Train,
            };
        }
        Ok(())
    }

    /// Puts every image into training, validation or test anew, in these shares: what was a split before plays no part,
    /// unless `keep_test`. Patients and classes as in [`Manifest::cross_validate`]; the rows are sorted anew.
    ///
    /// # Errors
    /// [`DataError::Setting`] for shares that are negative or do not sum to 1, a test share beside `keep_test`, no test
    /// images to keep, or fewer patients than splits.
    pub fn split_by_shares(&mut self, shares: Shares) -> Result<(), DataError> {
        let wrong = |setting, found: String, expected| Err(DataError::Setting { setting, found, expected });
        let Shares { train, validation, test, seed, keep_test } = shares;
        let parts: Vec<(Split, f64)> = [(Split::Train, train), (Split::Validation, validation), (Split::Test, test)]
            .into_iter()
            .filter(|(_, share)| *share != 0.0)
            .collect();
        let sum: f64 = parts.iter().map(|(_, share)| share).sum();
        if parts.iter().any(|(_, share)| !share.is_finite() || *share < 0.0) || (sum - 1.0).abs() > 1e-6 {
            let expected = "three shares of at least 0 that sum to 1, such as 0.7,0.15,0.15";
            return wrong(
                "the shares of training, validation and test",
                format!("{train},{validation},{test}"),
                expected,
            );
        }
        let mut rows: Vec<usize> = (0..self.rows.len()).collect();
        if keep_test {
            if test != 0.0 {
                return wrong("the share of the test", test.to_string(), "0 where the test images are kept");
            }
            let tested = self.rows.iter().filter(|row| row.split == Split::Test);
            let patients: BTreeSet<Option<String>> = tested.map(|row| row.patient_id.clone()).collect();
            if patients.is_empty() {
                return wrong("the number of test images", "0".into(), "some, where they are to be kept");
            }
            rows.retain(|&row| self.rows[row].split != Split::Test);
            // Whoever is tested on is not trained on: the other images of these patients are in no split.
            rows.retain(|&row| {
                let row = &mut self.rows[row];
                let is_tested = row.patient_id.is_some() && patients.contains(&row.patient_id);
                if is_tested {
                    row.split = Split::Unassigned;
                }
                !is_tested
            });
        }
        let weights: Vec<f64> = parts.iter().map(|(_, share)| *share).collect();
        let part_of = self.parts(&rows, &weights, &mut stream(seed, Purpose::Folds, 0, 1));
        if (0..parts.len()).any(|part| !part_of.contains(&part)) {
            return wrong("the number of splits", parts.len().to_string(), "no more than there are patients");
        }
        for (row, part) in rows.into_iter().zip(part_of) {
            self.rows[row].split = parts[part].0;
        }
        self.sort();
        Ok(())
    }

    /// The part, from 0, of each of these rows; parts have sizes in proportion to `weights`.
    fn parts(&self, rows: &[usize], weights: &[f64], generator: &mut ChaCha8Rng) -> Vec<usize> {
        let mut of_patient: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (place, &row) in rows.iter().enumerate() {
            match &self.rows[row].patient_id {
                Some(patient) => of_patient.entry(patient).or_default().push(place),
                None => groups.push(vec![place]),
            }
        }
        groups.extend(of_patient.into_values());
        groups.shuffle(generator);
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let label = |place: &usize| self.rows[rows[*place]].label;
        let mut totals = vec![0usize; self.classes.len()];
        rows.iter().for_each(|&row| totals[self.rows[row].label] += 1);
        let mut counts = vec![vec![0usize; self.classes.len()]; weights.len()];
        let mut part_of = vec![0; rows.len()];
        for group in groups {
            let add = |counts: &mut Vec<usize>| group.iter().for_each(|place| counts[label(place)] += 1);
            let unevenness = |part: usize| {
                let mut tried = counts.clone();
                add(&mut tried[part]);
                let images = tried[part].iter().sum::<usize>() as f64 / weights[part];
                (unevenness(&tried, &totals, weights), images)
            };
            let best = (0..weights.len())
                .map(|part| (unevenness(part), part))
                .min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let (_, part) = best.expect("at least one part");
            add(&mut counts[part]);
            group.iter().for_each(|place| part_of[*place] = part);
        }
        part_of
    }
}

/// Sum over the classes of the variance, over the parts, of the share of the class that a part has, in proportion to
/// the part's weight. With equal weights of 1 these are the bits of the plain variance.
fn unevenness(counts: &[Vec<usize>], totals: &[usize], weights: &[f64]) -> f64 {
    let all: f64 = weights.iter().sum();
    let of_class = |class: usize| {
        let shares =
            || counts.iter().zip(weights).map(|(part, &w)| (part[class] as f64 / totals[class].max(1) as f64 / w, w));
        let mean = shares().map(|(share, w)| w * share).sum::<f64>() / all;
        shares().map(|(share, w)| w * (share - mean).powi(2)).sum::<f64>() / all
    };
    (0..totals.len()).map(of_class).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Row;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    /// 200 images of 70 patients, the second class rarer, some patients with many images and some unknown.
    fn manifest() -> Manifest {
        let row = |index: usize| Row {
            patient_id: (!index.is_multiple_of(9))
                .then(|| format!("p{}", if index < 40 { index % 4 } else { index % 66 })),
            ..Row::new(format!("train/a/{index:03}.png").into(), usize::from(index % 10 < 3), Split::Train)
        };
        Manifest {
            root: PathBuf::new(),
            table: None,
            classes: vec!["infected".into(), "normal".into()],
            rows: (0..200).map(row).collect(),
            absent_splits: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn splits(held_out: usize, seed: u64) -> Vec<Split> {
        let mut manifest = manifest();
        manifest.cross_validate(Fold { folds: 5, held_out, seed }).unwrap();
        assert!(manifest.patients_across_splits().is_empty());
        manifest.rows.iter().map(|row| row.split).collect()
    }

    #[test]
    fn each_image_is_tested_once_validated_once_and_trained_on_otherwise() {
        let folds: Vec<Vec<Split>> = (1..=5).map(|held_out| splits(held_out, 0)).collect();
        for row in 0..200 {
            let count = |split| folds.iter().filter(|fold| fold[row] == split).count();
            assert_eq!((count(Split::Test), count(Split::Validation), count(Split::Train)), (1, 1, 3));
        }
        assert_ne!(splits(1, 0), splits(1, 1));
        assert_eq!(splits(1, 1), splits(1, 1));
    }

    #[test]
    fn classes_are_spread_evenly() {
        let labels: Vec<usize> = manifest().rows.iter().map(|row| row.label).collect();
        for held_out in 1..=5 {
            let splits = splits(held_out, 3);
            for class in 0..2 {
                let all = labels.iter().filter(|label| **label == class).count() as f64;
                let tested = (0..200).filter(|row| labels[*row] == class && splits[*row] == Split::Test).count() as f64;
                assert!((tested / all - 0.2).abs() < 0.04, "class {class} in fold {held_out}: {tested} of {all}");
            }
        }
    }

    const SHARES: Shares = Shares { train: 0.7, validation: 0.1, test: 0.2, seed: 1, keep_test: false };

    #[test]
    fn shares_are_kept_in_every_class_by_whole_patients() {
        for seed in 0..5 {
            let mut manifest = manifest();
            manifest.split_by_shares(Shares { seed, ..SHARES }).unwrap();
            assert!(manifest.patients_across_splits().is_empty());
            for (split, share) in [(Split::Train, 0.7), (Split::Validation, 0.1), (Split::Test, 0.2)] {
                for class in 0..2 {
                    let all = manifest.rows.iter().filter(|row| row.label == class).count() as f64;
                    let here =
                        manifest.rows.iter().filter(|row| row.label == class && row.split == split).count() as f64;
                    assert!(
                        (here / all - share).abs() < 0.04,
                        "class {class} in {split}, seed {seed}: {here} of {all}"
                    );
                }
            }
        }
        let splits = |seed| {
            let mut manifest = manifest();
            manifest.split_by_shares(Shares { seed, ..SHARES }).unwrap();
            manifest.rows
        };
        assert_eq!(splits(1), splits(1));
        assert_ne!(splits(1), splits(2));
    }

    #[test]
    fn test_images_that_are_kept_stay_and_their_patients_are_not_trained_on() {
        let mut split = manifest();
        split.rows.iter_mut().for_each(|row| {
            let name = row.path.to_str().unwrap();
            if ("train/a/190.png".."train/a/200.png").contains(&name) {
                row.split = Split::Test;
            }
        });
        let tested: BTreeSet<PathBuf> = split.rows[190..].iter().map(|row| row.path.clone()).collect();
        split.split_by_shares(Shares { train: 0.8, validation: 0.2, test: 0.0, seed: 0, keep_test: true }).unwrap();
        let now: BTreeSet<PathBuf> =
            split.rows.iter().filter(|row| row.split == Split::Test).map(|row| row.path.clone()).collect();
        assert_eq!(now, tested);
        assert!(split.rows.iter().any(|row| row.split == Split::Unassigned));
        assert!(split.patients_across_splits().is_empty());
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        let refusal = |shares: Shares| manifest().split_by_shares(shares).unwrap_err().to_string();
        assert!(refusal(Shares { train: 0.8, ..SHARES }).contains("sum to 1"));
        assert!(refusal(Shares { train: 1.1, validation: -0.3, ..SHARES }).contains("1.1,-0.3,0.2"));
        assert!(refusal(Shares { train: f64::NAN, ..SHARES }).contains("sum to 1"));
        assert!(refusal(Shares { keep_test: true, ..SHARES }).contains("0 where"));
        let none = Shares { train: 0.8, validation: 0.2, test: 0.0, keep_test: true, seed: 0 };
        assert!(refusal(none).contains("test images"));
    }

    #[test]
    fn folds_that_cannot_be_are_refused() {
        let refusal =
            |folds, held_out| manifest().cross_validate(Fold { folds, held_out, seed: 0 }).unwrap_err().to_string();
        assert!(refusal(2, 1).contains("at least 3"));
        assert!(refusal(5, 6).contains("1 up to"));
        assert!(refusal(5, 0).contains("1 up to"));
        assert!(refusal(150, 1).contains("no more than there are patients"));
        let patients: BTreeSet<_> = manifest().rows.into_iter().filter_map(|row| row.patient_id).collect();
        assert!(patients.len() < 150);
    }
}

//! Folds for cross-validation: whole patients, each class spread evenly.

use rand::seq::SliceRandom;
use roentgen_run::draw::{Purpose, stream};
use std::collections::BTreeMap;

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

impl Manifest {
    /// Puts every image into training, validation or test anew, as one fold of a cross-validation has them: what was
    /// a split before plays no part. The images of a patient stay together; an image of an unknown patient stands for
    /// itself. Rows keep their numbers.
    ///
    /// The folds are those of a greedy search as in scikit-learn's `StratifiedGroupKFold`: the patients, those with many
    /// images first and otherwise in random order, each go where the classes are then spread most evenly.
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
        let fold_of = self.folds(fold.folds, fold.seed);
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

    /// The fold of each row, from 0.
    fn folds(&self, folds: usize, seed: u64) -> Vec<usize> {
        let mut of_patient: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            match &row.patient_id {
                Some(patient) => of_patient.entry(patient).or_default().push(index),
                None => groups.push(vec![index]),
            }
        }
        groups.extend(of_patient.into_values());
        groups.shuffle(&mut stream(seed, Purpose::Folds, 0, 0));
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let mut totals = vec![0usize; self.classes.len()];
        self.rows.iter().for_each(|row| totals[row.label] += 1);
        let mut counts = vec![vec![0usize; self.classes.len()]; folds];
        let mut fold_of = vec![0; self.rows.len()];
        for group in groups {
            let add = |counts: &mut Vec<usize>| group.iter().for_each(|row| counts[self.rows[*row].label] += 1);
            let unevenness = |fold: usize| {
                let mut tried = counts.clone();
                add(&mut tried[fold]);
                let images: usize = tried[fold].iter().sum();
                (spread(&tried, &totals), images)
            };
            let best = (0..folds)
                .map(|fold| (unevenness(fold), fold))
                .min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (_, fold) = best.expect("at least one fold");
            add(&mut counts[fold]);
            group.iter().for_each(|row| fold_of[*row] = fold);
        }
        fold_of
    }
}

/// Sum over the classes of the variance, over the folds, of the share of the class that a fold has.
fn spread(counts: &[Vec<usize>], totals: &[usize]) -> f64 {
    let folds = counts.len() as f64;
    let of_class = |class: usize| {
        let shares = || counts.iter().map(|fold| fold[class] as f64 / totals[class].max(1) as f64);
        let mean = shares().sum::<f64>() / folds;
        shares().map(|share| (share - mean).powi(2)).sum::<f64>() / folds
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
            path: PathBuf::from(format!("train/a/{index:03}.png")),
            label: usize::from(index % 10 < 3),
            split: Split::Train,
            finding: None,
            patient_id: (!index.is_multiple_of(9))
                .then(|| format!("p{}", if index < 40 { index % 4 } else { index % 66 })),
            source: None,
        };
        Manifest {
            root: PathBuf::new(),
            classes: vec!["infected".into(), "normal".into()],
            rows: (0..200).map(row).collect(),
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

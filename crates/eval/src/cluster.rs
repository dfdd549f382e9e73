//! Which images belong together: those of one patient are no independent observations.

use std::collections::HashMap;

/// A partition of the images into clusters, the units that may be taken as independent: patients where they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    of_sample: Vec<usize>,
    count: usize,
    all_known: bool,
}

impl Clusters {
    /// Every image a cluster of its own: nothing is known about patients.
    pub fn each_its_own(samples: usize) -> Self {
        Self { of_sample: (0..samples).collect(), count: samples, all_known: false }
    }

    /// Images of one patient together; an image whose patient is unknown (`None`) is a cluster of its own.
    pub fn of_patients<S: AsRef<str>>(patients: &[Option<S>]) -> Self {
        let mut numbers = HashMap::new();
        let mut count = 0;
        let mut next = || {
            count += 1;
            count - 1
        };
        let number = |patient: &Option<S>| match patient {
            Some(patient) => *numbers.entry(patient.as_ref().to_owned()).or_insert_with(&mut next),
            None => next(),
        };
        let of_sample = patients.iter().map(number).collect();
        Self { of_sample, count, all_known: patients.iter().all(Option::is_some) }
    }

    /// How many clusters there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The cluster of each image, `[N]`, numbers in `0..count()`.
    pub fn of_samples(&self) -> &[usize] {
        &self.of_sample
    }

    /// Whether some cluster holds several images, so that images are not independent.
    pub fn hold_several(&self) -> bool {
        self.count < self.of_sample.len()
    }

    /// How many patients there are; `None` where the patient of some image is unknown.
    pub fn patients(&self) -> Option<u64> {
        self.all_known.then_some(self.count as u64)
    }

    /// The clusters of the images `samples` alone, in that order, numbered anew.
    pub(crate) fn subset(&self, samples: &[usize]) -> Self {
        let mut numbers = HashMap::new();
        let mut renumber = |&sample: &usize| {
            let next = numbers.len();
            *numbers.entry(self.of_sample[sample]).or_insert(next)
        };
        let of_sample = samples.iter().map(&mut renumber).collect();
        Self { of_sample, count: numbers.len(), all_known: self.all_known }
    }

    /// How many clusters hold an image that `counts` accepts.
    pub(crate) fn count_with(&self, counts: impl Fn(usize) -> bool) -> usize {
        let mut seen = vec![false; self.count];
        for (sample, &cluster) in self.of_sample.iter().enumerate() {
            seen[cluster] |= counts(sample);
        }
        seen.into_iter().filter(|&seen| seen).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patients_are_numbered_and_unknown_ones_stand_alone() {
        let clusters = Clusters::of_patients(&[Some("b"), None, Some("a"), Some("b"), None]);
        assert_eq!(clusters.of_samples(), [0, 1, 2, 0, 3]);
        assert_eq!((clusters.count(), clusters.hold_several(), clusters.patients()), (4, true, None));
        assert_eq!(Clusters::of_patients(&[Some("b"), Some("a"), Some("b")]).patients(), Some(2));
        assert_eq!(clusters.subset(&[4, 3, 0]).of_samples(), [0, 1, 1]);
        assert_eq!(clusters.count_with(|sample| sample == 0 || sample >= 3), 2);
        assert!(!Clusters::each_its_own(3).hold_several());
    }
}

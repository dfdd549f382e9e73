//! What a reader must know before trusting the numbers.

use crate::cluster::Clusters;
use crate::confusion::ConfusionMatrix;
use crate::estimate::Estimate;
use crate::predictions::Predictions;
use crate::wording::{counted, percent};

/// Below so many images of a class, [`crate::Metrics::notes`] says that they are few.
pub const SMALL_CLASS: u64 = 30;

/// Notes on classes that lack images, or predictions, or have few; `sensitivity` is that of each class.
pub(crate) fn of_classes(matrix: &ConfusionMatrix, sensitivity: &[Estimate]) -> Vec<String> {
    let mut notes = Vec::new();
    for (class, name) in matrix.classes().iter().enumerate() {
        let (images, predicted) = (matrix.actual(class), matrix.predicted(class));
        match sensitivity[class].interval() {
            None => {
                notes.push(format!(
                    "The split holds no image of `{name}`: sensitivity and F1 of `{name}` are undefined, and with them \
                     their macro averages."
                ));
                // The ratio has a denominator, so it stands; but nothing the model does could have made it more than 0.
                if predicted > 0 {
                    notes.push(format!(
                        "`{name}` was predicted for {}, where the split holds none: its precision of 0, which the macro \
                         average includes, says nothing else.",
                        counted(predicted, "image")
                    ));
                }
            }
            Some(interval) if images < SMALL_CLASS => notes.push(format!(
                "The split holds only {} of `{name}` (fewer than {SMALL_CLASS}): its sensitivity is known no closer \
                 than from {} to {}.",
                counted(images, "image"),
                percent(interval.low),
                percent(interval.high)
            )),
            Some(_) => {}
        }
        if predicted == 0 {
            notes.push(format!(
                "No image was predicted as `{name}`: the precision of `{name}` is undefined, and with it the macro average."
            ));
        }
        if images == matrix.samples() {
            notes.push(format!(
                "All images of the split are of `{name}`: the specificity of `{name}` is undefined, and with it the macro \
                 average."
            ));
        }
    }
    notes
}

/// The note on patients with several images, over whom the intervals were resampled, and on classes of few patients.
pub(crate) fn of_resampled_patients(predictions: &Predictions, clusters: &Clusters) -> Vec<String> {
    let mut notes = vec![format!(
        "The {} are of {}: the intervals draw patients anew, each with all images.",
        counted(predictions.samples() as u64, "image"),
        // Images of unknown patients count as patients of their own.
        match clusters.patients() {
            Some(patients) => counted(patients, "patient"),
            None => format!("at most {}, some unknown", counted(clusters.count() as u64, "patient")),
        }
    )];
    for (class, name) in predictions.classes().iter().enumerate() {
        let patients = clusters.count_with(|sample| predictions.labels()[sample] == class) as u64;
        if (1..SMALL_CLASS).contains(&patients) {
            notes.push(format!(
                "The images of `{name}` are of only {} (fewer than {SMALL_CLASS}): intervals that draw so few anew are \
                 rough.",
                counted(patients, "patient")
            ));
        }
    }
    notes
}

/// The note on several images of one patient, where there are any.
pub(crate) fn of_patients(samples: u64, patients: u64) -> Option<String> {
    (patients < samples).then(|| {
        format!(
            "The {} are of {}: the intervals take images as independent, so they are too narrow where images of one \
             patient are alike.",
            counted(samples, "image"),
            counted(patients, "patient")
        )
    })
}

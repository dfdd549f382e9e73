//! The curves of a run: loss and accuracy by epoch, and the loss by step.

use crate::ReportError;
use crate::numerals::{counted, four_decimals, percent};
use crate::plots::{LineChart, Picture, Role, Scale, Series};
use roentgen_run::history::{EpochRecord, StepRecord};

/// Points in the curve of the step losses; more would only be noise in a picture of this size.
const MOST_STEP_POINTS: usize = 150;

/// A picture and the words under it.
#[derive(Debug)]
pub(crate) struct CaptionedPicture {
    pub(crate) picture: Picture,
    pub(crate) caption: String,
}

/// The pictures for which there are records: `loss.svg`, `accuracy.svg`, `step-loss.svg`.
///
/// # Errors
/// Where a template is wrong.
pub(crate) fn draw(history: &[EpochRecord], steps: &[StepRecord]) -> Result<Vec<CaptionedPicture>, ReportError> {
    let mut pictures = Vec::new();
    pictures.extend(by_epoch(history, &LOSS)?);
    pictures.extend(by_epoch(history, &ACCURACY)?);
    pictures.extend(by_step(steps)?);
    Ok(pictures)
}

/// A quantity that is recorded for training and validation after each epoch.
struct Quantity {
    title: &'static str,
    vertical_label: &'static str,
    file_name: &'static str,
    scale: Scale,
    training: fn(&EpochRecord) -> f64,
    validation: fn(&EpochRecord) -> Option<f64>,
    text: fn(f64) -> String,
    caption: &'static str,
}

const LOSS: Quantity = Quantity {
    title: "Loss",
    vertical_label: "loss per image (nats)",
    file_name: "loss.svg",
    scale: Scale::Loss,
    training: |row| row.train_loss,
    validation: |row| row.valid_loss,
    text: four_decimals,
    caption: "Mean loss per image: training of what is trained on, as each batch saw it; validation after the epoch, plain \
              cross-entropy.",
};

const ACCURACY: Quantity = Quantity {
    title: "Accuracy",
    vertical_label: "images classified right",
    file_name: "accuracy.svg",
    scale: Scale::Share,
    training: |row| row.train_accuracy,
    validation: |row| row.valid_accuracy,
    text: percent,
    caption: "Share of images classified right, training as each batch saw it, validation after the epoch.",
};

fn by_epoch(history: &[EpochRecord], quantity: &Quantity) -> Result<Option<CaptionedPicture>, ReportError> {
    let training = history.iter().map(|row| (row.epoch as u64, (quantity.training)(row))).collect();
    let validation: Vec<(u64, f64)> =
        history.iter().filter_map(|row| Some((row.epoch as u64, (quantity.validation)(row)?))).collect();
    let mut series = vec![Series { label: "training", role: Role::Training, points: training }];
    if !validation.is_empty() {
        series.push(Series { label: "validation", role: Role::Validation, points: validation });
    }
    let ends = series.iter().filter_map(|series| {
        let ((_, first), (_, last)) = (series.points.first()?, series.points.last()?);
        Some(format!("{} from {} to {}", series.label, (quantity.text)(*first), (quantity.text)(*last)))
    });
    let description = format!(
        "{} over {}: {}.",
        quantity.title,
        counted(history.len(), "epoch"),
        ends.collect::<Vec<_>>().join("; ")
    );
    let chart = LineChart {
        title: quantity.title,
        horizontal_label: "epoch",
        vertical_label: quantity.vertical_label,
        scale: quantity.scale,
        series,
        description,
    };
    let picture = chart.draw(quantity.file_name)?;
    Ok(picture.map(|picture| CaptionedPicture { picture, caption: quantity.caption.to_owned() }))
}

fn by_step(steps: &[StepRecord]) -> Result<Option<CaptionedPicture>, ReportError> {
    let in_a_point = steps.len().div_ceil(MOST_STEP_POINTS).max(1);
    let points: Vec<(u64, f64)> = steps
        .chunks(in_a_point)
        .map(|chunk| {
            let mean = chunk.iter().map(|row| row.loss).sum::<f64>() / chunk.len() as f64;
            (chunk[chunk.len() / 2].step, mean)
        })
        .collect();
    let ends = points.first().zip(points.last());
    let description = ends.map_or_else(String::new, |((_, first), (_, last))| {
        let (first, last) = (four_decimals(*first), four_decimals(*last));
        format!("Loss of the training batches over {}: from {first} to {last}.", counted(steps.len(), "step"))
    });
    let chart = LineChart {
        title: "Loss by step",
        horizontal_label: "optimiser step",
        vertical_label: "loss per image (nats)",
        scale: Scale::Loss,
        series: vec![Series { label: "training", role: Role::Training, points }],
        description,
    };
    let caption = match in_a_point {
        1 => "Mean loss of each batch before its update, of what is trained on.".to_owned(),
        _ => {
            format!(
                "Mean loss of the batches before their update, of what is trained on; each point the mean of {in_a_point} \
                 steps."
            )
        }
    };
    let picture = chart.draw("step-loss.svg")?;
    Ok(picture.map(|picture| CaptionedPicture { picture, caption }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_become_few_points_and_the_caption_says_so() {
        let steps: Vec<StepRecord> =
            (1..=1000).map(|step| StepRecord { step, epoch: 1, loss: 1.0 / step as f64 }).collect();
        let picture = by_step(&steps).unwrap().unwrap();
        assert!(picture.caption.contains("mean of 7 steps"), "{}", picture.caption);
        let points = picture.picture.inline.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 143);
        assert!(by_step(&steps[..150]).unwrap().unwrap().caption.contains("each batch"));
        assert!(by_step(&[]).unwrap().is_none());
    }
}

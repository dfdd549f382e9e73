//! What the curves of a run allow one to say: whether they have settled, and whether the network over-fits.
//!
//! The rules are deliberately plain. A trend is the least-squares line over the last third of the epochs (5 to 20 of
//! them); it counts where Student's t-test tells its slope from zero at 95 %, and where the change along it exceeds one
//! percent of the losses' level. Losses of neighbouring epochs are not independent, as the test takes them to be, so it
//! sees a trend rather too often than too rarely. Fewer than five epochs say nothing.

use crate::numerals::{counted, four_decimals};
use roentgen_run::Config;
use roentgen_run::config::{Augmentation, ClassWeights, NamedClassWeights, Select};
use roentgen_run::history::EpochRecord;

const FEWEST_EPOCHS: usize = 5;
const LONGEST_WINDOW: usize = 20;
/// Two-sided 95 % points of Student's t distribution for 3 to 18 degrees of freedom: windows of 5 to 20 epochs.
const T_95: [f64; LONGEST_WINDOW - FEWEST_EPOCHS + 1] =
    [3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101];
/// Epochs averaged at each end when the lowest loss is compared with the last, so that no single lucky epoch decides.
const SMOOTHING: usize = 3;

/// Sentences about the curves, each complete in itself.
pub(crate) fn curve_statements(history: &[EpochRecord], config: &Config) -> Vec<String> {
    let mut statements = Vec::new();
    if history.is_empty() {
        return vec!["No epoch was recorded: nothing can be said about the training.".into()];
    }
    if history.len() < config.training.epochs && config.training.max_steps.is_none() {
        let recorded = counted(history.len(), "epoch");
        let why = history.last().and_then(|row| row.note.as_ref()).map_or_else(String::new, |note| format!(": {note}"));
        statements
            .push(format!("The run holds {recorded} of the {} that were asked for{why}.", config.training.epochs));
    }
    let training: Vec<f64> = history.iter().map(|row| row.train_loss).collect();
    let validation: Option<Vec<f64>> = history.iter().map(|row| row.valid_loss).collect();
    if training.iter().chain(validation.iter().flatten()).any(|loss| !loss.is_finite()) {
        statements
            .push("Some losses are not finite numbers: the training diverged, a lower learning rate may help.".into());
        return statements;
    }
    statements.push(settled(&training, validation.as_deref()));
    if let Some(validation) = &validation {
        statements.push(lowest(validation, config.training.select));
        statements.extend(over_fitting(&training, validation));
        statements.extend(heights(history, config));
    } else {
        statements
            .push("There was no validation split: whether the network over-fits cannot be seen from this run.".into());
    }
    statements
}

fn settled(training: &[f64], validation: Option<&[f64]>) -> String {
    let (name, losses) = validation.map_or(("training", training), |losses| ("validation", losses));
    let epochs = losses.len();
    if epochs < FEWEST_EPOCHS {
        return format!("With {} it is too early to tell whether the curves have settled.", counted(epochs, "epoch"));
    }
    let window = (epochs / 3).clamp(FEWEST_EPOCHS, LONGEST_WINDOW);
    let last = &losses[epochs - window..];
    let line = Line::through(last);
    let change = line.slope * (window - 1) as f64;
    let level = last.iter().sum::<f64>() / window as f64;
    let (size, scatter) = (four_decimals(change.abs()), four_decimals(line.scatter));
    let told_from_zero = line.slope.abs() > T_95[window - FEWEST_EPOCHS] * line.slope_error;
    if !told_from_zero || change.abs() <= 0.01 * level.abs() {
        format!(
            "Over the last {window} epochs the {name} loss shows no trend beyond its scatter (a change of {size} along \
             the fitted line, scatter {scatter}): as far as {epochs} epochs can tell, it has settled."
        )
    } else if change < 0.0 {
        format!(
            "Over the last {window} epochs the {name} loss still fell, by {size} along the fitted line (scatter \
             {scatter}): the curves have not settled, and more epochs may lower it further."
        )
    } else {
        format!(
            "Over the last {window} epochs the {name} loss rose, by {size} along the fitted line (scatter {scatter}): \
             more epochs at this learning rate are not likely to help."
        )
    }
}

fn lowest(validation: &[f64], select: Select) -> String {
    let best =
        (0..validation.len()).fold(0, |best, epoch| if validation[epoch] < validation[best] { epoch } else { best });
    let kept = match select {
        Select::Last => "the weights kept are those of the last epoch",
        Select::Best => "the weights kept are those of that epoch",
    };
    let (loss, epoch, epochs) = (four_decimals(validation[best]), best + 1, validation.len());
    format!("The lowest validation loss, {loss}, came after epoch {epoch} of {epochs}; {kept}.")
}

fn over_fitting(training: &[f64], validation: &[f64]) -> Option<String> {
    let smooth = |losses: &[f64]| -> Vec<f64> {
        losses.windows(SMOOTHING).map(|window| window.iter().sum::<f64>() / SMOOTHING as f64).collect()
    };
    let (training, smooth_validation) = (smooth(training), smooth(validation));
    if validation.len() < FEWEST_EPOCHS {
        return None;
    }
    // Both exist: there are at least `FEWEST_EPOCHS` losses, more than `SMOOTHING`.
    let last = smooth_validation.len() - 1;
    let best = (0..=last).fold(0, |best, i| if smooth_validation[i] < smooth_validation[best] { i } else { best });
    let since_best = Line::through(&validation[best..]);
    let rise = smooth_validation[last] - smooth_validation[best];
    let rises = rise > (2.0 * since_best.scatter).max(0.02 * smooth_validation[best].abs());
    (rises && training[last] < training[best]).then(|| {
        format!(
            "From about epoch {} on the validation loss rose (from {} to {}, means of {SMOOTHING} epochs) while the \
             training loss fell (from {} to {}): a sign of over-fitting. Fewer epochs, `--select best`, more images or \
             fewer trainable layers may help.",
            best + 1 + SMOOTHING / 2,
            four_decimals(smooth_validation[best]),
            four_decimals(smooth_validation[last]),
            four_decimals(training[best]),
            four_decimals(training[last]),
        )
    })
}

/// What the heights of the two curves do not say: they may measure different things, and a training curve above the
/// validation curve looks like a mistake and mostly is none.
fn heights(history: &[EpochRecord], config: &Config) -> Option<String> {
    let last = history.last()?;
    let augmented = config.data.augment != Augmentation::None;
    let worse = last.train_loss > last.valid_loss?;
    let training = &config.training;
    let weighted = training.class_weights != ClassWeights::Named(NamedClassWeights::None);
    if weighted || training.label_smoothing > 0.0 || training.focal_gamma > 0.0 {
        return Some(
            "The training loss is the one that was trained on, the validation loss plain cross-entropy: the two curves \
             compare by their shape, not by their height."
                .into(),
        );
    }
    (worse && (augmented || config.network.dropout > 0.0)).then(|| {
        "The training loss lies above the validation loss: training images are seen augmented and with dropout, while \
         the weights still change, validation images as they are. The two curves compare by their shape, not by their \
         height."
            .into()
    })
}

/// A least-squares line over values at 0, 1, 2 and so on.
struct Line {
    slope: f64,
    /// Standard deviation of the values about the line, two degrees of freedom being the line's.
    scatter: f64,
    /// Standard error of the slope.
    slope_error: f64,
}

impl Line {
    /// `values` are at least 3.
    fn through(values: &[f64]) -> Line {
        let count = values.len() as f64;
        let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
        let pairs = || values.iter().enumerate().map(|(x, y)| (x as f64 - mean_x, y - mean_y));
        let spread = pairs().map(|(x, _)| x * x).sum::<f64>();
        let slope = pairs().map(|(x, y)| x * y).sum::<f64>() / spread;
        let residuals = pairs().map(|(x, y)| (y - slope * x).powi(2)).sum::<f64>();
        let scatter = (residuals / (count - 2.0)).sqrt();
        Line { slope, scatter, slope_error: scatter / spread.sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(training: impl Fn(f64) -> f64, validation: Option<&dyn Fn(f64) -> f64>, epochs: usize) -> String {
        let row = |epoch: usize| EpochRecord {
            epoch,
            train_loss: training(epoch as f64),
            valid_loss: validation.map(|loss| loss(epoch as f64)),
            train_accuracy: 0.5,
            valid_accuracy: validation.map(|_| 0.5),
            learning_rate: 0.1,
            seconds: 1.0,
            images_per_s: 1.0,
            note: None,
        };
        let history: Vec<_> = (1..=epochs).map(row).collect();
        let mut config = Config::default();
        config.training.epochs = epochs;
        curve_statements(&history, &config).join("\n")
    }

    /// Uniform within 0.02 of 0, and different for each epoch and seed.
    fn noise(epoch: f64, seed: f64) -> f64 {
        let scrambled = (epoch * 12.9898 + seed * 78.233).sin() * 43_758.547;
        0.04 * (scrambled - scrambled.floor() - 0.5)
    }

    #[test]
    fn a_falling_curve_has_not_settled_and_a_noisy_level_one_mostly_has() {
        let mut settled = 0;
        for seed in (0..200).map(f64::from) {
            let falling = statements(|e| 1.0 / e, Some(&|e| 1.2 - 0.05 * e + noise(e, seed)), 10);
            assert!(falling.contains("still fell") && !falling.contains("over-fitting"), "{falling}");
            let level = statements(|e| 0.5 + noise(e, seed + 0.5), Some(&|e| 0.5 + noise(e, seed)), 12);
            settled += usize::from(level.contains("has settled") && !level.contains("over-fitting"));
        }
        assert!(settled >= 180, "the test errs in {} of 200 cases, where about 10 are expected", 200 - settled);
        let constant = statements(|_| 0.5, Some(&|_| 0.5), 12);
        assert!(constant.contains("has settled") && !constant.contains("over-fitting"), "{constant}");
    }

    #[test]
    fn over_fitting_needs_both_curves() {
        let valley = |e: f64| 0.4 + 0.02 * (e - 5.0).abs() + 0.2 * noise(e, 0.0);
        let split_ways = statements(|e| 1.0 / e, Some(&valley), 12);
        assert!(split_ways.contains("over-fitting") && split_ways.contains("loss rose"), "{split_ways}");
        assert!(split_ways.contains("From about epoch 5"), "{split_ways}");
        let both_rise = statements(|e| 0.1 * e, Some(&valley), 12);
        assert!(!both_rise.contains("over-fitting"), "{both_rise}");
    }

    #[test]
    fn little_is_said_of_little() {
        let one = statements(|_| 0.5, Some(&|_| 0.5), 1);
        assert!(one.contains("With 1 epoch it is too early"), "{one}");
        assert!(statements(|_| 0.5, None, 8).contains("no validation split"));
        assert!(statements(|e| if e > 3.0 { f64::NAN } else { 0.5 }, None, 8).contains("diverged"));
        assert!(curve_statements(&[], &Config::default())[0].contains("No epoch"));
    }

    #[test]
    fn the_line_is_the_least_squares_one() {
        let line = Line::through(&[1.0, 3.0, 2.0, 4.0]);
        // Slope 4/5; residuals 0.1 up to sign pattern (-0.3, 0.9, -0.9, 0.3), squares summing to 1.8, over 2.
        assert!((line.slope - 0.8).abs() < 1e-12 && (line.scatter - 0.9f64.sqrt()).abs() < 1e-12);
        assert!((line.slope_error - (0.9f64 / 5.0).sqrt()).abs() < 1e-12);
    }
}

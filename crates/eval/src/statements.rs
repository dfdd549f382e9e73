//! What the numbers allow to be said in words, and no more.

use crate::confusion::Outcomes;
use crate::interval::{CONFIDENCE, Interval, wilson};
use crate::metrics::Metrics;
use crate::mover::{Term, weighted_sum_interval};
use crate::wording::{counted, percent};

/// An interval wider than this, ten percentage points, is called too wide to tell more.
pub const WIDE_INTERVAL: f64 = 0.10;

/// Sentences on a split, each standing for itself, the most important first: whether accuracy differs from that of
/// always answering the most frequent class, where the errors fall, which numbers rest on too few images, and what the
/// intervals do not cover.
///
/// A difference is claimed only where the 95 % interval excludes none; otherwise the sentence says that these images do
/// not show it.
pub fn statements(metrics: &Metrics) -> Vec<String> {
    let mut sentences = vec![against_majority(metrics), where_errors_fall(metrics)];
    sentences.extend(misses_against_false_alarms(metrics));
    sentences.extend(most_frequent_confusion(metrics));
    sentences.extend(too_few_images(metrics));
    sentences.push(
        "The intervals cover the chance in which images the split holds; they say nothing about images from another \
         hospital, device or population."
            .into(),
    );
    sentences
}

fn range(interval: Interval) -> String {
    format!("{} to {}", percent(interval.low), percent(interval.high))
}

fn against_majority(metrics: &Metrics) -> String {
    let matrix = &metrics.confusion_matrix;
    let majority = (0..metrics.classes().len())
        .rev()
        .max_by_key(|&class| matrix.actual(class))
        .expect("a confusion matrix has at least two classes");
    let name = &metrics.classes()[majority];
    let Some((accuracy, interval)) = metrics.accuracy.value.zip(metrics.accuracy.interval()) else {
        return "Accuracy is undefined.".into();
    };
    let accuracy = format!("Accuracy is {} (95 % interval {})", percent(accuracy), range(interval));
    if matrix.actual(majority) == matrix.samples() {
        return format!(
            "{accuracy}, but all images are of `{name}`: whether the model tells the classes apart cannot be seen here."
        );
    }
    let share = matrix.actual(majority) as f64 / matrix.samples() as f64;
    let baseline = format!("always answering `{name}`, which is right for {} of this split", percent(share));
    if let Some(only) = (0..metrics.classes().len()).find(|&class| matrix.predicted(class) == matrix.samples()) {
        let only = &metrics.classes()[only];
        return format!(
            "{accuracy}, but every image was called `{only}`: the model does not tell the classes apart here."
        );
    }
    if interval.low > share {
        format!("{accuracy}: better than {baseline}.")
    } else if interval.high < share {
        format!("{accuracy}: worse than {baseline}.")
    } else {
        format!("{accuracy}: not distinguishable from {baseline}.")
    }
}

fn where_errors_fall(metrics: &Metrics) -> String {
    let matrix = &metrics.confusion_matrix;
    let errors = matrix.samples() - matrix.correct();
    if errors == 0 {
        // The interval of the error rate is that of accuracy, mirrored.
        let compatible = metrics.accuracy.low.map_or(1.0, |low| 1.0 - low);
        return format!(
            "No error in {}; an error rate of up to {} is compatible with that.",
            counted(matrix.samples(), "image"),
            percent(compatible)
        );
    }
    let positive = metrics.positive_name();
    let Outcomes { true_positive, false_negative, false_positive, true_negative } = matrix.outcomes(metrics.positive);
    let rate = |part: u64, whole: u64| match whole {
        0 => "there are none such".to_string(),
        _ => format!("{} of {whole}", percent(part as f64 / whole as f64)),
    };
    let mut sentence = format!(
        "Errors: {errors} in {}. Misses (`{positive}` called another class): {false_negative}, {}; false alarms (another \
         class called `{positive}`): {false_positive}, {}",
        counted(matrix.samples(), "image"),
        rate(false_negative, true_positive + false_negative),
        rate(false_positive, false_positive + true_negative)
    );
    let elsewhere = errors - false_negative - false_positive;
    if metrics.classes().len() > 2 {
        sentence += &format!("; between the other classes: {elsewhere}");
    }
    sentence + "."
}

/// Compares the two rates, which are independent given the number of images on each side.
fn misses_against_false_alarms(metrics: &Metrics) -> Option<String> {
    let matrix = &metrics.confusion_matrix;
    if matrix.samples() == matrix.correct() {
        return None;
    }
    let Outcomes { true_positive, false_negative, false_positive, true_negative } = matrix.outcomes(metrics.positive);
    let term = |weight: f64, part: u64, whole: u64| {
        let interval = wilson(part, whole, CONFIDENCE)?;
        Some(Term { weight, value: part as f64 / whole as f64, interval })
    };
    let misses = term(1.0, false_negative, true_positive + false_negative)?;
    let false_alarms = term(-1.0, false_positive, false_positive + true_negative)?;
    let interval = weighted_sum_interval(&[misses, false_alarms], |_, _| 0.0);
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    let difference = format!(
        "difference {} percentage points, 95 % interval {} to {}",
        points(misses.value - false_alarms.value),
        points(interval.low),
        points(interval.high)
    );
    let positive = metrics.positive_name();
    Some(if interval.low > 0.0 {
        format!("`{positive}` is missed more often than it is raised as a false alarm ({difference}).")
    } else if interval.high < 0.0 {
        format!("`{positive}` is raised as a false alarm more often than it is missed ({difference}).")
    } else {
        format!(
            "Whether misses or false alarms of `{positive}` are more frequent, these images do not show ({difference})."
        )
    })
}

/// With two classes the misses and false alarms say it already.
fn most_frequent_confusion(metrics: &Metrics) -> Option<String> {
    let classes = metrics.classes();
    let counts = metrics.confusion_matrix.counts();
    let errors = || {
        let cells = (0..classes.len()).flat_map(|actual| (0..classes.len()).map(move |predicted| (actual, predicted)));
        cells.filter(|(actual, predicted)| actual != predicted)
    };
    let most = errors().map(|(actual, predicted)| counts[actual][predicted]).max()?;
    if classes.len() == 2 || most == 0 {
        return None;
    }
    let pairs: Vec<String> = errors()
        .filter(|&(actual, predicted)| counts[actual][predicted] == most)
        .map(|(actual, predicted)| format!("`{}` called `{}`", classes[actual], classes[predicted]))
        .collect();
    let each = if pairs.len() > 1 { " each" } else { "" };
    Some(format!("Most frequent confusion: {} ({}{each}).", pairs.join(", "), counted(most, "image")))
}

fn too_few_images(metrics: &Metrics) -> Vec<String> {
    let matrix = &metrics.confusion_matrix;
    let positive = metrics.positive_name();
    let of_positive = matrix.actual(metrics.positive);
    let named = [
        ("accuracy".to_string(), &metrics.accuracy, matrix.samples()),
        (format!("sensitivity for `{positive}`"), &metrics.sensitivity[metrics.positive], of_positive),
        (
            format!("specificity for `{positive}`"),
            &metrics.specificity[metrics.positive],
            matrix.samples() - of_positive,
        ),
    ];
    let sentence = |(name, estimate, images): (String, &crate::Estimate, u64)| match estimate.interval() {
        None => Some(format!(
            "The {name} cannot be told from this split: {}.",
            estimate.reason.as_deref().unwrap_or("no reason recorded")
        )),
        Some(interval) if interval.width() > WIDE_INTERVAL => Some(format!(
            "The {name} rests on {}, with which anything from {} is compatible: too few to tell more.",
            counted(images, "image"),
            range(interval)
        )),
        Some(_) => None,
    };
    named.into_iter().filter_map(sentence).collect()
}

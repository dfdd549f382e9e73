//! What the numbers allow to be said in words, and no more.

use crate::confusion::Outcomes;
use crate::estimate::Estimate;
use crate::group::GroupTable;
use crate::interval::Interval;
use crate::metrics::Metrics;
use crate::mover::{Term, weighted_sum_interval};
use crate::wording::{counted, percent};

/// An interval wider than this, ten percentage points, is called too wide to tell more.
pub const WIDE_INTERVAL: f64 = 0.10;

/// Sentences on a split, each standing for itself, the most important first: whether accuracy differs from that of
/// always answering the most frequent class, where the errors fall, whether the probabilities rank and mean what they
/// say, whether the source gives the class away, which numbers rest on too few images, and what the intervals do not
/// cover.
///
/// A difference is claimed only where the 95 % interval excludes none; otherwise the sentence says that these images do
/// not show it.
pub fn statements(metrics: &Metrics) -> Vec<String> {
    let mut sentences = vec![against_majority(metrics), where_errors_fall(metrics)];
    sentences.extend(misses_against_false_alarms(metrics));
    sentences.extend(most_frequent_confusion(metrics));
    sentences.extend(ranking(metrics));
    sentences.extend(calibration(metrics));
    sentences.extend(metrics.groups.iter().filter_map(class_given_away));
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
    // Misses are what sensitivity lacks of 1, false alarms what specificity lacks; so are their intervals.
    let term = |weight: f64, estimate: &Estimate| {
        Some(Term { weight, value: estimate.value?, interval: estimate.interval()? })
    };
    let specificity = term(1.0, &metrics.specificity[metrics.positive])?;
    let sensitivity = term(-1.0, &metrics.sensitivity[metrics.positive])?;
    let interval = weighted_sum_interval(&[specificity, sensitivity], |_, _| 0.0);
    let points = |share: f64| format!("{:.1}", 100.0 * share);
    let difference = format!(
        "difference {} percentage points, 95 % interval {} to {}",
        points(specificity.value - sensitivity.value),
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

/// Says something only where there is news: the model does not rank better than chance.
fn ranking(metrics: &Metrics) -> Option<String> {
    let auroc = &metrics.probabilities.as_ref()?.auroc[metrics.positive];
    let (value, interval) = (auroc.value?, auroc.interval()?);
    let positive = metrics.positive_name();
    let figures = format!("AUROC {value:.3}, 95 % interval {:.3} to {:.3}", interval.low, interval.high);
    match () {
        () if interval.contains(0.5) => Some(format!(
            "The probability of `{positive}` is not shown to rank images of `{positive}` above others better than chance \
             ({figures})."
        )),
        () if interval.high < 0.5 => Some(format!(
            "The probability of `{positive}` ranks images of `{positive}` below others ({figures}): labels or classes may \
             be exchanged."
        )),
        () => None,
    }
}

/// Confidence against accuracy, whose interval decides; an error below twice what chance gives is not worth a sentence.
fn calibration(metrics: &Metrics) -> Option<String> {
    let calibration = &metrics.probabilities.as_ref()?.calibration;
    let (confidence, interval) = (calibration.mean_confidence, metrics.accuracy.interval()?);
    let figures = format!("mean confidence {}, accuracy {}", percent(confidence), percent(calibration.accuracy));
    let remedy = metrics.temperature.as_ref().map_or_else(String::new, |scaling| {
        format!(", which a temperature of {:.2} corrects as far as one number can", scaling.temperature)
    });
    if confidence > interval.high {
        Some(format!("The model is surer than it should be ({figures}){remedy}."))
    } else if confidence < interval.low {
        Some(format!("The model is less sure than it could be ({figures}){remedy}."))
    } else if calibration.expected_calibration_error > 2.0 * calibration.expected_by_chance {
        Some(format!(
            "Confidence and accuracy agree on the whole ({figures}) and not in parts: the expected calibration error is \
             {:.3}, where chance gives {:.3}.",
            calibration.expected_calibration_error, calibration.expected_by_chance
        ))
    } else {
        None
    }
}

/// A model may then have learned the groups instead of the classes. Findings are what classes are made of.
fn class_given_away(table: &GroupTable) -> Option<String> {
    (table.by != "finding" && table.gives_the_class_away()).then(|| {
        format!(
            "Each {} holds images of one side only: what looks like telling the classes apart may be telling the {}s \
             apart, and these images cannot show which.",
            table.by, table.by
        )
    })
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
    let sentence = |(name, estimate, images): (String, &Estimate, u64)| match estimate.interval() {
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

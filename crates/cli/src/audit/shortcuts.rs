//! What files and table give away without a look at the lungs: the area under the ROC curve of each feature alone.

use super::together::together;
use roentgen_data::audit::{Examined, Stored};
use roentgen_data::{Manifest, Row, Split};
use roentgen_eval::{Clusters, Estimate, EvalError, RankedScores, auroc};
use roentgen_report::audit::Shortcut;
use std::collections::BTreeMap;

/// An area whose interval lies above this gives its class away: a model that looks at nothing else is visibly better
/// than chance.
pub const SUSPICIOUS: f64 = 0.6;
/// Parts in which the shares of categories are learned from the others, so that a rare value cannot explain itself.
pub(super) const PARTS: usize = 5;

/// A property of the files, or of what the table says of them; one value an image.
pub(super) enum Feature {
    /// More or less of something, where it is known.
    Amount(Vec<Option<f32>>),
    /// One of several.
    Category(Vec<String>),
}

/// How well each feature tells each class from the rest, and the test images from the training images; the most telling
/// first; and how well all of them do together. A feature that is the same everywhere is left out.
pub fn shortcuts(manifest: &Manifest, images: &[Examined]) -> Result<Vec<Shortcut>, EvalError> {
    let features = features(manifest, images);
    let row = |image: &Examined| &manifest.rows[image.row];
    let mut sides: Vec<(String, Vec<usize>, Vec<bool>)> = Vec::new();
    let all: Vec<usize> = (0..images.len()).collect();
    // Of two classes one says it all.
    let told = if manifest.classes.len() == 2 { 1 } else { manifest.classes.len() };
    for (label, class) in manifest.classes.iter().enumerate().take(told) {
        sides.push((class.clone(), all.clone(), images.iter().map(|image| row(image).label == label).collect()));
    }
    let of_split = |split| all.iter().copied().filter(move |&index| row(&images[index]).split == split);
    let both: Vec<usize> = of_split(Split::Train).chain(of_split(Split::Test)).collect();
    let tested = both.iter().map(|&index| row(&images[index]).split == Split::Test).collect();
    sides.push(("test from train".into(), both, tested));

    let mut found = Vec::new();
    for (target, chosen, positive) in sides {
        if positive.iter().all(|side| *side == positive[0]) {
            continue;
        }
        let patients: Vec<Option<&String>> = chosen.iter().map(|&i| row(&images[i]).patient_id.as_ref()).collect();
        let clusters = Clusters::of_patients(&patients);
        for (name, feature) in &features {
            let (area, name) = match feature {
                Feature::Amount(values) => {
                    let known: Vec<usize> = (0..chosen.len()).filter(|&at| values[chosen[at]].is_some()).collect();
                    let positive: Vec<bool> = known.iter().map(|&at| positive[at]).collect();
                    if positive.iter().all(|side| *side == positive[0]) {
                        continue;
                    }
                    let values = known.iter().filter_map(|&at| values[chosen[at]]).collect();
                    let patients: Vec<Option<&String>> = known.iter().map(|&at| patients[at]).collect();
                    let (scores, name) = oriented(name, values, &positive)?;
                    (auroc(&[RankedScores::new(&scores, &positive)?], &Clusters::of_patients(&patients), &target), name)
                }
                Feature::Category(values) => {
                    let values: Vec<&str> = chosen.iter().map(|&index| values[index].as_str()).collect();
                    let scores = shares(&values, &positive, clusters.of_samples());
                    (auroc(&[RankedScores::new(&scores, &positive)?], &clusters, &target), (*name).to_owned())
                }
            };
            found.push(shortcut(name, &target, area));
        }
        if let Some(scores) = together(&features, &chosen, &positive, clusters.of_samples()) {
            let area = auroc(&[RankedScores::new(&scores, &positive)?], &clusters, &target);
            found.push(shortcut("all features together".to_owned(), &target, area));
        }
    }
    found.sort_by(|a: &Shortcut, b: &Shortcut| b.auroc.value.unwrap_or(0.0).total_cmp(&a.auroc.value.unwrap_or(0.0)));
    Ok(found)
}

fn features(manifest: &Manifest, images: &[Examined]) -> Vec<(&'static str, Feature)> {
    let stored = |of: fn(&Stored) -> f64| {
        Feature::Amount(images.iter().map(|image| Some(of(&image.look.stored) as f32)).collect())
    };
    let category = |of: &dyn Fn(&Stored, &Row) -> String| {
        Feature::Category(images.iter().map(|image| of(&image.look.stored, &manifest.rows[image.row])).collect())
    };
    let or_unknown = |known: Option<String>| known.unwrap_or_else(|| "unknown".into());
    let features = vec![
        ("source", category(&|_, row| or_unknown(row.source.clone()))),
        ("view", category(&|_, row| or_unknown(row.view.clone()))),
        ("sex", category(&|_, row| or_unknown(row.sex.map(|sex| sex.to_string())))),
        ("age", Feature::Amount(images.iter().map(|image| manifest.rows[image.row].age.map(f32::from)).collect())),
        ("whether the age is known", category(&|_, row| row.age.is_some().to_string())),
        ("file type", category(&|stored, _| stored.format.container.into())),
        ("bits", category(&|stored, _| stored.format.bits.to_string())),
        ("colour", category(&|stored, _| stored.format.pixel.into())),
        ("transfer syntax", category(&|stored, _| stored.format.coding.into())),
        ("size", category(&|stored, _| format!("{} x {}", stored.width, stored.height))),
        ("width", stored(|stored| stored.width as f64)),
        ("height", stored(|stored| stored.height as f64)),
        ("width over height", stored(|stored| stored.width as f64 / stored.height as f64)),
        ("border", stored(|stored| stored.border)),
        ("bytes a pixel", stored(|stored| stored.file_bytes as f64 / (stored.width * stored.height) as f64)),
    ];
    let varies = |feature: &Feature| match feature {
        Feature::Amount(values) => {
            let mut known = values.iter().flatten();
            known.next().is_some_and(|first| known.any(|value| value != first))
        }
        Feature::Category(values) => values.iter().any(|value| *value != values[0]),
    };
    features.into_iter().filter(|(_, feature)| varies(feature)).collect()
}

fn shortcut(feature: String, target: &str, auroc: Estimate) -> Shortcut {
    let suspicious = auroc.low.is_some_and(|low| low > SUSPICIOUS);
    Shortcut { feature, target: target.to_owned(), auroc, suspicious }
}

/// Scores and name of an amount, turned so that its area is at least one half: either direction gives a class away.
fn oriented(name: &str, values: Vec<f32>, positive: &[bool]) -> Result<(Vec<f32>, String), EvalError> {
    let area = auroc(&[RankedScores::new(&values, positive)?], &Clusters::each_its_own(values.len()), name).value;
    if area.is_some_and(|area| area < 0.5) {
        return Ok((values.into_iter().map(|value| -value).collect(), format!("{name} (smaller)")));
    }
    Ok((values, format!("{name} (larger)")))
}

/// For each image the share of positives among images of its category in other parts of the data; whole patients stand
/// in one part.
fn shares(values: &[&str], positive: &[bool], cluster_of: &[usize]) -> Vec<f32> {
    let mut counts: BTreeMap<&str, [[f64; 2]; PARTS]> = BTreeMap::new();
    let mut totals = [[0.0; 2]; PARTS];
    for ((value, &side), &cluster) in values.iter().zip(positive).zip(cluster_of) {
        counts.entry(value).or_default()[cluster % PARTS][usize::from(side)] += 1.0;
        totals[cluster % PARTS][usize::from(side)] += 1.0;
    }
    let elsewhere = |counts: &[[f64; 2]; PARTS], part: usize| {
        let others = counts.iter().enumerate().filter(|(other, _)| *other != part).map(|(_, count)| count);
        others.fold([0.0; 2], |sum, count| [sum[0] + count[0], sum[1] + count[1]])
    };
    // The same prior in every part, so that parts do not differ where categories do not.
    let all = totals.iter().fold([0.0; 2], |sum: [f64; 2], count| [sum[0] + count[0], sum[1] + count[1]]);
    let prior = all[1] / (all[0] + all[1]);
    let share = |(value, &cluster): (&&str, &usize)| {
        let [negatives, positives] = elsewhere(&counts[value], cluster % PARTS);
        // As if one image more had been seen, of no particular side.
        ((positives + prior) / (negatives + positives + 1.0)) as f32
    };
    values.iter().zip(cluster_of).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(scores: &[f32], positive: &[bool]) -> f64 {
        let clusters = Clusters::each_its_own(scores.len());
        auroc(&[RankedScores::new(scores, positive).unwrap()], &clusters, "a").value.unwrap()
    }

    #[test]
    fn a_category_that_is_the_label_gives_it_away_and_a_name_of_its_own_does_not() {
        let positive: Vec<bool> = (0..200).map(|index| index % 3 == 0).collect();
        let own: Vec<usize> = (0..200).collect();
        let source: Vec<&str> = positive.iter().map(|side| if *side { "hospital" } else { "school" }).collect();
        assert_eq!(area(&shares(&source, &positive, &own), &positive), 1.0);
        let names: Vec<String> = own.iter().map(usize::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(area(&shares(&names, &positive, &own), &positive), 0.5);
    }

    #[test]
    fn a_category_that_one_patient_alone_has_says_nothing() {
        let positive = [vec![true; 30], vec![false; 30]].concat();
        let values: Vec<String> = (0..60).map(|index| format!("s{}", index / 10)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let patients: Vec<usize> = (0..60).map(|index| index / 10).collect();
        assert_eq!(area(&shares(&values, &positive, &patients), &positive), 0.5);
    }

    #[test]
    fn amounts_are_turned_to_where_they_tell() {
        let positive = [true, true, false, false];
        let (scores, name) = oriented("width", vec![1.0, 2.0, 3.0, 4.0], &positive).unwrap();
        assert_eq!((area(&scores, &positive), name.as_str()), (1.0, "width (smaller)"));
    }
}

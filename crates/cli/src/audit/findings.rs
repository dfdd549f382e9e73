//! What an audit says: each kind of finding with its level, its sentence and its images.

use super::shortcuts::{SUSPICIOUS, shortcuts};
use crate::data::output::slashed;
use crate::leaks::DIM;
use crate::wording::counted;
use roentgen_data::audit::{Examination, LEAST_AGREEMENT, Resemblance, SAME_PATIENT, Search};
use roentgen_data::{Manifest, Split};
use roentgen_eval::EvalError;
use roentgen_report::audit::{Audit, AuditedImage, DuplicatePair, FORMAT_VERSION, Finding, Level};
use std::collections::{BTreeMap, BTreeSet};

/// Brings together what was found. `same_pixels` are groups of rows.
pub fn audit(
    manifest: &Manifest,
    examination: &Examination,
    same_pixels: &[Vec<usize>],
    search: &Search,
) -> Result<Audit, EvalError> {
    let near_duplicates = pairs(manifest, examination, same_pixels, search);
    let shortcuts = shortcuts(manifest, &examination.images)?;
    let mut findings = patients(manifest);
    findings.extend(identical_pixels(manifest, same_pixels));
    findings.extend(copies(&near_duplicates));
    findings.extend(likely_one_patient(manifest, examination, search));
    let telling = |of_split: bool| {
        let chosen = shortcuts.iter().filter(|s| s.suspicious && (s.target == "test from train") == of_split);
        chosen.map(|s| format!("{} tells {}: AUROC {}", s.feature, s.target, s.auroc)).collect::<Vec<_>>()
    };
    findings.extend(finding(Level::Warning, "shortcut", telling(false), |count| {
        let features = counted(count, "feature gives", "features give");
        format!("{features} a class away without a look at the lungs: AUROC above {SUSPICIOUS}, interval and all")
    }));
    findings.extend(finding(Level::Warning, "splits-differ", telling(true), |count| {
        let features = counted(count, "feature tells", "features tell");
        format!("{features} test images from training images: the splits were not drawn alike")
    }));
    let bad: Vec<String> = examination.bad.iter().map(|(_, error)| error.to_string()).collect();
    findings.extend(finding(Level::Warning, "bad-image", bad, |count| {
        counted(
            count,
            "image cannot be decoded and was not looked at",
            "images cannot be decoded and were not looked at",
        )
    }));
    let dim = examination.images.iter().filter(|image| image.look.stored.dim);
    let dim = dim.map(|image| slashed(&manifest.rows[image.row].path)).collect();
    findings.extend(finding(Level::Warning, "dim-image", dim, |count| format!("{DIM}: {count}")));
    findings.extend(finding(Level::Note, "data-set", manifest.warnings.clone(), |_| "the data set itself".into()));
    findings.sort_by_key(|finding| finding.level);
    let images = examination.images.len();
    let all_pairs = images * images.saturating_sub(1) / 2;
    Ok(Audit {
        format_version: FORMAT_VERSION,
        data: slashed(manifest.place()),
        data_fingerprint: None,
        images,
        undecodable: examination.bad.len(),
        patients: patient_statement(manifest),
        findings,
        near_duplicates,
        shortcuts,
        method: vec![
            format!(
                "Copies: {} of {all_pairs} pairs resembled each other and were laid over each other; a pair counts \
                 whose fine structure then correlates by {} or more. Found are copies that were rotated by up to 15 \
                 degrees, cut to 90 % of each side, mirrored, inverted, scaled, stored anew or changed in contrast; \
                 smaller parts are found less often.",
                search.aligned,
                LEAST_AGREEMENT
            ),
            format!(
                "Two exposures of one patient are no copies of each other. Some of them, with a correlation of \
                 {SAME_PATIENT} or more, are recognised, and told where the patients' ids are unknown or differ; most \
                 are not, so that ids are needed."
            ),
            "Features are of the files, and what the table says of source, view, age and sex. Of a category the share of \
             the class among other patients' images of that category is the score, in five parts; of all features together it is a logistic regression, fitted on the other four. Intervals \
             are DeLong's, by \
             patient where patients are known."
                .into(),
        ],
    })
}

/// Nothing where there are no details.
fn finding(
    level: Level,
    kind: &'static str,
    details: Vec<String>,
    summary: impl Fn(usize) -> String,
) -> Option<Finding> {
    (!details.is_empty()).then(|| Finding { level, kind, summary: summary(details.len()), details })
}

/// What can be said of patients and splits.
fn patient_statement(manifest: &Manifest) -> String {
    let unknown = manifest.rows.iter().filter(|row| row.patient_id.is_none()).count();
    let across = manifest.patients_across_splits().len();
    let patients = manifest.rows.iter().filter_map(|row| row.patient_id.as_ref()).collect::<BTreeSet<_>>().len();
    if across > 0 {
        let verb = if across == 1 { "stands" } else { "stand" };
        format!("{} of {patients} {verb} in more than one split.", counted(across, "patient", "patients"))
    } else if unknown == 0 {
        format!("Patients are disjoint between the splits, by their ids ({patients} patients).")
    } else {
        let (all, are) = (manifest.rows.len(), if unknown == 1 { "is" } else { "are" });
        format!("Patients of {unknown} of {all} images {are} unknown: that splits are disjoint is not provable.")
    }
}

fn patients(manifest: &Manifest) -> Vec<Finding> {
    let list = |images: &[(Split, usize)]| {
        let parts: Vec<String> = images.iter().map(|(split, count)| format!("{count} in {split}")).collect();
        parts.join(", ")
    };
    let across = manifest.patients_across_splits();
    let across = across.iter().map(|shared| format!("{}: {}", shared.patient_id, list(&shared.images))).collect();
    let mut labels: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for row in &manifest.rows {
        if let Some(patient) = &row.patient_id {
            *labels.entry(patient).or_default().entry(&manifest.classes[row.label]).or_default() += 1;
        }
    }
    let several = labels.iter().filter(|(_, labels)| labels.len() > 1).map(|(patient, labels)| {
        let parts: Vec<String> = labels.iter().map(|(label, count)| format!("{count} {label}")).collect();
        format!("{patient}: {}", parts.join(", "))
    });
    let two_labels = finding(Level::Warning, "patient-with-two-labels", several.collect(), |count| {
        format!("{} with images of different labels", counted(count, "patient", "patients"))
    });
    let leak = finding(Level::Leak, "patient-across-splits", across, |count| {
        format!("{} with images in more than one split", counted(count, "patient", "patients"))
    });
    leak.into_iter().chain(two_labels).collect()
}

fn identical_pixels(manifest: &Manifest, groups: &[Vec<usize>]) -> Vec<Finding> {
    let differ = |group: &[usize], of: &dyn Fn(usize) -> usize| group.iter().any(|&row| of(row) != of(group[0]));
    let line = |group: &Vec<usize>| {
        let paths: Vec<String> = group.iter().map(|&row| manifest.rows[row].path.display().to_string()).collect();
        paths.join(" = ")
    };
    let label = |row: usize| manifest.rows[row].label;
    let lines = |chosen: &dyn Fn(&[usize]) -> bool| groups.iter().filter(|group| chosen(group)).map(line).collect();
    let groups_of = |count| counted(count, "group of images", "groups of images");
    let across = finding(Level::Leak, "identical-across-splits", lines(&|g| manifest.across_splits(g)), |count| {
        format!("{} with identical pixels in different splits", groups_of(count))
    });
    let labels = finding(Level::Error, "identical-with-different-labels", lines(&|g| differ(g, &label)), |count| {
        format!("{} with identical pixels and different labels", groups_of(count))
    });
    let within = finding(Level::Warning, "identical-within-split", lines(&|g| !manifest.across_splits(g)), |count| {
        format!("{} with identical pixels within a split", groups_of(count))
    });
    across.into_iter().chain(labels).chain(within).collect()
}

/// The pairs, those across splits first, then the surest.
fn pairs(
    manifest: &Manifest,
    examination: &Examination,
    same_pixels: &[Vec<usize>],
    search: &Search,
) -> Vec<DuplicatePair> {
    let group_of: BTreeMap<usize, usize> =
        same_pixels.iter().enumerate().flat_map(|(number, rows)| rows.iter().map(move |&row| (row, number))).collect();
    let image = |row: usize| {
        let of = &manifest.rows[row];
        AuditedImage {
            path: slashed(&of.path),
            split: of.split.to_string(),
            label: manifest.classes[of.label].clone(),
            patient_id: of.patient_id.clone(),
        }
    };
    let pair = |found: &Resemblance| {
        let [first, second] = [found.first, found.second].map(|index| examination.images[index].row);
        let identical = group_of.get(&first).is_some_and(|group| group_of.get(&second) == Some(group));
        DuplicatePair {
            first: image(first),
            second: image(second),
            across_splits: manifest.across_splits(&[first, second]),
            identical,
            correlation: found.correlation,
            changes: if identical { "identical pixels".into() } else { changes(found) },
        }
    };
    let mut pairs: Vec<DuplicatePair> = search.near_duplicates.iter().map(pair).collect();
    pairs.sort_by(|a, b| b.across_splits.cmp(&a.across_splits).then(b.correlation.total_cmp(&a.correlation)));
    pairs
}

/// What turns one into the other, as far as it can be seen.
fn changes(found: &Resemblance) -> String {
    let mut words = Vec::new();
    if found.rotation_degrees >= 0.5 {
        words.push(format!("rotated by {:.1} degrees", found.rotation_degrees));
    }
    if found.area < 0.98 {
        words.push(format!("one shows {:.0} % of the other", 100.0 * found.area));
    }
    if found.mirrored {
        words.push("mirrored".into());
    }
    if found.inverted {
        words.push("inverted".into());
    }
    words.join(", ")
}

fn copies(pairs: &[DuplicatePair]) -> Vec<Finding> {
    let line = |pair: &DuplicatePair| {
        let labels = if pair.first.label == pair.second.label { "" } else { "; different labels" };
        let DuplicatePair { first, second, correlation, changes, .. } = pair;
        let changes = if changes.is_empty() { String::new() } else { format!("; {changes}") };
        format!("{} ~ {} ({correlation:.3}{changes}{labels})", first.path, second.path)
    };
    // Identical pixels have findings of their own.
    let lines = |across: bool| {
        let chosen = pairs.iter().filter(|pair| pair.across_splits == across && !pair.identical);
        chosen.map(line).collect::<Vec<_>>()
    };
    let pairs_of = |count| counted(count, "pair of images", "pairs of images");
    let across = finding(Level::Leak, "near-duplicate-across-splits", lines(true), |count| {
        format!("{} of the same exposure, altered, in different splits", pairs_of(count))
    });
    let within = finding(Level::Warning, "near-duplicate-within-split", lines(false), |count| {
        format!("{} of the same exposure, altered, within a split", pairs_of(count))
    });
    across.into_iter().chain(within).collect()
}

/// Other exposures that look like the same patient's, where the ids do not say that they are.
fn likely_one_patient(manifest: &Manifest, examination: &Examination, search: &Search) -> Vec<Finding> {
    let rows = search
        .same_patient
        .iter()
        .map(|pair| ([pair.first, pair.second].map(|index| examination.images[index].row), pair.correlation));
    let patient = |row: usize| manifest.rows[row].patient_id.as_ref();
    let open = rows.filter(|([first, second], _)| patient(*first).is_none() || patient(*first) != patient(*second));
    let (across, within): (Vec<_>, Vec<_>) = open.partition(|(pair, _)| manifest.across_splits(pair));
    let lines = |pairs: Vec<([usize; 2], f32)>| {
        let line = |(pair, correlation): &([usize; 2], f32)| {
            let [first, second] = pair.map(|row| manifest.rows[row].path.display());
            format!("{first} ~ {second} ({correlation:.3})")
        };
        pairs.iter().map(line).collect::<Vec<_>>()
    };
    let pairs_of = |count| counted(count, "pair of images", "pairs of images");
    let across = finding(Level::Warning, "likely-one-patient-across-splits", lines(across), |count| {
        format!(
            "{} in different splits that look like other exposures of one patient, against their ids or without",
            pairs_of(count)
        )
    });
    let within = finding(Level::Note, "likely-one-patient-within-split", lines(within), |count| {
        format!(
            "{} within a split that look like other exposures of one patient, against their ids or without",
            pairs_of(count)
        )
    });
    across.into_iter().chain(within).collect()
}

//! What of a mixed collection is a frontal chest radiograph.

/// Why an image is out of scope by its modality and view; `None` where it is in, or where nothing is known.
pub(crate) fn out_of_scope(modality: Option<&str>, view: Option<&str>, frontal_only: bool) -> Option<String> {
    let modality = modality.unwrap_or_default().to_lowercase();
    let view_text = view.unwrap_or_default();
    let view = view_text.to_lowercase();
    // The early covid-chestxray-dataset has CT as a view; the late one has the planes of the slices.
    if modality == "ct" || ["ct", "axial", "coronal", "sagittal"].iter().any(|plane| view.starts_with(plane)) {
        return Some("computed tomography".to_owned());
    }
    if !["", "x-ray", "xray", "x ray", "xr", "cr", "dx", "rg"].contains(&modality.as_str()) {
        return Some(format!("modality `{modality}`"));
    }
    // DICOM's view positions LL and RL are left and right laterals, LLD and RLD are decubitus: frontal.
    let lateral = matches!(view.as_str(), "l" | "ll" | "rl" | "lat" | "lao" | "rao" | "lpo" | "rpo" | "xtable lateral")
        || view.contains("lateral");
    (lateral && frontal_only).then(|| format!("view `{view_text}`"))
}

#[cfg(test)]
mod tests {
    use super::out_of_scope;

    #[test]
    fn frontal_radiographs_are_in_scope() {
        for view in ["PA", "AP", "AP Supine", "AP erect", "AP semi erect", "", "LLD"] {
            assert_eq!(out_of_scope(Some("X-ray"), Some(view), true), None, "{view}");
        }
        assert_eq!(out_of_scope(None, None, true), None);
        for (modality, view, word) in [
            ("", "CT", "tomography"),
            ("CT", "Axial", "tomography"),
            ("X-ray", "L", "view `L`"),
            ("", "LATERAL", "view"),
            ("", "Lateral", "view"),
            ("", "LL", "view"),
            ("US", "", "modality `us`"),
        ] {
            assert!(out_of_scope(Some(modality), Some(view), true).unwrap().contains(word), "{modality} {view}");
        }
        assert_eq!(out_of_scope(None, Some("L"), false), None);
        assert!(out_of_scope(None, Some("Axial"), false).is_some());
    }
}

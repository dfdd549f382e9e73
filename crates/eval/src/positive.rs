//! Which class sensitivity and specificity are about when the user does not say.

use crate::EvalError;

/// Names that say "nothing found", in the form that [`plain`] gives.
const NEGATIVE_NAMES: [&str; 3] = ["normal", "negative", "no finding"];

/// Index of the positive class, as far as the names settle it.
///
/// `infected` where it exists; else, of two classes, the one that is not `normal`, `negative` or `no finding`. Case,
/// underscores and hyphens do not matter (`No_Finding`).
///
/// # Errors
///
/// [`EvalError::NoDefaultPositive`] where the names leave it open: three classes without `infected`, two without or
/// with only negative names.
pub fn default_positive(classes: &[String]) -> Result<usize, EvalError> {
    if let Some(infected) = classes.iter().position(|name| plain(name) == "infected") {
        return Ok(infected);
    }
    let is_negative: Vec<bool> = classes.iter().map(|name| NEGATIVE_NAMES.contains(&plain(name).as_str())).collect();
    match is_negative[..] {
        [true, false] => Ok(1),
        [false, true] => Ok(0),
        _ => Err(EvalError::NoDefaultPositive { classes: classes.to_vec() }),
    }
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', '-'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positive(names: &[&str]) -> Result<usize, EvalError> {
        default_positive(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn infected_wins_in_any_company() {
        assert_eq!(positive(&["infected", "normal"]), Ok(0));
        assert_eq!(positive(&["COVID-19", "Infected", "normal"]), Ok(1));
        assert_eq!(positive(&["alpha", "INFECTED"]), Ok(1));
    }

    #[test]
    fn of_two_classes_the_one_that_is_not_negative() {
        assert_eq!(positive(&["NORMAL", "PNEUMONIA"]), Ok(1));
        assert_eq!(positive(&["negative", "positive"]), Ok(1));
        assert_eq!(positive(&["effusion", "No Finding"]), Ok(0));
        assert_eq!(positive(&["effusion", "no_finding"]), Ok(0));
    }

    #[test]
    fn what_the_names_leave_open_must_be_said() {
        for names in [&["cats", "dogs"][..], &["normal", "negative"], &["COVID-19", "normal", "pneumonia"], &["a"], &[]]
        {
            let error = positive(names).unwrap_err();
            assert!(error.to_string().contains("--positive CLASS"), "{error}");
        }
    }
}

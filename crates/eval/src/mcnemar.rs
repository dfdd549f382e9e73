//! McNemar's test: do two models err equally often on the same images?

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

/// On how many images one model is right and the other wrong, and whether that could be chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Images that the first model alone called right.
    pub only_first_right: u64,
    /// Images that the second model alone called right.
    pub only_second_right: u64,
    /// Two-sided exact p value, images taken as independent.
    pub p: f64,
}

/// McNemar's exact test (Q. McNemar, Psychometrika 12, 1947): given that the models disagree about being right, each is
/// as likely to be the one that is, if both err equally often. The p value is twice the smaller tail of the binomial
/// distribution, at most 1, which it also is where they never disagree.
pub fn mcnemar(only_first_right: u64, only_second_right: u64) -> McNemar {
    let disagreements = only_first_right + only_second_right;
    let fewer = only_first_right.min(only_second_right);
    let distribution = Binomial::new(0.5, disagreements).expect("a half is a probability");
    let p = (2.0 * distribution.cdf(fewer)).min(1.0);
    McNemar { only_first_right, only_second_right, p }
}

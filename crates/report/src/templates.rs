//! The templates of pages and pictures, compiled into the program.

use crate::ReportError;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

const STYLES: [(&str, &str); 2] =
    [("page.css", include_str!("../templates/page.css")), ("plot.css", include_str!("../templates/plot.css"))];

/// The report page.
pub(crate) const PAGE: (&str, &str) = ("page.html", include_str!("../templates/page.html"));
/// The page of an experiment.
pub(crate) const EXPERIMENT: (&str, &str) = ("experiment.html", include_str!("../templates/experiment.html"));
/// The page of an audit.
pub(crate) const AUDIT: (&str, &str) = ("audit.html", include_str!("../templates/audit.html"));
/// Lines over epochs or steps.
pub(crate) const LINE_CHART: (&str, &str) = ("line_chart.svg", include_str!("../templates/line_chart.svg"));
/// Points and their frontier.
pub(crate) const SCATTER: (&str, &str) = ("scatter.svg", include_str!("../templates/scatter.svg"));
/// The page of a search.
pub(crate) const SEARCH: (&str, &str) = ("search.html", include_str!("../templates/search.html"));
/// A model card.
pub(crate) const CARD: (&str, &str) = ("card.md", include_str!("../templates/card.md"));
/// A curve of shares against shares.
pub(crate) const UNIT_SQUARE: (&str, &str) = ("unit_square.svg", include_str!("../templates/unit_square.svg"));
/// A confusion matrix.
pub(crate) const MATRIX: (&str, &str) = ("matrix.svg", include_str!("../templates/matrix.svg"));

/// Fills a template. Whatever comes out of the context is escaped for HTML and XML, unless the template says `safe` or is
/// Markdown, where names go through the filter `name`; a value that the context lacks is an error, not an empty place.
///
/// # Errors
/// [`ReportError::Template`] where the template is wrong.
pub(crate) fn render(
    (name, source): (&'static str, &'static str),
    context: impl Serialize,
) -> Result<String, ReportError> {
    let attempt = || {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|name| match name.ends_with(".md") {
            true => AutoEscape::None,
            false => AutoEscape::Html,
        });
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.add_filter("typographic", typographic);
        environment.add_filter("name", escaped_for_markdown);
        for (style, text) in STYLES {
            environment.add_global(style.replace('.', "_"), Value::from_safe_string(text.to_owned()));
        }
        environment.add_template(name, source)?;
        environment.get_template(name)?.render(Serde(context))
    };
    attempt().map_err(|source| ReportError::Template { name, source })
}

/// The filter for sentences that were also written for a terminal: names between backticks come between quotation
/// marks.
fn typographic(sentence: String) -> String {
    if !sentence.matches('`').count().is_multiple_of(2) {
        return sentence;
    }
    let pieces = sentence.split('`').enumerate();
    pieces
        .map(|(index, piece)| if index % 2 == 1 { format!("\u{201c}{piece}\u{201d}") } else { piece.to_owned() })
        .collect()
}

/// The filter for names in Markdown: what would be read as markup, or would end a cell, is shown as it is.
fn escaped_for_markdown(name: String) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '$' | '~' => text.extend(['\\', c]),
            '\n' | '\r' => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_a_markdown_table() {
        assert_eq!(escaped_for_markdown("a|b_<c>\nd".into()), r"a\|b\_\<c\> d");
    }

    #[test]
    fn backticks_become_quotation_marks_in_pairs_alone() {
        assert_eq!(typographic("`a` or `b`".into()), "\u{201c}a\u{201d} or \u{201c}b\u{201d}");
        assert_eq!(typographic("a ` b".into()), "a ` b");
        assert_eq!(typographic("".into()), "");
    }

    #[test]
    fn what_the_context_lacks_is_an_error() {
        let error = render(
            ("test.html", "{{ there }} {{ missing }}"),
            [("there", 1)].into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        );
        assert!(matches!(error, Err(ReportError::Template { name: "test.html", .. })), "{error:?}");
    }
}

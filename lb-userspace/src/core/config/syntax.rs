//! Text to TOML tree, with every syntax error of the text in a reader's words.
//!
//! Knows nothing of sections and keys.

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::diagnostic::{Report, Span};

/// The parser gives up at such a line; the ones after it deserve to be read too.
const STOPS: &str = "key with no value";
const MOST_STOPS: usize = 20;

/// `text` is a copy: lines that stop the parser are blanked in it.
pub fn parse<'t>(text: &'t mut String, report: &mut Report<'_>) -> Spanned<DeTable<'t>> {
    for _ in 0..MOST_STOPS {
        let (_, errors) = DeTable::parse_recoverable(text);
        let stop = errors.iter().find(|error| error.message().starts_with(STOPS));
        let Some(span) = stop.and_then(Error::span) else { break };
        let line = report.line(span.start);
        report.damaged_line(
            &span,
            "the key has no value".to_owned(),
            Some("write key = value".to_owned()),
        );
        let blank = " ".repeat(line.len());
        text.replace_range(line, &blank);
    }
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    for error in &errors {
        explain(error, text, report);
    }
    tree
}

fn explain(error: &Error, text: &str, report: &mut Report<'_>) {
    let span = error.span().unwrap_or(0..0);
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let scalar = unquoted(text, &span);
    match (what, expected) {
        ("duplicate key", _) => {
            let key = text.get(span.clone()).unwrap_or_default();
            report.error(
                &span,
                format!("`{key}` is given twice"),
                "remove one of them".to_owned(),
            );
        }
        ("string values must be quoted", _) if scalar.is_empty() => {
            report.damaged_value(
                &span,
                "the value is missing".to_owned(),
                Some("write key = value".to_owned()),
            );
        }
        (_, Some("literal string" | "nothing")) if !scalar.is_empty() => {
            let value = &text[scalar.clone()];
            let hint = format!("write {value:?}");
            report.damaged_value(&scalar, format!("`{value}` needs quotes"), Some(hint));
        }
        (_, Some(expected)) => report.damaged_line(&span, what.to_owned(), Some(format!("expected {expected}"))),
        (_, None) => report.damaged_line(&span, what.to_owned(), None),
    }
}

/// The whole value that has no quotes, of which the parser may mark a part only.
fn unquoted(text: &str, span: &Span) -> Span {
    let ends = |c: char| c.is_whitespace() || "=,[]{}#\"'".contains(c);
    let (before, after) = (
        text.get(..span.start).unwrap_or_default(),
        text.get(span.end..).unwrap_or_default(),
    );
    let start = before
        .rfind(ends)
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let end = span.end + after.find(ends).unwrap_or(after.len());
    start..end
}

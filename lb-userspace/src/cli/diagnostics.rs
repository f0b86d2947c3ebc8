//! How diagnostics look: plain lines for files and pipes, with the line of the file for people at a terminal.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::complain;
use crate::core::config::{Diagnostic, Severity};

/// Bytes of a line.
const LONGEST_SHOWN: usize = 1000;

/// To standard error. The first line of each is always `file:line:column what is wrong`.
pub fn print(diagnostics: &[Diagnostic], text: &str) {
    let is_terminal = std::io::stderr().is_terminal();
    for diagnostic in diagnostics {
        match is_terminal && is_short(diagnostic, text) {
            true => complain(fancy(diagnostic, text, GraphicalTheme::default())),
            false => complain(diagnostic),
        }
    }
}

/// Whether the line can be shown: nobody reads one of thousands of characters.
fn is_short(diagnostic: &Diagnostic, text: &str) -> bool {
    let line = text.lines().nth(diagnostic.line - 1);
    line.is_none_or(|line| line.len() <= LONGEST_SHOWN)
}

fn fancy(diagnostic: &Diagnostic, text: &str, theme: GraphicalTheme) -> String {
    let style = match diagnostic.severity {
        Severity::Error => theme.styles.error,
        Severity::Warning => theme.styles.warning,
    };
    let shown = Shown {
        diagnostic,
        source: NamedSource::new(&diagnostic.file, text.to_owned()),
    };
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_wrap_lines(false);
    handler
        .render_report(&mut out, &shown)
        .expect("a String takes every write");
    // Its own first line is replaced: it has neither file nor position.
    let (_, snippet) = out.split_once('\n').unwrap_or_default();
    let mut with_headline = String::new();
    write!(with_headline, "{}\n{snippet}", style.style(diagnostic.headline())).expect("a String takes every write");
    with_headline
}

#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: NamedSource<String>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.hint.as_ref()?))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(None, self.diagnostic.span.clone());
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::parse;

    #[test]
    fn a_line_that_nobody_could_read_is_not_shown() {
        let is_short = |length: usize| {
            let text = format!("[node]\nname = {}\n", "x".repeat(length));
            let errors = parse("naru.toml", &text).unwrap_err();
            super::is_short(&errors[0], &text)
        };
        assert!(is_short(100));
        assert!(!is_short(100_000));
    }

    #[test]
    fn a_terminal_sees_the_headline_the_line_and_the_hint() {
        let text = "[service.web]\nlisten = \"198.18.0.100\"\nbackends = [\"198.18.1.11:80\"]\n";
        let errors = parse("naru.toml", text).unwrap_err();
        let shown = fancy(&errors[0], text, GraphicalTheme::unicode_nocolor());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[0],
            "naru.toml:2:10 service \"web\": listen: \"198.18.0.100\" has no port"
        );
        assert!(
            lines.iter().any(|line| line.contains("listen = \"198.18.0.100\"")),
            "{shown}"
        );
        assert!(
            lines.iter().any(|line| line.contains("such as \"198.18.0.100:80\"")),
            "{shown}"
        );
    }
}

//! What is wrong in a file, where, and what to do about it.
//!
//! It never decides what is wrong, and never prints.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::syntax::Repaired;

/// Bytes of the file.
pub type Span = Range<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub file: String,
    /// Line and column begin at 1; a column is a character.
    pub line: usize,
    pub column: usize,
    pub severity: Severity,
    /// Names the object first: `service "web": every weight is 0, so nobody would serve it`.
    pub message: String,
    pub hint: Option<String>,
    #[serde(skip)]
    pub span: Span,
}

impl Diagnostic {
    /// `naru.toml:14:11 service "web": …`
    pub fn placed(&self) -> String {
        format!("{}:{}:{} {}", self.file, self.line, self.column, self.message)
    }

    /// The line everybody sees first; editors and grep know its shape.
    pub fn headline(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        format!("{}:{}:{} {severity}{}", self.file, self.line, self.column, self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The diagnostics of one file, as they are found.
///
/// Spans are those of the repaired text; what goes out is of the file.
pub struct Report<'a> {
    file: &'a str,
    repaired: &'a Repaired,
    line_starts: Vec<usize>,
    diagnostics: Vec<Diagnostic>,
    /// What could not be read as TOML, by its start: nothing more is said about it.
    damage: BTreeMap<usize, Damage>,
}

struct Damage {
    end: usize,
    /// A key may be lost here; else only its value is in doubt.
    loses_keys: bool,
}

impl<'a> Report<'a> {
    pub fn new(file: &'a str, repaired: &'a Repaired) -> Self {
        let line_ends = repaired.text.match_indices('\n');
        let line_starts = std::iter::once(0).chain(line_ends.map(|(at, _)| at + 1)).collect();
        Self {
            file,
            repaired,
            line_starts,
            diagnostics: Vec::new(),
            damage: BTreeMap::new(),
        }
    }

    pub fn error(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        if !self.is_damaged(span.start) {
            let error = self.diagnostic(Severity::Error, span, message.into(), hint.into());
            self.diagnostics.push(error);
        }
    }

    pub fn warning(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let warning = self.diagnostic(Severity::Warning, span, message.into(), hint.into());
        self.diagnostics.push(warning);
    }

    /// A value that was understood although it is not TOML.
    pub fn damaged_value(&mut self, span: &Span, message: String, hint: Option<String>) {
        self.error(span, message, hint);
        self.damage.insert(
            span.start,
            Damage {
                end: span.end.max(span.start + 1),
                loses_keys: false,
            },
        );
    }

    /// A line that was not understood.
    pub fn damaged_line(&mut self, span: &Span, message: String, hint: Option<String>) {
        self.error(span, message, hint);
        let line = self.line(span.start);
        self.damage.insert(
            line.start,
            Damage {
                end: line.end + 1,
                loses_keys: true,
            },
        );
    }

    /// Whether a key that seems to be missing in this section may stand in a damaged line.
    pub fn may_have_lost_keys(&self, header: &Span) -> bool {
        let rest = self.repaired.text.get(header.end..).unwrap_or_default();
        let end = rest.find("\n[").map_or(self.repaired.text.len(), |at| header.end + at);
        self.damage
            .range(header.start..=end)
            .any(|(_, damage)| damage.loses_keys)
    }

    pub fn diagnostic(&self, severity: Severity, span: &Span, message: String, hint: Option<String>) -> Diagnostic {
        let (line, column) = self.position(span.start);
        Diagnostic {
            file: self.file.to_owned(),
            line,
            column,
            severity,
            message,
            hint,
            span: span.start - self.inserted(0..span.start)..span.end - self.inserted(0..span.end),
        }
    }

    /// `12:10`, to speak of another place of the same file.
    pub fn place(&self, span: &Span) -> String {
        let (line, column) = self.position(span.start);
        format!("{line}:{column}")
    }

    /// The line around a byte, without its end.
    fn line(&self, at: usize) -> Span {
        let line = self.line_starts.partition_point(|start| *start <= at);
        let end = self
            .line_starts
            .get(line)
            .map_or(self.repaired.text.len(), |next| next - 1);
        self.line_starts[line - 1]..end
    }

    /// Looking for the nearest name costs time; a file with this many errors is not helped by it.
    pub fn wants_suggestions(&self) -> bool {
        self.diagnostics.len() < 100
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Error)
    }

    /// In the file's order.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|found| found.span.start);
        self.diagnostics
    }

    fn is_damaged(&self, at: usize) -> bool {
        self.damage
            .range(..=at)
            .next_back()
            .is_some_and(|(_, damage)| at < damage.end)
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= at);
        let start = self.line_starts[line - 1];
        let before = self.repaired.text.get(start..at).unwrap_or_default();
        (line, before.chars().count() - self.inserted(start..at) + 1)
    }

    /// How many bytes, each a character, are not in the file.
    fn inserted(&self, span: Span) -> usize {
        let insertions = self.repaired.insertions.iter();
        let inserted = insertions.filter(|insertion| insertion.at >= span.start && insertion.at < span.end);
        inserted.map(|insertion| insertion.token.len()).sum()
    }
}

/// How the object a section describes is called: `service "web"`, `[node]`.
pub fn subject(section: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{section} {name:?}"),
        None => format!("[{section}]"),
    }
}

/// `did you mean` where one of the names is near, else all that there are.
pub fn suggest<'a>(
    report: &Report<'_>,
    wrong: &str,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<String> {
    if !report.wants_suggestions() {
        return None;
    }
    let names: Vec<&str> = names.collect();
    match nearest(wrong, &names) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if names.is_empty() => None,
        None if names.len() <= 20 => Some(format!("{what}: {}", names.join(", "))),
        None => Some(format!(
            "{what}: {} and {} more",
            names[..20].join(", "),
            names.len() - 20
        )),
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let length = wrong.chars().count();
    let (distance, name) = names
        .iter()
        .map(|name| (strsim::osa_distance(wrong, name), *name))
        .min()?;
    (distance < length && distance <= 1.max(length / 3)).then_some(name)
}

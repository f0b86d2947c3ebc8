//! What the file may say although this version of Naru cannot do it yet: one row for each.
//!
//! Building a capability ends with removing its row.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Report, Span};
use super::reader::NAMED_SECTIONS;

struct Row {
    section: &'static str,
    /// Begins the sentence.
    what: &'static str,
}

const ROWS: &[Row] = &[Row {
    section: "web",
    what: "the status pages are",
}];

pub fn check(root: &DeTable<'_>, report: &mut Report<'_>) {
    for row in ROWS {
        let Some(section) = root.get(row.section) else { continue };
        for (name, section) in instances(row.section, section) {
            let who = match name {
                Some(name) => format!("[{}.{name}]", row.section),
                None => format!("[{}]", row.section),
            };
            complain(&section.span(), &who, row.what, report);
        }
    }
}

/// The section itself, or those of its name where there are many.
fn instances<'t, 'i>(
    section: &str,
    value: &'t Spanned<DeValue<'i>>,
) -> Vec<(Option<&'t str>, &'t Spanned<DeValue<'i>>)> {
    if !NAMED_SECTIONS.contains(&section) {
        return vec![(None, value)];
    }
    let named = value.get_ref().as_table().into_iter().flatten();
    named
        .map(|(name, value)| (Some(name.get_ref().as_ref()), value))
        .collect()
}

fn complain(span: &Span, who: &str, what: &str, report: &mut Report<'_>) {
    report.error(
        span,
        format!("{who}: {what} not available in this version of Naru yet; remove it to run"),
        None,
    );
}

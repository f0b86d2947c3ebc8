//! Weights by the name of a backend, in a service and in an alarm: whose they are, and whether anybody is left.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Report, suggest};
use super::file;
use super::reader::{At, Field};
use super::shapes::{List, Weights};
use super::values::{self, Member};

/// The names weights and alarms may use, or None where one of them could not be read.
pub fn member_names(service: &file::Service) -> Option<BTreeSet<String>> {
    let named = |field: &Field<List<Member>>| match field {
        Field::Wrong => None,
        Field::Absent => Some(Vec::new()),
        Field::Given(list) => Some(list.value.0.iter().map(|member| member.value.to_string()).collect()),
    };
    Some(
        named(&service.backends)?
            .into_iter()
            .chain(named(&service.backup)?)
            .collect(),
    )
}

/// Complains about names that are not backends of the service, and about weights that leave nobody: those not named here
/// have the one in `others`, else 1.
pub fn check_weights(
    who: &str,
    weights: &At<Weights>,
    names: &BTreeSet<String>,
    others: &BTreeMap<String, Option<u16>>,
    report: &mut Report<'_>,
) {
    for weight in &weights.value.0 {
        let name = &weight.backend;
        if !names.contains(&canonical(&name.value)) {
            let hint = suggest(report, &name.value, "its backends", names.iter().map(String::as_str));
            let message = format!(
                "{who}: weights names {:?}, which is not one of its backends",
                name.value
            );
            report.error(&name.span, message, hint);
        }
    }
    let given = by_name(&weights.value);
    let is_zero = |name: &String| given.get(name).or_else(|| others.get(name)) == Some(&Some(0));
    if !given.is_empty() && !names.is_empty() && names.iter().all(is_zero) {
        let hint = "give at least one backend a weight of 1 or more".to_owned();
        report.error(
            &weights.span,
            format!("{who}: every weight is 0, so nobody would serve it"),
            hint,
        );
    }
}

/// Warns of a service that those for backup serve for good, since no other has a weight.
pub fn warn_backup_alone(who: &str, service: &file::Service, report: &mut Report<'_>) {
    let (Some(weights), Some(backends), Some(backup)) = (
        service.weights.given(),
        service.backends.value(),
        service.backup.value(),
    ) else {
        return;
    };
    let given = by_name(&weights.value);
    let mut names = backends.0.iter().map(|member| member.value.to_string());
    if !backup.0.is_empty() && names.all(|name| given.get(&name) == Some(&Some(0))) {
        report.warning(
            &weights.span,
            format!("{who}: every weight but those of `backup` is 0, so only `backup` serves it"),
            "give one of `backends` a weight of 1 or more".to_owned(),
        );
    }
}

/// A weight that could not be read is None.
pub fn by_name(weights: &Weights) -> BTreeMap<String, Option<u16>> {
    weights
        .0
        .iter()
        .map(|weight| (canonical(&weight.backend.value), weight.weight))
        .collect()
}

/// An address may be written in more than one way.
fn canonical(name: &str) -> String {
    values::member(name).map_or_else(|_| name.to_owned(), |member| member.to_string())
}

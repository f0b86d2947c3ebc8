//! Whether an alarm fits its service, and the `Config` of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::diagnostic::{Report, suggest};
use super::file::{self, File, Missing};
use super::values::Datapoints;
use super::weights::{by_name, check_weights, member_names};

/// Counters are read this often.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

const PERIOD: Duration = Duration::from_secs(10);
const DATAPOINTS: Datapoints = Datapoints { ringing: 2, of: 3 };
const CLEAR_AFTER: Duration = Duration::from_secs(60);
const RAMP: Duration = Duration::from_secs(30);

pub fn check_fits(who: &str, alarm: &file::Alarm, file: &File, report: &mut Report<'_>) {
    if let Some(period) = alarm.period.given().filter(|period| period.value < SHORTEST_PERIOD) {
        let hint = "\"1s\" is the shortest: counters are read each second".to_owned();
        report.error(&period.span, format!("{who}: this period is too short"), hint);
    }
    let Some(service) = watched(alarm, file) else { return };
    let Some(names) = member_names(service) else { return };
    if let Some(backend) = alarm.backend.given()
        && !names.contains(&backend.value.to_string())
    {
        let name = backend.value.to_string();
        let hint = suggest(report, &name, "its backends", names.iter().map(String::as_str));
        report.error(
            &backend.span,
            format!("{who}: {name:?} is not a backend of the service"),
            hint,
        );
    }
    if let Some(weights) = alarm.weights.given() {
        let others = service.weights.value().map(by_name).unwrap_or_default();
        check_weights(who, weights, &names, &others, report);
    }
}

/// None where something is wrong; that has been reported.
pub fn alarms(file: &File) -> Option<BTreeMap<String, super::Alarm>> {
    let sections = file.alarm.value().into_iter().flat_map(|sections| &sections.0);
    sections
        .map(|(name, alarm)| Some((name.clone(), build(alarm.value()?)?)))
        .collect()
}

fn watched<'a>(alarm: &file::Alarm, file: &'a File) -> Option<&'a file::Service> {
    file.service.value()?.0.get(&alarm.service.value()?.0)?.value()
}

fn build(alarm: &file::Alarm) -> Option<super::Alarm> {
    let weights = by_name(alarm.weights.value()?).into_iter();
    Some(super::Alarm {
        service: alarm.service.value()?.0.clone(),
        backend: alarm.backend.value().map(ToString::to_string),
        metric: *alarm.metric.value()?,
        above: *alarm.above.value()?,
        period: alarm.period.value().copied().unwrap_or(PERIOD),
        datapoints: alarm.datapoints.value().copied().unwrap_or(DATAPOINTS),
        missing: alarm.missing.value().copied().unwrap_or(Missing::Ok),
        weights: weights
            .map(|(name, weight)| Some((name, weight?)))
            .collect::<Option<_>>()?,
        clear_after: alarm.clear_after.value().copied().unwrap_or(CLEAR_AFTER),
        ramp: alarm.ramp.value().copied().unwrap_or(RAMP),
    })
}

//! Checks: whether one fits together, and the `Check` of a service.
//!
//! What the answers mean for a backend is for `core::health`; asking is for `io::probes`.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Protocol;
use super::diagnostic::{Report, Span};
use super::file::{self, CheckType, File, Role};
use super::reader::{At, Field};
use super::values::{Name, Routed};

/// Of a connection, and of all there is to a `tcp` check: a path that loses a packet takes a second to notice.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(150);
const DATABASE_TIMEOUT: Duration = Duration::from_millis(500);
/// A server may collect garbage for most of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(200);
/// A process costs more than a packet.
const EVERY_EXEC: Duration = Duration::from_secs(2);
const FALL: u32 = 3;
const RISE: u32 = 2;

/// How the backends of a service are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub ask: Ask,
    /// Instead of the backend's own.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub every: Duration,
    /// For the whole, from the first packet on.
    pub timeout: Duration,
    /// Never longer than `timeout`.
    pub connect_timeout: Duration,
    pub fall: u32,
    pub rise: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Tcp,
    Http(Http),
    Postgres(Database),
    Mysql(Database),
    /// The program and its arguments.
    Exec(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    pub method: String,
    pub path: String,
    pub host: Option<String>,
    pub headers: Vec<(String, String)>,
    pub expect: Vec<RangeInclusive<u16>>,
    /// Text that the beginning of the answer must contain.
    pub body: Option<String>,
    /// For https.
    pub tls: Option<Tls>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub verify: bool,
    /// None: those the system trusts.
    pub ca: Option<PathBuf>,
    /// None: the host, or the address that is asked.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// None: either will do.
    pub role: Option<Role>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub database: Option<String>,
    pub max_lag: Option<Duration>,
    pub tls: Option<Tls>,
}

/// `http GET /healthz`.
impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = |f: &mut fmt::Formatter<'_>, kind: &str, database: &Database| match database.role {
            Some(Role::Primary) => write!(f, "{kind}, must be primary"),
            Some(Role::Replica) => write!(f, "{kind}, must be replica"),
            None => f.write_str(kind),
        };
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Http(Http { method, path, tls, .. }) => {
                let kind = if tls.is_some() { "https" } else { "http" };
                write!(f, "{kind} {method} {path}")
            }
            Self::Postgres(settings) => database(f, "postgres", settings),
            Self::Mysql(settings) => database(f, "mysql", settings),
            Self::Exec(command) => write!(f, "exec {}", command.join(" ")),
        }
    }
}

impl Check {
    /// Of a service whose file names none. Nothing can be known of UDP by asking for nothing in particular.
    pub fn implied(protocol: Protocol) -> Option<Self> {
        (protocol == Protocol::Tcp).then(|| build(CheckType::Tcp, &file::Check::default()))
    }
}

/// The check of a service. None: an error was reported.
pub fn check_of(service: &file::Service, protocol: Protocol, file: &File) -> Option<Option<Check>> {
    let Name(name) = match &service.check {
        Field::Absent => return Some(Check::implied(protocol)),
        field => field.value()?,
    };
    let check = file.check.value()?.0.get(name)?.value()?;
    Some(Some(build(*check.r#type.value()?, check)))
}

fn build(kind: CheckType, check: &file::Check) -> Check {
    let (every, timeout) = match kind {
        CheckType::Tcp => (EVERY, CONNECT_TIMEOUT),
        CheckType::Http | CheckType::Https => (EVERY, ANSWER_TIMEOUT),
        CheckType::Postgres | CheckType::Mysql => (EVERY, DATABASE_TIMEOUT),
        CheckType::Exec => (EVERY_EXEC, ANSWER_TIMEOUT),
    };
    let every = check.every.value().copied().unwrap_or(every);
    let timeout = check.timeout.value().copied().unwrap_or(timeout);
    let connect_timeout = check.connect_timeout.value().copied().unwrap_or(match kind {
        CheckType::Tcp => timeout,
        _ => CONNECT_TIMEOUT,
    });
    let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Check {
        ask: ask(kind, check),
        address: check.address.value().map(|Routed(address)| *address),
        port: check.port.value().and_then(|port| u16::try_from(port.0).ok()),
        every,
        timeout,
        connect_timeout: connect_timeout.min(timeout),
        fall: check.fall.value().map_or(FALL, |fall| count(fall.0)),
        rise: check.rise.value().map_or(RISE, |rise| count(rise.0)),
    }
}

fn ask(kind: CheckType, check: &file::Check) -> Ask {
    match kind {
        CheckType::Tcp => Ask::Tcp,
        CheckType::Http => Ask::Http(http(check, None)),
        CheckType::Https => Ask::Http(http(check, Some(tls(check)))),
        CheckType::Postgres => Ask::Postgres(database(check)),
        CheckType::Mysql => Ask::Mysql(database(check)),
        CheckType::Exec => Ask::Exec(check.command.value().map(|list| texts(&list.0)).unwrap_or_default()),
    }
}

fn texts(list: &[At<String>]) -> Vec<String> {
    list.iter().map(|text| text.value.clone()).collect()
}

fn http(check: &file::Check, tls: Option<Tls>) -> Http {
    let text = |field: &Field<String>| field.value().cloned();
    let headers = check.headers.value().into_iter().flat_map(|headers| &headers.0);
    let expect = check
        .expect
        .value()
        .map(|list| list.0.iter().map(|at| at.value.0.clone()).collect());
    Http {
        method: text(&check.method).unwrap_or_else(|| "GET".to_owned()),
        path: text(&check.path).unwrap_or_else(|| "/".to_owned()),
        host: text(&check.host),
        headers: headers
            .filter_map(|(name, value)| Some((name.value.clone(), value.value()?.clone())))
            .collect(),
        expect: expect.unwrap_or_else(|| vec![200..=399]),
        body: text(&check.body),
        tls,
    }
}

fn tls(check: &file::Check) -> Tls {
    Tls {
        verify: check.verify.value().copied().unwrap_or(true),
        ca: check.ca.value().cloned(),
        server_name: check.server_name.value().cloned(),
    }
}

fn database(check: &file::Check) -> Database {
    Database {
        role: check.role.value().copied(),
        user: check.user.value().cloned(),
        password_file: check.password_file.value().cloned(),
        database: check.database.value().cloned(),
        max_lag: check.max_lag.value().copied(),
        tls: check.tls.value().copied().unwrap_or(false).then(|| tls(check)),
    }
}

/// Complains about what cannot be asked, or can be by other types only.
pub fn check_fits(who: &str, check: &At<file::Check>, report: &mut Report<'_>) {
    let At { value: check, span } = check;
    check_times(who, check, report);
    check_request(who, check, report);
    let Some(&kind) = check.r#type.value() else { return };
    check_keys(who, kind, check, report);
    if kind == CheckType::Exec && check.command.is_absent() && !report.may_have_lost_keys(span) {
        let hint = "add command = [\"/usr/local/bin/check\"]".to_owned();
        report.error(span, format!("{who}: `command` is missing"), hint);
    }
    if let Some(program) = check.command.value().and_then(|list| list.0.first())
        && !program.value.starts_with('/')
    {
        let message = format!("{who}: command: {:?} is not an absolute path", program.value);
        report.error(&program.span, message, "begin it with /".to_owned());
    }
}

fn check_times(who: &str, check: &file::Check, report: &mut Report<'_>) {
    // A server may answer late and still be up; a connection that takes longer than that has lost a packet.
    let connecting = check.r#type.value() == Some(&CheckType::Tcp);
    if let (Some(every), Some(timeout), true) = (check.every.value(), check.timeout.given(), connecting)
        && *every < timeout.value
    {
        let hint = "a timeout is at most `every`".to_owned();
        report.error(&timeout.span, format!("{who}: timeout is longer than every"), hint);
    }
    if let (Some(timeout), Some(connect)) = (check.timeout.value(), check.connect_timeout.given())
        && *timeout < connect.value
    {
        let hint = "the timeout is for the whole check".to_owned();
        report.error(
            &connect.span,
            format!("{who}: connect_timeout is longer than timeout"),
            hint,
        );
    }
}

/// What would break the request apart.
fn check_request(who: &str, check: &file::Check, report: &mut Report<'_>) {
    let is_token = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        !text.is_empty() && text.chars().all(fits)
    };
    let is_line = |text: &str| text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if let Some(method) = check.method.given().filter(|method| !is_token(&method.value)) {
        let message = format!("{who}: method: {:?} is not a method", method.value);
        report.error(&method.span, message, "such as \"GET\" or \"HEAD\"".to_owned());
    }
    let is_path = |path: &str| path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if let Some(path) = check.path.given().filter(|path| !is_path(&path.value)) {
        let message = format!("{who}: path: {:?} is not a path", path.value);
        let hint = "begin it with /, and write what is not ASCII as %XX".to_owned();
        report.error(&path.span, message, hint);
    }
    let is_host = |host: &str| !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && c != '/');
    for (key, field) in [("host", &check.host), ("server_name", &check.server_name)] {
        if let Some(host) = field.given().filter(|host| !is_host(&host.value)) {
            let message = format!("{who}: {key}: {:?} is not a host name", host.value);
            report.error(&host.span, message, "such as \"app.example\"".to_owned());
        }
    }
    for (name, value) in check.headers.value().into_iter().flat_map(|headers| &headers.0) {
        if !is_token(&name.value) {
            report.error(
                &name.span,
                format!("{who}: headers: {:?} is not a header", name.value),
                None,
            );
        } else if let Some(value) = value.given().filter(|value| !is_line(&value.value)) {
            let message = format!("{who}: headers: {:?} cannot be sent", value.value);
            report.error(&value.span, message, "one line of ASCII".to_owned());
        }
    }
}

fn check_keys(who: &str, kind: CheckType, check: &file::Check, report: &mut Report<'_>) {
    let http = matches!(kind, CheckType::Http | CheckType::Https);
    let database = matches!(kind, CheckType::Postgres | CheckType::Mysql);
    let (https, tls) = (kind == CheckType::Https, kind == CheckType::Https || database);
    const HTTP: &str = "http and https";
    const DATABASE: &str = "postgres and mysql";
    let keys = [
        ("method", span(&check.method), http, HTTP),
        ("path", span(&check.path), http, HTTP),
        ("host", span(&check.host), http, HTTP),
        ("headers", span(&check.headers), http, HTTP),
        ("expect", span(&check.expect), http, HTTP),
        ("body", span(&check.body), http, HTTP),
        ("tls", span(&check.tls), database, DATABASE),
        ("verify", span(&check.verify), tls, "https, postgres and mysql"),
        ("ca", span(&check.ca), tls, "https, postgres and mysql"),
        (
            "server_name",
            span(&check.server_name),
            tls,
            "https, postgres and mysql",
        ),
        ("role", span(&check.role), database, DATABASE),
        ("user", span(&check.user), database, DATABASE),
        ("password_file", span(&check.password_file), database, DATABASE),
        ("database", span(&check.database), database, DATABASE),
        ("max_lag", span(&check.max_lag), database, DATABASE),
        ("command", span(&check.command), kind == CheckType::Exec, "exec"),
        ("address", span(&check.address), kind != CheckType::Exec, "all but exec"),
        ("port", span(&check.port), kind != CheckType::Exec, "all but exec"),
        (
            "connect_timeout",
            span(&check.connect_timeout),
            kind != CheckType::Exec,
            "all but exec",
        ),
    ];
    for (key, span, belongs, kinds) in keys {
        if let (Some(span), false) = (span, belongs) {
            let message = format!("{who}: a check of this type has no {key}");
            report.error(span, message, format!("it is for {kinds}"));
        }
    }
    let encrypted = https || !matches!(check.tls.value(), Some(false) | None) || !database;
    for (key, span) in [
        ("verify", span(&check.verify)),
        ("ca", span(&check.ca)),
        ("server_name", span(&check.server_name)),
    ] {
        if let (Some(span), false) = (span, encrypted) {
            report.error(span, format!("{who}: {key} without TLS"), "add tls = true".to_owned());
        }
    }
    let trusts_all = check.verify.value() == Some(&false);
    if let (Some(ca), true) = (span(&check.ca), trusts_all) {
        let hint = "remove one of them".to_owned();
        report.error(
            ca,
            format!("{who}: ca names whom to trust, and verify = false trusts everybody"),
            hint,
        );
    }
}

fn span<T>(field: &Field<T>) -> Option<&Span> {
    field.given().map(|at| &at.span)
}

//! PostgreSQL: logs in, and asks whether it is in recovery, on which timeline, and how far behind.
//!
//! A user without any privilege may ask all of it. Tested in the lab, with real servers.

use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use tokio::task::spawn_blocking;

use super::course::{Course, words};
use super::database::{Session, Standing, Target};
use super::wire::{MOST_BYTES, Wire};
use crate::core::config::Role;
use crate::core::health::observation::{Code, Failure, Phase};

/// Of a primary the timeline, out of the name of the file it writes to: its control file tells of the promotion minutes
/// later. Of a replica whether somebody sends to it and it has replayed all it got, and when its last transaction was.
const ALL: &str = "SELECT pg_is_in_recovery(), \
    CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() \
        AND EXISTS (SELECT FROM pg_stat_wal_receiver) END, \
    CASE WHEN pg_is_in_recovery() THEN extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END";
/// Of those that only speak like PostgreSQL.
const ROLE_ONLY: &str = "SELECT pg_is_in_recovery(), NULL, NULL, NULL";

const DATABASE: &str = "postgres";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

pub struct Postgres {
    wire: Wire,
}

impl Session for Postgres {
    type Waiting = ();

    async fn open(target: &Target, (): &mut (), course: &mut Course) -> Result<Self, Failure> {
        let password = target.password(course).await?;
        let mut postgres = Self {
            wire: Wire::connect(target.address, course).await?,
        };
        postgres.encrypt(target, course).await?;
        course.enter(Phase::Login);
        postgres.log_in(target, password.as_deref()).await?;
        Ok(postgres)
    }

    async fn ask(&mut self, target: &mut Target) -> Result<Standing, Failure> {
        self.wire.renew();
        if target.knows_role_only {
            return self.query(ROLE_ONLY).await;
        }
        match self.query(ALL).await {
            // Not supported, not defined, not permitted.
            Err(failure) if has_code(&failure, &["0A000", "42883", "42501"]) => {
                target.knows_role_only = true;
                self.query(ROLE_ONLY).await
            }
            answer => answer,
        }
    }

    fn is_full(failure: &Failure) -> bool {
        has_code(failure, &["53300"])
    }
}

impl Postgres {
    async fn encrypt(&mut self, target: &Target, course: &mut Course) -> Result<(), Failure> {
        let Some(tls) = &target.settings.tls else { return Ok(()) };
        course.enter(Phase::Tls);
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        self.wire.send(&request).await?;
        match self.wire.take(1).await?[0] {
            b'S' => self.wire.encrypt(tls, target.address, course).await,
            b'N' => Err(Failure::new("the server does not speak TLS: set its `ssl`")),
            _ => Err(not_postgres("no answer to a request for TLS")),
        }
    }

    async fn log_in(&mut self, target: &Target, password: Option<&[u8]>) -> Result<(), Failure> {
        let user = target.user();
        let database = target.settings.database.as_deref().unwrap_or(DATABASE);
        let parameters = [("user", user), ("database", database), ("application_name", "naru")];
        self.say(|out| frontend::startup_message(parameters, out)).await?;
        let mut scram = None;
        loop {
            match self.message().await? {
                Message::AuthenticationOk => self.wire.logged_in(TERMINATE),
                Message::AuthenticationCleartextPassword if self.wire.is_encrypted() => {
                    let password = needed(password, target)?;
                    self.say(|out| frontend::password_message(password, out)).await?;
                }
                Message::AuthenticationCleartextPassword => {
                    return Err(Failure::new(
                        "the server asks for the password in the clear: set tls = true",
                    ));
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), needed(password, target)?, body.salt());
                    self.say(|out| frontend::password_message(hash.as_bytes(), out)).await?;
                }
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<&str> = body.mechanisms().collect().map_err(not_postgres)?;
                    if !offered.contains(&SCRAM_SHA_256) {
                        return Err(Failure::new(format!(
                            "the server wants to be logged in to by {offered:?} only"
                        )));
                    }
                    let begun = ScramSha256::new(needed(password, target)?, ChannelBinding::unsupported());
                    self.say(|out| frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), out))
                        .await?;
                    scram = Some(begun);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let begun = scram.take().ok_or_else(|| not_postgres("SCRAM out of order"))?;
                    let proven = prove(begun, body.data().to_vec()).await?;
                    self.say(|out| frontend::sasl_response(proven.message(), out)).await?;
                    scram = Some(proven);
                }
                Message::AuthenticationSaslFinal(body) => {
                    let scram = scram.as_mut().ok_or_else(|| not_postgres("SCRAM out of order"))?;
                    let unproven = |_| Failure::new("the server does not know the password itself");
                    scram.finish(body.data()).map_err(unproven)?;
                }
                Message::ErrorResponse(body) => return Err(refused(&body, target)),
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::NoticeResponse(_) => {}
                _ => return Err(not_postgres("another message than a login has")),
            }
        }
    }

    async fn query(&mut self, text: &str) -> Result<Standing, Failure> {
        self.say(|out| frontend::query(text, out)).await?;
        let mut answer = Err(not_postgres("no row"));
        loop {
            match self.message().await? {
                Message::DataRow(row) => answer = standing(&row),
                Message::ErrorResponse(body) => answer = Err(told(&body)),
                Message::ReadyForQuery(_) => return answer,
                _ => {}
            }
        }
    }

    async fn say(&mut self, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        write(&mut out).map_err(|error| Failure::new(error.to_string()))?;
        self.wire.send(&out).await
    }

    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            let received = self.wire.received();
            // Before room is made for as much as it says.
            if let Some(header) = Header::parse(received).map_err(not_postgres)?
                && usize::try_from(header.len()).map_or(true, |length| length > MOST_BYTES)
            {
                return Err(not_postgres(format!("a message of {} bytes", header.len())));
            }
            if let Some(message) = Message::parse(received).map_err(not_postgres)? {
                return Ok(message);
            }
            self.wire.receive().await?;
        }
    }
}

/// The server says how much work this is, up to a tenth of a second of a core: not for the event loop.
async fn prove(mut scram: ScramSha256, challenge: Vec<u8>) -> Result<ScramSha256, Failure> {
    let work = spawn_blocking(move || scram.update(&challenge).map(|()| scram));
    let proven = work.await.map_err(|error| Failure::new(error.to_string()))?;
    proven.map_err(not_postgres)
}

fn needed<'a>(password: Option<&'a [u8]>, target: &Target) -> Result<&'a [u8], Failure> {
    let wanted = || {
        format!(
            "the server wants a password of {}: {}",
            target.user(),
            target.where_the_password_is()
        )
    };
    password.ok_or_else(|| Failure::new(wanted()))
}

fn standing(row: &DataRowBody) -> Result<Standing, Failure> {
    let ranges: Vec<_> = row.ranges().collect().map_err(not_postgres)?;
    let texts = ranges
        .into_iter()
        .map(|range| str::from_utf8(&row.buffer()[range?]).ok());
    let texts: [Option<&str>; 4] = texts
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| not_postgres("another row"))?;
    let [in_recovery, timeline, caught_up, lag] = texts;
    Ok(Standing {
        role: match in_recovery {
            Some("t") => Role::Replica,
            Some("f") => Role::Primary,
            _ => return Err(not_postgres("neither in recovery nor not")),
        },
        timeline: timeline.and_then(|hexadecimal| u32::from_str_radix(hexadecimal, 16).ok()),
        caught_up: caught_up == Some("t"),
        lag: lag.and_then(|seconds| Duration::try_from_secs_f64(seconds.parse::<f64>().ok()?.max(0.0)).ok()),
    })
}

/// The error in the server's words.
fn told(error: &ErrorResponseBody) -> Failure {
    let (mut what, mut code) = (String::new(), String::new());
    let mut fields = error.fields();
    while let Ok(Some(field)) = fields.next() {
        match field.type_() {
            b'M' => what = words(field.value_bytes()),
            b'C' => code = words(field.value_bytes()),
            _ => {}
        }
    }
    Failure::coded(what, Code::Sql(code))
}

/// A refused login, and what to do about it.
fn refused(error: &ErrorResponseBody, target: &Target) -> Failure {
    let mut failure = told(error);
    let Some(Code::Sql(code)) = &failure.code else {
        return failure;
    };
    let advice = match code.as_str() {
        "28P01" => target.where_the_password_is(),
        "28000" if failure.what.contains("pg_hba.conf") => "allow it there".to_owned(),
        "28000" => "is `user` of the check right?".to_owned(),
        "3D000" => "is `database` of the check right?".to_owned(),
        _ => return failure,
    };
    failure.what = format!("{}: {advice}", failure.what);
    failure
}

fn has_code(failure: &Failure, codes: &[&str]) -> bool {
    matches!(&failure.code, Some(Code::Sql(code)) if codes.contains(&code.as_str()))
}

fn not_postgres(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("does not speak like PostgreSQL: {why}"))
}

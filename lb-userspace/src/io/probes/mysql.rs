//! MySQL and MariaDB: logs in, and asks whether it is read-only, and how far behind.
//!
//! Tested in the lab with a real MariaDB; MySQL's own login against the bytes of its protocol, as Debian has no MySQL.

mod login;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mysql_common::auth::plugins::AuthProc;
use mysql_common::collations::CollationId;
use mysql_common::constants::{CapabilityFlags, Command};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, AuthSwitchRequest, Column, ErrPacket, HandshakePacket, HandshakeResponse, SslRequest,
};
use mysql_common::proto::MySerialize;
use mysql_common::proto::codec::PacketCodec;

use self::login::Login;
use super::course::{Course, failure, words};
use super::database::{Session, Standing, Target};
use super::wire::{MOST_BYTES, Wire};
use crate::core::config::Role;
use crate::core::health::observation::{Code, Failure, Phase};

/// Aurora's readers say it by the second.
const ROLE: &str = "SELECT @@global.read_only, @@global.innodb_read_only";
/// Of those that do not know the second.
const ROLE_ONLY: &str = "SELECT @@global.read_only";

/// A packet of one byte, the first of its exchange.
const QUIT: &[u8] = &[1, 0, 0, 0, Command::COM_QUIT as u8];
const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const NULL: u8 = 0xfb;
const LOCAL_FILE: u8 = 0xfb;
/// The end of a list, or another way to log in.
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;
const PASSWORD_WANTED: u8 = 4;

const TOO_MANY_CONNECTIONS: &str = "1040";
const UNKNOWN_VARIABLE: &str = "1193";

pub struct Mysql {
    wire: Wire,
    codec: PacketCodec,
    capabilities: CapabilityFlags,
    lag: &'static str,
}

/// A row, by the names of the columns.
type Row = HashMap<String, Option<String>>;

impl Session for Mysql {
    /// A server that is stopped finds the connections that were given up when it goes on, counts each as an error of
    /// this host, and after a hundred in a row lets it in no more. So one waits there, for as long as it takes.
    type Waiting = Option<Mysql>;

    async fn open(target: &Target, waiting: &mut Self::Waiting, course: &mut Course) -> Result<Self, Failure> {
        let password = target.password(course).await?.unwrap_or_default();
        let connection = match waiting {
            Some(connection) => connection,
            None => waiting.insert(Self::connect(target, course).await?),
        };
        course.enter(Phase::Login);
        let greeting = connection.packet().await;
        let mut mysql = waiting.take().expect("INVARIANT: it was there a moment ago");
        mysql.log_in(&greeting?, target, &password, course).await?;
        Ok(mysql)
    }

    async fn ask(&mut self, target: &mut Target) -> Result<Standing, Failure> {
        self.wire.renew();
        let rows = match target.knows_role_only {
            false => self.query(ROLE).await,
            true => self.query(ROLE_ONLY).await,
        };
        let rows = match rows {
            Err(failure) if has_code(&failure, UNKNOWN_VARIABLE) => {
                target.knows_role_only = true;
                self.query(ROLE_ONLY).await?
            }
            rows => rows?,
        };
        let flags: Vec<_> = rows.iter().flat_map(HashMap::values).flatten().collect();
        if flags.is_empty() {
            return Err(not_mysql("neither read-only nor not"));
        }
        let is_off = |flag: &&String| matches!(flag.as_str(), "0" | "OFF");
        let mut standing = Standing {
            role: if flags.iter().all(is_off) {
                Role::Primary
            } else {
                Role::Replica
            },
            timeline: None,
            caught_up: false,
            lag: None,
        };
        if standing.role == Role::Replica && target.settings.max_lag.is_some() {
            let sources = self.query(self.lag).await.map_err(|failure| advised(failure, target))?;
            standing.lag = lag(&sources);
            standing.caught_up = standing.lag == Some(Duration::ZERO);
        }
        Ok(standing)
    }

    fn is_full(failure: &Failure) -> bool {
        has_code(failure, TOO_MANY_CONNECTIONS)
    }
}

impl Mysql {
    async fn connect(target: &Target, course: &mut Course) -> Result<Self, Failure> {
        let wire = Wire::connect(target.address, course).await?;
        wire.keep_alive().map_err(|error| failure(&error))?;
        let mut codec = PacketCodec::default();
        codec.max_allowed_packet = MOST_BYTES;
        Ok(Self {
            wire,
            codec,
            capabilities: CapabilityFlags::empty(),
            lag: "",
        })
    }

    async fn log_in(
        &mut self,
        greeting: &[u8],
        target: &Target,
        password: &[u8],
        course: &mut Course,
    ) -> Result<(), Failure> {
        let greeting = self.greeted(greeting, target)?;
        self.lag = lag_query(&greeting);
        self.capabilities = wanted(target) & greeting.capabilities();
        self.encrypt(target, course).await?;

        course.enter(Phase::Login);
        let first = greeting
            .auth_plugin()
            .filter(|plugin| *plugin == AuthPlugin::CachingSha2Password);
        let plugin = first.unwrap_or(AuthPlugin::MysqlNativePassword);
        let login = Login {
            nonce: greeting.nonce(),
            password,
            encrypted: self.wire.is_encrypted(),
        };
        let mut procedure = login.begin(&plugin)?;
        let proof = login.step(&mut procedure, &login.nonce)?;
        let attributes = [("program_name".to_owned(), "naru".to_owned())];
        let response = HandshakeResponse::new(
            proof,
            greeting.server_version_parsed().unwrap_or_default(),
            Some(target.user().as_bytes()),
            target.settings.database.as_deref().map(str::as_bytes),
            Some(plugin),
            self.capabilities,
            self.capabilities
                .contains(CapabilityFlags::CLIENT_CONNECT_ATTRS)
                .then(|| attributes.into()),
            u32::try_from(MOST_BYTES).expect("INVARIANT: a limit far below 4 GiB"),
        );
        self.say_packet(&response).await?;
        self.prove(login, procedure, target).await
    }

    /// As often and in the way that the server asks.
    async fn prove(&mut self, mut login: Login<'_>, mut procedure: AuthProc, target: &Target) -> Result<(), Failure> {
        loop {
            let packet = self.packet().await?;
            let proof = match packet[0] {
                OK => {
                    self.wire.logged_in(QUIT);
                    return Ok(());
                }
                ERROR => return Err(advised(self.told(&packet), target)),
                END => {
                    let other: AuthSwitchRequest<'_> = ParseBuf(&packet).parse(()).map_err(not_mysql)?;
                    login.nonce = other.plugin_data().to_vec();
                    procedure = login.begin(&other.auth_plugin())?;
                    Some(login.step(&mut procedure, &login.nonce)?.unwrap_or_default())
                }
                MORE_DATA if packet[1..] == [PASSWORD_WANTED] && !login.encrypted => {
                    let what = "the server asks for the password itself, which only TLS may carry: set tls = true";
                    return Err(Failure::new(what));
                }
                MORE_DATA => login.step(&mut procedure, &packet[1..])?,
                _ => return Err(not_mysql("another packet than a login has")),
            };
            if let Some(proof) = proof {
                self.say(&proof).await?;
            }
        }
    }

    fn greeted<'g>(&self, greeting: &'g [u8], target: &Target) -> Result<HandshakePacket<'g>, Failure> {
        if greeting[0] == ERROR {
            return Err(advised(self.told(greeting), target));
        }
        let version = greeting.iter().skip(1).position(|byte| *byte == 0);
        // The parser takes this length for a signed byte, and subtracts.
        let length = version.and_then(|version| greeting.get(version + 22));
        if length.is_none_or(|length| *length > 127) {
            return Err(not_mysql("another greeting"));
        }
        ParseBuf(greeting).parse(()).map_err(not_mysql)
    }

    async fn encrypt(&mut self, target: &Target, course: &mut Course) -> Result<(), Failure> {
        let Some(tls) = &target.settings.tls else { return Ok(()) };
        course.enter(Phase::Tls);
        if !self.capabilities.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(Failure::new("the server does not speak TLS: give it a certificate"));
        }
        let most = u32::try_from(MOST_BYTES).expect("INVARIANT: a limit far below 4 GiB");
        self.say_packet(&SslRequest::new(
            self.capabilities,
            most,
            CollationId::UTF8MB4_GENERAL_CI as u8,
        ))
        .await?;
        self.wire.encrypt(tls, target.address, course).await
    }

    async fn query(&mut self, text: &str) -> Result<Vec<Row>, Failure> {
        self.codec.reset_seq_id();
        self.say(&[&[Command::COM_QUERY as u8], text.as_bytes()].concat())
            .await?;
        let first = self.packet().await?;
        let count = match first[0] {
            OK => return Ok(Vec::new()),
            ERROR => return Err(self.told(&first)),
            LOCAL_FILE => return Err(not_mysql("it asks for a file")),
            _ => ParseBuf(&first)
                .checked_eat_lenenc_int()
                .ok_or_else(|| not_mysql("no count"))?,
        };
        let mut names = Vec::new();
        for _ in 0..count {
            let packet = self.packet().await?;
            let column: Column = ParseBuf(&packet).parse(()).map_err(not_mysql)?;
            names.push(column.name_str().into_owned());
        }
        self.packet().await?;
        let mut rows = Vec::new();
        loop {
            let packet = self.packet().await?;
            match packet[0] {
                ERROR => return Err(self.told(&packet)),
                END if packet.len() < 9 => return Ok(rows),
                _ => rows.push(row(&names, &packet)?),
            }
        }
    }

    async fn say_packet(&mut self, packet: &impl MySerialize) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        packet.serialize(&mut bytes);
        self.say(&bytes).await
    }

    async fn say(&mut self, mut packet: &[u8]) -> Result<(), Failure> {
        let mut out = BytesMut::with_capacity(packet.remaining() + 4);
        let encoded = self.codec.encode(&mut packet, &mut out);
        encoded.map_err(|error| Failure::new(error.to_string()))?;
        self.wire.send(&out).await
    }

    /// One with at least a byte. Cancel safe, for packets that come in one piece, as these do.
    async fn packet(&mut self) -> Result<Vec<u8>, Failure> {
        let mut packet = Vec::new();
        while !self
            .codec
            .decode(self.wire.received(), &mut packet)
            .map_err(not_mysql)?
        {
            self.wire.receive().await?;
        }
        if packet.is_empty() {
            return Err(not_mysql("an empty packet"));
        }
        Ok(packet)
    }

    /// The error in the server's words.
    fn told(&self, packet: &[u8]) -> Failure {
        match ParseBuf(packet).parse::<ErrPacket<'_>>(self.capabilities) {
            Ok(ErrPacket::Error(error)) => {
                Failure::coded(words(error.message_ref()), Code::Sql(error.error_code().to_string()))
            }
            Ok(ErrPacket::Progress(_)) => not_mysql("a report of progress"),
            Err(error) => not_mysql(error),
        }
    }
}

fn wanted(target: &Target) -> CapabilityFlags {
    let mut wanted = CapabilityFlags::CLIENT_PROTOCOL_41
        | CapabilityFlags::CLIENT_LONG_PASSWORD
        | CapabilityFlags::CLIENT_TRANSACTIONS
        | CapabilityFlags::CLIENT_SECURE_CONNECTION
        | CapabilityFlags::CLIENT_PLUGIN_AUTH
        | CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA
        | CapabilityFlags::CLIENT_CONNECT_ATTRS;
    wanted.set(
        CapabilityFlags::CLIENT_CONNECT_WITH_DB,
        target.settings.database.is_some(),
    );
    wanted.set(CapabilityFlags::CLIENT_SSL, target.settings.tls.is_some());
    wanted
}

/// In the words of each family: MariaDB may have several sources, MySQL renamed its own.
fn lag_query(greeting: &HandshakePacket<'_>) -> &'static str {
    if greeting.server_version_str().contains("MariaDB") {
        return "SHOW ALL SLAVES STATUS";
    }
    match greeting.server_version_parsed() {
        Some(version) if version >= (8, 0, 22) => "SHOW REPLICA STATUS",
        _ => "SHOW SLAVE STATUS",
    }
}

/// Of the source it is furthest behind; none when one of them is not followed.
fn lag(sources: &[Row]) -> Option<Duration> {
    let seconds = sources.iter().map(|source| {
        let (_, seconds) = source.iter().find(|(name, _)| name.starts_with("Seconds_Behind_"))?;
        seconds.as_ref()?.parse().ok().map(Duration::from_secs)
    });
    seconds.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn row(names: &[String], packet: &[u8]) -> Result<Row, Failure> {
    let mut rest = ParseBuf(packet);
    let values = names.iter().map(|name| {
        if rest.0.first() == Some(&NULL) {
            rest.skip(1);
            return Ok((name.clone(), None));
        }
        let text = rest.checked_eat_lenenc_str().ok_or_else(|| not_mysql("a broken row"))?;
        Ok((name.clone(), Some(String::from_utf8_lossy(text).into_owned())))
    });
    values.collect()
}

/// A refusal, and what to do about it.
fn advised(mut failure: Failure, target: &Target) -> Failure {
    let Some(Code::Sql(code)) = &failure.code else {
        return failure;
    };
    let advice = match code.as_str() {
        "1045" | "1698" => target.where_the_password_is(),
        "1044" | "1049" => "is `database` of the check right?".to_owned(),
        "1129" => "run FLUSH HOSTS there".to_owned(),
        "1130" => format!("create {} for this host", target.user()),
        "1227" => format!(
            "grant {} REPLICATION CLIENT (MySQL) or REPLICA MONITOR (MariaDB)",
            target.user()
        ),
        "3159" => "set tls = true".to_owned(),
        _ => return failure,
    };
    failure.what = format!("{}: {advice}", failure.what);
    failure
}

fn has_code(failure: &Failure, code: &str) -> bool {
    matches!(&failure.code, Some(Code::Sql(told)) if told == code)
}

fn not_mysql(why: impl Display) -> Failure {
    Failure::new(format!("does not speak like MySQL: {why}"))
}

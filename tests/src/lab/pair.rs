//! Two databases behind one node, as their users run them: one port goes to the primary, another to the replica.
//!
//! Also what their failovers have in common, for the lab and for the bench, so that both measure the same.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{CHECKER, CHECKER_PASSWORD, Lab, MariaDb, Namespace, Postgres, Repeater, Speech, VIP, WRITER, until};

pub const WRITES: SocketAddr = SocketAddr::new(VIP, 3000);
pub const READS: SocketAddr = SocketAddr::new(VIP, 3001);
pub const WRITE: &str = "INSERT INTO lab.written VALUES (1)";
/// What a server has.
pub const WRITTEN: &str = "SELECT count(*) FROM lab.written";

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 1, 11));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 1, 12));
const EVENTUALLY: Duration = Duration::from_secs(20);

/// `one` is the primary, and `two` follows it.
pub struct PostgresPair<'lab> {
    pub one: Postgres<'lab>,
    pub two: Postgres<'lab>,
}

impl<'lab> PostgresPair<'lab> {
    pub fn start(lab: &Lab, one: &'lab Namespace, two: &'lab Namespace) -> Result<Self> {
        let one = Postgres::primary(lab, one, ONE)?;
        one.sql("CREATE SCHEMA lab CREATE TABLE written (n int)")?;
        let two = Postgres::replica(lab, two, TWO, &one)?;
        Ok(Self { one, two })
    }

    /// `timeout` and `max_lag` are those of the checks.
    pub fn config(&self, lab: &Lab, timeout: &str, max_lag: &str) -> Result<String> {
        let reads = format!(
            "[check.replica]\ntype = \"postgres\"\nrole = \"replica\"\nmax_lag = {max_lag:?}\n{}\n\
             [service.read]\nlisten = \"{READS}\"\nbackends = [\"one\", \"two\"]\ncheck = \"replica\"\n\n",
            common(lab, timeout)?
        );
        Ok(reads + &writes(lab, "postgres", timeout, self.one.address(), self.two.address())?)
    }

    /// The replica becomes the primary, while `writer` goes on.
    pub fn promote(&self, writer: &Repeater, two: &Namespace) -> Result<Moved> {
        let itself = Repeater::start(two, Speech::Postgres, self.two.address(), WRITE)?;
        Moved::watch(&itself, writer, || self.two.promote())
    }
}

/// `one` takes writes, and `two` follows it, read-only.
pub struct MariaPair<'lab> {
    pub one: MariaDb<'lab>,
    pub two: MariaDb<'lab>,
}

impl<'lab> MariaPair<'lab> {
    pub fn start(lab: &Lab, one: &'lab Namespace, two: &'lab Namespace) -> Result<Self> {
        let one = MariaDb::start_new(lab, one, ONE)?;
        let two = MariaDb::start_new(lab, two, TWO)?;
        two.follow(&one)?;
        one.sql(&format!(
            "CREATE USER {WRITER}@'%'; GRANT INSERT ON lab.* TO {WRITER}@'%';
             CREATE DATABASE lab; CREATE TABLE lab.written (n int)"
        ))?;
        until(EVENTUALLY, || two.sql(WRITTEN)).context("wait for the replica")?;
        Ok(Self { one, two })
    }

    pub fn config(&self, lab: &Lab, timeout: &str) -> Result<String> {
        writes(lab, "mysql", timeout, self.one.address(), self.two.address())
    }

    /// Nobody may write, then `two` may; `writer` goes on meanwhile.
    pub fn swap(&self, writer: &Repeater, two: &Namespace) -> Result<Moved> {
        let itself = Repeater::start(two, Speech::Mysql, self.two.address(), WRITE)?;
        self.one.sql("SET GLOBAL read_only = 1")?;
        Moved::watch(&itself, writer, || {
            self.two.sql("STOP SLAVE; SET GLOBAL read_only = 0").map(|_| ())
        })
    }
}

/// When the new primary took its first write: from a client beside it, and from one through Naru.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    pub itself: Duration,
    pub through_naru: Duration,
}

impl Moved {
    fn watch(itself: &Repeater, through: &Repeater, act: impl FnOnce() -> Result<()>) -> Result<Self> {
        let begun = Instant::now();
        act()?;
        let first = |repeater: &Repeater| Ok::<_, anyhow::Error>(repeater.first_after(begun, EVENTUALLY)? - begun);
        Ok(Self {
            itself: first(itself).context("write to the server itself")?,
            through_naru: first(through).context("write through Naru")?,
        })
    }

    /// What clients waited for Naru alone.
    pub fn added(self) -> Duration {
        self.through_naru.saturating_sub(self.itself)
    }
}

fn writes(lab: &Lab, kind: &str, timeout: &str, one: SocketAddr, two: SocketAddr) -> Result<String> {
    Ok(format!(
        "[node]\nmax_flows = 4096\n\n[backend.one]\naddress = \"{one}\"\n\n[backend.two]\naddress = \"{two}\"\n\n\
         [check.primary]\ntype = {kind:?}\nrole = \"primary\"\n{}\n\
         [service.write]\nlisten = \"{WRITES}\"\nbackends = [\"one\", \"two\"]\ncheck = \"primary\"\nmax_active = 1\n\
         on_down = \"reset\"\n",
        common(lab, timeout)?
    ))
}

fn common(lab: &Lab, timeout: &str) -> Result<String> {
    let password = lab.folder().join("password");
    fs::write(&password, CHECKER_PASSWORD)?;
    Ok(format!(
        "user = {CHECKER:?}\npassword_file = {password:?}\ntimeout = {timeout:?}\n"
    ))
}

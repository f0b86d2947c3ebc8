//! A client's connection to a database: logs in without a password, says statements, hears whether they were done.
//!
//! No more than that of either protocol, so that opening one takes no process and a case can hold hundreds. What a
//! statement returns is thrown away. Tested by the cases that use it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// As the superuser of the lab's servers.
    Postgres,
    /// As `WRITER`.
    Mysql,
}

/// May change data, but not where the server is read-only.
pub const WRITER: &str = "writer";

pub struct Session {
    stream: TcpStream,
    speech: Speech,
}

impl Session {
    /// Waits no longer than `connecting` for the connection, and than `patience` for each answer.
    pub fn open(speech: Speech, target: SocketAddr, connecting: Duration, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target, connecting).context("connect")?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream, speech };
        match speech {
            Speech::Postgres => session.begin_postgres(),
            Speech::Mysql => session.begin_mysql(),
        }
        .context("log in")?;
        Ok(session)
    }

    /// When this returns without an error, the statement is committed.
    pub fn run(&mut self, statement: &str) -> Result<()> {
        match self.speech {
            Speech::Postgres => {
                let length = (4 + statement.len() + 1) as u32;
                let message = [b"Q", &length.to_be_bytes()[..], statement.as_bytes(), b"\0"].concat();
                self.stream.write_all(&message)?;
                self.until_ready()
            }
            Speech::Mysql => {
                const QUERY: &[u8] = &[3];
                self.send_mysql(0, &[QUERY, statement.as_bytes()].concat())?;
                self.mysql_done()
            }
        }
    }

    /// How the connection ends, while only we wait; None when it did not in that time.
    pub fn ended(&mut self, within: Duration) -> Result<Option<ErrorKind>> {
        self.stream
            .set_read_timeout(Some(within.max(Duration::from_millis(1))))?;
        loop {
            match self.stream.read(&mut [0; 256]) {
                Ok(0) => return Ok(Some(ErrorKind::UnexpectedEof)),
                // What the server says to all, before it leaves.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Ok(Some(error.kind())),
            }
        }
    }

    fn begin_postgres(&mut self) -> Result<()> {
        const VERSION_3: u32 = 3 << 16;
        let parameters = b"user\0postgres\0database\0postgres\0\0";
        let length = (8 + parameters.len()) as u32;
        let message = [&length.to_be_bytes()[..], &VERSION_3.to_be_bytes(), parameters].concat();
        self.stream.write_all(&message)?;
        self.until_ready()
    }

    fn until_ready(&mut self) -> Result<()> {
        let mut refused = None;
        loop {
            let [kind, length @ ..] = self.take::<5>()?;
            let mut message = vec![0; u32::from_be_bytes(length).saturating_sub(4) as usize];
            self.stream.read_exact(&mut message)?;
            match kind {
                b'E' => refused = Some(said(&message)),
                b'R' => ensure!(message == [0; 4], "the server wants a password"),
                b'Z' => break,
                _ => {}
            }
        }
        match refused {
            Some(refused) => bail!("{refused}"),
            None => Ok(()),
        }
    }

    fn begin_mysql(&mut self) -> Result<()> {
        // Protocol 4.1, transactions, secure connection, plugin of the login.
        const CAPABILITIES: u32 = 0x0000_0200 | 0x0000_2000 | 0x0000_8000 | 0x0008_0000;
        const LONGEST: u32 = 1 << 24;
        const UTF8: u8 = 33;
        let (number, greeting) = self.take_mysql()?;
        ensure!(greeting.first() == Some(&10), "greeted by {}", said(&greeting));
        let login = [
            &CAPABILITIES.to_le_bytes()[..],
            &LONGEST.to_le_bytes(),
            &[UTF8],
            &[0; 23],
            WRITER.as_bytes(),
            b"\0\0mysql_native_password\0",
        ];
        self.send_mysql(number + 1, &login.concat())?;
        self.mysql_done()
    }

    fn mysql_done(&mut self) -> Result<()> {
        match self.take_mysql()?.1 {
            packet if packet.first() == Some(&0) => Ok(()),
            packet => bail!("{}", said(&packet)),
        }
    }

    fn send_mysql(&mut self, number: u8, packet: &[u8]) -> io::Result<()> {
        let [low, middle, high, _] = (packet.len() as u32).to_le_bytes();
        self.stream.write_all(&[&[low, middle, high, number], packet].concat())
    }

    fn take_mysql(&mut self) -> Result<(u8, Vec<u8>)> {
        let [low, middle, high, number] = self.take()?;
        let mut packet = vec![0; u32::from_le_bytes([low, middle, high, 0]) as usize];
        self.stream.read_exact(&mut packet)?;
        Ok((number, packet))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut taken = [0; N];
        self.stream.read_exact(&mut taken)?;
        Ok(taken)
    }
}

/// An error as it came, legible.
fn said(message: &[u8]) -> String {
    let legible = |byte: &u8| if byte.is_ascii_graphic() { *byte as char } else { ' ' };
    message.iter().map(legible).collect()
}

//! Asks by HTTP/1.1, plain or over TLS: the status, and a text in the answer if the check names one.
//!
//! Each time on a new connection: a server that no longer accepts any may well serve those it has. Reads the whole
//! answer up to a limit, so that one which is only begun is none; whatever the server sends, memory is bounded, and
//! time by the check's deadline.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::course::failure;
use super::{Course, Found, tls};
use crate::core::config;
use crate::core::health::observation::{Code, Facts, Failure, Phase};

/// Of an answer; who has more to say has said enough.
const BODY_LIMIT: usize = 64 * 1024;
const HEAD_LIMIT: usize = 16 * 1024;
const MOST_HEADERS: usize = 100;
/// With what TLS and chunks add. Also of a server that never comes to its answer, but promises one without end.
const MOST_BYTES: usize = 128 * 1024;

pub struct Http {
    address: SocketAddr,
    settings: config::Http,
    /// The Host header.
    host: String,
}

impl Http {
    pub fn new(address: SocketAddr, settings: &config::Http) -> Self {
        let usual = if settings.tls.is_some() { 443 } else { 80 };
        let host = settings
            .host
            .clone()
            .unwrap_or_else(|| match (address, address.port() == usual) {
                (SocketAddr::V6(v6), true) => format!("[{}]", v6.ip()),
                (SocketAddr::V4(v4), true) => v4.ip().to_string(),
                (_, false) => address.to_string(),
            });
        Self {
            address,
            settings: settings.clone(),
            host,
        }
    }

    pub async fn ask(&mut self, course: &mut Course) -> Result<Found, Failure> {
        let request = self.request()?;
        let Some(settings) = &self.settings.tls else {
            let stream = course.connect(self.address, MOST_BYTES).await?;
            return self.exchange(stream, request, course).await;
        };
        let name = self.settings.host.as_deref().map(without_port);
        let connector = tls::connector(settings, name, self.address.ip()).await?;
        let stream = course.connect(self.address, MOST_BYTES).await?;
        let stream = connector.connect(stream, course).await?;
        self.exchange(stream, request, course).await
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(self.settings.method.as_str())
            .uri(self.settings.path.as_str())
            .header(CONNECTION, "close");
        let given = |name: &str| {
            self.settings
                .headers
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name))
        };
        if !given(HOST.as_str()) {
            request = request.header(HOST, &self.host);
        }
        if !given(USER_AGENT.as_str()) {
            request = request.header(USER_AGENT, concat!("naru/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        request
            .body(Empty::new())
            .map_err(|error| Failure::new(format!("cannot make the request: {error}")))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Empty<Bytes>>,
        course: &mut Course,
    ) -> Result<Found, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        course.enter(Phase::Request);
        let mut protocol = http1::Builder::new();
        protocol.max_buf_size(HEAD_LIMIT).max_headers(MOST_HEADERS);
        let (mut sender, connection) = protocol
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| explain(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| explain(&error))?;
            self.judge(response, course).await
        };
        tokio::pin!(answer, connection);
        // The connection is what reads and writes; it may be over before the last bytes are looked at.
        tokio::select! {
            biased;
            found = &mut answer => found,
            _ = &mut connection => answer.await,
        }
    }

    async fn judge(&self, response: Response<Incoming>, course: &mut Course) -> Result<Found, Failure> {
        let status = response.status().as_u16();
        if !self.settings.expect.iter().any(|range| range.contains(&status)) {
            return Err(Failure::coded("not the expected answer", Code::Status(status)));
        }
        course.enter(Phase::Answer);
        let body = read(response.into_body()).await?;
        match &self.settings.body {
            Some(text) if !contains(&body, text.as_bytes()) => {
                let failure = format!("{text:?} is not in the answer");
                Err(Failure::coded(failure, Code::Status(status)))
            }
            _ => Ok(Found::Up(Facts::default())),
        }
    }
}

/// To its end, or as much as we want to see.
async fn read(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| explain(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = BODY_LIMIT - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if read.len() == BODY_LIMIT {
            break;
        }
    }
    Ok(read)
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len().max(1)).any(|window| window == text)
}

/// `app.example:8443` and `[2001:db8::1]:8443` name a host too.
fn without_port(host: &str) -> &str {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    };
    bare.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(bare)
}

/// The system's words where it is the system's error, else those that say most about it.
fn explain(error: &hyper::Error) -> Failure {
    let mut last: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match last.downcast_ref::<std::io::Error>() {
        Some(error) => failure(error),
        None => Failure::new(last.to_string()),
    }
}

#[cfg(test)]
mod tests;

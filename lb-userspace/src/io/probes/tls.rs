//! TLS on top of a connection, with the certificate verified unless the check says otherwise.
//!
//! Whom to trust is read from files again every minute, so that new ones need no reload. A file that cannot be read
//! is our failure, a certificate that is not good the backend's. Tested with `http`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Course;
use super::course::failure;
use super::metered::Metered;
use crate::core::config;
use crate::core::health::observation::{Failure, Phase};
use crate::io::regular_file::{in_time, read};

const FRESH: Duration = Duration::from_secs(60);
const OF_THE_SYSTEM: &str = "the certificates of the system";
/// Every authority that browsers trust takes a quarter of a mebibyte.
const LONGEST_CA: u64 = 4 * 1024 * 1024;

/// What was read of each `ca`, and when; None: of the system.
static ROOTS: Mutex<BTreeMap<Option<PathBuf>, Roots>> = Mutex::new(BTreeMap::new());

type Roots = (Instant, Arc<RootCertStore>);

pub struct Connector {
    tls: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

/// `host` is the name the check asks for, if any. A failure here is in `Phase::Prepare`.
pub async fn connector(settings: &config::Tls, host: Option<&str>, address: IpAddr) -> Result<Connector, Failure> {
    let config = Arc::new(client_config(settings).await?);
    let name = match settings.server_name.as_deref().or(host) {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::new(format!("{name:?} cannot be the name of a server")))?,
        None => ServerName::from(address),
    };
    let tls = tokio_rustls::TlsConnector::from(config);
    Ok(Connector { tls, name })
}

async fn client_config(settings: &config::Tls) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(error.to_string()))?;
    if !settings.verify {
        let anybody = Arc::new(Anybody(provider));
        return Ok(config
            .dangerous()
            .with_custom_certificate_verifier(anybody)
            .with_no_client_auth());
    }
    let roots = match known_roots(&settings.ca) {
        Some(roots) => roots,
        None => read_roots(settings.ca.clone()).await?,
    };
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn known_roots(ca: &Option<PathBuf>) -> Option<Arc<RootCertStore>> {
    let known = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, roots) = known.get(ca).filter(|(at, _)| at.elapsed() < FRESH)?;
    Some(roots.clone())
}

/// The certificates of a system are more than a hundred: too much for the event loop.
async fn read_roots(ca: Option<PathBuf>) -> Result<Arc<RootCertStore>, Failure> {
    let place = ca.clone().unwrap_or_else(|| OF_THE_SYSTEM.into());
    let read = in_time(&place, move |_| {
        known_roots(&ca).map_or_else(
            || {
                let roots = Arc::new(roots(ca.as_deref())?);
                let mut known = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(ca, (Instant::now(), roots.clone()));
                Ok(roots)
            },
            Ok,
        )
    });
    let read = read
        .await
        .map_err(|error| format!("cannot read {}: {error}", place.display()));
    read.and_then(|roots| roots).map_err(Failure::new)
}

impl Connector {
    pub async fn connect(self, stream: Metered, course: &mut Course) -> Result<TlsStream<Metered>, Failure> {
        course.enter(Phase::Tls);
        self.tls
            .connect(self.name, stream)
            .await
            .map_err(|error| failure(&error))
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let name = path.display();
            let text = read(path, LONGEST_CA).map_err(|error| format!("cannot read {name}: {error}"))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| format!("cannot read {name}: {error}"))?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("cannot use {name}: {error}"))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(match ca {
            Some(path) => format!("no certificate in {}", path.display()),
            None => "this system trusts no certificate authority; give the check a `ca`".to_owned(),
        });
    }
    Ok(roots)
}

/// Trusts every certificate, and still holds the server to having its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

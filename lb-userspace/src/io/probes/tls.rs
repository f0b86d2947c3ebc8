//! TLS on top of a connection, with the certificate verified unless the check says otherwise.
//!
//! Whom to trust is read from files again every minute, so that new ones need no reload. A file that cannot be read
//! is our failure, a certificate that is not good the backend's. Tested with `http`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Course;
use super::course::failure;
use crate::core::config;
use crate::core::health::observation::{Failure, Phase};

const FRESH: Duration = Duration::from_secs(60);

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
    let ca = settings.ca.clone();
    let roots = spawn_blocking(move || roots(ca.as_deref())).await;
    let roots = roots
        .map_err(|error| Failure::new(error.to_string()))?
        .map_err(Failure::new)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl Connector {
    pub async fn connect(self, stream: TcpStream, course: &mut Course) -> Result<TlsStream<TcpStream>, Failure> {
        course.enter(Phase::Tls);
        self.tls
            .connect(self.name, stream)
            .await
            .map_err(|error| failure(&error))
    }
}

type Roots = (Instant, Arc<RootCertStore>);

/// Blocks: the certificates of a system are more than a hundred.
fn roots(ca: Option<&Path>) -> Result<Arc<RootCertStore>, String> {
    static READ: Mutex<BTreeMap<Option<PathBuf>, Roots>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let key = ca.map(Path::to_owned);
    if let Some((_, roots)) = read.get(&key).filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok(roots.clone());
    }
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let name = path.display();
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot read {name}: {error}"))?;
            for certificate in certificates {
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
    let roots = Arc::new(roots);
    read.insert(key, (Instant::now(), roots.clone()));
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

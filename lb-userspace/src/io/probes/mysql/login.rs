//! The proofs of a password that MySQL and MariaDB ask for, of which none gives it away.
//!
//! Speaks to nobody: a challenge in, a proof out. Tested with `mysql`.

use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin as _, Context};
use mysql_common::packets::AuthPlugin;

use super::not_mysql;
use crate::core::health::observation::Failure;
use crate::io::probes::course::words;

/// One login under way.
pub struct Login<'a> {
    pub nonce: Vec<u8>,
    pub password: &'a [u8],
    pub encrypted: bool,
}

impl Login<'_> {
    pub fn begin(&self, plugin: &AuthPlugin<'_>) -> Result<AuthProc, Failure> {
        use AuthPlugin::{CachingSha2Password, Ed25519, MysqlNativePassword};
        match plugin {
            MysqlNativePassword | CachingSha2Password | Ed25519 => plugin.init().map_err(not_mysql),
            // Among them one that hands over the password to whoever asks.
            other => {
                let other = words(other.as_bytes());
                let known = "mysql_native_password, caching_sha2_password or ed25519";
                Err(Failure::new(format!("the user logs in by {other:?}: give it {known}")))
            }
        }
    }

    pub fn step(&self, procedure: &mut AuthProc, challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let response = procedure.run(self, challenge).map_err(not_mysql)?;
        Ok(response.data().map(<[u8]>::to_vec))
    }
}

impl Context for &Login<'_> {
    fn pass(&self) -> &[u8] {
        self.password
    }

    fn is_ipc_transport(&self) -> bool {
        false
    }

    fn is_tls_transport(&self) -> bool {
        self.encrypted
    }

    fn scramble(&self) -> &[u8] {
        &self.nonce
    }

    fn server_key_pem(&self) -> Option<&[u8]> {
        None
    }
}

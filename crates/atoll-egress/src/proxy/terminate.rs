//! TLS that ends at the proxy, for the hosts whose requests must be seen: a certificate for each, made when it is first
//! needed, and connections to the real host whose certificate is checked.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use atoll_rt::tls::{CertificateAuthority, install_crypto_provider};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::session::Stream;
use crate::name::HostName;

/// Hosts whose certificates are kept; beyond this all are made anew.
const LEAVES_MAX: usize = 1024;

/// Certificates for hosts.
pub(super) struct Leaves {
    authority: CertificateAuthority,
    made: Mutex<HashMap<HostName, Arc<ServerConfig>>>,
}

impl Leaves {
    pub(super) fn new(authority: CertificateAuthority) -> Self {
        Self { authority, made: Mutex::default() }
    }

    fn of(&self, name: &HostName) -> io::Result<Arc<ServerConfig>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(name) {
            return Ok(Arc::clone(config));
        }
        if made.len() >= LEAVES_MAX {
            made.clear();
        }
        let leaf = self.authority.issue_server(&[name.as_str()]).map_err(io::Error::other)?;
        let certificate = CertificateDer::from_pem_slice(leaf.certificate_pem.as_bytes()).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.expose().as_bytes()).map_err(io::Error::other)?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        made.insert(name.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// Greets a client as the host that it wants.
    pub(super) async fn accept<S: Stream>(&self, name: &HostName, stream: S) -> io::Result<server::TlsStream<S>> {
        TlsAcceptor::from(self.of(name)?).accept(stream).await
    }
}

/// How servers outside are checked.
pub(super) fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    install_crypto_provider();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Speaks TLS with the real host.
pub(super) async fn connect(
    config: &Arc<ClientConfig>,
    name: &HostName,
    stream: TcpStream,
) -> io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

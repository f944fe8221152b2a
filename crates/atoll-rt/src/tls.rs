//! A private certificate authority, and the TLS configurations made with it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer;

const CA_COMMON_NAME: &str = "atoll-ca";

/// What went wrong with a key, a certificate or a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// PEM text could not be read.
    #[error("cannot read PEM text")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// rustls refused a key or certificate.
    #[error("the TLS library refused a key or certificate")]
    Configure(#[source] rustls::Error),
    /// The set of certificates that clients are checked against is unusable.
    #[error("cannot check client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// A peer's certificate could not be read.
    #[error("cannot read the peer's certificate")]
    Peer,
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: atoll_stdx::Secret<String>,
}

/// A certificate authority of our own: an ECDSA P-256 key and a self-signed certificate.
pub struct CertificateAuthority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_pem: atoll_stdx::Secret<String>,
}

impl CertificateAuthority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn generate() -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Make)?;
        let key_pem = key.serialize_pem();
        let params = ca_params();
        let certificate_pem = params.self_signed(&key).map_err(TlsError::Make)?.pem();
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key), key_pem: atoll_stdx::Secret::new(key_pem) })
    }

    /// Takes up an authority made earlier by [`CertificateAuthority::generate`].
    ///
    /// # Errors
    /// If the key cannot be read.
    pub fn load(stored: &KeyedCertificate) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(stored.key_pem.expose()).map_err(TlsError::Make)?;
        Ok(Self {
            certificate_pem: stored.certificate_pem.clone(),
            issuer: Issuer::new(ca_params(), key),
            key_pem: stored.key_pem.clone(),
        })
    }

    /// The authority's own certificate and key, to be stored.
    #[must_use]
    pub fn stored(&self) -> KeyedCertificate {
        KeyedCertificate { certificate_pem: self.certificate_pem.clone(), key_pem: self.key_pem.clone() }
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for a server known by these host names and addresses.
    ///
    /// # Errors
    /// If a name is not one.
    pub fn issue_server(&self, names: &[&str]) -> Result<KeyedCertificate, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(names.first().copied().unwrap_or("atoll"), &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into().map_err(TlsError::Make)?),
            });
        }
        self.issue(params)
    }

    /// A certificate for a client: Kubernetes reads the common name as the user and organizations as groups.
    ///
    /// # Errors
    /// If no key can be generated.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<KeyedCertificate, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<KeyedCertificate, TlsError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(TlsError::Make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(TlsError::Make)?;
        Ok(KeyedCertificate {
            certificate_pem: certificate.pem(),
            key_pem: atoll_stdx::Secret::new(key.serialize_pem()),
        })
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(CA_COMMON_NAME, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn distinguished_name(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // rcgen keeps one value per type; Kubernetes allows several organizations, of which we issue the first.
    if let Some(organization) = organizations.first() {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// Makes `ring` the process's provider of cryptography. A second call does nothing.
pub fn install_crypto_provider() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default().is_err();
}

/// A server's configuration: HTTP/1.1 and HTTP/2 by ALPN, client certificates of `ca_pem` accepted but not demanded.
///
/// # Errors
/// If a certificate or key cannot be used.
pub fn server_config(server: &KeyedCertificate, ca_pem: &str) -> Result<Arc<ServerConfig>, TlsError> {
    install_crypto_provider();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate).map_err(TlsError::Configure)?;
    }
    let verifier =
        WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().map_err(TlsError::Verifier)?;
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.expose().as_bytes()).map_err(TlsError::Pem)?;
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&server.certificate_pem)?, key)
        .map_err(TlsError::Configure)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(TlsError::Pem)
}

/// Who a verified client certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSubject {
    /// The subject's common name: the user.
    pub common_name: String,
    /// The subject's organizations: the groups.
    pub organizations: Vec<String>,
}

/// Reads the subject of a certificate that the TLS layer has verified.
///
/// # Errors
/// If the certificate has no common name.
pub fn peer_subject(der: &[u8]) -> Result<PeerSubject, TlsError> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der).map_err(|_| TlsError::Peer)?;
    let subject = certificate.subject();
    let common_name = subject
        .iter_common_name()
        .next()
        .and_then(|attribute| attribute.as_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or(TlsError::Peer)?
        .to_owned();
    let organizations =
        subject.iter_organization().filter_map(|attribute| attribute.as_str().ok()).map(str::to_owned).collect();
    Ok(PeerSubject { common_name, organizations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_names_its_user_and_group() {
        let authority = CertificateAuthority::generate().expect("an authority");
        let client = authority.issue_client("jo", &["system:masters"]).expect("a certificate");
        let der = certificates(&client.certificate_pem).expect("PEM").remove(0);
        assert_eq!(
            peer_subject(&der).expect("a subject"),
            PeerSubject { common_name: "jo".into(), organizations: vec!["system:masters".into()] }
        );
    }

    #[test]
    fn a_stored_authority_goes_on_issuing() {
        let authority = CertificateAuthority::generate().expect("an authority");
        let again = CertificateAuthority::load(&authority.stored()).expect("it loads");
        let server = again.issue_server(&["localhost", "127.0.0.1"]).expect("a certificate");
        server_config(&server, authority.certificate_pem()).expect("a configuration");
    }
}

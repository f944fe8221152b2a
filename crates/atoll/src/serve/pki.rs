//! Keys and tokens of one plane: made once, kept in its private directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atoll_rt::tls::{CertificateAuthority, KeyedCertificate, TlsError, server_config};
use atoll_stdx::Secret;

use crate::failure::{Exit, Failure};
use crate::state::StateDir;

const TOKEN_BYTES: usize = 32;
const SERVER_NAMES: &[&str] = &["localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc"];

/// What the plane proves itself with, and its administrator.
pub(super) struct Pki {
    pub(super) authority: CertificateAuthority,
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) admin_token: Secret<String>,
    pub(super) admin: KeyedCertificate,
}

impl Pki {
    /// Loads what an earlier start made, or makes it.
    pub(super) fn load_or_create(state: &StateDir) -> Result<Self, Failure> {
        let dir = state.plane().join("pki");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|error| unusable(&dir, &error))?;
        let authority = load_authority(&dir, "ca")?;
        let server = authority.issue_server(SERVER_NAMES).map_err(|error| refused(&error))?;
        let tls = server_config(&server, authority.certificate_pem()).map_err(|error| refused(&error))?;
        let admin = authority.issue_client("atoll-admin", &["system:masters"]).map_err(|error| refused(&error))?;
        let admin_token = keep(&dir.join("admin.token"), || atoll_rt::ids::random_hex(TOKEN_BYTES))?;
        Ok(Self { authority, tls, admin_token: Secret::new(admin_token), admin })
    }

    /// A kubeconfig for the administrator.
    pub(super) fn kubeconfig(&self, api_url: &str) -> String {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let document = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "atoll", "cluster": {
                "server": api_url,
                "certificate-authority-data": encode(self.authority.certificate_pem()),
            }}],
            "users": [{"name": "atoll-admin", "user": {
                "client-certificate-data": encode(&self.admin.certificate_pem),
                "client-key-data": encode(self.admin.key_pem.expose()),
            }}],
            "contexts": [{"name": "atoll", "context": {"cluster": "atoll", "user": "atoll-admin"}}],
            "current-context": "atoll",
        });
        // JSON is YAML.
        serde_json::to_string_pretty(&document).expect("plain strings serialize")
    }
}

/// The authority that the egress proxy makes certificates with. Another one than the plane's own: sandboxes trust it.
pub(super) fn egress_authority(state: &StateDir) -> Result<CertificateAuthority, Failure> {
    load_authority(&state.plane().join("pki"), "egress-ca")
}

fn load_authority(dir: &Path, name: &str) -> Result<CertificateAuthority, Failure> {
    let (certificate_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    if let (Ok(certificate_pem), Ok(key_pem)) = (fs::read_to_string(&certificate_path), fs::read_to_string(&key_path)) {
        let stored = KeyedCertificate { certificate_pem, key_pem: Secret::new(key_pem) };
        return CertificateAuthority::load(&stored).map_err(|error| {
            refused(&error).hint(format!("{} is damaged; removing it makes new keys", dir.display()))
        });
    }
    let authority = CertificateAuthority::generate().map_err(|error| refused(&error))?;
    let stored = authority.stored();
    // The key first: a certificate without its key would be taken for a damaged pair.
    write_private(&key_path, stored.key_pem.expose())?;
    write_private(&certificate_path, &stored.certificate_pem)?;
    Ok(authority)
}

/// The text in a file, made at first.
fn keep(path: &Path, make: impl FnOnce() -> String) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) => write_private(path, &make()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_private(path, &make()),
        Err(error) => Err(unusable(path, &error)),
    }
}

fn write_private(path: &Path, text: &str) -> Result<String, Failure> {
    let temporary = PathBuf::from(format!("{}.new", path.display()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| unusable(path, &error))?;
    Ok(text.to_owned())
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::because(Exit::State, format!("cannot use {}", path.display()), error)
}

fn refused(error: &TlsError) -> Failure {
    Failure::because(Exit::State, "the plane's keys cannot be used", error)
}

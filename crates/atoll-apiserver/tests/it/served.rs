//! A server behind TLS, with the files that clients need.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use atoll_rt::tls::{CertificateAuthority, KeyedCertificate, server_config};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::net::TcpListener;

use super::support::Plane;

/// A server that listens on loopback.
pub(crate) struct Served {
    _plane: Plane,
    pub(crate) address: SocketAddr,
    pub(crate) authority: CertificateAuthority,
    folder: tempfile::TempDir,
}

impl Served {
    pub(crate) async fn new() -> Self {
        let plane = Plane::new().await;
        let authority = CertificateAuthority::generate().expect("an authority");
        let server = authority.issue_server(&["localhost", "127.0.0.1"]).expect("a certificate");
        let tls = server_config(&server, authority.certificate_pem()).expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        atoll_rt::listen::serve_https(&plane.group, listener, tls, plane.server.service());
        let folder = tempfile::Builder::new().prefix("atoll-served-").tempdir().expect("a temporary folder");
        Self { _plane: plane, address, authority, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn kubeconfig(&self, user: serde_json::Value) -> serde_json::Value {
        let authority = STANDARD.encode(self.authority.certificate_pem());
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://{}", self.address), "certificate-authority-data": authority,
            } }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        })
    }

    pub(crate) fn with_token(&self, token: &str) -> serde_json::Value {
        self.kubeconfig(json!({ "token": token }))
    }

    pub(crate) fn with_certificate(&self, certificate: &KeyedCertificate) -> serde_json::Value {
        self.kubeconfig(json!({
            "client-certificate-data": STANDARD.encode(&certificate.certificate_pem),
            "client-key-data": STANDARD.encode(certificate.key_pem.expose()),
        }))
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, content).expect("it can be written");
        path
    }

    pub(crate) async fn client(&self, kubeconfig: serde_json::Value) -> kube::Client {
        let kubeconfig: kube::config::Kubeconfig = serde_json::from_value(kubeconfig).expect("it is one");
        let options = kube::config::KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("it is sound");
        kube::Client::try_from(config).expect("a client")
    }
}

mod tests {
    use k8s_openapi::api::authentication::v1::SelfSubjectReview;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, ListParams, PostParams};

    use super::*;

    async fn who(client: &kube::Client) -> Result<(String, Vec<String>), kube::Error> {
        let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
        let answer = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        let user = answer.status.and_then(|status| status.user_info).expect("an answer");
        Ok((user.username.expect("a name"), user.groups.unwrap_or_default()))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn certificates_and_tokens_say_who_one_is() {
        let served = Served::new().await;
        let certificate = served.authority.issue_client("ann", &["system:masters"]).expect("a certificate");
        let ann = served.client(served.with_certificate(&certificate)).await;
        let (name, groups) = who(&ann).await.expect("she is known");
        assert_eq!(
            (name.as_str(), groups.as_slice()),
            ("ann", ["system:masters", "system:authenticated"].map(str::to_owned).as_slice())
        );
        let maps: Api<ConfigMap> = Api::all(ann);
        maps.list(&ListParams::default()).await.expect("she may");

        let jo = served.client(served.with_token("jo-token")).await;
        assert_eq!(who(&jo).await.expect("he is known").0, "jo");
        let maps: Api<ConfigMap> = Api::all(jo);
        let refused = maps.list(&ListParams::default()).await.expect_err("he may not");
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");

        let stranger = served.client(served.with_token("guess")).await;
        let refused = who(&stranger).await.expect_err("nobody knows them");
        assert!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused}");

        // A certificate of another authority does not even connect; nothing depends on what it says.
        let forger = CertificateAuthority::generate().expect("an authority");
        let forged = forger.issue_client("ann", &["system:masters"]).expect("a certificate");
        let impostor = served.client(served.with_certificate(&forged)).await;
        who(&impostor).await.expect_err("it is forged");
    }
}

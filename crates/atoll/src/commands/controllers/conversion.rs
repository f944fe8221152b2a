//! The webhook that converts between the versions of the sandbox kinds, on a cluster whose definitions ask for one.
//!
//! Its certificate comes from an authority that lies in a Secret, so that all replicas have the same; definitions that
//! ask for a webhook are told that authority.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use atoll_apiserver::conversion;
use atoll_rt::TaskGroup;
use atoll_rt::listen::serve_https;
use atoll_rt::tls::{CertificateAuthority, KeyedCertificate, TlsError, server_config};
use atoll_stdx::Secret;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, WebhookClientConfig,
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::net::TcpListener;

use crate::failure::{Exit, Failure};

/// Where the authority is kept.
const SECRET: &str = "agent-sandbox-conversion-webhook";
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
/// What a cluster calls the webhook where its definitions say nothing else.
const SERVICE: &str = "agent-sandbox-webhook-service";
/// A list is converted in one piece.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Definitions that are applied anew forget the authority.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Where the definitions of `atoll crds --v1alpha1` expect the webhook.
pub(super) fn client_config(namespace: &str) -> serde_json::Value {
    json!({ "service": { "name": SERVICE, "namespace": namespace, "path": "/convert", "port": 443 } })
}

/// Serves `/convert`, and keeps telling the definitions whom to trust.
pub(super) async fn serve(
    client: Client,
    namespace: &str,
    address: SocketAddr,
    group: &TaskGroup,
) -> Result<(), Failure> {
    let definitions = Definitions { client: client.clone() };
    let authority = authority(&client, namespace).await?;
    let mut names = definitions.names().await;
    names.extend([format!("{SERVICE}.{namespace}.svc"), "localhost".to_owned(), "127.0.0.1".to_owned()]);
    names.sort();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let certificate = authority.issue_server(&names).map_err(|error| tls_failure(&error))?;
    let tls = server_config(&certificate, authority.certificate_pem()).map_err(|error| tls_failure(&error))?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::because(Exit::Machine, format!("cannot listen on {address}"), &error)
            .hint("choose another --conversion-webhook-bind-address")
    })?;
    tracing::info!(%address, names = names.join(" "), "the conversion webhook is served");
    let routes = Router::new().route("/convert", post(convert)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let service = tower::ServiceExt::<http::Request<hyper::body::Incoming>>::map_err(routes, |never: Infallible| never);
    serve_https(group, listener, tls, service);
    let bundle = authority.certificate_pem().to_owned();
    let token = group.token();
    group.spawn("conversion-webhook", async move {
        loop {
            let delay = match definitions.tell(&bundle).await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(cause = %atoll_stdx::chain(&error), "the definitions cannot be told whom to trust");
                    RETRY_DELAY
                }
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
        }
    });
    Ok(())
}

async fn convert(body: Bytes) -> Response {
    match conversion::review(&body) {
        Ok(review) => axum::Json(review).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

struct Definitions {
    client: Client,
}

impl Definitions {
    async fn asking(&self) -> Result<Vec<CustomResourceDefinition>, kube::Error> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let mut asking = Vec::new();
        for name in conversion::definition_names() {
            asking.extend(api.get_opt(name).await?.filter(|it| client_of(it).is_some()));
        }
        Ok(asking)
    }

    /// The hosts under which the definitions look for the webhook.
    async fn names(&self) -> Vec<String> {
        let asking = self.asking().await.unwrap_or_default();
        asking.iter().filter_map(client_of).filter_map(host).collect()
    }

    /// Definitions that ask for a webhook trust this authority.
    async fn tell(&self, bundle: &str) -> Result<(), kube::Error> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in self.asking().await? {
            let known = client_of(&definition).and_then(|client| client.ca_bundle.as_ref());
            if known.is_some_and(|known| known.0 == bundle.as_bytes()) {
                continue;
            }
            let client = json!({ "caBundle": STANDARD.encode(bundle) });
            let patch = json!({ "spec": { "conversion": { "webhook": { "clientConfig": client } } } });
            api.patch(&definition.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
            tracing::info!(definition = definition.name_any(), "the definition trusts the conversion webhook");
        }
        Ok(())
    }
}

fn client_of(definition: &CustomResourceDefinition) -> Option<&WebhookClientConfig> {
    let conversion = definition.spec.conversion.as_ref().filter(|it| it.strategy == "Webhook")?;
    conversion.webhook.as_ref()?.client_config.as_ref()
}

fn host(client: &WebhookClientConfig) -> Option<String> {
    if let Some(service) = &client.service {
        return Some(format!("{}.{}.svc", service.name, service.namespace));
    }
    let url: http::Uri = client.url.as_ref()?.parse().ok()?;
    url.host().map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// The authority of all replicas: whoever comes first makes it.
async fn authority(client: &Client, namespace: &str) -> Result<CertificateAuthority, Failure> {
    let secrets: Api<core::Secret> = Api::namespaced(client.clone(), namespace);
    let failed = |attempted: &str, error: &kube::Error| {
        Failure::because(Exit::Failure, format!("cannot {attempted} Secret {namespace}/{SECRET}"), error)
            .hint("the controllers need the rights of deploy/rbac.yaml")
    };
    if let Some(secret) = secrets.get_opt(SECRET).await.map_err(|error| failed("read", &error))? {
        return load(&secret, namespace);
    }
    let authority = CertificateAuthority::generate().map_err(|error| tls_failure(&error))?;
    let stored = authority.stored();
    let data = [(CERTIFICATE, stored.certificate_pem.as_bytes()), (KEY, stored.key_pem.expose().as_bytes())];
    let secret = core::Secret {
        metadata: kube::api::ObjectMeta { name: Some(SECRET.to_owned()), ..Default::default() },
        data: Some(data.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.to_vec()))).collect()),
        ..Default::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(authority),
        Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => {
            load(&secrets.get(SECRET).await.map_err(|error| failed("read", &error))?, namespace)
        }
        Err(error) => Err(failed("make", &error)),
    }
}

fn load(secret: &core::Secret, namespace: &str) -> Result<CertificateAuthority, Failure> {
    let text = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.clone());
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    let stored = KeyedCertificate { certificate_pem: text(CERTIFICATE), key_pem: Secret::new(text(KEY)) };
    CertificateAuthority::load(&stored).map_err(|error| {
        tls_failure(&error).hint(format!("delete Secret {namespace}/{SECRET}: the next start makes another"))
    })
}

fn tls_failure(error: &TlsError) -> Failure {
    Failure::because(Exit::Failure, "the conversion webhook has no certificate", error)
}

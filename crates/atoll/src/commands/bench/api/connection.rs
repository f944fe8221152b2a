//! One connection to the server: HTTP/1.1 over TLS, one request after the other.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Tls;
use crate::failure::{Exit, Failure};

/// The server, and who asks.
pub(super) struct Target {
    address: String,
    name: ServerName<'static>,
    tls: Tls,
    authorization: Option<HeaderValue>,
}

impl Target {
    /// The server of a kubeconfig's current context.
    pub(super) async fn of(kubeconfig: &Path) -> Result<Self, Failure> {
        atoll_rt::tls::install_crypto_provider();
        let unusable = |error: &(dyn std::error::Error + 'static)| {
            Failure::because(Exit::Usage, format!("cannot use {}", kubeconfig.display()), error)
        };
        let read = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(&error))?;
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(&error))?;
        let mut tls = config.rustls_client_config().map_err(|error| unusable(&error))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let uri = &config.cluster_url;
        let host = uri.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']);
        let name = config.tls_server_name.clone().unwrap_or_else(|| host.to_owned());
        let token = config.auth_info.token.as_ref().map(|token| {
            use secrecy::ExposeSecret;
            format!("Bearer {}", token.expose_secret())
        });
        let authorization = token.map(|text| HeaderValue::from_str(&text)).transpose();
        Ok(Self {
            address: format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            name: ServerName::try_from(name).map_err(|error| unusable(&error))?,
            tls: Arc::new(tls),
            authorization: authorization.map_err(|error| unusable(&error))?,
        })
    }

    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            Failure::because(Exit::Unreachable, format!("cannot connect to {}", self.address), error)
        };
        let stream = TcpStream::connect(&self.address).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(self.name.clone(), stream).await.map_err(|error| unreachable(&error))?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let group = atoll_rt::TaskGroup::new("bench");
        let driver = group.spawn("connection", async move {
            // A broken connection shows in the next request.
            let _ = driver.await;
        });
        Ok(Connection { sender, _driver: Driver(driver) })
    }

    pub(super) fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("paths of the measurement are sound");
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&self.address).expect("an address is a header"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// Ends the connection with its owner.
struct Driver(atoll_rt::TaskHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Driver,
}

impl Connection {
    /// A request and the whole of its answer.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let response = self.send(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| broken(&error))?;
        Ok((status, body.to_bytes()))
    }

    /// A request and the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        self.sender.ready().await.map_err(|error| broken(&error))?;
        self.sender.send_request(request).await.map_err(|error| broken(&error))
    }
}

pub(super) fn broken(error: &hyper::Error) -> Failure {
    Failure::because(Exit::Failure, "the connection to the server broke", error)
}

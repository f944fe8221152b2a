//! Making a [`kube::Client`]: around an API server in this process, or from a kubeconfig.

use std::path::{Path, PathBuf};

use atoll_stdx::Hint;
use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, Service};

const DEFAULT_NAMESPACE: &str = "default";

/// A client whose server is a service in this process, with no socket in between.
///
/// Such a service carries the identity of its caller; only code in this process can make one.
pub fn in_process<S, B>(service: S) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(service, DEFAULT_NAMESPACE)
}

/// A client from a kubeconfig file, by its current context or the one named.
///
/// # Errors
/// The file can not be read or understood, the context is not in it, or its credentials can not be used.
pub async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Client, ConnectError> {
    let kubeconfig = Kubeconfig::read_from(path)
        .map_err(|source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) })?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) })?;
    Client::try_from(config).map_err(|source| ConnectError::Client { path: path.to_owned(), source: Box::new(source) })
}

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig is of no use.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// The addresses, certificates or tokens in the kubeconfig are of no use.
    #[error("cannot make a client from the kubeconfig {}", path.display())]
    Client {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

impl Hint for ConnectError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig { .. } => {
                Some("Start a plane with `atoll up`, which writes a kubeconfig, or name another file".to_owned())
            }
            Self::Client { .. } => None,
        }
    }
}

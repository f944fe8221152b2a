//! The way to the node that runs a Pod: logs, commands, attached terminals and ports are its business. The server
//! finds the Pod and says who may; the rest is passed on, the connection included.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Extensions, HeaderMap, Method, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use serde_json::Value;

use crate::authn::Identity;

/// What a node answers with.
pub type NodeBody = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The subresources of a Pod that its node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PodStream {
    /// `pods/log`
    Log,
    /// `pods/exec`
    Exec,
    /// `pods/attach`
    Attach,
    /// `pods/portforward`
    PortForward,
}

impl PodStream {
    /// The subresource of this name.
    pub(crate) fn of(subresource: Option<&str>) -> Option<Self> {
        Some(match subresource? {
            "log" => Self::Log,
            "exec" => Self::Exec,
            "attach" => Self::Attach,
            "portforward" => Self::PortForward,
            _ => return None,
        })
    }
}

/// A request that was found good, for the node that the Pod is bound to.
#[derive(Debug)]
pub struct NodeRequest {
    /// What is asked for.
    pub stream: PodStream,
    /// The Pod.
    pub pod: Value,
    /// One of its containers; empty for `portforward`.
    pub container: String,
    /// Who asks.
    pub identity: Identity,
    /// `GET` or `POST`.
    pub method: Method,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's extensions: the connection's upgrade is in them.
    pub extensions: Extensions,
}

/// A node that does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeRefusal {
    /// 400 for what makes no sense now, 404 for what is not there, 500 for a failure of the node's own.
    pub code: StatusCode,
    /// Why.
    pub message: String,
}

/// Passes requests on to the node of their Pod.
pub trait NodeProxy: Send + Sync + 'static {
    /// Answers a request; an answer with status 101 takes over the connection.
    fn call(&self, request: NodeRequest) -> BoxFuture<'static, Result<Response<NodeBody>, NodeRefusal>>;
}

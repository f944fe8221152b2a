//! The API server's way to the node of this process.

use atoll_apiserver::{NodeBody, NodeProxy, NodeRefusal, NodeRequest, PodStream};
use atoll_node::{Node, StreamKind, StreamRefusal, StreamRequest};
use axum::http::{Response, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;

/// The one node that there is: every Pod with a node is its.
pub(super) struct OwnNode(pub(super) Node);

impl NodeProxy for OwnNode {
    fn call(&self, request: NodeRequest) -> BoxFuture<'static, Result<Response<NodeBody>, NodeRefusal>> {
        let node = self.0.clone();
        async move { node.stream(passed_on(request)?).await.map_err(refused) }.boxed()
    }
}

fn passed_on(request: NodeRequest) -> Result<StreamRequest, NodeRefusal> {
    let pod = serde_json::from_value(request.pod).map_err(|error| NodeRefusal {
        code: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!("the Pod cannot be understood: {error}"),
    })?;
    Ok(StreamRequest {
        kind: match request.stream {
            PodStream::Log => StreamKind::Log,
            PodStream::Exec => StreamKind::Exec,
            PodStream::Attach => StreamKind::Attach,
            PodStream::PortForward => StreamKind::PortForward,
        },
        pod,
        container: request.container,
        user: request.identity.name,
        groups: request.identity.groups,
        query: request.query,
        headers: request.headers,
        extensions: request.extensions,
    })
}

fn refused(refusal: StreamRefusal) -> NodeRefusal {
    NodeRefusal { code: refusal.status, message: refusal.message }
}

//! Counting what the controllers ask of the API server, by controller.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

/// Who asked what of which resource, and what was the answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    controller: &'static str,
    verb: &'static str,
    resource: String,
    code: u16,
}

/// Counts of requests.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestCounts {
    counts: Arc<Mutex<BTreeMap<Asked, u64>>>,
}

impl RequestCounts {
    /// A layer around the client of a controller.
    pub(super) fn of(&self, controller: &'static str) -> CountLayer {
        CountLayer { counts: self.clone(), controller }
    }

    fn add(&self, asked: Asked) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(asked).or_default() += 1;
    }

    /// In the OpenMetrics text format, without its end.
    pub(super) fn render(&self, text: &mut String) {
        text.push_str("# HELP atoll_controllers_api_requests Requests to the API server.\n");
        text.push_str("# TYPE atoll_controllers_api_requests counter\n");
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (Asked { controller, verb, resource, code }, count) in counts.iter() {
            let labels = format!(r#"controller="{controller}",verb="{verb}",resource="{resource}",code="{code}""#);
            writeln!(text, "atoll_controllers_api_requests_total{{{labels}}} {count}")
                .expect("strings can be written to");
        }
    }
}

/// Counts the requests that go through a client.
#[derive(Debug, Clone)]
pub(super) struct CountLayer {
    counts: RequestCounts,
    controller: &'static str,
}

impl<S> Layer<S> for CountLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, layer: self.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    inner: S,
    layer: CountLayer,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, resource) = what(request.method().as_str(), request.uri().path(), request.uri().query());
        let CountLayer { counts, controller } = self.layer.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            counts.add(Asked { controller, verb, resource, code });
            answer
        })
    }
}

/// The verb as RBAC calls it, and the resource with its subresource. Names of objects are in neither.
fn what(method: &str, path: &str, query: Option<&str>) -> (&'static str, String) {
    let mut parts = path.trim_matches('/').split('/');
    let rest: Vec<&str> = match parts.next() {
        Some("api") => parts.skip(1).collect(),
        Some("apis") => parts.skip(2).collect(),
        _ => return ("get", "nonresource".to_owned()),
    };
    let rest = match rest.as_slice() {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    let (resource, named) = match rest {
        [resource, _, subresource, ..] => (format!("{resource}/{subresource}"), true),
        [resource, _] => ((*resource).to_owned(), true),
        [resource] => ((*resource).to_owned(), false),
        [] => (String::new(), false),
    };
    let watch = query.is_some_and(|query| query.split('&').any(|it| it == "watch=true" || it == "watch=1"));
    let verb = match (method, named) {
        ("GET", _) if watch => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        _ => "deletecollection",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rbac_names_them() {
        for (method, path, query, expected) in [
            ("GET", "/api/v1/pods", Some("watch=true"), ("watch", "pods")),
            ("GET", "/api/v1/pods", Some("limit=500"), ("list", "pods")),
            ("POST", "/api/v1/namespaces/a/pods", None, ("create", "pods")),
            (
                "PATCH",
                "/apis/agents.x-k8s.io/v1beta1/namespaces/a/sandboxes/s/status",
                None,
                ("patch", "sandboxes/status"),
            ),
            ("DELETE", "/api/v1/namespaces/a/pods/p", None, ("delete", "pods")),
            ("GET", "/api/v1/namespaces/a", None, ("get", "namespaces")),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l", None, ("update", "leases")),
            ("GET", "/version", None, ("get", "nonresource")),
        ] {
            let (verb, resource) = what(method, path, query);
            assert_eq!((verb, resource.as_str()), expected, "{method} {path}");
        }
    }
}

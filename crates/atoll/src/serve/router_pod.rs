//! The router as clients look for it on a cluster: the Service `sandbox-router-svc` in `agent-sandbox-system` with a
//! Pod behind it. `kubectl port-forward` to either reaches the router of this process, which then knows the caller from
//! the API server; that is how the agent-sandbox SDK connects unless it is told otherwise.

use std::time::Duration;

use atoll_node::{PartName, PlanePart};
use atoll_router::{KnownCaller, Router};
use atoll_rt::{CancellationToken, TaskGroup};
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tower::ServiceExt as _;

const NAMESPACE: &str = "agent-sandbox-system";
const SERVICE: &str = "sandbox-router-svc";
const POD: &str = "sandbox-router";
const PORT: u16 = 8080;
/// How often the objects are looked at: somebody may have deleted one.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes under way between a forwarded port and the router.
const PIPE_BYTES: usize = 64 * 1024;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CONFLICT: u16 = 409;

/// The Pod's name, for the node to leave it alone.
pub(super) fn part() -> PartName {
    PartName { namespace: NAMESPACE.to_owned(), name: POD.to_owned() }
}

/// Serves forwarded ports.
pub(super) struct RouterPart {
    router: Router,
    group: TaskGroup,
}

impl RouterPart {
    pub(super) fn new(router: Router, group: &TaskGroup) -> Self {
        Self { router, group: group.clone() }
    }
}

impl PlanePart for RouterPart {
    fn connect(&self, port: u16, user: &str, groups: &[String]) -> Option<DuplexStream> {
        if port != PORT {
            return None;
        }
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let caller = KnownCaller { user: user.to_owned(), groups: groups.to_vec() };
        let (router, stopping) = (self.router.clone(), self.group.token());
        self.group.spawn("router-pod-connection", async move {
            let _stopped = stopping.run_until_cancelled(serve(ours, router, caller)).await;
        });
        Some(theirs)
    }
}

async fn serve(stream: DuplexStream, router: Router, caller: KnownCaller) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let service = router.service();
        async move { service.oneshot(request).await }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
        tracing::debug!(cause = %error, "a forwarded connection to the router ended early");
    }
}

/// Makes the objects and keeps them, until told to stop.
pub(super) async fn keep(client: kube::Client, node: &'static str, stopping: CancellationToken) {
    let keep = async {
        loop {
            if let Err(error) = ensure(&client, node).await {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "the router's Pod and Service could not be made");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    let _stopped = stopping.run_until_cancelled(keep).await;
}

async fn ensure(client: &kube::Client, node: &str) -> Result<(), kube::Error> {
    create(&Api::<Namespace>::all(client.clone()), NAMESPACE, json!({"metadata": {"name": NAMESPACE}})).await?;
    let labels = json!({"app": "sandbox-router"});
    let service = json!({
        "metadata": {"name": SERVICE, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
    });
    create(&Api::<Service>::namespaced(client.clone(), NAMESPACE), SERVICE, service).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let mut pod = pods.get_opt(POD).await?;
    if pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()) {
        pods.delete(POD, &DeleteParams::default().grace_period(0)).await?;
        pod = None;
    }
    if pod.is_none() {
        let pod = json!({
            "metadata": {
                "name": POD, "labels": labels,
                "annotations": {"kubernetes.io/config.mirror": "plane", "kubernetes.io/config.source": "plane"},
            },
            "spec": {
                "nodeName": node,
                "enableServiceLinks": false,
                "automountServiceAccountToken": false,
                "containers": [{"name": "router", "image": "atoll.local/plane", "ports": [{"containerPort": PORT}]}],
                "tolerations": [{"operator": "Exists"}],
            },
        });
        create(&pods, POD, pod).await?;
    }
    let is_running =
        pods.get(POD).await?.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Running");
    if !is_running {
        pods.patch_status(POD, &PatchParams::default(), &Patch::Merge(running())).await?;
    }
    Ok(())
}

fn running() -> Value {
    let now = jiff::Timestamp::now().to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let conditions = ["Initialized", "ContainersReady", "Ready", "PodScheduled"].map(condition);
    json!({"status": {
        "phase": "Running",
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": [{
            "name": "router", "image": "atoll.local/plane", "imageID": "", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}},
        }],
    }})
}

/// Makes an object, unless it is there.
async fn create<K>(api: &Api<K>, name: &str, object: Value) -> Result<(), kube::Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    if api.get_opt(name).await?.is_some() {
        return Ok(());
    }
    let object: K = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(()),
        outcome => outcome.map(drop),
    }
}

//! Health and metrics over plain HTTP, as those who watch controllers expect them.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use atoll_controllers::Controllers;
use atoll_rt::TaskGroup;
use atoll_rt::listen::serve_http;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use super::requests::RequestCounts;
use crate::failure::{Exit, Failure};

const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Ends an exposition in the OpenMetrics text format.
const END: &str = "# EOF\n";

/// What is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Vitals {
    pub(super) leads: Arc<AtomicBool>,
    /// The API server answers, and a leader knows what there is.
    pub(super) ready: Arc<AtomicBool>,
    pub(super) requests: RequestCounts,
    pub(super) lease: String,
    /// Set once the controllers run.
    pub(super) controllers: Arc<OnceLock<Controllers>>,
}

impl Vitals {
    fn metrics(&self) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, labels: &str, value: u64| {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name}{labels} {value}")
                .expect("strings can be written to");
        };
        let lease = format!(r#"{{name="{}"}}"#, self.lease);
        let leads = u64::from(self.leads.load(Ordering::Relaxed));
        gauge("leader_election_master_status", "Whether this process leads.", &lease, leads);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let bytes = resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1_024;
        gauge("process_resident_memory_bytes", "Resident memory.", "", bytes);
        self.requests.render(&mut text);
        text.push_str(&self.controllers.get().map_or_else(|| END.to_owned(), Controllers::metrics_text));
        text
    }
}

/// Serves `/healthz` and `/readyz`.
pub(super) async fn serve_health(vitals: Vitals, address: SocketAddr, group: &TaskGroup) -> Result<(), Failure> {
    let ready = move || {
        let ready = vitals.ready.load(Ordering::Relaxed);
        async move { if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") } }
    };
    let routes = Router::new().route("/healthz", get(async || "ok")).route("/readyz", get(ready));
    serve(routes, address, group).await
}

/// Serves `/metrics`.
pub(super) async fn serve_metrics(vitals: Vitals, address: SocketAddr, group: &TaskGroup) -> Result<(), Failure> {
    let metrics = move || {
        let text = vitals.metrics();
        async move { ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response() }
    };
    serve(Router::new().route("/metrics", get(metrics)), address, group).await
}

async fn serve(routes: Router, address: SocketAddr, group: &TaskGroup) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::because(Exit::Machine, format!("cannot listen on {address}"), &error)
            .hint("Choose another address, or 0 as the port for any free one")
    })?;
    let service = tower::ServiceExt::<http::Request<hyper::body::Incoming>>::map_err(routes, |never: Infallible| never);
    serve_http(group, listener, service);
    Ok(())
}

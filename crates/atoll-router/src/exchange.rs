//! One request from its arrival to the head of its answer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use atoll_rt::listen::{PeerAddr, PeerCertificate};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::UserInfo;
use tokio::time::Instant;

use crate::body::StreamedBody;
use crate::dial::Destination;
use crate::forward::{self, Inbound};
use crate::lease::Lease;
use crate::locator::GuestEndpoint;
use crate::metrics::{Gauge, Metrics};
use crate::refusal::{Refusal, json_response};
use crate::request::{self, Target};
use crate::router::{Inner, KnownCaller, ResponseBody};
use crate::routes::{Resolution, Route};
use crate::tunnel::Tunnel;

/// How long a sandbox that the API calls ready may be unknown to the node.
const LOCATE_PAUSE: Duration = Duration::from_millis(20);
const LOCATE_TRIES_MAX: u32 = 50;

/// Checks, authorises, finds, connects, passes on.
pub(crate) async fn exchange<B>(router: &Arc<Inner>, request: Request<B>) -> Result<Response<ResponseBody>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    request::check_form(request.method(), request.uri(), request.headers())?;
    if is_health_question(&request) {
        return Ok(json_response(StatusCode::OK, r#"{"status":"ok"}"#.to_owned()));
    }
    if router.draining.is_cancelled() {
        return Err(Refusal::Draining);
    }
    let bearer = request::bearer_token(request.headers()).map(str::to_owned);
    let target = Target::from_headers(request.headers(), router.config.loopback_pod_ip)?;
    let caller = request.extensions().get::<KnownCaller>().cloned();
    authorize(router, caller, bearer, &target).await?;
    let mut lease = Lease::take(&router.metrics, &router.requests)?;
    let limit = target.timeout_ms.unwrap_or(router.config.request_timeout_ms);
    let deadline = Instant::now() + Duration::from_millis(limit.min(router.config.request_timeout_ms_max));

    let (route, endpoint) = locate(router, &target, deadline).await?;
    let address = endpoint.address;
    check_pod_ip(router, &target, address)?;
    let destination = Destination::choose(&target, request.uri().path(), endpoint);
    lease.at_sandbox(destination.permits(&route.permits))?;

    let upstream = Upstream { router, target: &target, route, destination, address };
    let late = || {
        Metrics::add(&router.metrics.upstream_timeouts);
        Refusal::NoAnswerInTime { id: target.name.clone() }
    };
    tokio::time::timeout_at(deadline, upstream.pass(request, lease)).await.unwrap_or_else(|_elapsed| Err(late()))
}

/// `/healthz` is the router's own, unless the request is for a sandbox.
fn is_health_question<B>(request: &Request<B>) -> bool {
    request.uri().path() == "/healthz"
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key("x-sandbox-id")
}

/// Who asks must be known, and may use this very sandbox, whether it exists or not.
async fn authorize(
    router: &Inner,
    caller: Option<KnownCaller>,
    bearer: Result<String, Refusal>,
    target: &Target,
) -> Result<(), Refusal> {
    let user = match (caller, bearer) {
        (Some(KnownCaller { user, groups }), _) => {
            Ok(Arc::new(UserInfo { username: Some(user), groups: Some(groups), ..UserInfo::default() }))
        }
        (None, Ok(token)) => router.tokens.verify(&token).await,
        (None, Err(refusal)) => Err(refusal),
    };
    let verdict = match user {
        Ok(user) => router.rights.check(&user, &target.namespace, &target.name).await,
        Err(refusal) => Err(refusal),
    };
    let counter = match &verdict {
        Ok(()) => &router.metrics.authorized,
        Err(Refusal::TokenUnchecked | Refusal::RightsUnchecked) => &router.metrics.authorizer_errors,
        Err(_) => &router.metrics.unauthorized,
    };
    Metrics::add(counter);
    verdict
}

/// Finds the sandbox, and where on this machine it is. Between two lives of a container the API still calls it ready
/// while the node knows better: that is waited for.
async fn locate(router: &Inner, target: &Target, deadline: Instant) -> Result<(Route, GuestEndpoint), Refusal> {
    let unreachable = || Refusal::Unreachable { id: target.name.clone() };
    for _ in 0..LOCATE_TRIES_MAX {
        let route = find(router, target, deadline).await?;
        match router.locator.locate(&route.pod_uid) {
            Some(endpoint) if router.config.may_dial(IpAddr::V4(endpoint.address)) => return Ok((route, endpoint)),
            Some(_) => return Err(unreachable()),
            None => tokio::time::sleep(LOCATE_PAUSE).await,
        }
    }
    Err(unreachable())
}

/// Finds the sandbox, waiting for it while it starts.
async fn find(router: &Inner, target: &Target, deadline: Instant) -> Result<Route, Refusal> {
    let mut changed = router.routes.subscribe();
    let hold_until = deadline.min(Instant::now() + Duration::from_millis(router.config.hold_ms_max));
    let mut waiting = None;
    loop {
        changed.borrow_and_update();
        match router.routes.resolve(&target.namespace, &target.name, target.uid.as_deref()) {
            Resolution::Ready(route) => return Ok(route),
            Resolution::Down => return Err(Refusal::Unreachable { id: target.name.clone() }),
            Resolution::Starting => {}
            // The watch may be a moment behind what the client was just told.
            Resolution::Unknown | Resolution::OtherUid if waiting.is_none() => confirm(router, target).await?,
            Resolution::Unknown => return Err(Refusal::Unreachable { id: target.name.clone() }),
            Resolution::OtherUid => return Err(Refusal::UidMismatch),
        }
        if waiting.is_none() {
            let permit = router.holds.try_acquire().map_err(|_full| Refusal::TooManyRequests)?;
            waiting = Some((permit, Gauge::raise(&router.metrics, |metrics| &metrics.held)));
        }
        let draining = router.draining.cancelled();
        tokio::select! {
            outcome = tokio::time::timeout_at(hold_until, changed.changed()) => match outcome {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(Refusal::Unreachable { id: target.name.clone() }),
                Err(_elapsed) => return Err(Refusal::NotReadyInTime { id: target.name.clone() }),
            },
            () = draining => return Err(Refusal::Draining),
        }
    }
}

/// Asks the API server itself whether the sandbox exists under the UID asked for.
async fn confirm(router: &Inner, target: &Target) -> Result<(), Refusal> {
    let known = router.sandboxes(&target.namespace).get_opt(&target.name).await;
    match known {
        Ok(Some(sandbox)) => match (&target.uid, sandbox.metadata.uid) {
            (Some(wanted), Some(uid)) if *wanted != uid => Err(Refusal::UidMismatch),
            _ => Ok(()),
        },
        Ok(None) => Err(Refusal::Unreachable { id: target.name.clone() }),
        Err(error) => {
            tracing::warn!(cause = %atoll_stdx::chain(&error), "a sandbox could not be looked up");
            Err(Refusal::Unreachable { id: target.name.clone() })
        }
    }
}

/// The address a client names is only ever compared, never dialled. One that the sandbox had earlier gets the answer
/// that makes clients look it up again.
fn check_pod_ip(router: &Inner, target: &Target, address: Ipv4Addr) -> Result<(), Refusal> {
    match target.pod_ip {
        Some(named) if named != IpAddr::V4(address) => {
            if router.routes.had_address(&target.namespace, &target.name, named) {
                Err(Refusal::Unreachable { id: target.name.clone() })
            } else {
                Err(Refusal::ForeignTargetIp)
            }
        }
        _ => Ok(()),
    }
}

/// A sandbox to which a request is passed.
struct Upstream<'r> {
    router: &'r Arc<Inner>,
    target: &'r Target,
    route: Route,
    destination: Destination,
    address: Ipv4Addr,
}

impl Upstream<'_> {
    async fn pass<B>(self, mut request: Request<B>, mut lease: Lease) -> Result<Response<ResponseBody>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let upgrade = forward::wanted_upgrade(request.version(), request.headers());
        let client_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let inbound = Inbound {
            peer: request.extensions().get::<PeerAddr>().map(|peer| peer.0.ip()),
            is_tls: request.extensions().get::<PeerCertificate>().is_some(),
        };
        let (parts, body) = request.into_parts();
        let host = self.destination.host(self.address, self.target.port);
        let (method, uri, headers) = forward::upstream_head(&parts, &host, &inbound, upgrade.as_ref());
        let mut outbound = Request::new(body);
        *outbound.method_mut() = method;
        *outbound.uri_mut() = uri;
        *outbound.headers_mut() = headers;
        *outbound.version_mut() = Version::HTTP_11;

        let response = self.send(outbound, &mut lease).await?;
        Ok(self.answer(response, client_side, lease))
    }

    async fn send<B>(&self, request: Request<B>, lease: &mut Lease) -> Result<Response<Incoming>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let metrics = &self.router.metrics;
        let stream = self.destination.connect(metrics).await.map_err(|error| {
            Metrics::add(&metrics.upstream_dial_errors);
            tracing::debug!(sandbox = %self.target.name, cause = %error, "a sandbox could not be dialled");
            self.unreachable()
        })?;
        let broken = |error: hyper::Error| {
            Metrics::add(&metrics.upstream_broken);
            tracing::debug!(sandbox = %self.target.name, cause = %atoll_stdx::chain(&error), "an exchange broke");
            self.unreachable()
        };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = self.router.group.spawn("router-exchange", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(cause = %atoll_stdx::chain(&error), "a connection to a sandbox ended early");
            }
        });
        lease.with_connection(driver);
        tokio::select! {
            outcome = sender.send_request(request) => outcome.map_err(broken),
            () = self.route.gone.cancelled() => Err(self.unreachable()),
            () = self.router.cut_off.cancelled() => Err(Refusal::Draining),
        }
    }

    /// Turns the sandbox's answer into ours, and opens the tunnel where both sides agreed on one.
    fn answer(
        self,
        mut response: Response<Incoming>,
        client_side: Option<hyper::upgrade::OnUpgrade>,
        lease: Lease,
    ) -> Response<ResponseBody> {
        let idle_limit = Duration::from_millis(self.router.config.idle_ms_max);
        let (gone, drained) = (self.route.gone.clone(), self.router.cut_off.clone());
        let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match client_side {
            Some(client) if is_upgrade => {
                let sandbox = hyper::upgrade::on(&mut response);
                let tunnel = Tunnel { client, sandbox, gone, drained, idle_limit, lease };
                self.router.group.spawn("router-tunnel", tunnel.run(Arc::clone(&self.router.metrics)));
                let (mut parts, _no_body) = response.into_parts();
                forward::clean_response_head(parts.status, &mut parts.headers);
                Response::from_parts(parts, empty_body())
            }
            None if is_upgrade => {
                // Nobody asked for it.
                Metrics::add(&self.router.metrics.upstream_broken);
                self.unreachable().response()
            }
            _ => {
                let (mut parts, body) = response.into_parts();
                forward::clean_response_head(parts.status, &mut parts.headers);
                parts.version = Version::default();
                let body = StreamedBody::new(body, lease, [gone, drained], idle_limit);
                Response::from_parts(parts, body.boxed_unsync())
            }
        }
    }

    fn unreachable(&self) -> Refusal {
        Refusal::Unreachable { id: self.target.name.clone() }
    }
}

fn empty_body() -> ResponseBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

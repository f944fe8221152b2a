//! Requests of a sandbox, each judged by itself, framed anew on the way out: what a server sees is what was judged.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;

use self::head::{answered, authority, connect_target, empty, mismatch, plain, rewritten, switched};
use super::relay::{Counted, Ledger, carry};
use super::session::{Session, Stream, Target};
use super::terminate;
use crate::credential;
use crate::name::HostName;
use crate::proxy::Shared;
use crate::record::Spoken;
use crate::redact::Redactor;
use crate::snapshot::{ActiveAllow, SandboxPolicy};
use crate::verdict::{self, Grant, Refusal};

mod body;
mod head;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

type ResponseBody = BoxBody<Bytes, hyper::Error>;

/// HTTP in the clear, on a connection whose name may be known.
pub(super) async fn serve_clear<S: Stream>(session: Session, stream: S, expected: Option<HostName>, port: u16) {
    let conversation = Conversation::new(session, Form::Transparent { expected, port, tls: false });
    conversation.serve(stream).await;
}

/// TLS that ends here, since the rule is about requests.
pub(super) async fn serve_within_tls<S: Stream>(session: Session, stream: S, name: HostName, port: u16) {
    let greeted = tokio::time::timeout(session.shared.patience, session.shared.leaves.accept(&name, stream)).await;
    match greeted {
        Ok(Ok(stream)) => {
            let form = Form::Transparent { expected: Some(name), port, tls: true };
            Conversation::new(session, form).serve(stream).await;
        }
        Ok(Err(error)) => {
            let why = format!("the sandbox does not accept the proxy's certificate ({error})");
            let refusal = Refusal::Unreachable(name.to_string(), why);
            session.refuse(Spoken::Https, Some(&Target::Name(name, port)), port, &refusal).await;
        }
        Err(_elapsed) => session.refuse(Spoken::Https, None, port, &Refusal::TooSlow).await,
    }
}

/// A client that knows that it speaks to a proxy: `CONNECT`, or whole URLs.
pub(super) async fn serve_explicit<S: Stream>(session: Session, stream: S) {
    Conversation::new(session, Form::Explicit).serve(stream).await;
}

/// What requests on a connection look like.
enum Form {
    Transparent { expected: Option<HostName>, port: u16, tls: bool },
    Explicit,
}

/// The requests of one connection.
struct Conversation {
    session: Session,
    form: Form,
    upstream: Mutex<Option<Upstream>>,
}

/// A connection to a host, kept for the next request.
struct Upstream {
    name: HostName,
    port: u16,
    sender: SendRequest<Incoming>,
    ledger: Ledger,
}

/// A request that is allowed.
struct Judged {
    name: HostName,
    port: u16,
    tls: bool,
    active: Option<ActiveAllow>,
    policy: Arc<SandboxPolicy>,
    /// Takes the brokered token out of what comes back.
    redactor: Option<Redactor>,
}

impl Conversation {
    fn new(session: Session, form: Form) -> Arc<Self> {
        Arc::new(Self { session, form, upstream: Mutex::default() })
    }

    async fn serve<S: Stream>(self: Arc<Self>, stream: S) {
        let handler = Arc::clone(&self);
        let service = hyper::service::service_fn(move |request| {
            let conversation = Arc::clone(&handler);
            async move { Ok::<_, Infallible>(conversation.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.session.shared.patience)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(cause = %error, "a sandbox's HTTP connection ended early");
        }
        let upstream = self.upstream.lock().await.take();
        if let Some(upstream) = upstream {
            upstream.ledger.close(&self.session.shared, &self.session.policy, None).await;
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<ResponseBody> {
        if *request.method() == Method::CONNECT {
            return self.connect(request).await;
        }
        let judged = self.judge(&request);
        let outcome = match judged {
            Ok(judged) => self.forward(judged, request).await,
            Err((target, refusal)) => Err((target, refusal)),
        };
        match outcome {
            Ok(response) => response,
            Err((target, refusal)) => self.refused(target, &refusal).await,
        }
    }

    async fn refused(&self, target: Option<Target>, refusal: &Refusal) -> Response<ResponseBody> {
        let (protocol, port) = match &self.form {
            Form::Transparent { tls: true, port, .. } => (Spoken::Https, *port),
            Form::Transparent { port, .. } => (Spoken::Http, *port),
            Form::Explicit => (Spoken::Http, 0),
        };
        let port = target.as_ref().map_or(port, Target::port);
        self.session.refuse(protocol, target.as_ref(), port, refusal).await;
        let command = verdict::command(&self.session.policy, port, refusal);
        let hint = command.map(|command| format!("; allow it with: {command}")).unwrap_or_default();
        let status = match refusal {
            Refusal::Ambiguous(_) | Refusal::Unnamed => StatusCode::BAD_REQUEST,
            Refusal::Unreachable(..) | Refusal::NoAddress(_) | Refusal::NoCredential(_) => StatusCode::BAD_GATEWAY,
            _ => StatusCode::FORBIDDEN,
        };
        plain(status, format!("atoll egress: {refusal}{hint}\n"))
    }

    /// Who the request is for, and whether it may.
    fn judge(&self, request: &Request<Incoming>) -> Result<Judged, (Option<Target>, Refusal)> {
        let (name, port, tls) = self.destination(request).map_err(|refusal| (None, refusal))?;
        let target = || Some(Target::Name(name.clone(), port));
        let refuse = |refusal| (target(), refusal);
        // As it is now: a connection outlives many a rule.
        let policy = self.session.refreshed().ok_or_else(|| refuse(Refusal::Revoked))?;
        let grant = verdict::by_name(&policy, &name, port).map_err(refuse)?;
        let active = match grant {
            Grant::Rule(active) => Some(*active),
            Grant::NetworkPolicy => None,
        };
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut redactor = None;
        if let Some(ActiveAllow { allow, credential, .. }) = &active {
            if !allow.allows_request(request.method().as_str(), path) {
                let path = request.uri().path().to_owned();
                let method = request.method().to_string();
                return Err(refuse(Refusal::Request { name: name.clone(), method, path }));
            }
            if let (Some(rule), Some(credential)) = (&allow.credential, credential) {
                if !tls {
                    return Err(refuse(Refusal::ClearCredential(name.clone())));
                }
                let placeholder = &credential.placeholder;
                if let Some(place) = credential::foreign(request.headers(), request.uri().query(), rule, placeholder) {
                    return Err(refuse(Refusal::ForeignCredential(place)));
                }
                let token = credential.token.as_ref().ok_or_else(|| refuse(Refusal::NoCredential(name.clone())))?;
                redactor = Some(Redactor::new(token.expose(), &credential::written(rule, token.expose())));
            }
        }
        Ok(Judged { name, port, tls, active, policy, redactor })
    }

    /// The host that a request says, in every place where it says one.
    fn destination(&self, request: &Request<Incoming>) -> Result<(HostName, u16, bool), Refusal> {
        let headers = request.headers();
        if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::Ambiguous("it has both a length and a transfer coding"));
        }
        if request.version() > Version::HTTP_11 {
            return Err(Refusal::Ambiguous("its version is unknown"));
        }
        let default = match &self.form {
            Form::Transparent { port, .. } => *port,
            Form::Explicit => HTTP_PORT,
        };
        let mut hosts = headers.get_all(HOST).iter();
        let said = match (hosts.next(), hosts.next()) {
            (Some(host), None) => authority(host.as_bytes(), default)?,
            (None, _) => return Err(Refusal::Unnamed),
            (Some(_), Some(_)) => return Err(Refusal::Ambiguous("it names two hosts")),
        };
        if let Some(in_target) = request.uri().authority() {
            let in_target = authority(in_target.as_str().as_bytes(), default)?;
            if in_target != said {
                return Err(mismatch(&said, &in_target));
            }
            if request.uri().scheme_str() != Some("http") {
                return Err(Refusal::Ambiguous("its target has another scheme than http"));
            }
        } else if matches!(self.form, Form::Explicit) {
            return Err(Refusal::Ambiguous("a proxy is asked with whole URLs, or with CONNECT"));
        }
        match &self.form {
            Form::Explicit => Ok((said.0, said.1, false)),
            Form::Transparent { expected: Some(name), port, .. } if (name, *port) != (&said.0, said.1) => {
                Err(mismatch(&(name.clone(), *port), &said))
            }
            Form::Transparent { port, .. } if *port != said.1 => Err(mismatch(&(said.0.clone(), *port), &said)),
            Form::Transparent { tls, .. } => Ok((said.0, said.1, *tls)),
        }
    }

    async fn forward(
        &self,
        judged: Judged,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, (Option<Target>, Refusal)> {
        let target = Some(Target::Name(judged.name.clone(), judged.port));
        let refuse = |refusal| (target.clone(), refusal);
        let mut upstream = self.upstream.lock().await;
        let mut ready = match upstream.take() {
            Some(kept) if kept.name == judged.name && kept.port == judged.port && kept.sender.is_ready() => kept,
            other => {
                if let Some(other) = other {
                    other.ledger.close(&self.session.shared, &self.session.policy, None).await;
                }
                self.open(&judged).await.map_err(refuse)?
            }
        };
        let (mut request, upgrade) = rewritten(request, &judged).map_err(refuse)?;
        let from_client = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
        let sent = ready.sender.send_request(request).await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let refusal = Refusal::Unreachable(judged.name.to_string(), error.to_string());
                ready.ledger.close(&self.session.shared, &self.session.policy, Some(&refusal)).await;
                return Err(refuse(refusal));
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(from_client), Some(protocol)) = (from_client, upgrade) else {
                let refusal = Refusal::Unreachable(judged.name.to_string(), "it changes protocols unasked".to_owned());
                return Err(refuse(refusal));
            };
            let from_server = hyper::upgrade::on(&mut response);
            self.join(judged, from_client, from_server, ready.ledger);
            return Ok(switched(response, &protocol));
        }
        *upstream = Some(ready);
        answered(response, judged).map_err(refuse)
    }

    /// A connection to the host, on the record.
    async fn open(&self, judged: &Judged) -> Result<Upstream, Refusal> {
        let shared = &self.session.shared;
        let target = Target::Name(judged.name.clone(), judged.port);
        let allowed = shared.allow(&judged.policy, &target).await?;
        let mut about = shared.about(if judged.tls { Spoken::Https } else { Spoken::Http }, judged.port);
        about.name = Some(judged.name.to_string());
        about.address = allowed.addresses.first().copied();
        let ledger = Ledger::open(shared, &judged.policy, about, allowed.grant.rule()).await.ok_or(Refusal::Revoked)?;
        match self.reach(judged, &allowed, &ledger).await {
            Ok(sender) => Ok(Upstream { name: judged.name.clone(), port: judged.port, sender, ledger }),
            Err(refusal) => {
                ledger.close(shared, &judged.policy, Some(&refusal)).await;
                Err(refusal)
            }
        }
    }

    async fn reach(
        &self,
        judged: &Judged,
        allowed: &super::relay::Allowed,
        ledger: &Ledger,
    ) -> Result<SendRequest<Incoming>, Refusal> {
        let shared = &self.session.shared;
        let (stream, address) = shared.dial(allowed).await?;
        let unreachable = |why: String| Refusal::Unreachable(judged.name.to_string(), why);
        let revoked = Revocation {
            shared: Arc::clone(shared),
            sandbox: self.session.sandbox,
            uid: judged.policy.uid.clone(),
            target: allowed.target.clone(),
            address,
        };
        let counters = Arc::clone(&ledger.counters);
        if !judged.tls {
            return handshake(Counted { stream, counters }, revoked)
                .await
                .map_err(|error| unreachable(error.to_string()));
        }
        let greeted =
            tokio::time::timeout(shared.patience, terminate::connect(&shared.trust, &judged.name, stream)).await;
        let stream = greeted
            .map_err(|_elapsed| unreachable("it does not greet in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        handshake(Counted { stream, counters }, revoked).await.map_err(|error| unreachable(error.to_string()))
    }

    /// Carries what follows a change of protocols.
    fn join(
        &self,
        judged: Judged,
        from_client: hyper::upgrade::OnUpgrade,
        from_server: hyper::upgrade::OnUpgrade,
        ledger: Ledger,
    ) {
        let session = self.session.clone();
        let group = session.shared.group.clone();
        let stop = group.token();
        group.spawn("egress-upgrade", async move {
            let Ok(Ok((client, server))) =
                tokio::time::timeout(session.shared.patience, async { tokio::try_join!(from_client, from_server) })
                    .await
            else {
                return;
            };
            let target = Target::Name(judged.name, judged.port);
            let revoked = session.shared.revoked(session.sandbox, &session.policy.uid, &target, None);
            // They are counted below.
            let counters = Arc::default();
            let carried = carry(TokioIo::new(client), TokioIo::new(server), &counters, revoked);
            if let Some(refusal) = stop.run_until_cancelled(carried).await {
                ledger.close(&session.shared, &session.policy, refusal.as_ref()).await;
            }
        });
    }

    /// `CONNECT`: what follows is a connection like any other.
    async fn connect(self: Arc<Self>, mut request: Request<Incoming>) -> Response<ResponseBody> {
        if !matches!(self.form, Form::Explicit) {
            return self.refused(None, &Refusal::Ambiguous("CONNECT is for proxies")).await;
        }
        let text = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let target = match connect_target(&text) {
            Ok(target) => target,
            Err(refusal) => return self.refused(None, &refusal).await,
        };
        // Tried here for the sake of a clear answer; what follows is judged again.
        let permitted = self.session.shared.snapshot();
        let judged = match &target {
            Target::Name(name, port) => verdict::by_name(&self.session.policy, name, *port),
            Target::Address(address, port) => {
                verdict::by_address(&self.session.policy, &permitted.permitted_for_names, *address, *port)
            }
        };
        if let Err(refusal) = judged {
            return self.refused(Some(target), &refusal).await;
        }
        let session = self.session.clone();
        let group = session.shared.group.clone();
        let stop = group.token();
        let upgraded = hyper::upgrade::on(&mut request);
        group.spawn("egress-connect", async move {
            let carried = async {
                if let Ok(Ok(stream)) = tokio::time::timeout(session.shared.patience, upgraded).await {
                    within(session, stream, target).await;
                }
            };
            let _stopped = stop.run_until_cancelled(carried).await;
        });
        Response::new(empty())
    }
}

/// A connection within a connection. Of a type without its content, which is a connection again.
fn within(session: Session, stream: Upgraded, target: Target) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(session.serve_target(TokioIo::new(stream), target))
}

/// When a connection to a host must end.
struct Revocation {
    shared: Arc<Shared>,
    sandbox: std::net::Ipv4Addr,
    uid: String,
    target: Target,
    address: std::net::Ipv4Addr,
}

/// Speaks HTTP over a connection, in a task that ends with it, or when it is not allowed any more.
async fn handshake<S: Stream>(stream: S, revocation: Revocation) -> hyper::Result<SendRequest<Incoming>> {
    let (sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let group = revocation.shared.group.clone();
    let stop = group.token();
    group.spawn("egress-upstream", async move {
        let Revocation { shared, sandbox, uid, target, address } = revocation;
        tokio::select! {
            _ended = connection.with_upgrades() => {}
            () = shared.revoked(sandbox, &uid, &target, Some(address)) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(sender)
}

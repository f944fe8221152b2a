//! What a kubelet serves to clients of the API server: logs, commands, attached terminals and ports of Pods.
//!
//! The API server has found out who asks and what they may. Commands and ports come over a WebSocket
//! (`v5.channel.k8s.io`, `v4.channel.k8s.io`, `SPDY/3.1+portforward.k8s.io`) or over SPDY/3.1.

mod command;
mod forward;
mod log;
mod spdy;
mod websocket;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use atoll_client::sandbox::SandboxConnection;
use atoll_rt::clock::now_unix_ms;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::OwnedSemaphorePermit;

use crate::init;
use crate::node::{Node, Shared};
use crate::pod;
use command::CommandOptions;
pub use forward::PlanePart;
use forward::{Destination, Reach};
use log::{LogFiles, LogOptions, LogReader, LogText};

/// Streams that a node serves at a time; one more is refused.
pub(crate) const STREAMS_MAX: usize = 1024;

const SPDY: &str = "SPDY/3.1";

/// The body of an answer.
pub type StreamAnswer = UnsyncBoxBody<Bytes, Infallible>;

/// What a client wants of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A container's log.
    Log,
    /// To run a command.
    Exec,
    /// To see what the container's own command does.
    Attach,
    /// To reach ports.
    PortForward,
}

/// A request that may be made by whoever makes it.
#[derive(Debug)]
pub struct StreamRequest {
    /// What is wanted.
    pub kind: StreamKind,
    /// The Pod, as the API server knows it.
    pub pod: Pod,
    /// One of its containers; empty for ports.
    pub container: String,
    /// Who asks.
    pub user: String,
    /// The groups of who asks.
    pub groups: Vec<String>,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's extensions, with the connection's upgrade.
    pub extensions: Extensions,
}

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StreamRefusal {
    /// 400, 429 or 500.
    pub status: StatusCode,
    /// Why.
    pub message: String,
}

impl StreamRefusal {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: message.into() }
    }
}

/// Whether a parameter of a query is a switch that is on.
fn is_true(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

impl Node {
    /// Serves a log, a command or ports of a Pod of this node. An answer with status 101 goes on as another protocol
    /// on the request's connection, in a task of the node's group.
    ///
    /// # Errors
    /// [`StreamRefusal`] with the words for the client.
    pub async fn stream(&self, request: StreamRequest) -> Result<Response<StreamAnswer>, StreamRefusal> {
        let permit = Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| StreamRefusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            message: format!("this node serves {STREAMS_MAX} streams already"),
        })?;
        let call = StreamCall { shared: Arc::clone(&self.shared), request, permit };
        match call.request.kind {
            StreamKind::Log => call.log().await,
            StreamKind::Exec => call.exec(),
            StreamKind::Attach => call.attach().await,
            StreamKind::PortForward => call.forward(),
        }
    }
}

struct StreamCall {
    shared: Arc<Shared>,
    request: StreamRequest,
    permit: OwnedSemaphorePermit,
}

type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

impl StreamCall {
    fn pod_name(&self) -> &str {
        self.request.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.request.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The number of the init container that is meant; `None` for the Pod's own container.
    fn init_index(&self) -> Option<usize> {
        init::containers(&self.request.pod).iter().position(|container| container.name == self.request.container)
    }

    fn sandbox_id(&self) -> String {
        self.init_index().map_or_else(|| self.uid().to_owned(), |index| init::sandbox_id(self.uid(), index))
    }

    /// The guest of a container that runs.
    fn guest(&self) -> Option<SandboxConnection> {
        let endpoints = self.shared.endpoints.read().expect("no holder of this lock panics");
        endpoints.get(&self.sandbox_id()).map(|endpoint| SandboxConnection::over_unix(&endpoint.socket))
    }

    fn reach(&self) -> Option<Reach> {
        let parts = self.shared.parts.read().expect("no holder of this lock panics");
        let part = parts.iter().find(|(name, _)| name.is_of(&self.request.pod)).map(|(_, part)| Arc::clone(part));
        let StreamRequest { user, groups, .. } = &self.request;
        match part {
            Some(part) => Some(Reach::Part { part, user: user.clone(), groups: groups.clone() }),
            None => self.guest().map(Reach::Guest),
        }
    }

    fn not_running(&self) -> StreamRefusal {
        let container = &self.request.container;
        if container.is_empty() {
            let phase = pod::status(&self.request.pod).phase.as_deref().unwrap_or("Unknown");
            return StreamRefusal::bad_request(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            ));
        }
        StreamRefusal::internal(format!("unable to upgrade connection: container not found (\"{container}\")"))
    }

    async fn log(self) -> Result<Response<StreamAnswer>, StreamRefusal> {
        let now =
            Timestamp::from_millisecond(i64::try_from(now_unix_ms()).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX);
        let options = LogOptions::parse(&self.request.query, now)?;
        let reader = self.open_log(options.previous, options.tail_lines, options.follow).await?;
        let text = LogText::new(reader, &options);
        let stopping = self.shared.group.token();
        let permit = self.permit;
        let chunks = futures::stream::unfold((text, permit), |(mut text, permit)| async move {
            match text.next().await {
                Ok(Some(bytes)) => Some((Ok(http_body::Frame::data(bytes)), (text, permit))),
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!(cause = %error, "a log could not be read to its end");
                    None
                }
            }
        });
        let body = StreamBody::new(chunks.take_until(stopping.cancelled_owned()));
        let mut response = Response::new(UnsyncBoxBody::new(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    async fn open_log(
        &self,
        previous: bool,
        tail_lines: Option<u64>,
        follow: bool,
    ) -> Result<LogReader, StreamRefusal> {
        let id = self.sandbox_id();
        let runs = self.shared.endpoints.read().expect("no holder of this lock panics").contains_key(&id);
        // Of an init container that has ended, the log alone was kept.
        let is_kept = previous || (self.init_index().is_some() && !runs);
        let files = LogFiles { current: self.shared.runtime.log_path(&id, is_kept) };
        let (shared, uid) = (Arc::clone(&self.shared), id);
        let is_over =
            move || previous || !shared.endpoints.read().expect("no holder of this lock panics").contains_key(&uid);
        let (container, pod) = (&self.request.container, self.pod_name());
        LogReader::open(files, tail_lines, follow, is_over).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if previous => StreamRefusal::bad_request(format!(
                "previous terminated container \"{container}\" in pod \"{pod}\" not found"
            )),
            std::io::ErrorKind::NotFound => StreamRefusal::bad_request(format!(
                "container \"{container}\" in pod \"{pod}\" is waiting to start: {}",
                waiting_reason(&self.request.pod, container)
            )),
            _ => StreamRefusal::internal(format!("the log of container \"{container}\" cannot be read: {error}")),
        })
    }

    fn exec(self) -> Result<Response<StreamAnswer>, StreamRefusal> {
        let options = CommandOptions::parse(&self.request.query)?;
        if options.command.is_empty() {
            return Err(StreamRefusal::bad_request("you must specify at least one command for the container"));
        }
        let guest = self.guest().ok_or_else(|| self.not_running())?;
        let wanted = options.clone();
        self.converse(options, move |peer| command::exec(peer, guest, wanted))
    }

    async fn attach(self) -> Result<Response<StreamAnswer>, StreamRefusal> {
        let options = CommandOptions::parse(&self.request.query)?;
        if self.guest().is_none() {
            return Err(self.not_running());
        }
        let log = self.open_log(false, Some(0), true).await?;
        self.converse(options, move |peer| command::follow(peer, log))
    }

    /// Settles how a client and a command speak with each other, and lets them.
    fn converse<F, Fut>(self, options: CommandOptions, talk: F) -> Result<Response<StreamAnswer>, StreamRefusal>
    where
        F: FnOnce(command::Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let headers = &self.request.headers;
        if websocket::is_asked_for(headers) {
            let (protocol, answer) = websocket::accept(headers, &command::PROTOCOLS)?;
            return self.upgrade(answer, move |io| async move {
                let socket = websocket::open(io).await;
                if let Ok(peer) = command::over_websocket(socket, protocol, &options).await {
                    talk(peer).await;
                }
            });
        }
        let answer = spdy_answer(headers, command::command_protocol(headers))?;
        self.upgrade(answer, move |io| async move {
            if let Ok(peer) = command::over_spdy(io, &options).await {
                talk(peer).await;
            }
        })
    }

    fn forward(self) -> Result<Response<StreamAnswer>, StreamRefusal> {
        let reach = self.reach().ok_or_else(|| self.not_running())?;
        let destination = Destination { reach, named: format!("{}, uid {}", self.pod_name(), self.uid()) };
        let headers = &self.request.headers;
        if !websocket::is_asked_for(headers) {
            let answer = spdy_answer(headers, command::settle_protocol(headers, forward::PROTOCOL))?;
            return self.upgrade(answer, move |io| forward::over_spdy(io, destination));
        }
        let known = [forward::TUNNEL_PROTOCOL, forward::CHANNEL_PROTOCOLS[0]];
        let (protocol, answer) = websocket::accept(headers, &known)?;
        if protocol == forward::TUNNEL_PROTOCOL {
            return self.upgrade(answer, move |io| async move {
                let bytes = websocket::ByteStream::new(websocket::open(io).await);
                forward::over_spdy(bytes, destination).await;
            });
        }
        let ports = forward::ports(&self.request.query)?;
        self.upgrade(answer, move |io| async move {
            forward::over_websocket(websocket::open(io).await, ports, destination).await;
        })
    }

    /// Answers with 101 and serves what the connection becomes.
    fn upgrade<F, Fut>(mut self, answer: Response<()>, serve: F) -> Result<Response<StreamAnswer>, StreamRefusal>
    where
        F: FnOnce(Upgraded) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let upgrade = self.request.extensions.remove::<OnUpgrade>();
        let upgrade = upgrade.ok_or_else(|| StreamRefusal::bad_request("Upgrade request required"))?;
        let (stopping, permit) = (self.shared.group.token(), self.permit);
        self.shared.group.spawn("node-stream", async move {
            let served = async {
                match upgrade.await {
                    Ok(upgraded) => serve(TokioIo::new(upgraded)).await,
                    Err(error) => tracing::debug!(cause = %error, "a connection was not upgraded"),
                }
            };
            let _stopped = stopping.run_until_cancelled(served).await;
            drop(permit);
        });
        Ok(answer.map(|()| UnsyncBoxBody::new(Empty::new().map_err(|never| match never {}))))
    }
}

/// The answer that makes a connection SPDY.
fn spdy_answer(
    headers: &HeaderMap,
    protocol: Result<&'static str, StreamRefusal>,
) -> Result<Response<()>, StreamRefusal> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    if !upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case(SPDY)) {
        return Err(StreamRefusal::bad_request("Upgrade request required"));
    }
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(SPDY));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(command::PROTOCOL_HEADER, HeaderValue::from_static(protocol?));
    Ok(answer)
}

/// What a container waits for, by the Pod's own account.
fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod::status(pod);
    let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let waiting =
        all.filter(|status| status.name == container).find_map(|status| status.state.as_ref()?.waiting.as_ref());
    waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_else(|| "ContainerCreating".to_owned())
}

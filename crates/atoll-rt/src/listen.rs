//! Listeners: accept, serve HTTP/1.1 and HTTP/2 with upgrades, stop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::task::{TaskGroup, TaskHandle};

/// Connections that one listener serves at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take to send a request's head, or to finish the TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long requests in flight may take to end once the listener stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (for instance: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The peer's address, in the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddr(pub SocketAddr);

/// The peer's verified certificate (DER), in the extensions of each request served over TLS; `None` if it sent none.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Option<Arc<Vec<u8>>>);

/// Serves plain HTTP until the group stops.
pub fn serve_http<S, B>(group: &TaskGroup, listener: TcpListener, service: S) -> TaskHandle<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = group.clone();
    group.spawn(
        "listener",
        accept_loop(connections, listener, move |stream, peer, group| {
            let service = service.clone();
            async move { serve_connection(stream, WithPeer { service, peer, certificate: None }, group).await }
        }),
    )
}

/// Serves HTTP over TLS until the group stops.
pub fn serve_https<S, B>(group: &TaskGroup, listener: TcpListener, tls: Arc<ServerConfig>, service: S) -> TaskHandle<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connections = group.clone();
    let acceptor = TlsAcceptor::from(tls);
    group.spawn(
        "listener",
        accept_loop(connections, listener, move |stream, peer, group| {
            let service = service.clone();
            let acceptor = acceptor.clone();
            async move {
                let handshake = tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await;
                let Ok(Ok(stream)) = handshake else {
                    tracing::debug!(%peer, "TLS handshake failed");
                    return;
                };
                let der =
                    stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|der| der.to_vec());
                let certificate = Some(PeerCertificate(der.map(Arc::new)));
                serve_connection(stream, WithPeer { service, peer, certificate }, group).await;
            }
        }),
    )
}

async fn accept_loop<F, Fut>(group: TaskGroup, listener: TcpListener, serve: F)
where
    F: Fn(TcpStream, SocketAddr, TaskGroup) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let token = group.token();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
                listener.accept().await.map(|(stream, peer)| (stream, peer, permit))
            } => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                // Small frames are answers somebody waits for. A socket without the option still works.
                let _ = stream.set_nodelay(true);
                let connection = serve(stream, peer, group.clone());
                group.spawn("connection", async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(cause = %atoll_stdx::chain(&error), "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<I, S, B>(stream: I, service: WithPeer<S>, group: TaskGroup)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(HEAD_BYTES_MAX as u32);
    let service = hyper_util::service::TowerToHyperService::new(service);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let token = group.token();
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(cause = %error, "connection ended early");
            }
        }
        () = token.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _cut_off = tokio::time::timeout(DRAIN_TIMEOUT, connection).await;
        }
    }
}

/// Puts what is known of the peer into each request.
#[derive(Clone)]
struct WithPeer<S> {
    service: S,
    peer: SocketAddr,
    certificate: Option<PeerCertificate>,
}

impl<S> Service<Request<Incoming>> for WithPeer<S>
where
    S: Service<Request<Incoming>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(PeerAddr(self.peer));
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_request_is_answered_and_the_listener_stops() {
        let group = TaskGroup::new("test");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let service = tower::service_fn(|request: Request<Incoming>| async move {
            let peer = request.extensions().get::<PeerAddr>().expect("the peer is known").0;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(peer.ip().to_string()))))
        });
        let listening = serve_http(&group, listener, service);

        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        assert!(answer.ends_with("127.0.0.1"), "{answer}");

        assert!(group.drain(Duration::from_secs(5)).await);
        listening.await.expect("it ended");
        assert!(TcpStream::connect(address).await.is_err());
    }
}

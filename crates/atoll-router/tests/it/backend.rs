//! Servers as they might run in a sandbox.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atoll_rt::TaskGroup;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers with what it was asked, on a TCP port.
pub(crate) async fn tell_tcp(group: &TaskGroup, name: &'static str, address: &str) {
    let listener = TcpListener::bind(address).await.unwrap();
    let tasks = group.clone();
    group.spawn("backend", async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn("backend-connection", serve(name, stream, tasks.clone()));
        }
    });
}

/// The same on a Unix socket, as the guest does.
pub(crate) fn tell_unix(group: &TaskGroup, name: &'static str, path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let tasks = group.clone();
    group.spawn("backend", async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn("backend-connection", serve(name, stream, tasks.clone()));
        }
    });
}

async fn serve<I>(name: &'static str, stream: I, group: TaskGroup)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(name, request, group.clone()));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _broken = connection.with_upgrades().await;
}

async fn answer(
    name: &'static str,
    mut request: Request<Incoming>,
    group: TaskGroup,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let response = match path.as_str() {
        "/never" => std::future::pending().await,
        "/upgrade" => {
            let upgrade = hyper::upgrade::on(&mut request);
            group.spawn("backend-upgrade", async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut buffer = [0_u8; 1024];
                // Echoes in capitals, and says goodbye.
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    buffer[..count].make_ascii_uppercase();
                    stream.write_all(&buffer[..count]).await.unwrap();
                }
                let _gone = stream.write_all(b"bye").await;
                let _gone = stream.shutdown().await;
            });
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let wanted = request.headers().get("upgrade").cloned();
            response.headers_mut().insert("upgrade", wanted.unwrap_or(HeaderValue::from_static("none")));
            response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            response
        }
        "/ticks" => {
            let ticks = stream::unfold(0_u32, |n| async move {
                if n > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Some((Ok(Frame::data(Bytes::from(format!("data: {n}\n\n")))), n + 1))
            });
            let mut response = Response::new(StreamBody::new(ticks).boxed_unsync());
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            response
        }
        "/echo" => {
            let frames = request.into_body().into_data_stream().map(|data| Ok(Frame::data(data.unwrap())));
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        "/missing" => {
            let mut response = Response::new(full("no"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
        _ => Response::new(full(&told(name, request).await)),
    };
    Ok(response)
}

async fn told(name: &str, request: Request<Incoming>) -> String {
    let (parts, body) = request.into_parts();
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    json!({
        "server": name, "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body),
    })
    .to_string()
}

fn full(text: &str) -> Body {
    Full::new(Bytes::from(text.to_owned())).boxed_unsync()
}

/// A careless server: it believes `Content-Length` even where there is `Transfer-Encoding`, and counts what it takes for
/// requests.
pub(crate) async fn careless(group: &TaskGroup, address: &str) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(address).await.unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let tasks = group.clone();
    group.spawn("careless", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tasks.spawn("careless-connection", async move {
                let mut buffered: Vec<u8> = Vec::new();
                loop {
                    while let Some(length) = request_length(&buffered) {
                        buffered.drain(..length);
                        counter.fetch_add(1, Ordering::SeqCst);
                        let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                    if !matches!(stream.read_buf(&mut buffered).await, Ok(1..)) {
                        return;
                    }
                }
            });
        }
    });
    seen
}

fn request_length(buffered: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(buffered).to_ascii_lowercase();
    let head = text.find("\r\n\r\n")? + 4;
    let header = |name: &str| text[..head].lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let total = match header("content-length:").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => head + length,
        None if header("transfer-encoding:") == Some("chunked") => head + text[head..].find("0\r\n\r\n")? + 5,
        None => head,
    };
    (buffered.len() >= total).then_some(total)
}

/// Answers every connection with these bytes, whatever it is asked.
pub(crate) async fn fixed(group: &TaskGroup, address: &str, answer: &'static [u8]) {
    let listener = TcpListener::bind(address).await.unwrap();
    group.spawn("fixed", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0_u8; 4096];
            let _asked = stream.read(&mut buffer).await;
            let _gone = stream.write_all(answer).await;
        }
    });
}

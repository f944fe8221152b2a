//! One connection to the server: HTTP/1.1 over TLS, one request after the other. Written out by hand, so that the
//! processors are the server's: a request is one piece of bytes, and of an answer only what tells its length is read.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Method, StatusCode};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Tls;
use crate::failure::{Exit, Failure};

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The server, and who asks.
pub(super) struct Target {
    address: String,
    name: ServerName<'static>,
    tls: Tls,
    authorization: Option<HeaderValue>,
}

impl Target {
    /// The server of a kubeconfig's current context.
    pub(super) async fn of(kubeconfig: &Path) -> Result<Self, Failure> {
        atoll_rt::tls::install_crypto_provider();
        let unusable = |error: &(dyn std::error::Error + 'static)| {
            Failure::because(Exit::Usage, format!("cannot use {}", kubeconfig.display()), error)
        };
        let read = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(&error))?;
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(&error))?;
        let mut tls = config.rustls_client_config().map_err(|error| unusable(&error))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let uri = &config.cluster_url;
        let host = uri.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']);
        let name = config.tls_server_name.clone().unwrap_or_else(|| host.to_owned());
        let token = config.auth_info.token.as_ref().map(|token| {
            use secrecy::ExposeSecret;
            format!("Bearer {}", token.expose_secret())
        });
        let authorization = token.map(|text| HeaderValue::from_str(&text)).transpose();
        Ok(Self {
            address: format!("{host}:{}", uri.port_u16().unwrap_or(443)),
            name: ServerName::try_from(name).map_err(|error| unusable(&error))?,
            tls: Arc::new(tls),
            authorization: authorization.map_err(|error| unusable(&error))?,
        })
    }

    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            Failure::because(Exit::Unreachable, format!("cannot connect to {}", self.address), error)
        };
        let stream = TcpStream::connect(&self.address).await.map_err(|error| unreachable(&error))?;
        stream.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(self.name.clone(), stream).await.map_err(|error| unreachable(&error))?;
        Ok(Connection { stream, unread: BytesMut::with_capacity(4096) })
    }

    /// The bytes of a request.
    pub(super) fn request(&self, method: &Method, path: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address).into_bytes();
        if let Some(authorization) = &self.authorization {
            bytes.extend_from_slice(b"authorization: ");
            bytes.extend_from_slice(authorization.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        let rest = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        bytes.extend_from_slice(rest.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    /// What has come and was not looked at yet.
    unread: BytesMut,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(usize),
    Chunks,
}

impl Connection {
    /// A request and the whole of its answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<(StatusCode, Bytes), Failure> {
        let (status, length) = self.send(request).await?;
        let body = match length {
            Length::Bytes(length) => self.take(length).await?,
            Length::Chunks => {
                let mut body = BytesMut::new();
                while let Some(chunk) = self.chunk().await? {
                    body.extend_from_slice(&chunk);
                }
                body.freeze()
            }
        };
        Ok((status, body))
    }

    /// A request and the head of its answer.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<(StatusCode, Length), Failure> {
        self.stream.write_all(request).await.map_err(|error| broken(&error))?;
        self.stream.flush().await.map_err(|error| broken(&error))?;
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end;
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(malformed());
            }
            self.fill().await?;
        };
        let head = self.unread.split_to(end + 4);
        parse_head(&head).ok_or_else(malformed)
    }

    /// The next piece of a body in chunks; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let end = loop {
            match find(&self.unread, b"\r\n") {
                Some(end) => break end,
                None => self.fill().await?,
            }
        };
        let line = self.unread.split_to(end + 2);
        let length = std::str::from_utf8(&line[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = length.filter(|length| *length <= BODY_BYTES_MAX).ok_or_else(malformed)?;
        let mut chunk = self.take(length + 2).await?;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, Failure> {
        while self.unread.remaining() < length {
            self.fill().await?;
        }
        Ok(self.unread.split_to(length).freeze())
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        self.unread.reserve(4096);
        let read = self.stream.read_buf(&mut self.unread).await.map_err(|error| broken(&error))?;
        if read == 0 { Err(broken(&io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn parse_head(head: &[u8]) -> Option<(StatusCode, Length)> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = StatusCode::from_bytes(lines.next()?.strip_prefix("HTTP/1.1 ")?.as_bytes().get(..3)?).ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.trim().parse().ok().filter(|length| *length <= BODY_BYTES_MAX)?;
            return Some((status, Length::Bytes(length)));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Some((status, Length::Chunks));
        }
    }
    Some((status, Length::Bytes(0)))
}

fn malformed() -> Failure {
    Failure::new(Exit::Failure, "the server answered in a way that is no HTTP/1.1")
}

fn broken(error: &io::Error) -> Failure {
    Failure::because(Exit::Failure, "the connection to the server broke", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_an_answer_tells_its_length() {
        let head = |text: &str| parse_head(text.as_bytes()).map(|(status, length)| (status.as_u16(), length));
        assert_eq!(head("HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n"), Some((201, Length::Bytes(12))));
        assert_eq!(head("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Some((200, Length::Chunks)));
        assert_eq!(head("HTTP/1.1 204 No Content\r\n\r\n"), Some((204, Length::Bytes(0))));
        assert_eq!(head("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"), None);
        assert_eq!(head("HTTP/2 200\r\n\r\n"), None);
    }
}

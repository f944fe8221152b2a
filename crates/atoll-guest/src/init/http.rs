//! HTTP/1.1 on the guest's socket: reading heads, and sending each request to where it belongs.

mod body;
mod connection;
mod head;
mod multipart;
mod response;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use atoll_guest::protocol::{SESSION_PATH, UPGRADE_TOKEN};
use serde_json::json;

use super::{Guest, runtime_api, session};

pub(crate) use body::{Body, BodyError};
pub(crate) use connection::Connection;
pub(crate) use head::{Head, percent_decode};
pub(crate) use multipart::{Multipart, MultipartError};
pub(crate) use response::Response;

use connection::HeadError;
pub(crate) use response::Status;

/// Requests on one connection; then it is closed, so that no client holds a place for ever.
const REQUESTS_PER_CONNECTION_MAX: usize = 10_000;

/// Serves a connection until it ends.
pub(crate) fn serve(guest: &Arc<Guest>, stream: UnixStream) {
    let Ok(mut connection) = Connection::new(stream) else { return };
    for _ in 0..REQUESTS_PER_CONNECTION_MAX {
        let head = match connection.read_head() {
            Ok(Some(head)) => head,
            Ok(None) | Err(HeadError::Io) => return,
            Err(HeadError::Bad { status, reason }) => {
                refuse(&mut connection, status, reason);
                return;
            }
        };
        if head.path() == SESSION_PATH {
            begin_session(guest, connection, &head);
            return;
        }
        let body = match Body::of(&head) {
            Ok(body) => body,
            Err(reason) => {
                refuse(&mut connection, Status::BadRequest, reason);
                return;
            }
        };
        if !runtime_api::answer(guest, &mut connection, &head, body) || !head.keeps_alive() {
            connection.linger();
            return;
        }
    }
}

fn begin_session(guest: &Arc<Guest>, mut connection: Connection, head: &Head) {
    let asks = head.method() == "GET"
        && head.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(UPGRADE_TOKEN.as_bytes()))
        && head.has_token("connection", "upgrade");
    if !asks {
        let detail = json!({"detail": format!("this endpoint speaks {UPGRADE_TOKEN} only: send an Upgrade")});
        let response = Response::json(Status::UpgradeRequired, &detail);
        let _ = connection.respond(&response.header("upgrade", UPGRADE_TOKEN), false);
        connection.linger();
        return;
    }
    if connection.switch_protocols(UPGRADE_TOKEN).is_ok() {
        session::serve(guest, connection);
    }
}

fn refuse(connection: &mut Connection, status: Status, reason: &str) {
    let _ = connection.respond(&Response::json(status, &json!({"detail": reason})), false);
    connection.linger();
}

//! `POST /upload`.

use std::sync::Arc;

use serde_json::json;

use super::super::Guest;
use super::super::files::{FileError, Replacement, Root};
use super::super::http::{Body, BodyError, Connection, Head, Multipart, MultipartError, Response, Status};
use super::{access_denied, beneath_base, is_denied, message, with_base};

/// What happened to an upload.
enum Outcome {
    Stored { name: String },
    NoFile,
    Form(MultipartError),
    File(FileError),
}

pub(super) fn answer(guest: &Arc<Guest>, connection: &mut Connection, head: &Head, body: &mut Body) -> Response {
    let mut form = match Multipart::new(head.header("content-type"), connection, body) {
        Ok(form) => form,
        Err(MultipartError::NotMultipart) => return missing(),
        Err(error) => return form_failed(&error),
    };
    let outcome = with_base(guest, |root| Ok(store(root, &mut form))).unwrap_or_else(Outcome::File);
    match outcome {
        Outcome::Stored { name } => match form.finish() {
            Ok(()) => message(Status::Ok, format!("File '{name}' uploaded successfully.")),
            Err(error) => form_failed(&error),
        },
        Outcome::NoFile => missing(),
        Outcome::Form(error) => form_failed(&error),
        Outcome::File(error) if is_denied(&error) => access_denied(),
        Outcome::File(error @ FileError::TooLarge { .. }) => {
            message(Status::TooLarge, format!("File upload failed: {error}"))
        }
        Outcome::File(error) => message(Status::Failed, format!("File upload failed: {error}")),
    }
}

/// Runs with the identity of the sandbox's user.
fn store(root: &Root, form: &mut Multipart<'_>) -> Outcome {
    let part = match form.find("file") {
        Ok(Some(part)) => part,
        Ok(None) => return Outcome::NoFile,
        Err(error) => return Outcome::Form(error),
    };
    let Some(name) = part.file_name.filter(|name| !name.is_empty()) else { return Outcome::NoFile };
    let mut file = match Replacement::begin(root, beneath_base(name.as_bytes()), None, true, None) {
        Ok(file) => file,
        Err(error) => return Outcome::File(error),
    };
    loop {
        match form.next_piece() {
            Ok(Some(piece)) => {
                if let Err(error) = file.write(&piece) {
                    return Outcome::File(error);
                }
            }
            Ok(None) => return file.finish().map_or_else(Outcome::File, |_| Outcome::Stored { name }),
            Err(error) => return Outcome::Form(error),
        }
    }
}

fn missing() -> Response {
    let detail = json!([{"type": "missing", "loc": ["body", "file"], "msg": "Field required", "input": null}]);
    Response::json(Status::Unprocessable, &json!({"detail": detail}))
}

fn form_failed(error: &MultipartError) -> Response {
    let status = if matches!(error, MultipartError::Body(BodyError::TooLarge { .. })) {
        Status::TooLarge
    } else {
        Status::BadRequest
    };
    Response::json(status, &json!({"detail": format!("There was an error parsing the body: {error}")}))
}

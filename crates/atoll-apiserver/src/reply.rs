//! The form of an answer: JSON, YAML, a table, or metadata alone, as the client accepts it.

use atoll_store::Record;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::body::ResponseBody;
use crate::definitions::Origin;
use crate::objects::partial_metadata;
use crate::registry::Resource;
use crate::request::Query;
use crate::status::ApiError;
use crate::table::{IncludeObject, to_table};

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
/// Lists leave in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;
const WARNINGS_MAX: usize = 64;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
    Table(IncludeObject),
    Metadata,
}

impl Form {
    /// The first form of the `Accept` header that can be given.
    pub(crate) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Self, ApiError> {
        let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
        if accepted.peek().is_none() {
            return Ok(Self::Json);
        }
        let ranges = accepted.flat_map(|value| value.split(','));
        for range in ranges {
            if let Some(form) = Self::of_range(range, query)? {
                return Ok(form);
            }
        }
        Err(ApiError::not_acceptable())
    }

    fn of_range(range: &str, query: &Query) -> Result<Option<Self>, ApiError> {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = range.split(';').skip(1).filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| own.trim() == name).map(|(_, value)| value.trim())
        };
        let whole = match media_type {
            JSON | "application/*" | "*/*" => Self::Json,
            YAML => Self::Yaml,
            _ => return Ok(None),
        };
        let known = parameter("g") == Some("meta.k8s.io") && matches!(parameter("v"), Some("v1" | "v1beta1"));
        match parameter("as") {
            None => Ok(Some(whole)),
            Some("Table") if known && whole == Self::Json => {
                let include = match query.get("includeObject") {
                    None | Some("Metadata") => IncludeObject::Metadata,
                    Some("None") => IncludeObject::None,
                    Some("Object") => IncludeObject::Object,
                    Some(other) => {
                        return Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}")));
                    }
                };
                Ok(Some(Self::Table(include)))
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if known && whole == Self::Json => {
                Ok(Some(Self::Metadata))
            }
            Some(_) => Ok(None),
        }
    }

    /// One object in this form.
    pub(crate) fn render(self, resource: &Resource, object: &Value, now: Timestamp) -> Value {
        match self {
            Self::Json | Self::Yaml => object.clone(),
            Self::Metadata => partial_metadata(object),
            Self::Table(include) => {
                let mut table = to_table(&resource.definition, &[object], include, now);
                if let Some(version) = object["metadata"].get("resourceVersion") {
                    table["metadata"]["resourceVersion"] = version.clone();
                }
                table
            }
        }
    }
}

/// What a handler answers.
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: ResponseBody,
    pub(crate) warnings: Vec<String>,
    /// Headers that take the place of this server's own.
    pub(crate) headers: HeaderMap,
}

impl Reply {
    pub(crate) fn json(code: StatusCode, value: &Value) -> Self {
        Self::bytes(code, JSON, value.to_string())
    }

    pub(crate) fn text(code: StatusCode, text: impl Into<String>) -> Self {
        Self::bytes(code, "text/plain; charset=utf-8", text.into())
    }

    pub(crate) fn bytes(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self::body(code, content_type, ResponseBody::whole(bytes))
    }

    pub(crate) fn body(code: StatusCode, content_type: &'static str, body: ResponseBody) -> Self {
        Self {
            code,
            content_type: HeaderValue::from_static(content_type),
            body,
            warnings: Vec::new(),
            headers: HeaderMap::new(),
        }
    }

    /// What somebody else has answered.
    pub(crate) fn passed_on(parts: http::response::Parts, body: ResponseBody) -> Self {
        let content_type = parts.headers.get(CONTENT_TYPE).cloned();
        Self {
            code: parts.status,
            content_type: content_type.unwrap_or_else(|| HeaderValue::from_static("text/plain; charset=utf-8")),
            body,
            warnings: Vec::new(),
            headers: parts.headers,
        }
    }

    /// A value that is no object of a served kind: `Status`, `Scale`, a list that was put together.
    pub(crate) fn value(code: StatusCode, form: Form, value: &Value) -> Self {
        if form == Form::Yaml {
            let text = serde_yaml_ng::to_string(value).unwrap_or_else(|_| value.to_string());
            return Self::bytes(code, YAML, text);
        }
        Self::json(code, value)
    }

    /// A stored object. In its plain form the stored bytes are the answer.
    pub(crate) fn record(code: StatusCode, form: Form, resource: &Resource, record: &Record, now: Timestamp) -> Self {
        if form == Form::Json && !resource.converted {
            return Self::bytes(code, JSON, record.value.clone());
        }
        Self::object(code, form, resource, &resource.decode(&record.value), now)
    }

    /// An object that is not stored (dry run), or not stored in this form.
    pub(crate) fn object(code: StatusCode, form: Form, resource: &Resource, object: &Value, now: Timestamp) -> Self {
        match form {
            Form::Json => Self::json(code, object),
            form => Self::value(code, form, &form.render(resource, object, now)),
        }
    }

    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    pub(crate) fn into_response(self) -> Response<ResponseBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        headers.insert("cache-control", HeaderValue::from_static("no-cache, private"));
        headers.extend(self.headers);
        for warning in self.warnings.iter().take(WARNINGS_MAX) {
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{}\"", quoted(warning))) {
                headers.append(WARNING, value);
            }
        }
        response
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        Self::json(error.code, &error.to_status()).with_warnings(error.warnings)
    }
}

/// The answer to a refusal, with its headers.
pub(crate) fn refusal(error: ApiError) -> Response<ResponseBody> {
    let retry_after = error.retry_after_seconds();
    let unauthorized = error.code == StatusCode::UNAUTHORIZED;
    let mut response = Reply::from(error).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if unauthorized {
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer realm=\"kubernetes\""));
    }
    response
}

/// As the content of a quoted string in a header; control characters become blanks.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// A list put together from stored objects.
pub(crate) struct ListReply<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) revision: u64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
    pub(crate) now: Timestamp,
}

impl ListReply<'_> {
    pub(crate) fn reply<R: AsRef<Record>>(&self, form: Form, records: &[R]) -> Reply {
        if form == Form::Json && !self.resource.converted {
            return Reply::body(StatusCode::OK, JSON, ResponseBody::pieces(self.plain(records)));
        }
        let objects: Vec<Value> = records.iter().map(|record| self.resource.decode(&record.as_ref().value)).collect();
        Reply::value(StatusCode::OK, form, &self.of_objects(form, objects))
    }

    /// The list object of objects in this kind's form.
    pub(crate) fn of_objects(&self, form: Form, objects: Vec<Value>) -> Value {
        let definition = &self.resource.definition;
        if let Form::Table(include) = form {
            let objects: Vec<&Value> = objects.iter().collect();
            let mut table = to_table(definition, &objects, include, self.now);
            table["metadata"] = self.metadata();
            return table;
        }
        if form == Form::Metadata {
            let items: Vec<Value> = objects.iter().map(partial_metadata).collect();
            return json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": self.metadata(), "items": items,
            });
        }
        json!({
            "apiVersion": definition.api_version(), "kind": format!("{}List", definition.kind),
            "metadata": self.whole_metadata(), "items": objects,
        })
    }

    /// Of a list of whole objects: for custom resources a kube-apiserver always tells how to go on.
    fn whole_metadata(&self) -> Value {
        let mut metadata = self.metadata();
        if self.resource.definition.strategy.origin == Origin::Custom && metadata.get("continue").is_none() {
            metadata["continue"] = "".into();
        }
        metadata
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }

    fn plain<R: AsRef<Record>>(&self, records: &[R]) -> Vec<Bytes> {
        let definition = &self.resource.definition;
        let head = format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{},"items":["#,
            definition.kind,
            definition.api_version(),
            self.whole_metadata()
        );
        let mut pieces = Vec::new();
        let mut piece = BytesMut::with_capacity(head.len() + PIECE_BYTES.min(records.len() * 1024));
        piece.put(head.as_bytes());
        for (position, record) in records.iter().enumerate() {
            let (open, rest) = self.resource.item(&record.as_ref().value);
            if position > 0 {
                piece.put_u8(b',');
            }
            piece.put(open.as_bytes());
            piece.put(rest);
            if piece.len() >= PIECE_BYTES {
                pieces.push(piece.split().freeze());
            }
        }
        piece.put(&b"]}"[..]);
        pieces.push(piece.freeze());
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(accept: &str) -> Result<Form, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("a header"));
        Form::negotiate(&headers, &Query::default())
    }

    #[test]
    fn the_first_form_that_can_be_given_is_taken() {
        let cases = [
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("application/vnd.kubernetes.protobuf, application/json", Form::Json),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Form::Table(IncludeObject::Metadata)),
            ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Form::Json),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Form::Metadata),
            ("application/yaml", Form::Yaml),
            ("text/html, application/json;q=0.5", Form::Json),
        ];
        for (accept, expected) in cases {
            assert_eq!(negotiate(accept).expect(accept), expected, "{accept}");
        }
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf").expect_err("no protobuf").code.as_u16(), 406);
    }

    #[test]
    fn warnings_are_quoted() {
        let reply = Reply::text(StatusCode::OK, "").with_warnings(vec!["unknown field \"spec.x\"\n".to_owned()]);
        let response = reply.into_response();
        assert_eq!(response.headers()[WARNING], "299 - \"unknown field \\\"spec.x\\\" \"");
    }
}

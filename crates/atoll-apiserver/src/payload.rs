//! Reading a request's body: bounded, JSON, YAML or protobuf, noticing members that are given twice.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Body;
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::protobuf::{self, PROTOBUF};
use crate::reply::{JSON, YAML};
use crate::status::ApiError;

/// The largest body.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Members given twice that are reported.
const DUPLICATES_MAX: usize = 100;
/// How deep a YAML document may nest; JSON has the same limit from its parser.
const DEPTH_MAX: usize = 128;

/// Reads a body to its end.
pub(crate) async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes>,
{
    let too_large = || ApiError::too_large(BODY_BYTES_MAX);
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut body = std::pin::pin!(body);
    let collect = async {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::bad_request("the body ended early"))?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + rest.len() + data.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(if rest.is_empty() { first } else { rest.freeze() })
    };
    tokio::time::timeout(BODY_TIMEOUT, collect).await.unwrap_or_else(|_| Err(ApiError::timeout()))
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    /// Built-in kinds and the options of requests only.
    Protobuf,
}

impl Encoding {
    /// By the `Content-Type`; JSON if there is none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        match media_type(headers) {
            None | Some(JSON) => Ok(Self::Json),
            Some(YAML) => Ok(Self::Yaml),
            Some(PROTOBUF) => Ok(Self::Protobuf),
            Some(_) => Err(ApiError::unsupported_media_type(&[JSON, YAML, PROTOBUF])),
        }
    }
}

/// The `Content-Type` without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = text.split(';').next().unwrap_or_default().trim();
    (!media_type.is_empty()).then_some(media_type)
}

/// A parsed body.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Paths of the members that were given twice; the last one counts.
    pub(crate) duplicates: Vec<String>,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8], encoding: Encoding) -> Result<Self, ApiError> {
        let mut duplicates = Vec::new();
        let seed = Node { place: Place::Root, duplicates: &mut duplicates, depth: 0 };
        let value = match encoding {
            Encoding::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(bytes);
                seed.deserialize(&mut deserializer)
                    .and_then(|value| deserializer.end().map(|()| value))
                    .map_err(malformed)
            }
            Encoding::Yaml => seed.deserialize(serde_yaml_ng::Deserializer::from_slice(bytes)).map_err(malformed),
            Encoding::Protobuf => protobuf::decode(bytes).map_err(|error| {
                ApiError::bad_request(format!("the body of the request is no protobuf object: {error}"))
            }),
        }?;
        Ok(Self { value, duplicates })
    }

    /// A body that must be an object.
    pub(crate) fn parse_object(bytes: &[u8], encoding: Encoding) -> Result<Self, ApiError> {
        let document = Self::parse(bytes, encoding)?;
        if document.value.is_object() {
            return Ok(document);
        }
        Err(ApiError::bad_request("the body of the request must be a JSON object"))
    }
}

fn malformed(error: impl fmt::Display) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type Object): couldn't get version/kind; json parse error: {error}"
    ))
}

/// Where a value is, written down only if somebody asks.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Self::Root, name) => formatter.write_str(name),
            Self::Member(parent, name) => write!(formatter, "{parent}.{name}"),
            Self::Item(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

/// Parses one value, remembering where it is.
struct Node<'a> {
    place: Place<'a>,
    duplicates: &'a mut Vec<String>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth)?;
        let mut items = Vec::new();
        loop {
            let place = Place::Item(&self.place, items.len());
            match sequence.next_element_seed(Node { place, duplicates: &mut *self.duplicates, depth })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = deeper(self.depth)?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let place = Place::Member(&self.place, &name);
            if members.contains_key(&name) && self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(place.to_string());
            }
            let member = map.next_value_seed(Node { place, duplicates: &mut *self.duplicates, depth })?;
            members.insert(name, member);
        }
        Ok(Value::Object(members))
    }
}

fn deeper<E: serde::de::Error>(depth: usize) -> Result<usize, E> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(E::custom("the document nests too deep")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_given_twice_are_reported_and_the_last_counts() {
        let text = br#"{"a": 1, "spec": {"list": [{"x": 1, "x": 2}], "y": null}, "a": 3}"#;
        let document = Document::parse(text, Encoding::Json).expect("it parses");
        assert_eq!(document.value, json!({"a": 3, "spec": {"list": [{"x": 2}], "y": null}}));
        assert_eq!(document.duplicates, ["spec.list[0].x", "a"]);
    }

    #[test]
    fn yaml_reads_as_json_does() {
        let text = b"apiVersion: v1\nkind: Pod\nspec:\n  n: 3\n  f: 1.5\n  list: [a, \"1\", true, null]\n";
        let document = Document::parse(text, Encoding::Yaml).expect("it parses");
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"n": 3, "f": 1.5, "list": ["a", "1", true, null]},
        });
        assert_eq!(document.value, expected);
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = "[".repeat(100_000);
        let deep_yaml = "- ".repeat(10_000);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n";
        let cases: [(&[u8], Encoding); 8] = [
            (b"", Encoding::Json),
            (b"{", Encoding::Json),
            (b"{} {}", Encoding::Json),
            (b"\xff\xfe", Encoding::Json),
            (deep.as_bytes(), Encoding::Json),
            (deep_yaml.as_bytes(), Encoding::Yaml),
            (bomb.as_bytes(), Encoding::Yaml),
            (b"a: [", Encoding::Yaml),
        ];
        for (bytes, encoding) in cases {
            let error = Document::parse(bytes, encoding).expect_err("it is refused");
            assert_eq!(error.code.as_u16(), 400);
        }
        assert!(Document::parse_object(b"[]", Encoding::Json).is_err());
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_put_together() {
        for count in 1..6_u8 {
            let pieces = (0..count).map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(vec![piece; 3].into())));
            let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
            let whole: Vec<u8> = (0..count).flat_map(|piece| [piece; 3]).collect();
            assert_eq!(read(body).await.expect("it is read"), whole);
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded() {
        let fits = http_body_util::Full::new(Bytes::from(vec![b' '; BODY_BYTES_MAX]));
        assert_eq!(read(fits).await.expect("it fits").len(), BODY_BYTES_MAX);
        let large = http_body_util::Full::new(Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]));
        assert_eq!(read(large).await.expect_err("it is too large").code.as_u16(), 413);
    }
}

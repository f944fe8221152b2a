//! Documents that describe the kinds, kept as they are sent: making them takes milliseconds.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::body::ResponseBody;
use crate::registry::Resource;
use crate::reply::Reply;

/// A document as it is sent.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) bytes: Bytes,
    /// SHA-256 in upper-case hexadecimal digits.
    pub(crate) hash: String,
}

impl Document {
    pub(crate) fn new(text: String) -> Self {
        let hash = hex::encode_upper(Sha256::digest(&text));
        Self { bytes: text.into(), hash }
    }

    /// The answer: nothing at all to a client that has it already. `asked_hash`: the one in the query.
    pub(super) fn answer(
        &self,
        content_type: &'static str,
        headers: &HeaderMap,
        asked_hash: Option<&str>,
    ) -> Response<ResponseBody> {
        let tag = format!("\"{}\"", self.hash);
        let is_known = |value: &HeaderValue| {
            let tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
            tags.map(|own| own.trim_start_matches("W/")).any(|own| own == tag || own == "*")
        };
        let mut response = if headers.get(IF_NONE_MATCH).is_some_and(is_known) {
            let mut response = Response::new(ResponseBody::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            Reply::bytes(StatusCode::OK, content_type, self.bytes.clone()).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, HeaderValue::from_str(&tag).expect("hexadecimal digits are a header"));
        headers.insert("vary", HeaderValue::from_static("Accept"));
        if asked_hash == Some(self.hash.as_str()) {
            // The address names the content: it never changes.
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
        }
        response
    }
}

/// What describes one table of kinds. Each is made when it is first asked for.
#[derive(Default)]
pub(crate) struct Documents {
    /// OpenAPI by group and version. Shared with the table before, where its kinds are the same.
    versions: HashMap<String, Version>,
    pub(super) open_api_index: OnceLock<Document>,
    /// Aggregated discovery: of the core group or of the others, in `v2` or `v2beta1`.
    pub(super) groups: [OnceLock<Document>; 4],
}

struct Version {
    kinds: Vec<Arc<Resource>>,
    document: Arc<OnceLock<Document>>,
}

impl Documents {
    /// The documents of a table of kinds that takes the place of another.
    pub(crate) fn of(resources: &[Arc<Resource>], before: Option<&Self>) -> Self {
        let mut kinds: HashMap<String, Vec<Arc<Resource>>> = HashMap::new();
        for resource in resources {
            kinds.entry(resource.definition.api_version()).or_default().push(Arc::clone(resource));
        }
        let version = |(name, kinds): (String, Vec<Arc<Resource>>)| {
            let same = |other: &&Version| {
                other.kinds.len() == kinds.len() && other.kinds.iter().zip(&kinds).all(|(a, b)| Arc::ptr_eq(a, b))
            };
            let known = before.and_then(|before| before.versions.get(&name)).filter(same);
            let document = known.map_or_else(Arc::default, |known| Arc::clone(&known.document));
            (name, Version { kinds, document })
        };
        Self { versions: kinds.into_iter().map(version).collect(), ..Self::default() }
    }

    /// The OpenAPI document of `v1` or `group/version`.
    pub(super) fn open_api(&self, group_version: &str) -> Option<&Document> {
        let version = self.versions.get(group_version)?;
        Some(version.document.get_or_init(|| {
            let definitions: Vec<_> = version.kinds.iter().map(|kind| kind.definition.clone()).collect();
            let document = crate::openapi::v3_group_version(&definitions, group_version);
            Document::new(document.unwrap_or_default().to_string())
        }))
    }

    /// Groups and versions, sorted.
    pub(super) fn group_versions(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.versions.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

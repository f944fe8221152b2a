//! Objects as a server sends them, read no further than they are needed.
//!
//! Nobody who follows objects looks at `metadata.managedFields`, which are a good part of them: they are left out before an
//! object is read. And what a watch tells is often known already, from the answer to one's own write: then name and
//! version are all that is read.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const MANAGED_FIELDS: &str = "\"managedFields\":[";

/// An object of which only name, namespace, UID and version have been read.
#[derive(Clone)]
pub struct Unread<K> {
    identity: ObjectMeta,
    text: Arc<str>,
    kind: std::marker::PhantomData<fn() -> K>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

#[derive(Deserialize)]
struct Identified {
    metadata: Identity,
}

impl<K: DeserializeOwned> Unread<K> {
    /// Reads the rest.
    ///
    /// # Errors
    /// The text is no such object.
    pub fn read(&self) -> serde_json::Result<K> {
        read(&self.text)
    }
}

impl<'de, K> Deserialize<'de> for Unread<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Box<RawValue>>::deserialize(deserializer)?;
        let Identified { metadata } = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        let Identity { name, namespace, uid, resource_version } = metadata;
        let identity = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Ok(Self { identity, text: Arc::from(<Box<str>>::from(text)), kind: std::marker::PhantomData })
    }
}

impl<K> fmt::Debug for Unread<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Unread").field("name", &self.identity.name).finish_non_exhaustive()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Unread<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.identity
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.identity
    }
}

/// Reads an object, all but its managed fields.
///
/// # Errors
/// The text is no such object.
pub fn read<K: DeserializeOwned>(text: &str) -> serde_json::Result<K> {
    match managed_fields(text) {
        Some((start, end)) => serde_json::from_str(&[&text[..start], &text[end..]].concat()),
        None => serde_json::from_str(text),
    }
}

/// Writes an object as JSON.
///
/// # Errors
/// As [`serde_json::to_vec`].
pub fn write<K: Serialize>(object: &K) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(object)
}

/// Where the managed fields are in the text, a comma beside them included. A quote within a string is escaped, so that
/// what is found is a field, and only `metadata` has one of this name in the objects that are followed here.
fn managed_fields(text: &str) -> Option<(usize, usize)> {
    let start = text.find(MANAGED_FIELDS)?;
    let list = start + MANAGED_FIELDS.len() - 1;
    let end = list + length_of_list(&text.as_bytes()[list..])?;
    match (text.as_bytes().get(end), start.checked_sub(1).map(|before| text.as_bytes()[before])) {
        (Some(b','), _) => Some((start, end + 1)),
        (_, Some(b',')) => Some((start - 1, end)),
        _ => Some((start, end)),
    }
}

/// The length of the JSON list that the text begins with.
fn length_of_list(text: &[u8]) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (position, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(position + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::*;

    fn text(members: &[(&str, serde_json::Value)]) -> String {
        let metadata: serde_json::Map<_, _> =
            members.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": "a \"managedFields\":[ b"}})
            .to_string()
    }

    #[test]
    fn managed_fields_are_left_out_wherever_they_are() {
        let fields = json!([{"manager": "a ] \" }", "fieldsV1": {"f:data": {".": {}, "f:[": {}}}}, {"manager": "b"}]);
        let name = ("name", json!("n"));
        let managed = ("managedFields", fields);
        for members in [
            vec![name.clone(), managed.clone()],
            vec![managed.clone(), name.clone()],
            vec![("uid", json!("u")), managed.clone(), name.clone()],
            vec![managed],
            vec![name],
        ] {
            let text = text(&members);
            let mut whole: ConfigMap = serde_json::from_str(&text).expect("it is one");
            whole.metadata.managed_fields = None;
            assert_eq!(read::<ConfigMap>(&text).expect("it is one"), whole, "{text}");
        }
        assert!(read::<ConfigMap>(r#"{"metadata":{"managedFields":[{"#).is_err());
    }

    #[test]
    fn a_watch_tells_who_before_it_tells_what() {
        let object = text(&[("name", json!("n")), ("uid", json!("u")), ("resourceVersion", json!("7"))]);
        let line = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        let event: WatchEvent<Unread<ConfigMap>> = serde_json::from_str(&line).expect("it is an event");
        let WatchEvent::Modified(unread) = event else { panic!("{event:?}") };
        assert_eq!((unread.meta().name.as_deref(), unread.meta().resource_version.as_deref()), (Some("n"), Some("7")));
        let read = unread.read().expect("it is a ConfigMap");
        assert_eq!(read, serde_json::from_str::<ConfigMap>(&object).expect("it is one"));
    }
}

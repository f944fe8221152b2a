//! The table of kinds: by path, by kind, by place in the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use atoll_rt::CancellationToken;
use serde_json::{Value, json};

use crate::definitions::ResourceDefinition;
use crate::discovery::Documents;
use crate::status::About;

/// Everything below it belongs to this server.
pub(crate) const ROOT: &str = "/registry/";

/// Why a table of kinds cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Two definitions of one path.
    #[error("{plural} of {api_version} is defined twice")]
    Duplicate {
        /// The group and version.
        api_version: String,
        /// The resource.
        plural: String,
    },
    /// A kind is to be stored as another one that is not served.
    #[error("{plural} is to be stored in group {group:?}, which does not serve it")]
    NoStorage {
        /// The resource.
        plural: String,
        /// The group.
        group: String,
    },
}

/// One kind that is served.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) definition: ResourceDefinition,
    /// Where its objects lie in the store. Ends in `/`.
    pub(crate) folder: String,
    /// `{"apiVersion":"v1","kind":"Pod",`: how each stored object begins.
    type_head: String,
    /// The same up to the digits of the resourceVersion.
    revision_head: String,
    /// What is stored is not what is shown: it is in the form of another kind, or the schema may have changed since.
    pub(crate) converted: bool,
    /// Cancelled when the kind is served no more, or by another schema: watches end then.
    pub(crate) retired: CancellationToken,
}

impl Resource {
    fn new(definition: ResourceDefinition) -> Self {
        let converted = definition.storage.is_some() || definition.serving.changes;
        let group = definition.storage.as_ref().map_or(&definition.group, |form| &form.group);
        let folder = format!("{ROOT}{}/{}/", if group.is_empty() { "core" } else { group }, definition.plural);
        let mut stored = json!({ "apiVersion": definition.api_version() });
        definition.to_storage(&mut stored);
        let api_version = stored["apiVersion"].as_str().unwrap_or_default();
        let type_head = format!(r#"{{"apiVersion":"{api_version}","kind":"{}","#, definition.kind);
        let revision_head = format!(r#"{type_head}"metadata":{{"resourceVersion":""#);
        let retired = CancellationToken::new();
        Self { definition, folder, type_head, revision_head, converted, retired }
    }

    /// The key of an object.
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}{}/{name}", self.folder, namespace.unwrap_or("-"))
    }

    /// The folder of the objects of a namespace, or of all.
    pub(crate) fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}{namespace}/", self.folder),
            None => self.folder.clone(),
        }
    }

    /// For errors: `pods "x"`.
    pub(crate) fn about<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.definition.group, kind: &self.definition.plural, name }
    }

    /// For refusals of an object's content: `Pod "x"`.
    pub(crate) fn about_kind<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.definition.group, kind: &self.definition.kind, name }
    }

    /// The bytes to store: `apiVersion`, `kind` and `metadata.resourceVersion` first, so that the store can put the
    /// revision in and lists can leave the kind out.
    pub(crate) fn encode(&self, object: &Value) -> atoll_store::Value {
        if self.definition.storage.is_some() {
            let mut stored = object.clone();
            self.definition.to_storage(&mut stored);
            return self.encode_stored(&stored);
        }
        self.encode_stored(object)
    }

    fn encode_stored(&self, object: &Value) -> atoll_store::Value {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(self.revision_head.as_bytes());
        let revision_at = bytes.len();
        bytes.push(b'"');
        for (name, member) in object["metadata"].as_object().into_iter().flatten() {
            if name != "resourceVersion" {
                push_member(&mut bytes, name, member);
            }
        }
        bytes.push(b'}');
        for (name, member) in object.as_object().into_iter().flatten() {
            if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                push_member(&mut bytes, name, member);
            }
        }
        bytes.push(b'}');
        atoll_store::Value { bytes, revision_at: Some(revision_at) }
    }

    /// A stored object with the place for another revision.
    pub(crate) fn restamp(&self, stored: &[u8]) -> atoll_store::Value {
        let Some(rest) = self.after_revision(stored) else {
            return self.encode(&self.decode(stored));
        };
        let bytes = [self.revision_head.as_bytes(), rest].concat();
        atoll_store::Value { bytes, revision_at: Some(self.revision_head.len()) }
    }

    /// A stored object under another revision.
    pub(crate) fn with_revision(&self, stored: &[u8], revision: u64) -> Vec<u8> {
        let mut value = self.restamp(stored);
        let offset = value.revision_at.expect("a restamped object has a place for its revision");
        value.bytes.splice(offset..offset, revision.to_string().into_bytes());
        value.bytes
    }

    /// What follows the digits of the resourceVersion.
    fn after_revision<'a>(&self, stored: &'a [u8]) -> Option<&'a [u8]> {
        let rest = stored.strip_prefix(self.revision_head.as_bytes())?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        Some(&rest[digits..])
    }

    /// A stored object as an item of a list: built-in kinds leave `apiVersion` and `kind` to the list.
    pub(crate) fn item<'a>(&self, stored: &'a [u8]) -> (&'static str, &'a [u8]) {
        let custom = self.definition.strategy.origin == crate::definitions::Origin::Custom;
        match stored.strip_prefix(self.type_head.as_bytes()) {
            Some(rest) if !custom => ("{", rest),
            Some(_) | None => ("", stored),
        }
    }

    /// A stored object in the form of this kind.
    pub(crate) fn decode(&self, stored: &[u8]) -> Value {
        let mut object = parse(stored);
        if self.converted {
            self.definition.from_storage(&mut object);
        }
        object
    }

    /// What a field is called in the stored form: `regarding.name` is `involvedObject.name`.
    pub(crate) fn stored_path(&self, path: &str) -> String {
        if self.definition.storage.is_none() {
            return path.to_owned();
        }
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let mut probe = json!({ first: true });
        self.definition.to_storage(&mut probe);
        let members = probe.as_object().into_iter().flatten();
        let first = members
            .filter(|(_, member)| **member == Value::Bool(true))
            .map(|(name, _)| name.as_str())
            .next()
            .unwrap_or(first);
        rest.map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}"))
    }
}

/// Checksums guard the bytes, so what was stored as JSON is JSON.
pub(crate) fn parse(stored: &[u8]) -> Value {
    serde_json::from_slice(stored).expect("only JSON is stored")
}

fn push_member(bytes: &mut Vec<u8>, name: &str, member: &Value) {
    bytes.push(b',');
    serde_json::to_writer(&mut *bytes, name).expect("a string is JSON");
    bytes.push(b':');
    serde_json::to_writer(&mut *bytes, member).expect("a value is JSON");
}

/// Every kind that is served. It never changes: another takes its place.
pub(crate) struct Registry {
    /// Those with a path.
    resources: Vec<Arc<Resource>>,
    by_path: HashMap<String, Arc<Resource>>,
    by_kind: HashMap<String, Arc<Resource>>,
    by_folder: HashMap<String, Arc<Resource>>,
    /// What describes these kinds, made when it is first asked for.
    documents: Documents,
}

impl Registry {
    fn of(resources: &[Arc<Resource>], before: Option<&Self>) -> Result<Self, RegistryError> {
        let mut registry = Self {
            resources: Vec::new(),
            by_path: HashMap::new(),
            by_kind: HashMap::new(),
            by_folder: HashMap::new(),
            documents: Documents::default(),
        };
        for resource in resources {
            registry.add(Arc::clone(resource))?;
        }
        for resource in &registry.resources {
            if let Some(form) = &resource.definition.storage
                && !registry.by_folder.contains_key(&resource.folder)
            {
                let plural = resource.definition.plural.clone();
                return Err(RegistryError::NoStorage { plural, group: form.group.clone() });
            }
        }
        registry.documents = Documents::of(&registry.resources, before.map(|before| &before.documents));
        Ok(registry)
    }

    fn add(&mut self, resource: Arc<Resource>) -> Result<(), RegistryError> {
        let definition = &resource.definition;
        if definition.storage.is_none() && !definition.strategy.answer_only {
            self.by_folder.insert(resource.folder.clone(), Arc::clone(&resource));
        }
        if !definition.serving.served {
            return Ok(());
        }
        let api_version = definition.api_version();
        let path = format!("{api_version}/{}", definition.plural);
        if self.by_path.insert(path, Arc::clone(&resource)).is_some() {
            return Err(RegistryError::Duplicate { api_version, plural: definition.plural.clone() });
        }
        self.by_kind.insert(format!("{api_version}/{}", definition.kind), Arc::clone(&resource));
        self.resources.push(resource);
        Ok(())
    }

    pub(crate) fn resources(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// By `v1` or `group/version`, and the plural.
    pub(crate) fn by_path(&self, api_version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.by_path.get(&format!("{api_version}/{plural}")).cloned()
    }

    /// By `v1` or `group/version`, and the kind.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.by_kind.get(&format!("{api_version}/{kind}"))
    }

    /// The kind in whose form the object under a key is stored, with its namespace and name.
    pub(crate) fn by_key<'a>(&self, key: &'a str) -> Option<(&Arc<Resource>, Option<&'a str>, &'a str)> {
        let mut ends = key.match_indices('/').map(|(position, _)| position).skip(3);
        let (folder_end, namespace_end) = (ends.next()?, ends.next()?);
        let resource = self.by_folder.get(&key[..=folder_end])?;
        let namespace = &key[folder_end + 1..namespace_end];
        Some((resource, (namespace != "-").then_some(namespace), &key[namespace_end + 1..]))
    }

    /// The kinds that are stored in their own form.
    pub(crate) fn stored(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_folder.values()
    }

    /// Whether the group and version is served.
    pub(crate) fn serves(&self, group: &str, version: &str) -> bool {
        self.resources.iter().any(|it| it.definition.group == group && it.definition.version == version)
    }

    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }
}

fn resources(definitions: Vec<ResourceDefinition>) -> Vec<Arc<Resource>> {
    definitions.into_iter().map(|definition| Arc::new(Resource::new(definition))).collect()
}

/// The table of kinds as it is now: those compiled in, and those of definitions, which come and go.
pub(crate) struct Kinds {
    compiled: Vec<Arc<Resource>>,
    state: RwLock<State>,
}

struct State {
    /// By the name of their definition.
    defined: BTreeMap<String, Defined>,
    current: Arc<Registry>,
}

/// The kinds of one definition.
#[derive(Clone)]
struct Defined {
    resources: Vec<Arc<Resource>>,
    /// What they follow from.
    signature: String,
}

impl Kinds {
    pub(crate) fn new(compiled: Vec<ResourceDefinition>) -> Result<Self, RegistryError> {
        let compiled = resources(compiled);
        let current = Arc::new(Registry::of(&compiled, None)?);
        Ok(Self { compiled, state: RwLock::new(State { defined: BTreeMap::new(), current }) })
    }

    pub(crate) fn current(&self) -> Arc<Registry> {
        Arc::clone(&self.state().current)
    }

    /// Serves the kinds of a definition from now on, instead of those that it made before. With the signature that it
    /// had, nothing happens; if they do not fit the others, everything stays as it is.
    pub(crate) fn set(
        &self,
        name: &str,
        signature: &str,
        definitions: impl FnOnce() -> Vec<ResourceDefinition>,
    ) -> Result<(), RegistryError> {
        if self.state().defined.get(name).is_some_and(|known| known.signature == signature) {
            return Ok(());
        }
        let new = Defined { resources: resources(definitions()), signature: signature.to_owned() };
        self.replace(name, Some(new))
    }

    /// Serves the kinds of a definition no more.
    pub(crate) fn remove(&self, name: &str) -> Result<(), RegistryError> {
        self.replace(name, None)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, name: &str, new: Option<Defined>) -> Result<(), RegistryError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut defined = state.defined.clone();
        let retired = match new {
            Some(new) => defined.insert(name.to_owned(), new),
            None => defined.remove(name),
        };
        let own = defined.values().flat_map(|defined| &defined.resources);
        let all: Vec<Arc<Resource>> = self.compiled.iter().chain(own).cloned().collect();
        let current = Arc::new(Registry::of(&all, Some(&state.current))?);
        *state = State { defined, current };
        drop(state);
        for resource in retired.into_iter().flat_map(|retired| retired.resources) {
            resource.retired.cancel();
        }
        Ok(())
    }
}

//! What field numbers mean: the generated table, read once when the first such body comes.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("../../../../schemas/protobuf.txt");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(TEXT));

/// All messages by name.
pub(super) struct Table {
    messages: HashMap<Box<str>, Message>,
}

/// One message.
#[derive(Debug, Default)]
pub(super) struct Message {
    fields: Vec<Field>,
    /// In JSON it is the list that its one field is.
    pub(super) is_list: bool,
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// In JSON. `.`: its members are the message's own.
    pub(super) name: Box<str>,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// With texts as keys.
    Map,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Bytes,
    Double,
    Float,
    /// `int32` and `int64`.
    Integer,
    Text,
    /// `uint32` and `uint64`.
    Unsigned,
    Message(Box<str>),
}

impl Kind {
    fn parse(name: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "bytes" => Self::Bytes,
            "double" => Self::Double,
            "float" => Self::Float,
            "int32" | "int64" => Self::Integer,
            "string" => Self::Text,
            "uint32" | "uint64" => Self::Unsigned,
            message => Self::Message(message.into()),
        }
    }

    /// Lists of these may be packed.
    pub(super) fn is_number(&self) -> bool {
        !matches!(self, Self::Bytes | Self::Text | Self::Message(_))
    }
}

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }
}

impl Table {
    pub(super) fn embedded() -> &'static Self {
        &TABLE
    }

    /// A line without blanks (but for ` list`) begins a message, `NUMBER NAME TYPE` is a field.
    fn parse(text: &str) -> Self {
        let mut messages: HashMap<Box<str>, Message> = HashMap::new();
        let mut current = "";
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let parts: Vec<&str> = line.split(' ').collect();
            match parts.as_slice() {
                [number, name, kind] => {
                    let number = number.parse().expect("the generated table has numbers");
                    let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("{}")) {
                        (Some(items), _) => (Shape::List, items),
                        (_, Some(values)) => (Shape::Map, values),
                        (None, None) => (Shape::One, *kind),
                    };
                    let field = Field { number, name: (*name).into(), shape, kind: Kind::parse(kind) };
                    messages.entry(current.into()).or_default().fields.push(field);
                }
                [name, rest @ ..] => {
                    current = name;
                    messages.insert((*name).into(), Message { is_list: rest == ["list"], ..Message::default() });
                }
                [] => {}
            }
        }
        Self { messages }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Message> {
        self.messages.get(name)
    }

    /// The message of a kind: `v1` and `Pod`. Options of requests are of every version.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        if kind == "DeleteOptions" {
            return self.get(&format!("{META}.{kind}"));
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or_default();
        // Groups of definitions have no protobuf form: `networking.example.com` is none of ours.
        let ours = !group.contains('.') || group.ends_with(".k8s.io");
        self.get(&format!("io.k8s.api.{package}.{version}.{kind}")).filter(|_| ours)
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.messages.keys().map(|name| &**name)
    }
}

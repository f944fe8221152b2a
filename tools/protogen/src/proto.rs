//! Reading `generated.proto` files: one message after another, none inside another.

use crate::Result;

const SCALARS: &[&str] = &["bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64"];

pub(crate) struct Message {
    /// `io.k8s.api.core.v1.Pod`, as OpenAPI documents call it.
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// A scalar or the name of a message; `[]` before it for lists, `{}` for maps from texts.
    pub(crate) value_type: String,
}

pub(crate) fn messages(text: &str) -> Result<Vec<Message>> {
    let mut package = String::new();
    let mut messages: Vec<Message> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("package ") {
            package = name.trim_end_matches(';').to_owned();
        } else if let Some(rest) = line.strip_prefix("message ") {
            let name = qualified(rest.trim_end_matches('{').trim(), &package);
            messages.push(Message { name, fields: Vec::new() });
            open = true;
        } else if line == "}" {
            open = false;
        } else if open && line.ends_with(';') && !line.starts_with("//") {
            let message = messages.last_mut().ok_or("a field outside of a message")?;
            message.fields.push(field(line, &package)?);
        }
    }
    Ok(messages)
}

/// `optional Foo bar = 3;`, `repeated Foo bar = 3;`, `map<string, Foo> bar = 3;`.
fn field(line: &str, package: &str) -> Result<Field> {
    let wrong = || format!("not understood: {line}");
    let (declaration, number) = line.trim_end_matches(';').split_once('=').ok_or_else(wrong)?;
    let number = number.split('[').next().unwrap_or_default().trim().parse()?;
    let (value_type, name) = declaration.trim().rsplit_once(' ').ok_or_else(wrong)?;
    let value_type = if let Some(values) = value_type.strip_prefix("map<string,") {
        format!("{{}}{}", qualified(values.trim_end_matches('>').trim(), package))
    } else if let Some(items) = value_type.strip_prefix("repeated ") {
        format!("[]{}", qualified(items.trim(), package))
    } else {
        qualified(value_type.strip_prefix("optional ").ok_or_else(wrong)?.trim(), package)
    };
    Ok(Field { number, name: name.to_owned(), value_type })
}

/// `.k8s.io.api.core.v1.Pod`, or `Pod` in that package, as `io.k8s.api.core.v1.Pod`.
fn qualified(name: &str, package: &str) -> String {
    if SCALARS.contains(&name) {
        return name.to_owned();
    }
    let full = match name.strip_prefix('.') {
        Some(full) => full.to_owned(),
        None => format!("{package}.{name}"),
    };
    format!("io.k8s.{}", full.trim_start_matches("k8s.io."))
}

//! Digests of inputs: canonical JSON, then SHA-256.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of the value in canonical form (no white space, members sorted by name), lower-case hexadecimal.
#[must_use]
pub fn input_digest(input: &Value) -> String {
    let mut text = String::new();
    write(input, &mut text);
    sha256_hex(text.as_bytes())
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            text.push('{');
            for (position, name) in names.into_iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(&members[name], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_members_does_not_matter() {
        let one = json!({"command": "ls", "cwd": "/workspace", "list": [{"b": 1, "a": 2}]});
        let other = json!({"list": [{"a": 2, "b": 1}], "cwd": "/workspace", "command": "ls"});
        assert_eq!(input_digest(&one), input_digest(&other));
        assert_ne!(input_digest(&one), input_digest(&json!({"command": "ls"})));
        assert_eq!(input_digest(&json!({})), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }
}

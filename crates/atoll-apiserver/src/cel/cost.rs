//! How large parts of an object can be, by its schema: what rules can cost at most follows from it.

use crate::schema::{Additional, Node, ValueType};

/// The largest object.
const OBJECT_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// The smallest number of bytes that a value takes.
fn min_size_bytes(node: &Node) -> u64 {
    match node.value_type {
        ValueType::Boolean => 4,
        ValueType::Integer | ValueType::Number | ValueType::Any => 1,
        ValueType::IntOrString => 1,
        ValueType::String | ValueType::Array => 2,
        ValueType::Object => {
            let required = node.required().iter().filter_map(|name| Some((name, node.properties.get(name)?)));
            // Quotes, colon and comma beside name and value.
            2 + required
                .filter(|(_, field)| field.default.is_none())
                .map(|(name, field)| name.len() as u64 + min_size_bytes(field) + 4)
                .sum::<u64>()
        }
    }
}

/// How many items, entries or characters a value has at most.
pub(super) fn size_max(node: &Node) -> u64 {
    let rules = node.rules.as_deref();
    match node.value_type {
        ValueType::Array => rules
            .and_then(|rules| rules.max_items)
            .unwrap_or_else(|| (OBJECT_BYTES_MAX - 2) / (node.items.as_deref().map_or(1, min_size_bytes) + 1)),
        ValueType::Object => match (&node.additional, rules.and_then(|rules| rules.max_properties)) {
            (_, Some(limit)) => limit,
            (Additional::Schema(values), None) => (OBJECT_BYTES_MAX - 2) / (min_size_bytes(values) + 6),
            (_, None) => node.properties.len() as u64,
        },
        ValueType::String => text_bytes_max(node),
        _ => 1,
    }
}

fn text_bytes_max(node: &Node) -> u64 {
    let Some(rules) = node.rules.as_deref() else { return OBJECT_BYTES_MAX - 2 };
    if let Some(limit) = rules.max_length {
        return limit.saturating_mul(4);
    }
    if !rules.allowed.is_empty() {
        return rules
            .allowed
            .iter()
            .filter_map(|value| value.as_str())
            .map(|text| text.len() as u64)
            .max()
            .unwrap_or(1);
    }
    match rules.format.as_deref() {
        Some("date-time" | "datetime" | "date") => 40,
        _ => OBJECT_BYTES_MAX - 2,
    }
}

/// How often something of a list or map can be there, when it holds such values `times` within an object.
pub(crate) fn times_max(node: &Node, times: u64) -> u64 {
    let rules = node.rules.as_deref();
    let bound = match node.value_type {
        ValueType::Array => rules.and_then(|rules| rules.max_items),
        _ => rules.and_then(|rules| rules.max_properties),
    };
    let inner = match (&node.items, &node.additional) {
        (Some(items), _) => min_size_bytes(items),
        (None, Additional::Schema(values)) => min_size_bytes(values),
        (None, _) => 1,
    };
    // Without a limit of its own, the size of an object is one.
    let fits = OBJECT_BYTES_MAX / (inner + 1);
    bound.map_or(fits, |bound| times.saturating_mul(bound)).min(fits.max(times))
}

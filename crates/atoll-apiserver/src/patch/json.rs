//! RFC 6902. Where the implementation in Kubernetes API servers deviates, this one follows it: replacing a member that
//! is not there adds it, and negative indices count from the end.

use serde_json::Value;

use super::PatchError;

/// More operations are refused.
const OPERATIONS_MAX: usize = 10_000;

/// RFC 6902. Returns the patched object.
pub fn json_patch(live: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        let found = type_name(patch);
        let message = format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        );
        return Err(PatchError::Malformed(message));
    };
    if operations.len() > OPERATIONS_MAX {
        let message =
            format!("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}", operations.len());
        return Err(PatchError::Malformed(message));
    }
    let mut document = live.clone();
    for operation in operations {
        perform(&mut document, operation)?;
    }
    Ok(document)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn refused(message: String) -> PatchError {
    PatchError::DoesNotApply(message)
}

fn perform(document: &mut Value, operation: &Value) -> Result<(), PatchError> {
    if !operation.is_object() {
        let found = type_name(operation);
        let message =
            format!("error decoding patch: json: cannot unmarshal {found} into Go value of type handlers.jsonPatchOp");
        return Err(PatchError::Malformed(message));
    }
    let name = operation["op"].as_str().unwrap_or_default();
    let path = pointer(operation, "path")?;
    let value = || operation.get("value").cloned().ok_or_else(|| refused(format!("{name} operation has no value")));
    match name {
        "add" => add(document, &path, value()?),
        "remove" => remove(document, &path).map(drop),
        "replace" => replace(document, &path, value()?),
        "test" => {
            let expected = operation.get("value").unwrap_or(&Value::Null);
            let found = find(document, &path).unwrap_or(&Value::Null);
            if found == expected { Ok(()) } else { Err(refused(format!("testing path {} failed", text(&path)))) }
        }
        "move" => {
            let from = pointer(operation, "from")?;
            let inside = path.len() > from.len() && path.starts_with(&from);
            if inside {
                return Err(refused(format!("{} can not be moved into itself", text(&from))));
            }
            let moved = remove(document, &from)?;
            add(document, &path, moved)
        }
        "copy" => {
            let from = pointer(operation, "from")?;
            let copied = find(document, &from).cloned().ok_or_else(|| missing("copy", &from))?;
            add(document, &path, copied)
        }
        _ => Err(refused(format!("unexpected kind of operation: {name}"))),
    }
}

/// The steps of an RFC 6901 pointer.
fn pointer(operation: &Value, member: &str) -> Result<Vec<String>, PatchError> {
    let Some(text) = operation[member].as_str() else {
        return Err(refused(format!("operation has no {member}")));
    };
    match text.strip_prefix('/') {
        None if text.is_empty() => Ok(Vec::new()),
        None => Err(refused(format!("{member} {text:?} does not begin with a slash"))),
        Some(rest) => Ok(rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()),
    }
}

fn text(path: &[String]) -> String {
    path.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
}

fn missing(operation: &str, path: &[String]) -> PatchError {
    refused(format!("{operation} operation does not apply: doc is missing path: {}", text(path)))
}

/// A place in a list of `length` items; `length` itself is allowed where something is added.
fn place(step: &str, length: usize, adding: bool) -> Option<usize> {
    if adding && step == "-" {
        return Some(length);
    }
    let (negative, digits) = step.strip_prefix('-').map_or((false, step), |digits| (true, digits));
    let canonical = digits == "0" || !digits.starts_with('0');
    if digits.is_empty() || !canonical || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: usize = digits.parse().ok()?;
    let end = if adding { length + 1 } else { length };
    if negative { end.checked_sub(number) } else { Some(number) }.filter(|index| *index < end)
}

fn find<'a>(document: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, step| match value {
        Value::Object(fields) => fields.get(step),
        Value::Array(items) => items.get(place(step, items.len(), false)?),
        _ => None,
    })
}

fn find_mut<'a>(document: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(document, |value, step| match value {
        Value::Object(fields) => fields.get_mut(step),
        Value::Array(items) => {
            let index = place(step, items.len(), false)?;
            items.get_mut(index)
        }
        _ => None,
    })
}

fn add(document: &mut Value, path: &[String], value: Value) -> Result<(), PatchError> {
    let Some((last, parent)) = path.split_last() else {
        *document = value;
        return Ok(());
    };
    match find_mut(document, parent) {
        Some(Value::Object(fields)) => {
            fields.insert(last.clone(), value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let index = place(last, items.len(), true).ok_or_else(|| missing("add", path))?;
            items.insert(index, value);
            Ok(())
        }
        _ => Err(missing("add", path)),
    }
}

fn remove(document: &mut Value, path: &[String]) -> Result<Value, PatchError> {
    let Some((last, parent)) = path.split_last() else { return Err(missing("remove", path)) };
    let removed = match find_mut(document, parent) {
        Some(Value::Object(fields)) => fields.remove(last),
        Some(Value::Array(items)) => place(last, items.len(), false).map(|index| items.remove(index)),
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}

fn replace(document: &mut Value, path: &[String], value: Value) -> Result<(), PatchError> {
    let Some((last, parent)) = path.split_last() else {
        *document = value;
        return Ok(());
    };
    match find_mut(document, parent) {
        Some(Value::Object(fields)) => {
            fields.insert(last.clone(), value);
            Ok(())
        }
        Some(Value::Array(items)) => {
            let index = place(last, items.len(), false).ok_or_else(|| missing("replace", path))?;
            items[index] = value;
            Ok(())
        }
        _ => Err(missing("replace", path)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(live: Value, patch: Value, expected: Option<Value>) {
        let result = json_patch(&live, &patch);
        match expected {
            Some(expected) => assert_eq!(result.expect("the patch applies"), expected, "{live} + {patch}"),
            None => assert!(result.is_err(), "{live} + {patch} = {result:?}"),
        }
    }

    #[test]
    fn the_examples_of_rfc_6902_hold() {
        let op = |name: &str, path: &str, value: Value| json!([{"op": name, "path": path, "value": value}]);
        check(json!({"foo": "bar"}), op("add", "/baz", json!("qux")), Some(json!({"baz": "qux", "foo": "bar"})));
        check(
            json!({"foo": ["bar", "baz"]}),
            op("add", "/foo/1", json!("qux")),
            Some(json!({"foo": ["bar", "qux", "baz"]})),
        );
        check(
            json!({"baz": "qux", "foo": "bar"}),
            json!([{"op": "remove", "path": "/baz"}]),
            Some(json!({"foo": "bar"})),
        );
        check(
            json!({"foo": ["a", "b", "c"]}),
            json!([{"op": "remove", "path": "/foo/1"}]),
            Some(json!({"foo": ["a", "c"]})),
        );
        check(json!({"baz": "qux"}), op("replace", "/baz", json!("boo")), Some(json!({"baz": "boo"})));
        check(
            json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
            json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
            Some(json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}})),
        );
        check(
            json!({"foo": ["all", "grass", "cows", "eat"]}),
            json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
            Some(json!({"foo": ["all", "cows", "eat", "grass"]})),
        );
        check(
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
            Some(json!({"baz": "qux", "foo": ["a", 2, "c"]})),
        );
        check(json!({"baz": "qux"}), op("test", "/baz", json!("bar")), None);
        check(
            json!({"foo": "bar"}),
            op("add", "/child", json!({"grandchild": {}})),
            Some(json!({"foo": "bar", "child": {"grandchild": {}}})),
        );
        check(
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
            Some(json!({"foo": "bar", "baz": "qux"})),
        );
        check(json!({"foo": "bar"}), op("add", "/baz/bat", json!("qux")), None);
        check(json!({"/": 9, "~1": 10}), op("test", "/~01", json!(10)), Some(json!({"/": 9, "~1": 10})));
        check(json!({"/": 9, "~1": 10}), op("test", "/~01", json!("10")), None);
        check(
            json!({"foo": ["bar"]}),
            op("add", "/foo/-", json!(["abc", "def"])),
            Some(json!({"foo": ["bar", ["abc", "def"]]})),
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for patch in [
            json!([{"op": "remove", "path": "/none"}]),
            json!([{"op": "remove", "path": "/list/5"}]),
            json!([{"op": "add", "path": "/list/9", "value": 1}]),
            json!([{"op": "add", "path": "/list/01", "value": 1}]),
            json!([{"op": "add", "path": "/list/x", "value": 1}]),
            json!([{"op": "replace", "path": "/list/2", "value": 1}]),
            json!([{"op": "replace", "path": "/none/x", "value": 1}]),
            json!([{"op": "copy", "from": "/none", "path": "/x"}]),
            json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
            json!([{"op": "add", "path": "/x"}]),
            json!([{"op": "add", "value": 1}]),
            json!([{"op": "add", "path": "x", "value": 1}]),
            json!([{"op": "frob", "path": "/x"}]),
            json!([1]),
            json!({"op": "add"}),
        ] {
            check(json!({"list": [1, 2], "a": {"b": 1}}), patch, None);
        }
        let many = Value::Array(vec![json!({"op": "test", "path": "/x"}); OPERATIONS_MAX + 1]);
        assert!(matches!(json_patch(&json!({}), &many), Err(PatchError::Malformed(_))));
    }

    #[test]
    fn deviations_of_kubernetes_are_kept() {
        check(json!({}), json!([{"op": "replace", "path": "/x", "value": 1}]), Some(json!({"x": 1})));
        check(json!({"l": [1, 2]}), json!([{"op": "remove", "path": "/l/-1"}]), Some(json!({"l": [1]})));
        check(json!({}), json!([{"op": "test", "path": "/x", "value": null}]), Some(json!({})));
    }
}

//! The part of JSONPath that printer columns and field selectors use:
//! `.status.conditions[?(@.type=='Ready')].status`, `.spec.ports[*].port`, `['key.with.dots']`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items whose value at the path compares with the literal.
    Filter {
        path: Vec<Step>,
        comparison: Comparison,
        literal: Literal,
    },
    /// Items that have a value at the path.
    Exists(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Literal {
    Text(String),
    Number(String),
    Bool(bool),
}

/// A path that can not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("JSONPath {path:?} at byte {offset}: expected {expected}")]
pub struct JsonPathError {
    path: String,
    offset: usize,
    expected: &'static str,
}

impl JsonPath {
    /// Reads a path. A leading `$` and enclosing braces are optional.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
        let mut reader = Reader { text: inner, offset: 0 };
        reader.take('$');
        let steps = reader.steps()?;
        if reader.offset < inner.len() {
            return Err(reader.error("'.' or '['"));
        }
        Ok(Self { steps })
    }

    /// Every value at the path, in order.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        walk(&self.steps, vec![object])
    }

    /// The first value at the path. Null counts as none.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.find(object).into_iter().find(|value| !value.is_null())
    }
}

fn walk<'a>(steps: &[Step], start: Vec<&'a Value>) -> Vec<&'a Value> {
    steps.iter().fold(start, |values, step| values.into_iter().flat_map(|value| follow(step, value)).collect())
}

fn follow<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let items = || value.as_array().map(Vec::as_slice).unwrap_or_default();
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let position = if *index < 0 { i64::try_from(items().len()).unwrap_or(0) + index } else { *index };
            usize::try_from(position).ok().and_then(|position| items().get(position)).into_iter().collect()
        }
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        },
        Step::Exists(path) => items().iter().filter(|item| !walk(path, vec![item]).is_empty()).collect(),
        Step::Filter { path, comparison, literal } => {
            let matches =
                |item: &&Value| walk(path, vec![item]).first().is_some_and(|found| holds(found, *comparison, literal));
            items().iter().filter(matches).collect()
        }
    }
}

fn holds(value: &Value, comparison: Comparison, literal: &Literal) -> bool {
    use std::cmp::Ordering;
    let ordering = match (value, literal) {
        (Value::String(text), Literal::Text(wanted)) => Some(text.as_str().cmp(wanted.as_str())),
        (Value::Number(number), Literal::Number(wanted)) => {
            number.as_f64().zip(wanted.parse::<f64>().ok()).and_then(|(found, wanted)| found.partial_cmp(&wanted))
        }
        (Value::Bool(flag), Literal::Bool(wanted)) => Some(flag.cmp(wanted)),
        _ => None,
    };
    match (comparison, ordering) {
        (Comparison::NotEqual, None) => true,
        (_, None) => false,
        (Comparison::Equal, Some(ordering)) => ordering == Ordering::Equal,
        (Comparison::NotEqual, Some(ordering)) => ordering != Ordering::Equal,
        (Comparison::Less, Some(ordering)) => ordering == Ordering::Less,
        (Comparison::LessOrEqual, Some(ordering)) => ordering != Ordering::Greater,
        (Comparison::Greater, Some(ordering)) => ordering == Ordering::Greater,
        (Comparison::GreaterOrEqual, Some(ordering)) => ordering != Ordering::Less,
    }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.offset..]
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.offset += wanted.len_utf8();
        }
        found
    }

    fn take_text(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.offset += wanted.len();
        }
        found
    }

    fn skip_spaces(&mut self) {
        while self.take(' ') {}
    }

    fn error(&self, expected: &'static str) -> JsonPathError {
        JsonPathError { path: self.text.to_owned(), offset: self.offset, expected }
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), JsonPathError> {
        if self.take(wanted) { Ok(()) } else { Err(self.error(expected)) }
    }

    fn steps(&mut self) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            if self.take('[') {
                steps.push(self.bracket()?);
            } else if self.take('.') {
                if self.take('*') {
                    steps.push(Step::All);
                } else if !self.rest().starts_with('[') {
                    match self.name() {
                        name if !name.is_empty() => steps.push(Step::Field(name)),
                        _ if steps.is_empty() && self.rest().is_empty() => return Ok(steps),
                        _ => return Err(self.error("a name")),
                    }
                }
            } else {
                return Ok(steps);
            }
        }
    }

    /// A name up to the next `.` or `[`; a backslash takes the next character as it is.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let mut characters = self.rest().chars();
        let mut length = 0;
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some(escaped) => {
                        length += 1 + escaped.len_utf8();
                        name.push(escaped);
                    }
                    None => break,
                },
                '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | ')' | '\'' | '"' => break,
                _ => {
                    length += character.len_utf8();
                    name.push(character);
                }
            }
        }
        self.offset += length;
        name
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        let step = if self.take('*') {
            Step::All
        } else if self.take_text("?(") {
            self.filter()?
        } else if let Some(name) = self.quoted()? {
            Step::Field(name)
        } else {
            let end = self.rest().find(']').ok_or_else(|| self.error("']'"))?;
            let index =
                self.rest()[..end].trim().parse().map_err(|_| self.error("a number, a quoted name, '*' or '?('"))?;
            self.offset += end;
            Step::Index(index)
        };
        self.expect(']', "']'")?;
        Ok(step)
    }

    fn quoted(&mut self) -> Result<Option<String>, JsonPathError> {
        for quote in ['\'', '"'] {
            if self.take(quote) {
                let end = self.rest().find(quote).ok_or_else(|| self.error("a closing quote"))?;
                let text = self.rest()[..end].to_owned();
                self.offset += end + quote.len_utf8();
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn filter(&mut self) -> Result<Step, JsonPathError> {
        self.skip_spaces();
        self.expect('@', "'@'")?;
        let path = self.steps()?;
        self.skip_spaces();
        if self.take(')') {
            return Ok(Step::Exists(path));
        }
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found = COMPARISONS.iter().find(|(sign, _)| self.rest().starts_with(sign));
        let (sign, comparison) = *found.ok_or_else(|| self.error("a comparison"))?;
        self.offset += sign.len();
        self.skip_spaces();
        let literal = match self.quoted()? {
            Some(text) => Literal::Text(text),
            None => {
                let end = self.rest().find(')').ok_or_else(|| self.error("')'"))?;
                let text = self.rest()[..end].trim().to_owned();
                self.offset += end;
                match text.as_str() {
                    "true" => Literal::Bool(true),
                    "false" => Literal::Bool(false),
                    _ => Literal::Number(text),
                }
            }
        };
        self.skip_spaces();
        self.expect(')', "')'")?;
        Ok(Step::Filter { path, comparison, literal })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_values() {
        let object = json!({
            "spec": {"replicas": 2, "ports": [{"port": 1, "on": true}, {"port": 2}], "a.b": "dotted"},
            "status": {"conditions": [{"type": "X", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, expected) in [
            (".spec.replicas", json!([2])),
            ("{.spec.replicas}", json!([2])),
            ("$.spec.replicas", json!([2])),
            (".spec.none", json!([])),
            (".spec['replicas']", json!([2])),
            (".spec['a.b']", json!(["dotted"])),
            (r".spec.a\.b", json!(["dotted"])),
            (".spec.ports[*].port", json!([1, 2])),
            (".spec.ports[0].port", json!([1])),
            (".spec.ports[-1].port", json!([2])),
            (".spec.ports[9].port", json!([])),
            (".spec.ports[?(@.port>1)].port", json!([2])),
            (".spec.ports[?(@.port <= 1)].port", json!([1])),
            (".spec.ports[?(@.on)].port", json!([1])),
            (".spec.ports[?(@.on==true)].port", json!([1])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type!='Ready')].status", json!(["False"])),
        ] {
            let found = JsonPath::parse(path).expect(path);
            let found: Vec<&Value> = found.find(&object);
            assert_eq!(json!(found), expected, "{path}");
        }
    }

    #[test]
    fn bad_paths_say_where() {
        for (path, offset) in
            [(".a..b", 3), (".a[", 3), (".a[?(@.b~'c')]", 9), (".a[x]", 3), ("a", 0), (".a[?(@.b=='c)]", 11)]
        {
            let error = JsonPath::parse(path).expect_err(path);
            assert_eq!(error.offset, offset, "{path}: {error}");
        }
    }
}

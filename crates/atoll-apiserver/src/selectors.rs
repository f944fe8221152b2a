//! Label and field selectors.

use serde_json::Value;

use crate::objects::View;
use crate::registry::Resource;
use crate::status::ApiError;

const LABEL_VALUE_BYTES_MAX: usize = 63;
const LABEL_PREFIX_BYTES_MAX: usize = 253;
const REQUIREMENTS_MAX: usize = 512;

/// A label selector: all its requirements hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<LabelRequirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct LabelRequirement {
    key: String,
    test: LabelTest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelTest {
    Exists,
    Absent,
    In(Vec<String>),
    /// Also holds where the label is absent.
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for part in split_requirements(text)? {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(unparsable("found ',', expected: identifier after ','"));
            }
            requirements.push(LabelRequirement::parse(part)?);
        }
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(unparsable("too many requirements"));
        }
        Ok(Self(requirements))
    }

    /// A `LabelSelector` inside an object; `None` if it is malformed, for instance by an unknown operator.
    pub(crate) fn of_object(selector: &Value) -> Option<Self> {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let test = LabelTest::In(vec![value.as_str()?.to_owned()]);
            requirements.push(LabelRequirement::new(key, test).ok()?);
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values = expression["values"].as_array().into_iter().flatten();
            let values: Vec<String> = values.filter_map(Value::as_str).map(str::to_owned).collect();
            let test = match (expression["operator"].as_str()?, values.is_empty()) {
                ("Exists", true) => LabelTest::Exists,
                ("DoesNotExist", true) => LabelTest::Absent,
                ("In", false) => LabelTest::In(values),
                ("NotIn", false) => LabelTest::NotIn(values),
                _ => return None,
            };
            requirements.push(LabelRequirement::new(expression["key"].as_str()?, test).ok()?);
        }
        Some(Self(requirements))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches_object(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|requirement| requirement.test.holds(labels[&requirement.key].as_str()))
    }

    pub(crate) fn matches(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.iter().find(|(key, _)| **key == *requirement.key).map(|(_, value)| &**value);
            requirement.test.holds(value)
        })
    }
}

impl LabelTest {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
            Self::Above(bound) => number().is_some_and(|number| number > *bound),
            Self::Below(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl LabelRequirement {
    fn parse(text: &str) -> Result<Self, ApiError> {
        if let Some(key) = text.strip_prefix('!') {
            return Self::new(key, LabelTest::Absent);
        }
        if let Some(requirement) = Self::parse_set(text)? {
            return Ok(requirement);
        }
        let Some(position) = text.find(['=', '!', '<', '>']) else {
            return Self::new(text, LabelTest::Exists);
        };
        let (key, rest) = text.split_at(position);
        type Operator = (&'static str, fn(String) -> LabelTest);
        let operators: [Operator; 3] = [
            ("==", |value| LabelTest::In(vec![value])),
            ("!=", |value| LabelTest::NotIn(vec![value])),
            ("=", |value| LabelTest::In(vec![value])),
        ];
        for (operator, test) in operators {
            if let Some(value) = rest.strip_prefix(operator) {
                return Self::new(key, test(label_value(value)?));
            }
        }
        let number = |value: &str| {
            let value = value.trim();
            value
                .parse::<i64>()
                .map_err(|_| unparsable(&format!("for 'Gt', 'Lt' operators, the value must be an integer: {value:?}")))
        };
        match (rest.strip_prefix('>'), rest.strip_prefix('<')) {
            (Some(value), _) => Self::new(key, LabelTest::Above(number(value)?)),
            (_, Some(value)) => Self::new(key, LabelTest::Below(number(value)?)),
            (None, None) => Err(unparsable(&format!("found '{rest}', expected: in, notin, =, ==, !=, gt, lt"))),
        }
    }

    /// `key in (a, b)` and `key notin (a, b)`.
    fn parse_set(text: &str) -> Result<Option<Self>, ApiError> {
        let Some(open) = text.find('(') else { return Ok(None) };
        let Some(list) = text[open + 1..].trim_end().strip_suffix(')') else {
            return Err(unparsable("found '', expected: ',' or ')'"));
        };
        let values = list.split(',').map(label_value).collect::<Result<Vec<_>, _>>()?;
        match text[..open].split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => Self::new(key, LabelTest::In(values)).map(Some),
            [key, "notin"] => Self::new(key, LabelTest::NotIn(values)).map(Some),
            _ => Err(unparsable(&format!("found '{}', expected: in, notin", text[..open].trim()))),
        }
    }

    fn new(key: &str, test: LabelTest) -> Result<Self, ApiError> {
        let key = key.trim();
        let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
        let prefix_fits = prefix.is_none_or(|prefix| {
            !prefix.is_empty() && prefix.len() <= LABEL_PREFIX_BYTES_MAX && prefix.bytes().all(is_dns_byte)
        });
        if name.is_empty() || !prefix_fits || !is_label_text(name) {
            return Err(unparsable(&format!(
                "key: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            )));
        }
        Ok(Self { key: key.to_owned(), test })
    }
}

/// Splits at the commas outside parentheses.
fn split_requirements(text: &str) -> Result<Vec<&str>, ApiError> {
    let mut parts = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (position, character) in text.char_indices() {
        match character {
            '(' if inside => return Err(unparsable("found '(', expected: identifier")),
            '(' => inside = true,
            ')' if !inside => return Err(unparsable("found ')', expected: identifier")),
            ')' => inside = false,
            ',' if !inside => {
                parts.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(unparsable("found '', expected: ',' or ')'"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn label_value(text: &str) -> Result<String, ApiError> {
    let value = text.trim();
    if value.is_empty() || is_label_text(value) {
        return Ok(value.to_owned());
    }
    Err(unparsable(&format!(
        "values[0][x]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    )))
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_VALUE_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_dns_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
}

fn unparsable(problem: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {problem}"))
}

/// A field selector: all its comparisons hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<FieldComparison>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldComparison {
    place: FieldPlace,
    value: String,
    equal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FieldPlace {
    Name,
    Namespace,
    /// By its place among the stored kind's selectable fields.
    Field(usize),
}

impl FieldSelector {
    /// `stored` is the kind in whose form objects are stored.
    pub(crate) fn parse(text: &str, resource: &Resource, stored: &Resource) -> Result<Self, ApiError> {
        let mut comparisons = Vec::new();
        for term in split_unescaped(text) {
            if term.is_empty() {
                continue;
            }
            let (path, operator, value) = split_operator(&term).ok_or_else(|| {
                ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            let place = FieldPlace::find(path, resource, stored)
                .ok_or_else(|| ApiError::bad_request(format!("field label not supported: {path}")))?;
            comparisons.push(FieldComparison { place, value: unescape(value, text)?, equal: operator != "!=" });
        }
        Ok(Self(comparisons))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name that can match, if there is such.
    pub(crate) fn name(&self) -> Option<&str> {
        let mut names = self.0.iter().filter(|it| it.equal && it.place == FieldPlace::Name);
        names.next().map(|comparison| comparison.value.as_str())
    }

    pub(crate) fn matches(&self, namespace: Option<&str>, name: &str, view: &View) -> bool {
        self.0.iter().all(|comparison| {
            let value = match comparison.place {
                FieldPlace::Name => name,
                FieldPlace::Namespace => namespace.unwrap_or_default(),
                FieldPlace::Field(index) => &view.fields[index],
            };
            (value == comparison.value) == comparison.equal
        })
    }
}

impl FieldPlace {
    fn find(path: &str, resource: &Resource, stored: &Resource) -> Option<Self> {
        match path {
            "metadata.name" => Some(Self::Name),
            "metadata.namespace" if resource.definition.namespaced => Some(Self::Namespace),
            _ => {
                let known = resource.definition.selectable_fields.iter().any(|field| field == path);
                let path = resource.stored_path(path);
                let index = stored.definition.selectable_fields.iter().position(|field| *field == path)?;
                known.then_some(Self::Field(index))
            }
        }
    }
}

/// Splits at commas that no backslash precedes.
fn split_unescaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        let current = terms.last_mut().expect("never empty");
        match character {
            ',' if !escaped => terms.push(String::new()),
            other => current.push(other),
        }
        escaped = character == '\\' && !escaped;
    }
    terms
}

fn split_operator(term: &str) -> Option<(&str, &str, &str)> {
    let bytes = term.as_bytes();
    for position in 0..bytes.len() {
        for operator in ["!=", "==", "="] {
            if bytes[position..].starts_with(operator.as_bytes()) {
                return Some((&term[..position], operator, &term[position + operator.len()..]));
            }
        }
    }
    None
}

fn unescape(value: &str, selector: &str) -> Result<String, ApiError> {
    let invalid = |problem: &str| ApiError::bad_request(format!("invalid field selector: {problem} in {selector}"));
    let mut plain = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(_) | None => return Err(invalid("invalid escape sequence")),
            },
            '=' => return Err(invalid("unescaped '='")),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn every_form_of_label_selector() {
        let object = labels(&[("app", "web"), ("tier", "front"), ("n", "5"), ("example.com/x", "")]);
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=db", false),
            ("app!=db", true),
            ("missing!=db", true),
            ("app!=web", false),
            ("app", true),
            ("missing", false),
            ("!missing", true),
            ("!app", false),
            ("app in (web, db)", true),
            ("app in (db)", false),
            ("app notin (db,cache),tier", true),
            ("missing notin (db)", true),
            ("missing in (db)", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app>4", false),
            ("example.com/x=", true),
            ("example.com/x in ()", true),
            (" app = web , tier = front ", true),
        ];
        for (text, expected) in cases {
            let selector = LabelSelector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(selector.matches(&object), expected, "{text}");
        }
    }

    #[test]
    fn malformed_label_selectors_are_refused() {
        for text in [
            "app in web",
            "app in (web",
            "=x",
            "app=a=b",
            "a b",
            ",",
            "app=web,",
            "app,,x",
            "-a",
            "app in (a))",
            "x y in (a)",
            "n>x",
            "app=@",
        ] {
            let error = LabelSelector::parse(text).expect_err(text);
            assert_eq!(error.code.as_u16(), 400, "{text}");
        }
    }

    #[test]
    fn field_selector_values_may_be_escaped() {
        assert_eq!(split_unescaped(r"a=b\,c,d=e"), [r"a=b\,c", "d=e"]);
        assert_eq!(split_operator("a!=b"), Some(("a", "!=", "b")));
        assert_eq!(unescape(r"a\,b\=c\\", "").expect("it is sound"), r"a,b=c\");
        assert!(unescape(r"a\x", "").is_err());
        assert!(unescape("a=b", "").is_err());
    }
}

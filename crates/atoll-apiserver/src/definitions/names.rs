//! Rules for names, keys and values that many kinds share. Each check returns what is wrong, empty when nothing is.

use std::sync::LazyLock;

use regex::Regex;

const LABEL_BYTES_MAX: usize = 63;
const SUBDOMAIN_BYTES_MAX: usize = 253;
const NAME_PART_BYTES_MAX: usize = 63;

const LABEL_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character";
const SUBDOMAIN_FORM: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character";
const SERVICE_FORM: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const SERVICE_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
    alphabetic character, and end with an alphanumeric character";
const NAME_PART_FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const NAME_PART_RULE: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_FORM: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character";
const CONFIG_KEY_FORM: &str = "[-._a-zA-Z0-9]+";
const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
const VARIABLE_RULE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn anchored(form: &str) -> Regex {
    Regex::new(&format!("^({form})$")).expect("a constant expression")
}

static LABEL: LazyLock<Regex> = LazyLock::new(|| anchored(LABEL_FORM));
static SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| anchored(SUBDOMAIN_FORM));
static SERVICE: LazyLock<Regex> = LazyLock::new(|| anchored(SERVICE_FORM));
static NAME_PART: LazyLock<Regex> = LazyLock::new(|| anchored(NAME_PART_FORM));
static LABEL_VALUE: LazyLock<Regex> = LazyLock::new(|| anchored(LABEL_VALUE_FORM));
static CONFIG_KEY: LazyLock<Regex> = LazyLock::new(|| anchored(CONFIG_KEY_FORM));

/// What an object of a kind may be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// Dotted: most kinds.
    #[default]
    Subdomain,
    /// No dots: namespaces.
    Label,
    /// No dots and a letter first: services.
    ServiceLabel,
    /// Anything that is one path segment: RBAC kinds.
    PathSegment,
}

impl NameRule {
    /// What is wrong with a name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => subdomain(name),
            Self::Label => label(name),
            Self::ServiceLabel => service_label(name),
            Self::PathSegment => path_segment(name),
        }
    }

    /// What is wrong with `generateName`, to which characters will be appended.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        match prefix.strip_suffix('-') {
            Some(start) if !start.is_empty() => {
                // The last two characters stand for what comes: a name may not end in a dash.
                let kept: String = start.chars().take(start.chars().count() - 1).collect();
                self.check(&format!("{kept}a"))
            }
            _ => self.check(prefix),
        }
    }
}

/// The sentence about a regular expression: rule, examples, expression.
fn sentence(rule: &str, form: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{rule} (regex used for validation is '{form}')");
    }
    let examples: String = examples
        .iter()
        .enumerate()
        .map(|(index, example)| if index == 0 { format!("'{example}', ") } else { format!(" or '{example}', ") })
        .collect();
    format!("{rule} (e.g. {examples}regex used for validation is '{form}')")
}

fn too_long(length_max: usize) -> String {
    format!("must be no more than {length_max} characters")
}

fn checked(text: &str, length_max: usize, form: &Regex, complaint: impl FnOnce() -> String) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > length_max {
        wrong.push(too_long(length_max));
    }
    if !form.is_match(text) {
        wrong.push(complaint());
    }
    wrong
}

/// RFC 1123 label.
pub fn label(name: &str) -> Vec<String> {
    checked(name, LABEL_BYTES_MAX, &LABEL, || {
        if SUBDOMAIN.is_match(name) {
            "must not contain dots".to_owned()
        } else {
            sentence(LABEL_RULE, LABEL_FORM, &["my-name", "123-abc"])
        }
    })
}

/// RFC 1123 subdomain.
pub fn subdomain(name: &str) -> Vec<String> {
    checked(name, SUBDOMAIN_BYTES_MAX, &SUBDOMAIN, || sentence(SUBDOMAIN_RULE, SUBDOMAIN_FORM, &["example.com"]))
}

/// RFC 1035 label.
pub fn service_label(name: &str) -> Vec<String> {
    checked(name, LABEL_BYTES_MAX, &SERVICE, || sentence(SERVICE_RULE, SERVICE_FORM, &["my-name", "abc-123"]))
}

/// One segment of a URL path.
pub fn path_segment(name: &str) -> Vec<String> {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => ["/", "%"]
            .iter()
            .filter(|part| name.contains(**part))
            .map(|part| format!("may not contain '{part}'"))
            .collect(),
    }
}

/// `prefix/name` or `name`: keys of labels and annotations, finalizers.
pub fn qualified_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut parts = name.split('/');
    let (first, second, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let part = match (second, more) {
        (None, _) => first,
        (Some(part), None) => {
            if first.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(subdomain(first).into_iter().map(|problem| format!("prefix part {problem}")));
            }
            part
        }
        (Some(_), Some(_)) => {
            let rule = format!("a qualified name {NAME_PART_RULE}");
            let complaint = sentence(&rule, NAME_PART_FORM, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "{complaint} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if part.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if part.len() > NAME_PART_BYTES_MAX {
        wrong.push(format!("name part {}", too_long(NAME_PART_BYTES_MAX)));
    }
    if !NAME_PART.is_match(part) {
        let complaint = sentence(NAME_PART_RULE, NAME_PART_FORM, &["MyName", "my.name", "123-abc"]);
        wrong.push(format!("name part {complaint}"));
    }
    wrong
}

/// Value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    checked(value, LABEL_BYTES_MAX, &LABEL_VALUE, || {
        sentence(LABEL_VALUE_RULE, LABEL_VALUE_FORM, &["MyValue", "my_value", "12345"])
    })
}

/// Key in a ConfigMap or Secret.
pub fn config_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if key.len() > SUBDOMAIN_BYTES_MAX {
        wrong.push(too_long(SUBDOMAIN_BYTES_MAX));
    }
    if !CONFIG_KEY.is_match(key) {
        wrong.push(sentence(CONFIG_KEY_RULE, CONFIG_KEY_FORM, &["key.name", "KEY_NAME", "key-name"]));
    }
    match key {
        "." | ".." => wrong.push(format!("must not be '{key}'")),
        _ if key.starts_with("..") => wrong.push("must not start with '..'".to_owned()),
        _ => {}
    }
    wrong
}

/// Name of an environment variable.
pub fn variable(name: &str) -> Vec<String> {
    let printable = |character: char| (' '..='~').contains(&character) && character != '=';
    if name.is_empty() || !name.chars().all(printable) { vec![VARIABLE_RULE.to_owned()] } else { Vec::new() }
}

/// Name of a port: at most 15 lower case letters, digits and single dashes, with a letter among them.
pub fn port_name(name: &str) -> Vec<String> {
    const LENGTH_MAX: usize = 15;
    let mut wrong = Vec::new();
    if name.len() > LENGTH_MAX {
        wrong.push(too_long(LENGTH_MAX));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.bytes().all(allowed) {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// Number of a port.
pub fn port_number(number: i64) -> Vec<String> {
    if (1..=65535).contains(&number) { Vec::new() } else { vec!["must be between 1 and 65535, inclusive".to_owned()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        let long = "a".repeat(64);
        let cases: &[(NameRule, &str, bool)] = &[
            (NameRule::Subdomain, "a.b-c", true),
            (NameRule::Subdomain, "a..b", false),
            (NameRule::Subdomain, "A", false),
            (NameRule::Subdomain, "", false),
            (NameRule::Subdomain, &long, true),
            (NameRule::Label, "a-b", true),
            (NameRule::Label, "a.b", false),
            (NameRule::Label, &long, false),
            (NameRule::ServiceLabel, "a1", true),
            (NameRule::ServiceLabel, "1a", false),
            (NameRule::PathSegment, "system:x", true),
            (NameRule::PathSegment, "a/b", false),
            (NameRule::PathSegment, "..", false),
        ];
        for (rule, name, valid) in cases {
            assert_eq!(rule.check(name).is_empty(), *valid, "{rule:?} {name}");
        }
        assert!(NameRule::Subdomain.check_prefix("pool-").is_empty());
        assert!(!NameRule::Subdomain.check_prefix("Pool-").is_empty());
        assert!(!NameRule::Subdomain.check_prefix("-").is_empty());
    }

    #[test]
    fn complaints_are_worded_as_kubernetes_words_them() {
        assert_eq!(
            subdomain("X_y"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
              end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            qualified_name("a b"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
              character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
              '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
    }

    #[test]
    fn keys_and_values_follow_their_rules() {
        for (name, valid) in
            [("a", true), ("a.b/c", true), ("/c", false), ("a/", false), ("a/b/c", false), ("A.b/c", false)]
        {
            assert_eq!(qualified_name(name).is_empty(), valid, "{name}");
        }
        for (value, valid) in [("", true), ("a_b.c-d", true), ("-a", false), ("a b", false)] {
            assert_eq!(label_value(value).is_empty(), valid, "{value}");
        }
        for (key, valid) in [("a.b", true), ("..a", false), ("a/b", false), (".", false), ("", false)] {
            assert_eq!(config_key(key).is_empty(), valid, "{key}");
        }
        for (name, valid) in
            [("http", true), ("a--b", false), ("80", false), ("-a", false), ("a-very-long-port", false)]
        {
            assert_eq!(port_name(name).is_empty(), valid, "{name}");
        }
        for (name, valid) in [("A", true), ("a b", true), ("a=b", false), ("", false), ("é", false)] {
            assert_eq!(variable(name).is_empty(), valid, "{name}");
        }
    }
}

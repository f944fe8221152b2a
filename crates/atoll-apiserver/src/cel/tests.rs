use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Node, StructuralSchema};

fn schema() -> Arc<Node> {
    let document = json!({
        "type": "object",
        "properties": {
            "count": { "type": "integer" }, "ratio": { "type": "number" }, "name": { "type": "string", "maxLength": 20 },
            "flag": { "type": "boolean" }, "when": { "type": "string", "format": "date-time" },
            "wait": { "type": "string", "format": "duration" }, "either": { "x-kubernetes-int-or-string": true },
            "list": { "type": "array", "maxItems": 10, "items": { "type": "integer" } },
            "words": { "type": "array", "items": { "type": "string" } },
            "set": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } },
            "map": { "type": "object", "additionalProperties": { "type": "integer" } },
            "in": { "type": "string" }, "a.b-c": { "type": "string" },
            "parts": { "type": "array", "items": { "type": "object", "properties": {
                "name": { "type": "string" }, "size": { "type": "integer" },
            } } },
        },
    });
    Arc::clone(StructuralSchema::from_openapi_v3(&document).expect("it is structural").root())
}

fn object() -> Value {
    json!({
        "count": 3, "ratio": 1.5, "name": "näme", "flag": true, "when": "2026-01-02T03:04:05Z", "wait": "1h30m",
        "either": "80", "list": [1, 2, 3], "words": ["b", "a"], "set": ["x", "y"], "map": { "a": 1, "b": 2 },
        "in": "reserved", "a.b-c": "escaped", "parts": [{ "name": "p", "size": 1 }, { "name": "q", "size": 2 }],
    })
}

fn evaluate(rule: &str, object: &Value, old: Option<&Value>) -> Result<bool, Failure> {
    let node = schema();
    let program = Program::parse(rule).map_err(Failure::Failed)?;
    let mut budget = OBJECT_COST_MAX;
    program.holds(Subject { node: &node, value: object, old, optional_old: rule.contains("oldSelf.") }, &mut budget)
}

#[test]
fn rules_hold_as_cel_says() {
    let rules = [
        "self.count == 3 && self.ratio > 1.0 && self.flag",
        "self.count + 1 == 4 && self.count * 2 - 1 == 5 && 7 / 2 == 3 && 7 % 2 == 1 && -self.count == -3",
        "self.count < 3.5 && self.count == 3.0 && 2u < self.count",
        "size(self.name) == 4 && self.name.size() == 4 && self.name.startsWith('n') && self.name.endsWith('me')",
        "self.name.contains('ä') && self.name.matches('^n.me$') && !self.name.matches('x')",
        "has(self.name) && !has(self.nothing)",
        "self.list.all(it, it > 0) && self.list.exists(it, it == 2) && self.list.exists_one(it, it == 2)",
        "self.list.map(it, it * 2) == [2, 4, 6] && self.list.filter(it, it > 1) == [2, 3]",
        "self.list.map(it, it > 1, it * 2) == [4, 6]",
        "3 in self.list && !(4 in self.list) && 'a' in self.map && self.map['a'] == 1 && self.map.a == 1",
        "self.map.all(key, self.map[key] > 0) && self.list[0] == 1",
        "self.parts.all(p, p.size < 3) && self.parts[1].name == 'q'",
        "self.set == ['x', 'y'] && self.words != ['a', 'b']",
        "self.when < timestamp('2027-01-01T00:00:00Z') && self.when.getFullYear() == 2026 && self.when.getMonth() == 0",
        "self.when + self.wait == timestamp('2026-01-02T04:34:05Z') && self.wait > duration('1h') && self.wait.getMinutes() == 90",
        "self.either == '80' && type(self.either) == string && int(self.either) == 80",
        "self.__in__ == 'reserved' && self.a__dot__b__dash__c == 'escaped'",
        "self.?nothing.orValue('x') == 'x' && self.?name.hasValue() && optional.of(1).value() == 1",
        "self.list.isSorted() && self.list.sum() == 6 && self.list.max() == 3 && self.list.min() == 1 && self.list.indexOf(2) == 1",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'abc'.substring(1, 2) == 'b'",
        "'aXb'.lowerAscii() == 'axb' && ' a '.trim() == 'a' && 'aa'.replace('a', 'b') == 'bb' && 'abc'.charAt(1) == 'b'",
        "'a1b2'.find('[0-9]') == '1' && 'a1b2'.findAll('[0-9]') == ['1', '2']",
        "quantity('1Gi').isGreaterThan(quantity('500Mi')) && isQuantity('1') && !isQuantity('x')",
        "sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])",
        "isIP('10.0.0.1') && !isIP('10.0.0.256') && isCIDR('10.0.0.0/8')",
        "self.count > 5 ? false : true",
        "(self.nothing == 1) || true",
        "!(false && (self.nothing == 1))",
        "[1, 'a', true].exists(it, it == 'a') && {'a': 1}.a == 1",
        "string(self.count) == '3' && double(self.count) == 3.0 && bool('true')",
    ];
    for rule in rules {
        assert_eq!(evaluate(rule, &object(), None), Ok(true), "{rule}");
    }
}

#[test]
fn failures_say_what_is_wrong() {
    let cases = [
        ("self.nothing == 1", "no such key: nothing"),
        ("self.list[9] == 1", "index out of bounds: 9"),
        ("self.map['z'] == 1", "no such key: z"),
        ("1 / (self.count - 3) == 1", "division by zero"),
        ("9223372036854775807 + self.count > 0", "integer overflow"),
        ("self.count + self.name == 'x'", "no such overload"),
        ("self.name.matches('(')", "error parsing regexp"),
        ("self.count", "must evaluate to a bool"),
        ("timestamp('soon') == self.when", "cannot convert to timestamp"),
    ];
    for (rule, expected) in cases {
        let Err(Failure::Failed(problem)) = evaluate(rule, &object(), None) else { panic!("{rule}") };
        assert!(problem.contains(expected), "{rule}: {problem}");
    }
}

#[test]
fn changes_are_compared() {
    let old = json!({ "count": 5 });
    assert!(evaluate("self.count >= oldSelf", &object(), Some(&old)).is_err());
    assert_eq!(evaluate("has(self.count) && oldSelf.hasValue()", &object(), Some(&old)), Ok(true));
    assert_eq!(evaluate("!oldSelf.hasValue()", &object(), None), Ok(true));
    assert!(Program::parse("oldSelf == self").expect("it parses").uses_old);
    assert!(!Program::parse("self.all(oldSelfish, oldSelfish)").expect("it parses").uses_old);
}

#[test]
fn the_cost_is_bounded() {
    let object = json!({ "list": (0..1000).collect::<Vec<i32>>(), "name": "a".repeat(100_000) });
    for rule in [
        "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))",
        "self.list.map(a, self.list.map(b, self.list)).size() > 0",
        "self.list.all(a, self.name.contains(self.name))",
        "self.list.all(a, self.name + self.name != self.name)",
    ] {
        assert_eq!(evaluate(rule, &object, None), Err(Failure::TooCostly), "{rule}");
    }
    assert_eq!(evaluate("self.list.map(a, a).filter(a, a > 500).size() == 499", &object, None), Ok(true));
}

#[test]
fn hostile_expressions_are_refused() {
    let long = "a".repeat(SOURCE_BYTES_MAX + 1);
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    let chain = "self".to_owned() + &".a".repeat(4000);
    let sum = "1".to_owned() + &"+1".repeat(4000);
    for source in ["", "1 +", "self.x..y", "'", "a b", "has(x)", &long, &deep, &chain, &sum] {
        assert!(Program::parse(source).is_err(), "{source:.40}");
    }
}

fn checked(rule: &str) -> Result<(String, u64), String> {
    let node = schema();
    let program = Program::parse(rule)?;
    check(program.expression(), &node, true, false).map(|checked| (checked.value_type.name(), checked.cost))
}

#[test]
fn rules_are_checked_against_the_schema() {
    let good = [
        "self.metadata.name != 'x'",
        "self.list.all(a, a > 1) && self.parts.exists(p, p.name == 'x' && p.size > 2)",
        "self.map.all(k, self.map[k] > 1) && self.map.a == 1",
        "!has(self.name) || self.name == oldSelf.name",
        "self.either == 1 || self.either == 'x'",
        "self.when > timestamp('2026-01-01T00:00:00Z')",
        "self.parts.map(p, p.size).sum() < 10",
        "self.?name.orValue('') != 'x'",
        "self.count == 1.0 && self.a__dot__b__dash__c != ''",
    ];
    for rule in good {
        assert_eq!(checked(rule).map(|(name, _)| name), Ok("bool".to_owned()), "{rule}");
    }
    let bad = [
        ("self.nothing == 1", "undefined field 'nothing'"),
        ("self.parts.all(p, p.colour == 'x')", "undefined field 'colour'"),
        ("self.metadata.labels.a == 'x'", "undefined field 'labels'"),
        ("other == 1", "undeclared reference to 'other' (in container '')"),
        ("self.name.shout() == 'x'", "undeclared reference to 'shout'"),
        ("self.count == 'x'", "found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.count && true", "found no matching overload for '_&&_' applied to '(int, bool)'"),
        ("self.name + 1 == 'x'", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("self.name.startsWith(1)", "found no matching overload for 'startsWith' applied to '(string, int)'"),
        ("self.count.all(a, a)", "cannot be range of a comprehension"),
        ("self.count.x == 1", "does not support field selection"),
    ];
    for (rule, expected) in bad {
        let problem = checked(rule).expect_err(rule);
        assert!(problem.contains(expected), "{rule}: {problem}");
    }
    let cost = |rule: &str| checked(rule).expect(rule).1;
    assert!(cost("self.list.all(a, a > 1)") < 200);
    assert!(cost("self.words.all(a, self.words.all(b, a != b))") > 100_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused(source in ".{0,60}") {
        if let Ok(program) = Program::parse(&source) {
            let node = schema();
            let _either = check(program.expression(), &node, true, false);
        }
    }

    #[test]
    fn expressions_of_tokens_end(tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 1..14)) {
        let source = tokens.concat();
        let _outcome = evaluate(&source, &object(), Some(&object()));
        let _checked = checked(&source);
    }
}

const TOKENS: &[&str] = &[
    "self",
    ".count",
    ".list",
    ".map",
    ".name",
    ".all(a, ",
    ".map(a, ",
    "a",
    ")",
    "[",
    "]",
    "0",
    "1",
    "'x'",
    " + ",
    " - ",
    " / ",
    " == ",
    " < ",
    " && ",
    " || ",
    " ? ",
    " : ",
    "!",
    "(",
    "size(",
    ".size()",
    "oldSelf",
    " in ",
    "has(",
    "[?",
    ".?",
    "1.5",
    "2u",
    "null",
    "{",
    "}",
    ", ",
    ".matches(",
    ".split(",
    "duration(",
    "timestamp(",
    "int(",
    "string(",
];

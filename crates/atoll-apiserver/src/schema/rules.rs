//! `x-kubernetes-validations`: evaluating the rules of a schema for an object, and checking the rules themselves.

use serde_json::{Value, json};

use super::cause::{Cause, NO_FIELD};
use super::node::{Additional, ListType, Node, Rule};
use super::path::FieldPath;
use super::validate::same_item;
use crate::cel::{self, Failure, OBJECT_COST_MAX, Program, Subject, Type};

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
/// What one rule may cost at most, by its schema, however often it is evaluated for one object.
const RULE_COST_MAX: u64 = 10_000_000;
/// What all rules of a schema may cost at most.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// The longest message that an expression may make.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// Whether there are rules anywhere below.
pub(super) fn exist(node: &Node) -> bool {
    node.rules.as_ref().is_some_and(|rules| !rules.validations.is_empty()) || children(node).any(exist)
}

fn children(node: &Node) -> impl Iterator<Item = &Node> {
    let values = match &node.additional {
        Additional::Schema(values) => Some(values),
        Additional::None | Additional::Anything => None,
    };
    node.properties.values().chain(&node.items).chain(values).map(|child| &**child)
}

/// Evaluates all rules for an object. Rules about changes want the state before.
pub(super) fn check(object: &Value, old: Option<&Value>, node: &Node) -> Vec<Cause> {
    let mut walk = Walk { budget: OBJECT_COST_MAX, exhausted: false, causes: Vec::new() };
    walk.check(object, old, node, &mut FieldPath::default());
    walk.causes
}

struct Walk {
    budget: u64,
    /// No rule is evaluated any more.
    exhausted: bool,
    causes: Vec<Cause>,
}

impl Walk {
    fn check(&mut self, value: &Value, old: Option<&Value>, node: &Node, path: &mut FieldPath) {
        if value.is_null() || self.exhausted {
            return;
        }
        for rule in node.rules.iter().flat_map(|rules| &rules.validations) {
            self.evaluate(rule, Subject { node, value, old, optional_old: rule.optional_old_self }, path);
            if self.exhausted {
                return;
            }
        }
        match value {
            Value::Object(fields) => {
                let old = old.and_then(Value::as_object).filter(|_| !node.atomic_map);
                for (name, field) in fields {
                    let old = old.and_then(|old| old.get(name));
                    match (node.properties.get(name.as_str()), &node.additional) {
                        (Some(schema), _) => path.within_field(name, |path| self.check(field, old, schema, path)),
                        (None, Additional::Schema(schema)) => self.check(field, old, schema, &mut path.key(name)),
                        (None, _) => {}
                    }
                }
            }
            Value::Array(items) => {
                let Some(schema) = &node.items else { return };
                let old = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                for (index, item) in items.iter().enumerate() {
                    let old = same_item(item, old, &node.list);
                    path.within_index(index, |path| self.check(item, old, schema, path));
                }
            }
            _ => {}
        }
    }

    fn evaluate(&mut self, rule: &Rule, subject: Subject<'_>, path: &FieldPath) {
        let at = if path.as_str().is_empty() { NO_FIELD.to_owned() } else { path.to_string() };
        let shown = subject.node.value_type.keyword().unwrap_or_default();
        let program = match rule.program() {
            Ok(program) => program,
            Err(problem) => {
                self.causes.push(Cause::invalid(at, shown, &format!("rule compile error: {problem}")));
                return;
            }
        };
        if program.uses_old && subject.old.is_none() && !subject.optional_old {
            return;
        }
        let called = described(rule);
        match program.holds(subject, &mut self.budget) {
            Ok(true) => {}
            // What was wrong before and did not change is forgiven.
            Ok(false) if !program.uses_old && subject.old == Some(subject.value) => {}
            Ok(false) => {
                let message = self.message(rule, subject);
                self.causes.push(broken(rule, path, shown, &message));
            }
            Err(Failure::TooCostly) if self.budget == 0 => {
                self.exhausted = true;
                self.causes.push(Cause::invalid(at, shown, OUT_OF_BUDGET));
            }
            Err(failure @ Failure::TooCostly) => {
                self.exhausted = true;
                let problem = format!(
                    "'{failure}': no further validation rules will be run due to call cost exceeds limit for rule: {called}"
                );
                self.causes.push(Cause::invalid(at, shown, &problem));
            }
            Err(Failure::Failed(problem)) if problem.starts_with("no such overload") => {
                let problem = format!(
                    "'{problem}': call arguments did not match a supported operator, function or macro signature for \
                     rule: {called}"
                );
                self.causes.push(Cause::invalid(at, shown, &problem));
            }
            Err(Failure::Failed(problem)) => {
                self.causes.push(Cause::invalid(at, shown, &format!("{problem} evaluating rule: {called}")));
            }
        }
    }

    /// What is said of a broken rule: what its expression makes, if that is a message.
    fn message(&mut self, rule: &Rule, subject: Subject<'_>) -> String {
        let made = match rule.message_program() {
            Some(Ok(program)) => program.text(subject, &mut self.budget).ok(),
            Some(Err(_)) | None => None,
        };
        let made = made.map(|text| text.trim().to_owned());
        let fits = |text: &String| !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains(['\n', '\r']);
        made.filter(fits).unwrap_or_else(|| match &*rule.message {
            "" => format!("failed rule: {}", rule.rule),
            message => message.to_owned(),
        })
    }
}

/// A rule as errors name it.
fn described(rule: &Rule) -> &str {
    if rule.message.is_empty() { &rule.rule } else { &rule.message }
}

fn broken(rule: &Rule, path: &FieldPath, shown: &str, message: &str) -> Cause {
    let below = normal_path(&rule.field_path);
    let field = match (path.as_str(), below.as_str()) {
        ("", "") => NO_FIELD.to_owned(),
        ("", below) => below.to_owned(),
        (path, "") => path.to_owned(),
        (path, below) => format!("{path}.{below}"),
    };
    match &*rule.reason {
        "FieldValueForbidden" => Cause::forbidden(field, message),
        "FieldValueRequired" => Cause::required(field, message),
        "FieldValueDuplicate" => Cause::duplicate(field, shown),
        _ => Cause::invalid(field, shown, message),
    }
}

/// `.a['b']` as `a.b`.
fn normal_path(path: &str) -> String {
    path.trim_start_matches('.').replace("['", ".").replace("[\"", ".").replace("']", "").replace("\"]", "")
}

/// What is wrong with the rules of a schema: names, types, and what they can cost.
pub(super) fn check_own(node: &Node, path: &FieldPath) -> Vec<Cause> {
    let mut check = OwnCheck { total: 0, causes: Vec::new() };
    check.node(node, &Place { path: path.clone(), is_root: true, times: 1, uncorrelated: None });
    if check.total > SCHEMA_COST_MAX {
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        check.causes.push(Cause::forbidden(path, &too_costly(name, check.total, SCHEMA_COST_MAX)));
    }
    check.causes
}

/// Where in a schema a check is.
struct Place {
    path: FieldPath,
    is_root: bool,
    /// How often such a value can be there.
    times: u64,
    /// The list or map whose parts cannot be told to be the same as before.
    uncorrelated: Option<FieldPath>,
}

struct OwnCheck {
    total: u64,
    causes: Vec<Cause>,
}

impl OwnCheck {
    fn node(&mut self, node: &Node, place: &Place) {
        if !exist(node) {
            return;
        }
        for (index, rule) in node.rules.iter().flat_map(|rules| &rules.validations).enumerate() {
            self.rule(rule, node, place, &place.path.field("x-kubernetes-validations").index(index));
        }
        let below = |path: FieldPath, times: u64, parted: bool| Place {
            uncorrelated: place.uncorrelated.clone().or_else(|| parted.then(|| place.path.clone())),
            path,
            is_root: false,
            times,
        };
        for (name, property) in &node.properties {
            let path = place.path.field("properties").key(name);
            self.node(property, &below(path, place.times, node.atomic_map));
        }
        let times = cel::times_max(node, place.times);
        if let Some(items) = &node.items {
            let parted = !matches!(node.list, ListType::Map(_));
            self.node(items, &below(place.path.field("items"), times, parted));
        }
        if let Additional::Schema(values) = &node.additional {
            self.node(values, &below(place.path.field("additionalProperties"), times, node.atomic_map));
        }
    }

    fn rule(&mut self, rule: &Rule, node: &Node, place: &Place, path: &FieldPath) {
        let at = path.field("rule");
        let whole = json!({ "rule": rule.rule, "message": rule.message });
        match compile(rule.program(), rule, node, place) {
            Ok((program, value_type, cost)) => {
                let cost = cost.saturating_mul(place.times);
                self.total = self.total.saturating_add(cost);
                if cost > RULE_COST_MAX {
                    self.causes.push(Cause::forbidden(&at, &too_costly("estimated rule cost", cost, RULE_COST_MAX)));
                }
                if !matches!(value_type, Type::Bool | Type::Dyn) {
                    self.causes.push(Cause::invalid(&at, whole.clone(), "cel expression must evaluate to a bool"));
                }
                if let Some(list) = place.uncorrelated.as_ref().filter(|_| program.uses_old) {
                    let problem =
                        format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                    self.causes.push(Cause::invalid(&at, rule.rule.as_ref(), &problem));
                }
            }
            Err(problem) => {
                self.causes.push(Cause::invalid(&at, whole.clone(), &format!("compilation failed: {problem}")))
            }
        }
        if let Some(program) = rule.message_program() {
            let at = path.field("messageExpression");
            match compile(program, rule, node, place) {
                Ok((_, Type::Text | Type::Dyn, _)) => {}
                Ok(_) => self.causes.push(Cause::invalid(at, whole, "messageExpression must evaluate to a string")),
                Err(problem) => {
                    let problem = format!("messageExpression compilation failed: {problem}");
                    self.causes.push(Cause::invalid(at, whole, &problem));
                }
            }
        }
        let below = normal_path(&rule.field_path);
        let leads = below.split('.').try_fold(node, |node, name| node.field(name).map(|field| &**field));
        if !below.is_empty() && leads.is_none() {
            self.causes.push(Cause::invalid(path.field("fieldPath"), rule.field_path.as_ref(), "must be a valid path"));
        }
    }
}

/// The program, the type of what it gives, and what it can cost.
fn compile<'p, 'n>(
    parsed: &'p Result<std::sync::Arc<Program>, String>,
    rule: &Rule,
    node: &'n Node,
    place: &Place,
) -> Result<(&'p Program, Type<'n>, u64), String> {
    let program = parsed.as_ref().map_err(Clone::clone)?;
    let checked = cel::check(program.expression(), node, place.is_root, rule.optional_old_self)
        .map_err(|problem| format!("ERROR: <input>:1:1: {problem}\n | {}", rule.rule))?;
    Ok((program, checked.value_type, checked.cost))
}

#[expect(clippy::cast_precision_loss, reason = "a factor for people")]
fn too_costly(name: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 { "more than 100x".to_owned() } else { format!("{factor:.1}x") };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

//! Checking an expression against the schema before it is ever evaluated: names, types, and what it can cost at most.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::cost::size_max;
use super::types::Type;
use crate::schema::{Node, ValueType};

/// What is known of an expression.
#[derive(Clone, Debug)]
pub(crate) struct Checked<'n> {
    pub(crate) value_type: Type<'n>,
    /// At most.
    pub(crate) cost: u64,
    /// Items, entries or characters at most.
    size: u64,
}

impl<'n> Checked<'n> {
    fn new(value_type: Type<'n>, cost: u64) -> Self {
        let size = match &value_type {
            Type::Data(node) | Type::Root(node) => size_max(node),
            _ => 1,
        };
        Self { value_type, cost, size }
    }

    fn sized(self, size: u64) -> Self {
        Self { size, ..self }
    }
}

/// The variables that are known: each knows the next.
struct Scope<'s, 'n> {
    name: &'s str,
    value_type: Type<'n>,
    size: u64,
    outer: Option<&'s Scope<'s, 'n>>,
}

impl<'n> Scope<'_, 'n> {
    fn find(&self, name: &str) -> Option<(Type<'n>, u64)> {
        if self.name == name {
            return Some((self.value_type.clone(), self.size));
        }
        self.outer.and_then(|outer| outer.find(name))
    }
}

type Outcome<'n> = Result<Checked<'n>, String>;

/// Checks an expression whose `self` is of a schema. `is_root`: the schema is that of the whole object.
pub(crate) fn check<'n>(expression: &IdedExpr, node: &'n Node, is_root: bool, optional_old: bool) -> Outcome<'n> {
    let own = if is_root { Type::Root(node) } else { Type::of(node) };
    let old = if optional_old { Type::Optional(Box::new(own.clone())) } else { own.clone() };
    let size = size_max(node);
    let before = Scope { name: "oldSelf", value_type: old, size, outer: None };
    let scope = Scope { name: "self", value_type: own, size, outer: Some(&before) };
    value(expression, &scope)
}

fn value<'n>(expression: &IdedExpr, scope: &Scope<'_, 'n>) -> Outcome<'n> {
    match &expression.expr {
        Expr::Literal(literal) => Ok(constant(literal)),
        Expr::Ident(name) => match scope.find(name) {
            Some((value_type, size)) => Ok(Checked { value_type, cost: 1, size }),
            None if super::functions::type_named(name).is_some() => Ok(Checked::new(Type::Meta, 1)),
            None => Err(undeclared(name)),
        },
        Expr::Select(select) => {
            let operand = value(&select.operand, scope)?;
            let found = operand.value_type.field(&select.field);
            let found = found.ok_or_else(|| match &operand.value_type {
                Type::Data(_) | Type::Root(_) | Type::Metadata => format!("undefined field '{}'", select.field),
                other => format!("type '{}' does not support field selection", other.name()),
            })?;
            let cost = operand.cost.saturating_add(1);
            let found = if select.test { Checked::new(Type::Bool, cost) } else { part(found, cost, &operand) };
            Ok(found)
        }
        Expr::List(list) => {
            let mut checked = Checked::new(Type::List(Box::new(Type::Dyn)), 10);
            let mut items: Option<Type<'n>> = None;
            for element in &list.elements {
                let element = value(element, scope)?;
                checked.cost = checked.cost.saturating_add(element.cost);
                items = Some(match items {
                    Some(known) if !known.fits(&element.value_type) => Type::Dyn,
                    Some(known) => known,
                    None => element.value_type,
                });
            }
            checked.value_type = Type::List(Box::new(items.unwrap_or(Type::Dyn)));
            Ok(checked.sized(list.elements.len() as u64))
        }
        Expr::Map(map) => {
            let mut cost = 30_u64;
            for entry in &map.entries {
                let EntryExpr::MapEntry(entry) = &entry.expr else { return Err("not a map entry".to_owned()) };
                for part in [&entry.key, &entry.value] {
                    cost = cost.saturating_add(value(part, scope)?.cost);
                }
            }
            Ok(Checked::new(Type::Map(Box::new(Type::Dyn)), cost).sized(map.entries.len() as u64))
        }
        Expr::Call(call) => check_call(call, scope),
        Expr::Comprehension(it) => comprehension(it, scope),
        Expr::Struct(it) => Err(undeclared(&it.type_name)),
        Expr::Unspecified => Err("an empty expression".to_owned()),
    }
}

/// A part of something: what its own schema does not bound is no larger than the whole.
fn part<'n>(value_type: Type<'n>, cost: u64, whole: &Checked<'n>) -> Checked<'n> {
    let size = match &value_type {
        Type::Data(node) | Type::Root(node) => size_max(node),
        Type::Text | Type::Bytes | Type::Dyn => match &whole.value_type {
            Type::Data(node) | Type::Root(node) => text_size(node),
            _ => whole.size,
        },
        _ => 1,
    };
    Checked { value_type, cost, size }
}

/// The largest text among the direct parts of an object.
fn text_size(node: &Node) -> u64 {
    let parts = node.properties.values().chain(&node.items);
    let texts = parts.filter(|it| matches!(it.value_type, ValueType::String | ValueType::Any | ValueType::IntOrString));
    let largest = texts.map(|it| size_max(it)).max();
    match &node.additional {
        crate::schema::Additional::Schema(values) => largest.unwrap_or_default().max(size_max(values)),
        _ => largest.unwrap_or(1),
    }
}

fn constant<'n>(literal: &LiteralValue) -> Checked<'n> {
    let (value_type, size) = match literal {
        LiteralValue::Boolean(_) => (Type::Bool, 1),
        LiteralValue::Bytes(bytes) => (Type::Bytes, bytes.inner().len() as u64),
        LiteralValue::Double(_) => (Type::Double, 1),
        LiteralValue::Int(_) => (Type::Int, 1),
        LiteralValue::Null => (Type::Null, 1),
        LiteralValue::String(text) => (Type::Text, text.inner().len() as u64),
        LiteralValue::UInt(_) => (Type::Uint, 1),
    };
    Checked { value_type, cost: 0, size }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

fn no_overload(name: &str, arguments: &[Checked<'_>]) -> String {
    let types: Vec<String> = arguments.iter().map(|argument| argument.value_type.name()).collect();
    format!("found no matching overload for '{name}' applied to '({})'", types.join(", "))
}

fn check_call<'n>(call: &CallExpr, scope: &Scope<'_, 'n>) -> Outcome<'n> {
    let mut arguments = Vec::new();
    let mut name = call.func_name.clone();
    match call.target.as_deref() {
        Some(IdedExpr { expr: Expr::Ident(qualifier), .. }) if scope.find(qualifier).is_none() => {
            name = format!("{qualifier}.{name}");
        }
        Some(target) => arguments.push(value(target, scope)?),
        None => {}
    }
    for argument in &call.args {
        arguments.push(value(argument, scope)?);
    }
    let cost = arguments.iter().fold(1_u64, |cost, argument| cost.saturating_add(argument.cost));
    let cost = cost.saturating_add(work(&name, &arguments));
    let (value_type, size) = outcome(&name, &arguments)?;
    let size = size.unwrap_or_else(|| match &value_type {
        Type::Data(node) | Type::Root(node) => size_max(node),
        _ => 1,
    });
    Ok(Checked { value_type, cost, size })
}

/// What a call does beyond being one.
fn work(name: &str, arguments: &[Checked<'_>]) -> u64 {
    let tenth = |argument: &Checked<'_>| match &argument.value_type {
        Type::Text | Type::Bytes | Type::Dyn => argument.size / 10,
        _ => argument.size,
    };
    let sizes = || arguments.iter().map(tenth);
    match name {
        operators::EQUALS | operators::NOT_EQUALS => sizes().min().unwrap_or_default(),
        "contains" | "matches" | "find" | "findAll" | "indexOf" | "lastIndexOf" | "replace" | "split"
        | "sets.contains" | "sets.intersects" | "sets.equivalent" => {
            sizes().fold(1, |product: u64, size| product.saturating_mul(size.max(1)))
        }
        operators::IN | "isSorted" | "sum" | "min" | "max" | "join" | "lowerAscii" | "upperAscii" | "trim" => {
            sizes().fold(0, u64::saturating_add)
        }
        _ => 0,
    }
}

/// The type and size of what a call gives.
fn outcome<'n>(name: &str, arguments: &[Checked<'n>]) -> Result<(Type<'n>, Option<u64>), String> {
    let refused = || no_overload(name, arguments);
    let types: Vec<&Type<'n>> = arguments.iter().map(|argument| &argument.value_type).collect();
    let is = |index: usize, fits: fn(&Type<'_>) -> bool| types.get(index).is_some_and(|it| it.is_dyn() || fits(it));
    let is_bool = |it: &Type<'_>| matches!(it, Type::Bool);
    let is_text = |it: &Type<'_>| matches!(it, Type::Text);
    let text = || Ok((Type::Text, arguments.first().map(|argument| argument.size)));
    let plain = |value_type| Ok((value_type, None));
    match (name, types.as_slice()) {
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, _]) if is(0, is_bool) && is(1, is_bool) => {
            plain(Type::Bool)
        }
        (operators::LOGICAL_NOT, [_]) if is(0, is_bool) => plain(Type::Bool),
        (operators::NOT_STRICTLY_FALSE, [_]) => plain(Type::Bool),
        (operators::CONDITIONAL, [_, then, otherwise]) if is(0, is_bool) && then.fits(otherwise) => {
            let size = arguments[1].size.max(arguments[2].size);
            Ok((if then.is_dyn() { (*otherwise).clone() } else { (*then).clone() }, Some(size)))
        }
        (operators::EQUALS | operators::NOT_EQUALS, [one, other]) if one.compares_with(other) => plain(Type::Bool),
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [one, other])
            if one.compares_with(other) && one.items().is_none_or(|_| one.is_dyn()) =>
        {
            plain(Type::Bool)
        }
        (operators::IN, [one, other]) => match (other.items(), other.values()) {
            (Some(items), _) if one.compares_with(&items) => plain(Type::Bool),
            (None, Some(_)) if is(0, is_text) => plain(Type::Bool),
            _ => Err(refused()),
        },
        (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [whole, key]) => {
            let found = match (whole, key) {
                (Type::Optional(inner), _) => inner.items().or_else(|| inner.values()),
                (whole, Type::Int | Type::Uint) => whole.items().or_else(|| whole.values()),
                (whole, _) if name == operators::OPT_SELECT => Some(whole.field("").unwrap_or(Type::Dyn)),
                (whole, _) => whole.values(),
            };
            let found = found.ok_or_else(refused)?;
            let size = part(found.clone(), 0, &arguments[0]).size;
            let is_optional = name != operators::INDEX || matches!(whole, Type::Optional(_));
            Ok((if is_optional { Type::Optional(Box::new(Type::Dyn)) } else { found }, Some(size)))
        }
        (
            operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
            [one, other],
        ) => {
            let size = arguments[0].size.saturating_add(arguments[1].size);
            arithmetic(name, one, other).map(|it| (it, Some(size))).ok_or_else(refused)
        }
        (operators::NEGATE, [one]) if one.is_dyn() || matches!(one, Type::Int | Type::Double) => plain((*one).clone()),
        _ => function(name, &types, arguments)
            .unwrap_or_else(|| if KNOWN.contains(&name) { Err(refused()) } else { Err(undeclared(name)) }),
    }
    .and_then(
        |(value_type, size)| {
            if matches!(value_type, Type::Text) && size.is_none() { text() } else { Ok((value_type, size)) }
        },
    )
}

fn arithmetic<'n>(name: &str, one: &Type<'n>, other: &Type<'n>) -> Option<Type<'n>> {
    Some(match (one, other) {
        (Type::Dyn, _) | (_, Type::Dyn) => Type::Dyn,
        (Type::Int, Type::Int) => Type::Int,
        (Type::Uint, Type::Uint) => Type::Uint,
        (Type::Double, Type::Double) if name != operators::MODULO => Type::Double,
        (Type::Text, Type::Text) if name == operators::ADD => Type::Text,
        (Type::Bytes, Type::Bytes) if name == operators::ADD => Type::Bytes,
        (Type::Time, Type::Span) | (Type::Span, Type::Time) if name == operators::ADD => Type::Time,
        (Type::Time, Type::Span) if name == operators::SUBSTRACT => Type::Time,
        (Type::Time, Type::Time) if name == operators::SUBSTRACT => Type::Span,
        (Type::Span, Type::Span) if matches!(name, operators::ADD | operators::SUBSTRACT) => Type::Span,
        (one, other) if name == operators::ADD => {
            let (items, others) = (one.items()?, other.items()?);
            if !items.fits(&others) {
                return None;
            }
            Type::List(Box::new(if items.is_dyn() { others } else { items }))
        }
        _ => return None,
    })
}

/// Functions that exist: a call of one that does not fit is a wrong call, that of another one a wrong name.
const KNOWN: &[&str] = &[
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::CONDITIONAL,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::NEGATE,
    "size",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "timestamp",
    "duration",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "find",
    "findAll",
    "indexOf",
    "lastIndexOf",
    "split",
    "join",
    "replace",
    "substring",
    "charAt",
    "trim",
    "lowerAscii",
    "upperAscii",
    "isSorted",
    "sum",
    "min",
    "max",
    "quantity",
    "sets.contains",
    "sets.intersects",
    "sets.equivalent",
];

fn function<'n>(
    name: &str,
    types: &[&Type<'n>],
    arguments: &[Checked<'n>],
) -> Option<Result<(Type<'n>, Option<u64>), String>> {
    let texts = types.iter().all(|it| it.is_dyn() || matches!(it, Type::Text));
    let on_text = types.first().is_some_and(|it| it.is_dyn() || matches!(it, Type::Text));
    let items = types.first().and_then(|it| it.items());
    let on_time = types.first().is_some_and(|it| it.is_dyn() || matches!(it, Type::Time | Type::Span));
    let optional = matches!(types.first(), Some(Type::Optional(_) | Type::Dyn));
    let size = arguments.first().map(|argument| argument.size);
    let quantities = types.iter().all(|it| matches!(it, Type::Named(QUANTITY) | Type::Dyn));
    let found = match (name, types.len()) {
        ("size", 1) => {
            let has_size =
                types[0].values().is_some() || items.is_some() || matches!(types[0], Type::Text | Type::Bytes);
            has_size.then_some(Type::Int)?
        }
        ("type", 1) => Type::Meta,
        ("dyn", 1) => Type::Dyn,
        ("int", 1) => Type::Int,
        ("uint", 1) => Type::Uint,
        ("double", 1) => Type::Double,
        ("string", 1) => return Some(Ok((Type::Text, Some(size?.max(32))))),
        ("bool", 1) => Type::Bool,
        ("bytes", 1) => return Some(Ok((Type::Bytes, size))),
        ("timestamp", 1) => Type::Time,
        ("duration", 1) => Type::Span,
        ("contains" | "startsWith" | "endsWith" | "matches", 2) if texts => Type::Bool,
        ("indexOf" | "lastIndexOf", 2) if texts || items.is_some() => Type::Int,
        ("find", 2) if texts => Type::Text,
        ("findAll" | "split", 2..=3) if on_text => return Some(Ok((Type::List(Box::new(Type::Text)), size))),
        ("replace", 3) if texts => {
            return Some(Ok((
                Type::Text,
                Some(arguments.iter().fold(1, |all, it| all.saturating_mul(it.size.max(1)))),
            )));
        }
        ("substring", 2..=3)
        | ("charAt", 2)
        | ("trim" | "lowerAscii" | "upperAscii" | "reverse" | "strings.quote", 1)
            if on_text =>
        {
            Type::Text
        }
        ("isSorted", 1) if items.is_some() => Type::Bool,
        ("sum" | "min" | "max", 1) => items?,
        ("join", 1..=2) if items.is_some() => return Some(Ok((Type::Text, size.map(|size| size.saturating_mul(64))))),
        ("isQuantity" | "isIP" | "isCIDR", 1) if on_text => Type::Bool,
        ("quantity", 1) if on_text => Type::Named(QUANTITY),
        ("sign" | "compareTo", 1..=2) if quantities => Type::Int,
        ("isInteger" | "isGreaterThan" | "isLessThan", 1..=2) if quantities => Type::Bool,
        ("sets.contains" | "sets.intersects" | "sets.equivalent", 2)
            if items.is_some() && types[1].items().is_some() =>
        {
            Type::Bool
        }
        ("optional.none", 0) => Type::Optional(Box::new(Type::Dyn)),
        ("optional.of" | "optional.ofNonZeroValue", 1) => Type::Optional(Box::new(types[0].clone())),
        ("hasValue", 1) if optional => Type::Bool,
        ("value", 1) | ("orValue", 2) if optional => {
            return Some(Ok((Type::Dyn, Some(u64::from(u32::MAX).min(size?)))));
        }
        ("or", 2) if optional => types[0].clone(),
        (
            "getFullYear" | "getMonth" | "getDate" | "getDayOfMonth" | "getDayOfYear" | "getDayOfWeek" | "getHours"
            | "getMinutes" | "getSeconds" | "getMilliseconds",
            1..=2,
        ) if on_time => Type::Int,
        _ => return None,
    };
    let size = if matches!(found, Type::Text) { size } else { None };
    Some(Ok((found, size)))
}

const QUANTITY: &str = "kubernetes.Quantity";

fn comprehension<'n>(it: &ComprehensionExpr, scope: &Scope<'_, 'n>) -> Outcome<'n> {
    let range = value(&it.iter_range, scope)?;
    let item_type = match (range.value_type.items(), range.value_type.values()) {
        (Some(items), _) => items,
        (None, Some(_)) => Type::Text,
        (None, None) => {
            let found = range.value_type.name();
            return Err(format!(
                "expression of type '{found}' cannot be range of a comprehension (must be list, map, or dynamic)"
            ));
        }
    };
    let start = value(&it.accu_init, scope)?;
    let accumulated = |value_type, size| Scope { name: &it.accu_var, value_type, size, outer: Some(scope) };
    // What is collected is known once the step has been looked at.
    let first = accumulated(start.value_type.clone(), range.size);
    let item_size = part(item_type.clone(), 0, &range).size;
    let round = Scope { name: &it.iter_var, value_type: item_type, size: item_size, outer: Some(&first) };
    let condition = value(&it.loop_cond, &first)?;
    let step = value(&it.loop_step, &round)?;
    let last = accumulated(step.value_type.clone(), range.size);
    let result = value(&it.result, &last)?;
    let rounds = range.size.saturating_mul(condition.cost.saturating_add(step.cost).saturating_add(1));
    let cost = [range.cost, start.cost, rounds, result.cost].into_iter().fold(0, u64::saturating_add);
    Ok(Checked { value_type: result.value_type, cost, size: range.size })
}

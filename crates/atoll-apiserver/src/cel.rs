//! Rules in the Common Expression Language: `x-kubernetes-validations` of schemas.
//!
//! The `cel` crate parses; checking and evaluating are done here, because both follow the schema of the object that a
//! rule is about, and because every evaluation has a cost bound. Source: <https://github.com/google/cel-spec> and
//! <https://kubernetes.io/docs/reference/using-api/cel/>.

mod check;
mod cost;
mod evaluate;
mod functions;
mod types;
mod value;

use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;
use serde_json::Value;

pub(crate) use self::check::check;
pub(crate) use self::cost::times_max;
use self::evaluate::Evaluator;
pub(crate) use self::types::Type;
use self::value::Val;
use crate::schema::Node;

/// What one evaluation may cost.
const CALL_COST_MAX: u64 = 1_000_000;
/// What all rules together may cost for one object.
pub(crate) const OBJECT_COST_MAX: u64 = 10_000_000;
/// A longer rule is refused.
const SOURCE_BYTES_MAX: usize = 8 * 1024;
/// How deep an expression may nest.
const DEPTH_MAX: usize = 100;

/// A parsed expression.
#[derive(Debug)]
pub(crate) struct Program {
    expression: IdedExpr,
    /// It compares with the state before.
    pub(crate) uses_old: bool,
}

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The bound was reached.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooCostly,
    /// A key that is not there, a division by zero, a call that makes no sense.
    #[error("{0}")]
    Failed(String),
}

/// What the variables of a rule stand for.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) node: &'a Node,
    pub(crate) value: &'a Value,
    pub(crate) old: Option<&'a Value>,
    /// `oldSelf` is an optional value.
    pub(crate) optional_old: bool,
}

impl Program {
    /// Parses an expression.
    pub(crate) fn parse(source: &str) -> Result<Arc<Self>, String> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(format!("ERROR: <input>:1:1: the expression is longer than {SOURCE_BYTES_MAX} bytes"));
        }
        let parser = PrattParser::new()
            .max_recursion_depth(DEPTH_MAX as u16)
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(true);
        let expression = parser.parse(source).map_err(|errors| errors.to_string())?;
        if !is_shallow(&expression) {
            return Err(format!("ERROR: <input>:1:1: the expression nests deeper than {DEPTH_MAX} levels"));
        }
        let mut uses_old = false;
        walk(&expression, &mut |expression| {
            uses_old |= matches!(&expression.expr, Expr::Ident(name) if name == "oldSelf");
        });
        Ok(Arc::new(Self { expression, uses_old }))
    }

    pub(crate) fn expression(&self) -> &IdedExpr {
        &self.expression
    }

    /// Whether the rule holds. What it costs is taken from `budget`.
    pub(crate) fn holds(&self, subject: Subject<'_>, budget: &mut u64) -> Result<bool, Failure> {
        match self.run(subject, budget)? {
            Val::Bool(holds) => Ok(holds),
            _ => Err(Failure::Failed("cel expression must evaluate to a bool".to_owned())),
        }
    }

    /// The text that the expression makes.
    pub(crate) fn text(&self, subject: Subject<'_>, budget: &mut u64) -> Result<String, Failure> {
        match self.run(subject, budget)? {
            Val::Text(text) => Ok(text.to_string()),
            _ => Err(Failure::Failed("messageExpression failed to convert to string".to_owned())),
        }
    }

    fn run<'a>(&self, subject: Subject<'a>, budget: &mut u64) -> Result<Val<'a>, Failure> {
        let granted = CALL_COST_MAX.min(*budget);
        let mut evaluator = Evaluator::new(granted);
        let outcome = evaluator.run(&self.expression, subject);
        *budget -= granted - evaluator.left();
        outcome
    }
}

/// Whether an expression nests no deeper than is evaluated by recursion. Chains of operators nest as well.
fn is_shallow(expression: &IdedExpr) -> bool {
    let mut level = vec![expression];
    for _ in 0..DEPTH_MAX * 2 {
        if level.is_empty() {
            return true;
        }
        level = level.into_iter().flat_map(children).collect();
    }
    false
}

fn walk<'e>(expression: &'e IdedExpr, visit: &mut impl FnMut(&'e IdedExpr)) {
    let mut open = vec![expression];
    while let Some(expression) = open.pop() {
        visit(expression);
        open.extend(children(expression));
    }
}

/// The expressions directly within another.
fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(it) => it.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// A property's name as rules write it: what is no identifier is escaped. `None` if it cannot be written.
pub(crate) fn escaped(name: &str) -> Option<String> {
    const RESERVED: &[&str] = &[
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let escaped = name
        .replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__");
    let mut characters = escaped.chars();
    let begins_well = characters.next().is_some_and(|it| it.is_ascii_alphabetic() || it == '_');
    (begins_well && characters.all(|it| it.is_ascii_alphanumeric() || it == '_')).then_some(escaped)
}

/// The property that a rule's name stands for.
fn property<'n>(node: &'n Node, written: &str) -> Option<(&'n str, &'n Node)> {
    if let Some((name, node)) = node.properties.get_key_value(written)
        && escaped(name).as_deref() == Some(written)
    {
        return Some((name, node));
    }
    let found = node.properties.iter().find(|(name, _)| escaped(name).as_deref() == Some(written));
    found.map(|(name, node)| (&**name, &**node))
}

#[cfg(test)]
mod tests;

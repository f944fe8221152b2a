//! Evaluating an expression, within a bound.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::functions;
use super::value::Val;
use super::{Failure, Subject};

type Outcome<'a> = Result<Val<'a>, Failure>;

/// Evaluates expressions until its budget is spent.
pub(super) struct Evaluator {
    left: u64,
}

/// The variables that are known: each knows the next.
struct Scope<'s, 'a> {
    name: &'s str,
    /// A variable of a loop may hold a failure that its next round makes irrelevant.
    value: Outcome<'a>,
    outer: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Scope<'_, 'a> {
    fn find(&self, name: &str) -> Option<Outcome<'a>> {
        if self.name == name {
            return Some(self.value.clone());
        }
        self.outer.and_then(|outer| outer.find(name))
    }
}

pub(super) fn failed<'a>(message: impl Into<String>) -> Outcome<'a> {
    Err(Failure::Failed(message.into()))
}

fn no_overload<'a>() -> Outcome<'a> {
    failed("no such overload")
}

impl Evaluator {
    pub(super) fn new(budget: u64) -> Self {
        Self { left: budget }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn spend(&mut self, cost: u64) -> Result<(), Failure> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Failure::TooCostly)
            }
        }
    }

    pub(super) fn run<'a>(&mut self, expression: &IdedExpr, subject: Subject<'a>) -> Outcome<'a> {
        let old = subject.old.map(|old| Val::of(old, subject.node));
        let old = match (subject.optional_old, old) {
            (true, old) => Val::Optional(old.map(Into::into)),
            (false, old) => old.unwrap_or(Val::Null),
        };
        let before = Scope { name: "oldSelf", value: Ok(old), outer: None };
        let scope = Scope { name: "self", value: Ok(Val::of(subject.value, subject.node)), outer: Some(&before) };
        self.value(expression, &scope)
    }

    fn value<'a>(&mut self, expression: &IdedExpr, scope: &Scope<'_, 'a>) -> Outcome<'a> {
        match &expression.expr {
            Expr::Literal(literal) => Ok(constant(literal)),
            Expr::Ident(name) => {
                self.spend(1)?;
                match scope.find(name) {
                    Some(value) => value,
                    None => match functions::type_named(name) {
                        Some(name) => Ok(Val::Type(name)),
                        None => failed(format!("undeclared reference to '{name}'")),
                    },
                }
            }
            Expr::Select(select) => {
                self.spend(1)?;
                let operand = self.value(&select.operand, scope)?;
                if select.test {
                    return Ok(Val::Bool(present(&operand, &select.field)));
                }
                select_member(&operand, &select.field)
            }
            Expr::Call(call) => self.call(call, scope),
            Expr::List(list) => {
                self.spend(10)?;
                let mut items = Vec::with_capacity(list.elements.len());
                for (index, element) in list.elements.iter().enumerate() {
                    let item = self.value(element, scope)?;
                    match item {
                        Val::Optional(inner) if list.optional_indices.contains(&index) => {
                            items.extend(inner.map(|inner| (*inner).clone()));
                        }
                        item => items.push(item),
                    }
                }
                Ok(Val::list(items))
            }
            Expr::Map(map) => {
                self.spend(30)?;
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return no_overload() };
                    let key = self.value(&entry.key, scope)?;
                    match self.value(&entry.value, scope)? {
                        Val::Optional(inner) if entry.optional => {
                            entries.extend(inner.map(|inner| (key, (*inner).clone())));
                        }
                        value => entries.push((key, value)),
                    }
                }
                Ok(Val::Map(entries.into()))
            }
            Expr::Comprehension(it) => self.comprehension(it, scope),
            Expr::Struct(_) | Expr::Unspecified => no_overload(),
        }
    }

    fn call<'a>(&mut self, call: &CallExpr, scope: &Scope<'_, 'a>) -> Outcome<'a> {
        self.spend(1)?;
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => self.logical(left, right, false, scope),
            (operators::LOGICAL_OR, [left, right]) => self.logical(left, right, true, scope),
            (operators::CONDITIONAL, [condition, then, otherwise]) => match self.value(condition, scope)? {
                Val::Bool(true) => self.value(then, scope),
                Val::Bool(false) => self.value(otherwise, scope),
                _ => no_overload(),
            },
            (operators::NOT_STRICTLY_FALSE, [inner]) => match self.value(inner, scope) {
                Err(Failure::TooCostly) => Err(Failure::TooCostly),
                Ok(Val::Bool(flag)) => Ok(Val::Bool(flag)),
                Ok(_) | Err(Failure::Failed(_)) => Ok(Val::Bool(true)),
            },
            (operators::OPT_SELECT | operators::OPT_INDEX, [operand, key]) => {
                let (operand, key) = (self.value(operand, scope)?, self.value(key, scope)?);
                Ok(optional_member(&operand, &key, call.func_name == operators::OPT_SELECT))
            }
            _ => self.function(call, scope),
        }
    }

    /// `&&` and `||`: a failure on one side does not matter if the other side decides.
    fn logical<'a>(&mut self, left: &IdedExpr, right: &IdedExpr, deciding: bool, scope: &Scope<'_, 'a>) -> Outcome<'a> {
        let left = self.value(left, scope);
        match left {
            Err(Failure::TooCostly) => return left,
            Ok(Val::Bool(flag)) if flag == deciding => return Ok(Val::Bool(deciding)),
            _ => {}
        }
        match (left, self.value(right, scope)) {
            (_, Err(Failure::TooCostly)) => Err(Failure::TooCostly),
            (_, Ok(Val::Bool(flag))) if flag == deciding => Ok(Val::Bool(deciding)),
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
            (Ok(Val::Bool(_)), Ok(Val::Bool(_))) => Ok(Val::Bool(!deciding)),
            _ => no_overload(),
        }
    }

    fn function<'a>(&mut self, call: &CallExpr, scope: &Scope<'_, 'a>) -> Outcome<'a> {
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        let mut name = call.func_name.clone();
        match call.target.as_deref() {
            // `optional.of(x)`, `sets.contains(a, b)`: functions with a qualified name.
            Some(IdedExpr { expr: Expr::Ident(qualifier), .. }) if scope.find(qualifier).is_none() => {
                name = format!("{qualifier}.{name}");
            }
            Some(target) => arguments.push(self.value(target, scope)?),
            None => {}
        }
        for argument in &call.args {
            arguments.push(self.value(argument, scope)?);
        }
        self.spend(functions::cost(&name, &arguments))?;
        functions::call(&name, &arguments)
    }

    fn comprehension<'a>(&mut self, it: &ComprehensionExpr, scope: &Scope<'_, 'a>) -> Outcome<'a> {
        let range = self.value(&it.iter_range, scope)?;
        let items = match (range.items(), range.entries()) {
            (Some(items), _) => items,
            (None, Some(entries)) => entries.into_iter().map(|(key, _)| key).collect(),
            (None, None) => return no_overload(),
        };
        self.spend(items.len() as u64)?;
        if let Some((condition, element)) = collected(it) {
            return self.collect(it, &items, condition, element, scope);
        }
        let mut result = self.value(&it.accu_init, scope);
        for item in items {
            let accumulated = Scope { name: &it.accu_var, value: result, outer: Some(scope) };
            if let Val::Bool(false) = self.value(&it.loop_cond, &accumulated)? {
                result = accumulated.value;
                break;
            }
            let round = Scope { name: &it.iter_var, value: Ok(item), outer: Some(&accumulated) };
            result = self.value(&it.loop_step, &round);
            if matches!(result, Err(Failure::TooCostly)) {
                return result;
            }
        }
        let accumulated = Scope { name: &it.accu_var, value: result, outer: Some(scope) };
        self.value(&it.result, &accumulated)
    }

    /// `map` and `filter`: items go into one list.
    fn collect<'a>(
        &mut self,
        it: &ComprehensionExpr,
        items: &[Val<'a>],
        condition: Option<&IdedExpr>,
        element: &IdedExpr,
        scope: &Scope<'_, 'a>,
    ) -> Outcome<'a> {
        let mut list = Vec::new();
        for item in items {
            let round = Scope { name: &it.iter_var, value: Ok(item.clone()), outer: Some(scope) };
            let wanted = match condition {
                Some(condition) => self.value(condition, &round)?,
                None => Val::Bool(true),
            };
            match wanted {
                Val::Bool(true) => list.push(self.value(element, &round)?),
                Val::Bool(false) => {}
                _ => return no_overload(),
            }
        }
        Ok(Val::list(list))
    }
}

/// Whether a loop appends to a list: the condition, if it has one, and what it appends.
fn collected(it: &ComprehensionExpr) -> Option<(Option<&IdedExpr>, &IdedExpr)> {
    if let Some(element) = appended(&it.loop_step, &it.accu_var) {
        return Some((None, element));
    }
    let Expr::Call(call) = &it.loop_step.expr else { return None };
    let [condition, then, otherwise] = call.args.as_slice() else { return None };
    let fits = call.func_name == operators::CONDITIONAL && is_variable(otherwise, &it.accu_var);
    appended(then, &it.accu_var).filter(|_| fits).map(|element| (Some(condition), element))
}

/// The element of `list + [element]`.
fn appended<'e>(expression: &'e IdedExpr, list: &str) -> Option<&'e IdedExpr> {
    let Expr::Call(call) = &expression.expr else { return None };
    let [start, added] = call.args.as_slice() else { return None };
    match &added.expr {
        Expr::List(added) if call.func_name == operators::ADD && is_variable(start, list) => {
            match added.elements.as_slice() {
                [element] => Some(element),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_variable(expression: &IdedExpr, name: &str) -> bool {
    matches!(&expression.expr, Expr::Ident(own) if own == name)
}

fn constant<'a>(literal: &LiteralValue) -> Val<'a> {
    match literal {
        LiteralValue::Boolean(value) => Val::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Val::Bytes(value.inner().into()),
        LiteralValue::Double(value) => Val::Double(*value.inner()),
        LiteralValue::Int(value) => Val::Int(*value.inner()),
        LiteralValue::Null => Val::Null,
        LiteralValue::String(value) => Val::text(value.inner()),
        LiteralValue::UInt(value) => Val::Uint(*value.inner()),
    }
}

/// `has(operand.field)`.
fn present(operand: &Val<'_>, field: &str) -> bool {
    match operand {
        Val::Optional(inner) => inner.as_ref().is_some_and(|inner| present(inner, field)),
        operand => !matches!(operand.member(field), None | Some(Val::Null)),
    }
}

fn select_member<'a>(operand: &Val<'a>, field: &str) -> Outcome<'a> {
    match operand {
        Val::Optional(None) => Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => Ok(Val::Optional(inner.member(field).map(Into::into))),
        operand => operand.member(field).map_or_else(|| failed(format!("no such key: {field}")), Ok),
    }
}

/// `operand.?field` and `operand[?key]`.
fn optional_member<'a>(operand: &Val<'a>, key: &Val<'a>, selects: bool) -> Val<'a> {
    let within = match operand {
        Val::Optional(None) => return Val::Optional(None),
        Val::Optional(Some(inner)) => inner,
        operand => operand,
    };
    let found = match key {
        Val::Text(name) if selects => within.member(name),
        key => within.at(key),
    };
    Val::Optional(found.map(Into::into))
}

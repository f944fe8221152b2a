//! The functions that rules may call: the standard ones and those that Kubernetes adds for texts, lists, sets, regular
//! expressions, quantities and optional values.

use std::cmp::Ordering;
use std::fmt::Write as _;

use cel::common::ast::operators;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::Regex;

use super::Failure;
use super::evaluate::failed;
use super::value::{Val, span};
use crate::definitions::quantity::Quantity;

type Outcome<'a> = Result<Val<'a>, Failure>;

/// The longest text that a call may make.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A type that is a value: `type(x) == int`.
pub(super) fn type_named(name: &str) -> Option<&'static str> {
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"]
        .into_iter()
        .find(|known| *known == name)
}

/// What a call costs beyond itself: looking at everything that its arguments hold.
pub(super) fn cost(name: &str, arguments: &[Val<'_>]) -> u64 {
    let weights = || arguments.iter().map(Val::weight);
    match name {
        operators::INDEX | "size" | "type" | "dyn" => 0,
        operators::EQUALS | operators::NOT_EQUALS => weights().min().unwrap_or_default(),
        "contains" | "matches" | "find" | "findAll" | "indexOf" | "lastIndexOf" | "replace" | "split" => {
            weights().product()
        }
        "sets.contains" | "sets.intersects" | "sets.equivalent" => weights().product(),
        _ => weights().sum(),
    }
}

/// Calls a function; the target of a call is its first argument.
pub(super) fn call<'a>(name: &str, arguments: &[Val<'a>]) -> Outcome<'a> {
    let outcome = match arguments {
        [] if name == "optional.none" => Some(Ok(Val::Optional(None))),
        [one] => unary(name, one),
        [one, other] => binary(name, one, other),
        [one, rest @ ..] => several(name, one, rest),
        [] => None,
    };
    outcome.unwrap_or_else(|| failed("no such overload"))
}

fn unary<'a>(name: &str, value: &Val<'a>) -> Option<Outcome<'a>> {
    Some(match (name, value) {
        (operators::LOGICAL_NOT, Val::Bool(flag)) => Ok(Val::Bool(!flag)),
        (operators::NEGATE, Val::Int(number)) => whole(number.checked_neg()),
        (operators::NEGATE, Val::Double(number)) => Ok(Val::Double(-number)),
        ("size", value) => Ok(Val::Int(i64::try_from(value.size()?).ok()?)),
        ("type", value) => Ok(Val::Type(value.type_name())),
        ("dyn", value) => Ok(value.clone()),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes" | "timestamp" | "duration", value) => {
            convert(name, value)?
        }
        ("optional.of", value) => Ok(Val::Optional(Some(value.clone().into()))),
        ("optional.ofNonZeroValue", value) => Ok(Val::Optional((!is_zero(value)).then(|| value.clone().into()))),
        ("hasValue", Val::Optional(inner)) => Ok(Val::Bool(inner.is_some())),
        ("value", Val::Optional(inner)) => {
            inner.as_ref().map_or_else(|| failed("optional.none() dereference"), |inner| Ok((**inner).clone()))
        }
        ("quantity", Val::Text(text)) => match Quantity::parse(text) {
            Some(quantity) => Ok(Val::Quantity(quantity)),
            None => failed(crate::definitions::quantity::QUANTITY_RULE),
        },
        ("isQuantity", Val::Text(text)) => Ok(Val::Bool(Quantity::parse(text).is_some())),
        ("sign", Val::Quantity(quantity)) => Ok(Val::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        })),
        ("isInteger", Val::Quantity(quantity)) => Ok(Val::Bool(quantity.is_whole())),
        ("isIP", Val::Text(text)) => Ok(Val::Bool(text.parse::<std::net::IpAddr>().is_ok())),
        ("isCIDR", Val::Text(text)) => Ok(Val::Bool(crate::schema::format::is_valid("cidr", text))),
        (_, Val::Text(text)) => on_text(name, text)?,
        (_, Val::Time(_) | Val::Span(_)) => on_time(name, value, "UTC")?,
        _ => on_list(name, value)?,
    })
}

fn binary<'a>(name: &str, one: &Val<'a>, other: &Val<'a>) -> Option<Outcome<'a>> {
    let order = |wanted: fn(Ordering) -> bool| Some(Ok(Val::Bool(wanted(one.compare(other)?))));
    match name {
        operators::EQUALS => Some(Ok(Val::Bool(one.equals(other)))),
        operators::NOT_EQUALS => Some(Ok(Val::Bool(!one.equals(other)))),
        operators::LESS => order(Ordering::is_lt),
        operators::LESS_EQUALS => order(Ordering::is_le),
        operators::GREATER => order(Ordering::is_gt),
        operators::GREATER_EQUALS => order(Ordering::is_ge),
        operators::IN => Some(Ok(Val::Bool(match (other.items(), other.entries()) {
            (Some(items), _) => items.iter().any(|item| item.equals(one)),
            (None, Some(_)) => other.at(one).is_some(),
            (None, None) => return None,
        }))),
        operators::INDEX => Some(match (one, one.at(other)) {
            (Val::Optional(None), _) => Ok(Val::Optional(None)),
            (Val::Optional(Some(inner)), _) => Ok(Val::Optional(inner.at(other).map(Into::into))),
            (_, Some(found)) => Ok(found),
            (_, None) if one.items().is_some() => failed(format!("index out of bounds: {}", shown(other))),
            (_, None) => failed(format!("no such key: {}", shown(other))),
        }),
        operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
            arithmetic(name, one, other)
        }
        "orValue" => match one {
            Val::Optional(Some(inner)) => Some(Ok((**inner).clone())),
            Val::Optional(None) => Some(Ok(other.clone())),
            _ => None,
        },
        "or" => match one {
            Val::Optional(Some(_)) => Some(Ok(one.clone())),
            Val::Optional(None) => Some(Ok(other.clone())),
            _ => None,
        },
        "isGreaterThan" | "isLessThan" | "compareTo" => {
            let (Val::Quantity(one), Val::Quantity(other)) = (one, other) else { return None };
            let order = one.cmp(other);
            Some(Ok(match name {
                "isGreaterThan" => Val::Bool(order.is_gt()),
                "isLessThan" => Val::Bool(order.is_lt()),
                _ => Val::Int(order as i64),
            }))
        }
        "sets.contains" | "sets.intersects" | "sets.equivalent" => {
            let (one, other) = (one.items()?, other.items()?);
            let within = |item: &Val<'_>, list: &[Val<'_>]| list.iter().any(|own| own.equals(item));
            let contains = |list: &[Val<'_>], items: &[Val<'_>]| items.iter().all(|item| within(item, list));
            Some(Ok(Val::Bool(match name {
                "sets.contains" => contains(&one, &other),
                "sets.intersects" => other.iter().any(|item| within(item, &one)),
                _ => contains(&one, &other) && contains(&other, &one),
            })))
        }
        _ => match (one, other) {
            (Val::Text(text), Val::Text(argument)) => texts(name, text, argument),
            (Val::Text(text), Val::Int(number)) => text_at(name, text, *number, None),
            (Val::Time(_), Val::Text(zone)) => on_time(name, one, zone),
            _ => lists(name, one, other),
        },
    }
}

fn several<'a>(name: &str, one: &Val<'a>, rest: &[Val<'a>]) -> Option<Outcome<'a>> {
    match (name, one, rest) {
        ("substring", Val::Text(text), [Val::Int(from), Val::Int(to)]) => text_at(name, text, *from, Some(*to)),
        ("replace", Val::Text(text), [Val::Text(from), Val::Text(to)]) => {
            let made = text.matches(&**from).count().saturating_mul(to.len()).saturating_add(text.len());
            if made > TEXT_BYTES_MAX {
                return Some(failed("the text would be too long"));
            }
            Some(Ok(Val::text(&text.replace(&**from, to))))
        }
        ("findAll", Val::Text(text), [Val::Text(pattern), Val::Int(limit)]) => {
            let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
            Some(expression(pattern).map(|regex| {
                Val::list(regex.find_iter(text).take(limit).map(|found| Val::text(found.as_str())).collect())
            }))
        }
        ("split", Val::Text(text), [Val::Text(separator), Val::Int(limit)]) => {
            let parts: Vec<Val<'a>> = match usize::try_from(*limit) {
                Ok(limit) => text.splitn(limit, &**separator).map(Val::text).collect(),
                Err(_) => text.split(&**separator).map(Val::text).collect(),
            };
            Some(Ok(Val::list(parts)))
        }
        _ => None,
    }
}

fn whole<'a>(number: Option<i64>) -> Outcome<'a> {
    number.map_or_else(|| failed("integer overflow"), |number| Ok(Val::Int(number)))
}

fn arithmetic<'a>(name: &str, one: &Val<'a>, other: &Val<'a>) -> Option<Outcome<'a>> {
    Some(match (one, other) {
        (Val::Int(a), Val::Int(b)) => match name {
            operators::ADD => whole(a.checked_add(*b)),
            operators::SUBSTRACT => whole(a.checked_sub(*b)),
            operators::MULTIPLY => whole(a.checked_mul(*b)),
            _ if *b == 0 => failed(if name == operators::DIVIDE { "division by zero" } else { "modulus by zero" }),
            operators::DIVIDE => whole(a.checked_div(*b)),
            _ => whole(a.checked_rem(*b)),
        },
        (Val::Uint(a), Val::Uint(b)) => {
            let number = match name {
                operators::ADD => a.checked_add(*b),
                operators::SUBSTRACT => a.checked_sub(*b),
                operators::MULTIPLY => a.checked_mul(*b),
                operators::DIVIDE => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            number.map_or_else(|| failed("unsigned integer overflow"), |number| Ok(Val::Uint(number)))
        }
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(match name {
            operators::ADD => a + b,
            operators::SUBSTRACT => a - b,
            operators::MULTIPLY => a * b,
            operators::DIVIDE => a / b,
            _ => return None,
        })),
        _ if name == operators::ADD => join(one, other)?,
        (Val::Time(a), Val::Span(b)) if name == operators::SUBSTRACT => time(a.checked_sub(*b)),
        (Val::Time(a), Val::Time(b)) if name == operators::SUBSTRACT => Ok(Val::Span(a.duration_since(*b))),
        (Val::Span(a), Val::Span(b)) if name == operators::SUBSTRACT => {
            a.checked_sub(*b).map_or_else(|| failed("duration overflow"), |span| Ok(Val::Span(span)))
        }
        _ => return None,
    })
}

fn time<'a>(time: Result<Timestamp, jiff::Error>) -> Outcome<'a> {
    time.map_or_else(|_| failed("timestamp overflow"), |time| Ok(Val::Time(time)))
}

/// `+` of what is no number.
fn join<'a>(one: &Val<'a>, other: &Val<'a>) -> Option<Outcome<'a>> {
    Some(match (one, other) {
        (Val::Text(a), Val::Text(b)) if a.len() + b.len() > TEXT_BYTES_MAX => failed("the text would be too long"),
        (Val::Text(a), Val::Text(b)) => Ok(Val::text(&format!("{a}{b}"))),
        (Val::Bytes(a), Val::Bytes(b)) => Ok(Val::Bytes([&**a, &**b].concat().into())),
        (Val::Time(a), Val::Span(b)) | (Val::Span(b), Val::Time(a)) => time(a.checked_add(*b)),
        (Val::Span(a), Val::Span(b)) => {
            a.checked_add(*b).map_or_else(|| failed("duration overflow"), |span| Ok(Val::Span(span)))
        }
        _ => {
            let mut items = one.items()?;
            items.extend(other.items()?);
            Ok(Val::list(items))
        }
    })
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null | Val::Optional(None) => true,
        Val::Bool(flag) => !flag,
        value => value.number() == Some(0.0) || value.size() == Some(0),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what CEL does"
)]
fn convert<'a>(name: &str, value: &Val<'a>) -> Option<Outcome<'a>> {
    let wrong = |what: &str| failed(format!("cannot convert to {what}"));
    Some(match (name, value) {
        ("int", Val::Int(_)) | ("uint", Val::Uint(_)) | ("double", Val::Double(_)) | ("bool", Val::Bool(_)) => {
            Ok(value.clone())
        }
        ("int", Val::Uint(number)) => whole(i64::try_from(*number).ok()),
        ("int", Val::Double(number)) if number.abs() < 9.2e18 => Ok(Val::Int(*number as i64)),
        ("int", Val::Double(_)) => failed("integer overflow"),
        ("int", Val::Text(text)) => text.parse().map_or_else(|_| wrong("int"), |number| Ok(Val::Int(number))),
        ("int", Val::Time(time)) => Ok(Val::Int(time.as_second())),
        ("uint", Val::Int(number)) => {
            u64::try_from(*number).map_or_else(|_| failed("unsigned integer overflow"), |it| Ok(Val::Uint(it)))
        }
        ("uint", Val::Double(number)) if *number >= 0.0 && *number < 1.8e19 => Ok(Val::Uint(*number as u64)),
        ("uint", Val::Text(text)) => text.parse().map_or_else(|_| wrong("uint"), |number| Ok(Val::Uint(number))),
        ("double", Val::Int(number)) => Ok(Val::Double(*number as f64)),
        ("double", Val::Uint(number)) => Ok(Val::Double(*number as f64)),
        ("double", Val::Text(text)) => text.parse().map_or_else(|_| wrong("double"), |number| Ok(Val::Double(number))),
        ("bool", Val::Text(text)) => match &**text {
            "true" | "TRUE" | "True" | "t" | "1" => Ok(Val::Bool(true)),
            "false" | "FALSE" | "False" | "f" | "0" => Ok(Val::Bool(false)),
            _ => wrong("bool"),
        },
        ("bytes", Val::Text(text)) => Ok(Val::Bytes(text.as_bytes().into())),
        ("bytes", Val::Bytes(_)) | ("timestamp", Val::Time(_)) | ("duration", Val::Span(_)) => Ok(value.clone()),
        ("timestamp", Val::Text(text)) => text.parse().map_or_else(|_| wrong("timestamp"), |time| Ok(Val::Time(time))),
        ("duration", Val::Text(text)) => span(text).map_or_else(|| wrong("duration"), |span| Ok(Val::Span(span))),
        ("string", Val::Bytes(bytes)) => std::str::from_utf8(bytes)
            .map_or_else(|_| failed("invalid UTF-8 in bytes, cannot convert to string"), |text| Ok(Val::text(text))),
        ("string", Val::List(_) | Val::Map(_) | Val::Data(..) | Val::Null | Val::Optional(_) | Val::Type(_)) => {
            return None;
        }
        ("string", value) => Ok(Val::text(&shown(value))),
        _ => return None,
    })
}

/// A value as text.
fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Null => "null".to_owned(),
        Val::Bool(flag) => flag.to_string(),
        Val::Int(number) => number.to_string(),
        Val::Uint(number) => number.to_string(),
        Val::Double(number) => number.to_string(),
        Val::Text(text) => text.to_string(),
        Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Val::Time(time) => time.to_string(),
        Val::Span(span) => format!("{}s", span.as_secs_f64()),
        Val::Type(name) => (*name).to_owned(),
        Val::Quantity(quantity) => quantity.canonical(),
        Val::Optional(Some(inner)) => format!("optional({})", shown(inner)),
        Val::Optional(None) => "optional.none()".to_owned(),
        Val::List(_) | Val::Map(_) | Val::Data(..) => value.type_name().to_owned(),
    }
}

fn on_text<'a>(name: &str, text: &str) -> Option<Outcome<'a>> {
    Some(Ok(match name {
        "lowerAscii" => Val::text(&text.to_ascii_lowercase()),
        "upperAscii" => Val::text(&text.to_ascii_uppercase()),
        "trim" => Val::text(text.trim()),
        "reverse" => Val::text(&text.chars().rev().collect::<String>()),
        "strings.quote" => Val::text(&crate::schema::cause::quote(text)),
        _ => return None,
    }))
}

fn expression(pattern: &str) -> Result<Regex, Failure> {
    Regex::new(pattern).map_err(|error| Failure::Failed(format!("error parsing regexp: {error}")))
}

fn texts<'a>(name: &str, text: &str, argument: &str) -> Option<Outcome<'a>> {
    // Positions are those of characters.
    let position = |found: Option<usize>| {
        let characters = found.map(|bytes| text[..bytes].chars().count());
        Val::Int(characters.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1))
    };
    Some(Ok(match name {
        "contains" => Val::Bool(text.contains(argument)),
        "startsWith" => Val::Bool(text.starts_with(argument)),
        "endsWith" => Val::Bool(text.ends_with(argument)),
        "indexOf" => position(text.find(argument)),
        "lastIndexOf" => position(text.rfind(argument)),
        "split" => Val::list(text.split(argument).map(Val::text).collect()),
        "matches" => return Some(expression(argument).map(|regex| Val::Bool(regex.is_match(text)))),
        "find" => {
            let found = |regex: Regex| Val::text(regex.find(text).map_or("", |found| found.as_str()));
            return Some(expression(argument).map(found));
        }
        "findAll" => {
            let all = |regex: Regex| Val::list(regex.find_iter(text).map(|found| Val::text(found.as_str())).collect());
            return Some(expression(argument).map(all));
        }
        _ => return None,
    }))
}

fn text_at<'a>(name: &str, text: &str, from: i64, to: Option<i64>) -> Option<Outcome<'a>> {
    let length = i64::try_from(text.chars().count()).ok()?;
    let to = to.unwrap_or(if name == "charAt" { (from + 1).min(length) } else { length });
    if !matches!(name, "substring" | "charAt") {
        return None;
    }
    if from < 0 || to > length || from > to {
        return Some(failed(format!("index out of range: {from}")));
    }
    let (from, count) = (usize::try_from(from).ok()?, usize::try_from(to - from).ok()?);
    Some(Ok(Val::text(&text.chars().skip(from).take(count).collect::<String>())))
}

fn on_time<'a>(name: &str, value: &Val<'a>, zone: &str) -> Option<Outcome<'a>> {
    if let Val::Span(span) = value {
        return Some(Ok(Val::Int(match name {
            "getHours" => span.as_hours(),
            "getMinutes" => span.as_mins(),
            "getSeconds" => span.as_secs(),
            "getMilliseconds" => i64::try_from(span.as_millis()).ok()?,
            _ => return None,
        })));
    }
    let Val::Time(time) = value else { return None };
    let zone = match zone {
        "UTC" => TimeZone::UTC,
        zone => match TimeZone::get(zone) {
            Ok(zone) => zone,
            Err(_) => return Some(failed(format!("unknown time zone {zone}"))),
        },
    };
    let zoned = time.to_zoned(zone);
    Some(Ok(Val::Int(match name {
        "getFullYear" => zoned.year().into(),
        "getMonth" => i64::from(zoned.month()) - 1,
        "getDate" => zoned.day().into(),
        "getDayOfMonth" => i64::from(zoned.day()) - 1,
        "getDayOfYear" => i64::from(zoned.day_of_year()) - 1,
        "getDayOfWeek" => zoned.weekday().to_sunday_zero_offset().into(),
        "getHours" => zoned.hour().into(),
        "getMinutes" => zoned.minute().into(),
        "getSeconds" => zoned.second().into(),
        "getMilliseconds" => zoned.millisecond().into(),
        _ => return None,
    })))
}

fn on_list<'a>(name: &str, value: &Val<'a>) -> Option<Outcome<'a>> {
    let items = value.items()?;
    let pick = |wanted: Ordering| {
        let mut best: Option<&Val<'a>> = None;
        for item in &items {
            if best.is_none_or(|best| item.compare(best) == Some(wanted)) {
                best = Some(item);
            }
        }
        best.map_or_else(|| failed(format!("{name} called on empty list")), |best| Ok(best.clone()))
    };
    Some(match name {
        "isSorted" => {
            let sorted = items.windows(2).all(|pair| pair[0].compare(&pair[1]).is_some_and(Ordering::is_le));
            Ok(Val::Bool(sorted))
        }
        "min" => pick(Ordering::Less),
        "max" => pick(Ordering::Greater),
        "sum" => {
            let mut rest = items.into_iter();
            let Some(mut sum) = rest.next() else { return Some(Ok(Val::Int(0))) };
            for item in rest {
                match arithmetic(operators::ADD, &sum, &item)? {
                    Ok(next) => sum = next,
                    failure => return Some(failure),
                }
            }
            Ok(sum)
        }
        "join" => joined(&items, ""),
        _ => return None,
    })
}

fn joined<'a>(items: &[Val<'a>], separator: &str) -> Outcome<'a> {
    let mut text = String::new();
    for (index, item) in items.iter().enumerate() {
        let Val::Text(item) = item else { return failed("no such overload") };
        let separator = if index == 0 { "" } else { separator };
        write!(text, "{separator}{item}").expect("writing to a string");
        if text.len() > TEXT_BYTES_MAX {
            return failed("the text would be too long");
        }
    }
    Ok(Val::text(&text))
}

fn lists<'a>(name: &str, one: &Val<'a>, other: &Val<'a>) -> Option<Outcome<'a>> {
    let items = one.items()?;
    let position = |found: Option<usize>| Val::Int(found.and_then(|it| i64::try_from(it).ok()).unwrap_or(-1));
    Some(match name {
        "indexOf" => Ok(position(items.iter().position(|item| item.equals(other)))),
        "lastIndexOf" => Ok(position(items.iter().rposition(|item| item.equals(other)))),
        "join" => match other {
            Val::Text(separator) => joined(&items, separator),
            _ => return None,
        },
        _ => return None,
    })
}

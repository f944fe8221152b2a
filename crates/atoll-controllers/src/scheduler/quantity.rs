//! Quantities as Kubernetes writes them: `100m`, `1.5`, `64Mi`, `2e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;
/// Powers of ten that still make sense; more is a mistake or an attack.
const EXPONENT_MAX: u32 = 18;

/// The quantity in thousandths, rounded up; nothing when it is not one.
pub(crate) fn thousandths(quantity: &Quantity) -> Option<i64> {
    rounded_up(parse(&quantity.0)?, NANO / 1_000)
}

/// The quantity in whole units, rounded up; nothing when it is not one.
pub(crate) fn units(quantity: &Quantity) -> Option<i64> {
    rounded_up(parse(&quantity.0)?, NANO)
}

fn rounded_up(nanos: i128, unit: i128) -> Option<i64> {
    i64::try_from(nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) > 0)).ok()
}

/// In billionths.
fn parse(text: &str) -> Option<i128> {
    let end = text.find(|char: char| !(char.is_ascii_digit() || "+-.".contains(char))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches(['+', '-']);
    if digits.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let mut nanos = whole.checked_mul(NANO)?;
    let mut place = NANO;
    for digit in fraction.chars() {
        place /= 10;
        nanos = nanos.checked_add(i128::from(digit.to_digit(10)?) * place)?;
    }
    let scaled = scale(nanos, suffix)?;
    Some(if negative { -scaled } else { scaled })
}

fn scale(nanos: i128, suffix: &str) -> Option<i128> {
    let binary = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|known| *known == suffix);
    if let Some(power) = binary {
        return nanos.checked_mul(1_024_i128.checked_pow(u32::try_from(power).ok()?)?);
    }
    let decimal = ["", "k", "M", "G", "T", "P", "E"].iter().position(|known| *known == suffix);
    if let Some(power) = decimal {
        return nanos.checked_mul(1_000_i128.checked_pow(u32::try_from(power).ok()?)?);
    }
    let small = ["", "m", "u", "n"].iter().position(|known| *known == suffix);
    if let Some(power) = small {
        return Some(nanos / 1_000_i128.checked_pow(u32::try_from(power).ok()?)?);
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = exponent.unsigned_abs();
    if power > EXPONENT_MAX {
        return None;
    }
    let factor = 10_i128.pow(power);
    if exponent < 0 { Some(nanos / factor) } else { nanos.checked_mul(factor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, milli, whole) in [
            ("0", Some(0), Some(0)),
            ("1", Some(1_000), Some(1)),
            ("100m", Some(100), Some(1)),
            ("1.5", Some(1_500), Some(2)),
            (".5", Some(500), Some(1)),
            ("64Mi", Some(67_108_864_000), Some(67_108_864)),
            ("1G", Some(1_000_000_000_000), Some(1_000_000_000)),
            ("2e3", Some(2_000_000), Some(2_000)),
            ("2E3", Some(2_000_000), Some(2_000)),
            ("5e-1", Some(500), Some(1)),
            ("1n", Some(1), Some(1)),
            ("-1", Some(-1_000), Some(-1)),
            ("", None, None),
            ("Mi", None, None),
            ("1Zi", None, None),
            ("1e99", None, None),
            ("1.2.3", None, None),
            ("99999999999999999999E", None, None),
        ] {
            let quantity = Quantity(text.to_owned());
            assert_eq!((thousandths(&quantity), units(&quantity)), (milli, whole), "{text:?}");
        }
    }
}

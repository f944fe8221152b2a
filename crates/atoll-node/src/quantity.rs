//! Kubernetes quantities (`500m`, `1.5Gi`, `2e3`). Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths, rounded up; `None` when it is not a quantity, is negative, or is too large.
#[must_use]
pub(crate) fn milli(quantity: &Quantity) -> Option<u64> {
    let text = quantity.0.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (numerator, denominator) = scale(suffix)?;
    let (mantissa, decimals) = decimal(number.strip_prefix('+').unwrap_or(number))?;
    let dividend = mantissa.checked_mul(1000)?.checked_mul(numerator)?;
    let divisor = denominator.checked_mul(10_u128.checked_pow(decimals)?)?;
    u64::try_from(dividend.div_ceil(divisor)).ok()
}

/// The value in whole units, rounded up.
#[must_use]
pub(crate) fn units(quantity: &Quantity) -> Option<u64> {
    milli(quantity).map(|milli| milli.div_ceil(1000))
}

/// The digits without their point, and how many of them stand behind it.
fn decimal(number: &str) -> Option<(u128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

/// What a suffix multiplies by, as a fraction.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let thousand = |power: u32| Some((1000_u128.pow(power), 1));
    let kibi = |power: u32| Some((1024_u128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1_000)),
        "k" => thousand(1),
        "M" => thousand(2),
        "G" => thousand(3),
        "T" => thousand(4),
        "P" => thousand(5),
        "E" => thousand(6),
        "Ki" => kibi(1),
        "Mi" => kibi(2),
        "Gi" => kibi(3),
        "Ti" => kibi(4),
        "Pi" => kibi(5),
        "Ei" => kibi(6),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, factor) } else { (factor, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("0.0005", Some(1)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("128Mi", Some(134_217_728_000)),
            ("1k", Some(1_000_000)),
            ("2e3", Some(2_000_000)),
            ("2E-1", Some(200)),
            ("1E", None),
            ("1P", Some(1_000_000_000_000_000_000)),
            ("100n", Some(1)),
            ("+3", Some(3000)),
            ("", None),
            ("Gi", None),
            ("-1", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1GiB", None),
            ("99999999999999999999999999999", None),
        ] {
            assert_eq!(milli(&Quantity(text.to_owned())), expected, "{text:?}");
        }
        assert_eq!(units(&Quantity("1500m".to_owned())), Some(2));
    }
}

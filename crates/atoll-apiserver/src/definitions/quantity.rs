//! Kubernetes quantities: `250m`, `1Gi`, `1e3`.

use std::cmp::Ordering;

/// What a text that is no quantity is answered with.
pub const QUANTITY_RULE: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// An exact amount, in billionths. Amounts beyond what fits are kept at the limit, finer ones are rounded up.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    form: Form,
}

/// How the amount was written, which is how it is written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Decimal,
    Binary,
    Exponent,
}

const NANOS: i128 = 1_000_000_000;
/// 2^63 - 1 whole units.
const WHOLE_MAX: i128 = i64::MAX as i128;
/// Digits of a number; more are refused.
const DIGITS_MAX: usize = 36;

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, form: Form::Decimal };

    /// A whole number of units.
    pub fn whole(units: u32) -> Self {
        Self { nanos: i128::from(units) * NANOS, form: Form::Decimal }
    }

    /// The sum, in the form of the first that is not zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let form = if self.is_zero() { other.form } else { self.form };
        Self { nanos: self.nanos.saturating_add(other.nanos), form }
    }

    /// What is left after taking the other away, not less than nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos).max(0), form: self.form }
    }

    /// How many times the other this is; `None` if the other is zero.
    pub fn ratio(self, other: Self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "ratios are compared as a Kubernetes API server does")]
        let ratio = self.nanos as f64 / other.nanos as f64;
        (!other.is_zero()).then_some(ratio)
    }

    /// Reads a quantity. None when the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, unsigned) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        let end =
            unsigned.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = whole.len() + fraction.len();
        if digits == 0 || digits > DIGITS_MAX || fraction.contains('.') {
            return None;
        }
        let (form, base, exponent) = suffix_of(suffix)?;
        let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = i32::try_from(fraction.len()).ok()?;
        let nanos = scaled(mantissa, base, exponent, scale);
        Some(Self { nanos: sign * nanos, form })
    }

    /// Whether the amount is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is a whole number.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// The form in which an API server writes the quantity back.
    pub fn canonical(self) -> String {
        if self.form == Form::Binary && self.is_whole() && (self.nanos / NANOS).abs() >= 1024 {
            const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let mut whole = self.nanos / NANOS;
            let mut power = 0;
            while whole % 1024 == 0 && power + 1 < SUFFIXES.len() {
                whole /= 1024;
                power += 1;
            }
            return format!("{whole}{}", SUFFIXES[power]);
        }
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let (mut value, mut exponent) = (self.nanos, -9);
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.form == Form::Exponent {
            return if exponent == 0 { value.to_string() } else { format!("{value}e{exponent}") };
        }
        let suffix = match exponent {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            0 => "",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            _ => "E",
        };
        format!("{value}{suffix}")
    }
}

fn suffix_of(suffix: &str) -> Option<(Form, u32, i32)> {
    Some(match suffix {
        "" => (Form::Decimal, 10, 0),
        "n" => (Form::Decimal, 10, -9),
        "u" => (Form::Decimal, 10, -6),
        "m" => (Form::Decimal, 10, -3),
        "k" => (Form::Decimal, 10, 3),
        "M" => (Form::Decimal, 10, 6),
        "G" => (Form::Decimal, 10, 9),
        "T" => (Form::Decimal, 10, 12),
        "P" => (Form::Decimal, 10, 15),
        "E" => (Form::Decimal, 10, 18),
        "Ki" => (Form::Binary, 2, 10),
        "Mi" => (Form::Binary, 2, 20),
        "Gi" => (Form::Binary, 2, 30),
        "Ti" => (Form::Binary, 2, 40),
        "Pi" => (Form::Binary, 2, 50),
        "Ei" => (Form::Binary, 2, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (Form::Exponent, 10, exponent.parse().ok()?)
        }
    })
}

/// `mantissa * base^exponent / 10^scale` in billionths, rounded up, at most [`WHOLE_MAX`] units.
fn scaled(mantissa: i128, base: u32, exponent: i32, scale: i32) -> i128 {
    let limit = WHOLE_MAX * NANOS;
    if mantissa == 0 {
        return 0;
    }
    let (mut value, mut decimal) = (mantissa, 9 - scale);
    if base == 2 {
        for _ in 0..exponent {
            match value.checked_mul(2) {
                Some(doubled) => value = doubled,
                None => return limit,
            }
        }
    } else {
        decimal = decimal.saturating_add(exponent);
    }
    let mut inexact = false;
    while decimal > 0 {
        match value.checked_mul(10) {
            Some(more) if more <= limit => value = more,
            _ => return limit,
        }
        decimal -= 1;
    }
    while decimal < 0 && value > 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        decimal += 1;
    }
    (value + i128::from(inexact)).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_back_in_canonical_form() {
        let cases = [
            ("0", "0"),
            ("1", "1"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1023Ki", "1023Ki"),
            ("0.5Ki", "512"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("12e-3", "12e-3"),
            ("-1500m", "-1500m"),
            ("0.1m", "100u"),
            ("0.0000000001", "1n"),
            ("100000", "100k"),
            ("9223372036854775807", "9223372036854775807"),
            ("+2", "2"),
            (".5", "500m"),
            ("5.", "5"),
            ("1.5Ki", "1536"),
            ("0Gi", "0"),
        ];
        for (text, expected) in cases {
            let canonical = Quantity::parse(text).map(Quantity::canonical);
            assert_eq!(canonical.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "abc", "1.2.3", "1Zi", "Gi", "1 Gi", "--1", "1e", "0x1", "."] {
            assert!(Quantity::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn quantities_compare_by_amount() {
        let parse = |text| Quantity::parse(text).expect("a quantity");
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1000m"), parse("1"));
        assert!(parse("-1").is_negative());
        assert!(!parse("500m").is_whole());
    }
}

//! Quantities of resources, read and compared as Kubernetes does, without floating point.
//!
//! Follows `ParseQuantity` and its callers in `k8s.io/apimachinery/pkg/api/resource` (`quantity.go`, `suffix.go`).
//! Tried against that library over a table of generated texts: `tests/quantity.rs`.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::node::{Malformed, Node};

/// The power of ten that resource lists are rounded up to: a thousandth.
pub const MILLI: i64 = -3;

/// The smallest power of ten that a quantity keeps: a billionth.
const NANO: i64 = -9;

/// Two numbers whose digits together span more than this are not added: no resource is that large, and an exponent
/// of nine digits must not fill the memory.
const MAX_SPAN: i64 = 10_000;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuantityError {
    /// Not a number with an optional suffix (`ErrFormatWrong`).
    Format,
    /// A suffix that Kubernetes does not know (`ErrSuffix`).
    Suffix(String),
    /// No digits where Kubernetes needs some (`ErrNumeric`).
    Number,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("must be a quantity: a number and a suffix, such as 500m, 2 or 1Gi"),
            Self::Number => f.write_str("must be a quantity, which has digits before its suffix"),
            Self::Suffix(suffix) => write!(
                f,
                "must have one of the suffixes n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent such \
                 as e3, not {suffix}"
            ),
        }
    }
}

impl std::error::Error for QuantityError {}

/// An amount of a resource: exact, of any size, ordered by value (`1000m` equals `1`).
#[derive(Debug, Clone)]
pub struct Quantity {
    amount: Decimal,
    /// As it was written; empty for a computed amount.
    source: String,
}

impl Quantity {
    /// Reads `text` as `ParseQuantity` does: what is finer than a billionth is rounded up (away from zero), and
    /// a number with a binary suffix ends at 2^63 - 1.
    ///
    /// Its oddities are kept, as the API server has them: `+`, `.` and `Ki` are zero, `1E` is 10^18 and `1E3` is 1000.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::split(text)?;
        let suffix = Suffix::interpret(parts.suffix)?;
        if !parts.has_digits && !suffix.reads_no_digits() {
            return Err(QuantityError::Number);
        }
        let places = i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
        let mut amount = Decimal::new(parts.negative, parts.digits().collect(), suffix.ten().saturating_sub(places));
        if let Suffix::Binary(power) = suffix {
            for _ in 0..power {
                amount = amount.times(1024);
            }
        }
        amount.round_up(NANO);
        if let Suffix::Binary(_) = suffix {
            let most = Decimal::from(i64::MAX.unsigned_abs());
            if amount.magnitude_cmp(&most) == Ordering::Greater {
                amount = Decimal { negative: amount.negative, ..most };
            }
        }
        Ok(Self { amount, source: text.to_owned() })
    }

    /// The quantity at `node`, or `None` where it is absent.
    ///
    /// A JSON number is read by its text, as `Quantity.UnmarshalJSON` does; blanks around a text are ignored.
    pub fn of(node: &Node<'_>) -> Result<Option<Self>, Malformed> {
        node.value()
            .map(|value| Self::of_value(value).map_err(|error| Malformed::new(node, &error.to_string())))
            .transpose()
    }

    /// The quantity that `value` is; `null` is zero, as `Quantity.UnmarshalJSON` reads it inside a resource list.
    pub fn of_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::Null => Self::parse("0"),
            // The library trims the JSON text, where control characters are still escaped.
            Value::String(text) => Self::parse(text.trim_matches(|c: char| c.is_whitespace() && c >= ' ')),
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(QuantityError::Format),
        }
    }

    /// `number` of units.
    pub fn whole_number(number: u64) -> Self {
        Self::computed(Decimal::from(number))
    }

    /// Whether this is nothing.
    pub fn is_zero(&self) -> bool {
        self.amount.digits.is_empty()
    }

    /// Whether this is less than nothing, which no resource may be.
    pub fn is_negative(&self) -> bool {
        self.amount.negative
    }

    /// This, rounded up (away from zero) to a multiple of 10^`scale` (`Quantity.RoundUp`).
    #[must_use]
    pub fn rounded_up(&self, scale: i64) -> Self {
        let mut rounded = self.clone();
        if rounded.amount.exponent < scale && !rounded.is_zero() {
            rounded.amount.round_up(scale);
            rounded.source.clear();
        }
        rounded
    }

    /// How many times 10^`scale` this is, rounded up (away from zero), as `Quantity.ScaledValue`; `None` where that
    /// needs more than 64 bits, which the library lets overflow.
    pub fn scaled(&self, scale: i64) -> Option<i64> {
        let mut amount = self.amount.clone();
        amount.round_up(scale);
        let zeros = amount.exponent.checked_sub(scale)?;
        if amount.digits.is_empty() {
            return Some(0);
        }
        if zeros > 19 {
            return None;
        }
        let zeros = std::iter::repeat_n(0, usize::try_from(zeros).ok()?);
        amount.digits.iter().copied().chain(zeros).try_fold(0_i64, |number, digit| {
            let digit = i64::from(digit);
            number.checked_mul(10)?.checked_add(if amount.negative { -digit } else { digit })
        })
    }

    /// This in whole units (bytes, cores, things), rounded up: `Quantity.Value`.
    pub fn whole(&self) -> Option<i64> {
        self.scaled(0)
    }

    /// This in thousandths, rounded up: `Quantity.MilliValue`.
    pub fn milli(&self) -> Option<i64> {
        self.scaled(MILLI)
    }

    /// Exactly `factor` times this: to compare a ratio, multiply both sides.
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        Self::computed(self.amount.times(factor))
    }

    /// The exact sum; `None` where one is beyond all measure, with an exponent of many thousands.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        if self.is_zero() {
            return Some(other.clone());
        }
        if other.is_zero() {
            return Some(self.clone());
        }
        self.amount.checked_add(&other.amount).map(Self::computed)
    }

    fn computed(amount: Decimal) -> Self {
        Self { amount, source: String::new() }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.amount == other.amount
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `Quantity.Cmp`.
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.amount, &other.amount);
        match (a.negative, b.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => a.magnitude_cmp(b),
            (true, true) => b.magnitude_cmp(a),
        }
    }
}

/// As it was written, or a computed amount as a text that reads back as the same amount.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_empty() { self.amount.fmt(f) } else { f.write_str(&self.source) }
    }
}

/// Amounts by resource: `requests` or `limits`.
///
/// Each is rounded up to a thousandth, which is what the API server keeps of it (`SetDefaults_ResourceList` in
/// `pkg/apis/core/v1/defaults.go`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceList<'a>(Vec<(&'a str, Quantity)>);

impl<'a> ResourceList<'a> {
    /// The list at `node`: empty where it is absent.
    pub fn of(node: &Node<'a>) -> Result<Self, Malformed> {
        let mut list = Vec::new();
        for (name, value) in node.object()?.into_iter().flatten() {
            let quantity = Quantity::of_value(value)
                .map_err(|error| Malformed::new(&Node::at(value, node.path().key(name)), &error.to_string()))?;
            list.push((name.as_str(), quantity.rounded_up(MILLI)));
        }
        Ok(Self(list))
    }

    /// The amount of `resource`, if the list names it.
    pub fn get(&self, resource: &str) -> Option<&Quantity> {
        self.iter().find(|(name, _)| *name == resource).map(|(_, amount)| amount)
    }

    /// Each resource with its amount.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &Quantity)> {
        self.0.iter().map(|(name, amount)| (*name, amount))
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A quantity's text, taken apart.
struct Parts<'a> {
    negative: bool,
    /// The digits before the point, without leading zeros.
    integer: &'a str,
    fraction: &'a str,
    suffix: &'a str,
    /// Whether a digit was written at all, be it a leading zero.
    has_digits: bool,
}

impl<'a> Parts<'a> {
    /// `parseQuantityString`: a scanner that is more lenient than the regular expression that the library names.
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (digits, rest) = span(unsigned, is_digit);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => span(rest, is_digit),
            None => ("", rest),
        };
        let (_, exponent) = span(suffix, is_of_suffix);
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        Ok(Self {
            negative: text.starts_with('-'),
            integer: digits.trim_start_matches('0'),
            fraction,
            suffix,
            has_digits: !digits.is_empty() || !fraction.is_empty(),
        })
    }

    /// The digits of the number without its point, most significant first.
    fn digits(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.integer.bytes().chain(self.fraction.bytes()).map(|byte| byte - b'0')
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// What the scanner takes for a part of a suffix.
fn is_of_suffix(c: char) -> bool {
    // Not `str::contains`: where it cannot know that a character is short, it brings a search of two kilobytes.
    matches!(c, 'e' | 'E' | 'i' | 'n' | 'u' | 'm' | 'k' | 'K' | 'M' | 'G' | 'T' | 'P')
}

/// The longest beginning of `text` that consists of `wanted`, and the rest.
fn span(text: &str, wanted: fn(char) -> bool) -> (&str, &str) {
    text.split_at_checked(text.find(|c| !wanted(c)).unwrap_or(text.len())).unwrap_or((text, ""))
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Suffix {
    /// 10 to this power.
    Decimal(i64),
    /// 1024 to this power.
    Binary(u8),
}

impl Suffix {
    /// `suffixHandler.interpret`.
    fn interpret(suffix: &str) -> Result<Self, QuantityError> {
        Ok(match suffix {
            "" => Self::Decimal(0),
            "n" => Self::Decimal(-9),
            "u" => Self::Decimal(-6),
            "m" => Self::Decimal(-3),
            "k" => Self::Decimal(3),
            "M" => Self::Decimal(6),
            "G" => Self::Decimal(9),
            "T" => Self::Decimal(12),
            "P" => Self::Decimal(15),
            "E" => Self::Decimal(18),
            "Ki" => Self::Binary(1),
            "Mi" => Self::Binary(2),
            "Gi" => Self::Binary(3),
            "Ti" => Self::Binary(4),
            "Pi" => Self::Binary(5),
            "Ei" => Self::Binary(6),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E']).and_then(|digits| digits.parse::<i64>().ok());
                let unknown = || QuantityError::Suffix(suffix.to_owned());
                // The library keeps the lower 32 bits of an exponent.
                #[expect(clippy::cast_possible_truncation, reason = "so that 1e4294967296 is 1, as for Kubernetes")]
                Self::Decimal(i64::from(exponent.ok_or_else(unknown)? as i32))
            }
        })
    }

    fn ten(self) -> i64 {
        match self {
            Self::Decimal(power) => power,
            Self::Binary(_) => 0,
        }
    }

    /// Whether the library reads a number without digits as zero before this suffix: it does where it can do
    /// without big numbers, and refuses it elsewhere.
    fn reads_no_digits(self) -> bool {
        match self {
            Self::Decimal(power) => power >= NANO,
            // It allows for 15 digits: three for each power, one for the number and one for the doubt.
            Self::Binary(power) => power <= 4,
        }
    }
}

/// A decimal number of any size: the digits times 10^exponent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// Most significant first, with no zero at either end; none for zero.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    fn new(negative: bool, digits: Vec<u8>, exponent: i64) -> Self {
        let mut number = Self { negative, digits, exponent };
        number.normalize();
        number
    }

    fn normalize(&mut self) {
        while self.digits.pop_if(|digit| *digit == 0).is_some() {
            self.exponent += 1;
        }
        let zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..zeros);
        if self.digits.is_empty() {
            self.negative = false;
            self.exponent = 0;
        }
    }

    /// The power of ten just above the first digit.
    fn top(&self) -> i64 {
        self.exponent.saturating_add(i64::try_from(self.digits.len()).unwrap_or(i64::MAX))
    }

    fn magnitude_cmp(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.top().cmp(&other.top()).then_with(|| self.digits.cmp(&other.digits)),
        }
    }

    /// Away from zero, to a multiple of 10^scale.
    fn round_up(&mut self, scale: i64) {
        if self.digits.is_empty() || self.exponent >= scale {
            return;
        }
        let dropped = usize::try_from(scale.saturating_sub(self.exponent)).unwrap_or(usize::MAX);
        // No digit at the end is zero: whatever is dropped is something.
        self.digits.truncate(self.digits.len().saturating_sub(dropped));
        self.exponent = scale;
        let mut carry = true;
        for digit in self.digits.iter_mut().rev() {
            if !carry {
                break;
            }
            carry = *digit == 9;
            *digit = if carry { 0 } else { *digit + 1 };
        }
        if carry {
            self.digits.insert(0, 1);
        }
        self.normalize();
    }

    fn times(&self, factor: u32) -> Self {
        let mut carry = 0_u64;
        let mut digits = Vec::with_capacity(self.digits.len() + 10);
        for digit in self.digits.iter().rev() {
            carry += u64::from(*digit) * u64::from(factor);
            digits.push(last_digit(carry));
            carry /= 10;
        }
        while carry > 0 {
            digits.push(last_digit(carry));
            carry /= 10;
        }
        digits.reverse();
        Self::new(self.negative, digits, self.exponent)
    }

    fn checked_add(&self, other: &Self) -> Option<Self> {
        let bottom = self.exponent.min(other.exponent);
        let span = self.top().max(other.top()).checked_sub(bottom)?;
        if span > MAX_SPAN {
            return None;
        }
        let (large, small) = if self.magnitude_cmp(other).is_lt() { (other, self) } else { (self, other) };
        let differ = large.negative != small.negative;
        let mut carry = 0;
        let mut digits = Vec::new();
        for power in bottom..=self.top().max(other.top()) {
            let (a, b) = (large.digit(power), small.digit(power));
            let sum = if differ { a + 10 - b - carry } else { a + b + carry };
            // Under subtraction, a borrow is what is missing to ten.
            carry = if differ { u8::from(sum < 10) } else { sum / 10 };
            digits.push(sum % 10);
        }
        digits.reverse();
        Some(Self::new(large.negative, digits, bottom))
    }

    /// The digit that stands for 10^power.
    fn digit(&self, power: i64) -> u8 {
        usize::try_from(self.top() - 1 - power).ok().and_then(|place| self.digits.get(place)).copied().unwrap_or(0)
    }
}

impl From<u64> for Decimal {
    fn from(mut number: u64) -> Self {
        let mut digits = Vec::new();
        while number > 0 {
            digits.push(last_digit(number));
            number /= 10;
        }
        digits.reverse();
        Self::new(false, digits, 0)
    }
}

/// A number that reads back as this: plain where it is short, with an exponent where it is not.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let (zeros, suffix) = match self.exponent {
            exponent @ 0..=30 => (exponent, ""),
            exponent @ -3..=-1 => (exponent + 3, "m"),
            exponent @ -6..=-4 => (exponent + 6, "u"),
            exponent @ -9..=-7 => (exponent + 9, "n"),
            _ => (0, "e"),
        };
        let sign = if self.negative { "-" } else { "" };
        f.write_str(sign)?;
        for digit in &self.digits {
            write!(f, "{digit}")?;
        }
        for _ in 0..zeros {
            f.write_str("0")?;
        }
        f.write_str(suffix)?;
        if suffix == "e" { write!(f, "{}", self.exponent) } else { Ok(()) }
    }
}

fn last_digit(number: u64) -> u8 {
    (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn suffixes_are_powers_of_ten_and_of_1024() {
        assert_eq!(quantity("0.5"), quantity("500m"));
        assert_eq!(quantity("1Gi").whole(), Some(1 << 30));
        assert_eq!(quantity("1G").whole(), Some(1_000_000_000));
        assert_eq!(quantity("1e3"), quantity("1E3"));
        assert_eq!(quantity("1E").whole(), Some(1_000_000_000_000_000_000));
        assert!(quantity("1Ki") > quantity("1k"));
    }

    #[test]
    fn what_is_too_fine_is_rounded_away_from_zero() {
        assert_eq!(quantity("0.1n"), quantity("1n"));
        assert_eq!(quantity("-0.1n"), quantity("-1n"));
        assert_eq!(quantity("1e-2000000000"), quantity("1n"));
        assert_eq!(quantity("1.0000000001"), quantity("1000000001n"));
        assert_eq!(quantity("1500u").milli(), Some(2));
        assert_eq!(quantity("999999999n").whole(), Some(1));
        assert_eq!(quantity("100u").rounded_up(MILLI).to_string(), "1m");
        assert_eq!(quantity("9999u").rounded_up(MILLI).to_string(), "10m");
    }

    #[test]
    fn a_binary_suffix_ends_at_63_bits_and_a_decimal_one_does_not() {
        assert_eq!(quantity("100Ei").whole(), Some(i64::MAX));
        assert_eq!(quantity("-100Ei").whole(), Some(-i64::MAX));
        assert_eq!(quantity("100E").whole(), None);
        assert!(quantity("1e2000000000") > quantity("100E"));
        assert!(quantity("-1e2000000000") < quantity("-100E"));
    }

    #[test]
    fn a_bad_quantity_tells_what_is_wrong() {
        let error = |text: &str| Quantity::parse(text).unwrap_err();
        assert_eq!(error(""), QuantityError::Format);
        assert_eq!(error("1 Gi"), QuantityError::Format);
        assert_eq!(error("1.1.1"), QuantityError::Format);
        assert_eq!(error("ä"), QuantityError::Format);
        assert_eq!(error("1GiB"), QuantityError::Format);
        assert_eq!(error("1gi"), QuantityError::Format);
        assert_eq!(error("1Mii"), QuantityError::Suffix("Mii".to_owned()));
        assert_eq!(error("1e99999999999999999999"), QuantityError::Suffix("e99999999999999999999".to_owned()));
        assert_eq!(error("Ei"), QuantityError::Number);
    }

    #[test]
    fn json_numbers_and_nulls_are_read_as_kubernetes_reads_them() {
        assert_eq!(Quantity::of_value(&json!(2)).unwrap(), quantity("2"));
        assert_eq!(Quantity::of_value(&json!(0.5)).unwrap(), quantity("500m"));
        assert_eq!(Quantity::of_value(&json!(" 1Gi ")).unwrap(), quantity("1Gi"));
        assert!(Quantity::of_value(&json!("1Gi\n")).is_err());
        assert!(Quantity::of_value(&Value::Null).unwrap().is_zero());
        assert!(Quantity::of_value(&json!(true)).is_err());
        let list = json!({ "cpu": "1.5", "memory": [] });
        let error = ResourceList::of(&Node::at(&list, crate::Path::fields("limits"))).unwrap_err();
        assert_eq!(error.path.to_string(), "limits[memory]");
        assert!(Quantity::of(&Node::root(&Value::Null)).unwrap().is_none());
    }

    #[test]
    fn sums_and_products_are_exact_and_read_back() {
        let sum = quantity("1Gi").checked_add(&quantity("0.1")).unwrap();
        assert_eq!(sum.to_string(), "1073741824100m");
        assert_eq!(quantity(&sum.to_string()), sum);
        assert_eq!(quantity("1").checked_add(&quantity("-1n")).unwrap().to_string(), "999999999n");
        assert_eq!(quantity("-2").checked_add(&quantity("500m")).unwrap(), quantity("-1500m"));
        assert!(quantity("5").checked_add(&quantity("-5")).unwrap().is_zero());
        assert_eq!(quantity("999").checked_add(&quantity("1")).unwrap().to_string(), "1000");
        assert_eq!(quantity("1e2000000000").checked_add(&quantity("1")), None);
        assert_eq!(quantity("1Gi").times(3), quantity("3Gi"));
        assert!(quantity("1").times(0).is_zero());
        assert_eq!(quantity("1e40").times(25).to_string(), "25e40");
    }

    #[test]
    fn a_number_of_a_million_digits_is_only_a_number() {
        let long = "9".repeat(1_000_000);
        assert!(quantity(&long) > quantity("1E"));
        assert_eq!(quantity(&format!("{long}Ei")).whole(), Some(i64::MAX));
        assert_eq!(quantity(&format!("0.{long}")).whole(), Some(1));
    }
}

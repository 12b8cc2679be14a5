//! A number of pods, or a share of them: Kubernetes' `IntOrString` where it means that.

use std::fmt;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::node::{Malformed, Node};

/// How a share of pods becomes a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Towards more pods, as disruption budgets do.
    Up,
    /// Towards fewer pods, as rolling updates do with `maxUnavailable`.
    Down,
}

/// A number of pods, or a share of them. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntOrPercent {
    /// That many pods.
    Int(i32),
    /// That many of a hundred pods.
    Percent(i32),
}

impl IntOrPercent {
    /// Reads the value; `None` where it is absent.
    ///
    /// # Errors
    /// What the API server refuses in a budget: a negative number, text that is no percentage (`"2"` in quotes is
    /// text), more than 100%. Source: `ValidatePodDisruptionBudgetSpec` in `kubernetes/pkg/apis/policy/validation`
    /// and `IsNotMoreThan100Percent` in `kubernetes/pkg/apis/apps/validation`.
    pub fn read(node: &Node<'_>) -> Result<Option<Self>, Malformed> {
        // Asked first: the typed reader would call a float or a list "expected a string".
        if node.value().is_some_and(|value| !(value.is_string() || value.is_i64() || value.is_u64())) {
            return Err(Malformed::new(node, "must be a whole number or a percentage such as 50%"));
        }
        let parsed = match node.value() {
            None => return Ok(None),
            Some(_) => node
                .parse::<IntOrString>()
                .map_err(|_| Malformed::new(node, "must be a whole number of 32 bits or a percentage such as 50%"))?,
        };
        match parsed {
            None => Ok(None),
            Some(IntOrString::Int(number)) if number < 0 => Err(Malformed::new(node, "must not be negative")),
            Some(IntOrString::Int(number)) => Ok(Some(Self::Int(number))),
            Some(IntOrString::String(text)) => {
                let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
                match digits.and_then(|digits| digits.parse::<i32>().ok()) {
                    Some(percent) if percent <= 100 => Ok(Some(Self::Percent(percent))),
                    Some(_) => Err(Malformed::new(node, "must not be more than 100%")),
                    None => {
                        Err(Malformed::new(node, "must be a whole number without quotes or a percentage such as 50%"))
                    }
                }
            }
        }
    }

    /// This many of `total` pods. Source: `GetScaledValueFromIntOrPercent` in
    /// `k8s.io/apimachinery/pkg/util/intstr/intstr.go`.
    pub fn of(self, total: i64, rounding: Rounding) -> i64 {
        match self {
            Self::Int(number) => i64::from(number),
            Self::Percent(percent) => {
                let hundredths = i64::from(percent).saturating_mul(total);
                match rounding {
                    Rounding::Up => hundredths.saturating_add(99).div_euclid(100),
                    Rounding::Down => hundredths.div_euclid(100),
                }
            }
        }
    }
}

impl fmt::Display for IntOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Option<IntOrPercent>, String> {
        IntOrPercent::read(&Node::at(value, crate::Path::fields("spec.minAvailable")))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_and_percentages() {
        assert_eq!(read(&json!(2)), Ok(Some(IntOrPercent::Int(2))));
        assert_eq!(read(&json!("67%")), Ok(Some(IntOrPercent::Percent(67))));
        assert_eq!(read(&json!("0%")), Ok(Some(IntOrPercent::Percent(0))));
        assert_eq!(read(&json!("100%")), Ok(Some(IntOrPercent::Percent(100))));
        assert_eq!(read(&Value::Null), Ok(None));
    }

    #[test]
    fn what_the_api_server_refuses() {
        for (value, problem) in [
            (json!(-1), "must not be negative"),
            (json!("2"), "without quotes"),
            (json!("101%"), "more than 100%"),
            (json!("-5%"), "without quotes"),
            (json!("+5%"), "without quotes"),
            (json!("%"), "without quotes"),
            (json!(""), "without quotes"),
            (json!("5.5%"), "without quotes"),
            (json!("99999999999%"), "without quotes"),
            (json!(2.5), "whole number or a percentage"),
            (json!(2.0), "whole number or a percentage"),
            (json!(true), "whole number or a percentage"),
            (json!([1]), "whole number or a percentage"),
            (json!(2_147_483_648_u64), "32 bits"),
        ] {
            let error = read(&value).unwrap_err();
            assert!(error.starts_with("spec.minAvailable: Invalid value: ") && error.contains(problem), "{error}");
        }
    }

    #[test]
    fn shares_are_rounded_as_asked() {
        let third = IntOrPercent::Percent(34);
        assert_eq!(third.of(3, Rounding::Up), 2);
        assert_eq!(third.of(3, Rounding::Down), 1);
        assert_eq!(IntOrPercent::Percent(67).of(3, Rounding::Up), 3, "cockroachdb's budget: 2.01 pods are 3");
        assert_eq!(IntOrPercent::Percent(50).of(4, Rounding::Up), 2);
        assert_eq!(IntOrPercent::Percent(100).of(5, Rounding::Down), 5);
        assert_eq!(IntOrPercent::Percent(0).of(5, Rounding::Up), 0);
        assert_eq!(IntOrPercent::Int(7).of(3, Rounding::Up), 7);
        assert_eq!(IntOrPercent::Percent(100).of(i64::from(i32::MAX), Rounding::Up), i64::from(i32::MAX));
    }
}

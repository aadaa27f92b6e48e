use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

use crate::context::ApiContext;
use crate::dialect::Door;
use crate::error::RpcError;
use crate::json::{self, NULL, Repeat, type_name};

/// One call of a method: what it may use and what it was given.
pub(crate) struct Call {
    pub ctx: Arc<ApiContext>,
    pub door: Arc<Door>,
    pub params: Params,
}

/// A call's arguments by position. Reading past the end gives null, as in Core.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pub values: Vec<Value>,
    /// Keys that objects within name twice; the paths begin with the position.
    pub repeats: Vec<Repeat>,
}

impl Params {
    pub(crate) fn value(&self, i: usize) -> &Value {
        self.values.get(i).unwrap_or(&NULL)
    }

    /// The keys named twice in an argument, each with the path to its object from there.
    pub(crate) fn repeats(&self, i: usize) -> impl Iterator<Item = (&[String], &str)> {
        let place = i.to_string();
        self.repeats.iter().filter_map(move |repeat| {
            let (first, rest) = repeat.path.split_first()?;
            (*first == place).then_some((rest, repeat.key.as_str()))
        })
    }

    pub(crate) fn given(&self, i: usize) -> bool {
        !self.value(i).is_null()
    }

    pub(crate) fn str(&self, i: usize) -> Result<&str, RpcError> {
        text(self.value(i))
    }

    pub(crate) fn opt_str(&self, i: usize) -> Result<Option<&str>, RpcError> {
        self.given(i).then(|| self.str(i)).transpose()
    }

    pub(crate) fn opt_bool(&self, i: usize) -> Result<Option<bool>, RpcError> {
        self.given(i).then(|| boolean(self.value(i))).transpose()
    }

    /// An `int` of Core's: 32 bits.
    pub(crate) fn int(&self, i: usize) -> Result<i32, RpcError> {
        int32(self.value(i))
    }

    pub(crate) fn opt_int(&self, i: usize) -> Result<Option<i32>, RpcError> {
        self.given(i).then(|| self.int(i)).transpose()
    }

    pub(crate) fn int64(&self, i: usize) -> Result<i64, RpcError> {
        integer(self.value(i))
    }

    pub(crate) fn array(&self, i: usize) -> Result<&[Value], RpcError> {
        array(self.value(i))
    }

    /// 32 bytes in hex, in the byte order hashes are printed (Core's `ParseHashV`).
    pub(crate) fn hash<H: FromStr>(&self, i: usize, name: &str) -> Result<H, RpcError> {
        hash(self.value(i), name)
    }

    /// `verbosity` that may be a boolean (Core's `ParseVerbosity`).
    pub(crate) fn verbosity(&self, i: usize, default: i32, allow_bool: bool) -> Result<i32, RpcError> {
        match self.value(i) {
            Value::Null => Ok(default),
            Value::Bool(_) if !allow_bool => {
                Err(RpcError::wrong_type("Verbosity was boolean but only integer allowed"))
            }
            Value::Bool(on) => Ok(i32::from(*on)),
            value => int32(value),
        }
    }
}

fn mismatch(value: &Value, expected: &str) -> RpcError {
    let actual = type_name(value);
    RpcError::wrong_type(format!("JSON value of type {actual} is not of expected type {expected}"))
}

/// The text of a value, or Core's type error.
pub(crate) fn text(value: &Value) -> Result<&str, RpcError> {
    value.as_str().ok_or_else(|| mismatch(value, "string"))
}

pub(crate) fn boolean(value: &Value) -> Result<bool, RpcError> {
    value.as_bool().ok_or_else(|| mismatch(value, "bool"))
}

pub(crate) fn array(value: &Value) -> Result<&[Value], RpcError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| mismatch(value, "array"))
}

pub(crate) fn object(value: &Value) -> Result<&serde_json::Map<String, Value>, RpcError> {
    value.as_object().ok_or_else(|| mismatch(value, "object"))
}

/// Whole numbers only: `1.0` and `1e3` are out of range as in Core.
pub(crate) fn integer<T: FromStr>(value: &Value) -> Result<T, RpcError> {
    let Value::Number(number) = value else { return Err(mismatch(value, "number")) };
    number.to_string().parse().map_err(|_| RpcError::misc("JSON integer out of range"))
}

pub(crate) fn int32(value: &Value) -> Result<i32, RpcError> {
    integer(value)
}

pub(crate) fn real(value: &Value) -> Result<f64, RpcError> {
    let Value::Number(number) = value else { return Err(mismatch(value, "number")) };
    number.to_string().parse().map_err(|_| RpcError::misc("JSON double out of range"))
}

/// 32 bytes in hex with Core's texts for wrong ones.
pub(crate) fn hash<H: FromStr>(value: &Value, name: &str) -> Result<H, RpcError> {
    let text = text(value)?;
    if text.len() != 64 {
        return Err(RpcError::parameter(format!(
            "{name} must be of length 64 (not {}, for '{text}')",
            text.len()
        )));
    }
    text.parse().map_err(|_| RpcError::parameter(format!("{name} must be hexadecimal string (not '{text}')")))
}

/// Bytes in hex (Core's `ParseHexV`).
pub(crate) fn hex_bytes(value: &Value, name: &str) -> Result<Vec<u8>, RpcError> {
    let text = value.as_str().unwrap_or("");
    let bytes = hex::decode(text).ok().filter(|bytes| !bytes.is_empty());
    bytes.ok_or_else(|| RpcError::parameter(format!("{name} must be hexadecimal string (not '{text}')")))
}

/// Most bitcoin there can be, in satoshi (`MAX_MONEY`).
const MAX_MONEY: i64 = 2_100_000_000_000_000;

/// Bitcoin as number or text to satoshi, without floating point (Core's `AmountFromValue`).
pub(crate) fn amount_sats(value: &Value) -> Result<i64, RpcError> {
    decimal(value, 8)
}

/// The same with other decimals: feerates in sat/vB have 3.
pub(crate) fn decimal(value: &Value, decimals: u32) -> Result<i64, RpcError> {
    if !value.is_number() && !value.is_string() {
        return Err(RpcError::wrong_type("Amount is not a number or string"));
    }
    let sats = fixed_point(&json::bare_text(value), decimals)
        .ok_or_else(|| RpcError::wrong_type("Invalid amount"))?;
    if !(0..=MAX_MONEY).contains(&sats) {
        return Err(RpcError::wrong_type("Amount out of range"));
    }
    Ok(sats)
}

/// A JSON number's text times `10^decimals`, if that is whole and below 10^18 (Core's
/// `ParseFixedPoint`).
fn fixed_point(text: &str, decimals: u32) -> Option<i64> {
    const LIMIT: i128 = 1_000_000_000_000_000_000;
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (mantissa, exponent.parse::<i32>().ok()?)
        }
        None => (rest, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let digits_only = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let digits: String = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return Some(0);
    }
    let scale = i64::from(exponent) + i64::from(decimals) - i64::try_from(fraction.len()).ok()? + dropped;
    if !(0..18).contains(&scale) || kept.len() > 18 {
        return None;
    }
    let value = kept.parse::<i128>().ok()? * 10i128.checked_pow(u32::try_from(scale).ok()?)?;
    if value >= LIMIT {
        return None;
    }
    i64::try_from(if negative { -value } else { value }).ok()
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;

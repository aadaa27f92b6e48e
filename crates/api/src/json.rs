//! JSON as Core reads and writes it: exact numbers, bounded depth, its names of types.

use std::fmt;

use bitcoin::{Amount, SignedAmount};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::limits::{JSON_DEPTH, REPEAT_DEPTH, REPEATS};

/// A null to point at where a value is absent.
pub static NULL: Value = Value::Null;

/// A key that an object names again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Keys, and places in decimal, that lead to the object.
    pub path: Vec<String>,
    /// The key.
    pub key: String,
}

/// A JSON text: its value, and where its objects name a key twice. As in Core's UniValue the first
/// of them counts; some readers want to know of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// The value.
    pub value: Value,
    /// Objects deeper than [`REPEAT_DEPTH`] are not looked at.
    pub repeats: Vec<Repeat>,
}

/// Reads one JSON text, or `None` if it is none or nests deeper than [`JSON_DEPTH`].
#[must_use]
pub fn parse(text: &[u8]) -> Option<Value> {
    read(text).map(|text| text.value)
}

/// The same, with the keys named twice. `None` too if those are more than [`REPEATS`].
#[must_use]
pub fn read(text: &[u8]) -> Option<Text> {
    if depth(text) > JSON_DEPTH {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.disable_recursion_limit();
    let (mut path, mut repeats) = (Vec::new(), Vec::new());
    let value = Reading { path: &mut path, repeats: &mut repeats }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(Text { value, repeats })
}

/// The key under which `serde_json` hands the digits of a number that is no 64-bit integer to a
/// visitor.
const NUMBER_DIGITS: &str = "$serde_json::private::Number";

struct Reading<'a> {
    path: &'a mut Vec<String>,
    repeats: &'a mut Vec<Repeat>,
}

impl Reading<'_> {
    fn within(&mut self, step: String) -> Reading<'_> {
        self.path.push(step);
        Reading { path: self.path, repeats: self.repeats }
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Value, E> {
        Ok(on.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = {
            let inner = self.within(out.len().to_string());
            items.next_element_seed(inner)?
        } {
            self.path.pop();
            out.push(item);
        }
        self.path.pop();
        Ok(out.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if out.is_empty() && key == NUMBER_DIGITS {
                let digits: String = members.next_value()?;
                return digits.parse().map(Value::Number).map_err(A::Error::custom);
            }
            if out.contains_key(&key) {
                members.next_value::<IgnoredAny>()?;
                if self.path.len() <= REPEAT_DEPTH {
                    if self.repeats.len() == REPEATS {
                        return Err(A::Error::custom("too many repeated keys"));
                    }
                    self.repeats.push(Repeat { path: self.path.clone(), key });
                }
                continue;
            }
            let value = members.next_value_seed(self.within(key.clone()))?;
            self.path.pop();
            out.insert(key, value);
        }
        Ok(out.into())
    }
}

/// Deepest nesting of a JSON text, counted without recursion before it is read with it.
fn depth(text: &[u8]) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// Core's name of a value's type, as its type errors print it.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
    }
}

/// Bytes as hex digits, for what is long: `hex::encode` collects single characters.
#[must_use]
pub fn hex_digits(bytes: &[u8]) -> String {
    let mut digits = vec![0; bytes.len() * 2];
    // The room is exactly what they take, and digits are text.
    let encoded = hex::encode_to_slice(bytes, &mut digits);
    encoded.ok().and_then(|()| String::from_utf8(digits).ok()).unwrap_or_default()
}

/// [`hex_digits`] as a value.
#[must_use]
pub fn hex(bytes: &[u8]) -> Value {
    hex_digits(bytes).into()
}

/// A number that keeps the digits it is given.
fn number(digits: &str) -> Value {
    digits.parse::<Number>().map_or(Value::Null, Value::Number)
}

/// Satoshi as bitcoin with eight decimals (Core's `ValueFromAmount`), from integers only.
#[must_use]
pub fn sats(sats: i64) -> Value {
    let sign = if sats < 0 { "-" } else { "" };
    let whole = sats.unsigned_abs();
    number(&format!("{sign}{}.{:08}", whole / 100_000_000, whole % 100_000_000))
}

/// [`sats`] of an amount.
#[must_use]
pub fn amount(amount: Amount) -> Value {
    sats(i64::try_from(amount.to_sat()).unwrap_or(i64::MAX))
}

/// [`sats`] of an amount that may be negative.
#[must_use]
pub fn signed_amount(amount: SignedAmount) -> Value {
    sats(amount.to_sat())
}

/// A real number as Core prints it: 16 significant digits, C's `%.16g`.
#[must_use]
pub fn real(n: f64) -> Value {
    number(&format_real(n))
}

/// The text of [`real`].
#[must_use]
pub fn format_real(n: f64) -> String {
    if n == 0.0 || !n.is_finite() {
        return "0".into();
    }
    let scientific = format!("{n:.15e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let places = usize::try_from(15 - exponent).unwrap_or(0);
        let fixed = format!("{n:.places$}");
        if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').to_owned() } else { fixed }
    } else {
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
    }
}

/// A value over several lines, four spaces a level, as Core's type errors and command line print.
#[must_use]
pub fn pretty(value: &Value, indent: usize) -> String {
    let mut out = String::new();
    write_pretty(&mut out, value, indent, 1);
    out
}

fn write_pretty(out: &mut String, value: &Value, indent: usize, level: usize) {
    let pad = " ".repeat(indent * level);
    let close = " ".repeat(indent * (level - 1));
    match value {
        Value::Array(items) => {
            out.push_str("[\n");
            for (i, item) in items.iter().enumerate() {
                out.push_str(&pad);
                write_pretty(out, item, indent, level + 1);
                out.push_str(if i + 1 < items.len() { ",\n" } else { "\n" });
            }
            out.push_str(&close);
            out.push(']');
        }
        Value::Object(members) => {
            out.push_str("{\n");
            for (i, (key, member)) in members.iter().enumerate() {
                out.push_str(&pad);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                write_pretty(out, member, indent, level + 1);
                out.push_str(if i + 1 < members.len() { ",\n" } else { "\n" });
            }
            out.push_str(&close);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A value as UniValue's `getValStr`: the bare text of a string or number, else empty.
#[must_use]
pub fn bare_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => n.to_string(),
        Value::Bool(true) => "1".into(),
        _ => String::new(),
    }
}

/// An object built member by member, in the order Core prints.
#[derive(Debug, Default)]
pub struct Object(Map<String, Value>);

impl Object {
    /// An empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member at the end.
    pub fn push(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Adds a member if there is a value.
    pub fn push_some(&mut self, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.push(key, value);
        }
        self
    }

    /// Adds all members of another object.
    pub fn extend(&mut self, other: Object) -> &mut Self {
        self.0.extend(other.0);
        self
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

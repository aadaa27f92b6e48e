//! JSON as Core's `UniValue::write(2)` lays it out: as others do, but an empty array or object
//! is closed on a line of its own.

use serde_json::Value;

/// Blanks a level.
const INDENT: usize = 2;

/// The value on several lines.
pub(super) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 1);
    out
}

fn write(out: &mut String, value: &Value, level: usize) {
    let mut items = |open: char, close: char, entries: Vec<(Option<&String>, &Value)>| {
        out.push(open);
        out.push('\n');
        let count = entries.len();
        for (index, (name, value)) in entries.into_iter().enumerate() {
            out.push_str(&" ".repeat(INDENT * level));
            if let Some(name) = name {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push_str(": ");
            }
            write(out, value, level + 1);
            out.push_str(if index + 1 < count { ",\n" } else { "\n" });
        }
        out.push_str(&" ".repeat(INDENT * (level - 1)));
        out.push(close);
    };
    match value {
        Value::Array(values) => items('[', ']', values.iter().map(|value| (None, value)).collect()),
        Value::Object(map) => items('{', '}', map.iter().map(|(name, value)| (Some(name), value)).collect()),
        plain => out.push_str(&plain.to_string()),
    }
}

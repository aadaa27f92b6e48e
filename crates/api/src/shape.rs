//! What a method answers, in a short notation: read once, then used to check replies, to print
//! help and to write the OpenRPC document.
//!
//! `hex`, `str`, `num`, `amount`, `bool`, `null` and `any` are values, `[T]` a list, `{a:T,b?:U}`
//! an object (`?` may be absent), `{*:T}` one with any keys, `A|B` one or the other, and `@name` one
//! of [`DEFINITIONS`](crate::results::DEFINITIONS).

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::results::definition;

/// A described value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Any,
    Null,
    Bool,
    Number,
    Amount,
    Text,
    Hex,
    List(Box<Shape>),
    Dictionary(Box<Shape>),
    Object(Vec<Member>),
    Either(Vec<Shape>),
    Defined(&'static str),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    name: &'static str,
    optional: bool,
    shape: Shape,
}

/// Reads the notation. `None` if it is wrong, which a test rules out for every text in use.
pub(crate) fn parse(text: &'static str) -> Option<Shape> {
    let mut reader = Reader { left: text.trim() };
    let shape = reader.either()?;
    reader.left.is_empty().then_some(shape)
}

struct Reader {
    left: &'static str,
}

impl Reader {
    fn takes(&mut self, token: char) -> bool {
        let rest = self.left.strip_prefix(token);
        if let Some(rest) = rest {
            self.left = rest.trim_start();
        }
        rest.is_some()
    }

    fn word(&mut self) -> Option<&'static str> {
        let end = self.left.find(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
        let (word, rest) = self.left.split_at(end.unwrap_or(self.left.len()));
        self.left = rest.trim_start();
        (!word.is_empty()).then_some(word)
    }

    fn either(&mut self) -> Option<Shape> {
        let first = self.one()?;
        let mut all = vec![first];
        while self.takes('|') {
            all.push(self.one()?);
        }
        if all.len() == 1 { all.pop() } else { Some(Shape::Either(all)) }
    }

    fn one(&mut self) -> Option<Shape> {
        if self.takes('[') {
            let item = self.either()?;
            return self.takes(']').then(|| Shape::List(Box::new(item)));
        }
        if self.takes('{') {
            return self.object();
        }
        if self.takes('@') {
            return self.word().map(Shape::Defined);
        }
        Some(match self.word()? {
            "any" => Shape::Any,
            "null" => Shape::Null,
            "bool" => Shape::Bool,
            "num" => Shape::Number,
            "amount" => Shape::Amount,
            "str" => Shape::Text,
            "hex" => Shape::Hex,
            _ => return None,
        })
    }

    fn object(&mut self) -> Option<Shape> {
        if self.takes('*') {
            let value = self.takes(':').then(|| self.either())??;
            return self.takes('}').then(|| Shape::Dictionary(Box::new(value)));
        }
        let mut members = Vec::new();
        while !self.takes('}') {
            let name = self.word()?;
            let optional = self.takes('?');
            let shape = self.takes(':').then(|| self.either())??;
            members.push(Member { name, optional, shape });
            if !self.takes(',') && !self.left.starts_with('}') {
                return None;
            }
        }
        Some(Shape::Object(members))
    }
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Shape {
    /// Where a value is not of this shape: a path and what should be there.
    pub(crate) fn fault(&self, value: &Value) -> Option<String> {
        let fits = match (self, value) {
            (Self::Any, _)
            | (Self::Null, Value::Null)
            | (Self::Bool, Value::Bool(_))
            | (Self::Number | Self::Amount, Value::Number(_))
            | (Self::Text, Value::String(_)) => true,
            (Self::Hex, Value::String(text)) => is_hex(text),
            (Self::List(item), Value::Array(items)) => {
                return items.iter().enumerate().find_map(|(i, value)| within(&i.to_string(), item, value));
            }
            (Self::Dictionary(item), Value::Object(members)) => {
                return members.iter().find_map(|(key, value)| within(key, item, value));
            }
            (Self::Object(members), Value::Object(values)) => return object_fault(members, values),
            (Self::Either(shapes), value) => {
                let mut faults = shapes.iter().map(|shape| shape.fault(value));
                // The fault that goes deepest is of the shape that was meant.
                return faults.try_fold(String::new(), |worst, fault| {
                    let fault = fault?;
                    Some(if fault.matches('/').count() >= worst.matches('/').count() { fault } else { worst })
                });
            }
            (Self::Defined(name), value) => {
                return match definition(name) {
                    Some(shape) => shape.fault(value),
                    None => Some(format!(": no definition {name}")),
                };
            }
            _ => false,
        };
        (!fits).then(|| format!(": expected {}", self.brief()))
    }

    const fn brief(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Amount => "an amount",
            Self::Text => "a string",
            Self::Hex => "hex",
            Self::List(_) => "an array",
            Self::Dictionary(_) | Self::Object(_) => "an object",
            Self::Either(_) => "another type",
            Self::Defined(name) => name,
        }
    }

    /// The lines of help.
    pub(crate) fn help(&self) -> String {
        let mut text = String::new();
        self.write_help(&mut text, 0);
        text
    }

    fn write_help(&self, out: &mut String, level: usize) {
        let pad = "  ".repeat(level + 1);
        let close = "  ".repeat(level);
        // Writing to a String cannot fail.
        match self {
            Self::Any => out.push_str("any"),
            Self::Null => out.push_str("null"),
            Self::Bool => out.push_str("boolean"),
            Self::Number => out.push_str("numeric"),
            Self::Amount => out.push_str("amount in bitcoin"),
            Self::Text => out.push_str("string"),
            Self::Hex => out.push_str("hex string"),
            Self::Defined(name) => {
                let _ = write!(out, "<{name}>");
            }
            Self::List(item) => {
                let _ = write!(out, "[\n{pad}");
                item.write_help(out, level + 1);
                let _ = write!(out, ",\n{pad}...\n{close}]");
            }
            Self::Dictionary(item) => {
                let _ = write!(out, "{{\n{pad}\"key\": ");
                item.write_help(out, level + 1);
                let _ = write!(out, ",\n{pad}...\n{close}}}");
            }
            Self::Object(members) => {
                out.push_str("{\n");
                for member in members {
                    let _ = write!(out, "{pad}\"{}\": ", member.name);
                    member.shape.write_help(out, level + 1);
                    out.push_str(if member.optional { " (optional)\n" } else { "\n" });
                }
                let _ = write!(out, "{close}}}");
            }
            Self::Either(shapes) => {
                for (i, shape) in shapes.iter().enumerate() {
                    if i > 0 {
                        let _ = write!(out, "\n{close}or ");
                    }
                    shape.write_help(out, level);
                }
            }
        }
    }

    /// The names of definitions it uses.
    pub(crate) fn defined(&self, found: &mut Vec<&'static str>) {
        match self {
            Self::Defined(name) if !found.contains(name) => {
                found.push(name);
                if let Some(shape) = definition(name) {
                    shape.defined(found);
                }
            }
            Self::List(item) | Self::Dictionary(item) => item.defined(found),
            Self::Object(members) => members.iter().for_each(|member| member.shape.defined(found)),
            Self::Either(shapes) => shapes.iter().for_each(|shape| shape.defined(found)),
            _ => {}
        }
    }

    /// As JSON Schema.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Any => json!({}),
            Self::Null => json!({"type": "null"}),
            Self::Bool => json!({"type": "boolean"}),
            Self::Number => json!({"type": "number"}),
            Self::Amount => json!({"type": "number", "description": "bitcoin, with eight decimals"}),
            Self::Text => json!({"type": "string"}),
            Self::Hex => json!({"type": "string", "pattern": "^([0-9a-fA-F]{2})*$"}),
            Self::List(item) => json!({"type": "array", "items": item.schema()}),
            Self::Dictionary(item) => json!({"type": "object", "additionalProperties": item.schema()}),
            Self::Object(members) => {
                let properties: Map<String, Value> =
                    members.iter().map(|member| (member.name.to_owned(), member.shape.schema())).collect();
                let required: Vec<&str> =
                    members.iter().filter(|member| !member.optional).map(|member| member.name).collect();
                json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
            }
            Self::Either(shapes) => json!({"anyOf": shapes.iter().map(Self::schema).collect::<Vec<_>>()}),
            Self::Defined(name) => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

fn within(step: &str, shape: &Shape, value: &Value) -> Option<String> {
    shape.fault(value).map(|fault| format!("/{step}{fault}"))
}

fn object_fault(members: &[Member], values: &Map<String, Value>) -> Option<String> {
    for member in members {
        match values.get(member.name) {
            Some(value) => {
                if let Some(fault) = within(member.name, &member.shape, value) {
                    return Some(fault);
                }
            }
            None if member.optional => {}
            None => return Some(format!("/{}: missing", member.name)),
        }
    }
    let unknown = values.keys().find(|key| members.iter().all(|member| member.name != key.as_str()));
    unknown.map(|key| format!("/{key}: not documented"))
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;

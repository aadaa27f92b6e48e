//! What methods answer, on its way to text.

use bytes::Bytes;
use serde_json::Value;

use crate::body::Pieces;
use crate::error::RpcError;
use crate::json;
use crate::limits::SMALL_REPLY;

/// A method's answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A value, turned into text when it is sent.
    Value(Value),
    /// JSON, made where it was large enough to be worth the care.
    Text(Bytes),
    /// A text of these bytes in hex, turned into it while it is sent.
    Hex(Bytes),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// What the door gives back for a call.
pub(crate) type Answered = Result<Reply, RpcError>;

/// Whether there are more than `left` values in it; counts them down.
fn is_larger(value: &Value, left: &mut usize) -> bool {
    let Some(fewer) = left.checked_sub(1) else { return true };
    *left = fewer;
    match value {
        Value::Array(items) => items.iter().any(|item| is_larger(item, left)),
        Value::Object(members) => members.values().any(|member| is_larger(member, left)),
        _ => false,
    }
}

fn text_of(value: &Value) -> Bytes {
    // A value with text keys only cannot fail to be written.
    serde_json::to_vec(value).unwrap_or_default().into()
}

impl Reply {
    /// The answer as a value, as far as it is one already.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Value(value) => value.clone(),
            Self::Text(text) => json::parse(text).unwrap_or_default(),
            Self::Hex(bytes) => json::hex(bytes),
        }
    }

    /// Adds the answer's text to a body. A large value is written off the runtime's workers.
    pub(crate) async fn write(self, out: &mut Pieces) {
        match self {
            Self::Text(text) => out.bytes(text),
            Self::Hex(bytes) => out.text("\"").hex(bytes).text("\""),
            Self::Value(value) if !is_larger(&value, &mut { SMALL_REPLY }) => out.bytes(text_of(&value)),
            Self::Value(value) => {
                let written = tokio::task::spawn_blocking(move || text_of(&value)).await;
                out.bytes(written.unwrap_or_else(|_| Bytes::from_static(b"null")))
            }
        };
    }
}

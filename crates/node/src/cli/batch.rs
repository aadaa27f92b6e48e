//! Several calls in one request.

use serde_json::{Value, json};

/// A batch of methods without arguments; the ids count from 0.
pub(super) fn request(methods: &[&str]) -> Value {
    let calls = methods.iter().enumerate();
    calls.map(|(id, method)| json!({"method": method, "params": [], "id": id, "jsonrpc": "2.0"})).collect()
}

/// The replies in the order of their calls (Core's `JSONRPCProcessBatchReply`).
///
/// # Errors
/// Core's texts for an answer that is no batch of `count` replies.
pub(super) fn replies(answer: &Value, count: usize) -> Result<Vec<Value>, String> {
    let answer = answer.as_array().ok_or("Batch must be an array")?;
    let mut replies = vec![Value::Null; count];
    for member in answer {
        let id = member.get("id").and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok());
        let slot =
            id.and_then(|id| replies.get_mut(id)).ok_or("Batch member id is larger than batch size")?;
        slot.clone_from(member);
    }
    Ok(replies)
}

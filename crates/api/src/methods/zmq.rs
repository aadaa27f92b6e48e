//! What is published over ZeroMQ (`zmq/zmqrpc.cpp`).

use serde_json::Value;

use crate::call::Call;
use crate::error::RpcResult;
use crate::json::Object;
use crate::table::{Method, method};

pub(crate) static METHODS: &[Method] = &[method!(
    "zmq",
    "getzmqnotifications",
    [],
    "What is published over ZeroMQ, where, and how many messages a subscriber may leave unread.",
    notifications
)];

async fn notifications(call: Call) -> RpcResult {
    let list = call.ctx.facts.zmq.iter().map(|notifier| {
        let mut entry = Object::new();
        entry.push("type", format!("pub{}", notifier.topic.name()));
        entry.push("address", notifier.address.as_str());
        entry.push("hwm", notifier.high_water_mark);
        Value::from(entry)
    });
    Ok(list.collect::<Vec<_>>().into())
}

//! Methods whose feature this node does not have, or has nothing to tell of: they answer as Core
//! does where it is switched off or empty.

use serde_json::Value;

use super::util::CONF_TARGET_MAX;
use crate::call::{Call, real};
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};

pub(crate) static METHODS: &[Method] = &[
    method!(
        "hidden",
        "estimaterawfee",
        [
            Arg::req("conf_target", Kind::Num, "Blocks within which to confirm"),
            Arg::def("threshold", Kind::Num, "0.95", "Share that must have confirmed by then"),
        ],
        "The fee estimator's own numbers. There are none yet.",
        estimate_raw_fee
    ),
    method!("hidden", "enumeratesigners", [], "External signers. There are none.", signers),
    method!(
        "network",
        "exportasmap",
        [Arg::req("path", Kind::Str, "The file to write")],
        "Would write the built-in map of autonomous systems; none is built in.",
        export_asmap
    ),
    method!(
        "rawtransactions",
        "abortprivatebroadcast",
        [Arg::req("id", Kind::Hex, "Id, with or without witness, of the transaction")],
        "Would end a private broadcast; there are none.",
        no_private_broadcast
    ),
    method!(
        "rawtransactions",
        "getprivatebroadcastinfo",
        [],
        "Would list private broadcasts; there are none.",
        no_private_broadcast
    ),
];

async fn no_private_broadcast(_: Call) -> RpcResult {
    Err(RpcError::new(
        code::METHOD_NOT_FOUND,
        "Private broadcast is not enabled. Ensure you're running Bitcoin Core with -privatebroadcast=1.",
    ))
}

async fn signers(_: Call) -> RpcResult {
    Err(RpcError::misc("Error: restart bitcoind with -signer=<cmd>"))
}

async fn export_asmap(call: Call) -> RpcResult {
    call.params.str(0)?;
    Err(RpcError::misc("No embedded ASMap data available"))
}

/// A horizon of the estimator: name, furthest target, how fast old blocks are forgotten a block,
/// blocks in a period (Core's `CBlockPolicyEstimator`).
const HORIZONS: [(&str, i32, f64, u32); 3] =
    [("short", 12, 0.962, 1), ("medium", 48, 0.9952, 2), ("long", CONF_TARGET_MAX, 0.99931, 24)];

async fn estimate_raw_fee(call: Call) -> RpcResult {
    let target = call.params.int(0)?;
    if !(1..=CONF_TARGET_MAX).contains(&target) {
        return Err(RpcError::parameter(format!(
            "Invalid conf_target, must be between 1 and {CONF_TARGET_MAX}"
        )));
    }
    if call.params.given(1) && !(0.0..=1.0).contains(&real(call.params.value(1))?) {
        return Err(RpcError::parameter("Invalid threshold"));
    }
    let mut out = Object::new();
    for (name, _, decay, scale) in HORIZONS.iter().filter(|(_, furthest, ..)| target <= *furthest) {
        // Without a transaction seen, the one range that fails is all there is.
        let mut fail = Object::new();
        fail.push("startrange", 0).push("endrange", json::real(1e99));
        fail.push("withintarget", 0).push("totalconfirmed", 0);
        fail.push("inmempool", 0).push("leftmempool", 0);
        let mut horizon = Object::new();
        horizon.push("decay", json::real(*decay));
        horizon.push("scale", *scale);
        horizon.push("fail", Value::from(fail));
        let error = "Insufficient data or no feerate found which meets threshold";
        horizon.push("errors", vec![Value::from(error)]);
        out.push(*name, Value::from(horizon));
    }
    Ok(out.into())
}

//! Fee estimates (`rpc/fees.cpp`).

use ironpeer_mempool::BucketRange;
use serde_json::Value;

use super::mempool::feerate;
use crate::call::{Call, real};
use crate::error::{RpcError, RpcResult};
use crate::json::{self, Object};
use crate::table::{Arg, Kind, Method, method};

/// Share that must have confirmed, unless the caller says otherwise.
const DEFAULT_THRESHOLD: f64 = 0.95;

pub(crate) static METHODS: &[Method] = &[
    method!(
        "util",
        "estimatesmartfee",
        [
            Arg::req("conf_target", Kind::Num, "Blocks within which to confirm (1 - 1008)"),
            Arg::def("estimate_mode", Kind::Str, "\"economical\"", "unset, economical or conservative"),
        ],
        "A feerate that should confirm within some blocks, by what was mined so far.",
        estimate_smart_fee
    ),
    method!(
        "hidden",
        "estimaterawfee",
        [
            Arg::req("conf_target", Kind::Num, "Blocks within which to confirm"),
            Arg::def("threshold", Kind::Num, "0.95", "Share that must have confirmed by then"),
        ],
        "The fee estimator's own numbers, for each horizon that reaches the target.",
        estimate_raw_fee
    ),
];

/// The target, no further than the longest horizon reaches.
fn conf_target(call: &Call) -> Result<u32, RpcError> {
    let most = call.ctx.mempool.furthest_fee_target().ok_or_else(disabled)?;
    let target = u32::try_from(call.params.int(0)?).ok().filter(|target| (1..=most).contains(target));
    target.ok_or_else(|| RpcError::parameter(format!("Invalid conf_target, must be between 1 and {most}")))
}

fn disabled() -> RpcError {
    RpcError::internal("Fee estimation disabled")
}

async fn estimate_smart_fee(call: Call) -> RpcResult {
    let target = conf_target(&call)?;
    let mode = call.params.opt_str(1)?.unwrap_or("economical").to_ascii_lowercase();
    if !["unset", "economical", "conservative"].contains(&mode.as_str()) {
        return Err(RpcError::parameter(
            "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"",
        ));
    }
    let estimate =
        call.ctx.mempool.estimate_smart_fee(target, mode == "conservative").ok_or_else(disabled)?;
    let mut out = Object::new();
    match estimate.feerate {
        Some(rate) => out.push("feerate", feerate(rate)),
        None => out.push("errors", vec![Value::from("Insufficient data or no feerate found")]),
    };
    out.push("blocks", estimate.blocks);
    Ok(out.into())
}

fn range(range: &BucketRange) -> Value {
    let hundredths = |count: f64| json::real((count * 100.0).round() / 100.0);
    let mut out = Object::new();
    out.push("startrange", json::real(range.start.round()));
    out.push("endrange", json::real(range.end.round()));
    out.push("withintarget", hundredths(range.within_target));
    out.push("totalconfirmed", hundredths(range.confirmed));
    out.push("inmempool", hundredths(range.in_mempool));
    out.push("leftmempool", hundredths(range.left_mempool));
    out.into()
}

async fn estimate_raw_fee(call: Call) -> RpcResult {
    let target = conf_target(&call)?;
    let threshold = if call.params.given(1) { real(call.params.value(1))? } else { DEFAULT_THRESHOLD };
    if !(0.0..=1.0).contains(&threshold) {
        return Err(RpcError::parameter("Invalid threshold"));
    }
    let estimates = call.ctx.mempool.estimate_raw_fee(target, threshold).ok_or_else(disabled)?;
    let mut out = Object::new();
    for (horizon, estimate) in estimates {
        let mut one = Object::new();
        if let Some(rate) = estimate.feerate {
            one.push("feerate", feerate(rate));
        }
        one.push("decay", json::real(estimate.decay));
        one.push("scale", estimate.scale);
        if estimate.feerate.is_some() {
            one.push("pass", range(&estimate.pass));
            if let Some(fail) = &estimate.fail {
                one.push("fail", range(fail));
            }
        } else {
            one.push("fail", range(&estimate.fail.unwrap_or_default()));
            let error = "Insufficient data or no feerate found which meets threshold";
            one.push("errors", vec![Value::from(error)]);
        }
        out.push(horizon.name(), Value::from(one));
    }
    Ok(out.into())
}

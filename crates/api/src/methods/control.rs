//! Control of the node and of the server itself (`rpc/server.cpp`, `rpc/node.cpp`).

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::call::{Call, text};
use crate::context::Forward;
use crate::dialect::active_json;
use crate::error::{RpcError, RpcResult};
use crate::json::Object;
use crate::reply::Reply;
use crate::table::{self, Arg, Kind, Method, method};

/// Core's name, which its clients compare.
const CLIENT_NAME: &str = "Bitcoin Core";

macro_rules! echo_args {
    ($($name:literal),*) => { [$(Arg::opt($name, Kind::Str, "").any_type()),*] };
    (json $($name:literal),*) => { [$(Arg::opt($name, Kind::Str, "").any_type().cli_json()),*] };
}

static ECHO: &[Arg] =
    &echo_args!("arg0", "arg1", "arg2", "arg3", "arg4", "arg5", "arg6", "arg7", "arg8", "arg9");
static ECHO_JSON: &[Arg] =
    &echo_args!(json "arg0", "arg1", "arg2", "arg3", "arg4", "arg5", "arg6", "arg7", "arg8", "arg9");

pub(crate) static METHODS: &[Method] = &[
    method!(
        "control",
        "getmemoryinfo",
        [Arg::def(
            "mode",
            Kind::Str,
            "\"stats\"",
            "\"stats\" for the locked memory of keys, \"mallocinfo\" for the heap"
        )],
        "How much memory the node holds.",
        memory_info
    ),
    method!("control", "getrpcinfo", [], "The RPC server's calls under way and log file.", rpc_info),
    method!(
        "control",
        "help",
        [Arg::opt("command", Kind::Str, "The method to describe")],
        "All methods, or one of them in full.",
        help
    ),
    method!(
        "control",
        "logging",
        [
            Arg::opt("include", Kind::Arr, "Categories to switch on").usage("[\"include_category\",...]"),
            Arg::opt("exclude", Kind::Arr, "Categories to switch off").usage("[\"exclude_category\",...]"),
        ],
        "Which categories of debug lines are written, after switching some on, then some off.",
        logging
    ),
    method!(
        "control",
        "stop",
        [Arg::opt("wait", Kind::Num, "Milliseconds to wait before answering").hidden()],
        "Stops the node in good order.",
        stop
    ),
    method!("control", "uptime", [], "Seconds since the node was started.", uptime),
    Method {
        category: "hidden",
        name: "echo",
        args: ECHO,
        help: "Answers its arguments.",
        handler: |call| Box::pin(async move { echo(call).await.map(Reply::from) }),
    },
    Method {
        category: "hidden",
        name: "echojson",
        args: ECHO_JSON,
        help: "Answers its arguments, which the command line reads as JSON.",
        handler: |call| Box::pin(async move { echo(call).await.map(Reply::from) }),
    },
    method!(
        "hidden",
        "echoipc",
        [Arg::req("arg", Kind::Str, "The text to answer")],
        "Answers its argument.",
        echo_one
    ),
    method!(
        "hidden",
        "rpc.discover",
        [],
        "The description of all methods, in the format of OpenRPC.",
        discover
    ),
    method!(
        "hidden",
        "mockscheduler",
        [Arg::req("delta_time", Kind::Num, "Seconds, at most 3600")],
        "Brings what the node does every so often nearer by some seconds (regtest only).",
        mock_scheduler
    ),
    method!(
        "hidden",
        "setmocktime",
        [Arg::req("timestamp", Kind::Num, "Unix time in seconds; 0 for the machine's clock")],
        "Fixes the node's clock (regtest only).",
        set_mock_time
    ),
];

async fn memory_info(call: Call) -> RpcResult {
    match call.params.opt_str(0)?.unwrap_or("stats") {
        "stats" => {
            // No keys are held, so no memory is locked.
            let mut locked = Object::new();
            for field in ["used", "free", "total", "locked", "chunks_used", "chunks_free"] {
                locked.push(field, 0);
            }
            let mut out = Object::new();
            out.push("locked", Value::from(locked));
            Ok(out.into())
        }
        "mallocinfo" => Err(RpcError::parameter("mallocinfo mode not available")),
        other => Err(RpcError::parameter(format!("unknown mode {other}"))),
    }
}

async fn rpc_info(call: Call) -> RpcResult {
    let mut out = Object::new();
    out.push("active_commands", active_json(&call.door));
    out.push("logpath", call.ctx.log.path().to_string_lossy());
    Ok(out.into())
}

async fn help(call: Call) -> RpcResult {
    match call.params.opt_str(0)?.unwrap_or("") {
        "dump_all_command_conversions" => Ok(table::conversions_json()),
        command => Ok(table::help(command).into()),
    }
}

async fn logging(call: Call) -> RpcResult {
    for (position, on) in [(0, true), (1, false)] {
        let Some(categories) = call.params.value(position).as_array() else { continue };
        for category in categories {
            let name = text(category)?;
            if !call.ctx.log.set_category(name, on) {
                return Err(RpcError::parameter(format!("unknown logging category {name}")));
            }
        }
    }
    let mut out = Object::new();
    for (name, on) in call.ctx.log.categories() {
        out.push(name, on);
    }
    Ok(out.into())
}

/// Starts the shutdown, then answers: the server lets requests under way end before it closes.
async fn stop(call: Call) -> RpcResult {
    call.ctx.shutdown.cancel();
    if call.params.value(0).is_number() {
        let millis = u64::try_from(call.params.int(0)?).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    Ok(format!("{CLIENT_NAME} stopping").into())
}

async fn uptime(call: Call) -> RpcResult {
    Ok(call.ctx.clock.steady().saturating_sub(call.ctx.facts.started).as_secs().into())
}

async fn echo(call: Call) -> RpcResult {
    if call.params.value(9).as_str() == Some("trigger_internal_bug") {
        return Err(RpcError::misc(
            "Internal bug detected: request.params[9].get_str() != \"trigger_internal_bug\"\nPlease report this issue to the project's issue tracker",
        ));
    }
    Ok(Value::Array(call.params.values))
}

async fn discover(_: Call) -> RpcResult {
    Ok(crate::openrpc::openrpc())
}

async fn echo_one(call: Call) -> RpcResult {
    Ok(call.params.str(0)?.into())
}

async fn mock_scheduler(call: Call) -> RpcResult {
    if !call.ctx.facts.mockable {
        return Err(RpcError::misc("mockscheduler is for regression testing (-regtest mode) only"));
    }
    let seconds = call.params.int64(0)?;
    let by = u64::try_from(seconds).ok().filter(|seconds| (1..=3_600).contains(seconds));
    let by = by.ok_or_else(|| RpcError::misc("delta_time must be between 1 and 3600 seconds (1 hr)"))?;
    if let Some(scheduler) = &call.ctx.scheduler {
        let (done, ran) = oneshot::channel();
        // Without an answer the node is stopping, and nothing is due any more.
        if scheduler.send(Forward { by: Duration::from_secs(by), done }).await.is_ok() {
            let _ = ran.await;
        }
    }
    Ok(Value::Null)
}

async fn set_mock_time(call: Call) -> RpcResult {
    if !call.ctx.facts.mockable {
        return Err(RpcError::misc("setmocktime is for regression testing (-regtest mode) only"));
    }
    let time = call.params.int64(0)?;
    let most = i64::from(u32::MAX);
    if !(0..=most).contains(&time) {
        return Err(RpcError::parameter(format!("Mocktime must be in the range [0, {most}], not {time}.")));
    }
    call.ctx.clock.set_mock(time);
    Ok(Value::Null)
}

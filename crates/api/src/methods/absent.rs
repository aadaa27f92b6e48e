//! Methods whose feature this node does not have, or has nothing to tell of: they answer as Core
//! does where it is switched off or empty.

use crate::call::Call;
use crate::error::{RpcError, RpcResult, code};
use crate::table::{Arg, Kind, Method, method};

pub(crate) static METHODS: &[Method] = &[
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

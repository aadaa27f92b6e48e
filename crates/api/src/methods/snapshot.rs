//! The coin set as a file (`rpc/blockchain.cpp`).

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::Network;
use ironpeer_chain::{ChainView, CoinScan, SnapshotError};
use ironpeer_primitives::{ChainRead, HeaderInfo};
use serde_json::Map;

use super::blockchain::hash_or_height;
use crate::call::{Call, object};
use crate::context::ApiContext;
use crate::error::{RpcError, RpcResult};
use crate::json::Object;
use crate::table::{Arg, Kind, Method, method};

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "dumptxoutset",
        [
            Arg::req(
                "path",
                Kind::Str,
                "The file to write, beside the node's own if relative; it must not exist"
            ),
            Arg::def("type", Kind::Str, "\"\"", "latest for the tip, rollback for a block before it"),
            Arg::opt(
                "options",
                Kind::Named(&[
                    Arg::opt("rollback", Kind::Num, "Hash or height of the block").any_type(),
                    Arg::def(
                        "in_memory",
                        Kind::Bool,
                        "false",
                        "Without effect: the way back is always kept in memory"
                    ),
                ]),
                ""
            )
            .usage("options"),
        ],
        "Writes the coin set, as of the tip or a block before it, to a file that Core can load.",
        dump
    ),
    method!(
        "blockchain",
        "loadtxoutset",
        [Arg::req("path", Kind::Str, "The file")],
        "Would start from the coin set of a file; not available here.",
        load
    ),
];

/// The last height for which Core knows a coin set's hash (`m_assumeutxo_data`).
const fn last_known_snapshot(network: Network) -> i32 {
    match network {
        Network::Bitcoin => 935_000,
        Network::Testnet => 4_840_000,
        Network::Testnet4 => 120_000,
        Network::Signet => 290_000,
        Network::Regtest => 299,
    }
}

/// `path`, in the network's own folder if it is relative.
fn placed(ctx: &ApiContext, path: &str) -> PathBuf {
    ctx.facts.mempool_file.parent().unwrap_or(Path::new("")).join(path)
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".incomplete");
    name.into()
}

async fn dump(call: Call) -> RpcResult {
    let kind = call.params.opt_str(1)?.unwrap_or("");
    let empty = Map::new();
    let options = if call.params.given(2) { object(call.params.value(2))? } else { &empty };
    let view = call.ctx.view();
    let target = match options.get("rollback") {
        Some(_) if !["", "rollback"].contains(&kind) => {
            return Err(RpcError::parameter(format!(
                "Invalid snapshot type \"{kind}\" specified with rollback option"
            )));
        }
        Some(wanted) => Some(hash_or_height(&view, wanted)?),
        None if kind == "rollback" => {
            Some(hash_or_height(&view, &last_known_snapshot(call.ctx.network()).into())?)
        }
        None if kind == "latest" => None,
        None => {
            return Err(RpcError::parameter(format!(
                "Invalid snapshot type \"{kind}\" specified. Please specify \"rollback\" or \"latest\""
            )));
        }
    };
    let needed = target.as_ref().filter(|target| target.hash != view.tip().hash);
    if let (Some(target), Some(pruned)) = (needed, view.prune_height())
        && pruned >= target.height
    {
        return Err(RpcError::misc(
            "Could not roll back to requested height since necessary block data is already pruned.",
        ));
    }
    let path = placed(&call.ctx, call.params.str(0)?);
    if fs::symlink_metadata(&path).is_ok() {
        return Err(RpcError::parameter(format!(
            "{} already exists. If you are sure this is what you want, move it out of the way first",
            path.display()
        )));
    }
    let unfinished = with_suffix(&path);
    let file = File::create(&unfinished).map_err(|_| {
        RpcError::parameter(format!("Couldn't open file {} for writing.", unfinished.display()))
    })?;
    let scan = call.ctx.chain.coin_scan().await.map_err(|_| RpcError::internal("Unable to read UTXO set"))?;
    let ctx = Arc::clone(&call.ctx);
    let run = tokio::task::spawn_blocking(move || {
        let written = write_file(&ctx, &view, scan, target, file, &unfinished, &path);
        if written.is_err() {
            // What is not finished is of use to nobody.
            let _ = fs::remove_file(&unfinished);
        }
        written
    });
    run.await.map_err(|_| RpcError::internal("Unable to write UTXO set"))?
}

fn failed(error: &SnapshotError) -> RpcError {
    match error {
        SnapshotError::Read(_) => RpcError::internal("Unable to read UTXO set"),
        SnapshotError::Write(_) => RpcError::internal(format!("Unable to write UTXO set: {error}")),
        SnapshotError::NotAncestor => RpcError::parameter(error.to_string()),
        SnapshotError::TooFarBack | SnapshotError::Interrupted => RpcError::misc(error.to_string()),
    }
}

/// Gives the finished file its name, unless something has that name by now.
fn publish(unfinished: &Path, path: &Path) -> io::Result<()> {
    // A second name fails where the first exists already, which renaming does not.
    match fs::hard_link(unfinished, path) {
        Ok(()) => fs::remove_file(unfinished),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => fs::rename(unfinished, path),
    }
}

fn write_file(
    ctx: &ApiContext,
    view: &ChainView,
    scan: CoinScan,
    target: Option<HeaderInfo>,
    file: File,
    unfinished: &Path,
    path: &Path,
) -> RpcResult {
    let go_on = || !ctx.shutdown.is_cancelled();
    let target = target.unwrap_or_else(|| scan.block());
    let coins = scan.back_to(view, &target, &go_on).map_err(|error| failed(&error))?;
    let summary = coins.summary().map_err(|error| failed(&error))?;
    let mut out = BufWriter::new(file);
    coins.write(ctx.params.magic, &summary, &mut out, &go_on).map_err(|error| failed(&error))?;
    let finished = out.flush().and_then(|()| out.get_ref().sync_all());
    finished.and_then(|()| publish(unfinished, path)).map_err(|error| failed(&error.into()))?;
    let mut reply = Object::new();
    reply.push("coins_written", summary.coins);
    reply.push("base_hash", target.hash.to_string());
    reply.push("base_height", target.height.0);
    reply.push("path", path.to_string_lossy());
    reply.push("txoutset_hash", summary.hash.to_string());
    reply.push("nchaintx", view.chain_tx_count(&target.hash).unwrap_or(0));
    Ok(reply.into())
}

async fn load(call: Call) -> RpcResult {
    let path = placed(&call.ctx, call.params.str(0)?);
    if File::open(&path).is_err() {
        return Err(RpcError::parameter(format!("Couldn't open file {} for reading.", path.display())));
    }
    Err(RpcError::internal("Unable to load UTXO snapshot: assumeutxo is not available"))
}

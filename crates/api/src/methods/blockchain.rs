//! Reading the chain (`rpc/blockchain.cpp`).

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Block, BlockHash, CompactTarget, Network, Work};
use ironpeer_chain::{ChainView, Followed, Prune, ReadError};
use ironpeer_consensus::target_from_bits;
use ironpeer_primitives::{BlockUndo, ChainRead, HeaderInfo, Height};
use serde_json::Value;

use crate::call::{Call, int32};
use crate::context::ApiContext;
use crate::error::{RpcError, RpcResult};
use crate::json::{self, Object};
use crate::reply::{Answered, Reply};
use crate::table::{Arg, Kind, Method, method};
use crate::tx_json::{self, Spent};

pub(crate) static METHODS: &[Method] = &[
    method!(
        "blockchain",
        "getbestblockhash",
        [],
        "The hash of the active chain's last block.",
        best_block_hash
    ),
    method!(
        "blockchain",
        "getblock",
        [
            Arg::req("blockhash", Kind::Hex, "The block's hash"),
            Arg::def(
                "verbosity|verbose",
                Kind::Num,
                "1",
                "0 for hex, 1 with transaction ids, 2 with transactions, 3 with what they spend too"
            )
            .any_type(),
        ],
        "A block.",
        block
    ),
    method!("blockchain", "getblockchaininfo", [], "Where the chain stands.", chain_info),
    method!("blockchain", "getblockcount", [], "The active chain's height; genesis has 0.", block_count),
    method!(
        "blockchain",
        "getblockhash",
        [Arg::req("height", Kind::Num, "The height")],
        "The hash of the active chain's block at a height.",
        block_hash
    ),
    method!(
        "blockchain",
        "getblockheader",
        [
            Arg::req("blockhash", Kind::Hex, "The block's hash"),
            Arg::def("verbose", Kind::Bool, "true", "false for hex"),
        ],
        "A block's header.",
        block_header
    ),
    method!("blockchain", "getchainstates", [], "The chainstates in use; this node has one.", chain_states),
    method!(
        "blockchain",
        "getchaintips",
        [],
        "The ends of all branches, the active chain's too.",
        chain_tips
    ),
    method!(
        "blockchain",
        "getchaintxstats",
        [
            Arg::opt("nblocks", Kind::Num, "Blocks to look at; a month's if not given"),
            Arg::opt("blockhash", Kind::Hex, "The last of them; the tip if not given"),
        ],
        "How many transactions the chain has, and how fast they come.",
        chain_tx_stats
    ),
    method!(
        "blockchain",
        "getdifficulty",
        [],
        "The tip's proof-of-work difficulty as a multiple of the least.",
        difficulty_of_tip
    ),
    method!(
        "blockchain",
        "waitforblock",
        [
            Arg::req("blockhash", Kind::Hex, "The block to wait for"),
            Arg::def("timeout", Kind::Num, "0", "Milliseconds to wait at most; 0 for ever"),
        ],
        "Waits until a block is the tip, and answers the tip.",
        wait_for_block
    ),
    method!(
        "blockchain",
        "waitforblockheight",
        [
            Arg::req("height", Kind::Num, "The height to wait for"),
            Arg::def("timeout", Kind::Num, "0", "Milliseconds to wait at most; 0 for ever"),
        ],
        "Waits until the chain is at least so high, and answers the tip.",
        wait_for_block_height
    ),
    method!(
        "blockchain",
        "waitfornewblock",
        [
            Arg::def("timeout", Kind::Num, "0", "Milliseconds to wait at most; 0 for ever"),
            Arg::opt(
                "current_tip",
                Kind::Hex,
                "The tip to wait for a change from; the present one if not given"
            ),
        ],
        "Waits until the tip changes, and answers it.",
        wait_for_new_block
    ),
    method!(
        "hidden",
        "syncwithvalidationinterfacequeue",
        [],
        "Waits until everything that follows the chain has seen what it did so far.",
        sync_with_followers
    ),
];

pub(crate) fn not_found() -> RpcError {
    RpcError::unknown("Block not found")
}

/// Proof-of-work difficulty as a multiple of the least (Core's `GetDifficulty`).
pub(crate) fn difficulty(bits: CompactTarget) -> f64 {
    let bits = bits.to_consensus();
    let mut shift = bits >> 24 & 0xff;
    let mut difficulty = f64::from(0x0000_ffff_u32) / f64::from(bits & 0x00ff_ffff);
    while shift < 29 {
        difficulty *= 256.0;
        shift += 1;
    }
    while shift > 29 {
        difficulty /= 256.0;
        shift -= 1;
    }
    difficulty
}

pub(crate) fn target_hex(bits: CompactTarget) -> String {
    target_from_bits(bits).map_or_else(String::new, |target| hex::encode(target.to_be_bytes()))
}

pub(crate) fn work_hex(work: Work) -> String {
    hex::encode(work.to_be_bytes())
}

pub(crate) fn bits_hex(bits: CompactTarget) -> String {
    format!("{:08x}", bits.to_consensus())
}

/// A header known to the node.
pub(crate) fn known_header(view: &ChainView, hash: &BlockHash) -> Result<HeaderInfo, RpcError> {
    view.header(hash).ok_or_else(not_found)
}

/// A block of the active chain by height, or any by hash (Core's `ParseHashOrHeight`).
pub(crate) fn hash_or_height(view: &ChainView, value: &Value) -> Result<HeaderInfo, RpcError> {
    if !value.is_number() {
        return known_header(view, &crate::call::hash(value, "hash_or_height")?);
    }
    let height = int32(value)?;
    let tip = view.tip().height.0;
    let wanted = u32::try_from(height)
        .map_err(|_| RpcError::parameter(format!("Target block height {height} is negative")))?;
    view.active_at(Height(wanted))
        .filter(|_| wanted <= tip)
        .ok_or_else(|| RpcError::parameter(format!("Target block height {height} after current tip {tip}")))
}

/// A block's place relative to one tip: how deep it is, and what follows it.
fn depth_and_next(view: &ChainView, tip: &HeaderInfo, info: &HeaderInfo) -> (i64, Option<BlockHash>) {
    if tip.hash == info.hash {
        return (1, None);
    }
    let next =
        view.ancestor(&tip.hash, info.height.next()).filter(|next| next.header.prev_blockhash == info.hash);
    match next {
        Some(next) => (i64::from(tip.height.0) - i64::from(info.height.0) + 1, Some(next.hash)),
        None => (-1, None),
    }
}

/// A header's members (Core's `blockheaderToJSON`), all relative to one tip.
pub(crate) fn header_object(view: &ChainView, tip: &HeaderInfo, info: &HeaderInfo) -> Object {
    let header = &info.header;
    let (confirmations, next) = depth_and_next(view, tip, info);
    let version = header.version.to_consensus();
    let mut out = Object::new();
    out.push("hash", info.hash.to_string());
    out.push("confirmations", confirmations);
    out.push("height", info.height.0);
    out.push("version", version);
    out.push("versionHex", format!("{:08x}", version.cast_unsigned()));
    out.push("merkleroot", header.merkle_root.to_string());
    out.push("time", header.time);
    out.push("mediantime", info.median_time_past);
    out.push("nonce", header.nonce);
    out.push("bits", bits_hex(header.bits));
    out.push("target", target_hex(header.bits));
    out.push("difficulty", json::real(difficulty(header.bits)));
    out.push("chainwork", work_hex(info.chainwork));
    out.push("nTx", info.tx_count);
    if info.height != Height::GENESIS {
        out.push("previousblockhash", header.prev_blockhash.to_string());
    }
    out.push_some("nextblockhash", next.map(|next| next.to_string()));
    out
}

pub(crate) fn read_error(error: ReadError) -> RpcError {
    match error {
        ReadError::NotStored => RpcError::misc("Block not available (not fully downloaded)"),
        ReadError::Pruned => RpcError::misc("Block not available (pruned data)"),
        ReadError::Store(_) | ReadError::Damaged(_) => RpcError::misc("Block not found on disk"),
    }
}

/// Reads a stored block off the runtime's workers.
pub(crate) async fn read_block(view: &ChainView, hash: BlockHash) -> Result<Arc<Block>, RpcError> {
    let view = view.clone();
    tokio::task::spawn_blocking(move || view.block(&hash))
        .await
        .map_err(|_| RpcError::internal("read failed"))?
        .map_err(read_error)
}

/// The coins a block spent, which must be stored (Core's `GetUndoChecked`).
pub(crate) fn checked_undo(view: &ChainView, info: &HeaderInfo) -> Result<Arc<BlockUndo>, RpcError> {
    if info.height == Height::GENESIS {
        return Ok(Arc::default());
    }
    view.undo(&info.hash).map_err(|error| {
        RpcError::misc(match error {
            ReadError::NotStored => "Undo data not available",
            ReadError::Pruned => "Undo data not available (pruned data)",
            ReadError::Store(_) | ReadError::Damaged(_) => "Can't read undo data from disk",
        })
    })
}

/// The coins a block spent, if they are stored.
pub(crate) async fn read_undo(view: &ChainView, hash: BlockHash) -> Result<Option<Arc<BlockUndo>>, RpcError> {
    let view = view.clone();
    let read = tokio::task::spawn_blocking(move || view.undo(&hash)).await;
    match read.map_err(|_| RpcError::internal("read failed"))? {
        Ok(undo) => Ok(Some(undo)),
        Err(ReadError::NotStored | ReadError::Pruned) => Ok(None),
        Err(ReadError::Store(_) | ReadError::Damaged(_)) => Err(RpcError::internal(
            "Undo data expected but can't be read. This could be due to disk corruption or a conflict with a pruning event.",
        )),
    }
}

async fn best_block_hash(call: Call) -> RpcResult {
    Ok(call.ctx.view().tip().hash.to_string().into())
}

async fn block_count(call: Call) -> RpcResult {
    Ok(call.ctx.view().tip().height.0.into())
}

async fn block_hash(call: Call) -> RpcResult {
    let height = call.params.int(0)?;
    u32::try_from(height)
        .ok()
        .and_then(|height| call.ctx.view().active_at(Height(height)))
        .map(|info| info.hash.to_string().into())
        .ok_or_else(|| RpcError::parameter("Block height out of range"))
}

async fn difficulty_of_tip(call: Call) -> RpcResult {
    Ok(json::real(difficulty(call.ctx.view().tip().header.bits)))
}

async fn block_header(call: Call) -> RpcResult {
    let hash = call.params.hash(0, "hash")?;
    let verbose = call.params.opt_bool(1)?.unwrap_or(true);
    let view = call.ctx.view();
    let tip = view.tip();
    let info = known_header(&view, &hash)?;
    if !verbose {
        return Ok(serialize_hex(&info.header).into());
    }
    Ok(header_object(&view, &tip, &info).into())
}

fn coinbase_object(block: &Block) -> Option<Object> {
    let tx = block.txdata.first()?;
    let input = tx.input.first()?;
    let mut out = Object::new();
    out.push("version", tx.version.0.cast_unsigned());
    out.push("locktime", tx.lock_time.to_consensus_u32());
    out.push("sequence", input.sequence.0);
    out.push("coinbase", hex::encode(input.script_sig.as_bytes()));
    out.push_some("witness", input.witness.nth(0).map(hex::encode));
    Some(out)
}

async fn block(call: Call) -> Answered {
    let hash: BlockHash = call.params.hash(0, "blockhash")?;
    let verbosity = call.params.verbosity(1, 1, true)?;
    let view = call.ctx.view();
    let tip = view.tip();
    let info = known_header(&view, &hash)?;
    if verbosity <= 0 {
        let reader = view.clone();
        let bytes = tokio::task::spawn_blocking(move || reader.block_bytes(&hash)).await;
        let bytes = bytes.map_err(|_| RpcError::internal("read failed"))?.map_err(read_error)?;
        return Ok(Reply::Hex(bytes.into()));
    }
    let block = read_block(&view, hash).await?;
    let undo = if verbosity >= 2 { read_undo(&view, hash).await? } else { None };
    let text = BlockText { verbosity, network: call.ctx.network(), undo };
    // A full block is some megabytes of text.
    let built = tokio::task::spawn_blocking(move || text.print(&view, &tip, &info, &block));
    let text = built.await.map_err(|_| RpcError::internal("block could not be printed"))?;
    Ok(Reply::Text(text.into()))
}

fn write_json(out: &mut Vec<u8>, value: &Value) {
    // Memory takes every byte, and a value with text keys only can be written.
    let _ = serde_json::to_writer(out, value);
}

/// How a block is printed (Core's `blockToJSON`).
pub(crate) struct BlockText {
    /// 1 for transaction ids, 2 for transactions, 3 for what they spend too.
    pub verbosity: i32,
    pub network: Network,
    /// What it spent, if that is known.
    pub undo: Option<Arc<BlockUndo>>,
}

impl BlockText {
    /// The block as JSON, all relative to one tip. Only one transaction at a time is a tree of values,
    /// which takes many times as much memory as its text.
    pub(crate) fn print(
        &self,
        view: &ChainView,
        tip: &HeaderInfo,
        info: &HeaderInfo,
        block: &Block,
    ) -> Vec<u8> {
        let mut out = header_object(view, tip, info);
        let weight = block.weight().to_wu();
        let size = block.total_size() as u64;
        out.push("strippedsize", weight.saturating_sub(size) / 3);
        out.push("size", size);
        out.push("weight", weight);
        out.push_some("coinbase_tx", coinbase_object(block));
        // The list comes last: it is written behind the members so far, in place of their brace.
        let mut text = Vec::with_capacity(self.text_bytes(block));
        write_json(&mut text, &out.into());
        text.pop();
        text.extend_from_slice(b",\"tx\":[");
        for (i, tx) in block.txdata.iter().enumerate() {
            if i > 0 {
                text.push(b',');
            }
            let value = if self.verbosity == 1 {
                tx.compute_txid().to_string().into()
            } else {
                let coins = i.checked_sub(1).and_then(|i| self.undo.as_ref()?.txs.get(i));
                let spent = coins.map(|coins| Spent { coins, show: self.verbosity >= 3 });
                tx_json::transaction(tx, self.network, true, spent.as_ref()).into()
            };
            write_json(&mut text, &value);
        }
        text.extend_from_slice(b"]}");
        text
    }

    /// About how long the text will be, so that it need not be moved as it grows.
    fn text_bytes(&self, block: &Block) -> usize {
        const HEADER: usize = 2_048;
        const TXID: usize = 67;
        let transactions = match self.verbosity {
            1 => block.txdata.len() * TXID,
            2 => block.total_size() * 6,
            _ => block.total_size() * 8,
        };
        HEADER + transactions
    }
}

/// `warnings` as a list, or with `-deprecatedrpc=warnings` as one text.
pub(crate) fn warnings(ctx: &ApiContext) -> Value {
    let mut warnings = ctx.facts.warnings.clone();
    warnings.extend(ctx.view().warnings().messages());
    if ctx.facts.deprecated.contains("warnings") {
        return warnings.pop().unwrap_or_default().into();
    }
    warnings.into()
}

async fn chain_info(call: Call) -> RpcResult {
    let ctx = &call.ctx;
    let view = ctx.view();
    let tip = view.tip();
    let mut out = Object::new();
    out.push("chain", ctx.params.chain_name);
    out.push("blocks", tip.height.0);
    out.push("headers", view.best_header().height.0);
    out.push("bestblockhash", tip.hash.to_string());
    out.push("bits", bits_hex(tip.header.bits));
    out.push("target", target_hex(tip.header.bits));
    out.push("difficulty", json::real(difficulty(tip.header.bits)));
    out.push("time", tip.header.time);
    out.push("mediantime", tip.median_time_past);
    out.push("verificationprogress", json::real(view.verification_progress(&tip.hash).unwrap_or(0.0)));
    out.push("initialblockdownload", view.is_initial_block_download());
    out.push("chainwork", work_hex(tip.chainwork));
    out.push("size_on_disk", view.size_on_disk());
    let prune = view.prune_mode();
    out.push("pruned", prune.is_some());
    if let Some(prune) = prune {
        out.push("pruneheight", view.prune_height().map_or(0, |height| height.0 + 1));
        out.push("automatic_pruning", matches!(prune, Prune::Automatic(_)));
        if let Prune::Automatic(target) = prune {
            out.push("prune_target_size", target);
        }
    }
    out.push_some(
        "signet_challenge",
        ctx.params.signet_challenge.as_ref().map(|challenge| hex::encode(challenge.as_bytes())),
    );
    out.push("warnings", warnings(ctx));
    Ok(out.into())
}

async fn chain_states(call: Call) -> RpcResult {
    let view = call.ctx.view();
    let tip = view.tip();
    let mut state = Object::new();
    state.push("blocks", tip.height.0);
    state.push("bestblockhash", tip.hash.to_string());
    state.push("bits", bits_hex(tip.header.bits));
    state.push("target", target_hex(tip.header.bits));
    state.push("difficulty", json::real(difficulty(tip.header.bits)));
    state.push("verificationprogress", json::real(view.verification_progress(&tip.hash).unwrap_or(0.0)));
    // The database's own cache is counted with the coins'.
    state.push("coins_db_cache_bytes", 0);
    state.push("coins_tip_cache_bytes", view.coin_cache_size().0);
    state.push("validated", true);
    let mut out = Object::new();
    out.push("headers", view.best_header().height.0);
    out.push("chainstates", vec![Value::from(state)]);
    Ok(out.into())
}

async fn chain_tips(call: Call) -> RpcResult {
    let mut tips = call.ctx.view().chain_tips();
    // Highest first, and of one height in the order of their hashes.
    tips.sort_by_key(|tip| (std::cmp::Reverse(tip.header.height), tip.header.hash));
    let tips = tips.into_iter().map(|tip| {
        let mut out = Object::new();
        out.push("height", tip.header.height.0);
        out.push("hash", tip.header.hash.to_string());
        out.push("branchlen", tip.branch_len);
        out.push("status", tip.status.name());
        Value::from(out)
    });
    Ok(tips.collect())
}

async fn chain_tx_stats(call: Call) -> RpcResult {
    const MONTH: i64 = 30 * 24 * 60 * 60;
    let view = call.ctx.view();
    let last = if call.params.given(1) {
        let info = known_header(&view, &call.params.hash(1, "blockhash")?)?;
        if !info.active {
            return Err(RpcError::parameter("Block is not in main chain"));
        }
        info
    } else {
        view.tip()
    };
    let height = i64::from(last.height.0);
    let count = match call.params.opt_int(0)? {
        None => (MONTH / call.ctx.params.pow_target_spacing).min(height - 1).max(0),
        Some(count) => {
            let count = i64::from(count);
            if count < 0 || (count > 0 && count >= height) {
                return Err(RpcError::parameter(
                    "Invalid block count: should be between 0 and the block's height - 1",
                ));
            }
            count
        }
    };
    let first_height = Height(u32::try_from(height - count).unwrap_or(0));
    let first = view.ancestor(&last.hash, first_height).ok_or_else(not_found)?;
    let interval = last.median_time_past - first.median_time_past;
    let total = |info: &HeaderInfo| view.chain_tx_count(&info.hash).filter(|count| *count > 0);
    let (last_total, first_total) = (total(&last), total(&first));
    let mut out = Object::new();
    out.push("time", last.header.time);
    out.push_some("txcount", last_total);
    out.push("window_final_block_hash", last.hash.to_string());
    out.push("window_final_block_height", height);
    out.push("window_block_count", count);
    if count > 0 {
        out.push("window_interval", interval);
        if let (Some(last_total), Some(first_total)) = (last_total, first_total) {
            let transactions = last_total.saturating_sub(first_total);
            out.push("window_tx_count", transactions);
            if interval > 0 {
                out.push("txrate", json::real(transactions as f64 / interval as f64));
            }
        }
    }
    Ok(out.into())
}

/// Waits until `done` holds of the tip, the time is up, or the node stops; answers the tip.
async fn wait_for_tip(call: &Call, timeout: i32, done: impl Fn(&HeaderInfo) -> bool) -> RpcResult {
    let millis = u64::try_from(timeout).map_err(|_| RpcError::misc("Negative timeout"))?;
    let (mut follower, mut tip) = call.ctx.chain.events();
    let wait = async {
        while !done(&tip) {
            match follower.next().await {
                // Answered only once everybody else sees this tip too.
                Followed::Event(event) => call.ctx.wait_for_followers(event.seq).await,
                Followed::Lagged { seq, .. } => call.ctx.wait_for_followers(seq).await,
                Followed::Closed => break,
            }
            tip = call.ctx.view().tip();
        }
    };
    let limited = async {
        if millis == 0 {
            wait.await;
        } else {
            // Running out of time is an answer too.
            let _ = tokio::time::timeout(Duration::from_millis(millis), wait).await;
        }
    };
    tokio::select! {
        () = limited => {}
        () = call.ctx.shutdown.cancelled() => {}
    }
    let tip = call.ctx.view().tip();
    let mut out = Object::new();
    out.push("hash", tip.hash.to_string());
    out.push("height", tip.height.0);
    Ok(out.into())
}

async fn wait_for_new_block(call: Call) -> RpcResult {
    let timeout = call.params.opt_int(0)?.unwrap_or(0);
    let from: BlockHash =
        if call.params.given(1) { call.params.hash(1, "current_tip")? } else { call.ctx.view().tip().hash };
    wait_for_tip(&call, timeout, |tip| tip.hash != from).await
}

async fn wait_for_block(call: Call) -> RpcResult {
    let hash: BlockHash = call.params.hash(0, "blockhash")?;
    let timeout = call.params.opt_int(1)?.unwrap_or(0);
    wait_for_tip(&call, timeout, |tip| tip.hash == hash).await
}

async fn wait_for_block_height(call: Call) -> RpcResult {
    let height = call.params.int(0)?;
    let timeout = call.params.opt_int(1)?.unwrap_or(0);
    wait_for_tip(&call, timeout, |tip| i64::from(tip.height.0) >= i64::from(height)).await
}

async fn sync_with_followers(call: Call) -> RpcResult {
    call.ctx.settle_indexes().await;
    Ok(Value::Null)
}

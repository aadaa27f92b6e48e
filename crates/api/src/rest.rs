//! REST: chain, blocks and mempool to read without a password (`rest.cpp`). Answers without
//! waiting for validation, and prints large ones off the runtime's workers.

use std::str::FromStr;
use std::sync::Arc;

use bitcoin::consensus::encode::{Decodable, VarInt, serialize};
use bitcoin::{BlockHash, OutPoint, TxOut, Txid};
use bytes::Bytes;
use ironpeer_chain::{ChainView, ReadError};
use ironpeer_consensus::decode_block;
use ironpeer_index::FilterIndex;
use ironpeer_primitives::{BlockUndo, ChainRead, HeaderInfo, Height};
use serde_json::{Value, json};

use crate::body::{Pieces, ReplyBody};
use crate::context::ApiContext;
use crate::dialect::Door;
use crate::error::RpcError;
use crate::json::{self, Object};
use crate::limits::{REST_HEADERS, REST_OUTPOINTS};
use crate::methods::blockchain::{BlockText, header_object};
use crate::methods::rawtx::indexed_tx;
use crate::tx_json;

/// An answer before it is HTTP.
#[derive(Debug)]
pub(crate) struct RestReply {
    pub status: u16,
    pub content_type: &'static str,
    pub body: ReplyBody,
}

/// A refusal: HTTP status and Core's text.
struct Refusal(u16, String);

type Outcome = Result<RestReply, Refusal>;

fn bad_request(text: impl Into<String>) -> Refusal {
    Refusal(400, text.into())
}

fn not_found(text: impl Into<String>) -> Refusal {
    Refusal(404, text.into())
}

impl From<RpcError> for Refusal {
    /// Core lets these through as exceptions it does not know.
    fn from(_: RpcError) -> Self {
        Self(500, "unknown error".into())
    }
}

/// What comes after the last dot of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Binary,
    Hex,
    Json,
    Unknown,
}

/// The part of the target after the prefix, taken apart.
struct Asked<'a> {
    path: &'a str,
    format: Format,
    query: &'a str,
}

impl<'a> Asked<'a> {
    /// Core's `ParseDataFormat`: the query goes first, then what names a format.
    fn new(rest: &'a str) -> Self {
        let whole = rest.rsplit_once('?').map_or(rest, |(path, _)| path);
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let (path, format) = match whole.rsplit_once('.') {
            Some((path, "bin")) => (path, Format::Binary),
            Some((path, "hex")) => (path, Format::Hex),
            Some((path, "json")) => (path, Format::Json),
            Some((path, "")) => (path, Format::Unknown),
            _ => (whole, Format::Unknown),
        };
        Self { path, format, query }
    }

    /// A parameter of the query; the first of its name counts.
    fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (url_decoded(key) == name).then(|| url_decoded(value))
        })
    }

    /// The answer in one of the three formats.
    async fn all_formats(
        &self,
        bytes: impl FnOnce() -> Vec<u8>,
        value: impl FnOnce() -> Value + Send + 'static,
    ) -> Outcome {
        match self.format {
            Format::Binary => Ok(binary(bytes())),
            Format::Hex => Ok(hex_text(bytes())),
            Format::Json => json_text(value).await,
            Format::Unknown => Err(not_found("output format not found (available: .bin, .hex, .json)")),
        }
    }

    fn json_only(&self) -> Result<(), Refusal> {
        match self.format {
            Format::Json => Ok(()),
            _ => Err(not_found("output format not found (available: json)")),
        }
    }
}

/// `%41` becomes `A`; a percent sign that begins nothing stays.
fn url_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        let digits = if byte == b'%' { rest.split_at_checked(2) } else { None };
        let decoded = digits.and_then(|(digits, rest)| Some((hex::decode(digits).ok()?, rest)));
        match decoded {
            Some((decoded, rest)) => {
                out.extend(decoded);
                bytes = rest;
            }
            None => {
                out.push(byte);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Digits only, as Core's `ToIntegral` of an unsigned type.
fn unsigned<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn hash<H: FromStr>(text: &str) -> Result<H, Refusal> {
    text.parse().map_err(|_| bad_request(format!("Invalid hash: {text}")))
}

const fn reply(content_type: &'static str, body: ReplyBody) -> RestReply {
    RestReply { status: 200, content_type, body }
}

fn binary(bytes: Vec<u8>) -> RestReply {
    reply("application/octet-stream", ReplyBody::whole(bytes))
}

fn hex_text(bytes: Vec<u8>) -> RestReply {
    reply("text/plain", ReplyBody::hex(bytes))
}

fn printed(value: &Value) -> RestReply {
    let mut text = value.to_string();
    text.push('\n');
    reply("application/json", ReplyBody::whole(text))
}

/// Builds and prints a value that may be large.
async fn json_text(value: impl FnOnce() -> Value + Send + 'static) -> Outcome {
    let run = tokio::task::spawn_blocking(move || printed(&value()));
    run.await.map_err(|_| Refusal(500, "unknown error".into()))
}

/// Runs what reads files off the runtime's workers.
async fn reading<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(read).await.map_err(|_| Refusal(500, "unknown error".into()))
}

/// Answers a request, or `None` if there is nothing at this place. `target` is path and query.
pub(crate) async fn answer(door: &Arc<Door>, target: &str, body: &Bytes) -> Option<RestReply> {
    let rest = target.strip_prefix("/rest/")?;
    // Core's prefixes in its order: the first that fits takes the request.
    let prefixes = [
        "tx/",
        "block/notxdetails/",
        "block/",
        "blockpart/",
        "blockfilter/",
        "blockfilterheaders/",
        "chaininfo",
        "mempool/",
        "headers/",
        "getutxos",
        "deploymentinfo/",
        "deploymentinfo",
        "blockhashbyheight/",
        "spenttxouts/",
    ];
    let (prefix, rest) = prefixes.iter().find_map(|prefix| Some((*prefix, rest.strip_prefix(prefix)?)))?;
    let asked = Asked::new(rest);
    let outcome = match door.context() {
        Err(warming) => Err(Refusal(503, format!("Service temporarily unavailable: {}", warming.message))),
        Ok(ctx) => match prefix {
            "tx/" => transaction(ctx, &asked).await,
            "block/notxdetails/" => block(ctx, &asked, Some(1), None).await,
            "block/" => block(ctx, &asked, Some(3), None).await,
            "blockpart/" => block_part(ctx, &asked).await,
            "blockfilter/" => block_filter(ctx, &asked).await,
            "blockfilterheaders/" => filter_headers(ctx, &asked).await,
            "chaininfo" => called(door, &asked, "getblockchaininfo", json!([])).await,
            "mempool/" => mempool(door, &asked).await,
            "headers/" => headers(ctx, &asked).await,
            "getutxos" => unspent(ctx, &asked, body).await,
            "blockhashbyheight/" => block_hash(ctx, &asked).await,
            "spenttxouts/" => spent_outputs(ctx, &asked).await,
            _ => deployments(door, ctx, &asked).await,
        },
    };
    Some(outcome.unwrap_or_else(|Refusal(status, text)| RestReply {
        status,
        content_type: "text/plain",
        body: ReplyBody::whole(text + "\r\n"),
    }))
}

/// The answer of a JSON-RPC method.
async fn called(door: &Arc<Door>, asked: &Asked<'_>, method: &str, params: Value) -> Outcome {
    asked.json_only()?;
    let mut text = Pieces::default();
    door.execute(method, &params, &[]).await?.write(&mut text).await;
    text.text("\n");
    Ok(reply("application/json", text.into()))
}

async fn transaction(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    let txid: Txid = hash(asked.path)?;
    if let Some(index) = &ctx.indexes.tx {
        index.handle().wait_synced().await;
    }
    let (tx, block) = match ctx.mempool.tx(&txid) {
        Some(tx) => (tx, None),
        None => {
            let indexed = indexed_tx(ctx, txid).await?;
            let (info, tx) = indexed.ok_or_else(|| not_found(format!("{} not found", asked.path)))?;
            (Arc::new(tx), Some(info.hash))
        }
    };
    let (bytes, network) = (Arc::clone(&tx), ctx.network());
    asked
        .all_formats(
            || serialize(&*bytes),
            move || tx_json::transaction_in(&tx, network, block.as_ref()).into(),
        )
        .await
}

/// A header that is known, with Core's text if it is not.
fn known(view: &ChainView, text: &str) -> Result<HeaderInfo, Refusal> {
    let hash: BlockHash = hash(text)?;
    view.header(&hash).ok_or_else(|| not_found(format!("{text} not found")))
}

/// A block, or `part` of it (offset and size, bytes). Without a verbosity there is no JSON.
async fn block(
    ctx: &ApiContext,
    asked: &Asked<'_>,
    verbosity: Option<i32>,
    part: Option<(usize, usize)>,
) -> Outcome {
    let view = ctx.view();
    let tip = view.tip();
    let info = known(&view, asked.path)?;
    let reader = view.clone();
    let bytes = match reading(move || reader.block_bytes(&info.hash)).await? {
        Ok(bytes) => bytes,
        Err(ReadError::NotStored) => {
            return Err(not_found(format!("{} not available (not fully downloaded)", asked.path)));
        }
        Err(ReadError::Pruned) => {
            return Err(not_found(format!("{} not available (pruned data)", asked.path)));
        }
        Err(ReadError::Store(_) | ReadError::Damaged(_)) => {
            return Err(Refusal(500, format!("I/O error reading {}", asked.path)));
        }
    };
    let bytes = match part {
        None => bytes,
        Some((offset, size)) => {
            let end = offset.checked_add(size).filter(|_| size > 0);
            let part = end.and_then(|end| bytes.get(offset..end)).ok_or_else(|| {
                bad_request(format!("Bad block part offset/size {offset}/{size} for {}", asked.path))
            })?;
            part.to_vec()
        }
    };
    let Some(verbosity) = verbosity.filter(|_| asked.format == Format::Json) else {
        if asked.format == Format::Json {
            return Err(bad_request("JSON output is not supported for this request type"));
        }
        return asked.all_formats(|| bytes, || Value::Null).await;
    };
    let undo = if verbosity > 1 { Some(Box::pin(undo(&view, info.hash)).await?) } else { None };
    let network = ctx.network();
    let built = reading(move || {
        let block = decode_block(&bytes).map_err(|_| Refusal(500, "unknown error".into()))?;
        let text = BlockText { verbosity, network, undo: undo.flatten() };
        let mut text = text.print(&view, &tip, &info, &block);
        text.push(b'\n');
        Ok(reply("application/json", ReplyBody::whole(text)))
    });
    built.await?
}

/// What a block spent, if that is stored.
async fn undo(view: &ChainView, hash: BlockHash) -> Result<Option<Arc<BlockUndo>>, Refusal> {
    let view = view.clone();
    match reading(move || view.undo(&hash)).await? {
        Ok(undo) => Ok(Some(undo)),
        Err(ReadError::NotStored | ReadError::Pruned) => Ok(None),
        Err(ReadError::Store(_) | ReadError::Damaged(_)) => Err(Refusal(
            500,
            "Undo data expected but can't be read. This could be due to disk corruption or a conflict with a pruning event.".into(),
        )),
    }
}

async fn block_part(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    let number = |name: &str| {
        let text = asked.parameter(name).unwrap_or_default();
        unsigned::<usize>(&text).ok_or_else(|| bad_request(format!("Block part {name} missing or invalid")))
    };
    let part = (number("offset")?, number("size")?);
    block(ctx, asked, None, Some(part)).await
}

/// A count of headers in the query, or in the path as older clients put it.
fn header_count(text: &str) -> Result<usize, Refusal> {
    unsigned(text).filter(|count| (1..=REST_HEADERS).contains(count)).ok_or_else(|| {
        bad_request(format!("Header count is invalid or out of acceptable range (1-{REST_HEADERS}): {text}"))
    })
}

/// The index of a kind of filter, or what is wrong with the kind.
fn filters(ctx: &ApiContext, kind: &str) -> Result<FilterIndex, Refusal> {
    match kind {
        "basic" => ctx
            .indexes
            .filters
            .clone()
            .ok_or_else(|| bad_request("Index is not enabled for filtertype basic")),
        _ => Err(bad_request(format!("Unknown filtertype {kind}"))),
    }
}

/// Why a filter that should be there is not.
fn no_filter(ready: bool) -> Refusal {
    not_found(if ready {
        "Filter not found. This error is unexpected and indicates index corruption."
    } else {
        "Filter not found. Block filters are still in the process of being indexed."
    })
}

async fn filter_headers(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    let parts: Vec<&str> = asked.path.split('/').collect();
    let (kind, count, block) = match parts.as_slice() {
        [kind, count, block] => (kind, (*count).to_owned(), block),
        [kind, block] => (kind, asked.parameter("count").unwrap_or_else(|| "5".into()), block),
        _ => {
            return Err(bad_request(
                "Invalid URI format. Expected /rest/blockfilterheaders/<filtertype>/<blockhash>.<ext>?count=<count>",
            ));
        }
    };
    let count = header_count(&count)?;
    let first: BlockHash = hash(block)?;
    let index = filters(ctx, kind)?;
    let list = chain_from(&ctx.view(), &first, count);
    let ready = index.handle().wait_synced().await;
    let read = reading(move || {
        list.into_iter()
            .map(|info| Ok(index.header(info.height, &info.hash).ok().flatten().ok_or(())?.header))
            .collect::<Result<Vec<_>, ()>>()
    });
    let headers = read.await?.map_err(|()| no_filter(ready))?;
    let bytes = headers.iter().flat_map(serialize).collect();
    asked
        .all_formats(|| bytes, move || headers.iter().map(|header| Value::from(header.to_string())).collect())
        .await
}

async fn block_filter(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    let parts: Vec<&str> = asked.path.split('/').collect();
    let [kind, block] = parts.as_slice() else {
        return Err(bad_request("Invalid URI format. Expected /rest/blockfilter/<filtertype>/<blockhash>"));
    };
    hash::<BlockHash>(block)?;
    let index = filters(ctx, kind)?;
    let info = known(&ctx.view(), block)?;
    let ready = index.handle().wait_synced().await;
    let found = reading(move || index.filter(info.height, &info.hash).ok().flatten()).await?;
    let filter = found.ok_or_else(|| {
        if info.fully_valid {
            no_filter(ready)
        } else {
            not_found("Filter not found. Block was not connected to active chain.")
        }
    })?;
    // As a `cfilter` message has it: kind, block, filter.
    let mut bytes = vec![0];
    bytes.extend(serialize(&info.hash));
    bytes.extend(serialize(&filter.content));
    asked.all_formats(|| bytes, move || json!({ "filter": hex::encode(filter.content) })).await
}

/// At most `count` blocks of the active chain from `first` on, all of one chain whatever happens
/// to the tip meanwhile.
fn chain_from(view: &ChainView, first: &BlockHash, count: usize) -> Vec<HeaderInfo> {
    let tip = view.tip();
    let found = view.header(first).filter(|info| {
        view.ancestor(&tip.hash, info.height).is_some_and(|ancestor| ancestor.hash == info.hash)
    });
    let heights = found.map(|info| info.height.0..=tip.height.0).into_iter().flatten();
    heights.take(count).map_while(|height| view.ancestor(&tip.hash, Height(height))).collect()
}

async fn headers(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    let parts: Vec<&str> = asked.path.split('/').collect();
    let (count, block) = match parts.as_slice() {
        [count, block] => ((*count).to_owned(), block),
        [block] => (asked.parameter("count").unwrap_or_else(|| "5".into()), block),
        _ => {
            return Err(bad_request("Invalid URI format. Expected /rest/headers/<hash>.<ext>?count=<count>"));
        }
    };
    let count = header_count(&count)?;
    let first: BlockHash = hash(block)?;
    let view = ctx.view();
    let tip = view.tip();
    let list = chain_from(&view, &first, count);
    let bytes = list.iter().flat_map(|info| serialize(&info.header)).collect();
    asked
        .all_formats(
            || bytes,
            move || list.iter().map(|info| Value::from(header_object(&view, &tip, info))).collect(),
        )
        .await
}

async fn mempool(door: &Arc<Door>, asked: &Asked<'_>) -> Outcome {
    let contents = match asked.path {
        "contents" => true,
        "info" => false,
        _ => {
            return Err(bad_request("Invalid URI format. Expected /rest/mempool/<info|contents>.json"));
        }
    };
    if !contents {
        return called(door, asked, "getmempoolinfo", json!([])).await;
    }
    asked.json_only()?;
    let flag = |name: &str, default: bool| match asked.parameter(name).as_deref() {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => {
            Err(bad_request(format!("The \"{name}\" query parameter must be either \"true\" or \"false\".")))
        }
    };
    let verbose = flag("verbose", true)?;
    let sequence = flag("mempool_sequence", false)?;
    if verbose && sequence {
        return Err(bad_request(
            "Verbose results cannot contain mempool sequence values. (hint: set \"verbose=false\")",
        ));
    }
    called(door, asked, "getrawmempool", json!([verbose, sequence])).await
}

/// `txid-n`.
fn outpoint(text: &str) -> Option<OutPoint> {
    let (txid, vout) = text.split_once('-')?;
    Some(OutPoint { txid: txid.parse().ok()?, vout: unsigned(vout)? })
}

/// `checkmempool`, then a list of outpoints, as BIP64 writes them.
fn outpoints_of(mut bytes: &[u8]) -> Option<(bool, Vec<OutPoint>)> {
    let check_mempool = u8::consensus_decode(&mut bytes).ok()? != 0;
    let count = VarInt::consensus_decode(&mut bytes).ok()?.0;
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(OutPoint::consensus_decode(&mut bytes).ok()?);
    }
    Some((check_mempool, list))
}

/// Height given to the outputs of the mempool (Core's `MEMPOOL_HEIGHT`).
const MEMPOOL_HEIGHT: u32 = 0x7fff_ffff;

async fn unspent(ctx: &ApiContext, asked: &Asked<'_>, body: &Bytes) -> Outcome {
    let empty = || bad_request("Error: empty request");
    let parse = || bad_request("Parse error");
    let mut parts: Vec<&str> = match asked.path.split_at_checked(1) {
        Some((_, path)) if !path.is_empty() => path.split('/').collect(),
        _ => Vec::new(),
    };
    if body.is_empty() && parts.is_empty() {
        return Err(empty());
    }
    let in_path = !parts.is_empty();
    let mut check_mempool = parts.first() == Some(&"checkmempool");
    if check_mempool {
        parts.remove(0);
    }
    let mut wanted = parts.iter().map(|part| outpoint(part)).collect::<Option<Vec<_>>>().ok_or_else(parse)?;
    if in_path && wanted.is_empty() {
        return Err(empty());
    }
    let data = match asked.format {
        Format::Json | Format::Unknown => None,
        Format::Binary => Some(body.to_vec()),
        Format::Hex => {
            let digits: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            // What is no hex counts as nothing.
            Some(hex::decode(digits).unwrap_or_default())
        }
    };
    match data.filter(|data| !data.is_empty()) {
        Some(_) if in_path => {
            return Err(bad_request("Combination of URI scheme inputs and raw post data is not allowed"));
        }
        Some(data) => (check_mempool, wanted) = outpoints_of(&data).ok_or_else(parse)?,
        None if asked.format == Format::Json && !in_path => return Err(empty()),
        None => {}
    }
    if asked.format != Format::Unknown && wanted.len() > REST_OUTPOINTS {
        return Err(bad_request(format!(
            "Error: max outpoints exceeded (max: {REST_OUTPOINTS}, tried: {})",
            wanted.len()
        )));
    }
    let (view, mempool, network) = (ctx.view(), ctx.mempool.clone(), ctx.network());
    let outpoints = wanted.clone();
    let (tip, coins) = reading(move || {
        let (tip, coins) = view.coins(&outpoints);
        (view.header(&tip), coins)
    })
    .await?;
    let tip = tip.ok_or_else(|| Refusal(500, "unknown error".into()))?;
    let found: Vec<Option<(u32, TxOut)>> = wanted
        .iter()
        .zip(coins)
        .map(|(outpoint, coin)| {
            if check_mempool && mempool.spender(outpoint).is_some() {
                return None;
            }
            let pooled = || {
                let tx = mempool.tx(&outpoint.txid).filter(|_| check_mempool)?;
                let output = tx.output.get(usize::try_from(outpoint.vout).ok()?)?.clone();
                Some((MEMPOOL_HEIGHT, output))
            };
            coin.map(|coin| (coin.height.0, coin.output)).or_else(pooled)
        })
        .collect();
    let bits = found.chunks(8).map(|bits| {
        let bits = bits.iter().enumerate();
        bits.filter(|(_, hit)| hit.is_some()).fold(0u8, |byte, (i, _)| byte | 1 << i)
    });
    let (bitmap, drawn): (Vec<u8>, String) =
        (bits.collect(), found.iter().map(|hit| if hit.is_some() { '1' } else { '0' }).collect());
    let hits: Vec<(u32, TxOut)> = found.into_iter().flatten().collect();
    let mut bytes = serialize(&tip.height.0);
    bytes.extend(serialize(&tip.hash));
    bytes.extend(serialize(&bitmap));
    bytes.extend(serialize(&VarInt(hits.len() as u64)));
    for (height, output) in &hits {
        // BIP64 has a transaction version here, which is not kept.
        bytes.extend(serialize(&(0u32, *height)));
        bytes.extend(serialize(output));
    }
    asked
        .all_formats(
            || bytes,
            move || {
                let mut out = Object::new();
                out.push("chainHeight", tip.height.0);
                out.push("chaintipHash", tip.hash.to_string());
                out.push("bitmap", drawn);
                let utxos = hits.into_iter().map(|(height, output)| {
                    let mut utxo = Object::new();
                    utxo.push("height", height);
                    utxo.extend(output_object(&output, network));
                    Value::from(utxo)
                });
                out.push("utxos", utxos.collect::<Vec<_>>());
                out.into()
            },
        )
        .await
}

fn output_object(output: &TxOut, network: bitcoin::Network) -> Object {
    let mut out = Object::new();
    out.push("value", json::amount(output.value));
    out.push("scriptPubKey", tx_json::script_pub_key(&output.script_pubkey, network));
    out
}

async fn deployments(door: &Arc<Door>, ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    asked.json_only()?;
    if asked.path.is_empty() {
        return called(door, asked, "getdeploymentinfo", json!([])).await;
    }
    let block: BlockHash = hash(asked.path)?;
    ctx.view().header(&block).ok_or_else(|| bad_request("Block not found"))?;
    called(door, asked, "getdeploymentinfo", json!([asked.path])).await
}

async fn block_hash(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    let height =
        unsigned::<u32>(asked.path).filter(|height| i32::try_from(*height).is_ok()).ok_or_else(|| {
            let safe = |c: &char| c.is_ascii_alphanumeric() || "!*'();:@&=+$,/?#[]-_.~%".contains(*c);
            let text: String = asked.path.chars().filter(safe).collect();
            bad_request(format!("Invalid height: {text}"))
        })?;
    let info = ctx.view().active_at(Height(height)).ok_or_else(|| not_found("Block height out of range"))?;
    let text = info.hash.to_string();
    if asked.format == Format::Hex {
        // As it is printed, not as its bytes lie.
        return Ok(reply("text/plain", ReplyBody::whole(text + "\n")));
    }
    asked.all_formats(|| serialize(&info.hash), move || json!({ "blockhash": text })).await
}

async fn spent_outputs(ctx: &ApiContext, asked: &Asked<'_>) -> Outcome {
    if asked.path.contains('/') {
        return Err(bad_request("Invalid URI format. Expected /rest/spenttxouts/<hash>.<ext>"));
    }
    let view = ctx.view();
    let info = known(&view, asked.path)?;
    let undo = if info.height == Height::GENESIS {
        Arc::default()
    } else {
        let undo = undo(&view, info.hash).await.ok().flatten();
        undo.ok_or_else(|| not_found(format!("{} undo not available", asked.path)))?
    };
    let network = ctx.network();
    let counts = Arc::clone(&undo);
    // The coinbase spends nothing and stands first.
    asked
        .all_formats(
            move || {
                let mut bytes = serialize(&VarInt(counts.txs.len() as u64 + 1));
                bytes.push(0);
                for coins in &counts.txs {
                    bytes.extend(serialize(&VarInt(coins.len() as u64)));
                    bytes.extend(coins.iter().flat_map(|coin| serialize(&coin.output)));
                }
                bytes
            },
            move || {
                let spent = undo.txs.iter().map(|coins| {
                    let coins = coins.iter().map(|coin| Value::from(output_object(&coin.output, network)));
                    Value::from(coins.collect::<Vec<_>>())
                });
                std::iter::once(Value::Array(Vec::new())).chain(spent).collect()
            },
        )
        .await
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;

use std::sync::Arc;

use bitcoin::MerkleBlock;
use bitcoin::bip152::ShortId;
use bitcoin::block::Header;
use bitcoin::consensus::Decodable;
use bitcoin::p2p::ServiceFlags;

use crate::limits::{
    MAX_COMPACT_BLOCK_TXS, MAX_FEATURE_DATA_BYTES, MAX_FEATURE_ID_BYTES, MAX_HEADERS, MAX_USER_AGENT_BYTES,
    MIN_FEATURE_ID_BYTES,
};
use crate::transaction::header;
use crate::{
    BlockTxn, BlockTxnRequest, BloomFilter, CFCheckpoints, CFHeaders, CFilter, CFilterRange, Command,
    CompactBlock, DecodeError, Feature, InvType, Inventory, Locator, Malformed, Message, PeerAddress,
    PrefilledTx, Reader, SendCmpct, SendTxRcncl, Service, Version, decode_block, decode_transaction,
};

impl Message {
    /// Gives a payload its meaning. Whatever follows what the type needs is ignored, as in Core.
    #[must_use]
    pub fn decode(command: Command, payload: Vec<u8>) -> Self {
        match decode_known(command, &payload) {
            Ok(Some(message)) => message,
            Ok(None) => Self::Unknown { command, payload },
            Err(error) => Self::Malformed(Malformed { command, payload, error }),
        }
    }
}

fn decode_known(command: Command, payload: &[u8]) -> Result<Option<Message>, DecodeError> {
    let r = &mut Reader::new(payload);
    let Some(name) = command.known() else { return Ok(None) };
    Ok(Some(match name {
        "version" => Message::Version(version(r)?),
        "verack" => Message::Verack,
        "addr" => Message::Addr(r.list(PeerAddress::read_v1)?),
        "addrv2" => Message::AddrV2(r.list(PeerAddress::read_v2)?),
        "sendaddrv2" => Message::SendAddrV2,
        "inv" => Message::Inv(r.list(inventory)?),
        "getdata" => Message::GetData(r.list(inventory)?),
        "notfound" => Message::NotFound(r.list(inventory)?),
        "merkleblock" => Message::MerkleBlock(merkle_block(r)?),
        "getblocks" => Message::GetBlocks(locator(r)?),
        "getheaders" => Message::GetHeaders(locator(r)?),
        "tx" => Message::Tx(Arc::new(decode_transaction(r)?)),
        "headers" => Message::Headers(headers(r)?),
        "block" => Message::Block(Arc::new(decode_block(r)?)),
        "getaddr" => Message::GetAddr,
        "mempool" => Message::Mempool,
        "ping" => Message::Ping(r.u64()?),
        "pong" => Message::Pong(r.u64().ok()),
        "filterload" => Message::FilterLoad(BloomFilter {
            data: r.var_bytes()?.to_vec(),
            hash_funcs: r.u32()?,
            tweak: r.u32()?,
            flags: r.u8()?,
        }),
        "filteradd" => Message::FilterAdd(r.var_bytes()?.to_vec()),
        "filterclear" => Message::FilterClear,
        "sendheaders" => Message::SendHeaders,
        "feefilter" => Message::FeeFilter(r.i64()?),
        "sendcmpct" => Message::SendCmpct(SendCmpct { announce: r.u8()?, version: r.u64()? }),
        "cmpctblock" => Message::CmpctBlock(compact_block(r)?),
        "getblocktxn" => {
            Message::GetBlockTxn(BlockTxnRequest { block_hash: r.hash()?, indexes: rising_indexes(r)? })
        }
        "blocktxn" => Message::BlockTxn(BlockTxn {
            block_hash: r.hash()?,
            txs: r.list(|r| decode_transaction(r).map(Arc::new))?,
        }),
        "getcfilters" => Message::GetCFilters(filter_range(r)?),
        "cfilter" => Message::CFilter(CFilter {
            filter_type: r.u8()?,
            block_hash: r.hash()?,
            filter: r.var_bytes()?.to_vec(),
        }),
        "getcfheaders" => Message::GetCFHeaders(filter_range(r)?),
        "cfheaders" => Message::CFHeaders(CFHeaders {
            filter_type: r.u8()?,
            stop_hash: r.hash()?,
            previous_header: r.hash()?,
            hashes: r.list(Reader::hash)?,
        }),
        "getcfcheckpt" => Message::GetCFCheckpt { filter_type: r.u8()?, stop_hash: r.hash()? },
        "cfcheckpt" => Message::CFCheckpt(CFCheckpoints {
            filter_type: r.u8()?,
            stop_hash: r.hash()?,
            headers: r.list(Reader::hash)?,
        }),
        "wtxidrelay" => Message::WtxidRelay,
        "sendtxrcncl" => Message::SendTxRcncl(SendTxRcncl { version: r.u32()?, salt: r.u64()? }),
        "feature" => Message::Feature(feature(r).ok_or(DecodeError::InvalidFeature)?),
        _ => return Ok(None),
    }))
}

/// Fields after the receiver's address may be missing, group by group.
fn version(r: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let mut version = Version {
        version: r.i32()?,
        services: ServiceFlags::from(r.u64()?),
        timestamp: r.i64()?.max(0),
        receiver_services: ServiceFlags::from(r.u64()?),
        receiver: Service::read_v1(r)?,
        nonce: 1,
        user_agent: Vec::new(),
        start_height: -1,
        relay: true,
    };
    if !r.is_empty() {
        // The sender's services, address and port, which nobody uses.
        r.bytes(26)?;
        version.nonce = r.u64()?;
    }
    if !r.is_empty() {
        version.user_agent = r.limited_bytes(MAX_USER_AGENT_BYTES)?.to_vec();
    }
    if !r.is_empty() {
        version.start_height = r.i32()?;
    }
    if !r.is_empty() {
        version.relay = r.u8()? != 0;
    }
    Ok(version)
}

fn inventory(r: &mut Reader<'_>) -> Result<Inventory, DecodeError> {
    Ok(Inventory { kind: InvType(r.u32()?), hash: r.array()? })
}

fn locator(r: &mut Reader<'_>) -> Result<Locator, DecodeError> {
    // A version number that was never used.
    r.u32()?;
    Ok(Locator { hashes: r.list(Reader::hash)?, stop: r.hash()? })
}

fn headers(r: &mut Reader<'_>) -> Result<Vec<Header>, DecodeError> {
    let count = r.compact_size()?;
    if count > MAX_HEADERS {
        return Err(DecodeError::TooManyHeaders(count));
    }
    r.repeat(count, |r| {
        let header = header(r)?;
        // The number of transactions, meant to be 0; Core does not look.
        r.compact_size()?;
        Ok(header)
    })
}

/// Checks the two length prefixes against the bytes there are, then leaves the reading to the
/// `bitcoin` crate.
fn merkle_block(r: &mut Reader<'_>) -> Result<MerkleBlock, DecodeError> {
    let mut bytes = r.rest();
    header(r)?;
    r.u32()?;
    let hashes = r.compact_size()?;
    for _ in 0..hashes {
        r.bytes(32)?;
    }
    r.var_bytes()?;
    MerkleBlock::consensus_decode(&mut bytes).map_err(|_| DecodeError::InvalidMerkleTree)
}

fn compact_block(r: &mut Reader<'_>) -> Result<CompactBlock, DecodeError> {
    let compact = CompactBlock {
        header: header(r)?,
        nonce: r.u64()?,
        short_ids: r.list(|r| r.array().map(ShortId::from))?,
        prefilled: r.list(prefilled)?,
    };
    if compact.short_ids.len().saturating_add(compact.prefilled.len()) > MAX_COMPACT_BLOCK_TXS {
        return Err(DecodeError::TooManyTxs);
    }
    Ok(compact)
}

fn prefilled(r: &mut Reader<'_>) -> Result<PrefilledTx, DecodeError> {
    let skipped = u16::try_from(r.compact_size()?).map_err(|_| DecodeError::IndexOverflow)?;
    Ok(PrefilledTx { skipped, tx: Arc::new(decode_transaction(r)?) })
}

/// Each index is sent as its distance from the least it can be.
fn rising_indexes(r: &mut Reader<'_>) -> Result<Vec<u16>, DecodeError> {
    let mut least = 0u64;
    r.list(|r| {
        let index = least.checked_add(r.compact_size()?).ok_or(DecodeError::IndexOverflow)?;
        least = index.saturating_add(1);
        u16::try_from(index).map_err(|_| DecodeError::IndexOverflow)
    })
}

fn filter_range(r: &mut Reader<'_>) -> Result<CFilterRange, DecodeError> {
    Ok(CFilterRange { filter_type: r.u8()?, start_height: r.u32()?, stop_hash: r.hash()? })
}

/// The one type that tolerates nothing behind it.
fn feature(r: &mut Reader<'_>) -> Option<Feature> {
    let id = r.limited_bytes(MAX_FEATURE_ID_BYTES).ok()?.to_vec();
    let data = r.limited_bytes(MAX_FEATURE_DATA_BYTES).ok()?.to_vec();
    (id.len() >= MIN_FEATURE_ID_BYTES && r.is_empty()).then_some(Feature { id, data })
}

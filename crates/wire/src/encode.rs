use bitcoin::consensus::Encodable;
use bitcoin::hashes::Hash;

use crate::{
    BlockTxn, BlockTxnRequest, CFilterRange, CompactBlock, Inventory, Locator, Malformed, Message,
    PeerAddress, SendCmpct, SendTxRcncl, Service, Version,
};

/// Version number in front of a locator, never used (Core's `CBlockLocator::DUMMY_VERSION`).
const LOCATOR_VERSION: u32 = 70_016;

impl Message {
    /// Appends the payload.
    pub fn encode_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Version(version) => put_version(out, version),
            Self::Addr(entries) => put_list(out, entries, |out, entry| PeerAddress::put_v1(entry, out)),
            Self::AddrV2(entries) => put_list(out, entries, |out, entry| PeerAddress::put_v2(entry, out)),
            Self::Inv(entries) | Self::GetData(entries) | Self::NotFound(entries) => {
                put_list(out, entries, |out, Inventory { kind, hash }| {
                    out.extend(kind.0.to_le_bytes());
                    out.extend(hash);
                });
            }
            Self::MerkleBlock(block) => put(out, block),
            Self::GetBlocks(locator) | Self::GetHeaders(locator) => put_locator(out, locator),
            Self::Tx(tx) => put(out, tx.as_ref()),
            Self::Headers(headers) => put_list(out, headers, |out, header| {
                put(out, header);
                out.push(0);
            }),
            Self::Block(block) => put(out, block.as_ref()),
            Self::Ping(nonce) | Self::Pong(Some(nonce)) => out.extend(nonce.to_le_bytes()),
            Self::FilterLoad(filter) => {
                put_bytes(out, &filter.data);
                out.extend(filter.hash_funcs.to_le_bytes());
                out.extend(filter.tweak.to_le_bytes());
                out.push(filter.flags);
            }
            Self::FilterAdd(data) => put_bytes(out, data),
            Self::FeeFilter(feerate) => out.extend(feerate.to_le_bytes()),
            Self::SendCmpct(SendCmpct { announce, version }) => {
                out.push(*announce);
                out.extend(version.to_le_bytes());
            }
            Self::CmpctBlock(block) => put_compact_block(out, block),
            Self::GetBlockTxn(request) => put_block_txn_request(out, request),
            Self::BlockTxn(BlockTxn { block_hash, txs }) => {
                out.extend(block_hash.as_byte_array());
                put_list(out, txs, |out, tx| put(out, tx.as_ref()));
            }
            Self::GetCFilters(range) | Self::GetCFHeaders(range) => put_filter_range(out, range),
            Self::CFilter(filter) => {
                out.push(filter.filter_type);
                out.extend(filter.block_hash.as_byte_array());
                put_bytes(out, &filter.filter);
            }
            Self::CFHeaders(headers) => {
                out.push(headers.filter_type);
                out.extend(headers.stop_hash.as_byte_array());
                out.extend(headers.previous_header.as_byte_array());
                put_list(out, &headers.hashes, |out, hash| out.extend(hash.as_byte_array()));
            }
            Self::GetCFCheckpt { filter_type, stop_hash } => {
                out.push(*filter_type);
                out.extend(stop_hash.as_byte_array());
            }
            Self::CFCheckpt(checkpoints) => {
                out.push(checkpoints.filter_type);
                out.extend(checkpoints.stop_hash.as_byte_array());
                put_list(out, &checkpoints.headers, |out, header| out.extend(header.as_byte_array()));
            }
            Self::SendTxRcncl(SendTxRcncl { version, salt }) => {
                out.extend(version.to_le_bytes());
                out.extend(salt.to_le_bytes());
            }
            Self::Feature(feature) => {
                put_bytes(out, &feature.id);
                put_bytes(out, &feature.data);
            }
            Self::Unknown { payload, .. } | Self::Malformed(Malformed { payload, .. }) => out.extend(payload),
            Self::Verack
            | Self::SendAddrV2
            | Self::GetAddr
            | Self::Mempool
            | Self::Pong(None)
            | Self::FilterClear
            | Self::SendHeaders
            | Self::WtxidRelay => {}
        }
    }
}

/// Appends a number in Core's `CompactSize` form.
pub(crate) fn put_compact(out: &mut Vec<u8>, n: u64) {
    if let Ok(n) = u8::try_from(n)
        && n < 0xfd
    {
        out.push(n);
    } else if let Ok(n) = u16::try_from(n) {
        out.push(0xfd);
        out.extend(n.to_le_bytes());
    } else if let Ok(n) = u32::try_from(n) {
        out.push(0xfe);
        out.extend(n.to_le_bytes());
    } else {
        out.push(0xff);
        out.extend(n.to_le_bytes());
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_compact(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut item: impl FnMut(&mut Vec<u8>, &T)) {
    put_compact(out, items.len() as u64);
    for each in items {
        item(out, each);
    }
}

fn put(out: &mut Vec<u8>, value: &impl Encodable) {
    // Writing to a vector cannot fail.
    let _ = value.consensus_encode(out);
}

fn put_version(out: &mut Vec<u8>, version: &Version) {
    out.extend(version.version.to_le_bytes());
    out.extend(version.services.to_u64().to_le_bytes());
    out.extend(version.timestamp.to_le_bytes());
    out.extend(version.receiver_services.to_u64().to_le_bytes());
    version.receiver.put_v1(out);
    // Core sends its services and an empty address of its own.
    out.extend(version.services.to_u64().to_le_bytes());
    Service::INVALID.put_v1(out);
    out.extend(version.nonce.to_le_bytes());
    put_bytes(out, &version.user_agent);
    out.extend(version.start_height.to_le_bytes());
    out.push(u8::from(version.relay));
}

fn put_locator(out: &mut Vec<u8>, locator: &Locator) {
    out.extend(LOCATOR_VERSION.to_le_bytes());
    put_list(out, &locator.hashes, |out, hash| out.extend(hash.as_byte_array()));
    out.extend(locator.stop.as_byte_array());
}

fn put_compact_block(out: &mut Vec<u8>, block: &CompactBlock) {
    put(out, &block.header);
    out.extend(block.nonce.to_le_bytes());
    put_list(out, &block.short_ids, |out, id| out.extend(AsRef::<[u8]>::as_ref(id)));
    put_list(out, &block.prefilled, |out, prefilled| {
        put_compact(out, u64::from(prefilled.skipped));
        put(out, prefilled.tx.as_ref());
    });
}

fn put_block_txn_request(out: &mut Vec<u8>, request: &BlockTxnRequest) {
    out.extend(request.block_hash.as_byte_array());
    let mut least = 0u64;
    put_list(out, &request.indexes, |out, index| {
        let index = u64::from(*index);
        put_compact(out, index.saturating_sub(least));
        least = index.saturating_add(1);
    });
}

fn put_filter_range(out: &mut Vec<u8>, range: &CFilterRange) {
    out.push(range.filter_type);
    out.extend(range.start_height.to_le_bytes());
    out.extend(range.stop_hash.as_byte_array());
}

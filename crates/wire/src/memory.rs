//! What decoded messages hold in memory. A payload of many small elements takes several times its
//! own size, so whoever limits memory must count this and not the bytes on the wire.

use bitcoin::{Transaction, Witness};

use crate::Message;

/// Bytes in front of what an `Arc` points to.
const ARC_BYTES: usize = 16;
/// Room the `bitcoin` crate takes for a witness at first, beside four bytes an element.
const FIRST_WITNESS_BYTES: usize = 128;

fn list<T>(list: &Vec<T>) -> usize {
    list.capacity().saturating_mul(size_of::<T>())
}

fn witness(witness: &Witness) -> usize {
    if witness.is_empty() {
        return 0;
    }
    let indexes = witness.len().saturating_mul(4);
    let exact = witness.size().saturating_add(indexes);
    // It grows by doubling.
    exact.saturating_mul(2).max(indexes.saturating_add(FIRST_WITNESS_BYTES))
}

fn transaction(tx: &Transaction) -> usize {
    let inputs = tx.input.iter().map(|input| input.script_sig.len().saturating_add(witness(&input.witness)));
    let outputs = tx.output.iter().map(|output| output.script_pubkey.len());
    inputs.chain(outputs).fold(list(&tx.input).saturating_add(list(&tx.output)), usize::saturating_add)
}

fn shared_transaction(tx: &Transaction) -> usize {
    transaction(tx).saturating_add(ARC_BYTES).saturating_add(size_of::<Transaction>())
}

impl Message {
    /// Bytes it holds beside itself, at most.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Version(version) => version.user_agent.capacity(),
            Self::Addr(addresses) | Self::AddrV2(addresses) => list(addresses),
            Self::Inv(items) | Self::GetData(items) | Self::NotFound(items) => list(items),
            // Its flags are a byte each, of which eight came in one.
            Self::MerkleBlock(block) => {
                let hashes = block.txn.hashes().len().saturating_mul(32);
                hashes.saturating_add(block.txn.bits().len()).saturating_mul(2)
            }
            Self::GetBlocks(locator) | Self::GetHeaders(locator) => list(&locator.hashes),
            Self::Tx(tx) => shared_transaction(tx),
            Self::Headers(headers) => list(headers),
            Self::Block(block) => {
                let txs = block.txdata.iter().map(transaction);
                let own = list(&block.txdata).saturating_add(ARC_BYTES).saturating_add(size_of_val(&**block));
                txs.fold(own, usize::saturating_add)
            }
            Self::FilterLoad(filter) => filter.data.capacity(),
            Self::FilterAdd(bytes) => bytes.capacity(),
            Self::CmpctBlock(block) => {
                let txs = block.prefilled.iter().map(|prefilled| shared_transaction(&prefilled.tx));
                let own = list(&block.short_ids).saturating_add(list(&block.prefilled));
                txs.fold(own, usize::saturating_add)
            }
            Self::GetBlockTxn(request) => list(&request.indexes),
            Self::BlockTxn(answer) => {
                let txs = answer.txs.iter().map(|tx| shared_transaction(tx));
                txs.fold(list(&answer.txs), usize::saturating_add)
            }
            Self::CFilter(filter) => filter.filter.capacity(),
            Self::CFHeaders(headers) => list(&headers.hashes),
            Self::CFCheckpt(checkpoints) => list(&checkpoints.headers),
            Self::Feature(feature) => feature.id.capacity().saturating_add(feature.data.capacity()),
            Self::Unknown { payload, .. } => payload.capacity(),
            Self::Malformed(malformed) => malformed.payload.capacity(),
            Self::Verack
            | Self::SendAddrV2
            | Self::GetAddr
            | Self::Mempool
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::FilterClear
            | Self::SendHeaders
            | Self::FeeFilter(_)
            | Self::SendCmpct(_)
            | Self::GetCFilters(_)
            | Self::GetCFHeaders(_)
            | Self::GetCFCheckpt { .. }
            | Self::WtxidRelay
            | Self::SendTxRcncl(_) => 0,
        }
    }
}

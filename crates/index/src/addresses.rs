//! What each output script received and spent, and what it still holds (`-addressindex`).
//!
//! Scripts are named by the first twenty bytes of the SHA-256 of theirs: that two of them share
//! these takes 2^80 hashes to bring about, and costs nobody but who did it. Rows of one script lie
//! in the order of the chain, so that a page begins at its cursor whatever comes before it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Amount, BlockHash, OutPoint, Script, Transaction, Txid};
use ironpeer_consensus::is_unspendable;
use ironpeer_primitives::{Coin, ConnectedBlock, Height, read_varint, write_varint};
use ironpeer_store::{Batch, Kv, KvRead, Space};
use parking_lot::Mutex;

use crate::coin_stats::transactions;
use crate::core::{BlockRef, IndexCore, IndexError, committed_tip};
use crate::handle::IndexHandle;
use crate::limits::{TOTALS_KEPT, TOTALS_KEPT_FROM};
use crate::tx::places;

const NAME: &str = "addressindex";
/// Script, height and place in the block, to what the transaction did to the script.
const HISTORY: Space = Space(1);
/// Script and outpoint to height and amount.
const UNSPENT: Space = Space(2);
/// Height and place in the block to a transaction's id, offset and size.
const TXS: Space = Space(3);
/// Height to hash of the block.
const BLOCKS: Space = Space(4);

const SCRIPT_BYTES: usize = 20;
const PLACE_BYTES: usize = 8;
const OUTPOINT_BYTES: usize = 36;

const DAMAGED: IndexError = IndexError::Damaged { name: NAME, what: "row" };

/// SHA-256 of an output script, by which Electrum and Esplora name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScriptHash(pub [u8; 32]);

impl ScriptHash {
    /// Of a script.
    #[must_use]
    pub fn of(script: &Script) -> Self {
        Self(sha256::Hash::hash(script.as_bytes()).to_byte_array())
    }

    fn key(&self) -> Vec<u8> {
        self.0.iter().copied().take(SCRIPT_BYTES).collect()
    }
}

/// A place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxPosition {
    /// The block's height.
    pub height: Height,
    /// Transactions before it in the block.
    pub index: u32,
}

impl TxPosition {
    fn key(self) -> [u8; PLACE_BYTES] {
        ((u64::from(self.height.0) << 32) | u64::from(self.index)).to_be_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let number = u64::from_be_bytes(bytes.try_into().ok()?);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).ok();
        Some(Self { height: Height(half(number >> 32)?), index: half(number)? })
    }
}

/// What went to a script and from it, in one transaction or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Outputs to it.
    pub received: u64,
    /// Their amounts, in satoshi.
    pub received_sats: u64,
    /// Its outputs that were spent.
    pub spent: u64,
    /// Their amounts, in satoshi.
    pub spent_sats: u64,
}

impl Moved {
    fn add(&mut self, other: &Self) {
        self.received = self.received.saturating_add(other.received);
        self.received_sats = self.received_sats.saturating_add(other.received_sats);
        self.spent = self.spent.saturating_add(other.spent);
        self.spent_sats = self.spent_sats.saturating_add(other.spent_sats);
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for n in [self.received, self.received_sats, self.spent, self.spent_sats] {
            write_varint(&mut out, n);
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut next = || read_varint(&mut bytes).ok();
        Some(Self { received: next()?, received_sats: next()?, spent: next()?, spent_sats: next()? })
    }
}

/// What one transaction does to each script: what it pays, if that can be spent, and what it
/// spends.
pub(crate) fn moved_by(tx: &Transaction, spent: &[Coin]) -> BTreeMap<ScriptHash, Moved> {
    let mut moved: BTreeMap<ScriptHash, Moved> = BTreeMap::new();
    for output in tx.output.iter().filter(|output| !is_unspendable(&output.script_pubkey)) {
        let sats = output.value.to_sat();
        let one = Moved { received: 1, received_sats: sats, ..Moved::default() };
        moved.entry(ScriptHash::of(&output.script_pubkey)).or_default().add(&one);
    }
    for coin in spent {
        let one = Moved { spent: 1, spent_sats: coin.output.value.to_sat(), ..Moved::default() };
        moved.entry(ScriptHash::of(&coin.output.script_pubkey)).or_default().add(&one);
    }
    moved
}

fn history_key(script: &ScriptHash, position: TxPosition) -> Vec<u8> {
    let mut key = script.key();
    key.extend(position.key());
    key
}

fn unspent_key(script: &ScriptHash, outpoint: &OutPoint) -> Vec<u8> {
    let mut key = script.key();
    key.extend(outpoint.txid.to_byte_array());
    key.extend(outpoint.vout.to_be_bytes());
    key
}

fn unspent_value(height: Height, amount: Amount) -> Vec<u8> {
    let mut value = height.0.to_be_bytes().to_vec();
    write_varint(&mut value, amount.to_sat());
    value
}

/// Writes the rows.
pub(crate) struct AddressRows;

/// A block's transactions with their positions and what they spent.
fn positioned(block: &ConnectedBlock) -> impl Iterator<Item = (TxPosition, &Transaction, &[Coin])> {
    (0u32..)
        .zip(transactions(block))
        .map(|(index, (tx, spent))| (TxPosition { height: block.height, index }, tx, spent))
}

/// Keys of the outputs that a block leaves to be spent, with height and amount. Nobody can spend
/// those of the genesis block.
fn made<'a>(
    block: &'a ConnectedBlock,
    tx: &'a Transaction,
    txid: Txid,
) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + 'a {
    let spendable = block.height != Height::GENESIS;
    let outputs = tx
        .output
        .iter()
        .zip(0u32..)
        .filter(move |(output, _)| spendable && !is_unspendable(&output.script_pubkey));
    outputs.map(move |(output, vout)| {
        let key = unspent_key(&ScriptHash::of(&output.script_pubkey), &OutPoint { txid, vout });
        (key, unspent_value(block.height, output.value))
    })
}

impl IndexCore for AddressRows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn keeps_disconnected(&self) -> bool {
        false
    }

    fn apply(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        batch.put(BLOCKS, block.height.0.to_be_bytes(), block.hash.to_byte_array());
        for ((position, tx, spent), (txid, offset, size)) in positioned(block).zip(places(&block.block)) {
            let mut row = txid.to_byte_array().to_vec();
            row.extend(offset.to_be_bytes());
            row.extend(size.to_be_bytes());
            batch.put(TXS, position.key(), row);
            for (script, moved) in moved_by(tx, spent) {
                batch.put(HISTORY, history_key(&script, position), moved.encode());
            }
            for (input, coin) in tx.input.iter().zip(spent) {
                let script = ScriptHash::of(&coin.output.script_pubkey);
                batch.delete(UNSPENT, unspent_key(&script, &input.previous_output));
            }
            for (key, value) in made(block, tx, txid) {
                batch.put(UNSPENT, key, value);
            }
        }
        Ok(())
    }

    fn unwind(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        batch.delete(BLOCKS, block.height.0.to_be_bytes());
        let txs: Vec<_> = positioned(block).collect();
        for (position, tx, spent) in txs.into_iter().rev() {
            batch.delete(TXS, position.key());
            for script in moved_by(tx, spent).keys() {
                batch.delete(HISTORY, history_key(script, position));
            }
            for (key, _) in made(block, tx, tx.compute_txid()) {
                batch.delete(UNSPENT, key);
            }
            for (input, coin) in tx.input.iter().zip(spent) {
                let script = ScriptHash::of(&coin.output.script_pubkey);
                let value = unspent_value(coin.height, coin.output.value);
                batch.put(UNSPENT, unspent_key(&script, &input.previous_output), value);
            }
        }
        Ok(())
    }
}

/// A transaction in a script's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Where it is; the cursor for what comes behind it.
    pub position: TxPosition,
    /// Its id.
    pub txid: Txid,
    /// What it did to the script.
    pub moved: Moved,
}

/// An output that a script holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unspent {
    /// Which one; the cursor for what comes behind it.
    pub outpoint: OutPoint,
    /// The height of its block.
    pub height: Height,
    /// What it is worth.
    pub amount: Amount,
}

/// A script's whole history in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptTotals {
    /// Transactions.
    pub txs: u64,
    /// What they moved.
    pub moved: Moved,
}

impl ScriptTotals {
    /// What is left, in satoshi.
    #[must_use]
    pub fn balance(&self) -> u64 {
        self.moved.received_sats.saturating_sub(self.moved.spent_sats)
    }
}

/// Which end of a history comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As the chain grew.
    OldestFirst,
    /// As explorers show it.
    NewestFirst,
}

/// Totals of a long history up to one of its transactions.
#[derive(Clone, Copy)]
struct Counted {
    upto: TxPosition,
    /// The block that one is in: if it is there no more, the totals are of another chain.
    block: BlockHash,
    totals: ScriptTotals,
}

/// Totals that took long to add up.
type Totals = Arc<Mutex<HashMap<ScriptHash, Counted>>>;

/// Reads scripts' histories.
#[derive(Clone)]
pub struct AddressIndex {
    kv: Arc<dyn Kv>,
    handle: IndexHandle,
    totals: Totals,
}

impl std::fmt::Debug for AddressIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.fmt(f)
    }
}

impl AddressIndex {
    pub(crate) fn new(kv: Arc<dyn Kv>, handle: IndexHandle) -> Self {
        Self { kv, handle, totals: Arc::default() }
    }

    /// How far it is.
    #[must_use]
    pub fn handle(&self) -> &IndexHandle {
        &self.handle
    }

    /// All answers of one block: what is read here does not move with the chain. Reads the database,
    /// as do all its methods: not for a runtime's worker.
    #[must_use]
    pub fn snapshot(&self) -> AddressSnapshot {
        AddressSnapshot { rows: self.kv.snapshot(), totals: Arc::clone(&self.totals) }
    }
}

/// The index as of one block.
pub struct AddressSnapshot {
    rows: Box<dyn KvRead>,
    totals: Totals,
}

/// A row's part from `from` on.
fn after(bytes: &[u8], from: usize) -> Result<&[u8], IndexError> {
    bytes.get(from..).ok_or(DAMAGED)
}

impl AddressSnapshot {
    /// The last block in it.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn tip(&self) -> Result<Option<BlockRef>, IndexError> {
        committed_tip(self.rows.as_ref(), NAME)
    }

    /// At most `limit` transactions of a script that come behind `cursor`, or from the beginning of
    /// that order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn history(
        &self,
        script: &ScriptHash,
        order: Order,
        cursor: Option<TxPosition>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, IndexError> {
        let first = script.key();
        let mut last = first.clone();
        last.extend([0xff; PLACE_BYTES]);
        let at = cursor.map(|cursor| history_key(script, cursor));
        let (mut from, mut to) = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
        match (&at, order) {
            (Some(at), Order::OldestFirst) => from = Bound::Excluded(at),
            (Some(at), Order::NewestFirst) => to = Bound::Excluded(at),
            (None, _) => {}
        }
        let rows = self.rows.range(HISTORY, from, to, order == Order::NewestFirst);
        rows.take(limit)
            .map(|row| {
                let (key, value) = row?;
                let position = TxPosition::parse(after(&key, SCRIPT_BYTES)?).ok_or(DAMAGED)?;
                let txid = self.txid(position)?.ok_or(DAMAGED)?;
                Ok(HistoryEntry { position, txid, moved: Moved::decode(&value).ok_or(DAMAGED)? })
            })
            .collect()
    }

    /// At most `limit` of a script's unspent outputs behind `cursor`, in the order of their ids.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn unspent(
        &self,
        script: &ScriptHash,
        cursor: Option<OutPoint>,
        limit: usize,
    ) -> Result<Vec<Unspent>, IndexError> {
        let first = script.key();
        let mut last = first.clone();
        last.extend([0xff; OUTPOINT_BYTES]);
        let at = cursor.map(|cursor| unspent_key(script, &cursor));
        let from = at.as_ref().map_or(Bound::Included(first.as_slice()), |at| Bound::Excluded(at.as_slice()));
        let rows = self.rows.range(UNSPENT, from, Bound::Included(last.as_slice()), false);
        rows.take(limit)
            .map(|row| {
                let (key, value) = row?;
                let (txid, vout) = after(&key, SCRIPT_BYTES)?.split_first_chunk::<32>().ok_or(DAMAGED)?;
                let vout = u32::from_be_bytes(vout.try_into().map_err(|_| DAMAGED)?);
                let (height, mut amount) = value.split_first_chunk::<4>().ok_or(DAMAGED)?;
                Ok(Unspent {
                    outpoint: OutPoint { txid: Txid::from_byte_array(*txid), vout },
                    height: Height(u32::from_be_bytes(*height)),
                    amount: Amount::from_sat(read_varint(&mut amount).map_err(|_| DAMAGED)?),
                })
            })
            .collect()
    }

    /// A script's whole history in numbers. Takes as long as what is new since it was last asked.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn totals(&self, script: &ScriptHash) -> Result<ScriptTotals, IndexError> {
        let known = self.totals.lock().get(script).copied();
        let known = match known {
            Some(known) if self.block(known.upto.height)? == Some(known.block) => Some(known),
            _ => None,
        };
        let first = known.map_or_else(|| script.key(), |known| history_key(script, known.upto));
        let mut last = script.key();
        last.extend([0xff; PLACE_BYTES]);
        let from = if known.is_some() { Bound::Excluded(&*first) } else { Bound::Included(&*first) };
        let mut totals = known.map(|known| known.totals).unwrap_or_default();
        let (mut added, mut end) = (0usize, None);
        for row in self.rows.range(HISTORY, from, Bound::Included(&*last), false) {
            let (key, value) = row?;
            totals.txs = totals.txs.saturating_add(1);
            totals.moved.add(&Moved::decode(&value).ok_or(DAMAGED)?);
            added = added.saturating_add(1);
            end = Some(key);
        }
        if let Some(key) = end.filter(|_| added >= TOTALS_KEPT_FROM) {
            let upto = TxPosition::parse(after(&key, SCRIPT_BYTES)?).ok_or(DAMAGED)?;
            let block = self.block(upto.height)?.ok_or(DAMAGED)?;
            let mut kept = self.totals.lock();
            if kept.len() >= TOTALS_KEPT {
                kept.clear();
            }
            kept.insert(*script, Counted { upto, block, totals });
        }
        Ok(totals)
    }

    /// The block at a height of the chain in the index.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn block(&self, height: Height) -> Result<Option<BlockHash>, IndexError> {
        let row = self.rows.get(BLOCKS, &height.0.to_be_bytes())?;
        row.map(|hash| BlockHash::from_slice(&hash).map_err(|_| DAMAGED)).transpose()
    }

    /// The id of the transaction at a place in the chain.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn txid(&self, position: TxPosition) -> Result<Option<Txid>, IndexError> {
        let Some(row) = self.rows.get(TXS, &position.key())? else { return Ok(None) };
        let (txid, _) = row.split_first_chunk::<32>().ok_or(DAMAGED)?;
        Ok(Some(Txid::from_byte_array(*txid)))
    }
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;

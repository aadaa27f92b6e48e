//! The coin set in numbers after each block (`-coinstatsindex`).
//!
//! The running hash of the set is kept in the checkpoint alone; each block's row has its digest and
//! the totals up to it.

use std::sync::Arc;

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, OutPoint, Transaction};
use ironpeer_chain::{MuHash, bogo_size, encode_for_hash};
use ironpeer_consensus::{Params, block_subsidy, is_bip30_unspendable, is_unspendable};
use ironpeer_primitives::{Coin, ConnectedBlock, Height};
use ironpeer_store::{Batch, Kv, Space};

use crate::core::{IndexCore, IndexError};
use crate::filters::row_key;
use crate::handle::IndexHandle;
use crate::limits::UNDIGESTED_BLOCKS;

const NAME: &str = "coinstatsindex";
/// Height and hash of a block to the digest and the totals after it.
const STATS: Space = Space(1);

const DAMAGED: IndexError = IndexError::Damaged { name: NAME, what: "row" };

/// Totals from genesis up to a block, in satoshi where they are amounts. Sums of what has moved
/// outgrow 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoinTotals {
    /// Unspent outputs.
    pub txouts: u64,
    /// A size of the set that does not depend on the database, in bytes.
    pub bogosize: u64,
    /// All unspent amounts.
    pub amount: u64,
    /// All subsidies.
    pub subsidy: u64,
    /// Amounts spent.
    pub prevout_spent: u128,
    /// Amounts of new outputs that no coinbase made.
    pub new_outputs_ex_coinbase: u128,
    /// Amounts of new outputs that coinbases made.
    pub coinbase: u128,
    /// The genesis block's subsidy.
    pub unspendable_genesis: u64,
    /// Subsidies of coinbases that a later one of the same id replaced.
    pub unspendable_bip30: u64,
    /// Amounts of outputs whose scripts nobody can satisfy.
    pub unspendable_scripts: u64,
    /// What miners could have taken and did not.
    pub unspendable_unclaimed: u64,
}

impl CoinTotals {
    const NARROW: usize = 8;

    /// All that nobody can ever spend.
    #[must_use]
    pub fn unspendable(&self) -> u64 {
        self.unspendable_genesis
            .saturating_add(self.unspendable_bip30)
            .saturating_add(self.unspendable_scripts)
            .saturating_add(self.unspendable_unclaimed)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let narrow: [u64; Self::NARROW] = [
            self.txouts,
            self.bogosize,
            self.amount,
            self.subsidy,
            self.unspendable_genesis,
            self.unspendable_bip30,
            self.unspendable_scripts,
            self.unspendable_unclaimed,
        ];
        out.extend(narrow.iter().flat_map(|n| n.to_be_bytes()));
        let wide = [self.prevout_spent, self.new_outputs_ex_coinbase, self.coinbase];
        out.extend(wide.iter().flat_map(|n| n.to_be_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (narrow, wide) = bytes.split_at_checked(Self::NARROW * 8)?;
        let narrow: Vec<u64> =
            narrow.chunks_exact(8).map_while(|n| Some(u64::from_be_bytes(n.try_into().ok()?))).collect();
        let wide: Vec<u128> =
            wide.chunks_exact(16).map_while(|n| Some(u128::from_be_bytes(n.try_into().ok()?))).collect();
        let [txouts, bogosize, amount, subsidy, genesis, bip30, scripts, unclaimed] =
            narrow.try_into().ok()?;
        let [prevout_spent, new_outputs_ex_coinbase, coinbase] = wide.try_into().ok()?;
        Some(Self {
            txouts,
            bogosize,
            amount,
            subsidy,
            prevout_spent,
            new_outputs_ex_coinbase,
            coinbase,
            unspendable_genesis: genesis,
            unspendable_bip30: bip30,
            unspendable_scripts: scripts,
            unspendable_unclaimed: unclaimed,
        })
    }
}

/// What the index knows of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoinStats {
    /// MuHash3072 of the coin set.
    pub muhash: sha256d::Hash,
    /// The totals.
    pub totals: CoinTotals,
}

/// Writes the rows.
pub(crate) struct StatsRows {
    kv: Arc<dyn Kv>,
    params: Arc<Params>,
    muhash: MuHash,
    totals: CoinTotals,
    /// Rows whose digests are still to be taken, all at once.
    undigested: Vec<(Vec<u8>, MuHash, CoinTotals)>,
}

fn read(kv: &dyn Kv, height: Height, hash: &BlockHash) -> Result<Option<CoinStats>, IndexError> {
    let Some(row) = kv.get(STATS, &row_key(height, hash))? else { return Ok(None) };
    let (digest, totals) = row.split_first_chunk::<32>().ok_or(DAMAGED)?;
    Ok(Some(CoinStats {
        muhash: sha256d::Hash::from_byte_array(*digest),
        totals: CoinTotals::decode(totals).ok_or(DAMAGED)?,
    }))
}

/// A block's transactions and what each one spent.
pub(crate) fn transactions(block: &ConnectedBlock) -> impl Iterator<Item = (&Transaction, &[Coin])> {
    let spent = std::iter::once(&[] as &[Coin]).chain(block.spent.txs.iter().map(Vec::as_slice));
    block.block.txdata.iter().zip(spent)
}

/// Coins that a transaction makes, those that nobody can spend too.
fn made(tx: &Transaction, height: Height) -> impl Iterator<Item = (OutPoint, Coin)> + '_ {
    let (txid, is_coinbase) = (tx.compute_txid(), tx.is_coinbase());
    tx.output.iter().zip(0u32..).map(move |(output, vout)| {
        (OutPoint { txid, vout }, Coin { output: output.clone(), height, is_coinbase })
    })
}

/// Whether a later coinbase of the same id replaced this one.
fn replaced(block: &ConnectedBlock, tx: &Transaction) -> bool {
    tx.is_coinbase() && is_bip30_unspendable(&block.hash, block.height)
}

impl StatsRows {
    pub(crate) fn new(kv: Arc<dyn Kv>, params: Arc<Params>) -> Self {
        Self { kv, params, muhash: MuHash::default(), totals: CoinTotals::default(), undigested: Vec::new() }
    }

    fn add(&mut self, block: &ConnectedBlock, subsidy: u64, buffer: &mut Vec<u8>) -> Option<()> {
        for (tx, spent) in transactions(block) {
            let totals = &mut self.totals;
            if replaced(block, tx) {
                totals.unspendable_bip30 = totals.unspendable_bip30.checked_add(subsidy)?;
                continue;
            }
            for (outpoint, coin) in made(tx, block.height) {
                let sats = coin.output.value.to_sat();
                if is_unspendable(&coin.output.script_pubkey) {
                    totals.unspendable_scripts = totals.unspendable_scripts.checked_add(sats)?;
                    continue;
                }
                buffer.clear();
                encode_for_hash(buffer, &outpoint, &coin);
                self.muhash.insert(buffer);
                let moved =
                    if coin.is_coinbase { &mut totals.coinbase } else { &mut totals.new_outputs_ex_coinbase };
                *moved = moved.checked_add(sats.into())?;
                totals.txouts = totals.txouts.checked_add(1)?;
                totals.amount = totals.amount.checked_add(sats)?;
                totals.bogosize = totals.bogosize.checked_add(bogo_size(&coin))?;
            }
            for (input, coin) in tx.input.iter().zip(spent) {
                let sats = coin.output.value.to_sat();
                buffer.clear();
                encode_for_hash(buffer, &input.previous_output, coin);
                self.muhash.remove(buffer);
                totals.prevout_spent = totals.prevout_spent.checked_add(sats.into())?;
                totals.txouts = totals.txouts.checked_sub(1)?;
                totals.amount = totals.amount.checked_sub(sats)?;
                totals.bogosize = totals.bogosize.checked_sub(bogo_size(coin))?;
            }
        }
        Some(())
    }

    /// What is left of all that came in when all that is accounted for is taken off went
    /// unclaimed by miners.
    fn claim(&mut self) -> Option<()> {
        let totals = &mut self.totals;
        let came = totals.prevout_spent.checked_add(totals.subsidy.into())?;
        let went = totals
            .new_outputs_ex_coinbase
            .checked_add(totals.coinbase)?
            .checked_add(totals.unspendable().into())?;
        let unclaimed = u64::try_from(came.checked_sub(went)?).ok()?;
        totals.unspendable_unclaimed = totals.unspendable_unclaimed.checked_add(unclaimed)?;
        Some(())
    }
}

impl IndexCore for StatsRows {
    fn name(&self) -> &'static str {
        NAME
    }

    fn restore(&mut self, state: Option<&[u8]>) -> Option<()> {
        if let Some(state) = state {
            let (muhash, totals) = state.split_at_checked(MuHash::STATE_BYTES)?;
            self.muhash = MuHash::from_state(muhash)?;
            self.totals = CoinTotals::decode(totals)?;
        }
        Some(())
    }

    fn state(&self) -> Vec<u8> {
        let mut state = self.muhash.state();
        self.totals.encode(&mut state);
        state
    }

    fn finish(&mut self, batch: &mut Batch) {
        let rows = std::mem::take(&mut self.undigested);
        let sets: Vec<MuHash> = rows.iter().map(|(_, muhash, _)| muhash.clone()).collect();
        for ((key, _, totals), digest) in rows.into_iter().zip(MuHash::finalize_all(&sets)) {
            let mut row = digest.to_vec();
            totals.encode(&mut row);
            batch.put(STATS, key, row);
        }
    }

    fn apply(&mut self, block: &ConnectedBlock, batch: &mut Batch) -> Result<(), IndexError> {
        let subsidy = block_subsidy(block.height, &self.params).to_sat();
        self.totals.subsidy = self.totals.subsidy.saturating_add(subsidy);
        if block.height == Height::GENESIS {
            self.totals.unspendable_genesis = subsidy;
        } else {
            self.add(block, subsidy, &mut Vec::new()).ok_or(DAMAGED)?;
        }
        self.claim().ok_or(DAMAGED)?;
        let key = row_key(block.height, &block.hash);
        self.undigested.push((key, self.muhash.clone(), self.totals));
        if self.undigested.len() >= UNDIGESTED_BLOCKS {
            self.finish(batch);
        }
        Ok(())
    }

    fn unwind(&mut self, block: &ConnectedBlock, _: &mut Batch) -> Result<(), IndexError> {
        let mut buffer = Vec::new();
        for (tx, spent) in transactions(block).filter(|(tx, _)| !replaced(block, tx)) {
            for (outpoint, coin) in made(tx, block.height) {
                if !is_unspendable(&coin.output.script_pubkey) {
                    buffer.clear();
                    encode_for_hash(&mut buffer, &outpoint, &coin);
                    self.muhash.remove(&buffer);
                }
            }
            for (input, coin) in tx.input.iter().zip(spent) {
                buffer.clear();
                encode_for_hash(&mut buffer, &input.previous_output, coin);
                self.muhash.insert(&buffer);
            }
        }
        let Some(height) = block.height.prev() else { return Err(DAMAGED) };
        let before = read(self.kv.as_ref(), height, &block.block.header.prev_blockhash)?.ok_or(DAMAGED)?;
        if before.muhash.to_byte_array() != self.muhash.finalize() {
            return Err(IndexError::Damaged { name: NAME, what: "hash of the coin set" });
        }
        self.totals = before.totals;
        Ok(())
    }
}

/// Reads the coin set's numbers.
#[derive(Clone)]
pub struct CoinStatsIndex {
    kv: Arc<dyn Kv>,
    handle: IndexHandle,
}

impl std::fmt::Debug for CoinStatsIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.fmt(f)
    }
}

impl CoinStatsIndex {
    pub(crate) fn new(kv: Arc<dyn Kv>, handle: IndexHandle) -> Self {
        Self { kv, handle }
    }

    /// How far it is.
    #[must_use]
    pub fn handle(&self) -> &IndexHandle {
        &self.handle
    }

    /// The coin set after a block. Reads the database: not for a runtime's worker.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn stats(&self, height: Height, hash: &BlockHash) -> Result<Option<CoinStats>, IndexError> {
        read(self.kv.as_ref(), height, hash)
    }
}

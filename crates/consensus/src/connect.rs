use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, Transaction, TxOut, Txid};
use ironpeer_primitives::{BlockClass, BlockReject, BlockUndo, Coin, Height};

use crate::limits::{BIP34_IMPLIES_BIP30_LIMIT, MAX_BLOCK_SIGOPS_COST, MAX_MONEY, MAX_SCRIPT_SIZE};
use crate::sigops::tx_sigop_cost;
use crate::{
    Ancestry, BlockIds, BuriedDeployment, Params, ScriptFlags, SequenceLocks, TxScriptCheck,
    calculate_sequence_locks, check_tx_inputs, median_time_past, script_flags, sequence_locks_met,
};

/// Satoshis of the first subsidy.
const FIRST_SUBSIDY: u64 = 50 * 100_000_000;
/// A shift by this many halvings is undefined in Core and pays nothing.
const LAST_HALVING: u32 = 64;
const OP_RETURN: u8 = 0x6a;

/// The two blocks whose coinbase repeats an earlier one (BIP30), by height and hash as printed.
const BIP30_REPEATS: [(u32, &str); 2] = [
    (91_842, "00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec"),
    (91_880, "00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721"),
];
/// The two blocks whose coinbase is repeated, so that it is no coin of theirs any more.
const BIP30_UNSPENDABLE: [(u32, &str); 2] = [
    (91_722, "00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e"),
    (91_812, "00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f"),
];

fn is_listed(list: &[(u32, &str)], height: Height, hash: &BlockHash) -> bool {
    list.iter().any(|(at, named)| *at == height.0 && hash.to_string() == *named)
}

/// Whether a block's coinbase repeats an earlier one (Core's `IsBIP30Repeat`).
#[must_use]
pub fn is_bip30_repeat(hash: &BlockHash, height: Height) -> bool {
    is_listed(&BIP30_REPEATS, height, hash)
}

/// Whether a block's coinbase was overwritten by a later, equal one, so that taking the block
/// off finds it missing.
#[must_use]
pub fn is_bip30_unspendable(hash: &BlockHash, height: Height) -> bool {
    is_listed(&BIP30_UNSPENDABLE, height, hash)
}

/// Unspent outputs, as they stand before the block at hand.
pub trait CoinSource {
    /// The coin at an outpoint, or `None` if it is unknown or spent.
    fn coin(&self, outpoint: &OutPoint) -> Option<Coin>;

    /// Whether there is a coin at an outpoint.
    fn has_coin(&self, outpoint: &OutPoint) -> bool {
        self.coin(outpoint).is_some()
    }
}

/// A map by outpoint. Its hash is several times faster than the standard one, for looking up coins
/// is what a block costs beside its scripts; the seed is random, and whoever wants collisions
/// must pay for each try with a block's proof of work.
pub type OutpointMap<V> = HashMap<OutPoint, V, foldhash::quality::RandomState>;

/// What becomes of coins: a new one, or none left. Outputs made and spent by the same block do
/// not appear.
pub type CoinChanges = OutpointMap<Option<Coin>>;

/// Whether a block's scripts are to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptMode {
    /// They are.
    Check,
    /// They are taken as good (`-assumevalid`).
    Assume,
}

/// A block that keeps every rule but, perhaps, its scripts'.
#[derive(Debug)]
pub struct Connected {
    /// The coins it spends.
    pub undo: Arc<BlockUndo>,
    /// What it changes about the coins.
    pub changes: CoinChanges,
    /// The scripts to check before it may be called valid: one entry a transaction after the
    /// coinbase, none under [`ScriptMode::Assume`].
    pub checks: Vec<TxScriptCheck>,
    /// What its transactions pay together.
    pub fees: Amount,
    /// The cost of its signature operations.
    pub sigop_cost: u64,
}

/// A block taken off.
#[derive(Debug)]
pub struct Disconnected {
    /// What that changes about the coins.
    pub changes: CoinChanges,
    /// Whether every coin was as the block left it. If not, coins and blocks do not belong
    /// together, unless a crash left a part of the work done before.
    pub clean: bool,
}

/// An undo record that does not belong to its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectError {
    /// Another number of transactions.
    #[error("block and undo data inconsistent")]
    BlockMismatch,
    /// Another number of inputs.
    #[error("transaction and undo data inconsistent")]
    TxMismatch,
    /// A coin without the height it was made at, as only releases before 0.8 wrote.
    #[error("undo record without a coin's height")]
    MissingHeight,
}

/// What a block may create (Core's `GetBlockSubsidy`).
#[must_use]
pub fn block_subsidy(height: Height, params: &Params) -> Amount {
    let halvings = height.0.checked_div(params.subsidy_halving_interval).unwrap_or(0);
    Amount::from_sat(if halvings >= LAST_HALVING { 0 } else { FIRST_SUBSIDY >> halvings })
}

/// Whether an output can never be spent and so is no coin.
#[must_use]
pub fn is_unspendable(script: &Script) -> bool {
    script.as_bytes().first() == Some(&OP_RETURN) || script.len() > MAX_SCRIPT_SIZE
}

/// The coins as the block's transactions before the one at hand leave them.
struct Overlay<'a> {
    base: &'a dyn CoinSource,
    touched: OutpointMap<Touched>,
}

struct Touched {
    coin: Option<Coin>,
    /// The base has a coin here too.
    in_base: bool,
}

impl<'a> Overlay<'a> {
    fn new(base: &'a dyn CoinSource, inputs: usize) -> Self {
        Self { base, touched: OutpointMap::with_capacity_and_hasher(inputs, Default::default()) }
    }

    /// Brings a coin of the base into the overlay.
    fn load(&mut self, outpoint: &OutPoint) {
        if let Entry::Vacant(entry) = self.touched.entry(*outpoint)
            && let Some(coin) = self.base.coin(outpoint)
        {
            entry.insert(Touched { coin: Some(coin), in_base: true });
        }
    }

    fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.touched.get(outpoint)?.coin.as_ref()
    }

    fn spend(&mut self, outpoint: &OutPoint) -> Option<Coin> {
        self.touched.get_mut(outpoint)?.coin.take()
    }

    fn add(&mut self, outpoint: OutPoint, coin: Coin) {
        match self.touched.entry(outpoint) {
            Entry::Occupied(mut entry) => entry.get_mut().coin = Some(coin),
            Entry::Vacant(entry) => {
                entry.insert(Touched { coin: Some(coin), in_base: false });
            }
        }
    }

    fn add_outputs(&mut self, tx: &Transaction, txid: Txid, height: Height, is_coinbase: bool) {
        for (outpoint, output) in spendable_outputs(tx, txid) {
            self.add(outpoint, Coin { output: output.clone(), height, is_coinbase });
        }
    }

    /// What differs from the base.
    fn into_changes(self) -> CoinChanges {
        self.touched
            .into_iter()
            .filter(|(_, touched)| touched.in_base || touched.coin.is_some())
            .map(|(outpoint, touched)| (outpoint, touched.coin))
            .collect()
    }
}

fn spendable_outputs(tx: &Transaction, txid: Txid) -> impl Iterator<Item = (OutPoint, &TxOut)> {
    (0..)
        .zip(&tx.output)
        .filter(|(_, output)| !is_unspendable(&output.script_pubkey))
        .map(move |(vout, output)| (OutPoint { txid, vout }, output))
}

fn consensus(reason: &'static str, debug: impl Into<String>) -> BlockReject {
    BlockReject::new(BlockClass::Consensus, reason).with_debug(debug)
}

/// Applies a block to the coins: every rule of Core's `ConnectBlock` in its order, the scripts'
/// left over as [`Connected::checks`]. A failure here wins over any of them.
///
/// The block has passed [`check_block`](crate::check_block) and
/// [`contextual_check_block`](crate::contextual_check_block); `coins` are those at `parent`.
///
/// # Errors
/// `bad-txns-BIP30`, the reasons of [`check_tx_inputs`],
/// `bad-txns-accumulated-fee-outofrange`, `bad-txns-nonfinal`, `bad-blk-sigops` or
/// `bad-cb-amount`; all of class `Consensus`.
pub fn connect_block(
    block: &Arc<Block>,
    ids: &BlockIds,
    parent: &dyn Ancestry,
    params: &Params,
    coins: &dyn CoinSource,
    scripts: ScriptMode,
) -> Result<Connected, BlockReject> {
    let height = parent.height().next();
    check_bip30(block, ids, height, parent, params, coins)?;

    let flags = script_flags(&ids.hash, height, params);
    let enforce_bip68 = params.is_active(BuriedDeployment::Csv, height);
    let parent_median_time = median_time_past(parent);
    let inputs: usize = block.txdata.iter().map(|tx| tx.input.len()).sum();
    let mut overlay = Overlay::new(coins, inputs);
    let mut undo = BlockUndo { txs: Vec::with_capacity(block.txdata.len().saturating_sub(1)) };
    let mut fees: u64 = 0;
    let mut sigop_cost = 0;

    for (tx, &txid) in block.txdata.iter().zip(&ids.txids) {
        let is_coinbase = tx.is_coinbase();
        if !is_coinbase {
            for input in &tx.input {
                overlay.load(&input.previous_output);
            }
            let spent = || tx.input.iter().map(|input| overlay.coin(&input.previous_output));
            let fee = check_tx_inputs(tx, spent(), height).map_err(|reject| {
                BlockReject::new(BlockClass::Consensus, reject.reason)
                    .with_debug(format!("{} in transaction {txid}", reject.debug))
            })?;
            fees = fees.saturating_add(fee.to_sat());
            if fees > MAX_MONEY {
                return Err(consensus(
                    "bad-txns-accumulated-fee-outofrange",
                    "accumulated fee in the block out of range",
                ));
            }
            let heights = spent().flatten().map(|coin| coin.height);
            let locks = calculate_sequence_locks(tx, enforce_bip68, heights, parent);
            if locks != SequenceLocks::NONE && !sequence_locks_met(locks, height, parent_median_time) {
                return Err(consensus(
                    "bad-txns-nonfinal",
                    format!("contains a non-BIP68-final transaction {txid}"),
                ));
            }
        }
        let outputs = tx.input.iter().filter_map(|input| overlay.coin(&input.previous_output));
        let cost = tx_sigop_cost(tx, outputs.map(|coin| &coin.output), flags);
        sigop_cost = cost.saturating_add(sigop_cost);
        if sigop_cost > MAX_BLOCK_SIGOPS_COST {
            return Err(consensus("bad-blk-sigops", "too many sigops"));
        }
        if !is_coinbase {
            undo.txs
                .push(tx.input.iter().filter_map(|input| overlay.spend(&input.previous_output)).collect());
        }
        overlay.add_outputs(tx, txid, height, is_coinbase);
    }

    check_coinbase_amount(block, height, params, fees)?;
    let undo = Arc::new(undo);
    let checks = match scripts {
        ScriptMode::Check => script_checks(block, &undo, flags),
        ScriptMode::Assume => Vec::new(),
    };
    Ok(Connected { undo, changes: overlay.into_changes(), checks, fees: Amount::from_sat(fees), sigop_cost })
}

fn script_checks(block: &Arc<Block>, undo: &Arc<BlockUndo>, flags: ScriptFlags) -> Vec<TxScriptCheck> {
    (1..block.txdata.len())
        .map(|index| TxScriptCheck::in_block(Arc::clone(block), Arc::clone(undo), index, flags))
        .collect()
}

fn check_coinbase_amount(
    block: &Block,
    height: Height,
    params: &Params,
    fees: u64,
) -> Result<(), BlockReject> {
    let limit = block_subsidy(height, params).to_sat().saturating_add(fees);
    let paid: u64 = block
        .txdata
        .first()
        .map_or(0, |tx| tx.output.iter().fold(0, |sum, output| output.value.to_sat().saturating_add(sum)));
    if paid > limit {
        return Err(consensus(
            "bad-cb-amount",
            format!("coinbase pays too much (actual={paid} vs limit={limit})"),
        ));
    }
    Ok(())
}

/// No output may overwrite a coin (BIP30). The look-ups are spared where BIP34 rules it out: on
/// the chain that has the known block at the BIP34 height, up to the first height that a
/// coinbase before BIP34 could have claimed.
fn check_bip30(
    block: &Block,
    ids: &BlockIds,
    height: Height,
    parent: &dyn Ancestry,
    params: &Params,
    coins: &dyn CoinSource,
) -> Result<(), BlockReject> {
    let bip34_rules_it_out = || {
        params.bip34_hash.is_some_and(|known| {
            params.bip34_height <= parent.height()
                && parent.header_at(params.bip34_height).is_some_and(|(hash, _)| hash == known)
        })
    };
    let enforce = height.0 >= BIP34_IMPLIES_BIP30_LIMIT
        || (!is_listed(&BIP30_REPEATS, height, &ids.hash) && !bip34_rules_it_out());
    if !enforce {
        return Ok(());
    }
    for (tx, &txid) in block.txdata.iter().zip(&ids.txids) {
        for (vout, _) in (0..).zip(&tx.output) {
            if coins.has_coin(&OutPoint { txid, vout }) {
                return Err(consensus("bad-txns-BIP30", "tried to overwrite transaction"));
            }
        }
    }
    Ok(())
}

/// Takes a block off the coins again (Core's `DisconnectBlock`). `coins` are those after it.
///
/// # Errors
/// If `undo` is not this block's.
pub fn disconnect_block(
    block: &Block,
    ids: &BlockIds,
    undo: &BlockUndo,
    height: Height,
    coins: &dyn CoinSource,
) -> Result<Disconnected, DisconnectError> {
    if block.txdata.len().checked_sub(1) != Some(undo.txs.len()) {
        return Err(DisconnectError::BlockMismatch);
    }
    let overwritten = is_bip30_unspendable(&ids.hash, height);
    let mut overlay = Overlay::new(coins, undo.txs.iter().map(Vec::len).sum());
    let mut clean = true;
    let restored = std::iter::once(None).chain(undo.txs.iter().map(Some));
    let txs: Vec<_> = block.txdata.iter().zip(&ids.txids).zip(restored).collect();
    for ((tx, &txid), restored) in txs.into_iter().rev() {
        let is_coinbase = tx.is_coinbase();
        for (outpoint, output) in spendable_outputs(tx, txid) {
            overlay.load(&outpoint);
            let matches = overlay.spend(&outpoint).is_some_and(|coin| {
                coin.output == *output && coin.height == height && coin.is_coinbase == is_coinbase
            });
            clean &= matches || (is_coinbase && overwritten);
        }
        let Some(restored) = restored else { continue };
        if restored.len() != tx.input.len() {
            return Err(DisconnectError::TxMismatch);
        }
        for (input, coin) in tx.input.iter().zip(restored).rev() {
            if coin.height == Height::GENESIS {
                return Err(DisconnectError::MissingHeight);
            }
            overlay.load(&input.previous_output);
            clean &= overlay.coin(&input.previous_output).is_none();
            overlay.add(input.previous_output, coin.clone());
        }
    }
    Ok(Disconnected { changes: overlay.into_changes(), clean })
}

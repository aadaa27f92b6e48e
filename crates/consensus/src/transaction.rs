use std::collections::HashSet;

use bitcoin::{Amount, OutPoint, Transaction};
use ironpeer_primitives::{Coin, Height, TxClass, TxReject, UnixTime};

use crate::Ancestry;
use crate::limits::{
    COINBASE_MATURITY, LOCKTIME_THRESHOLD, MAX_BLOCK_WEIGHT, MAX_COINBASE_SCRIPT, MAX_MONEY,
    MIN_COINBASE_SCRIPT, WITNESS_SCALE_FACTOR,
};

const SEQUENCE_FINAL: u32 = 0xffff_ffff;
/// The sequence number is no relative lock time (BIP68).
const SEQUENCE_LOCKTIME_DISABLE_FLAG: u32 = 1 << 31;
/// The relative lock time counts units of 512 seconds, not blocks (BIP68).
const SEQUENCE_LOCKTIME_TYPE_FLAG: u32 = 1 << 22;
const SEQUENCE_LOCKTIME_MASK: u32 = 0x0000_ffff;
/// Shift from units to seconds.
const SEQUENCE_LOCKTIME_GRANULARITY: u32 = 9;

fn consensus(reason: &'static str) -> TxReject {
    TxReject::new(TxClass::Consensus, reason)
}

/// What can be said about a transaction alone (Core's `CheckTransaction`).
///
/// # Errors
/// The first of its checks that fails, all of class `Consensus`.
pub fn check_transaction(tx: &Transaction) -> Result<(), TxReject> {
    if tx.input.is_empty() {
        return Err(consensus("bad-txns-vin-empty"));
    }
    if tx.output.is_empty() {
        return Err(consensus("bad-txns-vout-empty"));
    }
    if (tx.base_size() as u64).saturating_mul(WITNESS_SCALE_FACTOR) > MAX_BLOCK_WEIGHT {
        return Err(consensus("bad-txns-oversize"));
    }
    let mut total: u64 = 0;
    for output in &tx.output {
        let value = output.value.to_sat();
        // The field is signed on the wire.
        if value.cast_signed() < 0 {
            return Err(consensus("bad-txns-vout-negative"));
        }
        if value > MAX_MONEY {
            return Err(consensus("bad-txns-vout-toolarge"));
        }
        total = total.saturating_add(value);
        if total > MAX_MONEY {
            return Err(consensus("bad-txns-txouttotal-toolarge"));
        }
    }
    if has_duplicate_inputs(tx) {
        return Err(consensus("bad-txns-inputs-duplicate"));
    }
    if tx.is_coinbase() {
        let len = tx.input.first().map_or(0, |input| input.script_sig.len());
        if !(MIN_COINBASE_SCRIPT..=MAX_COINBASE_SCRIPT).contains(&len) {
            return Err(consensus("bad-cb-length"));
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(consensus("bad-txns-prevout-null"));
    }
    Ok(())
}

/// CVE-2018-17144: spending one coin twice within a transaction.
fn has_duplicate_inputs(tx: &Transaction) -> bool {
    match tx.input.as_slice() {
        [] | [_] => false,
        [first, second] => first.previous_output == second.previous_output,
        inputs => {
            let mut seen: HashSet<&OutPoint> = HashSet::with_capacity(inputs.len());
            !inputs.iter().all(|input| seen.insert(&input.previous_output))
        }
    }
}

/// Whether a transaction's lock time allows it in a block at `height` with the cutoff `time`:
/// the parent's median time past since BIP113, the block's own time before.
#[must_use]
pub fn is_final_tx(tx: &Transaction, height: Height, time: UnixTime) -> bool {
    let lock_time = tx.lock_time.to_consensus_u32();
    if lock_time == 0 {
        return true;
    }
    let reached = if lock_time < LOCKTIME_THRESHOLD { i64::from(height.0) } else { time };
    i64::from(lock_time) < reached || tx.input.iter().all(|input| input.sequence.0 == SEQUENCE_FINAL)
}

/// The last height and the last median time at which a transaction's relative lock times still
/// forbid it (BIP68); -1 forbids nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceLocks {
    /// Last height that is too low.
    pub height: i64,
    /// Last median time past of the parent that is too early.
    pub time: UnixTime,
}

impl SequenceLocks {
    /// Forbids nothing.
    pub const NONE: Self = Self { height: -1, time: -1 };
}

/// Works out a transaction's relative lock times (Core's `CalculateSequenceLocks`).
///
/// `coin_heights` are the heights its inputs' coins were made at; `chain` must reach up to the
/// parent of the block the transaction is to enter. `enforce` is whether BIP68 holds there.
#[must_use]
pub fn calculate_sequence_locks(
    tx: &Transaction,
    enforce: bool,
    coin_heights: impl IntoIterator<Item = Height>,
    chain: &dyn Ancestry,
) -> SequenceLocks {
    let mut locks = SequenceLocks::NONE;
    // The version is unsigned here: a "negative" one is above 2.
    if !enforce || tx.version.0.cast_unsigned() < 2 {
        return locks;
    }
    for (input, coin_height) in tx.input.iter().zip(coin_heights) {
        let sequence = input.sequence.0;
        if sequence & SEQUENCE_LOCKTIME_DISABLE_FLAG != 0 {
            continue;
        }
        let units = i64::from(sequence & SEQUENCE_LOCKTIME_MASK);
        // The lock ends with the last time or height that is too early, hence the 1 less.
        if sequence & SEQUENCE_LOCKTIME_TYPE_FLAG != 0 {
            let before = Height(coin_height.0.saturating_sub(1));
            let coin_time = chain.median_time_past_at(before).unwrap_or(UnixTime::MAX);
            let end = coin_time.saturating_add(units << SEQUENCE_LOCKTIME_GRANULARITY).saturating_sub(1);
            locks.time = locks.time.max(end);
        } else {
            locks.height = locks.height.max(i64::from(coin_height.0).saturating_add(units).saturating_sub(1));
        }
    }
    locks
}

/// Whether a block at `height` whose parent has the median time past `parent_median_time`
/// satisfies the locks.
#[must_use]
pub fn sequence_locks_met(locks: SequenceLocks, height: Height, parent_median_time: UnixTime) -> bool {
    locks.height < i64::from(height.0) && locks.time < parent_median_time
}

/// Checks a transaction against the coins it spends and returns its fee (Core's
/// `Consensus::CheckTxInputs`). `coins` has one entry an input, `None` where the coin is unknown
/// or spent; the transaction has passed [`check_transaction`] and is no coinbase.
///
/// # Errors
/// `bad-txns-inputs-missingorspent`, `bad-txns-premature-spend-of-coinbase`,
/// `bad-txns-inputvalues-outofrange`, `bad-txns-in-belowout` or `bad-txns-fee-outofrange`.
pub fn check_tx_inputs<'a>(
    tx: &Transaction,
    coins: impl IntoIterator<Item = Option<&'a Coin>>,
    spend_height: Height,
) -> Result<Amount, TxReject> {
    let missing = || {
        TxReject::new(TxClass::MissingInputs, "bad-txns-inputs-missingorspent")
            .with_debug("CheckTxInputs: inputs missing/spent")
    };
    let coins: Vec<&Coin> = coins.into_iter().collect::<Option<_>>().ok_or_else(missing)?;
    if coins.len() != tx.input.len() {
        return Err(missing());
    }
    let mut value_in: u64 = 0;
    for coin in coins {
        let depth = i64::from(spend_height.0).saturating_sub(i64::from(coin.height.0));
        if coin.is_coinbase && depth < i64::from(COINBASE_MATURITY) {
            return Err(TxReject::new(TxClass::PrematureSpend, "bad-txns-premature-spend-of-coinbase")
                .with_debug(format!("tried to spend coinbase at depth {depth}")));
        }
        let value = coin.output.value.to_sat();
        value_in = value_in.saturating_add(value);
        if value > MAX_MONEY || value_in > MAX_MONEY {
            return Err(consensus("bad-txns-inputvalues-outofrange"));
        }
    }
    let value_out = tx.output.iter().fold(0u64, |sum, output| sum.saturating_add(output.value.to_sat()));
    let Some(fee) = value_in.checked_sub(value_out) else {
        return Err(consensus("bad-txns-in-belowout").with_debug(format!(
            "value in ({}) < value out ({})",
            format_money(value_in),
            format_money(value_out)
        )));
    };
    // `bad-txns-fee-outofrange` cannot follow: the fee is at most `value_in`.
    Ok(Amount::from_sat(fee))
}

/// An amount in coins with at least two decimals, as Core's `FormatMoney`.
#[must_use]
pub fn format_money(sats: u64) -> String {
    let mut text = format!("{}.{:08}", sats / 100_000_000, sats % 100_000_000);
    for _ in 0..6 {
        if text.ends_with('0') {
            text.pop();
        }
    }
    text
}

//! Running a block's script checks on the pool, and putting a failure into Core's words.

use std::sync::Arc;

use bitcoin::{Block, Transaction, TxOut};
use ironpeer_consensus::{Checker, ScriptCache, ScriptFailure, ScriptFlags, TxScriptCheck, script_flags};
use ironpeer_primitives::{BlockClass, BlockReject, BlockUndo, Height, LogLine};
use ironpeer_script::{ScriptError, SpendContext, verify_input};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::core::Fatal;
use crate::limits;
use crate::view::Shared;

/// Spreads the checks over the pool it runs on.
#[derive(Debug)]
pub struct PoolChecker {
    cache: Arc<ScriptCache>,
}

impl PoolChecker {
    /// A checker that consults `cache`.
    #[must_use]
    pub fn new(cache: Arc<ScriptCache>) -> Self {
        Self { cache }
    }
}

impl PoolChecker {
    fn check_one(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure> {
        let Some(scripts) = check.prepare(&self.cache)? else { return Ok(()) };
        if scripts.inputs() < limits::SPREAD_INPUTS {
            return scripts.verify_all();
        }
        // Else one large transaction would keep a block waiting on a single thread.
        let failed = (0..scripts.inputs())
            .into_par_iter()
            .with_min_len(limits::SPREAD_INPUTS / 4)
            .find_map_first(|input| scripts.verify(input).err());
        failed.map_or(Ok(()), Err)
    }
}

impl Checker for PoolChecker {
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        let failed = checks
            .par_iter()
            .enumerate()
            .find_map_first(|(place, check)| self.check_one(check).err().map(|failure| (place, failure)));
        failed.map_or(Ok(()), Err)
    }
}

/// The refusal of a block at `height` whose transaction number `place` (the coinbase not counted)
/// failed. An answer other than a verdict is our own failure and says nothing about the block.
pub(crate) fn reject(
    shared: &Shared,
    block: &Block,
    height: Height,
    undo: &BlockUndo,
    (place, failure): (usize, &ScriptFailure),
) -> Result<BlockReject, Fatal> {
    let input = match failure {
        ScriptFailure::Invalid { input } => *input,
        ScriptFailure::NoVerdict { .. } => return Err(Fatal(format!("Script engine failure: {failure}"))),
    };
    let found = block
        .txdata
        .get(place + 1)
        .and_then(|tx| Some((tx, tx.input.get(input)?.previous_output, undo.txs.get(place)?)));
    let Some((tx, outpoint, coins)) = found else {
        return Err(Fatal("Script engine failure: the failed input does not exist".into()));
    };
    let debug = format!(
        "input {input} of {} (wtxid {}), spending {}:{}",
        tx.compute_txid(),
        tx.compute_wtxid(),
        outpoint.txid,
        outpoint.vout
    );
    let spent: Vec<TxOut> = coins.iter().map(|coin| coin.output.clone()).collect();
    let flags = script_flags(&block.block_hash(), height, &shared.params);
    let error = name_failure(tx, &spent, input, flags).unwrap_or_else(|| {
        // The kernel's word stands; that the interpreter disagrees is a bug worth hearing of.
        shared.log.log(LogLine::error(format!(
            "BUG! The script interpreter accepts what the kernel refuses: {debug}"
        )));
        ScriptError::Unknown
    });
    Ok(BlockReject::new(BlockClass::Consensus, format!("block-script-verify-flag-failed ({error})"))
        .with_debug(debug))
}

/// What Core calls the failure of an input that the kernel refused; `None` if the interpreter,
/// which names it, finds nothing wrong.
fn name_failure(tx: &Transaction, spent: &[TxOut], input: usize, flags: ScriptFlags) -> Option<ScriptError> {
    let mut context = SpendContext::new(tx, spent)?;
    verify_input(&mut context, input, flags).err()
}

#[cfg(test)]
#[path = "scripts_tests.rs"]
mod tests;

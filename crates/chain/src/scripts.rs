//! Running a block's script checks on the pool, and putting a failure into Core's words.

use std::sync::Arc;

use bitcoin::Block;
use ironpeer_consensus::{Checker, ScriptCache, ScriptFailure, TxScriptCheck};
use ironpeer_primitives::{BlockClass, BlockReject, BlockUndo};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::core::Fatal;

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

impl Checker for PoolChecker {
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        let failed = checks
            .par_iter()
            .enumerate()
            .find_map_first(|(place, check)| check.verify(&self.cache).err().map(|failure| (place, failure)));
        failed.map_or(Ok(()), Err)
    }
}

/// The refusal of a block whose transaction number `place` (the coinbase not counted) failed.
/// An answer other than a verdict is our own failure and says nothing about the block.
pub(crate) fn reject(
    block: &Block,
    undo: &BlockUndo,
    place: usize,
    failure: &ScriptFailure,
) -> Result<BlockReject, Fatal> {
    let input = match failure {
        ScriptFailure::Invalid { input } => *input,
        ScriptFailure::NoVerdict { .. } => return Err(Fatal(format!("Script engine failure: {failure}"))),
    };
    let found = block
        .txdata
        .get(place + 1)
        .and_then(|tx| Some((tx, tx.input.get(input)?.previous_output, undo.txs.get(place)?)));
    let Some((tx, spent, _coins)) = found else {
        return Err(Fatal("Script engine failure: the failed input does not exist".into()));
    };
    let debug = format!(
        "input {input} of {} (wtxid {}), spending {}:{}",
        tx.compute_txid(),
        tx.compute_wtxid(),
        spent.txid,
        spent.vout
    );
    let reason = "block-script-verify-flag-failed (unknown error)";
    Ok(BlockReject::new(BlockClass::Consensus, reason).with_debug(debug))
}

//! The one seam to libbitcoinkernel's script engine.
//!
//! The kernel aborts the process on an input index out of range, an unknown flag or a wrong
//! number of spent outputs, so all three are checked here first. Anything but its verdict is an
//! error of ours and never taken for "invalid".

use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, Transaction, TxOut, Wtxid};
use bitcoin_hashes::sha256d;
use bitcoinkernel::core::ScriptVerifyError;
use bitcoinkernel::{KernelError, PrecomputedTransactionData, ScriptPubkey};
use ironpeer_primitives::BlockUndo;

use crate::{ScriptCache, ScriptFlags};

/// The kernel gave no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeamError {
    /// Not one spent output for each input.
    #[error("{spent} spent outputs for {inputs} inputs")]
    SpentOutputs {
        /// Spent outputs given.
        spent: usize,
        /// Inputs of the transaction.
        inputs: usize,
    },
    /// Rules the kernel does not take: relay policy, or witness rules without P2SH's.
    #[error("script flags {0:#x} are not the kernel's, or cannot be combined")]
    Flags(u32),
    /// The check names a transaction its block does not have.
    #[error("no such transaction in the block")]
    NoTransaction,
    /// The kernel answered something else.
    #[error("libbitcoinkernel: {0}")]
    Kernel(String),
}

/// Why a transaction's scripts cannot be called good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptFailure {
    /// The kernel refuses this input.
    #[error("script of input {input} failed")]
    Invalid {
        /// Its index.
        input: usize,
    },
    /// There is no verdict; says nothing about the transaction.
    #[error("script of input {input} could not be checked: {error}")]
    NoVerdict {
        /// Index of the input at hand.
        input: usize,
        /// What went wrong.
        error: SeamError,
    },
}

impl ScriptFailure {
    /// Index of the input at hand.
    #[must_use]
    pub const fn input(&self) -> usize {
        match self {
            Self::Invalid { input } | Self::NoVerdict { input, .. } => *input,
        }
    }
}

/// A transaction with the outputs it spends. Nothing is copied for a block's transactions: the
/// block and its undo record are shared.
#[derive(Clone, Debug)]
enum Subject {
    InBlock { block: Arc<Block>, undo: Arc<BlockUndo>, index: usize },
    Alone { tx: Arc<Transaction>, spent: Arc<[TxOut]> },
}

/// The script checks of one transaction. Owns what it needs, so it can wait for any thread.
#[derive(Clone, Debug)]
pub struct TxScriptCheck {
    subject: Subject,
    flags: ScriptFlags,
}

impl TxScriptCheck {
    /// Checks of a transaction by itself. `spent` is what each input spends, in input order,
    /// read from the coins or the mempool under that input's outpoint: a verdict may be cached.
    #[must_use]
    pub fn new(tx: Arc<Transaction>, spent: impl Into<Arc<[TxOut]>>, flags: ScriptFlags) -> Self {
        Self { subject: Subject::Alone { tx, spent: spent.into() }, flags }
    }

    /// Checks of transaction number `index` of a block, counting the coinbase.
    pub(crate) fn in_block(
        block: Arc<Block>,
        undo: Arc<BlockUndo>,
        index: usize,
        flags: ScriptFlags,
    ) -> Self {
        Self { subject: Subject::InBlock { block, undo, index }, flags }
    }

    /// The transaction; `None` if the block given has none of that number.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        match &self.subject {
            Subject::InBlock { block, index, .. } => block.txdata.get(*index),
            Subject::Alone { tx, .. } => Some(tx),
        }
    }

    /// What its inputs spend, in input order.
    #[must_use]
    pub fn spent_outputs(&self) -> Vec<&TxOut> {
        match &self.subject {
            Subject::InBlock { undo, index, .. } => index
                .checked_sub(1)
                .and_then(|index| undo.txs.get(index))
                .map(|coins| coins.iter().map(|coin| &coin.output).collect())
                .unwrap_or_default(),
            Subject::Alone { spent, .. } => spent.iter().collect(),
        }
    }

    /// The rules it is checked under.
    #[must_use]
    pub const fn flags(&self) -> ScriptFlags {
        self.flags
    }

    /// Runs every input's scripts, unless `cache` knows that they pass. Nothing is remembered:
    /// a block's transactions hardly come again.
    ///
    /// # Errors
    /// The first input that does not pass.
    pub fn verify(&self, cache: &ScriptCache) -> Result<(), ScriptFailure> {
        self.run(cache, false)
    }

    /// As [`Self::verify`], and remembers a pass in `cache`: for admission to the mempool.
    ///
    /// # Errors
    /// The first input that does not pass.
    pub fn verify_and_remember(&self, cache: &ScriptCache) -> Result<(), ScriptFailure> {
        self.run(cache, true)
    }

    fn run(&self, cache: &ScriptCache, remember: bool) -> Result<(), ScriptFailure> {
        let Some(scripts) = self.prepare(cache)? else { return Ok(()) };
        scripts.verify_all()?;
        if remember {
            cache.insert(&wtxid(&scripts.bytes), self.flags);
        }
        Ok(())
    }

    /// Its inputs' scripts, which can be run in any order and on many threads; `None` if `cache`
    /// knows that all of them pass.
    ///
    /// # Errors
    /// If the kernel cannot be asked about this transaction.
    pub fn prepare(&self, cache: &ScriptCache) -> Result<Option<InputScripts<'_>>, ScriptFailure> {
        let tx = self.transaction().ok_or_else(|| no_verdict(0, SeamError::NoTransaction))?;
        let bytes = serialize(tx);
        if !cache.is_unused() && cache.contains(&wtxid(&bytes), self.flags) {
            return Ok(None);
        }
        InputScripts::new(bytes, tx.input.len(), self.spent_outputs(), self.flags).map(Some)
    }
}

fn wtxid(bytes: &[u8]) -> Wtxid {
    Wtxid::from_byte_array(sha256d::Hash::hash(bytes).to_byte_array())
}

const fn no_verdict(input: usize, error: SeamError) -> ScriptFailure {
    ScriptFailure::NoVerdict { input, error }
}

/// The scripts of a transaction's inputs, ready for the kernel.
pub struct InputScripts<'a> {
    bytes: Vec<u8>,
    tx: bitcoinkernel::Transaction,
    spent: Vec<&'a TxOut>,
    flags: ScriptFlags,
    /// The kernel copies what it is given for each input. Without the spent outputs a copy takes
    /// the same time whatever the number of inputs; with them, the time of all inputs grows with
    /// its square.
    light: PrecomputedTransactionData,
    /// With them, if an input needs them.
    full: Option<PrecomputedTransactionData>,
}

impl std::fmt::Debug for InputScripts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InputScripts").field("inputs", &self.inputs()).finish_non_exhaustive()
    }
}

impl<'a> InputScripts<'a> {
    /// Those of the transaction in `bytes`, which has so many inputs and spends these outputs.
    pub(crate) fn new(
        bytes: Vec<u8>,
        inputs: usize,
        spent: Vec<&'a TxOut>,
        flags: ScriptFlags,
    ) -> Result<Self, ScriptFailure> {
        if spent.len() != inputs {
            return Err(no_verdict(0, SeamError::SpentOutputs { spent: spent.len(), inputs }));
        }
        let lacks_p2sh = flags.contains(ScriptFlags::WITNESS) && !flags.contains(ScriptFlags::P2SH);
        if lacks_p2sh || !ScriptFlags::MANDATORY.contains(flags) {
            return Err(no_verdict(0, SeamError::Flags(flags.bits())));
        }
        let kernel = |error: KernelError| no_verdict(0, SeamError::Kernel(error.to_string()));
        let tx = bitcoinkernel::Transaction::new(&bytes).map_err(kernel)?;
        let none: [bitcoinkernel::TxOut; 0] = [];
        let light = PrecomputedTransactionData::new(&tx, &none).map_err(kernel)?;
        let full = if spent.iter().any(|output| needs_all_spent(output, flags)) {
            let outputs = spent
                .iter()
                .map(|output| {
                    let script = ScriptPubkey::new(output.script_pubkey.as_bytes()).map_err(kernel)?;
                    Ok(bitcoinkernel::TxOut::new(&script, output.value.to_sat().cast_signed()))
                })
                .collect::<Result<Vec<_>, _>>()?;
            Some(PrecomputedTransactionData::new(&tx, &outputs).map_err(kernel)?)
        } else {
            None
        };
        Ok(Self { bytes, tx, spent, flags, light, full })
    }

    /// How many inputs there are.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.spent.len()
    }

    /// Runs the scripts of one input.
    ///
    /// # Errors
    /// If they fail, or there is no verdict.
    pub fn verify(&self, input: usize) -> Result<(), ScriptFailure> {
        let kernel = |error: KernelError| no_verdict(input, SeamError::Kernel(error.to_string()));
        let Some(output) = self.spent.get(input) else {
            let (spent, inputs) = (self.spent.len(), input.saturating_add(1));
            return Err(no_verdict(input, SeamError::SpentOutputs { spent, inputs }));
        };
        let script = ScriptPubkey::new(output.script_pubkey.as_bytes()).map_err(kernel)?;
        let amount = output.value.to_sat().cast_signed();
        // Taproot's rules speak of outputs of its own form alone, and the kernel takes the flag
        // only together with all spent outputs.
        let (data, flags) = match &self.full {
            Some(full) if needs_all_spent(output, self.flags) => (full, self.flags),
            _ => (&self.light, self.flags.without(ScriptFlags::TAPROOT)),
        };
        let answer = bitcoinkernel::verify(&script, Some(amount), &self.tx, input, Some(flags.bits()), data);
        verdict(input, answer)
    }

    /// Runs the scripts of all inputs, one after the other.
    ///
    /// # Errors
    /// The first input that does not pass.
    pub fn verify_all(&self) -> Result<(), ScriptFailure> {
        (0..self.inputs()).try_for_each(|input| self.verify(input))
    }
}

/// Whether the signatures of an input that spends this commit to every output the transaction
/// spends (BIP341).
fn needs_all_spent(output: &TxOut, flags: ScriptFlags) -> bool {
    flags.contains(ScriptFlags::TAPROOT) && output.script_pubkey.is_p2tr()
}

/// What the kernel's answer says of an input: only one of its errors is about the script.
fn verdict(input: usize, answer: Result<(), KernelError>) -> Result<(), ScriptFailure> {
    answer.map_err(|error| match error {
        KernelError::ScriptVerify(ScriptVerifyError::Invalid) => ScriptFailure::Invalid { input },
        error => no_verdict(input, SeamError::Kernel(error.to_string())),
    })
}

/// Runs the script checks of a block, in one thread or many.
pub trait Checker: Send + Sync {
    /// Checks all, and answers only when none is running any more.
    ///
    /// # Errors
    /// One that failed, with its place in `checks`.
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)>;
}

/// Runs the checks one after the other on the caller's thread.
#[derive(Debug)]
pub struct InlineChecker {
    cache: Arc<ScriptCache>,
}

impl InlineChecker {
    /// A checker that consults `cache`.
    #[must_use]
    pub fn new(cache: Arc<ScriptCache>) -> Self {
        Self { cache }
    }
}

impl Checker for InlineChecker {
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        checks
            .iter()
            .enumerate()
            .try_for_each(|(place, check)| check.verify(&self.cache).map_err(|failure| (place, failure)))
    }
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;

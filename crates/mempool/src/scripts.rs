//! Runs a checked transaction's scripts: first under relay policy, then by the kernel under the
//! tip's rules. Holds no lock.

use std::sync::Arc;

use ironpeer_consensus::{ScriptCache, ScriptFailure, TxScriptCheck};
use ironpeer_primitives::{LogLine, TxClass, TxReject};
use ironpeer_script::{ScriptError, ScriptFlags, SpendContext, verify_input};

use crate::admission::Checked;
use crate::policy::spends_witness_program;

/// Who runs the kernel over a transaction's scripts.
pub trait TxChecker: Send + Sync + 'static {
    /// Checks every input; what passes may be remembered.
    ///
    /// # Errors
    /// The first input that fails.
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure>;
}

impl TxChecker for ScriptCache {
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure> {
        check.verify_and_remember(self)
    }
}

/// Core's debug text for a failed input.
fn failed_input(checked: &Checked, input: usize) -> String {
    let entry = &checked.entry;
    let spending = entry
        .tx
        .input
        .get(input)
        .map(|input| format!("{}:{}", input.previous_output.txid, input.previous_output.vout))
        .unwrap_or_default();
    format!("input {input} of {} (wtxid {}), spending {spending}", entry.txid, entry.wtxid)
}

fn check_policy(checked: &Checked) -> Result<(), (usize, ScriptError)> {
    let mut context =
        SpendContext::new(&checked.entry.tx, &checked.spent).ok_or((0, ScriptError::Unknown))?;
    (0..checked.spent.len()).try_for_each(|input| {
        verify_input(&mut context, input, ScriptFlags::STANDARD).map_err(|error| (input, error))
    })
}

/// Checks all scripts. A line for the log comes with a failure that should not be possible.
pub fn check_scripts(checker: &dyn TxChecker, checked: &Checked) -> Result<(), (TxReject, Option<LogLine>)> {
    let tx = &checked.entry.tx;
    if let Err((input, error)) = check_policy(checked) {
        // Without any witness the txid alone may not be held against the transaction.
        let stripped = tx.input.iter().all(|input| input.witness.is_empty())
            && spends_witness_program(tx, &checked.spent);
        let class = if stripped { TxClass::WitnessStripped } else { TxClass::NotStandard };
        let reject = TxReject::new(class, format!("mempool-script-verify-flag-failed ({error})"))
            .with_debug(failed_input(checked, input));
        return Err((reject, None));
    }
    let kernel = TxScriptCheck::new(Arc::clone(tx), Arc::clone(&checked.spent), checked.flags);
    checker.check(&kernel).map_err(|failure| {
        let debug = failed_input(checked, failure.input());
        let (class, reason) = match failure {
            ScriptFailure::Invalid { .. } => {
                (TxClass::Consensus, format!("block-script-verify-flag-failed ({})", ScriptError::Unknown))
            }
            // Says nothing about the transaction.
            ScriptFailure::NoVerdict { error, .. } => (TxClass::Unknown, error.to_string()),
        };
        let reject = TxReject::new(class, reason).with_debug(debug);
        let line = format!(
            "BUG! PLEASE REPORT THIS! CheckInputScripts failed against latest-block but not STANDARD flags {}, {reject}",
            checked.entry.txid
        );
        (reject, Some(LogLine::error(line)))
    })
}

//! Coins that anyone can spend, and who has spent them.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

/// Satoshi that a payment gives away.
pub const FEE: u64 = 2_000;

/// P2WSH of `OP_TRUE`.
pub fn anyone() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51]).to_p2wsh()
}

/// An output to spend and its satoshi.
pub type Purse = (OutPoint, u64);

/// A transaction that spends what anyone can, into outputs that anyone can spend.
pub fn spend(purse: &[Purse], values: &[u64]) -> Arc<Transaction> {
    let input = |(previous_output, _): &Purse| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0x51]]),
    };
    let output = |value: &u64| TxOut { value: Amount::from_sat(*value), script_pubkey: anyone() };
    Arc::new(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: purse.iter().map(input).collect(),
        output: values.iter().map(output).collect(),
    })
}

/// The outputs of a transaction made here.
pub fn outputs(tx: &Transaction) -> Vec<Purse> {
    let txid = tx.compute_txid();
    (0..).zip(&tx.output).map(|(vout, output)| (OutPoint { txid, vout }, output.value.to_sat())).collect()
}

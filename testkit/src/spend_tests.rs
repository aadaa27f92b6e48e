use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, TxIn, Txid};
use bitcoinkernel::prelude::*;

use super::*;

/// Every kind in one transaction, judged by the kernel; and not with a flipped output amount.
#[test]
fn every_kind_verifies_and_a_changed_transaction_does_not() {
    let signer = Signer::new();
    let spent: Vec<Owned> = (1u32..)
        .zip(ScriptKind::ALL)
        .map(|(key, kind)| {
            let output = TxOut { value: Amount::from_sat(10_000), script_pubkey: signer.script(kind, key) };
            Owned { output, kind, key }
        })
        .collect();
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0u32..)
            .zip(&spent)
            .map(|(vout, _)| TxIn {
                previous_output: OutPoint::new(Txid::all_zeros(), vout),
                sequence: Sequence::MAX,
                ..TxIn::default()
            })
            .collect(),
        output: vec![TxOut {
            value: Amount::from_sat(90_000),
            script_pubkey: signer.script(ScriptKind::P2wpkh, 1),
        }],
    };
    signer.sign(&mut tx, &spent);
    for (index, owned) in spent.iter().enumerate() {
        assert!(verifies(&tx, &spent, index), "{:?}", owned.kind);
    }
    tx.output[0].value += Amount::ONE_SAT;
    for (index, owned) in spent.iter().enumerate() {
        assert!(!verifies(&tx, &spent, index), "{:?}", owned.kind);
    }
}

fn verifies(tx: &Transaction, spent: &[Owned], index: usize) -> bool {
    let kernel_tx = bitcoinkernel::Transaction::new(&serialize(tx)).unwrap();
    let outputs: Vec<bitcoinkernel::TxOut> = spent
        .iter()
        .map(|owned| {
            let script = bitcoinkernel::ScriptPubkey::new(owned.output.script_pubkey.as_bytes()).unwrap();
            bitcoinkernel::TxOut::new(&script, owned.output.value.to_sat() as i64)
        })
        .collect();
    let data = bitcoinkernel::PrecomputedTransactionData::new(&kernel_tx, &outputs).unwrap();
    let output = &outputs[index];
    bitcoinkernel::verify(&output.script_pubkey(), Some(output.value()), &kernel_tx, index, None, &data)
        .is_ok()
}

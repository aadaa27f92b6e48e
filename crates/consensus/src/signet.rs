use bitcoin::consensus::Encodable;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
};

use crate::decode::read_solution;
use crate::kernel::InputScripts;
use crate::merkle::merkle_root;
use crate::sigops::Instructions;
use crate::{ScriptFlags, witness_commitment_index};

/// Marks the push in the witness commitment that holds the solution (BIP325).
const SIGNET_HEADER: [u8; 4] = [0xec, 0xc7, 0xda, 0xa2];

const OP_0: u8 = 0x00;
const OP_RETURN: u8 = 0x6a;

/// Whether a block carries a solution of the signet challenge (BIP325; Core's
/// `CheckSignetBlockSolution`). Genesis needs none; that is the caller's to know.
///
/// The solution spends a made-up output with the challenge as its script. The rules do not
/// include taproot's.
#[must_use]
pub fn check_signet_solution(block: &Block, txids: &[Txid], challenge: &Script) -> bool {
    let flags = ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::DERSIG | ScriptFlags::NULLDUMMY;
    solution_txs(block, txids, challenge).is_some_and(|(spent, tx)| {
        InputScripts::new(serialize(&tx), 1, vec![&spent], flags)
            .and_then(|scripts| scripts.verify_all())
            .is_ok()
    })
}

/// The output to be spent and the transaction that spends it; `None` if the block has no
/// commitment to hold a solution, or one that cannot be read.
fn solution_txs(block: &Block, txids: &[Txid], challenge: &Script) -> Option<(TxOut, Transaction)> {
    let index = witness_commitment_index(block)?;
    let mut coinbase = block.txdata.first()?.clone();
    let commitment = coinbase.output.get_mut(index)?;
    let (script_sig, witness) = match take_solution(&mut commitment.script_pubkey) {
        Some(solution) => read_solution(&solution).ok()?,
        // A challenge such as OP_TRUE needs none.
        None => (ScriptBuf::new(), Witness::new()),
    };

    let mut leaves: Vec<[u8; 32]> = txids.iter().map(|txid| txid.to_byte_array()).collect();
    *leaves.first_mut()? = coinbase.compute_txid().to_byte_array();
    let (root, _) = merkle_root(leaves);
    let header = &block.header;
    let mut block_data = Vec::with_capacity(72);
    header.version.consensus_encode(&mut block_data).ok()?;
    header.prev_blockhash.consensus_encode(&mut block_data).ok()?;
    block_data.extend(root);
    block_data.extend(header.time.to_le_bytes());

    let mut to_spend_sig = vec![OP_0];
    push(&mut to_spend_sig, &block_data);
    let challenge_output = TxOut { value: Amount::ZERO, script_pubkey: challenge.to_owned() };
    let to_spend =
        one_input_tx(OutPoint::null(), ScriptBuf::from_bytes(to_spend_sig), challenge_output.clone());
    let unspendable = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![OP_RETURN]) };
    let mut spending =
        one_input_tx(OutPoint { txid: to_spend.compute_txid(), vout: 0 }, script_sig, unspendable);
    spending.input.first_mut()?.witness = witness;
    Some((challenge_output, spending))
}

fn one_input_tx(previous_output: OutPoint, script_sig: ScriptBuf, output: TxOut) -> Transaction {
    Transaction {
        version: Version(0),
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn { previous_output, script_sig, sequence: Sequence(0), witness: Witness::new() }],
        output: vec![output],
    }
}

/// Cuts the solution out of a witness commitment's script, leaving the header in its place.
/// Pushes are written anew in their shortest form, as Core does, whether or not they were.
fn take_solution(script: &mut ScriptBuf) -> Option<Vec<u8>> {
    let mut solution = None;
    let mut replacement = Vec::with_capacity(script.len());
    for instruction in Instructions::of(script.as_bytes()) {
        match instruction.push {
            [] => replacement.push(instruction.opcode),
            data => match data.strip_prefix(&SIGNET_HEADER) {
                // The header alone, without data, is no solution.
                Some(found) if solution.is_none() && !found.is_empty() => {
                    solution = Some(found.to_vec());
                    push(&mut replacement, &SIGNET_HEADER);
                }
                _ => push(&mut replacement, data),
            },
        }
    }
    if solution.is_some() {
        *script = ScriptBuf::from_bytes(replacement);
    }
    solution
}

/// Appends the shortest opcode by length that pushes `data`.
fn push(script: &mut Vec<u8>, data: &[u8]) {
    // A push read from a script fits one.
    if let Ok(data) = PushBytesBuf::try_from(data.to_vec()) {
        script.extend(ScriptBuf::builder().push_slice(data).as_bytes());
    }
}

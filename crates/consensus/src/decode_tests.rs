use bitcoin::consensus::encode::serialize;

use super::*;

fn sample() -> Transaction {
    Transaction {
        version: Version(-1),
        lock_time: LockTime::from_consensus(7),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(vec![0x51; 300]),
            sequence: Sequence(3),
            witness: Witness::from_slice(&[vec![1; 2], vec![], vec![9; 70_000]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(u64::MAX), script_pubkey: ScriptBuf::new() }],
    }
}

#[test]
fn blocks_and_transactions_survive_a_round_trip() {
    let tx = sample();
    assert_eq!(decode_tx(&serialize(&tx)), Ok(tx.clone()));
    let mut stripped = tx.clone();
    stripped.input[0].witness = Witness::new();
    assert_eq!(decode_tx_no_witness(&serialize(&stripped)), Ok(stripped.clone()));
    let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    block.txdata.push(tx);
    assert_eq!(decode_block(&serialize(&block)), Ok(block));
}

#[test]
fn every_truncation_is_an_error_and_so_is_a_byte_more() {
    let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
    let mut tx = sample();
    tx.input[0].witness = Witness::from_slice(&[[1; 3]]);
    block.txdata.push(tx);
    let mut bytes = serialize(&block);
    for len in 0..bytes.len() {
        assert_eq!(decode_block(&bytes[..len]), Err(DecodeError::EndOfData), "{len}");
    }
    bytes.push(0);
    assert_eq!(decode_block(&bytes), Err(DecodeError::Trailing));
    let mut rest = bytes.as_slice();
    assert_eq!(read_block(&mut rest), Ok(block));
    assert_eq!(rest, [0]);
}

#[test]
fn a_transaction_without_inputs_and_outputs_is_read() {
    let tx = decode_tx(&[2, 0, 0, 0, 0, 0, 9, 0, 0, 0]).unwrap();
    assert!(tx.input.is_empty() && tx.output.is_empty());
    assert_eq!(tx.lock_time.to_consensus_u32(), 9);
}

#[test]
fn witness_flags_are_as_strict_as_in_core() {
    let mut bytes = serialize(&sample());
    assert_eq!(bytes[4..6], [0, 1]);
    bytes[5] = 3;
    assert_eq!(decode_tx(&bytes), Err(DecodeError::UnknownFlag));
    bytes[5] = 2;
    assert_eq!(decode_tx(&bytes), Err(DecodeError::UnknownFlag));

    let mut superfluous = vec![1, 0, 0, 0, 0, 1, 1];
    superfluous.extend([0; 36]);
    superfluous.extend([0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    assert_eq!(decode_tx(&superfluous), Err(DecodeError::SuperfluousWitness));
    // No inputs at all, but the flag.
    assert_eq!(decode_tx(&[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Err(DecodeError::SuperfluousWitness));
}

#[test]
fn counts_have_one_form_and_a_limit() {
    let with_count = |count: &[u8]| decode_tx_no_witness(&[&[1, 0, 0, 0], count, &[0; 64]].concat());
    for long in [&[0xfd, 0xfc, 0][..], &[0xfe, 0xff, 0xff, 0, 0], &[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]]
    {
        assert_eq!(with_count(long), Err(DecodeError::NonCanonical));
    }
    assert_eq!(with_count(&[0xfe, 1, 0, 0, 2]), Err(DecodeError::TooLarge));
    assert_eq!(with_count(&[0xfe, 0, 0, 0, 2]), Err(DecodeError::EndOfData));
}

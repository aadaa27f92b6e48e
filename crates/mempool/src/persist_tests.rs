use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

use super::{Marks, PersistError, Reader, Saved, encode};

fn sample() -> Saved {
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 1 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[1, 2, 3]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(5), script_pubkey: ScriptBuf::new() }],
    };
    Saved {
        txs: vec![(tx.clone(), 1_700_000_000, -5), (tx, 1_700_000_001, 0)],
        marks: Marks {
            deltas: vec![(Txid::from_byte_array([1; 32]), 9), (Txid::from_byte_array([2; 32]), -9)],
            unbroadcast: vec![Txid::from_byte_array([3; 32])],
        },
    }
}

fn read_back(bytes: Vec<u8>) -> Result<Saved, PersistError> {
    let mut reader = Reader::new(bytes)?;
    let mut saved = Saved::default();
    while let Some(tx) = reader.next_tx()? {
        saved.txs.push(tx);
    }
    saved.marks = reader.marks()?;
    Ok(saved)
}

#[test]
fn what_is_written_is_read_back_with_and_without_a_key() {
    for key in [None, Some([0; 8]), Some([1, 2, 3, 4, 5, 6, 7, 8])] {
        assert_eq!(read_back(encode(&sample(), key)).unwrap(), sample());
    }
}

#[test]
fn the_head_is_laid_out_as_core_does() {
    let key = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
    let bytes = encode(&Saved::default(), Some(key));
    assert_eq!(bytes[..17], [&[2, 0, 0, 0, 0, 0, 0, 0, 8], key.as_slice()].concat());
    // Byte 17 of the file meets the key's second byte.
    assert_eq!(bytes[17], key[1]);
    assert_eq!(bytes.len(), 17 + 8 + 1 + 1);
    assert_eq!(encode(&Saved::default(), None)[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn damage_is_an_error_at_every_length() {
    let whole = encode(&sample(), Some([9; 8]));
    for len in 0..whole.len() {
        assert!(read_back(whole[..len].to_vec()).is_err(), "cut at {len}");
    }
    let mut other = whole;
    other[0] = 3;
    assert!(matches!(read_back(other), Err(PersistError::Version(3))));
}

//! Two decoders read blocks and transactions, one in `wire` and one in `consensus`, since neither
//! room may know the other. They and libbitcoinkernel's must read the same of any bytes.

use bitcoin::consensus::encode::serialize;
use ironpeer_testkit::{Fate, Forge, Oracle, OracleLog};
use ironpeer_wire::Reader;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Changes a byte, cuts the end off, or repeats a part.
fn damage(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    let place = rng.gen_range(0..bytes.len());
    match rng.gen_range(0..6) {
        0 => bytes.truncate(place),
        1 => {
            let part = bytes[place..(place + 8).min(bytes.len())].to_vec();
            bytes.splice(place..place, part);
        }
        2 => bytes[place] = *[0x00, 0x01, 0xfd, 0xfe, 0xff].get(rng.gen_range(0..5)).expect("five"),
        _ => bytes[place] ^= 1 << rng.gen_range(0..8),
    }
}

#[test]
fn three_decoders_read_the_same() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut forge = Forge::new(11);
    let log = OracleLog::listen().unwrap();
    let oracle = Oracle::new(log.reasons());
    let (mut read, mut refused) = (0, 0);
    let mut count = |ok: bool| if ok { read += 1 } else { refused += 1 };
    for _ in 0..600 {
        let forged = forge.next_block();
        if forged.bytes.is_empty() {
            continue;
        }
        let answer = oracle.block(&forged.bytes);
        let stored = answer.is_some_and(|answer| !matches!(answer.verdict, Some(Err(_))));
        forge.told(&forged, if stored { Fate::Stored } else { Fate::Failed }, oracle.tip().0);
        if forged.bytes.len() > 100_000 {
            continue;
        }

        for _ in 0..8 {
            let mut bytes = forged.bytes.clone();
            damage(&mut bytes, &mut rng);
            let consensus = ironpeer_consensus::read_block(&mut bytes.as_slice()).ok();
            let wire = ironpeer_wire::decode_block(&mut Reader::new(&bytes)).ok();
            assert_eq!(consensus, wire, "{}", hex::encode(&bytes));
            assert_eq!(bitcoinkernel::Block::new(&bytes).is_ok(), wire.is_some(), "{}", hex::encode(&bytes));
            count(wire.is_some());
        }
        let Ok(block) = ironpeer_consensus::read_block(&mut forged.bytes.as_slice()) else { continue };
        for tx in &block.txdata {
            let mut bytes = serialize(tx);
            damage(&mut bytes, &mut rng);
            let consensus = ironpeer_consensus::read_tx(&mut bytes.as_slice()).ok();
            let wire = ironpeer_wire::decode_transaction(&mut Reader::new(&bytes)).ok();
            assert_eq!(consensus, wire, "{}", hex::encode(&bytes));
            let kernel = bitcoinkernel::Transaction::new(&bytes).is_ok();
            assert_eq!(kernel, wire.is_some(), "{}", hex::encode(&bytes));
            count(wire.is_some());
        }
    }
    assert!(read > 1_000 && refused > 1_000, "{read} read, {refused} refused");
}

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

/// libbitcoin read transactions that say they have witnesses and then have none. Nobody else does,
/// alone or in a block.
#[test]
fn libbitcoin_1814_superfluous_witnesses_are_no_transactions() {
    let tx = |inputs: u8, stacks: &[&[u8]]| {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, inputs];
        for n in 0..inputs {
            bytes.extend([n; 36]);
            bytes.extend([0, 0xff, 0xff, 0xff, 0xff]);
        }
        bytes.extend([1, 7, 0, 0, 0, 0, 0, 0, 0, 1, 0x51]);
        stacks.iter().for_each(|stack| bytes.extend(*stack));
        bytes.extend([0; 4]);
        bytes
    };
    let reads = |bytes: &[u8]| {
        let consensus = ironpeer_consensus::read_tx(&mut &bytes[..]).is_ok();
        let wire = ironpeer_wire::decode_transaction(&mut Reader::new(bytes)).is_ok();
        let kernel = bitcoinkernel::Transaction::new(bytes).is_ok();
        let mut block = serialize(&bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header);
        block.push(1);
        block.extend(bytes);
        let blocks = [
            ironpeer_consensus::read_block(&mut block.as_slice()).is_ok(),
            ironpeer_wire::decode_block(&mut Reader::new(&block)).is_ok(),
            bitcoinkernel::Block::new(&block).is_ok(),
        ];
        assert_eq!([consensus, wire, kernel], blocks, "{}", hex::encode(bytes));
        assert!(consensus == wire && wire == kernel, "{}", hex::encode(bytes));
        kernel
    };
    let (empty, item, empty_item): (&[u8], &[u8], &[u8]) = (&[0], &[1, 1, 9], &[1, 0]);
    for inputs in 1..5 {
        let mut stacks = vec![empty; usize::from(inputs)];
        assert!(!reads(&tx(inputs, &stacks)), "{inputs} empty stacks");
        stacks[usize::from(inputs) - 1] = item;
        assert!(reads(&tx(inputs, &stacks)), "the last stack holds something");
        stacks[usize::from(inputs) - 1] = empty_item;
        assert!(reads(&tx(inputs, &stacks)), "an empty item is an item");
    }
    assert!(!reads(&tx(0, &[])), "no input, but the flag");
    for flag in [2, 3, 0xff] {
        let mut bytes = tx(1, &[item]);
        bytes[5] = flag;
        assert!(!reads(&bytes), "flag {flag}");
    }
}

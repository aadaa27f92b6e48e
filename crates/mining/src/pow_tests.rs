use std::cell::Cell;

use bitcoin::{CompactTarget, Network, constants::genesis_block};

use super::*;

fn header(bits: u32) -> Header {
    Header { bits: CompactTarget::from_consensus(bits), ..genesis_block(Network::Regtest).header }
}

/// No hash in reach meets this target.
const HOPELESS: u32 = 0x0301_0000;

#[test]
fn finds_the_genesis_nonces_of_real_networks() {
    for network in [Network::Bitcoin, Network::Testnet, Network::Signet] {
        let header = genesis_block(network).header;
        let work = Work::new(&header).unwrap();
        let from = header.nonce.saturating_sub(1000);
        assert_eq!(work.search(from, u32::MAX, &Tries::new(5000), || false), SearchEnd::Found(header.nonce));
    }
}

#[test]
fn finds_what_hashing_the_whole_header_finds() {
    let header = header(0x1f7f_ffff);
    let work = Work::new(&header).unwrap();
    let tries = Tries::new(u64::MAX);
    let SearchEnd::Found(nonce) = work.search(0, u32::MAX, &tries, || false) else { panic!() };
    let target = target_from_bits(header.bits).unwrap();
    let first = (0..).find(|nonce| target.is_met_by(Header { nonce: *nonce, ..header }.block_hash()));
    assert_eq!(Some(nonce), first);
    assert_eq!(tries.done(), u64::from(nonce) + 1);
    assert_eq!(tries.left(), u64::MAX - tries.done());
}

#[test]
fn tries_and_nonces_run_out() {
    let work = Work::new(&header(HOPELESS)).unwrap();
    let tries = Tries::new(20_001);
    assert_eq!(work.search(0, u32::MAX, &tries, || false), SearchEnd::OutOfTries);
    assert_eq!((tries.done(), tries.left()), (20_001, 0));
    let tries = Tries::new(u64::MAX);
    assert_eq!(work.search(u32::MAX - 99, u32::MAX, &tries, || false), SearchEnd::Exhausted);
    assert_eq!(tries.done(), 100);
    assert!(Work::new(&header(0)).is_none());
}

#[test]
fn cancellable_proof_of_work_at_most_one_batch_after_cancel() {
    let work = Work::new(&header(HOPELESS)).unwrap();
    let tries = Tries::new(u64::MAX);
    let done_at_cancel = Cell::new(None);
    let looks = Cell::new(0);
    let end = work.search(0, u32::MAX, &tries, || {
        looks.set(looks.get() + 1);
        if looks.get() == 4 {
            done_at_cancel.set(Some(tries.done()));
        }
        done_at_cancel.get().is_some()
    });
    assert_eq!(end, SearchEnd::Cancelled);
    assert_eq!(done_at_cancel.get(), Some(3 * u64::from(NONCE_BATCH)));
    assert_eq!(tries.done(), 3 * u64::from(NONCE_BATCH), "hashes after the cancel was seen");
}

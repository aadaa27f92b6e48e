use std::time::Instant;

use bitcoin::constants::genesis_block;
use bitcoin::{CompactTarget, Network};
use ironpeer_mining::{SearchEnd, Tries, Work};

use super::{Bench, Failure, Row};

/// Header hashes counted for each side.
const HASHES: u32 = 4_000_000;

pub fn rows(_: &Bench) -> Result<Vec<Row>, Failure> {
    let mut header = genesis_block(Network::Bitcoin).header;
    // Nothing this easy to miss is ever met, so that both sides try every nonce.
    let start = Instant::now();
    let mut lowest = header.block_hash();
    for nonce in 0..HASHES {
        header.nonce = nonce;
        lowest = lowest.min(header.block_hash());
    }
    let plain = f64::from(HASHES) / start.elapsed().as_secs_f64();
    std::hint::black_box(lowest);

    // A target of one, so that here too no nonce ends the search.
    header.bits = CompactTarget::from_consensus(0x0300_0001);
    let work = Work::new(&header).ok_or("the header names no target")?;
    let tries = Tries::new(u64::from(HASHES));
    let start = Instant::now();
    let end = work.search(0, u32::MAX, &tries, || false);
    let ours = tries.done() as f64 / start.elapsed().as_secs_f64();
    if end != SearchEnd::OutOfTries {
        return Err(format!("the search ended early: {end:?}").into());
    }
    Ok(vec![Row::against(
        "hash rate, one thread",
        "MH/s",
        ours / 1e6,
        plain / 1e6,
        "block_hash() loop",
        true,
    )])
}

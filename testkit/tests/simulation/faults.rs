//! What lying peers make.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, OutPoint, Txid, Witness};
use ironpeer_consensus::{Params, add_witness_commitment};
use ironpeer_testkit::consensus::{seal, solve};
use rand::Rng;

use crate::wallet::spend;

/// A lie that costs proof of work, told unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A block whose coinbase takes more than it may.
    Greedy,
    /// A block that spends what never was.
    UnknownCoin,
    /// A block with a script that fails.
    BadScript,
    /// Headers of a branch with little work.
    LowWork,
}

impl Lie {
    pub const ALL: [Self; 4] = [Self::Greedy, Self::UnknownCoin, Self::BadScript, Self::LowWork];
}

/// Breaks a block that was sound, and solves it. `coin` is one that it could spend.
pub fn break_block(block: &mut Block, lie: Lie, coin: Option<(OutPoint, u64)>, params: &Params) {
    match lie {
        Lie::Greedy | Lie::LowWork => block.txdata[0].output[0].value += Amount::from_sat(1),
        Lie::BadScript if coin.is_some() => {
            let mut tx = spend(&[coin.unwrap()], &[1_000]);
            Arc::make_mut(&mut tx).input[0].witness = Witness::from_slice(&[[0x52]]);
            block.txdata.push((*tx).clone());
        }
        Lie::UnknownCoin | Lie::BadScript => {
            let nothing = OutPoint { txid: Txid::from_byte_array([0xee; 32]), vout: 0 };
            block.txdata.push((*spend(&[(nothing, 0)], &[1_000])).clone());
        }
    }
    // The commitment is the last output; it is made anew.
    block.txdata[0].output.truncate(1);
    block.txdata[0].input[0].witness = Witness::new();
    add_witness_commitment(block);
    seal(block, params);
}

/// A block body as it may be after somebody changed it on the way; the header stands.
pub fn mutate(block: &Block, rng: &mut impl Rng) -> Block {
    let mut block = block.clone();
    match rng.gen_range(0..4) {
        0 => block.txdata[0].output[0].value = Amount::from_sat(rng.gen_range(1..1_000)),
        1 => {
            let last = block.txdata.last().unwrap().clone();
            block.txdata.push(last);
        }
        2 => block.txdata[0].input[0].witness = Witness::from_slice(&[[rng.r#gen::<u8>(); 32], [0; 32]]),
        _ => {
            block.txdata.truncate(1);
            block.txdata[0].lock_time = bitcoin::absolute::LockTime::from_consensus(1);
        }
    }
    block
}

/// Solved headers that begin at the genesis block.
pub fn low_work_headers(params: &Params, count: u32, rng: &mut impl Rng) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    let mut parent = params.genesis.header;
    for _ in 0..count {
        let mut header = parent;
        header.version = bitcoin::block::Version::from_consensus(0x2000_0000);
        header.prev_blockhash = parent.block_hash();
        header.merkle_root = bitcoin::TxMerkleNode::from_byte_array(rng.r#gen());
        header.time = parent.time + 600;
        solve(&mut header, params);
        headers.push(header);
        parent = header;
    }
    headers
}

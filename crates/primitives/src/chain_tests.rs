use bitcoin::hashes::Hash;
use bitcoin::{Network, constants::genesis_block};

use super::*;

/// A block of twice the work if `hard`.
fn block(hard: bool) -> Arc<ConnectedBlock> {
    let mut block = genesis_block(Network::Regtest);
    if hard {
        block.header.bits = bitcoin::CompactTarget::from_consensus(0x203f_ffff);
    }
    let spent = Arc::new(BlockUndo { txs: Vec::new() });
    Arc::new(ConnectedBlock {
        hash: BlockHash::all_zeros(),
        height: Height(1),
        block: Arc::new(block),
        spent,
    })
}

fn tips(disconnected: &[bool], connected: &[bool]) -> Vec<bool> {
    let blocks = |list: &[bool]| list.iter().map(|hard| block(*hard)).collect();
    let event = ChainEvent { seq: 1, disconnected: blocks(disconnected), connected: blocks(connected) };
    event.connected_with_tips().map(|(_, tip)| tip).collect()
}

#[test]
fn every_block_is_a_tip_unless_it_stands_in_a_branch_not_yet_better() {
    assert_eq!(tips(&[], &[false, false]), [true, true]);
    assert_eq!(tips(&[false], &[false, false, false]), [false, true, true]);
    assert_eq!(tips(&[false, false], &[false, false, false]), [false, false, true]);
    assert_eq!(tips(&[true], &[false, false, false]), [false, false, true]);
    assert_eq!(tips(&[false], &[true]), [true]);
    // A branch of the same work that was preferred by hand.
    assert_eq!(tips(&[false, false], &[false, false]), [false, true]);
    assert_eq!(tips(&[false], &[]), [false; 0]);
}

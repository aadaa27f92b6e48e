use bitcoinkernel::prelude::*;
use bitcoinkernel::{ChainType, ChainstateManagerBuilder, ContextBuilder, ProcessBlockResult};

use super::*;

/// The kernel follows both twins to their tip, past each of the three flaws and through
/// reorganisations, and the same seed gives the same bytes.
#[test]
fn the_kernel_follows_a_synthetic_chain_to_its_tip() {
    for locks in [Locks::Mixed, Locks::OpTrue] {
        let settings = Synthetic {
            seed: 7,
            blocks: 25,
            txs_per_block: 30,
            locks,
            empty_tail: 3,
            reorg_every: 10,
            invalid_every: 7,
        };
        let mut bytes = Vec::new();
        let made = write_synthetic_chain(settings, &mut bytes).unwrap();
        let mut again = Vec::new();
        write_synthetic_chain(settings, &mut again).unwrap();
        assert_eq!(bytes, again);
        assert!(made.txs > u64::from(made.height) + 400, "{} transactions", made.txs);
        assert_eq!((made.stale, made.invalid), (3, 3));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let context = ContextBuilder::new().chain_type(ChainType::Regtest).build().unwrap();
        let chainman = ChainstateManagerBuilder::new(&context, path, &format!("{path}/blocks"))
            .unwrap()
            .block_tree_db_in_memory(true)
            .chainstate_db_in_memory(true)
            .build()
            .unwrap();
        let mut rest = bytes.as_slice();
        while let Some((length, tail)) = rest.get(4..).and_then(|tail| tail.split_first_chunk::<4>()) {
            let length = u32::from_le_bytes(*length) as usize;
            let block = bitcoinkernel::Block::new(&tail[..length]).unwrap();
            assert!(matches!(chainman.process_block(&block), ProcessBlockResult::NewBlock));
            rest = &tail[length..];
        }
        let tip = chainman.active_chain().tip();
        assert_eq!(tip.height(), i32::try_from(made.height).unwrap());
        assert_eq!(tip.block_hash().to_bytes(), made.tip.to_byte_array());
    }
}

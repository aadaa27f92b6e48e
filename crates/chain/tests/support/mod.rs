//! What the tests of this room share.
#![allow(dead_code)]

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::sha256d;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use ironpeer_chain::{
    BlockOutcome, Chain, ChainHandle, ChainThread, ChainView, Config, OpenError, SubmitOptions, UtxoHashKind,
};
use ironpeer_consensus::{Checker, Params, RegtestOptions, ScriptCache};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, NullLog};
use ironpeer_testkit::consensus::block_on;

/// 2026-01-01, well after every block here.
pub const NOW: i64 = 1_767_225_600;

pub fn pool() -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap())
}

/// An open chain.
pub struct Node {
    pub handle: ChainHandle,
    pub clock: Arc<FixedClock>,
    thread: ChainThread,
}

impl Node {
    pub fn open(config: Config) -> Self {
        Self::try_open(config).unwrap()
    }

    pub fn try_open(config: Config) -> Result<Self, OpenError> {
        let clock = Arc::new(FixedClock::at(NOW));
        let cache = Arc::new(ScriptCache::new(1 << 20, [7; 32]));
        let (handle, thread) =
            Chain::open(config, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(NullLog), pool(), cache)?;
        Ok(Self { handle, clock, thread })
    }

    pub fn with_checker(config: Config, checker: Arc<dyn Checker>) -> Self {
        let clock = Arc::new(FixedClock::at(NOW));
        let (handle, thread) = Chain::open_with_checker(
            config,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(NullLog),
            pool(),
            checker,
        )
        .unwrap();
        Self { handle, clock, thread }
    }

    pub fn view(&self) -> ChainView {
        self.handle.view()
    }

    pub fn stop(self) {
        self.handle.shutdown_blocking().unwrap();
        self.thread.join();
    }

    /// Waits for a writer that broke down.
    pub fn wait(self) {
        self.thread.join();
    }
}

/// A script anyone can spend.
pub fn anyone() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

pub fn regtest() -> Config {
    Config::in_memory(Params::regtest(RegtestOptions::default()).into())
}

/// A transaction that moves the given outputs of `from` on, less `fee`, to anyone.
pub fn spend(from: &[(&Transaction, u32)], fee: u64) -> Transaction {
    let value: u64 = from.iter().map(|(tx, vout)| tx.output[*vout as usize].value.to_sat()).sum();
    let input = |(tx, vout): &(&Transaction, u32)| TxIn {
        previous_output: OutPoint { txid: tx.compute_txid(), vout: *vout },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: from.iter().map(input).collect(),
        output: vec![TxOut { value: Amount::from_sat(value - fee), script_pubkey: anyone() }],
    }
}

impl Node {
    /// A solved block on a known header; `tag` tells siblings apart.
    pub fn make(&self, parent: &BlockHash, tag: u32, txs: Vec<Transaction>) -> Arc<Block> {
        let chain = self.view().ancestry(parent).unwrap();
        Arc::new(block_on(&chain, self.view().params(), anyone(), Amount::ZERO, txs, tag))
    }

    pub fn submit(&self, block: &Arc<Block>) -> BlockOutcome {
        self.handle.submit_block_blocking(Arc::clone(block), SubmitOptions::WANTED).unwrap()
    }

    /// Makes and submits `count` blocks in a row on `parent`, which all must be taken.
    pub fn extend(&self, parent: &BlockHash, tag: u32, count: usize) -> Vec<Arc<Block>> {
        let mut parent = *parent;
        let one = |_| {
            let block = self.make(&parent, tag, Vec::new());
            let outcome = self.submit(&block);
            assert!(outcome.new && outcome.result.is_ok(), "{outcome:?}");
            parent = outcome.hash;
            block
        };
        (0..count).map(one).collect()
    }

    pub fn tip(&self) -> BlockHash {
        self.view().tip().hash
    }

    /// Muhash of the coin set.
    pub fn coins(&self) -> sha256d::Hash {
        self.handle.utxo_set_info_blocking(UtxoHashKind::Muhash).unwrap().hash.unwrap()
    }

    /// The whole chain can be taken off and put on again.
    pub fn check(&self) {
        assert_eq!(self.handle.verify_blocking(4, 0), Ok(Ok(())));
    }
}

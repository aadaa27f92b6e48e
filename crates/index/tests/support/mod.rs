//! A chain of random transactions, and the indexes on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use ironpeer_chain::{Backends, Chain, ChainHandle, ChainThread, ChainView, Location, SubmitOptions};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_index::{Config, IndexError, IndexThreads, Indexes, Parts};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, NullLog};
use ironpeer_testkit::consensus::block_on;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// 2026-01-01, well after every block here.
const NOW: i64 = 1_767_225_600;
const MATURITY: u32 = 100;

/// Runs a future that other threads bring to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub fn is_unspendable(script: &Script) -> bool {
    script.is_op_return()
}

/// An open chain on regtest.
pub struct Node {
    pub handle: ChainHandle,
    clock: Arc<FixedClock>,
    thread: ChainThread,
}

impl Node {
    pub fn in_memory() -> Self {
        Self::open(Location::Memory)
    }

    pub fn given(backends: &Backends) -> Self {
        Self::open(Location::Given(backends.clone()))
    }

    fn open(location: Location) -> Self {
        let params = Arc::new(Params::regtest(RegtestOptions::default()));
        let config = ironpeer_chain::Config { location, ..ironpeer_chain::Config::in_memory(params) };
        let clock = Arc::new(FixedClock::at(NOW));
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let cache = Arc::new(ScriptCache::new(1 << 20, [7; 32]));
        let dyn_clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let (handle, thread) = Chain::open(config, dyn_clock, Arc::new(NullLog), pool, cache).unwrap();
        Self { handle, clock, thread }
    }

    pub fn view(&self) -> ChainView {
        self.handle.view()
    }

    pub fn tip(&self) -> BlockHash {
        self.view().tip().hash
    }

    /// Hands a block over, which the chain may be too broken to take.
    pub fn submit(&self, block: &Arc<Block>) {
        let outcome = self.handle.submit_block_blocking(Arc::clone(block), SubmitOptions::WANTED);
        if let Ok(outcome) = outcome {
            assert_eq!(outcome.result, Ok(()));
        }
    }

    pub fn stop(self) {
        // It may have stopped itself.
        let _ = run(self.handle.shutdown());
        self.thread.join();
    }

    /// Mines blocks of random transactions on a known block.
    pub fn grow(&self, parent: &BlockHash, count: u32, rng: &mut ChaCha8Rng) -> Vec<Arc<Block>> {
        let mut coins = self.coins_at(parent);
        let mut parent = *parent;
        let mut blocks = Vec::new();
        for _ in 0..count {
            let view = self.view();
            let Some(ancestry) = view.ancestry(&parent) else { break };
            let height = view.header(&parent).unwrap().height.0 + 1;
            let txs = transactions(&mut coins, height, rng);
            let block = block_on(&ancestry, view.params(), script(rng), Amount::ZERO, txs, rng.r#gen());
            let block = Arc::new(block);
            add_outputs(&mut coins, &block.txdata[0], height, true);
            self.submit(&block);
            parent = block.block_hash();
            blocks.push(block);
        }
        blocks
    }

    /// The coins after a block, found by walking over its chain.
    fn coins_at(&self, hash: &BlockHash) -> Coins {
        let view = self.view();
        let height = view.header(hash).unwrap().height;
        let mut coins = Coins::new();
        for at in 1..=height.0 {
            let info = view.ancestor(hash, ironpeer_primitives::Height(at)).unwrap();
            let block = view.block(&info.hash).unwrap();
            for tx in &block.txdata {
                for input in &tx.input {
                    coins.remove(&input.previous_output);
                }
                add_outputs(&mut coins, tx, at, tx.is_coinbase());
            }
        }
        coins
    }
}

/// Amount, height, and whether a coinbase made it.
type Coins = BTreeMap<OutPoint, (u64, u32, bool)>;

fn add_outputs(coins: &mut Coins, tx: &Transaction, height: u32, coinbase: bool) {
    let txid = tx.compute_txid();
    for (output, vout) in tx.output.iter().zip(0u32..) {
        if !is_unspendable(&output.script_pubkey) {
            coins.insert(OutPoint { txid, vout }, (output.value.to_sat(), height, coinbase));
        }
    }
}

/// One of a few scripts that anyone can spend.
fn script(rng: &mut ChaCha8Rng) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51; rng.gen_range(1..6)])
}

/// Up to four transactions, which may spend each other's outputs.
fn transactions(coins: &mut Coins, height: u32, rng: &mut ChaCha8Rng) -> Vec<Transaction> {
    let mut txs = Vec::new();
    for _ in 0..rng.gen_range(0..5) {
        let ripe = |(_, height_of, coinbase): &(u64, u32, bool)| !coinbase || height_of + MATURITY <= height;
        let usable: Vec<OutPoint> =
            coins.iter().filter(|(_, coin)| ripe(coin)).map(|(outpoint, _)| *outpoint).collect();
        if usable.is_empty() {
            break;
        }
        let mut inputs: Vec<OutPoint> =
            (0..rng.gen_range(1..4)).map(|_| usable[rng.gen_range(0..usable.len())]).collect();
        inputs.sort();
        inputs.dedup();
        let value: u64 = inputs.iter().map(|input| coins.remove(input).unwrap().0).sum();
        let count = rng.gen_range(1..4u64);
        let mut output: Vec<TxOut> = (0..count)
            .map(|_| TxOut { value: Amount::from_sat(value / (count + 1)), script_pubkey: script(rng) })
            .collect();
        if rng.gen_bool(0.3) {
            let script_pubkey = ScriptBuf::new_op_return([rng.r#gen::<u8>()]);
            output.push(TxOut { value: Amount::from_sat(value / 50), script_pubkey });
        }
        let input = inputs.into_iter().map(|previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        });
        let tx =
            Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: input.collect(), output };
        add_outputs(coins, &tx, height, false);
        txs.push(tx);
    }
    txs
}

/// Indexes that follow a node.
pub struct Running {
    pub indexes: Indexes,
    threads: IndexThreads,
}

impl Running {
    pub fn open(node: &Node, config: &Config) -> Self {
        Self::try_open(node, config).unwrap()
    }

    pub fn try_open(node: &Node, config: &Config) -> Result<Self, IndexError> {
        let clock = Arc::clone(&node.clock) as Arc<dyn Clock>;
        let parts = Parts { chain: node.handle.clone(), clock, log: Arc::new(NullLog) };
        let (indexes, threads) = Indexes::open(config, &parts)?;
        Ok(Self { indexes, threads })
    }

    /// Waits until all have what the chain has done so far.
    pub fn catch_up(&self) {
        for handle in self.indexes.handles() {
            assert!(run(handle.wait_caught_up()), "{} has stopped", handle.name());
        }
    }

    /// Stops the node and what follows it.
    pub fn stop(self, node: Node) {
        self.threads.interrupt();
        node.stop();
        self.threads.join();
    }
}

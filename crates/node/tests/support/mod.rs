//! What the process tests of crashes and bad disks share.
#![allow(dead_code)]

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Block, BlockHash, Network};
use ironpeer_chain::{Chain, ChainHandle, ChainThread, Config, SubmitOptions, UtxoHashKind};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, NullLog};
use ironpeer_store::{BlockScanner, OsDisk, XorKey};
use ironpeer_testkit::{Locks, NodeProcess, RpcError, Synthetic, write_synthetic_chain};

/// The daemon under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ironpeer");

/// No peers but those named.
pub const OFFLINE: [&str; 4] = ["-regtest", "-listen=0", "-dnsseed=0", "-fixedseeds=0"];

/// The tip, and the hash of all coins as of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub tip: BlockHash,
    pub coins: String,
}

/// A chain in this process that nothing happens to.
pub struct Twin {
    pub chain: ChainHandle,
    thread: ChainThread,
}

impl Twin {
    pub fn new(params: &Arc<Params>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(2_000_000_000));
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let cache = Arc::new(ScriptCache::new(1 << 20, [9; 32]));
        let config = Config::in_memory(Arc::clone(params));
        let (chain, thread) = Chain::open(config, clock, Arc::new(NullLog), pool, cache).unwrap();
        Self { chain, thread }
    }

    pub fn submit(&self, block: &Block) {
        let outcome =
            self.chain.submit_block_blocking(Arc::new(block.clone()), SubmitOptions::WANTED).unwrap();
        outcome.result.unwrap();
    }

    pub fn state(&self) -> State {
        let info = self.chain.utxo_set_info_blocking(UtxoHashKind::HashSerialized3).unwrap();
        State { tip: self.chain.view().tip().hash, coins: info.hash.unwrap().to_string() }
    }

    pub fn stop(self) {
        self.chain.shutdown_blocking().unwrap();
        self.thread.join();
    }
}

pub fn regtest() -> Arc<Params> {
    Arc::new(Params::regtest(RegtestOptions::default()))
}

/// A real-looking chain of signed spends.
pub fn synthetic_blocks(blocks: u32) -> Vec<Block> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let mut bytes = Vec::new();
    let settings = Synthetic {
        seed: 5,
        blocks,
        txs_per_block: 6,
        locks: Locks::Mixed,
        empty_tail: 0,
        reorg_every: 0,
        invalid_every: 0,
    };
    write_synthetic_chain(settings, &mut bytes).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let magic = Network::Regtest.magic().to_bytes();
    let scan = BlockScanner::open(&OsDisk, &path, magic, XorKey::default()).unwrap();
    scan.map(|found| deserialize(&found.unwrap().bytes).unwrap()).collect()
}

/// The state before the first block and after each.
pub fn states_of(blocks: &[Block]) -> Vec<State> {
    let twin = Twin::new(&regtest());
    let mut states = vec![twin.state()];
    states.extend(blocks.iter().map(|block| {
        twin.submit(block);
        twin.state()
    }));
    twin.stop();
    states
}

/// Writes the coins out and hashes them; the tip comes from the same answer, for right after a
/// start blocks may still be connected.
pub fn state(node: &mut NodeProcess) -> Result<State, RpcError> {
    let info = node.rpc.call("gettxoutsetinfo", &[])?;
    let text = |name: &str| info[name].as_str().unwrap().to_owned();
    Ok(State { tip: text("bestblock").parse().unwrap(), coins: text("hash_serialized_3") })
}

pub fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

/// The folders whose files must never lie.
pub fn chain_folders(datadir: &Path) -> [PathBuf; 2] {
    let net = datadir.canonicalize().unwrap().join("regtest");
    [net.join("blocks"), net.join("chainstate")]
}

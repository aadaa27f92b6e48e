//! The daemon is killed again and again, at random moments of accepting blocks, reorganising,
//! mining, flushing and of recovering from the last kill. Nothing that was answered for may be
//! lost, and the coins must be those of a chain that was never interrupted.
//!
//! The only sleeps here are the moments until a kill, which are what is varied.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::hex::FromHex;
use bitcoin::{Amount, Block, BlockHash, Network, ScriptBuf};
use ironpeer_chain::{Chain, ChainHandle, ChainThread, Config, SubmitOptions, UtxoHashKind};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, NullLog};
use ironpeer_store::{BlockScanner, OsDisk, XorKey};
use ironpeer_testkit::consensus::block_on;
use ironpeer_testkit::{Locks, NodeProcess, RpcError, Synthetic, port, write_synthetic_chain};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// Kills of each workload. Three workloads make the hundred of one run.
const KILLS: u32 = 34;

/// The daemon under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_ironpeer");

/// No peers but those named.
const OFFLINE: [&str; 4] = ["-regtest", "-listen=0", "-dnsseed=0", "-fixedseeds=0"];

/// A start after a crash may take this long.
const START_LIMIT: Duration = Duration::from_secs(5);

/// A chain in this process that nobody kills.
struct Twin {
    chain: ChainHandle,
    thread: ChainThread,
}

impl Twin {
    fn new(params: &Arc<Params>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::at(2_000_000_000));
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let cache = Arc::new(ScriptCache::new(1 << 20, [9; 32]));
        let config = Config::in_memory(Arc::clone(params));
        let (chain, thread) = Chain::open(config, clock, Arc::new(NullLog), pool, cache).unwrap();
        Self { chain, thread }
    }

    fn submit(&self, block: &Block) {
        let outcome =
            self.chain.submit_block_blocking(Arc::new(block.clone()), SubmitOptions::WANTED).unwrap();
        outcome.result.unwrap();
    }

    /// The tip, and the hash of all coins as of it.
    fn state(&self) -> State {
        let info = self.chain.utxo_set_info_blocking(UtxoHashKind::HashSerialized3).unwrap();
        State { tip: self.chain.view().tip().hash, coins: info.hash.unwrap().to_string() }
    }

    fn stop(self) {
        self.chain.shutdown_blocking().unwrap();
        self.thread.join();
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    tip: BlockHash,
    coins: String,
}

fn regtest() -> Arc<Params> {
    Arc::new(Params::regtest(RegtestOptions::default()))
}

/// A real-looking chain of signed spends.
fn synthetic_blocks(blocks: u32) -> Vec<Block> {
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

/// Blocks in the order they are submitted, and the state after each: the main chain with rival
/// branches in between, each of which wins for a while.
fn reorganising_script(rng: &mut StdRng) -> (Vec<Block>, Vec<State>) {
    let params = regtest();
    let twin = Twin::new(&params);
    let (mut script, mut states) = (Vec::new(), Vec::new());
    let mut push = |block: Block| {
        twin.submit(&block);
        script.push(block);
        states.push(twin.state());
    };
    let main = synthetic_blocks(140);
    let mut next_rival = 60;
    for (height, block) in (1u32..).zip(&main) {
        push(block.clone());
        if height < next_rival {
            continue;
        }
        let depth = rng.gen_range(1..=12);
        next_rival = height + 2 + rng.gen_range(0..12);
        let mut parent = main[(height - depth - 1) as usize].block_hash();
        // One block longer than what it replaces; the main chain's next two win again.
        for tag in 0..=depth {
            let ancestry = twin.chain.view().ancestry(&parent).unwrap();
            let rival = block_on(
                &ancestry,
                &params,
                ScriptBuf::from_bytes(vec![0x51]),
                Amount::ZERO,
                vec![],
                height * 100 + tag,
            );
            parent = rival.block_hash();
            push(rival);
        }
    }
    twin.stop();
    (script, states)
}

/// The daemon, and how it is killed.
struct Victim {
    datadir: PathBuf,
    options: Vec<String>,
    rng: StdRng,
    longest_start: Duration,
    kills: u32,
}

impl Victim {
    fn new(datadir: &Path, seed: u64) -> Self {
        Self {
            datadir: datadir.to_owned(),
            options: OFFLINE.map(str::to_owned).to_vec(),
            rng: StdRng::seed_from_u64(seed),
            longest_start: Duration::from_millis(100),
            kills: 0,
        }
    }

    fn spawn(&self) -> NodeProcess {
        NodeProcess::spawn(Path::new(PROGRAM), &self.datadir, "regtest", port(0), &self.options).unwrap()
    }

    /// A running daemon. A third of all kills fall into starts, that is into recovery.
    fn start(&mut self) -> NodeProcess {
        while self.rng.gen_ratio(1, 3) {
            let mut node = self.spawn();
            let moment = self.rng.gen_range(Duration::ZERO..self.longest_start);
            std::thread::sleep(moment);
            node.kill().unwrap();
            self.kills += 1;
        }
        let begun = Instant::now();
        let mut node = self.spawn();
        node.wait_for_rpc().unwrap_or_else(|error| panic!("no start after {} kills: {error}", self.kills));
        let took = begun.elapsed();
        assert!(took < START_LIMIT, "a start took {took:?}");
        self.longest_start = self.longest_start.max(took);
        node
    }

    /// Runs `work` until the daemon dies in the middle of it.
    fn run_and_kill(
        &mut self,
        node: &mut NodeProcess,
        mut work: impl FnMut(&mut NodeProcess) -> Result<(), RpcError>,
    ) {
        let moment = self.rng.gen_range(Duration::ZERO..Duration::from_millis(150));
        let pid = rustix::process::Pid::from_raw(i32::try_from(node.id()).unwrap()).unwrap();
        std::thread::scope(|scope| {
            // The process is not waited for before this thread has ended, so its number is its own.
            scope.spawn(move || {
                std::thread::sleep(moment);
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            });
            loop {
                match work(node) {
                    Ok(()) => {}
                    Err(RpcError::Transport(_)) => break,
                    Err(error) => panic!("refused: {error}"),
                }
            }
        });
        node.kill().unwrap();
        self.kills += 1;
    }
}

fn tip(node: &mut NodeProcess) -> BlockHash {
    node.rpc.call("getbestblockhash", &[]).unwrap().as_str().unwrap().parse().unwrap()
}

fn coins(node: &mut NodeProcess) -> Result<String, RpcError> {
    let info = node.rpc.call("gettxoutsetinfo", &[])?;
    Ok(info["hash_serialized_3"].as_str().unwrap().to_owned())
}

#[test]
fn kills_lose_no_acknowledged_block_through_reorganisations() {
    let (script, states) = reorganising_script(&mut StdRng::seed_from_u64(1));
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(folder.path(), 2);
    // Blocks of the script that were answered for.
    let mut acknowledged = 0;
    let mut flushes = StdRng::seed_from_u64(3);
    while victim.kills < KILLS || acknowledged < script.len() {
        if acknowledged == script.len() {
            // The chain is used up before the kills are: begin again on an empty folder.
            std::fs::remove_dir_all(folder.path().join("regtest")).unwrap();
            acknowledged = 0;
        }
        let mut node = victim.start();
        if acknowledged > 0 {
            // The block under way at the kill may be there or not; nothing before it may miss.
            let found = tip(&mut node);
            let allowed = &states[acknowledged - 1..states.len().min(acknowledged + 1)];
            let state = allowed.iter().find(|state| state.tip == found).unwrap_or_else(|| {
                panic!(
                    "tip {found} after {} kills, {acknowledged} blocks: expected {allowed:?}",
                    victim.kills
                )
            });
            assert_eq!(coins(&mut node).unwrap(), state.coins, "after {} kills", victim.kills);
        }
        victim.run_and_kill(&mut node, |node| {
            let Some(block) = script.get(acknowledged) else {
                return coins(node).map(drop);
            };
            let verdict = node.rpc.call("submitblock", &[json!(serialize_hex(block))])?;
            let taken =
                [Value::Null, json!("inconclusive"), json!("duplicate"), json!("duplicate-inconclusive")];
            assert!(taken.contains(&verdict), "{verdict}");
            acknowledged += 1;
            // This writes the coins out.
            if flushes.gen_ratio(1, 20) { coins(node).map(drop) } else { Ok(()) }
        });
    }
    let mut node = victim.start();
    assert_eq!(tip(&mut node), states[script.len() - 1].tip);
    assert_eq!(coins(&mut node).unwrap(), states[script.len() - 1].coins);
    assert!(node.stop().unwrap().0.success());
}

#[test]
fn kills_lose_no_mined_block() {
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(folder.path(), 4);
    let mut mined: Vec<BlockHash> = Vec::new();
    let address = "bcrt1qs758ursh4q9z627kt3pp5yysm78ddny6txaqgw";
    while victim.kills < KILLS {
        let mut node = victim.start();
        for hash in &mined {
            let header = node.rpc.call("getblockheader", &[json!(hash)]).unwrap();
            assert!(header["confirmations"].as_i64() > Some(0), "{hash} after {} kills", victim.kills);
        }
        victim.run_and_kill(&mut node, |node| {
            let hashes = node.rpc.call("generatetoaddress", &[json!(1), json!(address)])?;
            mined.push(hashes[0].as_str().unwrap().parse().unwrap());
            Ok(())
        });
    }
    let mut node = victim.start();
    let twin = Twin::new(&regtest());
    let height = node.rpc.call("getblockcount", &[]).unwrap().as_u64().unwrap();
    let mut heights = HashMap::new();
    for height in 1..=height {
        let hash = node.rpc.call("getblockhash", &[json!(height)]).unwrap();
        let hex = node.rpc.call("getblock", &[hash.clone(), json!(0)]).unwrap();
        let block: Block = deserialize(&Vec::from_hex(hex.as_str().unwrap()).unwrap()).unwrap();
        twin.submit(&block);
        heights.insert(block.block_hash(), height);
    }
    assert!(mined.iter().all(|hash| heights.contains_key(hash)));
    assert!(!mined.is_empty());
    assert_eq!(State { tip: tip(&mut node), coins: coins(&mut node).unwrap() }, twin.state());
    assert!(node.stop().unwrap().0.success());
    twin.stop();
}

#[test]
fn kills_lose_nothing_while_syncing_from_a_peer() {
    let folder = tempfile::tempdir().unwrap();
    let mut options =
        ["-regtest", "-dnsseed=0", "-fixedseeds=0", "-bind=127.0.0.1"].map(str::to_owned).to_vec();
    options.push(format!("-port={}", port(1)));
    let program = Path::new(PROGRAM);
    let mut peer =
        NodeProcess::start(program, &folder.path().join("peer"), "regtest", port(2), &options).unwrap();
    let blocks = synthetic_blocks(400);
    for block in &blocks {
        assert_eq!(peer.rpc.call("submitblock", &[json!(serialize_hex(block))]).unwrap(), Value::Null);
    }
    let datadir = folder.path().join("victim");
    let mut victim = Victim::new(&datadir, 6);
    victim.options.push(format!("-connect=127.0.0.1:{}", port(1)));
    let height = |node: &mut NodeProcess| Ok(node.rpc.call("getblockcount", &[])?.as_u64().unwrap());
    // The greatest height it gave as an answer.
    let mut seen = 0;
    while victim.kills < KILLS {
        if seen == blocks.len() as u64 {
            std::fs::remove_dir_all(datadir.join("regtest")).unwrap();
            seen = 0;
        }
        let mut node = victim.start();
        let found: Result<u64, RpcError> = height(&mut node);
        let found = found.unwrap();
        assert!(found >= seen, "height {found} after {} kills, {seen} before", victim.kills);
        victim.run_and_kill(&mut node, |node| {
            seen = height(node)?;
            Ok(())
        });
    }
    let mut node = victim.start();
    node.wait_until("getblockcount", &[], |height| height.as_u64() == Some(blocks.len() as u64)).unwrap();
    assert_eq!(tip(&mut node), tip(&mut peer));
    assert_eq!(coins(&mut node).unwrap(), coins(&mut peer).unwrap());
    assert!(node.stop().unwrap().0.success());
    assert!(peer.stop().unwrap().0.success());
}

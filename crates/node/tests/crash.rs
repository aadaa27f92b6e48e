//! The daemon is killed again and again, at counted steps of accepting blocks, reorganising,
//! mining, flushing, stopping, and of recovering from the last kill. Nothing that was answered for
//! may be lost, the coins must be those of a chain that was never interrupted, and the indexes must
//! get to the chain's tip.

mod support;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::hex::FromHex;
use bitcoin::{Amount, Block, BlockHash, ScriptBuf};
use ironpeer_testkit::consensus::block_on;
use ironpeer_testkit::{DiskFault, DiskShim, NodeProcess, RpcError, port};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::{OFFLINE, PROGRAM, State, Twin, chain_folders, killed, regtest, state, synthetic_blocks};

/// Kills of each workload. Three workloads make the hundred of one run.
const KILLS: u32 = 34;

/// All indexes there are.
const INDEXES: [&str; 5] =
    ["-txindex", "-txospenderindex", "-blockfilterindex", "-coinstatsindex", "-addressindex"];

/// A start after a crash may take this long.
const START_LIMIT: Duration = Duration::from_secs(5);

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

/// The daemon, and how it is killed: by a library in it that counts what it writes.
struct Victim {
    datadir: PathBuf,
    options: Vec<String>,
    shim: DiskShim,
    rng: StdRng,
    /// Steps of work within which a kill comes.
    work: Range<u64>,
    /// Steps the last start took, as far as is known.
    last_start: u64,
    kills: u32,
    kills_in_starts: u32,
}

impl Victim {
    fn new(datadir: &Path, seed: u64, work: Range<u64>) -> Self {
        std::fs::create_dir_all(datadir).unwrap();
        Self {
            datadir: datadir.to_owned(),
            options: OFFLINE.map(str::to_owned).to_vec(),
            shim: DiskShim::build().unwrap(),
            rng: StdRng::seed_from_u64(seed),
            work,
            last_start: 30,
            kills: 0,
            kills_in_starts: 0,
        }
    }

    fn spawn(&self, step: u64) -> NodeProcess {
        let [blocks, chainstate] = chain_folders(&self.datadir);
        let indexes = blocks.with_file_name("indexes");
        let folders = [blocks.as_path(), chainstate.as_path(), indexes.as_path()];
        let environment = self.shim.environment(&folders, step, DiskFault::Kill).unwrap();
        let program = Path::new(PROGRAM);
        NodeProcess::spawn_in(program, &self.datadir, "regtest", port(0), &self.options, &environment)
            .unwrap()
    }

    /// A running daemon that will be killed. A third of all kills fall into starts, that is into
    /// recovery.
    fn start(&mut self) -> NodeProcess {
        loop {
            let step = if self.rng.gen_ratio(1, 3) {
                self.rng.gen_range(1..=self.last_start)
            } else {
                self.last_start + self.rng.gen_range(self.work.clone())
            };
            let begun = Instant::now();
            let mut node = self.spawn(step);
            match node.wait_for_rpc() {
                Ok(()) => {
                    let took = begun.elapsed();
                    assert!(took < START_LIMIT, "a start took {took:?}");
                    self.last_start = self.shim.steps().unwrap().max(1);
                    return node;
                }
                Err(error) => {
                    let status = node.wait().unwrap();
                    assert!(killed(status), "no start after {} kills: {error}", self.kills);
                    self.kills += 1;
                    self.kills_in_starts += 1;
                    // A start that died later than expected takes at least so long.
                    self.last_start = self.last_start.max(step);
                }
            }
        }
    }

    /// A daemon that nothing happens to.
    fn start_in_peace(&self) -> NodeProcess {
        let mut node = self.spawn(0);
        node.wait_for_rpc().unwrap();
        node
    }

    /// Runs `work` until the daemon dies in the middle of it, or there is no more: then the stop
    /// may kill it still.
    fn run(
        &mut self,
        mut node: NodeProcess,
        mut work: impl FnMut(&mut NodeProcess) -> Result<bool, RpcError>,
    ) {
        let status = loop {
            match work(&mut node) {
                Ok(true) => {}
                Ok(false) => break node.stop().unwrap().0,
                Err(RpcError::Transport(_)) => break node.wait().unwrap(),
                Err(error) => panic!("refused: {error}"),
            }
        };
        self.kills += u32::from(killed(status));
        assert!(killed(status) || status.success(), "{status}: {}", node.stderr());
    }

    fn assert_spread(&self) {
        assert!(self.kills_in_starts * 5 >= self.kills, "{} of {}", self.kills_in_starts, self.kills);
    }
}

/// Waits until every index has got to the chain's tip, and holds one's numbers against the coins.
fn check_indexes(node: &mut NodeProcess) -> Result<(), RpcError> {
    loop {
        let height = node.rpc.call("getblockcount", &[])?;
        let info = node.rpc.call("getindexinfo", &[])?;
        let indexes = info.as_object().unwrap();
        assert_eq!(indexes.len(), INDEXES.len());
        if indexes
            .values()
            .all(|index| index["synced"] == json!(true) && index["best_block_height"] == height)
        {
            break;
        }
    }
    let mut info =
        |use_index: bool| node.rpc.call("gettxoutsetinfo", &[json!("muhash"), Value::Null, json!(use_index)]);
    let (indexed, scanned) = (info(true)?, info(false)?);
    for name in ["bestblock", "muhash", "txouts", "bogosize", "total_amount"] {
        assert_eq!(indexed[name], scanned[name], "{name}");
    }
    Ok(())
}

#[test]
fn kills_lose_no_acknowledged_block_through_reorganisations() {
    let (script, states) = reorganising_script(&mut StdRng::seed_from_u64(1));
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(folder.path(), 2, 1..300);
    victim.options.extend(INDEXES.map(str::to_owned));
    // Blocks of the script that were answered for.
    let mut acknowledged = 0;
    let mut flushes = StdRng::seed_from_u64(3);
    while victim.kills < KILLS || acknowledged < script.len() {
        if acknowledged == script.len() {
            // The chain is used up before the kills are: begin again on an empty folder.
            std::fs::remove_dir_all(folder.path().join("regtest")).unwrap();
            acknowledged = 0;
        }
        let node = victim.start();
        let kills = victim.kills;
        let mut looked = false;
        victim.run(node, |node| {
            if !looked && acknowledged > 0 {
                // The block under way at the kill may be there or not; nothing before it may miss.
                let found = state(node)?;
                let allowed = &states[acknowledged - 1..states.len().min(acknowledged + 1)];
                assert!(
                    allowed.contains(&found),
                    "{found:?} after {kills} kills, {acknowledged} blocks: expected {allowed:?}"
                );
                check_indexes(node)?;
            }
            looked = true;
            let Some(block) = script.get(acknowledged) else { return Ok(false) };
            let verdict = node.rpc.call("submitblock", &[json!(serialize_hex(block))])?;
            let taken =
                [Value::Null, json!("inconclusive"), json!("duplicate"), json!("duplicate-inconclusive")];
            assert!(taken.contains(&verdict), "{verdict}");
            acknowledged += 1;
            // This writes the coins out.
            if flushes.gen_ratio(1, 20) {
                state(node)?;
            }
            Ok(true)
        });
    }
    let mut node = victim.start_in_peace();
    assert_eq!(state(&mut node).unwrap(), states[script.len() - 1]);
    check_indexes(&mut node).unwrap();
    assert!(node.stop().unwrap().0.success());
    victim.assert_spread();
}

#[test]
fn kills_lose_no_mined_block() {
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(folder.path(), 4, 1..60);
    let mut mined: Vec<BlockHash> = Vec::new();
    let address = "bcrt1qs758ursh4q9z627kt3pp5yysm78ddny6txaqgw";
    while victim.kills < KILLS {
        let node = victim.start();
        let kills = victim.kills;
        let mut looked = 0;
        victim.run(node, |node| {
            if let Some(hash) = mined.get(looked) {
                looked += 1;
                let header = node.rpc.call("getblockheader", &[json!(hash)])?;
                assert!(header["confirmations"].as_i64() > Some(0), "{hash} after {kills} kills");
                return Ok(true);
            }
            let hashes = node.rpc.call("generatetoaddress", &[json!(1), json!(address)])?;
            mined.push(hashes[0].as_str().unwrap().parse().unwrap());
            looked += 1;
            Ok(true)
        });
    }
    let mut node = victim.start_in_peace();
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
    assert_eq!(state(&mut node).unwrap(), twin.state());
    assert!(node.stop().unwrap().0.success());
    twin.stop();
    victim.assert_spread();
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
    let mut victim = Victim::new(&datadir, 6, 1..250);
    victim.options.push(format!("-connect=127.0.0.1:{}", port(1)));
    let height =
        |node: &mut NodeProcess| Ok::<_, RpcError>(node.rpc.call("getblockcount", &[])?.as_u64().unwrap());
    // The greatest height it gave as an answer.
    let mut seen = 0;
    while victim.kills < KILLS {
        if seen == blocks.len() as u64 {
            std::fs::remove_dir_all(datadir.join("regtest")).unwrap();
            seen = 0;
        }
        let node = victim.start();
        let kills = victim.kills;
        let before = seen;
        victim.run(node, |node| {
            let found = height(node)?;
            assert!(found >= before, "height {found} after {kills} kills, {before} before");
            seen = found;
            Ok(seen < blocks.len() as u64)
        });
    }
    let mut node = victim.start_in_peace();
    node.wait_until("getblockcount", &[], |height| height.as_u64() == Some(blocks.len() as u64)).unwrap();
    assert_eq!(state(&mut node).unwrap(), state(&mut peer).unwrap());
    assert!(node.stop().unwrap().0.success());
    assert!(peer.stop().unwrap().0.success());
    victim.assert_spread();
}

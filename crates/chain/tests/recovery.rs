//! Nothing acknowledged is lost, whatever step the node died in.

mod support;

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::{Block, BlockHash};
use ironpeer_chain::{Backends, Config, Location, Prune, ReadError, SimulatedCrash, SubmitOptions};
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_store::{
    Batch, Disk, DiskOp, Durability, FailHook, Kv, KvIter, KvRead, MemDisk, MemKv, Space, StoreError,
};
use support::{Node, regtest, spend};

/// Fails every step on disk from the n-th change on, as a process that died there.
struct Crash {
    left: AtomicUsize,
}

impl Crash {
    fn after(steps: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(steps) })
    }

    fn ask(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("crashed"))
    }

    fn happened(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn hook(self: &Arc<Self>) -> FailHook {
        let crash = Arc::clone(self);
        Arc::new(move |point| match point.op {
            DiskOp::Open | DiskOp::Read => Ok(()),
            _ => crash.ask(),
        })
    }
}

fn copy_kv(kv: &MemKv) -> MemKv {
    let copy = MemKv::new();
    let mut batch = Batch::new();
    for space in [Space(0), Space(1)] {
        for (key, value) in kv.iter(space).map(Result::unwrap) {
            batch.put(space, key, value);
        }
    }
    copy.commit(batch, Durability::Power).unwrap();
    copy
}

/// A key-value store whose commits can fail.
struct CrashKv {
    kv: MemKv,
    crash: Arc<Crash>,
}

impl KvRead for CrashKv {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.kv.get(space, key)
    }

    fn range(&self, space: Space, from: Bound<&[u8]>, to: Bound<&[u8]>, reverse: bool) -> KvIter {
        self.kv.range(space, from, to, reverse)
    }
}

impl Kv for CrashKv {
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.crash.ask().map_err(|error| StoreError::Kv { path: "memory".into(), source: error.into() })?;
        self.kv.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.kv.sync()
    }

    fn snapshot(&self) -> Box<dyn KvRead> {
        self.kv.snapshot()
    }

    fn bytes_on_disk(&self) -> u64 {
        self.kv.bytes_on_disk()
    }
}

/// What a run leaves behind.
struct Remains {
    disk: MemDisk,
    index: MemKv,
    coins: MemKv,
}

impl Remains {
    fn new() -> Self {
        Self { disk: MemDisk::with_power_loss(), index: MemKv::new(), coins: MemKv::new() }
    }

    /// The same, which goes its own way from here.
    fn copy(&self) -> Self {
        Self { disk: self.disk.lose_power(|| true), index: copy_kv(&self.index), coins: copy_kv(&self.coins) }
    }

    /// As `config`, with commits of coins that fail, and nothing else that does.
    fn failing_coins(&self, config: Config, crash: &Arc<Crash>) -> Config {
        let backends = Backends {
            disk: Arc::new(self.disk.clone()),
            index: Arc::new(self.index.clone()),
            coins: Arc::new(CrashKv { kv: self.coins.clone(), crash: Arc::clone(crash) }),
        };
        Config { location: Location::Given(backends), ..config }
    }

    /// Tiny caches: coins are flushed in many small batches.
    fn config(&self) -> Config {
        let backends = Backends {
            disk: Arc::new(self.disk.clone()),
            index: Arc::new(self.index.clone()),
            coins: Arc::new(self.coins.clone()),
        };
        Config { location: Location::Given(backends), cache_bytes: 4_000, batch_bytes: 200, ..regtest() }
    }

    fn crashing(&self, crash: &Arc<Crash>) -> Config {
        self.crashing_with(self.config(), crash)
    }

    fn crashing_with(&self, config: Config, crash: &Arc<Crash>) -> Config {
        let kv = |kv: &MemKv| Arc::new(CrashKv { kv: kv.clone(), crash: Arc::clone(crash) });
        let backends =
            Backends { disk: Arc::new(self.disk.clone()), index: kv(&self.index), coins: kv(&self.coins) };
        Config { location: Location::Given(backends), fail_hook: Some(crash.hook()), ..config }
    }
}

/// Blocks with spends in them, and a rival branch that takes over: the first 101, which are only
/// there for their coinbases, and the rest.
fn workload() -> (Vec<Arc<Block>>, Vec<Arc<Block>>) {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 101);
    let mut rest = Vec::new();
    let mut last = node.tip();
    for (n, ripe) in base.iter().take(6).enumerate() {
        let first = spend(&[(&ripe.txdata[0], 0)], 0);
        let second = spend(&[(&first, 0)], 0);
        let block = node.make(&last, 0, vec![first, second]);
        // Only four more coinbases are ripe by then.
        let block = if n < 4 { block } else { node.make(&last, 0, Vec::new()) };
        last = node.submit(&block).hash;
        rest.push(block);
    }
    let mut parent = rest[1].block_hash();
    for n in 0..7 {
        let txs =
            if n == 2 { vec![spend(&[(&base[2].txdata[0], 0), (&base[3].txdata[0], 0)], 0)] } else { vec![] };
        let block = node.make(&parent, 1, txs);
        parent = node.submit(&block).hash;
        rest.push(block);
    }
    assert_eq!(node.tip(), parent, "the rival took over");
    (base, rest)
}

/// Submits blocks until one is not acknowledged; returns how many were.
fn submit_all(node: &Node, blocks: &[Arc<Block>]) -> usize {
    let submit =
        |block: &Arc<Block>| node.handle.submit_block_blocking(Arc::clone(block), SubmitOptions::WANTED);
    blocks.iter().take_while(|block| submit(block).is_ok_and(|outcome| outcome.result.is_ok())).count()
}

/// The tip after the first `count` blocks of the workload.
fn tip_after(base: &[Arc<Block>], rest: &[Arc<Block>], count: usize) -> BlockHash {
    let twin = Node::open(regtest());
    submit_all(&twin, base);
    submit_all(&twin, &rest[..count]);
    twin.tip()
}

#[test]
fn a_crash_at_any_step_loses_no_acknowledged_block() {
    let (base, rest) = workload();
    let (last, coins) = {
        let twin = Node::open(regtest());
        submit_all(&twin, &base);
        submit_all(&twin, &rest);
        (twin.tip(), twin.coins())
    };
    let tips: Vec<_> = (0..=rest.len()).map(|count| tip_after(&base, &rest, count)).collect();
    let mut crashes = 0;
    for steps in 0.. {
        let remains = Remains::new();
        let node = Node::open(remains.config());
        submit_all(&node, &base);
        node.stop();

        let crash = Crash::after(steps);
        let acknowledged = match Node::try_open(remains.crashing(&crash)) {
            Ok(node) => {
                let count = submit_all(&node, &rest);
                let fatal = node.handle.fatal();
                let flushed = node.handle.shutdown_blocking().is_ok();
                node.wait();
                assert_eq!(fatal.borrow().is_none(), flushed, "a failed step is told");
                count
            }
            Err(_) => 0,
        };
        // Half of the crashes hit the recovery as well.
        if steps % 2 == 1 {
            let again = Crash::after(steps % 23);
            if let Ok(node) = Node::try_open(remains.crashing(&again)) {
                let _ = node.handle.flush_blocking();
                drop(node);
            }
        }
        let node = Node::open(remains.config());
        for block in &rest[..acknowledged] {
            assert!(node.view().header(&block.block_hash()).is_some_and(|header| header.has_data));
        }
        let tip = node.tip();
        let reached = tips.iter().rposition(|at| *at == tip).expect("a tip of the workload");
        assert!(reached >= acknowledged, "after {steps} steps: {reached} of {acknowledged}");
        node.check();
        submit_all(&node, &rest);
        assert_eq!(node.tip(), last);
        assert_eq!(node.coins(), coins);
        node.stop();
        if !crash.happened() {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 60, "only {crashes} steps were made to fail");
}

/// Between two batches the coins on disk belong to no block. Every such moment of a flush across a
/// reorganisation is met, and in each every such moment of the recovery.
#[test]
fn a_crash_between_any_two_batches_of_coins_is_repaired() {
    let (base, rest) = workload();
    let (last, coins) = {
        let twin = Node::open(regtest());
        submit_all(&twin, &base);
        submit_all(&twin, &rest);
        (twin.tip(), twin.coins())
    };
    // Coins of the first branch are on disk; the way to the rival is in memory and in the journal.
    let flushed = Remains::new();
    let large = |remains: &Remains| Config { cache_bytes: 100 << 20, batch_bytes: 40, ..remains.config() };
    let node = Node::open(large(&flushed));
    submit_all(&node, &base);
    submit_all(&node, &rest[..6]);
    node.stop();
    let (mut flushes, mut recoveries) = (0, 0);
    for commits in 1.. {
        let remains = flushed.copy();
        let crash = Crash::after(usize::MAX);
        let node = Node::open(remains.failing_coins(large(&remains), &crash));
        assert_eq!(submit_all(&node, &rest[6..]), rest.len() - 6);
        assert_eq!(node.tip(), last);
        crash.left.store(commits, Ordering::SeqCst);
        let failed = node.handle.flush_blocking().is_err();
        if !failed {
            node.stop();
            break;
        }
        node.wait();
        flushes += 1;
        assert!(remains.coins.get(Space(1), b"H").unwrap().is_some(), "it is between two blocks");
        assert_eq!(remains.coins.get(Space(1), b"B").unwrap(), None);
        for commits in 0.. {
            let remains = remains.copy();
            let crash = Crash::after(commits);
            let repaired = Node::try_open(remains.failing_coins(large(&remains), &crash)).map(Node::stop);
            let node = Node::open(large(&remains));
            assert_eq!((node.tip(), node.coins()), (last, coins), "{flushes} batches, then {commits}");
            node.stop();
            if repaired.is_ok() {
                break;
            }
            recoveries += 1;
        }
    }
    assert!(flushes >= 5 && recoveries >= 5 * flushes, "{flushes} flushes, {recoveries} recoveries");
}

#[test]
fn a_simulated_crash_comes_between_two_batches() {
    let (base, _) = workload();
    let remains = Remains::new();
    let crashes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&crashes);
    let simulated = SimulatedCrash {
        one_in: 1,
        crash: Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
    };
    let node = Node::open(Config {
        simulated_crash: Some(simulated),
        cache_bytes: 100 << 20,
        batch_bytes: 1_000,
        ..remains.config()
    });
    submit_all(&node, &base);
    node.handle.flush_blocking().unwrap();
    let batches = crashes.load(Ordering::SeqCst);
    // 101 coins of about 50 bytes each.
    assert!((4..=8).contains(&batches), "{batches} batches but the last");
    node.stop();
}

#[test]
fn a_crash_at_any_step_of_pruning_loses_nothing() {
    let full = Remains::new();
    let config = |remains: &Remains| Config {
        cache_bytes: 100 << 20,
        prune: Some(Prune::Manual),
        small_block_files: true,
        ..remains.config()
    };
    let node = Node::open(config(&full));
    node.extend(&node.tip(), 0, 900);
    let (tip, coins) = (node.tip(), node.coins());
    // Not on disk yet when the pruning begins.
    let after = node.extend(&tip, 0, 3);
    let twin = full.copy();
    let (expected, tip, coins) = {
        let node = Node::open(config(&twin));
        assert_ne!(node.coins(), coins);
        node.handle.prune_blocking(Some(Height(600))).unwrap();
        let state = (node.view().prune_height(), node.tip(), node.coins());
        node.stop();
        state
    };
    assert!(expected.is_some());
    assert_eq!(tip, after[2].block_hash());
    let mut crashes = 0;
    for steps in 0.. {
        let remains = full.copy();
        let crash = Crash::after(usize::MAX);
        let node = Node::open(remains.crashing_with(config(&remains), &crash));
        crash.left.store(steps, Ordering::SeqCst);
        let failed = node.handle.prune_blocking(Some(Height(600))).is_err();
        crash.left.store(0, Ordering::SeqCst);
        let _ = node.handle.shutdown_blocking();
        node.wait();
        let node = Node::open(config(&remains));
        assert_eq!(node.tip(), tip, "after {steps} steps");
        for height in (1..=903).map(Height) {
            let hash = node.view().active_at(height).unwrap().hash;
            let read = (node.view().block(&hash), node.view().undo(&hash));
            let whole = matches!(read, (Ok(_), Ok(_)) | (Err(ReadError::Pruned), Err(ReadError::Pruned)));
            assert!(whole, "at {height} after {steps} steps: {read:?}");
        }
        node.handle.prune_blocking(Some(Height(600))).unwrap();
        assert_eq!((node.view().prune_height(), node.coins()), (expected, coins));
        assert!(!remains.disk.exists("/blocks/blk00000.dat".as_ref()));
        node.stop();
        if !failed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes >= 6, "only {crashes} steps were made to fail");
    drop(node);
}

#[test]
fn a_nearly_full_disk_stops_the_node_before_it_writes() {
    let remains = Remains::new();
    let node = Node::open(remains.config());
    let base = node.extend(&node.tip(), 0, 3);
    remains.disk.set_free_bytes((50 << 20) - 1);
    let fatal = node.handle.fatal();
    let block = node.make(&node.tip(), 0, Vec::new());
    assert!(node.handle.submit_block_blocking(block, SubmitOptions::WANTED).is_err());
    node.wait();
    assert_eq!(fatal.borrow().as_deref(), Some("Disk space is too low!"));
    remains.disk.set_free_bytes(1 << 30);
    let node = Node::open(remains.config());
    assert_eq!(node.tip(), base[2].block_hash());
    node.extend(&node.tip(), 0, 1);
    node.stop();
}

#[test]
fn what_was_being_written_when_the_node_died_is_cut_off() {
    let remains = Remains::new();
    let node = Node::open(remains.config());
    node.extend(&node.tip(), 0, 3);
    let size = node.view().size_on_disk();
    node.stop();
    for (file, torn) in [("blk00000.dat", 100), ("rev00000.dat", 33)] {
        let path = std::path::Path::new("/blocks").join(file);
        remains.disk.damage(&path, |bytes| bytes.resize(bytes.len() + torn, 0xaa));
    }
    let node = Node::open(remains.config());
    assert_eq!(node.view().size_on_disk(), size);
    node.extend(&node.tip(), 0, 1);
    node.check();
    node.stop();
}

#[test]
fn a_power_loss_costs_recent_blocks_only_and_needs_no_reindex() {
    let (base, rest) = workload();
    let (last, coins) = {
        let twin = Node::open(regtest());
        submit_all(&twin, &base);
        submit_all(&twin, &rest);
        (twin.tip(), twin.coins())
    };
    let mut state = 1u64;
    let mut toss = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 1
    };
    for steps in (0..120).step_by(3) {
        let remains = Remains::new();
        let node = Node::open(remains.config());
        submit_all(&node, &base);
        node.stop();
        let crash = Crash::after(steps);
        if let Ok(node) = Node::try_open(remains.crashing(&crash)) {
            submit_all(&node, &rest);
            let _ = node.handle.shutdown_blocking();
            node.wait();
        }
        let remains = Remains { disk: remains.disk.lose_power(&mut toss), ..remains };
        let node = Node::open(remains.config());
        assert!(node.view().tip().height.0 >= 101, "what was flushed is there");
        node.check();
        submit_all(&node, &rest);
        assert_eq!(node.tip(), last, "after {steps} steps");
        assert_eq!(node.coins(), coins);
        node.stop();
    }
}

#[test]
fn the_active_tip_keeps_its_place_against_a_rival_of_equal_work() {
    let remains = Remains::new();
    let node = Node::open(remains.config());
    let base = node.extend(&node.tip(), 0, 3);
    let rival = node.extend(&base[1].block_hash(), 1, 1)[0].block_hash();
    let tip = base[2].block_hash();
    assert_eq!(node.tip(), tip);
    node.stop();
    // Killed right after the change: only the journal knows of it.
    let crash = Crash::after(usize::MAX);
    let node = Node::open(remains.crashing(&crash));
    assert_eq!(node.tip(), tip);
    node.handle.precious_blocking(rival).unwrap();
    assert_eq!(node.tip(), rival);
    crash.left.store(0, Ordering::SeqCst);
    assert!(node.handle.shutdown_blocking().is_err());
    node.wait();
    for _ in 0..2 {
        let node = Node::open(remains.config());
        assert_eq!(node.tip(), rival, "though the other came first");
        node.stop();
    }
}

#[test]
fn marks_survive_a_restart() {
    let remains = Remains::new();
    let node = Node::open(remains.config());
    let base = node.extend(&node.tip(), 0, 5);
    node.handle.invalidate_blocking(base[2].block_hash()).unwrap();
    node.stop();
    let node = Node::open(remains.config());
    assert_eq!(node.tip(), base[1].block_hash());
    assert!(node.view().header(&base[4].block_hash()).unwrap().failed);
    node.handle.reconsider_blocking(base[2].block_hash()).unwrap();
    assert_eq!(node.tip(), base[4].block_hash());
    node.stop();
    assert_eq!(Node::open(remains.config()).tip(), base[4].block_hash());
}

#[test]
fn another_nodes_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let chainstate = dir.path().join("chainstate");
    std::fs::create_dir_all(&chainstate).unwrap();
    std::fs::write(chainstate.join("CURRENT"), "MANIFEST-000001\n").unwrap();
    let config = Config { location: Config::on_disk(regtest().params, dir.path()).location, ..regtest() };
    let error = Node::try_open(config).err().expect("not ours");
    assert!(matches!(&error, ironpeer_chain::OpenError::Foreign { path } if *path == chainstate), "{error}");
    assert_eq!(std::fs::read_dir(&chainstate).unwrap().count(), 1);
    assert_eq!(std::fs::read(chainstate.join("CURRENT")).unwrap(), b"MANIFEST-000001\n");
}

#[test]
fn coins_are_flushed_by_the_clock() {
    let remains = Remains::new();
    let config = || Config { cache_bytes: 100 << 20, ..remains.config() };
    let node = Node::open(config());
    node.extend(&node.tip(), 0, 3);
    let best = || remains.coins.get(Space(1), b"B").unwrap();
    assert_eq!(best(), None, "all is in memory still");
    node.clock.advance(std::time::Duration::from_secs(71 * 60));
    let last = node.extend(&node.tip(), 0, 1);
    // The flush runs beside the writer; a second one waits for it.
    node.handle.flush_blocking().unwrap();
    assert_eq!(best().unwrap(), AsRef::<[u8]>::as_ref(&last[0].block_hash()));
}

#[test]
fn damage_is_named_or_harmless_and_never_a_panic() {
    let (base, rest) = workload();
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut named, mut harmless) = (0, 0);
    for round in 0..60 {
        let remains = Remains::new();
        let node = Node::open(remains.config());
        submit_all(&node, &base);
        node.handle.flush_blocking().unwrap();
        submit_all(&node, &rest);
        let tip = node.tip();
        if round % 2 == 0 {
            node.stop();
        }
        let file = ["/blocks/blk00000.dat", "/blocks/rev00000.dat", "/journal.dat"][round % 3];
        let disk = remains.disk.lose_power(|| true);
        disk.damage(std::path::Path::new(file), |bytes| {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes.truncate(at),
                _ => bytes.iter_mut().skip(at).take(512).for_each(|byte| *byte = 0),
            }
        });
        let remains = Remains { disk, ..remains };
        match Node::try_open(remains.config()) {
            Err(_) => named += 1,
            Ok(node) => {
                for block in base.iter().chain(&rest) {
                    let hash = block.block_hash();
                    if let Ok(read) = node.view().block(&hash) {
                        assert_eq!(read.block_hash(), hash);
                    }
                    let _ = node.view().undo(&hash);
                }
                // What was lost can be had again.
                submit_all(&node, &base);
                submit_all(&node, &rest);
                if node.handle.fatal().borrow().is_none() && node.tip() == tip {
                    harmless += 1;
                }
            }
        }
    }
    assert!(named > 0 && harmless > 0, "{named} named, {harmless} harmless");
}

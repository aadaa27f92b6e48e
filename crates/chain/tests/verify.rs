//! What `-checklevel` finds, level by level.

mod support;

use std::path::Path;
use std::sync::Arc;

use bitcoin::{Amount, Block, ScriptBuf};
use ironpeer_chain::{Backends, Config, Location, OpenError, VerifyError};
use ironpeer_consensus::{Checker, ScriptFailure, TxScriptCheck};
use ironpeer_store::{Batch, Durability, Kv, KvRead, MemDisk, MemKv, Space};
use ironpeer_testkit::consensus::solve;
use support::{NOW, Node, regtest, spend};

/// The keyspace of coins.
const COINS: Space = Space(0);

struct Stored {
    disk: MemDisk,
    coins: MemKv,
    config: Config,
}

impl Stored {
    fn new() -> Self {
        let (disk, coins) = (MemDisk::new(), MemKv::new());
        let backends = Backends {
            disk: Arc::new(disk.clone()),
            index: Arc::new(MemKv::new()),
            coins: Arc::new(coins.clone()),
        };
        Self { disk, coins, config: Config { location: Location::Given(backends), ..regtest() } }
    }

    /// A chain of 110 blocks, the last with a spend, and no check at start.
    fn with_chain() -> (Self, Arc<Block>) {
        let stored = Self::new();
        let node = Node::open(stored.config.clone());
        let base = node.extend(&node.tip(), 0, 109);
        let last = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]);
        assert!(node.submit(&last).result.is_ok());
        assert_eq!(node.handle.verify_blocking(4, 6), Ok(Ok(())));
        node.stop();
        (stored, last)
    }

    /// What checking the last 6 blocks at each level says, and whether the node would start.
    fn found(&self) -> ([Option<String>; 5], bool) {
        let node = Node::open(Config { check_level: 0, check_blocks: 1, ..self.config.clone() });
        let found = [0, 1, 2, 3, 4].map(|level| match node.handle.verify_blocking(level, 6).unwrap() {
            Ok(()) => None,
            Err(VerifyError::Corrupted(text)) => Some(text),
            Err(other) => panic!("{other}"),
        });
        node.handle.shutdown_blocking().unwrap();
        node.wait();
        let starts = match Node::try_open(self.config.clone()) {
            Ok(node) => {
                node.stop();
                true
            }
            Err(OpenError::Corrupted(text)) => {
                assert_eq!(text, "Corrupted block database detected");
                false
            }
            Err(other) => panic!("{other}"),
        };
        (found, starts)
    }

    fn damage(&self, file: &str, needle: &[u8]) {
        self.disk.damage(Path::new(file), |bytes| {
            let at = bytes.windows(needle.len()).rposition(|window| window == needle).unwrap();
            bytes[at] ^= 1;
        });
    }
}

#[test]
fn each_level_finds_what_those_below_do_not() {
    let (stored, _) = Stored::with_chain();
    assert_eq!(stored.found(), ([const { None }; 5], true));

    // A transaction's byte: the header still fits.
    let (stored, last) = Stored::with_chain();
    let hash = last.block_hash();
    stored.damage("/blocks/blk00000.dat", &bitcoin::consensus::serialize(&last.txdata[1].output[0].value));
    let (found, starts) = stored.found();
    let text = format!("found bad block at 110, hash={hash} (bad-txnmrklroot, hashMerkleRoot mismatch)");
    assert_eq!(found, [None, Some(text.clone()), Some(text.clone()), Some(text.clone()), Some(text)]);
    assert!(!starts);

    let (stored, last) = Stored::with_chain();
    let hash = last.block_hash();
    // The undo record's checksum ends the file.
    stored.disk.damage(Path::new("/blocks/rev00000.dat"), |bytes| *bytes.last_mut().unwrap() ^= 1);
    let (found, starts) = stored.found();
    let text = format!("found bad undo data at 110, hash={hash}");
    assert_eq!(found, [None, None, Some(text.clone()), Some(text.clone()), Some(text)]);
    assert!(!starts);

    let (stored, last) = Stored::with_chain();
    let made = last.txdata[1].compute_txid();
    let (key, _) = stored
        .coins
        .iter(COINS)
        .map(Result::unwrap)
        .find(|(key, _)| key.starts_with(bitcoin::hashes::Hash::as_byte_array(&made)))
        .unwrap();
    let mut batch = Batch::new();
    batch.delete(COINS, key);
    stored.coins.commit(batch, Durability::Power).unwrap();
    let (found, starts) = stored.found();
    let text = "coin database inconsistencies found (last 1 blocks, 5 good transactions before that)";
    assert_eq!(found[..3], [const { None }; 3]);
    assert_eq!(found[3..], [Some(text.to_owned()), Some(text.to_owned())]);
    assert!(!starts);
}

/// Takes every script for good.
struct Credulous;

impl Checker for Credulous {
    fn check(&self, _: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        Ok(())
    }
}

#[test]
fn only_the_last_level_runs_scripts() {
    let stored = Stored::new();
    let node = Node::with_checker(stored.config.clone(), Arc::new(Credulous));
    let base = node.extend(&node.tip(), 0, 101);
    let mut bad = spend(&[(&base[0].txdata[0], 0)], 0);
    bad.input[0].script_sig = ScriptBuf::from_bytes(vec![0x6a]);
    let block = node.make(&node.tip(), 0, vec![bad]);
    assert!(node.submit(&block).result.is_ok());
    node.stop();
    let (found, starts) = stored.found();
    assert_eq!(found[..4], [const { None }; 4]);
    let text = found[4].as_deref().unwrap();
    let expected = format!(
        "found unconnectable block at 102, hash={} (block-script-verify-flag-failed",
        block.block_hash()
    );
    assert!(text.starts_with(&expected), "{text}");
    assert!(starts, "the check at start stops below that level");
}

#[test]
fn a_tip_from_the_future_is_told_and_a_small_cache_admitted() {
    let stored = Stored::new();
    let node = Node::open(stored.config.clone());
    node.clock.advance(std::time::Duration::from_secs(4 * 60 * 60));
    let mut ahead = Block::clone(&node.make(&node.tip(), 0, Vec::new()));
    ahead.header.time = u32::try_from(NOW).unwrap() + 3 * 60 * 60;
    solve(&mut ahead.header, node.view().params());
    assert!(node.submit(&Arc::new(ahead)).result.is_ok());
    node.stop();
    let error = Node::try_open(stored.config.clone()).err().unwrap();
    assert!(error.to_string().contains("appears to be from the future"), "{error}");

    // Taking this one off fills the least cache there can be.
    let stored = Stored::new();
    let small = Config { cache_bytes: 1, ..stored.config.clone() };
    let node = Node::open(small.clone());
    let base = node.extend(&node.tip(), 0, 101);
    let mut wide = spend(&[(&base[0].txdata[0], 0)], 0);
    wide.output[0].value = Amount::from_sat(1_000);
    let output = wide.output[0].clone();
    wide.output.resize(25_000, output);
    let block = node.make(&node.tip(), 0, vec![wide]);
    assert!(node.submit(&block).result.is_ok());
    assert_eq!(node.handle.verify_blocking(3, 1), Ok(Ok(())));
    assert_eq!(node.handle.verify_blocking(2, 6), Ok(Ok(())));
    assert_eq!(node.handle.verify_blocking(3, 6), Ok(Err(VerifyError::SkippedLevel3)));
    node.stop();
    Node::open(small.clone()).stop();
    let error = Node::try_open(Config { check_required: true, ..small }).err().unwrap();
    assert_eq!(error.to_string(), "Insufficient dbcache for block verification");
}

//! Real chains in, Bitcoin Core's coin set out.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::Work;
use ironpeer_chain::{Backends, Config, Location, UtxoHashKind};
use ironpeer_consensus::{Checker, InlineChecker, Params, ScriptCache, ScriptFailure, TxScriptCheck};
use ironpeer_primitives::{ChainRead, Height};
use ironpeer_testkit::testdata;
use support::Node;

struct Oracle {
    file: &'static str,
    params: fn() -> Params,
    height: u32,
    tip: &'static str,
    txouts: u64,
    coins: u64,
    hash_serialized: &'static str,
    muhash: &'static str,
}

/// What Bitcoin Core said after the same files.
const TESTNET: Oracle = Oracle {
    file: "testnet3-blocks-1-4000.dat",
    params: Params::testnet3,
    height: 4000,
    tip: "00000000185b36fa6e406626a722793bea80531515e0b2a99ff05b73738901f1",
    txouts: 4197,
    coins: 200_000,
    hash_serialized: "d47a6ca2d786f0db1f8ce4bb8d56d5b26778c8dff317f62036e56b9d7ea0e82c",
    muhash: "6a155d607dccdf17321178f9598283ca7d2b05cc7fa64f8cc4293f2533ff7124",
};
const MAIN: Oracle = Oracle {
    file: "mainnet-blocks-0-438.dat",
    params: Params::main,
    height: 438,
    tip: "0000000025c6b644f8add734be7e666fa4afa43ca0204d623a0c0b1fd2104c7a",
    txouts: 443,
    coins: 21_900,
    hash_serialized: "3790edaecd696a0879c5b6f1d2a9bdf8af69b28706517a960c7dd58ec8bd67fa",
    muhash: "bbfed8c011991c30706e507a56d7e7f13f509a4ba66038253a179d4bcd7112a1",
};

impl Oracle {
    fn config(&self) -> Config {
        Config { assume_valid: None, ..Config::in_memory((self.params)().into()) }
    }

    fn compare(&self, node: &Node) {
        let tip = node.view().tip();
        assert_eq!(tip.height.0, self.height);
        assert_eq!(tip.hash.to_string(), self.tip);
        let serialized = node.handle.utxo_set_info_blocking(UtxoHashKind::HashSerialized3).unwrap();
        assert_eq!(serialized.block, tip);
        assert_eq!(serialized.txouts, self.txouts);
        assert_eq!(serialized.total_amount.to_sat(), self.coins * 100_000_000);
        assert_eq!(serialized.hash.unwrap().to_string(), self.hash_serialized);
        let muhash = node.handle.utxo_set_info_blocking(UtxoHashKind::Muhash).unwrap();
        assert_eq!(muhash.hash.unwrap().to_string(), self.muhash);
    }

    fn import(&self, config: Config) -> Node {
        let node = Node::open(config);
        let stats = node.handle.import_blocking(&testdata(self.file)).unwrap();
        assert_eq!(stats.without_parent, 0);
        node
    }
}

#[test]
fn imports_testnet3_1_to_4000_and_equals_the_oracle() {
    let node = TESTNET.import(TESTNET.config());
    TESTNET.compare(&node);
    assert_eq!(node.view().chain_tx_count(&node.view().tip().hash), Some(4942));
    assert_eq!(node.handle.verify_blocking(4, 100), Ok(Ok(())));
}

#[test]
fn imports_main_0_to_438_and_equals_the_oracle() {
    MAIN.compare(&MAIN.import(MAIN.config()));
}

#[test]
fn a_tiny_cache_flushes_often_and_the_coins_are_the_same_after_reopening() {
    let backends = Backends::in_memory();
    let config = Config {
        cache_bytes: 20_000,
        batch_bytes: 1_000,
        location: Location::Given(backends),
        ..TESTNET.config()
    };
    let node = TESTNET.import(config.clone());
    TESTNET.compare(&node);
    node.stop();
    let node = Node::open(config);
    TESTNET.compare(&node);
}

#[test]
fn on_disk_it_is_the_same_after_reopening_and_a_reindex() {
    let dir = tempfile::tempdir().unwrap();
    let location = Config::on_disk(MAIN.config().params, dir.path()).location;
    let config = Config { location, xor_key: Some([1, 2, 3, 4, 5, 6, 7, 8]), ..MAIN.config() };
    let node = MAIN.import(config.clone());
    MAIN.compare(&node);
    node.stop();
    let node = Node::open(config.clone());
    MAIN.compare(&node);
    assert!(!node.view().reindexing());
    node.stop();

    let node = Node::open(Config { reindex: ironpeer_chain::Reindex::All, ..config.clone() });
    assert!(node.view().reindexing());
    assert_eq!(node.view().tip().height.0, 0);
    let stats = node.handle.reindex_blocking().unwrap();
    assert_eq!(stats.found, 439);
    MAIN.compare(&node);
    assert!(!node.view().reindexing());
    node.stop();

    let node = Node::open(Config { reindex: ironpeer_chain::Reindex::Coins, ..config });
    node.handle.flush_blocking().unwrap();
    MAIN.compare(&node);
}

#[test]
fn blocks_in_any_order_and_noise_between_them_make_no_difference() {
    let bytes = std::fs::read(testdata(MAIN.file)).unwrap();
    let mut blocks = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() > 8 {
        let len = 8 + u32::from_le_bytes(rest[4..8].try_into().unwrap()) as usize;
        blocks.push(&rest[..len]);
        rest = &rest[len..];
    }
    blocks.reverse();
    blocks.swap(3, 200);
    let noise = [0u8; 100];
    let mut shuffled = MAIN.config().params.magic.to_vec();
    for block in blocks {
        shuffled.extend(block);
        shuffled.extend(noise);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bootstrap.dat");
    std::fs::write(&file, shuffled).unwrap();
    let node = Node::open(MAIN.config());
    let stats = node.handle.import_blocking(&file).unwrap();
    assert_eq!((stats.found, stats.without_parent), (439, 0));
    MAIN.compare(&node);
}

/// Counts the transactions whose scripts are checked.
struct Counting {
    checked: Arc<AtomicUsize>,
    inner: InlineChecker,
}

impl Checker for Counting {
    fn check(&self, checks: Vec<TxScriptCheck>) -> Result<(), (usize, ScriptFailure)> {
        self.checked.fetch_add(checks.len(), Ordering::Relaxed);
        self.inner.check(checks)
    }
}

fn counting() -> (Arc<AtomicUsize>, Arc<dyn Checker>) {
    let checked = Arc::new(AtomicUsize::new(0));
    let inner = InlineChecker::new(Arc::new(ScriptCache::new(1 << 16, [1; 32])));
    (Arc::clone(&checked), Arc::new(Counting { checked, inner }))
}

#[test]
fn assumevalid_spares_scripts_only_where_core_does() {
    let import = |assume_valid, work: u8| {
        let (checked, checker) = counting();
        let minimum_chainwork = Work::from_be_bytes([work; 32]);
        let node =
            Node::with_checker(Config { assume_valid, minimum_chainwork, ..TESTNET.config() }, checker);
        node.handle.import_blocking(&testdata(TESTNET.file)).unwrap();
        TESTNET.compare(&node);
        (checked.load(Ordering::Relaxed), node)
    };
    let (checked, node) = import(None, 0);
    // Of 4,942 transactions, the genesis block's among them, 4,001 are coinbases.
    let all = 4942 - 4001;
    assert_eq!(checked, all);
    let tip = Some(node.view().tip().hash);
    let unknown = Some("33".repeat(32).parse().unwrap());
    assert_eq!(import(unknown, 0).0, all, "not among our headers");
    assert_eq!(import(tip, 1).0, all, "the best header has too little work");
    // Every spend lies more than two weeks of work, 2,016 blocks, below the best header.
    assert_eq!(import(tip, 0).0, 0);
    let some = node.view().active_at(Height(450)).unwrap().hash;
    let above: u64 = (451..=4000)
        .map(|height| u64::from(node.view().active_at(Height(height)).unwrap().tx_count) - 1)
        .sum();
    assert!(above > 0 && above < all as u64);
    assert_eq!(import(Some(some), 0).0 as u64, above, "only its ancestors are spared");
}

#[test]
fn assumevalid_spares_nothing_within_two_weeks_of_the_best_header() {
    let twin = Node::open(support::regtest());
    let base = twin.extend(&twin.tip(), 0, 101);
    let spending = twin.make(&twin.tip(), 0, vec![support::spend(&[(&base[0].txdata[0], 0)], 0)]);
    twin.submit(&spending);
    let (checked, checker) = counting();
    let config = Config { assume_valid: Some(twin.tip()), ..support::regtest() };
    let node = Node::with_checker(config, checker);
    let headers = base.iter().chain([&spending]).map(|block| block.header).collect();
    node.handle.submit_headers_blocking(headers, true).unwrap();
    for block in base.iter().chain([&spending]) {
        node.submit(block);
    }
    assert_eq!(node.tip(), twin.tip());
    assert_eq!(checked.load(Ordering::Relaxed), 1);
}

#[test]
fn building_the_coins_anew_checks_every_script_again() {
    let config = Config { location: Location::Given(Backends::in_memory()), ..TESTNET.config() };
    TESTNET.import(config.clone()).stop();
    let (checked, checker) = counting();
    let node = Node::with_checker(Config { reindex: ironpeer_chain::Reindex::Coins, ..config }, checker);
    node.handle.flush_blocking().unwrap();
    TESTNET.compare(&node);
    assert_eq!(checked.load(Ordering::Relaxed), 4942 - 4001);
}

#[test]
fn an_unreadable_file_is_an_error_and_the_next_import_works() {
    let node = Node::open(MAIN.config());
    assert!(node.handle.import_blocking(std::path::Path::new("/nonexistent/blk00000.dat")).is_err());
    node.handle.import_blocking(&testdata(MAIN.file)).unwrap();
    MAIN.compare(&node);
}

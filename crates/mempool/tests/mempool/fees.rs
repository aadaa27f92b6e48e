//! Fee estimates of a mempool on a chain, and `fee_estimates.dat`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::OutPoint;
use ironpeer_mempool::{Config, FeeRate, MempoolHandle};
use ironpeer_primitives::{Clock as _, LogSink};
use ironpeer_store::{Disk as _, OpenMode};

use crate::logs::Lines;
use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;
const FILE: &str = "/fee_estimates.dat";
const HOUR: Duration = Duration::from_secs(3_600);

/// A node that is up to date: its clock stands at the tip's time.
async fn up_to_date(config: Config, log: Arc<dyn LogSink>, count: usize) -> (Node, Vec<OutPoint>) {
    let mut node = Node::with_log(config, log);
    let coins = node.fund(count, COIN).await;
    node.clock.set_mock(node.mempool.view().tip.header.time.into());
    // The block that ends the initial download.
    node.mine(Vec::new()).await;
    (node, coins)
}

/// Sends a transaction for each coin, all of one fee, and mines them.
async fn mine_paying(node: &mut Node, coins: &[OutPoint], fee: u64) -> u64 {
    let txs: Vec<Tx> = coins.iter().map(|coin| Tx::spending([*coin]).pay(COIN - fee)).collect();
    for tx in &txs {
        node.accept(tx).await;
    }
    let rate = fee * 1_000 / txs[0].vsize();
    node.mine(txs.into_iter().map(|tx| tx.0).collect()).await;
    rate
}

fn rate(mempool: &MempoolHandle, target: u32) -> Option<u64> {
    mempool.estimate_smart_fee(target, false).unwrap().feerate.map(FeeRate::sat_per_kvb)
}

#[tokio::test]
async fn what_was_mined_tells_the_fee_and_survives_a_restart() {
    let lines = Arc::new(Lines::default());
    let log = Arc::clone(&lines) as Arc<dyn LogSink>;
    let (mut node, coins) = up_to_date(Config::default(), log, 60).await;
    let path = Path::new(FILE);
    assert_eq!(rate(&node.mempool, 2), None);
    let mut paid = 0;
    for coins in coins.chunks(10) {
        paid = mine_paying(&mut node, coins, 5_000).await;
    }
    assert_eq!(rate(&node.mempool, 2), Some(paid));
    // Five blocks since the first with a transaction, of which half may be answered for.
    assert_eq!(node.mempool.estimate_smart_fee(6, false).unwrap().blocks, 2);
    let raw = node.mempool.estimate_raw_fee(20, 0.95).unwrap();
    assert_eq!(raw.iter().map(|(horizon, _)| horizon.name()).collect::<Vec<_>>(), ["medium", "long"]);
    // The long horizon wants to see more before it speaks.
    let rates: Vec<_> = raw.iter().map(|(_, one)| one.feerate.map(FeeRate::sat_per_kvb)).collect();
    assert_eq!(rates, [Some(paid), None]);

    node.mempool.save_fee_estimates(path, true).await;
    let fresh = node.restarted_mempool();
    assert_eq!(rate(&fresh, 2), None);
    lines.0.lock().clear();
    fresh.load_fee_estimates(path, 61 * HOUR, false).await;
    assert_eq!(rate(&fresh, 2), None);
    fresh.load_fee_estimates(path, 61 * HOUR - Duration::from_secs(1), false).await;
    assert_eq!(rate(&fresh, 2), Some(paid));
    let stale = node.restarted_mempool();
    stale.load_fee_estimates(path, 1_000 * HOUR, true).await;
    assert_eq!(rate(&stale, 2), Some(paid));
    stale.save_fee_estimates(path, false).await;
    let read =
        |blocks: u32| format!("Reading estimates: 237 buckets counting confirms up to {blocks} blocks");
    assert_eq!(
        *lines.0.lock(),
        [
            format!(
                "Fee estimation file {FILE} too old (age=61 > 60 hours) and will not be used to avoid serving stale estimates."
            ),
            read(48),
            read(12),
            read(1_008),
            read(48),
            read(12),
            read(1_008),
            format!("Flushed fee estimates to {FILE}."),
        ]
    );
}

#[tokio::test]
async fn an_estimate_is_no_less_than_what_is_taken_now() {
    let floor = FeeRate::from_sat_per_kvb(90_000);
    let (mut node, coins) = up_to_date(Config::default(), Arc::new(ironpeer_primitives::NullLog), 40).await;
    for coins in coins.chunks(8) {
        mine_paying(&mut node, coins, 1_000).await;
    }
    node.mempool.save_fee_estimates(Path::new(FILE), false).await;
    let dear = node.other_mempool(Config { min_relay: floor, ..Config::default() });
    dear.load_fee_estimates(Path::new(FILE), HOUR, false).await;
    assert!(rate(&node.mempool, 2).unwrap() < floor.sat_per_kvb());
    assert_eq!(rate(&dear, 2), Some(floor.sat_per_kvb()));
    // Who takes no transactions from peers estimates nothing and touches no file.
    let blocks_only = node.other_mempool(Config { estimate_fees: false, ..Config::default() });
    node.disk.remove(Path::new(FILE)).unwrap();
    blocks_only.load_fee_estimates(Path::new(FILE), HOUR, false).await;
    blocks_only.save_fee_estimates(Path::new(FILE), true).await;
    assert!(!node.disk.exists(Path::new(FILE)));
    assert_eq!(blocks_only.furthest_fee_target(), None);
    assert_eq!(dear.furthest_fee_target(), Some(1_008));
    assert_eq!(blocks_only.estimate_smart_fee(2, false), None);
    assert_eq!(blocks_only.estimate_raw_fee(2, 0.5), None);
}

#[tokio::test]
async fn only_telling_transactions_are_counted() {
    let (mut node, coins) = up_to_date(Config::default(), Arc::new(ironpeer_primitives::NullLog), 60).await;
    // Children of unconfirmed transactions say nothing of their own feerate.
    for coins in coins.chunks(10) {
        let mut block = Vec::new();
        for coin in coins {
            let parent = Tx::spending([*coin]).pay(COIN - 500);
            let child = Tx::spending([parent.out(0)]).pay(COIN - 90_000);
            node.accept(&parent).await;
            node.accept(&child).await;
            block.extend([parent.0, child.0]);
        }
        node.mine(block).await;
    }
    assert!(rate(&node.mempool, 2).unwrap() < 10_000);
    // Nor does anything count while the tip is old.
    let (mut late, coins) = up_to_date(Config::default(), Arc::new(ironpeer_primitives::NullLog), 60).await;
    late.clock.advance(4 * HOUR);
    for coins in coins.chunks(10) {
        mine_paying(&mut late, coins, 5_000).await;
    }
    assert_eq!(rate(&late.mempool, 2), None);
}

#[tokio::test]
async fn a_missing_or_damaged_file_is_told_in_cores_words() {
    let lines = Arc::new(Lines::default());
    let node = Node::with_log(Config::default(), Arc::clone(&lines) as Arc<dyn LogSink>);
    let path = Path::new(FILE);
    node.mempool.load_fee_estimates(path, Duration::ZERO, false).await;
    let write = |bytes: &[u8]| {
        node.disk.open(path, OpenMode::Truncate).unwrap().write_at(bytes, 0).unwrap();
    };
    write(&[0x8c, 0xba, 4, 0, 1]);
    node.mempool.load_fee_estimates(path, Duration::ZERO, false).await;
    write(&[0, 0, 0, 0x7f]);
    node.mempool.load_fee_estimates(path, Duration::ZERO, false).await;
    write(&[1, 0, 0, 0, 9, 0, 0, 0]);
    node.mempool.load_fee_estimates(path, Duration::ZERO, false).await;
    let failed = || format!("Failed to read fee estimates from {FILE}. Continue anyway.");
    assert_eq!(
        *lines.0.lock(),
        [
            format!("{FILE} is not found. Continue anyway."),
            "Unable to read policy estimator data (non-fatal): AutoFile::read: end of file: iostream error"
                .to_owned(),
            failed(),
            "Unable to read policy estimator data (non-fatal): File version (2130706432) too high to be read."
                .to_owned(),
            failed(),
            "Incompatible old fee estimation data (non-fatal). Version: 1".to_owned(),
        ]
    );
    // A name that cannot be written to is told, and no more.
    lines.0.lock().clear();
    node.mempool.save_fee_estimates(Path::new("/none/fee_estimates.dat"), false).await;
    let told = "Failed to write fee estimates to /none/fee_estimates.dat. Continue anyway.";
    assert_eq!(*lines.0.lock(), [told]);
}

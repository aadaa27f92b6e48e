//! Clusters, memory and age.

use std::time::Duration;

use ironpeer_mempool::{Config, FeeRate, MempoolEvent, RemovalReason};
use ironpeer_primitives::{MempoolRead as _, TxClass};

use crate::support::{Node, Tx};

const COIN: u64 = 10_000_000;

fn too_large() -> (TxClass, String) {
    (TxClass::MempoolPolicy, "too-large-cluster".to_owned())
}

#[tokio::test]
async fn sixty_four_transactions_may_hang_together() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let mut last = Tx::spending([coins[0]]).pay(COIN - 1_000);
    node.accept(&last).await;
    for step in 2..=64u64 {
        last = Tx::spending([last.out(0)]).pay(COIN - step * 1_000);
        node.accept(&last).await;
    }
    let one_more = Tx::spending([last.out(0)]).pay(COIN - 65_000);
    assert_eq!(node.refuse(&one_more).await, too_large());
    let entry = node.mempool.entry(&last.txid()).unwrap();
    assert_eq!((entry.ancestor_count, entry.ancestor_fees), (64, 64_000));
    assert_eq!(node.mempool.cluster(&last.txid()).unwrap().tx_count, 64);
    assert_eq!(node.mempool.ancestors(&last.txid()).unwrap().len(), 63);
}

#[tokio::test]
async fn a_cluster_is_limited_in_size_and_when_two_are_joined() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let left = Tx::spending([coins[0]]).pay(COIN - 60_000).padded(50_000);
    let right = Tx::spending([coins[1]]).pay(COIN - 60_000).padded(50_500);
    node.accept(&left).await;
    node.accept(&right).await;
    let joint = Tx::spending([left.out(0), right.out(0)]).pay(COIN);
    assert!(left.vsize() + right.vsize() + joint.vsize() <= 101_000);
    node.accept(&joint).await;
    let more = Tx::spending([joint.out(0)]).pay(COIN - 10_000).padded(200);
    assert_eq!(node.refuse(&more).await, too_large());
}

#[tokio::test]
async fn a_full_mempool_drops_its_worst_chunk_and_raises_its_price() {
    // Room for two large transactions, not for three.
    let config = Config { max_bytes: 250_000, ..Config::default() };
    let (mut node, coins) = Node::funded(config, 4, COIN).await;
    let large = |coin: usize, fee: u64| Tx::spending([coins[coin]]).pay(COIN - fee).padded(95_000);
    let (cheap, middle, dear) = (large(0, 20_000), large(1, 30_000), large(2, 40_000));
    node.accept(&cheap).await;
    node.accept(&middle).await;
    let mut events = node.mempool.subscribe();
    node.accept(&dear).await;
    assert!(!node.has(&cheap) && node.has(&middle) && node.has(&dear));
    let MempoolEvent::Removed { tx, reason: RemovalReason::SizeLimit, .. } = events.try_recv().unwrap()
    else {
        panic!("the worst goes first")
    };
    assert_eq!(tx.txid, cheap.txid());

    let rate = 20_000 * 1_000 / cheap.vsize() + 100;
    assert_eq!(node.mempool.info().min_fee, FeeRate::from_sat_per_kvb(rate));
    assert_eq!(node.mempool.min_fee_per_kvb(), rate);
    let small = Tx::spending([coins[3]]).pay(COIN - 12);
    let needed = FeeRate::from_sat_per_kvb(rate).fee(small.vsize());
    assert_eq!(
        node.refuse(&small).await,
        (TxClass::Reconsiderable, format!("mempool min fee not met, 12 < {needed}"))
    );
    let worst = Tx::spending([coins[3]]).pay(COIN - 29_700).padded(95_000);
    assert_eq!(node.refuse(&worst).await, (TxClass::Reconsiderable, "mempool full".to_owned()));

    // After a block it halves every three hours while the mempool is nearly empty.
    node.mine(vec![middle.0.clone(), dear.0.clone()]).await;
    let raised = node.mempool.min_fee_per_kvb();
    node.clock.advance(Duration::from_secs(3 * 3_600));
    let halved = node.mempool.min_fee_per_kvb();
    assert!((raised / 2).abs_diff(halved) <= 1, "{raised} -> {halved}");
    node.clock.advance(Duration::from_secs(24 * 3_600));
    assert_eq!(node.mempool.min_fee_per_kvb(), 100);
    node.accept(&small).await;
}

#[tokio::test]
async fn a_childs_fee_keeps_its_parent_in_a_full_mempool() {
    let config = Config { max_bytes: 250_000, ..Config::default() };
    let (node, coins) = Node::funded(config, 4, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 10_000).padded(95_000);
    let child = Tx::spending([parent.out(0)]).pay(COIN - 90_000);
    let lone = Tx::spending([coins[1]]).pay(COIN - 30_000).padded(95_000);
    for tx in [&parent, &child, &lone] {
        node.accept(tx).await;
    }
    node.accept(&Tx::spending([coins[2]]).pay(COIN - 60_000).padded(95_000)).await;
    assert!(node.has(&parent) && node.has(&child) && !node.has(&lone));
    let entry = node.mempool.entry(&parent.txid()).unwrap();
    assert_eq!(entry.chunk.fee, 90_000);
}

#[tokio::test]
async fn what_nobody_mines_is_forgotten() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let old = Tx::spending([coins[0]]).pay(COIN - 1_000);
    node.accept(&old).await;
    node.clock.advance(Duration::from_secs(336 * 3_600 - 10));
    let young = Tx::spending([old.out(0)]).pay(COIN - 2_000);
    node.accept(&young).await;
    node.clock.advance(Duration::from_secs(11));
    let other = Tx::spending([coins[1]]).pay(COIN - 1_000);
    node.accept(&other).await;
    // The young one cannot stay without its parent.
    assert!(!node.has(&old) && !node.has(&young) && node.has(&other));
}

#[tokio::test]
async fn chunks_come_best_first_with_parents_before_children() {
    let (node, coins) = Node::funded(Config::default(), 3, COIN).await;
    let poor = Tx::spending([coins[0]]).pay(COIN - 100);
    let rich = Tx::spending([poor.out(0)]).pay(COIN - 50_100);
    let middle = Tx::spending([coins[1]]).pay(COIN - 5_000);
    let low = Tx::spending([coins[2]]).pay(COIN - 1_000);
    for tx in [&low, &poor, &rich, &middle] {
        node.accept(tx).await;
    }
    let (view, chunks) = node.mempool.chunks();
    let txids: Vec<Vec<_>> =
        chunks.iter().map(|chunk| chunk.txs.iter().map(|tx| tx.txid).collect()).collect();
    assert_eq!(txids, [vec![poor.txid(), rich.txid()], vec![middle.txid()], vec![low.txid()]]);
    assert_eq!(view.count, 4);
    assert_eq!(node.mempool.txids().0, txids.concat());
    // A delta moves it to the front.
    node.mempool.prioritise(low.txid(), 1_000_000);
    assert_eq!(node.mempool.txids().0[0], low.txid());
}

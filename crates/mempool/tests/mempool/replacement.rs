//! Replacement, and the rules of version 3.

use ironpeer_consensus::format_money;
use ironpeer_mempool::{Config, MempoolEvent, RemovalReason};
use ironpeer_primitives::TxClass;

use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;

#[tokio::test]
async fn a_replacement_pays_for_what_it_replaces_and_for_itself() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let tx = |fee: u64| Tx::spending([coins[0]]).pay(COIN - fee);
    let first = tx(1_000);
    node.accept(&first).await;
    let mut events = node.mempool.subscribe();
    let less = tx(999);
    assert_eq!(
        node.refuse(&less).await,
        (
            TxClass::Reconsiderable,
            format!(
                "insufficient fee, rejecting replacement {}, less fees than conflicting txs; 0.00000999 < 0.00001",
                less.txid()
            )
        )
    );
    let needed = first.vsize().div_ceil(10);
    let short = tx(1_000 + needed - 1);
    assert_eq!(
        node.refuse(&short).await.1,
        format!(
            "insufficient fee, rejecting replacement {}, not enough additional fees to relay; {} < {}",
            short.txid(),
            format_money(needed - 1),
            format_money(needed)
        )
    );
    let enough = tx(1_000 + needed);
    let accepted = node.accept(&enough).await;
    assert_eq!(accepted.replaced.iter().map(|tx| tx.compute_txid()).collect::<Vec<_>>(), [first.txid()]);
    assert!(!node.has(&first) && node.has(&enough));
    let MempoolEvent::Removed { tx, reason: RemovalReason::Replaced, sequence } = events.try_recv().unwrap()
    else {
        panic!("the old one goes first")
    };
    assert_eq!(tx.txid, first.txid());
    let MempoolEvent::Added { tx, sequence: next } = events.try_recv().unwrap() else {
        panic!("then the new one comes")
    };
    assert_eq!((tx.txid, next), (enough.txid(), sequence + 1));
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn descendants_go_with_what_is_replaced_and_must_be_paid_for() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let child = Tx::spending([parent.out(0)]).pay(COIN - 6_000);
    node.accept(&parent).await;
    node.accept(&child).await;
    let rival = |fee: u64| Tx::spending([coins[0]]).pay(COIN - fee);
    assert!(node.refuse(&rival(5_999)).await.1.contains("less fees than conflicting txs"));
    let accepted = node.accept(&rival(6_100)).await;
    assert_eq!(accepted.replaced.len(), 2);
    assert_eq!(node.mempool.info().count, 1);
}

#[tokio::test]
async fn miners_must_gain_at_every_size() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let small = Tx::spending([coins[0]]).pay(COIN - 5_000);
    node.accept(&small).await;
    // More fee in all, but at a far lower feerate than the small one had.
    let large = Tx::spending([coins[0]]).pay(COIN - 8_000).padded(10_000);
    assert_eq!(
        node.refuse(&large).await,
        (
            TxClass::Reconsiderable,
            "replacement-failed, insufficient feerate: does not improve feerate diagram".to_owned()
        )
    );
}

#[tokio::test]
async fn nothing_may_spend_what_it_replaces() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 1_000);
    node.accept(&parent).await;
    let odd = Tx::spending([coins[0], parent.out(0)]).pay(COIN);
    let (class, text) = node.refuse(&odd).await;
    assert_eq!(class, TxClass::Consensus);
    assert_eq!(
        text,
        format!(
            "bad-txns-spends-conflicting-tx, {} spends conflicting transaction {}",
            odd.txid(),
            parent.txid()
        )
    );
}

#[tokio::test]
async fn too_many_clusters_are_not_replaced_at_once() {
    let (node, coins) = Node::funded(Config::default(), 101, 20_000).await;
    for coin in &coins {
        node.accept(&Tx::spending([*coin]).pay(19_000)).await;
    }
    let greedy = Tx::spending(coins.iter().copied()).pay(1_000);
    assert_eq!(
        node.refuse(&greedy).await,
        (
            TxClass::MempoolPolicy,
            format!(
                "too many potential replacements, rejecting replacement {}; too many conflicting clusters (101 > 100)",
                greedy.txid()
            )
        )
    );
    let modest = Tx::spending(coins[1..].iter().copied()).pay(1_000);
    assert_eq!(node.accept(&modest).await.replaced.len(), 100);
}

#[tokio::test]
async fn version_3_stays_small_and_alone() {
    let (node, coins) = Node::funded(Config::default(), 3, COIN).await;
    let violation = |text: String| (TxClass::MempoolPolicy, format!("TRUC-violation, {text}"));
    let name = |tx: &Tx| format!("tx {} (wtxid={})", tx.txid(), tx.0.compute_wtxid());

    let large = Tx::spending([coins[0]]).pay(COIN - 20_000).padded(10_000).version(3);
    assert_eq!(
        node.refuse(&large).await,
        violation(format!("version=3 {} is too big: {} > 10000 virtual bytes", name(&large), large.vsize()))
    );
    let parent = Tx::spending([coins[0]]).pay(COIN / 2).pay(COIN / 2 - 1_000).version(3);
    node.accept(&parent).await;
    let plain = Tx::spending([parent.out(0)]).pay(COIN / 2 - 1_000);
    assert_eq!(
        node.refuse(&plain).await,
        violation(format!("non-version=3 {} cannot spend from version=3 {}", name(&plain), name(&parent)))
    );
    let wide = Tx::spending([parent.out(0)]).pay(COIN / 2 - 5_000).padded(1_000).version(3);
    assert_eq!(
        node.refuse(&wide).await,
        violation(format!(
            "version=3 child {} is too big: {} > 1000 virtual bytes",
            name(&wide),
            wide.vsize()
        ))
    );
    let child = Tx::spending([parent.out(0)]).pay(COIN / 2 - 1_000).version(3);
    node.accept(&child).await;
    let grandchild = Tx::spending([child.out(0)]).pay(COIN / 2 - 2_000).version(3);
    assert_eq!(
        node.refuse(&grandchild).await,
        violation(format!("{} would have too many ancestors", name(&grandchild)))
    );
    // A second child is welcome if it pays for pushing the first one out.
    let cheap = Tx::spending([parent.out(1)]).pay(COIN / 2 - 1_500).version(3);
    let (class, text) = node.refuse(&cheap).await;
    assert_eq!(class, TxClass::Reconsiderable);
    assert!(text.starts_with("insufficient fee (including sibling eviction), "), "{text}");
    let dear = Tx::spending([parent.out(1)]).pay(COIN / 2 - 9_000).version(3);
    assert_eq!(node.accept(&dear).await.replaced[0].compute_txid(), child.txid());

    let old = Tx::spending([coins[1]]).pay(COIN - 1_000);
    node.accept(&old).await;
    let mixed = Tx::spending([old.out(0)]).pay(COIN - 2_000).version(3);
    assert_eq!(
        node.refuse(&mixed).await,
        violation(format!("version=3 {} cannot spend from non-version=3 {}", name(&mixed), name(&old)))
    );
}

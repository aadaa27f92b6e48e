//! Blocks come, blocks go.

use bitcoin::OutPoint;
use ironpeer_mempool::{Config, MempoolEvent, RemovalReason};
use ironpeer_primitives::ChainRead as _;

use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;

#[tokio::test]
async fn a_block_takes_what_it_confirms_and_what_it_rules_out() {
    let (mut node, coins) = Node::funded(Config::default(), 3, COIN).await;
    let confirmed = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let child = Tx::spending([confirmed.out(0)]).pay(COIN - 2_000);
    let loser = Tx::spending([coins[1]]).pay(COIN - 1_000);
    let losers_child = Tx::spending([loser.out(0)]).pay(COIN - 2_000);
    for tx in [&confirmed, &child, &loser, &losers_child] {
        node.accept(tx).await;
    }
    node.mempool.prioritise(confirmed.txid(), 7);
    let winner = Tx::spending([coins[1]]).pay(COIN - 5_000);
    let mut events = node.mempool.subscribe();
    node.mine(vec![confirmed.0.clone(), winner.0.clone()]).await;
    assert_eq!(node.mempool.txids().0, [child.txid()]);
    assert!(node.mempool.prioritised().is_empty());
    let mut reasons = Vec::new();
    assert!(matches!(events.try_recv(), Ok(MempoolEvent::TipLeft { .. })));
    while let Ok(MempoolEvent::Removed { tx, reason, .. }) = events.try_recv() {
        reasons.push((tx.txid, reason));
    }
    assert!(events.is_empty(), "the tip's event was the last");
    assert_eq!(reasons[0], (confirmed.txid(), RemovalReason::Block));
    assert!(reasons[1..].iter().all(|(_, reason)| *reason == RemovalReason::Conflict));
    assert_eq!(reasons.len(), 3);
    let entry = node.mempool.entry(&child.txid()).unwrap();
    assert_eq!((entry.ancestor_count, entry.depends.len()), (1, 0));
    assert_eq!(node.mempool.view().tip.hash, node.chain.view().tip().hash);
}

#[tokio::test]
async fn a_reorganisation_brings_transactions_back_under_their_children() {
    let (mut node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let child = Tx::spending([parent.out(0)]).pay(COIN - 2_000);
    let grandchild = Tx::spending([child.out(0)]).pay(COIN - 3_000);
    node.accept(&parent).await;
    let block = node.mine(vec![parent.0.clone(), child.0.clone()]).await;
    node.accept(&grandchild).await;
    node.chain.invalidate(block.block_hash()).await.unwrap();
    node.follow().await;
    let entry = node.mempool.entry(&grandchild.txid()).unwrap();
    assert_eq!((entry.ancestor_count, entry.depends), (3, vec![child.txid()]));
    assert_eq!(node.mempool.entry(&parent.txid()).unwrap().descendant_count, 3);
    // It was there before anything that came since.
    assert_eq!(ironpeer_primitives::MempoolRead::by_txid(&node.mempool, &parent.txid()).unwrap().sequence, 0);
    node.mine(vec![parent.0.clone(), child.0.clone(), grandchild.0.clone()]).await;
    assert_eq!(node.mempool.info().count, 0);
}

#[tokio::test]
async fn what_spends_a_vanished_coinbase_goes_and_immature_ones_too() {
    let mut node = Node::new();
    let first = node.mine(Vec::new()).await;
    let second = node.mine(Vec::new()).await;
    for _ in 0..99 {
        node.mine(Vec::new()).await;
    }
    let reward = |block: &bitcoin::Block| OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    let value = first.txdata[0].output[0].value.to_sat();
    let old = Tx::spending([reward(&first)]).pay(value - 1_000);
    let fresh = Tx::spending([reward(&second)]).pay(value - 1_000);
    let child = Tx::spending([fresh.out(0)]).pay(value - 2_000);
    for tx in [&old, &fresh, &child] {
        node.accept(tx).await;
    }
    let tip = node.chain.view().tip().hash;
    node.chain.invalidate(tip).await.unwrap();
    node.follow().await;
    assert!(node.has(&old) && !node.has(&fresh) && !node.has(&child));

    node.chain.invalidate(first.block_hash()).await.unwrap();
    node.follow().await;
    assert_eq!(node.mempool.info().count, 0);
}

#[tokio::test]
async fn relative_locks_are_looked_at_again() {
    let (mut node, coins) = Node::funded(Config::default(), 1, COIN).await;
    node.mine(Vec::new()).await;
    // The coin is three blocks below the next one.
    let locked = Tx::spending([coins[0]]).pay(COIN - 1_000).sequence(2);
    node.accept(&locked).await;
    let tip = node.chain.view().tip().hash;
    node.chain.invalidate(tip).await.unwrap();
    node.follow().await;
    assert!(!node.has(&locked));
}

#[tokio::test]
async fn a_transaction_of_both_branches_stays_confirmed() {
    let (mut node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let kept = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let dropped = Tx::spending([coins[1]]).pay(COIN - 1_000);
    let block = node.mine(vec![kept.0.clone(), dropped.0.clone()]).await;
    node.chain.invalidate(block.block_hash()).await.unwrap();
    // Two events the mempool sees one after the other, late.
    node.connect(vec![kept.0.clone()]).await;
    node.connect(Vec::new()).await;
    node.follow().await;
    assert_eq!(node.mempool.txids().0, [dropped.txid()]);
    assert_eq!(node.mempool.view().tip.hash, node.chain.view().tip().hash);
}

#[tokio::test]
async fn missed_events_are_made_up_for() {
    let (mut node, coins) = Node::funded(Config::default(), 3, COIN).await;
    let first = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let second = Tx::spending([coins[1]]).pay(COIN - 1_000);
    let third = Tx::spending([coins[2]]).pay(COIN - 1_000);
    let block = node.mine(vec![first.0.clone()]).await;
    node.accept(&second).await;
    node.accept(&third).await;
    node.chain.invalidate(block.block_hash()).await.unwrap();
    node.connect(vec![second.0.clone()]).await;
    node.connect(Vec::new()).await;
    let (tip, seq) = node.chain.view().tip_and_seq();
    node.mempool.catch_up(tip, seq).await;
    let mut txids = node.mempool.txids().0;
    txids.sort();
    let mut expected = vec![first.txid(), third.txid()];
    expected.sort();
    assert_eq!(txids, expected);
    assert_eq!((node.mempool.view().tip.hash, node.mempool.view().seq), (tip.hash, seq));
    // What the ring still held is old news.
    node.follow().await;
    assert_eq!(node.mempool.info().count, 2);
}

#[tokio::test]
async fn a_reorganisation_trims_clusters_that_grew_too_large() {
    let (mut node, coins) = Node::funded(Config::default(), 1, 10_000_000).await;
    let mut value = 10_000_000 - 1_000;
    let mut chain = vec![Tx::spending([coins[0]]).pay(value)];
    for _ in 1..100 {
        value -= 1_000;
        let next = Tx::spending([chain.last().unwrap().out(0)]).pay(value);
        chain.push(next);
    }
    let block = node.mine(chain[..50].iter().map(|tx| tx.0.clone()).collect()).await;
    for tx in &chain[50..] {
        node.accept(tx).await;
    }
    node.chain.invalidate(block.block_hash()).await.unwrap();
    node.follow().await;
    assert_eq!(node.mempool.info().count, 64);
    assert!(chain[..64].iter().all(|tx| node.has(tx)));
}

#[tokio::test]
async fn waiting_for_an_event_ends_when_it_is_applied() {
    let mut node = Node::new();
    node.connect(Vec::new()).await;
    let (_, seq) = node.chain.view().tip_and_seq();
    let mempool = node.mempool.clone();
    let waiting = tokio::spawn(async move { mempool.wait_for_seq(seq).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    node.follow().await;
    waiting.await.unwrap();
}

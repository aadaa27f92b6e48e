//! `mempool.dat` across a restart.

use std::time::Duration;

use ironpeer_mempool::{Config, LoadOptions, LoadStats};
use ironpeer_store::Disk as _;

use crate::support::{NOW, Node, Tx};

const COIN: u64 = 1_000_000;

#[tokio::test]
async fn what_was_saved_comes_back() {
    for persist_v1 in [false, true] {
        let config = Config { persist_v1, ..Config::default() };
        let (mut node, coins) = Node::funded(config, 3, COIN).await;
        let parent = Tx::spending([coins[0]]).pay(COIN - 1_000);
        let child = Tx::spending([parent.out(0)]).pay(COIN - 2_000);
        let free = Tx::spending([coins[1]]).pay(COIN);
        let elsewhere = Tx::spending([coins[2]]).pay(COIN - 3_000);
        node.mempool.prioritise(free.txid(), 5_000);
        node.mempool.prioritise(elsewhere.txid(), -9);
        for tx in [&parent, &child, &free] {
            node.accept(tx).await;
        }
        node.mempool.add_unbroadcast(child.txid());
        node.mempool.save(Node::path()).await.unwrap();

        // The same chain under a mempool that starts anew.
        node.mine(vec![parent.0.clone(), child.0.clone(), free.0.clone()]).await;
        let tip = node.mempool.view().tip.hash;
        let before = node.mempool.info().count;
        assert_eq!(before, 0);
        node.chain.invalidate(tip).await.unwrap();
        node.clock.advance(Duration::from_secs(60));
        let fresh = node.restarted_mempool();
        let stats = fresh.load(Node::path(), LoadOptions::default()).await.unwrap();
        assert_eq!(stats, LoadStats { accepted: 3, unbroadcast: 1, ..LoadStats::default() });
        let entry = fresh.entry(&child.txid()).unwrap();
        assert!(entry.unbroadcast);
        assert_eq!(entry.time, NOW);
        assert_eq!(fresh.entry(&free.txid()).unwrap().modified_fee, 5_000);
        let deltas: Vec<_> = fresh.prioritised().iter().map(|p| (p.txid, p.delta)).collect();
        assert!(deltas.contains(&(elsewhere.txid(), -9)) && deltas.contains(&(free.txid(), 5_000)));

        let again = fresh.load(Node::path(), LoadOptions::default()).await.unwrap();
        assert_eq!(again.already_there, 3);
        node.clock.advance(Duration::from_secs(337 * 3_600));
        let late = node.restarted_mempool();
        assert_eq!(late.load(Node::path(), LoadOptions::default()).await.unwrap().expired, 3);
        let now = LoadOptions { use_current_time: true, apply_fee_deltas: false, apply_unbroadcast: false };
        let stats = node.restarted_mempool().load(Node::path(), now).await.unwrap();
        // Without its delta the free one is refused.
        assert_eq!((stats.accepted, stats.failed), (2, 1));
    }
}

#[tokio::test]
async fn a_missing_or_damaged_file_is_no_reason_to_stop() {
    let node = Node::new();
    assert_eq!(node.mempool.load(Node::path(), LoadOptions::default()).await, None);
    let file = node.disk.open(Node::path(), ironpeer_store::OpenMode::Truncate).unwrap();
    file.write_at(&[2, 0, 0, 0, 0, 0, 0, 0, 8, 1], 0).unwrap();
    assert_eq!(node.mempool.load(Node::path(), LoadOptions::default()).await, None);
    assert!(!node.mempool.info().loaded);
    node.mempool.set_loaded();
    assert!(node.mempool.info().loaded);
}

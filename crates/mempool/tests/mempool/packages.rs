//! Transactions judged together.

use std::sync::Arc;

use bitcoin::{Transaction, Witness};
use ironpeer_mempool::{Config, FeeRate, PackageResult, PackageTx};
use ironpeer_primitives::TxClass;

use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;

fn txs(list: &[&Tx]) -> Vec<Arc<Transaction>> {
    list.iter().map(|tx| Arc::new(tx.0.clone())).collect()
}

async fn submit(node: &Node, list: &[&Tx]) -> PackageResult {
    node.mempool.submit_package(txs(list), None).await
}

fn error(result: &PackageResult) -> String {
    result.error.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn a_child_pays_for_a_parent_nobody_would_take_alone() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN);
    let child = Tx::spending([parent.out(0)]).pay(COIN - 1_000);
    let result = submit(&node, &[&parent, &child]).await;
    assert_eq!(result.error, None);
    let wtxids = [parent.0.compute_wtxid(), child.0.compute_wtxid()];
    let together = FeeRate::from_sat_per_kvb(1_000_000 / (parent.vsize() + child.vsize()));
    for (place, (wtxid, tx)) in result.txs.iter().enumerate() {
        assert_eq!(*wtxid, wtxids[place]);
        let PackageTx::Accepted { effective_feerate, effective_includes, .. } = tx else { panic!("{tx:?}") };
        assert_eq!((*effective_feerate, effective_includes.as_slice()), (together, wtxids.as_slice()));
    }
    assert!(node.has(&parent) && node.has(&child));

    // Again: both are there already.
    let again = submit(&node, &[&parent, &child]).await;
    assert_eq!(again.error, None);
    assert_eq!(
        again.txs[1].1,
        PackageTx::AlreadyThere { vsize: child.vsize(), fee: bitcoin::Amount::from_sat(1_000) }
    );
    let mut other = child.clone();
    other.0.input[0].witness = Witness::from_slice(&[vec![], vec![0x51]]);
    let other = submit(&node, &[&parent, &other]).await;
    assert_eq!(other.txs[1].1, PackageTx::OtherWitness(wtxids[1]));
}

#[tokio::test]
async fn what_stands_alone_does_not_pay_for_others() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let rich = Tx::spending([coins[0]]).pay(COIN - 50_000);
    let free = Tx::spending([coins[1]]).pay(COIN);
    let child = Tx::spending([rich.out(0), free.out(0)]).pay(2 * COIN - 50_000);
    let result = submit(&node, &[&rich, &free, &child]).await;
    assert_eq!(error(&result), "transaction failed");
    assert!(node.has(&rich) && !node.has(&free) && !node.has(&child));
    let reasons: Vec<String> = result
        .txs
        .iter()
        .filter_map(
            |(_, tx)| if let PackageTx::Refused(reject) = tx { Some(reject.to_string()) } else { None },
        )
        .collect();
    assert!(reasons[0].starts_with("min relay fee not met, 0 < "), "{reasons:?}");
    let vsize = free.vsize() + child.vsize();
    assert_eq!(reasons[1], format!("min relay fee not met, 0 < {}", vsize.div_ceil(10)));
}

#[tokio::test]
async fn a_package_must_be_well_formed() {
    let (node, coins) = Node::funded(Config::default(), 30, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let child = Tx::spending([parent.out(0)]).pay(COIN - 2_000);
    let stranger = Tx::spending([coins[1]]).pay(COIN - 1_000);
    let rival = Tx::spending([coins[0], parent.out(0)]).pay(COIN);
    let many: Vec<Tx> = coins[..26].iter().map(|coin| Tx::spending([*coin]).pay(COIN - 1_000)).collect();
    let many: Vec<&Tx> = many.iter().collect();
    let large: Vec<Tx> = coins[..2].iter().map(|coin| Tx::spending([*coin]).pay(1).padded(60_000)).collect();
    for (list, text) in [
        (many, "package-too-many-transactions"),
        (large.iter().collect(), "package-too-large"),
        (vec![&parent, &parent], "package-contains-duplicates"),
        (vec![&child, &parent], "package-not-sorted"),
        (vec![&parent, &rival], "conflict-in-package"),
        (vec![&stranger, &parent, &child], "package-not-child-with-parents"),
    ] {
        assert_eq!(submit(&node, &list).await, PackageResult { error: None, txs: vec![] }.failing(text));
    }
    assert_eq!(node.mempool.info().count, 0);
    // Any order that is sorted may be tested.
    let tested = node.mempool.test_package(txs(&[&stranger, &parent, &child])).await;
    assert_eq!((tested.error, tested.txs.len()), (None, 3));
    assert_eq!(node.mempool.info().count, 0);
}

trait Failing {
    fn failing(self, reason: &str) -> Self;
}

impl Failing for PackageResult {
    fn failing(mut self, reason: &str) -> Self {
        self.error =
            Some(ironpeer_mempool::PackageReject { reason: reason.to_owned(), debug: String::new() });
        self
    }
}

#[tokio::test]
async fn a_test_allows_no_replacement_and_stops_at_the_first_failure() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    node.accept(&Tx::spending([coins[0]]).pay(COIN - 1_000)).await;
    let parent = Tx::spending([coins[1]]).pay(COIN - 1_000);
    let rival = Tx::spending([coins[0], parent.out(0)]).pay(COIN);
    let result = node.mempool.test_package(txs(&[&parent, &rival])).await;
    assert_eq!(error(&result), "transaction failed");
    let [(wtxid, PackageTx::Refused(reject))] = result.txs.as_slice() else { panic!("{result:?}") };
    assert_eq!((*wtxid, reject.reason.as_ref()), (rival.0.compute_wtxid(), "bip125-replacement-disallowed"));
}

#[tokio::test]
async fn a_pair_replaces_what_pays_less() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let old = Tx::spending([coins[0]]).pay(COIN - 2_000);
    node.accept(&old).await;
    let parent = Tx::spending([coins[0]]).pay(COIN);
    let child = |fee: u64| Tx::spending([parent.out(0)]).pay(COIN - fee);
    let poor = child(1_000);
    let result = submit(&node, &[&parent, &poor]).await;
    assert_eq!(
        error(&result),
        format!(
            "package RBF failed: insufficient anti-DoS fees, rejecting replacement {}, less fees than conflicting txs; 0.00001 < 0.00002",
            poor.txid()
        )
    );
    let slow = child(3_000).padded(1_000);
    assert_eq!(
        error(&submit(&node, &[&parent, &slow]).await),
        "package RBF failed: insufficient feerate: does not improve feerate diagram"
    );
    assert!(node.has(&old));
    let rich = child(9_000);
    let result = submit(&node, &[&parent, &rich]).await;
    assert_eq!(result.error, None);
    let PackageTx::Accepted { accepted, .. } = &result.txs[0].1 else { panic!("{result:?}") };
    assert_eq!(accepted.replaced[0].compute_txid(), old.txid());
    assert!(!node.has(&old) && node.has(&parent) && node.has(&rich));
}

#[tokio::test]
async fn dust_comes_in_with_whoever_sweeps_it() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 100).pay(100).version(3);
    let careless = Tx::spending([parent.out(0)]).pay(COIN - 1_000).version(3);
    let result = submit(&node, &[&parent, &careless]).await;
    assert_eq!(error(&result), "unspent-dust");
    let PackageTx::Refused(reject) = &result.txs[1].1 else { panic!("{result:?}") };
    assert_eq!(reject.reason, "missing-ephemeral-spends");
    let sweeper = Tx::spending([parent.out(0), parent.out(1)]).pay(COIN - 1_000).version(3);
    assert_eq!(submit(&node, &[&parent, &sweeper]).await.error, None);
    assert!(node.has(&parent) && node.has(&sweeper));
}

#[tokio::test]
async fn version_3_holds_within_a_package() {
    let (node, coins) = Node::funded(Config::default(), 2, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN).version(3);
    let child = Tx::spending([parent.out(0)]).pay(COIN - 1_000);
    assert_eq!(
        error(&submit(&node, &[&parent, &child]).await),
        format!(
            "TRUC-violation, non-version=3 tx {} (wtxid={}) cannot spend from version=3 tx {} (wtxid={})",
            child.txid(),
            child.0.compute_wtxid(),
            parent.txid(),
            parent.0.compute_wtxid()
        )
    );
    let other = Tx::spending([coins[1]]).pay(COIN).version(3);
    let both = Tx::spending([parent.out(0), other.out(0)]).pay(COIN).version(3);
    assert_eq!(
        error(&submit(&node, &[&parent, &other, &both]).await),
        format!(
            "TRUC-violation, tx {} (wtxid={}) would have too many ancestors",
            both.txid(),
            both.0.compute_wtxid()
        )
    );
    assert_eq!(node.mempool.info().count, 0);
}

/// All but the failing one were looked at to the end by then, and the trial says so.
#[tokio::test]
async fn a_trial_tells_of_those_before_a_bad_script() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN - 1_000);
    let mut child = Tx::spending([parent.out(0)]).pay(COIN - 2_000);
    child.0.input[0].witness = Witness::from_slice(&[[0x00]]);
    let result = node.mempool.test_package(txs(&[&parent, &child])).await;
    assert_eq!(error(&result), "transaction failed");
    let [(_, PackageTx::Accepted { accepted, .. }), (_, PackageTx::Refused(_))] = result.txs.as_slice()
    else {
        panic!("{result:?}")
    };
    assert_eq!(accepted.fee.to_sat(), 1_000);
    assert_eq!(node.mempool.info().count, 0);
}

#[tokio::test]
async fn a_bad_script_fails_its_transaction() {
    let (node, coins) = Node::funded(Config::default(), 1, COIN).await;
    let parent = Tx::spending([coins[0]]).pay(COIN);
    let mut child = Tx::spending([parent.out(0)]).pay(COIN - 1_000);
    child.0.input[0].witness = Witness::from_slice(&[[0x00]]);
    let result = submit(&node, &[&parent, &child]).await;
    assert_eq!(error(&result), "transaction failed");
    let PackageTx::Refused(reject) = &result.txs[1].1 else { panic!("{result:?}") };
    assert_eq!(reject.class, TxClass::NotStandard);
    assert_eq!(reject.reason, "mempool-script-verify-flag-failed (Witness program hash mismatch)");
    assert_eq!(node.mempool.info().count, 0);
}

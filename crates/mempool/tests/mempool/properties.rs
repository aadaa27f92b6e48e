//! Whatever comes in whatever order, the mempool stays consistent.

use std::collections::{BTreeSet, HashMap, HashSet};

use bitcoin::{OutPoint, Txid};
use ironpeer_mempool::Config;
use ironpeer_primitives::MempoolRead as _;
use proptest::prelude::*;

use crate::support::{Node, Tx};

const COIN: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Step {
    /// Spend some of the outputs seen so far at some feerate.
    Spend {
        picks: Vec<prop::sample::Index>,
        outputs: u64,
        fee: u64,
    },
    Prioritise {
        pick: prop::sample::Index,
        delta: i64,
    },
    /// Confirm the best few.
    Mine {
        count: usize,
    },
    /// Take the last block off.
    Unmine,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (prop::collection::vec(any::<prop::sample::Index>(), 1..3), 1u64..4, 0u64..20_000)
            .prop_map(|(picks, outputs, fee)| Step::Spend { picks, outputs, fee }),
        1 => (any::<prop::sample::Index>(), -5_000i64..5_000)
            .prop_map(|(pick, delta)| Step::Prioritise { pick, delta }),
        1 => (0usize..6).prop_map(|count| Step::Mine { count }),
        1 => Just(Step::Unmine),
    ];
    prop::collection::vec(step, 1..60)
}

/// Everything that must hold between any two changes.
fn check(node: &Node) {
    let all = node.mempool.all();
    let info = node.mempool.info();
    assert_eq!(info.count, all.len());
    assert_eq!(info.vbytes, all.iter().map(|tx| tx.vsize).sum::<u64>());
    assert_eq!(info.total_fee, all.iter().map(|tx| tx.fee).sum());
    assert_eq!(info.usage == 0, all.is_empty());
    let here: HashSet<Txid> = all.iter().map(|tx| tx.txid).collect();
    let mut spent = HashSet::new();
    let mut before = HashSet::new();
    for tx in &all {
        for input in &tx.tx.input {
            let outpoint = input.previous_output;
            assert!(spent.insert(outpoint), "spent twice");
            assert_eq!(node.mempool.spender(&outpoint).unwrap().compute_txid(), tx.txid);
            if here.contains(&outpoint.txid) {
                assert!(before.contains(&outpoint.txid), "a child comes before its parent");
            } else {
                assert!(node.chain.view().coin(&outpoint).is_some(), "an input is nowhere");
            }
        }
        before.insert(tx.txid);
    }
    let entries: HashMap<Txid, _> = node.mempool.entries().into_iter().map(|e| (e.txid, e)).collect();
    for entry in entries.values() {
        let ancestors = node.mempool.ancestors(&entry.txid).unwrap();
        assert_eq!(entry.ancestor_count, ancestors.len() + 1);
        assert_eq!(
            entry.ancestor_vsize,
            entry.vsize + ancestors.iter().map(|txid| entries[txid].vsize).sum::<u64>()
        );
        for ancestor in &ancestors {
            assert!(node.mempool.descendants(ancestor).unwrap().contains(&entry.txid));
        }
        assert!(node.mempool.cluster(&entry.txid).unwrap().tx_count <= 64);
    }
    let (_, chunks) = node.mempool.chunks();
    let chunked: BTreeSet<Txid> = chunks.iter().flat_map(|chunk| &chunk.txs).map(|tx| tx.txid).collect();
    assert_eq!(chunked.len(), all.len());
    for pair in chunks.windows(2) {
        assert!(pair[0].fee.cmp_rate(pair[1].fee).is_ge(), "a better chunk comes later");
    }
    for chunk in &chunks {
        assert_eq!(chunk.fee.fee, chunk.txs.iter().map(|tx| entries[&tx.txid].modified_fee).sum::<i64>());
    }
}

async fn run(steps: Vec<Step>) {
    let (mut node, coins) = Node::funded(Config::default(), 8, COIN).await;
    let base = node.mempool.view().tip.height;
    let mut values: HashMap<OutPoint, u64> = coins.iter().map(|coin| (*coin, COIN)).collect();
    let mut outputs = coins;
    for step in steps {
        match step {
            Step::Spend { picks, outputs: count, fee } => {
                let inputs: BTreeSet<OutPoint> = picks.iter().map(|pick| *pick.get(&outputs)).collect();
                let value = inputs.iter().map(|input| values[input]).sum::<u64>().saturating_sub(fee);
                let tx = (0..count).fold(Tx::spending(inputs), |tx, _| tx.pay(value / count));
                if node.submit(&tx).await.is_ok() {
                    for vout in 0..u32::try_from(count).unwrap() {
                        values.insert(tx.out(vout), value / count);
                        outputs.push(tx.out(vout));
                    }
                }
            }
            Step::Prioritise { pick, delta } => node.mempool.prioritise(pick.get(&outputs).txid, delta),
            Step::Mine { count } => {
                let txs = node.mempool.all().into_iter().take(count).map(|tx| (*tx.tx).clone()).collect();
                node.mine(txs).await;
            }
            Step::Unmine => {
                let tip = node.mempool.view().tip;
                if tip.height > base {
                    node.chain.invalidate(tip.hash).await.unwrap();
                    node.follow().await;
                }
            }
        }
        check(&node);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_changes_leaves_a_consistent_mempool(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(steps));
    }
}

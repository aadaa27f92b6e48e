use std::cmp::Ordering;

use proptest::prelude::*;

use super::{Node, linearise};
use crate::feerate::{FeeFrac, compare_diagrams};

fn node(fee: i64, weight: u64, parents: &[usize]) -> Node {
    Node { frac: FeeFrac { fee, weight }, parents: parents.iter().fold(0, |set, parent| set | 1 << parent) }
}

fn fractions(chunks: &[(FeeFrac, usize)]) -> Vec<FeeFrac> {
    chunks.iter().map(|(frac, _)| *frac).collect()
}

#[test]
fn a_child_pays_for_its_parent() {
    let result = linearise(&[node(0, 400, &[]), node(1_000, 400, &[0]), node(900, 400, &[])]);
    assert_eq!(result.order, [2, 0, 1]);
    assert_eq!(result.chunks.len(), 2);
    assert_eq!(result.chunks[1], (FeeFrac { fee: 1_000, weight: 800 }, 2));
}

/// Two children together pay for a parent neither pays for alone: no ancestor set is the best.
#[test]
fn children_pay_together() {
    let result =
        linearise(&[node(0, 1_000, &[]), node(600, 100, &[0]), node(600, 100, &[0]), node(50, 100, &[0])]);
    assert_eq!(result.chunks[0], (FeeFrac { fee: 1_200, weight: 1_200 }, 3));
    assert_eq!(result.chunks[1], (FeeFrac { fee: 50, weight: 100 }, 1));
}

/// All that is left is the best ancestor set, and still less than what its last transaction leaves
/// when it stays out.
#[test]
fn the_whole_is_not_best_because_one_wants_it_all() {
    let result = linearise(&[
        node(405, 35, &[]),
        node(0, 1, &[]),
        node(57, 1, &[0, 1]),
        node(233, 29, &[]),
        node(0, 1, &[]),
        node(401, 4, &[0, 1, 3, 4]),
        node(493, 32, &[2, 5]),
    ]);
    assert_eq!(result.chunks[0], (FeeFrac { fee: 1_096, weight: 71 }, 6));
    assert_eq!(result.chunks[1], (FeeFrac { fee: 493, weight: 32 }, 1));
}

#[test]
fn equal_feerates_make_separate_chunks() {
    let result = linearise(&[node(100, 100, &[]), node(100, 100, &[0]), node(100, 100, &[1])]);
    assert_eq!(result.order, [0, 1, 2]);
    assert_eq!(result.chunks.len(), 3);
}

/// Every set closed under ancestors, tried one by one.
fn best_by_brute_force(nodes: &[Node], left: u32) -> FeeFrac {
    (1..1u32 << nodes.len())
        .filter(|set| set & !left == 0)
        .filter(|set| {
            (0..nodes.len())
                .filter(|at| set >> at & 1 == 1)
                .all(|at| nodes[at].parents as u32 & left & !set == 0)
        })
        .map(|set| {
            (0..nodes.len())
                .filter(|at| set >> at & 1 == 1)
                .fold(FeeFrac::default(), |sum, at| sum.plus(nodes[at].frac))
        })
        .max_by(|a, b| a.cmp_rate(*b))
        .unwrap()
}

fn clusters() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec((-50i64..500, 1u64..50, any::<u64>(), any::<u64>()), 1..10).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(at, (fee, weight, a, b))| Node {
                frac: FeeFrac { fee, weight },
                parents: a & b & ((1 << at) - 1),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_chunk_is_the_best_that_is_left(nodes in clusters()) {
        let result = linearise(&nodes);
        let mut left = (1u32 << nodes.len()) - 1;
        let mut order = result.order.iter();
        for (frac, count) in &result.chunks {
            prop_assert_eq!(frac.cmp_rate(best_by_brute_force(&nodes, left)), Ordering::Equal);
            for _ in 0..*count {
                let at = *order.next().unwrap();
                // Its parents went before it.
                prop_assert_eq!(nodes[at].parents as u32 & left, 0);
                left &= !(1 << at);
            }
        }
        prop_assert_eq!(left, 0);
        let total = nodes.iter().fold(FeeFrac::default(), |sum, node| sum.plus(node.frac));
        let sum = result.chunks.iter().fold(FeeFrac::default(), |sum, (frac, _)| sum.plus(*frac));
        prop_assert_eq!(total, sum);
        let diagram = fractions(&result.chunks);
        prop_assert_eq!(compare_diagrams(&diagram, &diagram), Some(Ordering::Equal));
    }
}

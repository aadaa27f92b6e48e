//! Puts a cluster's transactions into the order in which they are best mined.
//!
//! The next chunk is always the set with the highest feerate among those that hold every
//! ancestor of their members. Finding it for a given feerate is a closure problem that a minimum
//! cut solves exactly; the feerate itself is raised step by step (Dinkelbach) from the best
//! single ancestor set, which in most clusters is the answer already.

use std::cmp::Ordering;

use crate::feerate::FeeFrac;

/// A transaction of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Modified fee and adjusted weight.
    pub frac: FeeFrac,
    /// Its direct parents' places in the cluster, as a set of bits.
    pub parents: u64,
}

/// A cluster in mining order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linearised {
    /// Places of the transactions, parents before children.
    pub order: Vec<usize>,
    /// Each chunk's sum and number of transactions, in falling feerate.
    pub chunks: Vec<(FeeFrac, usize)>,
}

fn bits(set: u64) -> impl Iterator<Item = usize> {
    let mut rest = set;
    std::iter::from_fn(move || {
        let next = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some(next)
    })
}

fn sum(nodes: &[Node], set: u64) -> FeeFrac {
    bits(set).fold(FeeFrac::default(), |sum, at| sum.plus(nodes[at].frac))
}

/// Orders at most 64 transactions.
pub fn linearise(nodes: &[Node]) -> Linearised {
    debug_assert!(nodes.len() <= 64, "clusters are limited to 64 transactions");
    let ancestors = ancestor_sets(nodes);
    let mut flow = Flow::new(nodes.len());
    let mut out = Linearised::default();
    let mut left = if nodes.len() >= 64 { u64::MAX } else { (1 << nodes.len()) - 1 };
    while left != 0 {
        let chunk = best_closure(nodes, &ancestors, left, &mut flow);
        let mut members: Vec<usize> = bits(chunk).collect();
        // A child has all its parent's ancestors and the parent: always more than the parent.
        members.sort_by_key(|&at| (ancestors[at] & chunk).count_ones());
        out.chunks.push((sum(nodes, chunk), members.len()));
        out.order.extend(members);
        left &= !chunk;
    }
    out
}

/// For each transaction the set of its ancestors and itself.
fn ancestor_sets(nodes: &[Node]) -> Vec<u64> {
    let mut sets: Vec<u64> = nodes.iter().enumerate().map(|(at, node)| node.parents | 1 << at).collect();
    loop {
        let mut grown = false;
        for at in 0..sets.len() {
            let all = bits(sets[at]).fold(sets[at], |all, parent| all | sets[parent]);
            grown |= all != sets[at];
            sets[at] = all;
        }
        if !grown {
            return sets;
        }
    }
}

/// The set with the highest feerate among those closed under ancestors within `left`; of equals
/// a small one.
fn best_closure(nodes: &[Node], ancestors: &[u64], left: u64, flow: &mut Flow) -> u64 {
    if left.count_ones() == 1 {
        return left;
    }
    let better = |a: FeeFrac, b: FeeFrac| a.cmp_rate(b).then_with(|| b.weight.cmp(&a.weight));
    let mut best = bits(left)
        .map(|at| ancestors[at] & left)
        .max_by(|a, b| better(sum(nodes, *a), sum(nodes, *b)))
        .unwrap_or(left);
    while let Some(improved) = closure_above(nodes, left, sum(nodes, best), flow) {
        best = improved;
    }
    // Parts that do not hang together each have the same feerate, or one would be better alone.
    components(nodes, best).into_iter().min_by_key(|part| sum(nodes, *part).weight).unwrap_or(best)
}

/// The connected parts of a set.
fn components(nodes: &[Node], set: u64) -> Vec<u64> {
    let mut parts: Vec<u64> = Vec::new();
    for at in bits(set) {
        let mut part = (nodes[at].parents | 1 << at) & set;
        parts.retain(|other| {
            let joined = other & part != 0;
            if joined {
                part |= other;
            }
            !joined
        });
        parts.push(part);
    }
    parts
}

/// What children's worth pays of their parents' cost.
struct Flow {
    count: usize,
    /// By child, then parent.
    paid: Vec<i128>,
    /// For each parent the children that pay for it.
    payers: Vec<u64>,
}

impl Flow {
    fn new(count: usize) -> Self {
        Self { count, paid: vec![0; count * count], payers: vec![0; count] }
    }

    fn clear(&mut self) {
        for parent in 0..self.count {
            for child in bits(std::mem::take(&mut self.payers[parent])) {
                self.paid[child * self.count + parent] = 0;
            }
        }
    }

    fn paid(&self, child: usize, parent: usize) -> i128 {
        self.paid[child * self.count + parent]
    }

    fn pay(&mut self, child: usize, parent: usize, amount: i128) {
        let paid = &mut self.paid[child * self.count + parent];
        *paid += amount;
        if *paid > 0 {
            self.payers[parent] |= 1 << child;
        } else {
            self.payers[parent] &= !(1 << child);
        }
    }
}

/// A set closed under ancestors within `left` whose feerate is above `rate`, if there is one:
/// the source side of a minimum cut in which every transaction is worth its fee less what its
/// weight costs at that rate.
fn closure_above(nodes: &[Node], left: u64, rate: FeeFrac, flow: &mut Flow) -> Option<u64> {
    let worth = |at: usize| {
        let frac = nodes[at].frac;
        i128::from(frac.fee) * i128::from(rate.weight) - i128::from(rate.fee) * i128::from(frac.weight)
    };
    let mut spare: Vec<i128> =
        (0..nodes.len()).map(|at| if left >> at & 1 == 1 { worth(at) } else { 0 }).collect();
    flow.clear();
    loop {
        // A breadth-first search from all that have worth to spare.
        let mut seen = bits(left).filter(|&at| spare[at] > 0).fold(0u64, |seen, at| seen | 1 << at);
        let mut from = vec![None; nodes.len()];
        let mut queue: Vec<usize> = bits(seen).collect();
        let mut head = 0;
        let mut reached = None;
        while let Some(&at) = queue.get(head) {
            head += 1;
            if spare[at] < 0 {
                reached = Some(at);
                break;
            }
            for next in bits((nodes[at].parents & left | flow.payers[at]) & !seen) {
                seen |= 1 << next;
                from[next] = Some(at);
                queue.push(next);
            }
        }
        let Some(end) = reached else {
            // Nothing more can be paid: what still has worth to spare, and its ancestors, gain.
            return (seen != 0).then_some(seen);
        };
        let mut path = vec![end];
        let mut at = end;
        while let Some(before) = from[at] {
            path.push(before);
            at = before;
        }
        let mut amount = spare[at].min(-spare[end]);
        for step in path.windows(2) {
            let (to, from) = (step[0], step[1]);
            if nodes[from].parents >> to & 1 == 0 {
                amount = amount.min(flow.paid(to, from));
            }
        }
        for step in path.windows(2) {
            let (to, from) = (step[0], step[1]);
            if nodes[from].parents >> to & 1 == 1 {
                flow.pay(from, to, amount);
            } else {
                flow.pay(to, from, -amount);
            }
        }
        spare[at] -= amount;
        spare[end] += amount;
    }
}

/// Sorts chunks of several clusters into one diagram.
pub fn diagram(mut chunks: Vec<FeeFrac>) -> Vec<FeeFrac> {
    chunks.sort_by(|a, b| match b.cmp_rate(*a) {
        Ordering::Equal => a.weight.cmp(&b.weight),
        unequal => unequal,
    });
    chunks
}

#[cfg(test)]
#[path = "linearise_tests.rs"]
mod tests;

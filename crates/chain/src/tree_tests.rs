use bitcoin::Network;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;

use super::*;

/// A tree of `count` headers above genesis; each child's parent is chosen by `parent`.
fn grow(count: u32, parent: impl Fn(u32) -> NodeId) -> HeaderTree {
    let genesis = genesis_block(Network::Regtest).header;
    let mut tree = HeaderTree::new(genesis);
    for n in 1..=count {
        let above = tree.node(parent(n)).clone();
        let header =
            Header { prev_blockhash: above.hash, nonce: n, time: above.header.time + n % 7, ..genesis };
        assert_eq!(tree.insert(header, header.block_hash(), parent(n)), n);
    }
    tree
}

#[test]
fn every_ancestor_is_found_by_skips_as_by_walking() {
    // Three branches: a trunk and two that leave it at heights 100 and 250.
    let tree = grow(900, |n| match n {
        301 => 100,
        601 => 250,
        n => n - 1,
    });
    for id in tree.ids().step_by(13) {
        let mut walked = id;
        loop {
            let height = tree.node(walked).height;
            assert_eq!(tree.ancestor(id, height), Some(walked));
            assert!(tree.descends(id, walked));
            let Some(parent) = tree.node(walked).parent else { break };
            walked = parent;
        }
        assert_eq!(tree.ancestor(id, tree.node(id).height.next()), None);
    }
    assert_eq!(tree.common_ancestor(600, 900), 100);
    assert_eq!(tree.common_ancestor(300, 900), 250);
    assert_eq!(tree.common_ancestor(17, 17), 17);
}

#[test]
fn the_tip_moves_across_branches() {
    let mut tree = grow(20, |n| if n == 11 { 5 } else { n - 1 });
    assert_eq!(tree.best_header(), 20);
    tree.set_tip(10);
    assert_eq!(tree.fork_with_active(20), 5);
    assert!(tree.is_active(7) && !tree.is_active(11));
    tree.set_tip(20);
    assert_eq!(tree.fork_with_active(10), 5);
    assert_eq!(tree.active_at(Height(6)), Some(11));
    assert_eq!(tree.tip(), 20);
    tree.set_tip(3);
    assert_eq!(tree.tip_node().height, Height(3));
    assert_eq!(tree.active_at(Height(4)), None);
    assert_eq!(tree.descendants(5), (6..=20).collect::<Vec<_>>());
    assert_eq!(tree.descendants(8), vec![9, 10]);
}

#[test]
fn median_time_is_that_of_eleven_headers() {
    let tree = grow(60, |n| n - 1);
    for id in 0..60 {
        let chain = tree.chain_of(id);
        let first = id.saturating_sub(10);
        let mut times: Vec<u32> =
            (first..=id).map(|at| chain.header_at(Height(at)).unwrap().1.time).collect();
        times.sort_unstable();
        assert_eq!(tree.node(id).median_time_past, UnixTime::from(times[times.len() / 2]));
    }
}

#[test]
fn locators_are_dense_near_the_tip_and_find_the_fork() {
    let mut tree = grow(400, |n| if n == 301 { 250 } else { n - 1 });
    tree.set_tip(300);
    let heights: Vec<u32> =
        tree.locator(300).iter().map(|hash| tree.node(tree.id(hash).unwrap()).height.0).collect();
    assert_eq!(&heights[..12], &[300, 299, 298, 297, 296, 295, 294, 293, 292, 291, 290, 289]);
    assert_eq!(&heights[12..15], &[287, 283, 275]);
    assert_eq!(heights.last(), Some(&0));

    // From the other branch the locator meets the active chain at or below the fork.
    let fork = tree.find_fork(&tree.locator(400));
    assert!(tree.is_active(fork) && fork <= 250);
    assert_eq!(tree.find_fork(&[tree.node(400).hash, tree.node(120).hash]), 120);
    assert_eq!(tree.find_fork(&[BlockHash::all_zeros()]), GENESIS);
    // A locator above the tip leads to the tip.
    tree.set_tip(200);
    assert_eq!(tree.find_fork(&[tree.node(300).hash]), 200);
}

#[test]
fn work_then_arrival_decides_between_candidates() {
    let mut tree = grow(3, |n| if n == 3 { 1 } else { n - 1 });
    tree.node_mut(2).sequence = 5;
    tree.node_mut(3).sequence = 4;
    assert!(tree.candidate(3) > tree.candidate(2), "earlier arrival wins");
    assert!(tree.candidate(2) > tree.candidate(1), "more work wins");
    tree.node_mut(2).sequence = 4;
    assert!(tree.candidate(2) > tree.candidate(3), "then the older node");
}

#[test]
fn branch_ends_are_tips() {
    let mut tree = grow(12, |n| if n == 9 { 4 } else { n - 1 });
    tree.set_tip(6);
    let mut ends = tree.branch_ends();
    ends.sort_unstable();
    assert_eq!(ends, vec![6, 8, 12]);
}

//! Which chain is active, and what is said of the others.

mod support;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bitcoin::{Amount, Block, OutPoint};
use ironpeer_chain::{ChainTipStatus, Followed, MarkError, SubmitOptions};
use ironpeer_consensus::Params;
use ironpeer_primitives::{BlockClass, ChainRead, Height};
use ironpeer_testkit::consensus::{seal, solve};
use support::{NOW, Node, regtest, spend};

fn reason(outcome: &ironpeer_chain::BlockOutcome) -> (BlockClass, String) {
    let reject = outcome.result.as_ref().unwrap_err();
    (reject.class, reject.reason.to_string())
}

fn status(node: &Node, block: &Block) -> ChainTipStatus {
    let tips = node.view().chain_tips();
    tips.iter().find(|tip| tip.header.hash == block.block_hash()).expect("a chain tip").status
}

#[test]
fn the_first_of_equal_branches_stays_until_one_has_more_work() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 3);
    let fork = base[0].block_hash();
    let rival = node.extend(&fork, 1, 2);
    assert_eq!(node.tip(), base[2].block_hash(), "first seen wins");
    assert_eq!(status(&node, &rival[1]), ChainTipStatus::ValidHeaders);
    let longer = node.extend(&rival[1].block_hash(), 1, 1);
    assert_eq!(node.tip(), longer[0].block_hash());
    assert_eq!(status(&node, &base[2]), ChainTipStatus::ValidFork);
    assert_eq!(status(&node, &longer[0]), ChainTipStatus::Active);
    node.check();
}

#[test]
fn blocks_submitted_one_after_the_other_are_taken_in_that_order() {
    let maker = Node::open(regtest());
    let blocks = maker.extend(&maker.tip(), 0, 60);
    let node = Node::open(regtest());
    let mut calls: Vec<_> = blocks
        .iter()
        .map(|block| Box::pin(node.handle.submit_block(Arc::clone(block), SubmitOptions::WANTED)))
        .collect();
    let mut outcomes = vec![None; calls.len()];
    let mut context = Context::from_waker(Waker::noop());
    while outcomes.iter().any(Option::is_none) {
        for (call, outcome) in calls.iter_mut().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none()) {
            if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
                *outcome = Some(answer.unwrap());
            }
        }
        std::thread::yield_now();
    }
    // One that came before its parent would be stored without a verdict.
    assert!(outcomes.iter().flatten().all(|outcome| outcome.checked && outcome.result.is_ok()));
    assert_eq!(node.tip(), maker.tip());
}

#[test]
fn a_reorganisation_takes_coins_back_and_tells_it_in_one_event() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 102);
    let coinbase = &base[0].txdata[0];
    let coin = OutPoint { txid: coinbase.compute_txid(), vout: 0 };
    let before = node.coins();

    let (mut events, from) = node.handle.events();
    assert_eq!(from.hash, node.tip());
    let moved = spend(&[(coinbase, 0)], 0);
    let again = spend(&[(&moved, 0)], 0);
    let parent = base[101].block_hash();
    let with_spend = node.make(&parent, 0, vec![moved.clone(), again.clone()]);
    assert!(node.submit(&with_spend).checked);
    assert_eq!(node.view().coin(&coin), None);
    let kept = OutPoint { txid: again.compute_txid(), vout: 0 };
    assert_eq!(node.view().coin(&kept).unwrap().height, Height(103));
    let undo = node.view().undo(&with_spend.block_hash()).unwrap();
    assert_eq!((undo.txs[0][0].height, undo.txs[0][0].is_coinbase), (Height(1), true));

    let rival = node.extend(&parent, 1, 2);
    assert_eq!(node.view().coin(&coin).unwrap().output.value, Amount::from_int_btc(50));
    assert_eq!(node.view().coin(&kept), None);
    let Some(Followed::Event(first)) = events.try_next() else { panic!("an event") };
    assert_eq!((first.seq, first.connected.len(), first.disconnected.len()), (103, 1, 0));
    assert_eq!(first.connected[0].spent.txs[0][0].output, coinbase.output[0]);
    let Some(Followed::Event(second)) = events.try_next() else { panic!("an event") };
    assert_eq!(second.seq, 104);
    assert_eq!(second.disconnected[0].hash, with_spend.block_hash());
    let connected: Vec<_> = second.connected.iter().map(|block| block.hash).collect();
    assert_eq!(connected, [rival[0].block_hash(), rival[1].block_hash()]);
    assert_eq!(node.view().tip_and_seq().1, 104);

    // Taking both off again leads to the very same coins.
    node.handle.invalidate_blocking(with_spend.block_hash()).unwrap();
    node.handle.invalidate_blocking(rival[0].block_hash()).unwrap();
    assert_eq!(node.tip(), parent);
    assert_eq!(node.coins(), before);
    node.check();
}

#[test]
fn a_deep_reorganisation_ends_where_a_node_that_saw_only_the_winner_stands() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 5);
    node.extend(&base[4].block_hash(), 0, 150);
    let winner = node.extend(&base[4].block_hash(), 1, 151);
    assert_eq!(node.tip(), winner[150].block_hash());
    let twin = Node::open(regtest());
    for block in base.iter().chain(&winner) {
        twin.submit(block);
    }
    assert_eq!(node.coins(), twin.coins());
    node.check();
}

#[test]
fn a_branch_that_proves_invalid_leaves_no_trace_but_its_mark() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 103);
    let fork = base[101].block_hash();
    // An output spent twice: only applying the blocks finds it.
    let coinbase = &base[0].txdata[0];
    let good = node.make(&fork, 1, vec![spend(&[(coinbase, 0)], 0)]);
    node.submit(&good);
    let bad = node.make(&good.block_hash(), 1, vec![spend(&[(coinbase, 0)], 10)]);
    let (mut events, _) = node.handle.events();
    let outcome = node.submit(&bad);
    assert_eq!(reason(&outcome), (BlockClass::Consensus, "bad-txns-inputs-missingorspent".into()));
    assert!(outcome.checked && outcome.new);
    assert_eq!(node.tip(), base[102].block_hash());
    assert!(events.try_next().is_none(), "the tip never moved");
    assert_eq!(status(&node, &bad), ChainTipStatus::Invalid);
    assert!(!node.view().header(&good.block_hash()).unwrap().failed);

    let again = node.submit(&bad);
    assert_eq!(reason(&again), (BlockClass::CachedInvalid, "duplicate-invalid".into()));
    let mut child = node.make(&good.block_hash(), 2, Vec::new()).as_ref().clone();
    child.header.prev_blockhash = bad.block_hash();
    seal(&mut child, node.view().params());
    let outcome = node.submit(&Arc::new(child));
    assert_eq!(reason(&outcome), (BlockClass::InvalidPrev, "bad-prevblk".into()));
}

#[test]
fn an_earlier_block_that_proves_invalid_is_named_with_the_later_one() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 103);
    let never_mined = spend(&[(&base[0].txdata[0], 0)], 0);
    // As much work as the tip, so it is stored and not looked at further.
    let bad = node.make(&base[101].block_hash(), 1, vec![spend(&[(&never_mined, 0)], 0)]);
    let stored = node.submit(&bad);
    assert!(stored.result.is_ok() && !stored.checked && stored.others_refused.is_empty());
    let outcome = node.submit(&node.make(&bad.block_hash(), 1, Vec::new()));
    let refused: Vec<_> =
        outcome.others_refused.iter().map(|(hash, reject)| (*hash, reject.reason.as_ref())).collect();
    assert_eq!(refused, [(bad.block_hash(), "bad-txns-inputs-missingorspent")]);
    assert_eq!(node.tip(), base[102].block_hash());
}

#[test]
fn a_failing_script_is_named_as_core_names_it() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 101);
    // OP_TRUE with a signature script that leaves the stack empty of truth: OP_RETURN.
    let mut tx = spend(&[(&base[0].txdata[0], 0)], 0);
    tx.input[0].script_sig = vec![0x6a].into();
    let bad = node.make(&node.tip(), 0, vec![tx.clone()]);
    let outcome = node.submit(&bad);
    let reject = outcome.result.unwrap_err();
    assert_eq!(reject.reason, "block-script-verify-flag-failed (OP_RETURN was encountered)");
    let spent = tx.input[0].previous_output;
    let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
    assert_eq!(
        reject.debug,
        format!("input 0 of {txid} (wtxid {wtxid}), spending {}:{}", spent.txid, spent.vout)
    );
    assert_eq!(node.tip(), base[100].block_hash());
}

#[test]
fn a_rule_broken_later_in_the_block_wins_over_a_failing_script() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 102);
    let mut tx = spend(&[(&base[0].txdata[0], 0)], 0);
    tx.input[0].script_sig = vec![0x6a].into();
    let missing = spend(&[(&spend(&[(&base[1].txdata[0], 0)], 7), 0)], 0);
    let bad = node.make(&node.tip(), 0, vec![tx, missing]);
    assert_eq!(reason(&node.submit(&bad)).1, "bad-txns-inputs-missingorspent");
}

#[test]
fn an_earlier_blocks_failing_script_wins_over_a_later_blocks_failure() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 103);
    let fork = base[101].block_hash();
    let mut tx = spend(&[(&base[0].txdata[0], 0)], 0);
    tx.input[0].script_sig = vec![0x6a].into();
    let first = node.make(&fork, 1, vec![tx]);
    node.submit(&first);
    let mut second = node.make(&first.block_hash(), 1, Vec::new()).as_ref().clone();
    second.txdata[0].output[0].value += Amount::from_sat(1);
    seal(&mut second, node.view().params());
    node.submit(&Arc::new(second));
    assert!(node.view().header(&first.block_hash()).unwrap().failed);
    assert_eq!(node.tip(), base[102].block_hash());
}

#[test]
fn bodies_may_come_in_any_order() {
    let node = Node::open(regtest());
    let twin = Node::open(regtest());
    let blocks = twin.extend(&twin.tip(), 0, 20);
    let headers = blocks.iter().map(|block| block.header).collect();
    let outcome = node.handle.submit_headers_blocking(headers, true).unwrap();
    assert_eq!(outcome.last.unwrap().height, Height(20));
    assert_eq!(node.view().best_header().height, Height(20));
    for block in blocks.iter().rev().take(19) {
        let outcome = node.submit(block);
        assert!(outcome.new && !outcome.checked);
        assert_eq!(node.view().tip().height, Height(0));
    }
    assert!(node.submit(&blocks[0]).checked);
    assert_eq!(node.tip(), twin.tip());
    assert_eq!(node.view().chain_tx_count(&node.tip()), Some(21));
    let again = node.submit(&blocks[4]);
    assert!(!again.new && !again.checked && again.result.is_ok());
}

#[test]
fn headers_are_refused_as_core_refuses_them() {
    let node = Node::open(regtest());
    let params = Params::clone(node.view().params());
    let base = node.extend(&node.tip(), 0, 3);
    let good = node.make(&base[2].block_hash(), 0, Vec::new()).header;
    let submit = |header, min_pow_checked| {
        let outcome = node.handle.submit_headers_blocking(vec![header], min_pow_checked).unwrap();
        outcome.refused.map(|failure| (failure.reject.class, failure.reject.reason.to_string()))
    };
    assert_eq!(submit(good, false), Some((BlockClass::HeaderLowWork, "too-little-chainwork".into())));
    assert!(node.view().header(&good.block_hash()).is_none(), "nothing is kept of it");

    let mut orphan = good;
    orphan.prev_blockhash = "11".repeat(32).parse().unwrap();
    solve(&mut orphan, &params);
    assert_eq!(submit(orphan, true), Some((BlockClass::MissingPrev, "prev-blk-not-found".into())));

    let mut early = good;
    early.time = u32::try_from(NOW).unwrap() + 2 * 60 * 60 + 1;
    solve(&mut early, &params);
    assert_eq!(submit(early, true), Some((BlockClass::TimeFuture, "time-too-new".into())));
    node.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(submit(early, true), None, "being early is not remembered");

    assert_eq!(submit(base[1].header, false), None, "a known header is no news");
    node.handle.invalidate_blocking(base[1].block_hash()).unwrap();
    let known = submit(base[1].header, true);
    assert_eq!(known, Some((BlockClass::CachedInvalid, "duplicate-invalid".into())));
    assert_eq!(submit(good, true), Some((BlockClass::InvalidPrev, "bad-prevblk".into())));
}

#[test]
fn a_body_that_is_bad_on_its_own_does_not_condemn_its_header() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 101);
    let good = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]);
    // The last transaction twice: the same merkle root (CVE-2012-2459).
    let three = {
        let tx = spend(&[(&good.txdata[1], 0)], 0);
        node.make(&node.tip(), 0, vec![good.txdata[1].clone(), tx])
    };
    let mut doubled = three.as_ref().clone();
    doubled.txdata.push(three.txdata[2].clone());
    assert_eq!(doubled.block_hash(), three.block_hash());
    let outcome = node.submit(&Arc::new(doubled));
    assert_eq!(reason(&outcome), (BlockClass::Mutated, "bad-txns-duplicate".into()));
    assert!(outcome.header.is_none(), "its header was not even stored");
    assert!(node.submit(&three).result.is_ok());
    assert_eq!(node.tip(), three.block_hash());
}

#[test]
fn unrequested_blocks_need_work_and_nearness() {
    let twin = Node::open(regtest());
    let far = twin.extend(&twin.tip(), 0, 300);
    let node = Node::open(regtest());
    let unasked = SubmitOptions { force_processing: false, min_pow_checked: true };
    let submit = |block: &Arc<Block>| node.handle.submit_block_blocking(Arc::clone(block), unasked).unwrap();
    node.handle.submit_headers_blocking(far.iter().map(|block| block.header).collect(), true).unwrap();
    assert!(!submit(&far[288]).new, "289 ahead is too far");
    assert!(submit(&far[287]).new);
    node.extend(&node.tip(), 1, 3);
    assert!(!submit(&far[0]).new, "less work than the tip");
    assert!(node.submit(&far[0]).new, "unless it was asked for");
}

#[test]
fn invalidate_and_reconsider_are_each_others_inverse() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 110);
    let rival = node.extend(&base[99].block_hash(), 1, 5);
    let (tip, coins) = (node.tip(), node.coins());
    node.handle.invalidate_blocking(base[100].block_hash()).unwrap();
    assert_eq!(node.tip(), rival[4].block_hash(), "the next best branch takes over");
    assert_eq!(node.view().best_header().hash, rival[4].block_hash());
    assert_eq!(status(&node, &base[109]), ChainTipStatus::Invalid);
    node.handle.invalidate_blocking(rival[2].block_hash()).unwrap();
    assert_eq!(node.tip(), rival[1].block_hash());
    node.handle.reconsider_blocking(base[105].block_hash()).unwrap();
    assert_eq!(node.tip(), tip, "marks above and below are taken back");
    assert_eq!(node.coins(), coins);
    assert_eq!(status(&node, &rival[4]), ChainTipStatus::Invalid);
    let unknown = "22".repeat(32).parse().unwrap();
    assert_eq!(node.handle.invalidate_blocking(unknown), Err(MarkError::UnknownBlock));
    let genesis = node.view().active_at(Height(0)).unwrap().hash;
    assert_eq!(node.handle.invalidate_blocking(genesis), Err(MarkError::Genesis));
    node.check();
}

#[test]
fn a_precious_block_wins_a_tie_and_the_last_one_named_wins_among_them() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 2);
    let fork = base[0].block_hash();
    let b = node.extend(&fork, 1, 1)[0].block_hash();
    let c = node.extend(&fork, 2, 1)[0].block_hash();
    let a = base[1].block_hash();
    assert_eq!(node.tip(), a);
    node.handle.precious_blocking(b).unwrap();
    assert_eq!(node.tip(), b);
    node.handle.precious_blocking(c).unwrap();
    assert_eq!(node.tip(), c);
    node.handle.precious_blocking(a).unwrap();
    assert_eq!(node.tip(), a);
    node.handle.precious_blocking(fork).unwrap();
    assert_eq!(node.tip(), a, "less work than the tip: nothing happens");
}

#[test]
fn initial_download_ends_once_and_for_all() {
    let node = Node::open(regtest());
    node.extend(&node.tip(), 0, 1);
    assert!(node.view().is_initial_block_download(), "a block of 2011 is old");
    let recent = {
        let mut block = node.make(&node.tip(), 0, Vec::new()).as_ref().clone();
        block.header.time = u32::try_from(NOW).unwrap() - 24 * 60 * 60;
        seal(&mut block, node.view().params());
        Arc::new(block)
    };
    node.submit(&recent);
    assert!(!node.view().is_initial_block_download());
    node.handle.invalidate_blocking(recent.block_hash()).unwrap();
    assert!(!node.view().is_initial_block_download(), "it never comes back");
}

#[test]
fn a_template_is_tested_without_being_stored_or_solved() {
    let node = Node::open(regtest());
    let base = node.extend(&node.tip(), 0, 101);
    let mut template = node.make(&node.tip(), 0, vec![spend(&[(&base[0].txdata[0], 0)], 0)]).as_ref().clone();
    template.header.merkle_root = bitcoin::hashes::Hash::all_zeros();
    assert_eq!(node.handle.test_block_validity_blocking(template.clone()), Ok(Ok(())));
    template.txdata[0].output[0].value += Amount::from_sat(1);
    let reject = node.handle.test_block_validity_blocking(template.clone()).unwrap().unwrap_err();
    assert_eq!(reject.reason, "bad-cb-amount");
    template.header.prev_blockhash = base[3].block_hash();
    let reject = node.handle.test_block_validity_blocking(template).unwrap().unwrap_err();
    assert_eq!(reject.reason, "inconclusive-not-best-prevblk");
    assert_eq!(node.view().header_count(), 102);
}

#[test]
fn the_chain_stops_at_the_height_it_is_told() {
    let twin = Node::open(regtest());
    let blocks = twin.extend(&twin.tip(), 0, 10);
    let config = ironpeer_chain::Config { stop_at_height: Some(Height(4)), ..regtest() };
    let node = Node::open(config);
    let stop = node.handle.stop_requested();
    for block in blocks.iter().skip(1) {
        node.handle.submit_headers_blocking(blocks.iter().map(|block| block.header).collect(), true).unwrap();
        node.submit(block);
    }
    assert!(!*stop.borrow());
    node.submit(&blocks[0]);
    assert!(*stop.borrow());
    assert_eq!(node.view().tip().height, Height(4));
}

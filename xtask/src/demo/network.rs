use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::transactions::Wallet;
use super::{DemoNode, Failure, Stage, text};
use crate::report::Report;

/// Nodes in the line.
const NODES: usize = 5;

/// Blocks whose way down the line is timed.
const TIMED_BLOCKS: u64 = 20;

/// Blocks each side of the split mines; the right side wins.
const LEFT_BLOCKS: u64 = 3;
const RIGHT_BLOCKS: u64 = 6;

/// Hashes a call may take; enough for the signet's difficulty.
pub const MAX_TRIES: u64 = 1_000_000_000;

/// A script anyone can spend, for blocks nobody needs the reward of.
pub const OP_TRUE: &str = "raw(51)";

/// Starts nodes that are each connected to the one before.
fn connect_line(stage: &mut Stage, count: usize) -> Result<Vec<DemoNode>, Failure> {
    let mut nodes: Vec<DemoNode> = Vec::new();
    for index in 0..count {
        // The nodes trust each other, as in Core's own tests: transactions are not held back for
        // seconds at each hop to hide where they began.
        let args = ["-regtest", "-logtimemicros", "-whitelist=noban,in,out@127.0.0.1"];
        let mut node = DemoNode::start(stage, &format!("node{index}"), "regtest", &args)?;
        if let Some(last) = nodes.last() {
            node.connect_to(last)?;
        }
        nodes.push(node);
    }
    for (index, node) in nodes.iter_mut().enumerate() {
        node.wait_for_peers(if index == 0 || index == count - 1 { 1 } else { 2 })?;
    }
    Ok(nodes)
}

/// Mines on the first node, and says for each other how long after it each block arrived there:
/// sorted, in microseconds.
fn time_blocks(nodes: &mut [DemoNode], blocks: u64) -> Result<Vec<Vec<i64>>, Failure> {
    // The first block ends every node's initial download; from then on announcements flow.
    for _ in 0..=blocks {
        let hashes = mine(&mut nodes[0], 1, OP_TRUE)?;
        follow(nodes, &hashes)?;
    }
    let times: Vec<Vec<(String, i64)>> = nodes.iter().map(tip_times).collect();
    let (first, rest) = times.split_first().ok_or("no nodes")?;
    rest.iter()
        .map(|node| {
            let arrivals: BTreeMap<&str, i64> =
                node.iter().map(|(hash, time)| (hash.as_str(), *time)).collect();
            let mut delays = Vec::new();
            for (hash, start) in first.iter().skip(1) {
                delays.push(arrivals.get(hash.as_str()).ok_or("a block never became the tip")? - start);
            }
            delays.sort_unstable();
            Ok(delays)
        })
        .collect()
}

/// Times blocks down a line of `count` fresh nodes; sorted microseconds for each node after the
/// first.
pub fn line_delays(stage: &mut Stage, count: usize, blocks: u64) -> Result<Vec<Vec<i64>>, Failure> {
    let mut nodes = connect_line(stage, count)?;
    let delays = time_blocks(&mut nodes, blocks)?;
    nodes.iter_mut().try_for_each(|node| node.stop().map(drop))?;
    Ok(delays)
}

/// Starts the line, mines on its first node and times the way of each block to every other.
pub fn start_line(stage: &mut Stage, report: &mut Report) -> Result<Vec<DemoNode>, Failure> {
    let mut nodes = connect_line(stage, NODES)?;
    report.fact("line of regtest nodes", format!("{NODES} processes, neighbours connected"), true);
    for (hop, delays) in (1..).zip(time_blocks(&mut nodes, TIMED_BLOCKS)?) {
        let pick = |part: usize| delays.get(delays.len() * part / 100).copied().unwrap_or_default();
        report.fact(
            &format!("block seen {hop} hop{} away", if hop == 1 { "" } else { "s" }),
            format!("median {:.2} ms, p90 {:.2} ms", pick(50) as f64 / 1e3, pick(90) as f64 / 1e3),
            delays.len() as u64 == TIMED_BLOCKS,
        );
    }
    let near = nodes[0].best_hash()?;
    report.equal("tip at the other end", &nodes[NODES - 1].best_hash()?, &near);
    Ok(nodes)
}

/// Mines on one node.
pub fn mine(node: &mut DemoNode, blocks: u64, descriptor: &str) -> Result<Vec<String>, Failure> {
    let params = [json!(blocks), json!(descriptor), json!(MAX_TRIES)];
    let hashes = node.call("generatetodescriptor", &params)?;
    Ok(hashes.as_array().map(|hashes| hashes.iter().map(text).collect()).unwrap_or_default())
}

/// Waits until every node has the last of the blocks as its tip.
pub fn follow(nodes: &mut [DemoNode], hashes: &[String]) -> Result<(), Failure> {
    let last = hashes.last().ok_or("nothing was mined")?;
    nodes.iter_mut().try_for_each(|node| node.wait_for_best(last))
}

/// When each block became the node's tip, in microseconds since the epoch, from its log.
fn tip_times(node: &DemoNode) -> Vec<(String, i64)> {
    node.process
        .debug_log()
        .lines()
        .filter_map(|line| {
            let hash = line.split("new best=").nth(1)?.split(' ').next()?;
            Some((hash.to_owned(), super::log_micros(line)?))
        })
        .collect()
}

fn mempool(node: &mut DemoNode) -> Result<Vec<String>, Failure> {
    let ids = node.call("getrawmempool", &[])?;
    Ok(ids.as_array().map(|ids| ids.iter().map(text).collect()).unwrap_or_default())
}

/// Cuts the line in two, lets both sides mine, joins it and shows the reorganisation.
pub fn split_and_heal(
    nodes: &mut [DemoNode],
    wallet: &mut Wallet,
    report: &mut Report,
) -> Result<(), Failure> {
    let cut = format!("127.0.0.1:{}", nodes[2].p2p_port);
    nodes[3].call("disconnectnode", &[json!(cut)])?;
    nodes[3].wait_for_peers(1)?;
    nodes[2].wait_for_peers(1)?;
    let fork = nodes[0].height()?;

    let sent = wallet.send(&mut nodes[0], 10)?;
    for node in &mut nodes[..3] {
        node.process
            .wait_until("getrawmempool", &[], |pool| pool.as_array().is_some_and(|ids| ids.len() == 10))?;
    }
    let left = mine(&mut nodes[0], LEFT_BLOCKS, OP_TRUE)?;
    follow(&mut nodes[..3], &left)?;
    let confirmed = mempool(&mut nodes[0])?.is_empty();
    report.fact("left side", format!("{LEFT_BLOCKS} blocks with {} transactions", sent.len()), confirmed);
    let right = mine(&mut nodes[4], RIGHT_BLOCKS, OP_TRUE)?;
    follow(&mut nodes[3..], &right)?;
    report.fact("right side", format!("{RIGHT_BLOCKS} blocks, none of those transactions"), true);

    let (near, far) = nodes.split_at_mut(3);
    far[0].connect_to(&near[2])?;
    follow(nodes, &right)?;
    let tips = nodes[0].call("getchaintips", &[])?;
    let side = tips.as_array().into_iter().flatten().find(|tip| tip["status"] == "valid-fork");
    let branch = side.and_then(|tip| tip["branchlen"].as_u64()).unwrap_or_default();
    report.fact(
        "after healing, node0",
        format!("fork at {fork}: {branch} blocks disconnected, {RIGHT_BLOCKS} connected"),
        branch == LEFT_BLOCKS && side.is_some_and(|tip| text(&tip["hash"]) == left[left.len() - 1]),
    );
    let mut back = mempool(&mut nodes[0])?;
    back.sort();
    let mut expected = sent;
    expected.sort();
    report.fact(
        "transactions back in the mempool",
        format!("{} of {}", back.len(), expected.len()),
        back == expected,
    );
    let hashes = mine(&mut nodes[0], 1, OP_TRUE)?;
    follow(nodes, &hashes)?;
    let rest: Value = nodes[4].call("getrawmempool", &[])?;
    let block = nodes[4].call("getblock", &[json!(hashes[0])])?;
    let mined = block["nTx"].as_u64().unwrap_or_default();
    report.fact(
        "mined again on the winning chain",
        format!("{} transactions", mined.saturating_sub(1)),
        mined == 11 && rest == json!([]),
    );
    Ok(())
}

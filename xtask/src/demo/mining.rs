use super::network::{OP_TRUE, mine};
use super::{DemoNode, Failure, Stage, log_micros};
use crate::report::Report;

/// Blocks each of the two nodes is asked for.
const BLOCKS_EACH: u64 = 4;

/// Lets two nodes race on a signet anyone may sign, where a block takes about five million
/// hashes.
pub fn run(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    let args = ["-signet", "-signetchallenge=51", "-logtimemicros", "-debug=bench"];
    let mut left = DemoNode::start(stage, "miner0", "signet", &args)?;
    let mut right = DemoNode::start(stage, "miner1", "signet", &args)?;
    right.connect_to(&left)?;
    left.wait_for_peers(1)?;
    right.wait_for_peers(1)?;
    let race = |node: &mut DemoNode| -> Result<usize, String> {
        mine(node, BLOCKS_EACH, OP_TRUE).map(|hashes| hashes.len()).map_err(|error| error.to_string())
    };
    let (mined_left, mined_right) = std::thread::scope(|scope| {
        let other = scope.spawn(|| race(&mut right));
        let own = race(&mut left);
        (own, other.join().unwrap_or_else(|_| Err("the racing thread died".into())))
    });
    let (mined_left, mined_right) = (mined_left?, mined_right?);
    report.fact(
        "both races won in the end",
        format!("{mined_left} and {mined_right} blocks found"),
        mined_left as u64 == BLOCKS_EACH && mined_right as u64 == BLOCKS_EACH,
    );
    // The last two blocks may have been found at the same moment; one more settles it.
    let settled = mine(&mut left, 1, OP_TRUE)?;
    right.wait_for_best(&settled[0])?;
    let height = left.height()?;
    report.fact(
        "the chain they agree on",
        format!("{height} blocks, {} lost the race", 2 * BLOCKS_EACH + 1 - height),
        height > BLOCKS_EACH && left.best_hash()? == right.best_hash()?,
    );

    let mut delays: Vec<i64> =
        [&left, &right].into_iter().flat_map(|node| cancellations(&node.process.debug_log())).collect();
    delays.sort_unstable();
    let median = delays.get(delays.len() / 2).copied().unwrap_or_default();
    let worst = delays.last().copied().unwrap_or_default();
    report.fact(
        "searches cancelled by the competing block",
        format!("{}; new tip to search stopped: median {median} us, worst {worst} us", delays.len()),
        !delays.is_empty(),
    );
    left.process.stop()?;
    right.process.stop()?;
    Ok(())
}

/// Microseconds from each new tip to the end of the search it stopped, from a node's log.
fn cancellations(log: &str) -> Vec<i64> {
    let tips: Vec<(&str, i64)> = log
        .lines()
        .filter_map(|line| Some((line.split("new best=").nth(1)?.split(' ').next()?, log_micros(line)?)))
        .collect();
    log.lines()
        .filter(|line| line.contains(" us after a new tip"))
        .filter_map(|line| {
            let parent = line.split("search on ").nth(1)?.split(' ').next()?;
            // The tip after the parent's is the one that stopped the search; genesis has no line.
            let after = tips.iter().position(|(hash, _)| *hash == parent).map_or(0, |at| at + 1);
            Some(log_micros(line)? - tips.get(after)?.1)
        })
        .collect()
}

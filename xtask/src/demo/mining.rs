use serde_json::json;

use super::network::OP_TRUE;
use super::{DemoNode, Failure, Stage, log_micros};
use crate::report::Report;

/// Blocks each of the two nodes is asked for.
const BLOCKS_EACH: u64 = 4;

/// Lets two nodes race on a signet anyone may sign, where a block takes about five million
/// hashes.
pub fn run(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    let args = ["-signet", "-signetchallenge=51", "-logtimemicros", "-debug=validation"];
    let mut left = DemoNode::start(stage, "miner0", "signet", &args)?;
    let mut right = DemoNode::start(stage, "miner1", "signet", &args)?;
    right.connect_to(&left)?;
    left.wait_for_peers(1)?;
    right.wait_for_peers(1)?;
    let race = |node: &mut DemoNode| -> Result<usize, String> {
        let params = [json!(BLOCKS_EACH), json!(OP_TRUE), json!(1_000_000_000)];
        let hashes = node.call("generatetodescriptor", &params).map_err(|error| error.to_string())?;
        Ok(hashes.as_array().map_or(0, Vec::len))
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
    let (mine, theirs) = (left.best_hash()?, right.best_hash()?);
    let best = if left.height()? >= right.height()? { mine } else { theirs };
    // Two blocks found at the same moment may leave a tie: equal heights, two tips.
    let agreed = left.height()? == right.height()?;
    report.fact("height they agree on", format!("{} ({})", left.height()?, &best[best.len() - 16..]), agreed);

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

/// Microseconds from each new tip to the search it stopped, from a node's log.
fn cancellations(log: &str) -> Vec<i64> {
    let mut tip = None;
    let mut delays = Vec::new();
    for line in log.lines() {
        if line.contains("UpdateTip: new best=") {
            tip = log_micros(line);
        } else if line.contains("Mining search stopped by a new tip")
            && let (Some(tip), Some(stopped)) = (tip, log_micros(line))
        {
            delays.push(stopped - tip);
        }
    }
    delays
}

use serde_json::{Value, json};

use super::network::{OP_TRUE, follow, mine};
use super::{DemoNode, Failure, Stage, port_is_free, text};
use crate::report::{Report, ms};

/// Blocks a fresh node downloads while it is killed.
const BLOCKS: u64 = 3_000;

/// Kills a node that is downloading, restarts it and compares it with one that was never killed;
/// then stops every node.
pub fn run(stage: &mut Stage, mut nodes: Vec<DemoNode>, report: &mut Report) -> Result<(), Failure> {
    let mined = mine(&mut nodes[0], BLOCKS, OP_TRUE)?;
    follow(&mut nodes, &mined)?;
    let target = nodes[0].height()?;
    let mut victim = DemoNode::start(stage, "victim", "regtest", &["-regtest", "-logtimemicros"])?;
    victim.connect_to(&nodes[0])?;
    let acknowledged = victim
        .process
        .wait_until("getblockcount", &[], |height| height.as_u64().is_some_and(|height| height > target / 4))?
        .as_u64()
        .unwrap_or_default();
    victim.process.kill()?;
    report.fact(
        "killed in the middle of download",
        format!("at {acknowledged} of {target}"),
        acknowledged < target,
    );
    victim.restart()?;
    let height = victim.height()?;
    report.fact("height after the restart", format!("{height}"), height >= acknowledged);
    victim.connect_to(&nodes[0])?;
    victim.wait_for_best(&mined[mined.len() - 1])?;
    let hash = |node: &mut DemoNode| -> Result<String, Failure> {
        let info: Value = node.call("gettxoutsetinfo", &[json!("muhash")])?;
        Ok(text(&info["muhash"]))
    };
    let expected = hash(&mut nodes[0])?;
    report.equal("its coins against a node never killed", &hash(&mut victim)?, &expected);

    nodes.push(victim);
    let mut times = Vec::new();
    let mut clean = true;
    let mut quiet = true;
    for node in &mut nodes {
        let (status, took) = node.process.stop()?;
        clean &= status.success();
        quiet &= node.process.stderr().is_empty();
        times.push(took);
    }
    let free = nodes.iter().all(|node| port_is_free(node.p2p_port) && port_is_free(node.rpc_port));
    let list: Vec<String> = times.iter().map(|took| ms(*took)).collect();
    report.fact("stopped by SIGINT, exit code 0", list.join(", "), clean);
    report.fact("nothing on stderr, all ports free", if free { "yes" } else { "no" }, quiet && free);
    Ok(())
}

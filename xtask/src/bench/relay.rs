use super::{Bench, Failure, Row};
use crate::demo::{Stage, line_delays};

/// Hops from the miner to the far end.
const HOPS: usize = 5;

/// Blocks whose way is timed.
const BLOCKS: u64 = 50;

pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let mut stage = Stage::with_program(bench.program.clone())?;
    let delays = line_delays(&mut stage, HOPS + 1, BLOCKS)?;
    let far = delays.last().ok_or("no node at the far end")?;
    let pick = |part: usize| far.get(far.len() * part / 100).copied().unwrap_or_default() as f64 / 1e3;
    Ok(vec![
        Row::alone(format!("block relay over {HOPS} hops, median"), "ms", pick(50)),
        Row::alone(format!("block relay over {HOPS} hops, p90"), "ms", pick(90)),
    ])
}

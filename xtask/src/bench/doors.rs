use std::time::Instant;

use bitcoin::consensus::encode::serialize_hex;
use serde_json::json;

use super::{Bench, Failure, Row};
use crate::demo::{DemoNode, OP_TRUE, Stage, Wallet, mine, text};

/// Calls counted for each method.
const CALLS: u32 = 5_000;

/// Mined coins that the admitted transactions stem from.
const COINS: u64 = 100;

pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let mut stage = Stage::with_program(bench.program.clone())?;
    let start = Instant::now();
    let mut node = DemoNode::start(&mut stage, "doors", "regtest", &["-regtest"])?;
    let mut rows =
        vec![Row::alone("cold start to first answered call", "ms", start.elapsed().as_secs_f64() * 1e3)];

    let mut wallet = Wallet::new();
    let txs = wallet.prepare(&mut node, COINS)?;
    let start = Instant::now();
    for tx in &txs {
        node.call("sendrawtransaction", &[json!(serialize_hex(tx)), json!(0)])?;
    }
    rows.push(Row::alone(
        "mempool admissions, one caller",
        "tx/s",
        txs.len() as f64 / start.elapsed().as_secs_f64(),
    ));
    let block = mine(&mut node, 1, OP_TRUE)?;
    let hash = text(&json!(block[0]));
    for (name, method, params) in [
        ("getblockcount, one connection", "getblockcount", vec![]),
        ("getblock 0, one connection", "getblock", vec![json!(hash), json!(0)]),
        ("getblock 1, one connection", "getblock", vec![json!(hash), json!(1)]),
        ("getblock 2, one connection", "getblock", vec![json!(hash), json!(2)]),
    ] {
        let calls = if method == "getblock" { CALLS / 10 } else { CALLS };
        let start = Instant::now();
        for _ in 0..calls {
            node.call(method, &params)?;
        }
        rows.push(Row::alone(name, "calls/s", f64::from(calls) / start.elapsed().as_secs_f64()));
    }
    let took = node.stop()?;
    rows.push(Row::alone("shutdown", "ms", took.as_secs_f64() * 1e3));
    Ok(rows)
}

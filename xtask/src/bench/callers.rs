//! JSON-RPC under load: many callers at once, then the same beside a crowd that disturbs them.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::load::{Crowd, Outcome, Requests, Target};
use super::{Bench, Failure, Row};
use crate::demo::{DemoNode, OP_TRUE, Stage, Wallet, mine, text};

/// Callers at once, each on a connection it keeps, as far as `--callers` allows.
const CALLERS: [usize; 3] = [1, 16, 200];
/// How long each measurement goes on.
const LASTS: Duration = Duration::from_secs(3);
/// Calls in a batch.
const BATCH: usize = 1_000;
/// Transactions of the full block, each with one input and two outputs: four million weight.
const BLOCK_TXS: usize = 7_000;
/// Outputs that one transaction makes for them; more would not be standard.
const FAN_OUT: usize = 1_750;
/// Transactions sent in each measurement of `sendrawtransaction`.
const SENT: usize = 1_500;
/// Disturbers with a wrong password, and disturbers that send a byte now and then.
const WRONG: u32 = 1_000;
const SLOW: u32 = 2_000;
/// What the callers beside them must not wait longer than, in milliseconds.
const P99_GOAL: f64 = 50.0;

/// A call's request.
fn call(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

/// A node with a full block, and transactions to send.
struct Scene {
    node: DemoNode,
    target: Target,
    block: String,
    block_bytes: usize,
    txid: String,
    /// One that is in the mempool.
    waiting: String,
    unsent: Vec<String>,
    /// Most callers at once.
    most: usize,
}

impl Scene {
    fn set(stage: &mut Stage, most: usize, measurements: usize) -> Result<Self, Failure> {
        let mut node = DemoNode::start(stage, "callers", "regtest", &["-regtest"])?;
        let mut wallet = Wallet::new();
        let fans = BLOCK_TXS / FAN_OUT;
        for tx in wallet.fan_out(&mut node, fans as u64, FAN_OUT)? {
            node.call("sendrawtransaction", &[json!(serialize_hex(&tx)), json!(0)])?;
        }
        mine(&mut node, 1, OP_TRUE)?;
        for tx in wallet.split_all() {
            node.call("sendrawtransaction", &[json!(serialize_hex(&tx)), json!(0)])?;
        }
        let block = mine(&mut node, 1, OP_TRUE)?.pop().ok_or("no block was mined")?;
        let shown = node.call("getblock", &[json!(block), json!(1)])?;
        let block_bytes = shown["size"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let txid = text(&shown["tx"][1]);
        let mut ready = wallet.split_all().into_iter();
        let waiting = ready.next().ok_or("no transaction is left")?;
        let waiting = text(&node.call("sendrawtransaction", &[json!(serialize_hex(&waiting)), json!(0)])?);
        let unsent = ready
            .take(SENT * measurements)
            .map(|tx| call("sendrawtransaction", &json!([serialize_hex(&tx), 0])))
            .collect();
        let target = Target::new(node.rpc_port(), &node.cookie()?);
        Ok(Self { node, target, block, block_bytes, txid, waiting, unsent, most })
    }

    fn requests(&mut self, what: &str) -> Requests {
        let same = |body: String| Requests::Same(Arc::from(body), LASTS);
        let block = |verbosity: u8| same(call("getblock", &json!([self.block, verbosity])));
        match what {
            "getblock 0" => block(0),
            "getblock 1" => block(1),
            "getblock 2" => block(2),
            "getblock 3" => block(3),
            "getrawtransaction" => same(call("getrawtransaction", &json!([self.waiting]))),
            "getrawtransaction of a block" => {
                same(call("getrawtransaction", &json!([self.txid, 0, self.block])))
            }
            "batch of 1,000" => {
                let one = call("getblockcount", &json!([]));
                same(format!("[{}]", vec![one.as_str(); BATCH].join(",")))
            }
            "sendrawtransaction" => {
                let rest = self.unsent.split_off(self.unsent.len().saturating_sub(SENT));
                Requests::Each(rest.into())
            }
            method => same(call(method, &json!([]))),
        }
    }

    /// A list of measurements, one after the other.
    async fn measure(&mut self, methods: &[&str], beside: &str) -> Measured {
        let mut rows = Vec::new();
        let (mut errors, mut retries, mut worst) = (0, 0, 0.0f64);
        let most = self.most;
        for method in methods {
            for callers in CALLERS.into_iter().filter(|callers| *callers <= most) {
                let requests = self.requests(method);
                let seen = self.target.callers(callers, requests).await;
                let Outcome { rate, p99, .. } = seen;
                let plural = if callers == 1 { "caller" } else { "callers" };
                let name = format!("{method}, {callers} {plural}{beside}");
                rows.push(Row::alone(name.clone(), "calls/s", rate));
                rows.push(Row::alone(format!("{name}, p99"), "ms", p99));
                errors += seen.errors;
                retries += seen.retries;
                worst = worst.max(p99);
            }
        }
        Measured { rows, errors, retries, worst }
    }
}

/// A list of measurements, and what they come to.
struct Measured {
    rows: Vec<Row>,
    errors: u64,
    retries: u64,
    /// The worst p99 of all, in milliseconds.
    worst: f64,
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    // Callers and crowd have a socket each, and the node inherits the limit.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Callers alone.
pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let runtime = runtime()?;
    let mut stage = Stage::with_program(bench.program.clone())?;
    let mut scene = Scene::set(&mut stage, bench.callers, CALLERS.len())?;
    let methods = [
        "getblockcount",
        "getblock 0",
        "getblock 1",
        "getblock 2",
        "getblock 3",
        "getrawtransaction",
        "getrawtransaction of a block",
        "batch of 1,000",
        "sendrawtransaction",
    ];
    let mut rows = vec![Row::alone("size of the block asked for", "bytes", scene.block_bytes as f64)];
    let seen = runtime.block_on(scene.measure(&methods, ""));
    rows.extend(seen.rows);
    rows.push(Row::alone("failed calls of all these", "calls", (seen.errors + seen.retries) as f64));
    scene.node.stop()?;
    Ok(rows)
}

/// Callers beside the crowd. Only calls that are quick by themselves: what a block's worth of
/// JSON takes to make says nothing about the crowd.
pub fn disturbed_rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let runtime = runtime()?;
    let mut stage = Stage::with_program(bench.program.clone())?;
    let mut scene = Scene::set(&mut stage, bench.callers, CALLERS.len())?;
    let (seen, turned_away) = runtime.block_on(async {
        let crowd = Crowd::gather(&scene.target, WRONG, SLOW);
        // All of them have come once.
        tokio::time::sleep(LASTS).await;
        let methods = ["getblockcount", "getrawtransaction", "sendrawtransaction"];
        let seen = scene.measure(&methods, ", beside the crowd").await;
        let turned_away = crowd.turned_away();
        crowd.disperse().await;
        (seen, turned_away)
    });
    let mut rows = seen.rows;
    rows.push(Row::alone("failed calls beside the crowd", "calls", seen.errors as f64));
    rows.push(Row::alone("connections closed before their first call", "", seen.retries as f64));
    rows.push(Row::alone("wrong passwords refused meanwhile", "calls", turned_away as f64));
    rows.push(Row::against("worst p99 beside the crowd", "ms", seen.worst, P99_GOAL, "goal", false));
    scene.node.stop()?;
    Ok(rows)
}

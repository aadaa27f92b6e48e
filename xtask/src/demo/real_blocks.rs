use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Instant;

use bitcoin::{Amount, Block, ScriptBuf, TxOut};
use flate2::read::GzDecoder;
use ironpeer_consensus::{Params, ScriptCache, TxScriptCheck, script_flags};
use ironpeer_primitives::Height;
use ironpeer_testkit::NodeProcess;
use serde_json::{Value, json};

use super::{Failure, Stage, flag, testdata, text};
use crate::report::Report;

/// A file of real blocks and what Bitcoin Core says of the chain after them.
struct RealChain {
    name: &'static str,
    chain: &'static str,
    chain_dir: &'static str,
    file: &'static str,
    blocks: u64,
    tip: &'static str,
    outputs: u64,
    hash_serialized_3: &'static str,
    muhash: &'static str,
}

const CHAINS: [RealChain; 2] = [
    RealChain {
        name: "testnet3 1-4000",
        chain: "test",
        chain_dir: "testnet3",
        file: "testnet3-blocks-1-4000.dat",
        blocks: 4_000,
        tip: "00000000185b36fa6e406626a722793bea80531515e0b2a99ff05b73738901f1",
        outputs: 4_197,
        hash_serialized_3: "d47a6ca2d786f0db1f8ce4bb8d56d5b26778c8dff317f62036e56b9d7ea0e82c",
        muhash: "6a155d607dccdf17321178f9598283ca7d2b05cc7fa64f8cc4293f2533ff7124",
    },
    RealChain {
        name: "main 0-438",
        chain: "main",
        chain_dir: "",
        file: "mainnet-blocks-0-438.dat",
        blocks: 438,
        tip: "0000000025c6b644f8add734be7e666fa4afa43ca0204d623a0c0b1fd2104c7a",
        outputs: 443,
        hash_serialized_3: "3790edaecd696a0879c5b6f1d2a9bdf8af69b28706517a960c7dd58ec8bd67fa",
        muhash: "bbfed8c011991c30706e507a56d7e7f13f509a4ba66038253a179d4bcd7112a1",
    },
];

/// The modern main-network block whose scripts are verified: its height.
const MODERN_BLOCK: u32 = 866_342;

pub fn run(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    for chain in &CHAINS {
        import(stage, report, chain)?;
    }
    modern_block(report)
}

fn import(stage: &mut Stage, report: &mut Report, chain: &RealChain) -> Result<(), Failure> {
    let args = [
        format!("-chain={}", chain.chain),
        flag("loadblock", &testdata(chain.file)),
        "-assumevalid=0".into(),
        "-minimumchainwork=0x00".into(),
        "-listen=0".into(),
        "-connect=0".into(),
        "-dnsseed=0".into(),
    ];
    let start = Instant::now();
    let rpc_port = stage.port()?;
    let mut node =
        NodeProcess::start(&stage.program, &stage.datadir(chain.chain), chain.chain_dir, rpc_port, &args)?;
    node.wait_until("getmempoolinfo", &[], |info| {
        if let Some(false) = info["loaded"].as_bool() {
            return false;
        }
        true
    })?;
    let height = node.rpc.call("getblockcount", &[])?.as_u64().unwrap_or_default();
    report.fact(
        &format!("{}: blocks validated", chain.name),
        format!("{height} in {:.1} s", start.elapsed().as_secs_f64()),
        height == chain.blocks,
    );
    report.equal(&format!("{}: tip", chain.name), &text(&node.rpc.call("getbestblockhash", &[])?), chain.tip);
    let info = node.rpc.call("gettxoutsetinfo", &[json!("hash_serialized_3")])?;
    report.equal(
        &format!("{}: unspent outputs", chain.name),
        &info["txouts"].to_string(),
        &chain.outputs.to_string(),
    );
    report.equal(
        &format!("{}: hash_serialized_3", chain.name),
        &text(&info["hash_serialized_3"]),
        chain.hash_serialized_3,
    );
    let info = node.rpc.call("gettxoutsetinfo", &[json!("muhash")])?;
    report.equal(&format!("{}: muhash", chain.name), &text(&info["muhash"]), chain.muhash);
    node.stop()?;
    Ok(())
}

fn spent_outputs() -> Result<Vec<TxOut>, Failure> {
    let file = File::open(testdata("blocks-with-spent-outputs/mainnet-866342.spent.jsonl.gz"))?;
    BufReader::new(GzDecoder::new(file))
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(&line?)?;
            let sats = value["value"].as_u64().ok_or("no value")?;
            let script = ScriptBuf::from_hex(value["script"].as_str().ok_or("no script")?)?;
            Ok(TxOut { value: Amount::from_sat(sats), script_pubkey: script })
        })
        .collect()
}

fn modern_block(report: &mut Report) -> Result<(), Failure> {
    let bytes = std::fs::read(testdata("blocks-with-spent-outputs/mainnet-866342.raw"))?;
    let block: Block = bitcoin::consensus::deserialize(&bytes)?;
    let flags = script_flags(&block.block_hash(), Height(MODERN_BLOCK), &Params::main());
    let cache = ScriptCache::new(0, [0; 32]);
    let mut spent = spent_outputs()?.into_iter();
    let start = Instant::now();
    let (mut inputs, mut failed) = (0usize, 0usize);
    for tx in block.txdata.iter().skip(1) {
        let outputs: Vec<TxOut> = spent.by_ref().take(tx.input.len()).collect();
        inputs += outputs.len();
        let check = TxScriptCheck::new(Arc::new(tx.clone()), outputs, flags);
        failed += usize::from(check.verify(&cache).is_err());
    }
    report.fact(
        "main 866342: scripts verified",
        format!(
            "{} transactions, {inputs} inputs, {failed} failed, {:.2} s on one core",
            block.txdata.len(),
            start.elapsed().as_secs_f64()
        ),
        failed == 0 && spent.next().is_none() && block.txdata.len() == 4_864,
    );
    Ok(())
}

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use bitcoinkernel::prelude::*;
use bitcoinkernel::{
    Block, ChainType, ChainstateManagerBuilder, ContextBuilder, ProcessBlockResult, disable_logging,
};
use ironpeer_testkit::{Locks, NodeProcess, Synthetic, SyntheticChain, write_synthetic_chain};
use serde_json::{Value, json};

use super::measure::{Cost, cost_of};
use super::{Bench, Failure, Row};
use crate::demo::Stage;

/// Worker threads of either engine.
const THREADS: u32 = 2;

/// Coin cache of either engine, in MiB. The kernel's is fixed at this.
const CACHE_MIB: u32 = 450;

/// Seed of the replayed chains.
const SEED: u64 = 866_342;

/// Blocks from one reorganisation of depth 1 to the next.
const REORG_EVERY: u32 = 500;

/// Blocks from one invalid sibling of a block to the next.
const INVALID_EVERY: u32 = 500;

/// Raised when the generator's bytes change, so that chains kept from before are made anew.
const GENERATOR: u32 = 1;

/// Blocks that make two weeks of work and a few more: younger ones are never taken as good.
const TWO_WEEKS: u32 = 2_100;

const KERNEL: &str = "libbitcoinkernel";

pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, locks) in [("mixed chain", Locks::Mixed), ("OP_TRUE twin", Locks::OpTrue)] {
        let chain = chain(bench, name, locks, 0)?;
        let ours = our_cost(bench, &chain, &fresh(bench, &format!("{locks:?}-ours"))?, None)?;
        let kernel_dir = fresh(bench, &format!("{locks:?}-kernel"))?;
        let kernel_args = [
            "kernel-replay".to_owned(),
            chain.file.display().to_string(),
            kernel_dir.display().to_string(),
            chain.made.tip.to_string(),
        ];
        let kernel = cost_of(&std::env::current_exe()?, &kernel_args)?;
        for (what, unit, ours, kernel) in [
            ("wall", "s", ours.wall, kernel.wall),
            ("CPU", "s", ours.cpu, kernel.cpu),
            ("peak memory", "MiB", ours.peak_mib, kernel.peak_mib),
        ] {
            rows.push(Row::against(format!("replay, {name}: {what}"), unit, ours, kernel, KERNEL, false));
        }
    }
    rows.push(assumed(bench)?);
    Ok(rows)
}

fn fresh(bench: &Bench, name: &str) -> std::io::Result<PathBuf> {
    let folder = bench.path(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A chain in a file.
struct Chain {
    file: PathBuf,
    made: SyntheticChain,
}

/// The chain of these settings, kept from run to run beside the build: making it takes longer than
/// replaying it.
fn chain(bench: &Bench, name: &str, locks: Locks, empty_tail: u32) -> Result<Chain, Failure> {
    let settings = Synthetic {
        seed: SEED,
        blocks: bench.blocks,
        txs_per_block: bench.txs_per_block,
        locks,
        empty_tail,
        reorg_every: REORG_EVERY,
        invalid_every: INVALID_EVERY,
    };
    let folder = std::env::current_exe()?.with_file_name("bench-chains");
    std::fs::create_dir_all(&folder)?;
    // Everything the bytes follow from.
    let key = format!("{GENERATOR} {settings:?}");
    let key = bitcoin::hashes::sha256::Hash::hash(key.as_bytes()).to_string();
    let file = folder.join(format!("{locks:?}-{}-{}", bench.blocks, &key[..16])).with_extension("dat");
    let facts = file.with_extension("json");
    if !facts.exists() {
        eprintln!("  making the {name} ...");
        let mut out = BufWriter::new(File::create(&file)?);
        let made = write_synthetic_chain(settings, &mut out)?;
        out.flush()?;
        let made = json!({
            "height": made.height, "tip": made.tip.to_string(), "txs": made.txs, "stale": made.stale,
            "invalid": made.invalid,
        });
        // Last: a chain without its facts was not made to its end.
        std::fs::write(&facts, made.to_string())?;
    }
    let known: Value = serde_json::from_slice(&std::fs::read(&facts)?)?;
    let number = |name: &str| known[name].as_u64().ok_or("the chain's facts are damaged");
    let made = SyntheticChain {
        height: u32::try_from(number("height")?)?,
        tip: known["tip"].as_str().ok_or("the chain's facts are damaged")?.parse()?,
        txs: number("txs")?,
        stale: u32::try_from(number("stale")?)?,
        invalid: u32::try_from(number("invalid")?)?,
    };
    eprintln!(
        "  {name}: {} blocks, {} stale and {} invalid ones beside them, {} transactions, {:.1} MB",
        made.height,
        made.stale,
        made.invalid,
        made.txs,
        std::fs::metadata(&file)?.len() as f64 / 1e6
    );
    Ok(Chain { file, made })
}

/// What it cost ours to follow a chain to its tip.
fn our_cost(bench: &Bench, chain: &Chain, datadir: &Path, more: Option<String>) -> Result<Cost, Failure> {
    let mut args = ours_args(datadir, &chain.file);
    args.extend(more);
    let cost = cost_of(&bench.program, &args)?;
    let log = std::fs::read_to_string(datadir.join("regtest/debug.log"))?;
    let SyntheticChain { tip, height, .. } = chain.made;
    let tip = format!("UpdateTip: new best={tip} height={height} ");
    // A fast answer that is wrong is worth nothing.
    let last = log.lines().rfind(|line| line.contains("UpdateTip: "));
    if last.is_some_and(|line| line.contains(&tip)) {
        Ok(cost)
    } else {
        Err(format!("ours ended elsewhere than at height {height}: {last:?}").into())
    }
}

fn ours_args(datadir: &Path, chain: &Path) -> Vec<String> {
    vec![
        "-regtest".to_owned(),
        format!("-datadir={}", datadir.display()),
        format!("-loadblock={}", chain.display()),
        format!("-dbcache={CACHE_MIB}"),
        format!("-par={THREADS}"),
        "-stopafterblockimport".into(),
        "-server=0".into(),
        "-listen=0".into(),
        "-connect=0".into(),
        "-printtoconsole=0".into(),
    ]
}

/// Ours alone with scripts taken as good: the kernel cannot do that. The rule wants the headers
/// known beforehand and the blocks two weeks of work below the best of them.
fn assumed(bench: &Bench) -> Result<Row, Failure> {
    let chain = chain(bench, "mixed chain with a tail", Locks::Mixed, TWO_WEEKS)?;
    let datadir = fresh(bench, "assumed")?;
    let mut headers = Vec::new();
    for_each_block(&chain.file, |bytes| {
        headers.push(bytes.get(..80).ok_or("a block without header")?.to_vec());
        Ok(())
    })?;
    let mut stage = Stage::with_program(bench.program.clone())?;
    let args = ["-regtest".to_owned(), "-listen=0".into(), "-connect=0".into()];
    let mut node = NodeProcess::start(&bench.program, &datadir, "regtest", stage.port()?, &args)?;
    for header in &headers {
        node.rpc.call("submitheader", &[json!(hex::encode(header))])?;
    }
    node.stop()?;
    let cost = our_cost(bench, &chain, &datadir, Some(format!("-assumevalid={}", chain.made.tip)))?;
    Ok(Row::alone(
        format!("replay, mixed chain and {TWO_WEEKS} empty blocks, assumevalid: wall"),
        "s",
        cost.wall,
    ))
}

fn for_each_block(file: &Path, mut each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut frame = [0u8; 8];
    while input.read_exact(&mut frame).is_ok() {
        let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let mut bytes = vec![0; length as usize];
        input.read_exact(&mut bytes)?;
        each(&bytes)?;
    }
    Ok(())
}

/// `kernel-replay FILE FOLDER TIP`: validates the blocks of a file with libbitcoinkernel, coins and
/// block index on disk, up to the block named.
pub fn kernel_replay(args: &[String]) -> ExitCode {
    let [file, folder, tip] = args else {
        eprintln!("usage: xtask kernel-replay FILE FOLDER TIP");
        return ExitCode::from(2);
    };
    match replay_with_kernel(Path::new(file), folder, tip) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn replay_with_kernel(file: &Path, folder: &str, tip: &str) -> Result<(), Failure> {
    disable_logging();
    let context = ContextBuilder::new().chain_type(ChainType::Regtest).build()?;
    let chainman = ChainstateManagerBuilder::new(&context, folder, &format!("{folder}/blocks"))?
        .worker_threads(i32::try_from(THREADS)?)
        .build()?;
    for_each_block(file, |bytes| match chainman.process_block(&Block::new(bytes)?) {
        ProcessBlockResult::NewBlock => Ok(()),
        _ => Err("the kernel took no new block".into()),
    })?;
    let reached = BlockHash::from_byte_array(chainman.active_chain().tip().block_hash().to_bytes());
    if reached.to_string() == tip { Ok(()) } else { Err(format!("the kernel ended at {reached}").into()) }
}

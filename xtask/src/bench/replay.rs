use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitcoinkernel::{
    Block, ChainType, ChainstateManagerBuilder, ContextBuilder, ProcessBlockResult, disable_logging,
};
use ironpeer_testkit::{Locks, NodeProcess, Synthetic, write_synthetic_chain};
use serde_json::json;

use super::measure::cost_of;
use super::{Bench, Failure, Row};
use crate::demo::Stage;

/// Worker threads of either engine.
const THREADS: u32 = 2;

/// Coin cache of either engine, in MiB. The kernel's is fixed at this.
const CACHE_MIB: u32 = 450;

/// Seed of the replayed chains.
const SEED: u64 = 866_342;

/// Blocks that make two weeks of work and a few more: younger ones are never taken as good.
const TWO_WEEKS: u32 = 2_100;

const KERNEL: &str = "libbitcoinkernel";

pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, locks) in [("mixed chain", Locks::Mixed), ("OP_TRUE twin", Locks::OpTrue)] {
        let chain = write_chain(bench, name, locks, 0)?;
        let ours = cost_of(&bench.program, &ours_args(&fresh(bench, &format!("{locks:?}-ours"))?, &chain))?;
        let kernel_dir = fresh(bench, &format!("{locks:?}-kernel"))?;
        let kernel_args =
            ["kernel-replay".to_owned(), chain.display().to_string(), kernel_dir.display().to_string()];
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

fn write_chain(bench: &Bench, name: &str, locks: Locks, empty_tail: u32) -> Result<PathBuf, Failure> {
    let file = bench.path(&format!("{locks:?}-{empty_tail}.dat"));
    let settings =
        Synthetic { seed: SEED, blocks: bench.blocks, txs_per_block: bench.txs_per_block, locks, empty_tail };
    let mut out = BufWriter::new(File::create(&file)?);
    let (blocks, txs) = write_synthetic_chain(settings, &mut out)?;
    out.flush()?;
    let size = std::fs::metadata(&file)?.len();
    eprintln!("  {name}: {blocks} blocks, {txs} transactions, {:.1} MB", size as f64 / 1e6);
    Ok(file)
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
    let chain = write_chain(bench, "mixed chain with a tail", Locks::Mixed, TWO_WEEKS)?;
    let datadir = fresh(bench, "assumed")?;
    let mut headers = Vec::new();
    for_each_block(&chain, |bytes| {
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
    let last: bitcoin::block::Header =
        bitcoin::consensus::deserialize(headers.last().ok_or("the file has no block")?)?;
    let mut args = ours_args(&datadir, &chain);
    args.push(format!("-assumevalid={}", last.block_hash()));
    let cost = cost_of(&bench.program, &args)?;
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

/// `kernel-replay FILE FOLDER`: validates the blocks of a file with libbitcoinkernel, coins and
/// block index on disk.
pub fn kernel_replay(args: &[String]) -> ExitCode {
    let [file, folder] = args else {
        eprintln!("usage: xtask kernel-replay FILE FOLDER");
        return ExitCode::from(2);
    };
    match replay_with_kernel(Path::new(file), folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn replay_with_kernel(file: &Path, folder: &str) -> Result<(), Failure> {
    disable_logging();
    let context = ContextBuilder::new().chain_type(ChainType::Regtest).build()?;
    let chainman = ChainstateManagerBuilder::new(&context, folder, &format!("{folder}/blocks"))?
        .worker_threads(i32::try_from(THREADS)?)
        .build()?;
    for_each_block(file, |bytes| match chainman.process_block(&Block::new(bytes)?) {
        ProcessBlockResult::NewBlock => Ok(()),
        _ => Err("the kernel refused a block".into()),
    })
}

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use bitcoinkernel::{
    Block, ChainType, ChainstateManagerBuilder, ContextBuilder, ProcessBlockResult, disable_logging,
};
use ironpeer_testkit::{Locks, Synthetic, write_synthetic_chain};

use super::measure::cost_of;
use super::{Bench, Failure, Row};

/// Worker threads of either engine.
const THREADS: u32 = 2;

/// Coin cache of either engine, in MiB. The kernel's is fixed at this.
const CACHE_MIB: u32 = 450;

/// Seed of the replayed chains.
const SEED: u64 = 866_342;

const KERNEL: &str = "libbitcoinkernel";

pub fn rows(bench: &Bench) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (name, locks) in [("mixed chain", Locks::Mixed), ("OP_TRUE twin", Locks::OpTrue)] {
        let file = bench.path(&format!("{locks:?}.dat"));
        let settings =
            Synthetic { seed: SEED, blocks: bench.blocks, txs_per_block: bench.txs_per_block, locks };
        let mut out = BufWriter::new(File::create(&file)?);
        let (blocks, txs) = write_synthetic_chain(settings, &mut out)?;
        out.flush()?;
        let size = std::fs::metadata(&file)?.len();
        eprintln!("  {name}: {blocks} blocks, {txs} transactions, {:.1} MB", size as f64 / 1e6);

        let mut args = vec![
            "-regtest".to_owned(),
            format!("-datadir={}", bench.path(&format!("{locks:?}-ours")).display()),
            format!("-loadblock={}", file.display()),
            format!("-dbcache={CACHE_MIB}"),
            format!("-par={THREADS}"),
            "-stopafterblockimport".into(),
            "-server=0".into(),
            "-listen=0".into(),
            "-connect=0".into(),
            "-printtoconsole=0".into(),
        ];
        std::fs::create_dir_all(bench.path(&format!("{locks:?}-ours")))?;
        let ours = cost_of(&bench.program, &args)?;
        let kernel_dir = bench.path(&format!("{locks:?}-kernel"));
        std::fs::create_dir_all(&kernel_dir)?;
        let kernel_args =
            ["kernel-replay".to_owned(), file.display().to_string(), kernel_dir.display().to_string()];
        let kernel = cost_of(&std::env::current_exe()?, &kernel_args)?;
        rows.push(Row::against(format!("replay, {name}: wall"), "s", ours.wall, kernel.wall, KERNEL, false));
        rows.push(Row::against(format!("replay, {name}: CPU"), "s", ours.cpu, kernel.cpu, KERNEL, false));
        rows.push(Row::against(
            format!("replay, {name}: peak memory"),
            "MiB",
            ours.peak_mib,
            kernel.peak_mib,
            KERNEL,
            false,
        ));
        if locks == Locks::Mixed {
            let tip = last_hash(&file)?;
            let datadir = bench.path("assumed-ours");
            std::fs::create_dir_all(&datadir)?;
            args[1] = format!("-datadir={}", datadir.display());
            args.push(format!("-assumevalid={tip}"));
            let assumed = cost_of(&bench.program, &args)?;
            rows.push(Row::alone("replay, mixed chain, assumevalid: wall", "s", assumed.wall));
        }
    }
    Ok(rows)
}

/// Hash of the last block in a file of framed blocks.
fn last_hash(file: &Path) -> Result<String, Failure> {
    let mut last = None;
    for_each_block(file, |bytes| {
        last = bytes.get(..80).map(<[u8]>::to_vec);
        Ok(())
    })?;
    let header: bitcoin::block::Header =
        bitcoin::consensus::deserialize(&last.ok_or("the file has no block")?)?;
    Ok(header.block_hash().to_string())
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

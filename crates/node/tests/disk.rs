//! Disks that fail under the daemon, and files that were damaged while it was away.
//!
//! `IRONPEER_CORRUPT_ROUNDS` asks for more damage than the suite does, `IRONPEER_CORRUPT_SEED` for
//! other damage.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitcoin::Block;
use bitcoin::consensus::encode::serialize_hex;
use ironpeer_testkit::{DiskFault, DiskShim, NodeProcess, RpcError, port};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::{OFFLINE, PROGRAM, State, chain_folders, state, states_of, synthetic_blocks};

/// Blocks that each run submits.
const BLOCKS: u32 = 12;
/// Every so many steps one is made to fail, each time in another way.
const STRIDE: usize = 45;
/// Damaged starts, unless more are asked for: each file twice.
const ROUNDS: u64 = 20;
/// The files of a node, each in its turn; of a database some file in it.
const FILES: [&str; 10] = [
    "blocks/index",
    "chainstate",
    "blocks/blk00000.dat",
    "blocks/rev00000.dat",
    "blocks/journal.dat",
    "blocks/xor.dat",
    "banlist.json",
    "mempool.dat",
    "peers.dat",
    "settings.json",
];

fn options() -> Vec<String> {
    OFFLINE.iter().map(|option| (*option).to_owned()).collect()
}

fn start(datadir: &Path) -> NodeProcess {
    NodeProcess::start(Path::new(PROGRAM), datadir, "regtest", port(0), &options()).unwrap()
}

fn submit(node: &mut NodeProcess, block: &Block) -> Result<(), RpcError> {
    let verdict = node.rpc.call("submitblock", &[json!(serialize_hex(block))])?;
    assert_eq!(verdict, Value::Null);
    Ok(())
}

/// The state that the node is in, which must be one of `states`; returns which.
fn state_of(node: &mut NodeProcess, states: &[State]) -> usize {
    let found = state(node).unwrap();
    states.iter().position(|state| *state == found).unwrap_or_else(|| panic!("{found:?} was never so"))
}

#[test]
fn a_failed_write_stops_the_node_at_once_and_loses_nothing() {
    let blocks = synthetic_blocks(BLOCKS);
    let states = states_of(&blocks);
    let shim = DiskShim::build().unwrap();
    let program = Path::new(PROGRAM);
    let mut fired = 0;
    let faults = [DiskFault::Full, DiskFault::Broken, DiskFault::Torn];
    for (step, fault) in (1u64..).step_by(STRIDE).zip(faults.into_iter().cycle()) {
        let folder = tempfile::tempdir().unwrap();
        let watched = chain_folders(folder.path());
        let watched = watched.each_ref().map(PathBuf::as_path);
        let environment = shim.environment(&watched, step, fault).unwrap();
        let mut node =
            NodeProcess::spawn_in(program, folder.path(), "regtest", port(0), &options(), &environment)
                .unwrap();
        let mut acknowledged = 0;
        let told = match node.wait_for_rpc() {
            Err(_) => true,
            Ok(()) => {
                let mut work = || -> Result<(), RpcError> {
                    for block in &blocks {
                        submit(&mut node, block)?;
                        acknowledged += 1;
                        if acknowledged % 5 == 0 {
                            state(&mut node)?;
                        }
                    }
                    Ok(())
                };
                work().is_err()
            }
        };
        let context = format!("step {step}, {fault:?}, {acknowledged} blocks: {}", node.stderr());
        let status = if told { node.wait() } else { node.stop().map(|(status, _)| status) }.unwrap();
        let happened = shim.steps().unwrap() >= step;
        let errors: Vec<String> = node.stderr().lines().map(str::to_owned).collect();
        if told {
            assert_eq!(status.code(), Some(1), "{context}");
            assert_eq!(errors.len(), 1, "{context}");
            assert!(errors[0].starts_with("Error: "), "{context}");
        } else {
            // What fails behind the last flush is not missed.
            assert!(status.code() == Some(0) || status.code() == Some(1) && !errors.is_empty(), "{context}");
        }
        drop(node);
        let mut node = start(folder.path());
        let reached = state_of(&mut node, &states);
        assert!(reached >= acknowledged, "{reached} after {context}");
        for block in &blocks[reached..] {
            submit(&mut node, block).unwrap();
        }
        assert_eq!(state_of(&mut node, &states), blocks.len());
        assert!(node.stop().unwrap().0.success());
        if !happened {
            break;
        }
        fired += 1;
    }
    assert!(fired >= 10, "only {fired} steps were made to fail");
}

/// A path itself, or one of the files below it.
fn some_file(path: &Path, rng: &mut StdRng) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let mut below: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    below.sort_unstable();
    let next = below.choose(rng).unwrap().clone();
    some_file(&next, rng)
}

fn damage(file: &Path, rng: &mut StdRng) -> String {
    const SECTOR: usize = 512;
    let mut bytes = fs::read(file).unwrap();
    // The databases make their logs long ahead: zeros at the end are not worth damaging.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1).min(bytes.len()).max(1);
    let at = rng.gen_range(0..used);
    let end = (at + SECTOR).min(bytes.len());
    let how = match rng.gen_range(0..4) {
        0 if !bytes.is_empty() => {
            bytes[at] ^= 1 << rng.gen_range(0..8);
            "flipped"
        }
        1 => {
            bytes[at.min(end)..end].fill(0);
            "zeroed"
        }
        2 => {
            let sector = bytes[at.min(end)..end].to_vec();
            let to = rng.gen_range(0..used).min(bytes.len() - sector.len());
            bytes[to..to + sector.len()].copy_from_slice(&sector);
            "duplicated"
        }
        _ => {
            bytes.truncate(at);
            "truncated"
        }
    };
    fs::write(file, bytes).unwrap();
    format!("{how} at {at} of {used}")
}

#[test]
fn damaged_files_are_healed_or_named_and_give_no_wrong_coins() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let rounds = number("IRONPEER_CORRUPT_ROUNDS", ROUNDS);
    let mut rng = StdRng::seed_from_u64(number("IRONPEER_CORRUPT_SEED", 11));
    let blocks = synthetic_blocks(130);
    let states = states_of(&blocks);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut node = start(&whole);
    for block in &blocks[..128] {
        submit(&mut node, block).unwrap();
    }
    state(&mut node).unwrap();
    node.rpc.call("setban", &[json!("192.0.2.7"), json!("add")]).unwrap();
    node.rpc.call("addpeeraddress", &[json!("198.51.100.7"), json!(18444)]).unwrap();
    node.rpc.call("savemempool", &[]).unwrap();
    assert!(node.stop().unwrap().0.success());
    // Two more blocks that only the journal knows of.
    let mut node = start(&whole);
    for block in &blocks[128..] {
        submit(&mut node, block).unwrap();
    }
    node.kill().unwrap();
    let (mut healed, mut named) = (0, 0);
    for round in 0..rounds {
        let datadir = folder.path().join("damaged");
        let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(&whole).arg(&datadir).status();
        assert!(copied.unwrap().success());
        let file = some_file(&datadir.join("regtest").join(FILES[round as usize % FILES.len()]), &mut rng);
        let how = damage(&file, &mut rng);
        let mut node =
            NodeProcess::spawn(Path::new(PROGRAM), &datadir, "regtest", port(0), &options()).unwrap();
        println!("round {round}: {} {how}", file.display());
        let mut work = || -> Result<(), RpcError> {
            node.wait_for_rpc().map_err(RpcError::Transport)?;
            let found = state(&mut node)?;
            assert!(states.contains(&found), "wrong coins: {found:?}");
            for height in 0..=blocks.len() {
                match node.rpc.call("getblockhash", &[json!(height)]) {
                    Ok(hash) => match node.rpc.call("getblock", &[hash, json!(2)]) {
                        Ok(_) | Err(RpcError::Method { .. }) => {}
                        Err(error) => return Err(error),
                    },
                    Err(RpcError::Method { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let broken = work().is_err();
        let status = if broken { node.wait() } else { node.stop().map(|(status, _)| status) }.unwrap();
        let errors = node.stderr();
        let context = format!("round {round}: {} {how}: {status}: {errors}", file.display());
        assert!(!errors.contains("panicked") && !node.debug_log().contains("panicked"), "{context}");
        if broken {
            assert_eq!(status.code(), Some(1), "{context}");
            assert!(!errors.is_empty(), "{context}");
            named += 1;
        } else {
            assert!(status.success(), "{context}");
            healed += 1;
        }
        drop(node);
        fs::remove_dir_all(&datadir).unwrap();
    }
    println!("{healed} started with right coins, {named} named the damage");
    assert!(healed > 0 && named > 0, "{healed} healed, {named} named");
}

//! The main job, unattended, on real processes and real TCP.

mod crash;
mod mining;
mod network;
mod real_blocks;
mod transactions;

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ironpeer_testkit::NodeProcess;
use serde_json::{Value, json};

use crate::report::Report;

pub use network::{OP_TRUE, line_delays, mine};
pub use transactions::Wallet;

/// Why the demo could not go on.
pub type Failure = Box<dyn Error>;

/// First port tried; all lie below the ephemeral range.
const FIRST_PORT: u16 = 18_600;

/// Where the demo runs and what with.
pub struct Stage {
    program: PathBuf,
    folder: tempfile::TempDir,
    next_port: u16,
}

impl Stage {
    fn new() -> io::Result<Self> {
        // cargo puts xtask beside the daemon that was built with it.
        let program = std::env::current_exe()?.with_file_name("ironpeer");
        if !program.exists() {
            return Err(io::Error::other(format!(
                "{} is missing; start the demo with ./run demo, which builds it",
                program.display()
            )));
        }
        Self::with_program(program)
    }

    /// A stage for a given daemon.
    pub fn with_program(program: PathBuf) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ironpeer-demo").tempdir()?;
        Ok(Self { program, folder, next_port: FIRST_PORT })
    }

    /// A port nobody listens on.
    pub fn port(&mut self) -> io::Result<u16> {
        loop {
            let port = self.next_port;
            self.next_port =
                port.checked_add(1).filter(|port| *port < 32_768).ok_or(io::ErrorKind::AddrInUse)?;
            if port_is_free(port) {
                return Ok(port);
            }
        }
    }

    fn datadir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A node of the demo with its listening port.
pub struct DemoNode {
    name: String,
    process: NodeProcess,
    p2p_port: u16,
    rpc_port: u16,
    args: Vec<String>,
    chain_dir: &'static str,
    program: PathBuf,
}

impl DemoNode {
    /// Starts a node that listens for peers on loopback and connects to nobody.
    pub fn start(
        stage: &mut Stage,
        name: &str,
        chain_dir: &'static str,
        args: &[&str],
    ) -> Result<Self, Failure> {
        let (p2p_port, rpc_port) = (stage.port()?, stage.port()?);
        let mut all = vec![
            format!("-bind=127.0.0.1:{p2p_port}"),
            "-listen=1".into(),
            "-connect=0".into(),
            "-dnsseed=0".into(),
            "-fallbackfee=0.0001".into(),
        ];
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let process = NodeProcess::start(&stage.program, &stage.datadir(name), chain_dir, rpc_port, &all)?;
        let program = stage.program.clone();
        Ok(Self { name: name.into(), process, p2p_port, rpc_port, args: all, chain_dir, program })
    }

    /// Stops it as Ctrl-C does; says how long that took.
    pub fn stop(&mut self) -> Result<Duration, Failure> {
        let (status, took) = self.process.stop()?;
        if status.success() { Ok(took) } else { Err(format!("{} ended with {status}", self.name).into()) }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let datadir = self.process.datadir.clone();
        self.process =
            NodeProcess::start(&self.program, &datadir, self.chain_dir, self.rpc_port, &self.args)?;
        Ok(())
    }

    /// Where it listens for peers, on loopback.
    pub const fn p2p_port(&self) -> u16 {
        self.p2p_port
    }

    /// Where it takes JSON-RPC requests, on loopback.
    pub const fn rpc_port(&self) -> u16 {
        self.rpc_port
    }

    /// User and password of its JSON-RPC.
    pub fn cookie(&self) -> io::Result<String> {
        std::fs::read_to_string(self.process.datadir.join(self.chain_dir).join(".cookie"))
    }

    /// Memory of the process that is in use now, in KiB.
    pub fn resident_kib(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// Calls a method of its JSON-RPC.
    pub fn call(&mut self, method: &str, params: &[Value]) -> Result<Value, Failure> {
        self.process
            .rpc
            .call(method, params)
            .map_err(|error| format!("{}: {method}: {error}", self.name).into())
    }

    fn height(&mut self) -> Result<u64, Failure> {
        Ok(self.call("getblockcount", &[])?.as_u64().unwrap_or_default())
    }

    fn best_hash(&mut self) -> Result<String, Failure> {
        Ok(text(&self.call("getbestblockhash", &[])?))
    }

    fn wait_for_best(&mut self, hash: &str) -> Result<(), Failure> {
        self.process.wait_until("getbestblockhash", &[], |best| best == hash)?;
        Ok(())
    }

    fn connect_to(&mut self, other: &Self) -> Result<(), Failure> {
        self.call("addnode", &[json!(format!("127.0.0.1:{}", other.p2p_port)), json!("onetry")])?;
        Ok(())
    }

    fn wait_for_peers(&mut self, count: usize) -> Result<(), Failure> {
        self.process.wait_until("getpeerinfo", &[], |peers| {
            let ready = |peer: &Value| peer["bytesrecv_per_msg"]["pong"].as_u64().is_some();
            peers.as_array().is_some_and(|peers| peers.len() == count && peers.iter().all(ready))
        })?;
        Ok(())
    }
}

/// A reply's text, empty if it is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The time a log line begins with, in microseconds since the epoch.
fn log_micros(line: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| line.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second, micros) = (digits(11..13)?, digits(14..16)?, digits(17..19)?, digits(20..26)?);
    // Days from civil date; March is the first month, so that a leap day ends its year.
    let shifted = (year * 12 + month - 3).div_euclid(12);
    let days = 365 * shifted + shifted.div_euclid(4) - shifted.div_euclid(100)
        + shifted.div_euclid(400)
        + (153 * (month - 3).rem_euclid(12) + 2) / 5
        + day
        - 719_469;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// Whether nobody listens on the port.
pub fn port_is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A file of the real blocks kept in the project.
pub fn testdata(name: &str) -> PathBuf {
    ironpeer_testkit::testdata(name)
}

/// Its path as a flag's value.
pub fn flag(name: &str, path: &Path) -> String {
    format!("-{name}={}", path.display())
}

/// Runs everything; the exit code is 0 only if every line is as expected.
pub fn run() -> ExitCode {
    let mut report = Report::new();
    let outcome = scenes(&mut report);
    println!("\n{}", report.table());
    match outcome {
        Err(error) => {
            eprintln!("the demo stopped: {error}");
            ExitCode::FAILURE
        }
        Ok(()) if report.good() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

fn scenes(report: &mut Report) -> Result<(), Failure> {
    let mut stage = Stage::new()?;
    report.heading("1. real blocks through full validation");
    real_blocks::run(&mut stage, report)?;
    report.heading("2. five nodes in a line: one mines, the other end hears");
    let mut nodes = network::start_line(&mut stage, report)?;
    report.heading("3. signed transactions of every standard type, through the network and mined");
    let mut wallet = transactions::run(&mut nodes, report)?;
    report.heading("4. two nodes mine at once on a signet; the loser's search is cancelled");
    mining::run(&mut stage, report)?;
    report.heading("5. the network splits, both sides grow, it heals");
    network::split_and_heal(&mut nodes, &mut wallet, report)?;
    report.heading("6. a node dies in the middle of block download; then all stop");
    crash::run(&mut stage, nodes, report)
}

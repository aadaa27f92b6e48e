//! The benchmark table: ours beside another real program, both measured in this run.

mod callers;
mod doors;
mod hashing;
mod load;
mod measure;
mod peers;
mod relay;
mod replay;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

pub use measure::measure;
pub use replay::kernel_replay;

/// Why the bench could not go on.
pub type Failure = Box<dyn Error>;

/// One row: ours, and what it was measured against.
#[derive(Debug)]
pub struct Row {
    name: String,
    unit: &'static str,
    ours: f64,
    other: Option<(f64, &'static str)>,
    /// Whether more is better; decides which way the ratio is read.
    more_is_better: bool,
}

impl Row {
    fn alone(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self { name: name.into(), unit, ours, other: None, more_is_better: false }
    }

    fn against(
        name: impl Into<String>,
        unit: &'static str,
        ours: f64,
        other: f64,
        other_name: &'static str,
        more_is_better: bool,
    ) -> Self {
        Self { name: name.into(), unit, ours, other: Some((other, other_name)), more_is_better }
    }

    /// How many times better ours is; below 1 the other is better.
    fn ratio(&self) -> Option<f64> {
        let (other, _) = self.other?;
        Some(if self.more_is_better { self.ours / other } else { other / self.ours })
    }

    fn json(&self) -> Value {
        let name = format!("{} ({})", self.name, self.unit);
        json!({
            "name": name,
            "ours": self.ours,
            "other": self.other.map(|(other, _)| other),
            "other_name": self.other.map(|(_, name)| name),
            "ratio": self.ratio(),
        })
    }
}

/// What a run needs: the daemon, a folder for chains and data directories, and its size.
pub struct Bench {
    program: PathBuf,
    folder: tempfile::TempDir,
    /// Blocks of the replayed chain.
    blocks: u32,
    /// Mean transactions in each.
    txs_per_block: u32,
    /// Most callers of JSON-RPC at once.
    callers: usize,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn number(args: &[String], name: &str, default: u32) -> Result<u32, String> {
    text(args, name)?.map_or(Ok(default), |text| {
        text.parse().map_err(|_| format!("{name} wants a number, such as `{name} {default}`"))
    })
}

/// The sizes of the replayed chain that `--profile` names: blocks, and mean transactions in each.
const PROFILES: [(&str, u32, u32); 2] = [
    // About 100 MB.
    ("S", 2_000, 85),
    // About 2 GB, with millions of live outputs.
    ("M", 20_000, 170),
];

/// The value after an option.
fn text<'a>(args: &'a [String], name: &str) -> Result<Option<&'a str>, String> {
    match args.iter().position(|arg| arg == name) {
        None => Ok(None),
        Some(at) => args.get(at + 1).map(|text| Some(text.as_str())).ok_or(format!("{name} wants a value")),
    }
}

/// Measures some rows.
type Scene = fn(&Bench) -> Result<Vec<Row>, Failure>;

/// `bench [--profile S|M] [--blocks N] [--txs N] [--callers N] [--json FILE] [--only WORD]`; with a
/// word, only the scenes with it in their title.
pub fn run(args: &[String]) -> ExitCode {
    match table(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench stopped: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(args: &[String]) -> Result<(), Failure> {
    let program = std::env::current_exe()?.with_file_name("ironpeer");
    if !program.exists() {
        return Err(io::Error::other("the daemon is missing; start the bench with ./run bench").into());
    }
    let json_file = text(args, "--json")?.map(Path::new);
    let profile = text(args, "--profile")?.unwrap_or("S");
    let (_, blocks, txs) = PROFILES
        .into_iter()
        .find(|(name, ..)| *name == profile)
        .ok_or_else(|| format!("no profile `{profile}`: --profile wants S or M"))?;
    let bench = Bench {
        program,
        folder: tempfile::Builder::new().prefix("ironpeer-bench").tempdir()?,
        blocks: number(args, "--blocks", blocks)?,
        txs_per_block: number(args, "--txs", txs)?,
        callers: number(args, "--callers", 200)? as usize,
    };
    let mut rows = Vec::new();
    let scenes: [(&str, Scene); 7] = [
        ("replaying the same block files with both engines", replay::rows),
        ("hashing headers", hashing::rows),
        ("relaying blocks down a line of six nodes", relay::rows),
        ("starting, answering, admitting, stopping", doors::rows),
        ("holding idle peers", peers::rows),
        ("answering many callers", callers::rows),
        ("answering callers beside a crowd that disturbs", callers::disturbed_rows),
    ];
    let only = text(args, "--only")?.unwrap_or_default();
    for (what, scene) in scenes.into_iter().filter(|(what, _)| what.contains(only)) {
        eprintln!("{what} ...");
        match scene(&bench) {
            Ok(more) => rows.extend(more),
            Err(error) => {
                // What was measured until then took minutes; it is worth showing.
                print_table(&rows);
                return Err(error);
            }
        }
    }
    print_table(&rows);
    if let Some(file) = json_file {
        let list: Vec<Value> = rows.iter().map(Row::json).collect();
        std::fs::write(file, serde_json::to_string_pretty(&list)? + "\n")?;
    }
    Ok(())
}

fn print_table(rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("{:width$}  {:>12}  {:>12}  {:>6}  unit, measured against", "", "ours", "other", "ratio");
    for row in rows {
        let (other, against) =
            row.other.map_or((String::new(), ""), |(other, name)| (format!("{other:.2}"), name));
        let ratio = row.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}"));
        println!("{:width$}  {:>12.2}  {other:>12}  {ratio:>6}  {} {against}", row.name, row.ours, row.unit);
    }
    println!("a ratio above 1 means ours is better");
}

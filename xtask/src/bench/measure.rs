use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

use super::Failure;

/// What one process cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of user and system time over all threads.
    pub cpu: f64,
    /// Greatest resident set in MiB.
    pub peak_mib: f64,
}

/// `measure PROGRAM ARGS...`: runs it and prints its cost. A process of its own, since the
/// system adds up what all children of one parent used.
pub fn measure(args: &[String]) -> ExitCode {
    let Some((program, args)) = args.split_first() else {
        eprintln!("usage: xtask measure PROGRAM ARGS...");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let wall = start.elapsed().as_secs_f64();
    match (status, getrusage(UsageWho::RUSAGE_CHILDREN)) {
        (Ok(status), Ok(usage)) if status.success() => {
            let cpu = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
            println!("{}", json!({"wall": wall, "cpu": cpu, "peak_mib": usage.max_rss() as f64 / 1024.0}));
            ExitCode::SUCCESS
        }
        (status, _) => {
            eprintln!("{program} failed: {status:?}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command under [`measure`].
pub fn cost_of(program: &Path, args: &[String]) -> Result<Cost, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .arg("measure")
        .arg(program)
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} failed", program.display()).into());
    }
    let value: Value = serde_json::from_slice(&output.stdout)?;
    let field = |name: &str| value[name].as_f64().ok_or("measure printed no number");
    Ok(Cost { wall: field("wall")?, cpu: field("cpu")?, peak_mib: field("peak_mib")? })
}

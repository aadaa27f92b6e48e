//! The tools that need no running node: `ironpeer-tx` (as `bitcoin-tx`) and `ironpeer-util` (as
//! `bitcoin-util`).

pub mod tx;
pub mod util;

use std::io::Write;
use std::process::ExitCode;

use crate::args::options::{self, Opt};
use crate::args::{Args, help_message};
use crate::{CLIENT_NAME, full_version};

/// Reads a tool's options.
fn read_options(table: &'static [Opt], words: &[String]) -> Result<Args, String> {
    let mut args = Args::new(&[options::CHAIN, table]);
    args.parse_command_line(words)
        .map_err(|error| format!("Error parsing command line arguments: {error}"))?;
    Ok(args)
}

fn help_requested(args: &Args) -> bool {
    ["?", "h", "help", "help-debug"].iter().any(|name| args.is_set(name))
}

/// What `-version` and `-help` print.
fn about(args: &Args, tool: &str, usage: &str) -> String {
    let head = format!("{CLIENT_NAME} {tool} utility version {}\n", full_version());
    if args.bool("version") == Some(true) {
        return format!("{head}Ironpeer, a Bitcoin full node in Rust, MIT licence\n");
    }
    format!("{head}\n{usage}\n{}", help_message(args))
}

/// Whoever reads may have gone.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn failed(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

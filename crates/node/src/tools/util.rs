//! `ironpeer-util`: proof of work for a header, and a network's magic bytes.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_partial, serialize_hex};
use ironpeer_mining::{SearchEnd, Tries, Work};

use super::{about, failed, help_requested, print, read_options};
use crate::args::options::Effect::Acts;
use crate::args::options::Group::{Commands, Hidden, Options};
use crate::args::options::{Opt, opt};
use crate::config;

/// The tool's own options and commands.
pub const OPTIONS: &[Opt] = &[
    opt("help", "", Options, 0, Acts, "Print this text and exit (also -h or -?)"),
    opt("help-debug", "", Options, 0, Acts, "Print the help with the options for debugging and exit"),
    opt("h", "", Hidden, 0, Acts, ""),
    opt("?", "", Hidden, 0, Acts, ""),
    opt("version", "", Options, 0, Acts, "Print the version and exit"),
    opt("grind", "", Commands, 0, Acts, "Find the nonce of a block header given in hex"),
    opt("netmagic", "", Commands, 0, Acts, "Print the network's magic bytes"),
];

const USAGE: &str = "Does Bitcoin's chores that need no running node.\n\n\
    Usage: ironpeer-util [options] [command]\n\
    or:    ironpeer-util [options] grind <hex-block-header>\n";

/// Runs the tool with the words after its name.
#[must_use]
pub fn run(words: &[String]) -> ExitCode {
    let args = match read_options(OPTIONS, words) {
        Ok(args) => args,
        Err(error) => return failed(&error),
    };
    let commands = || OPTIONS.iter().filter(|opt| opt.group.is_commands());
    let command = args.command();
    if let Some(word) = command.first() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if !commands().any(|command| command.name == name) {
            return failed(&format!("Error parsing command line arguments: Invalid command '{word}'"));
        }
    }
    if help_requested(&args) || args.bool("version") == Some(true) {
        print(&about(&args, "bitcoin-util", USAGE));
        return ExitCode::SUCCESS;
    }
    let params = match config::params(&args) {
        Ok(params) => params,
        Err(error) => return failed(&format!("Error: {error}")),
    };
    let done = match command {
        [] => return failed("Error: must specify a command"),
        [name, rest @ ..] if name == "grind" => grind(rest),
        [_] => Ok(hex::encode(params.magic)),
        _ => Err("netmagic does not take arguments".to_owned()),
    };
    match done {
        Ok(text) => {
            print(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// The header with a nonce that satisfies its bits, found on all cores.
fn grind(words: &[String]) -> Result<String, String> {
    let [text] = words else { return Err("Must specify block header to grind".to_owned()) };
    let mut header = hex::decode(text)
        .ok()
        .and_then(|bytes| deserialize_partial::<Header>(&bytes).ok())
        .map(|(header, _)| header)
        .ok_or("Could not decode block header")?;
    let unsatisfied = || "Could not satisfy difficulty target".to_owned();
    let work = Work::new(&header).ok_or_else(unsatisfied)?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = u32::MAX / u32::try_from(cores).unwrap_or(1);
    let found = AtomicBool::new(false);
    let tries = Tries::new(u64::MAX);
    let nonce = thread::scope(|scope| {
        let searches: Vec<_> = (0..cores)
            .map(|core| {
                let (work, tries, found) = (&work, &tries, &found);
                let first = share.wrapping_mul(u32::try_from(core).unwrap_or(0));
                let last = if core + 1 == cores { u32::MAX } else { first + (share - 1) };
                scope.spawn(move || match work.search(first, last, tries, || found.load(Ordering::Relaxed)) {
                    SearchEnd::Found(nonce) => {
                        found.store(true, Ordering::Relaxed);
                        Some(nonce)
                    }
                    _ => None,
                })
            })
            .collect();
        searches.into_iter().find_map(|search| search.join().ok().flatten())
    });
    header.nonce = nonce.ok_or_else(unsatisfied)?;
    Ok(serialize_hex(&header))
}

#[cfg(test)]
#[path = "util_tests.rs"]
mod tests;

//! The daemon.

use std::process::ExitCode;

/// Keeps long-running nodes from fragmenting their heap.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    ironpeer::daemon::run(&words)
}

//! The daemon.

use std::process::ExitCode;

use tikv_jemalloc_ctl::{Access, AsName, background_thread};

/// Keeps long-running nodes from fragmenting their heap.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Milliseconds after which freed memory goes back to the system. Longer: validation, which frees
/// a block's worth many times a second, holds tens of MiB that it does not use. Shorter: more
/// calls to the system.
const DECAY_MS: isize = 200;

/// Makes freed memory go back soon, also while the node idles.
fn tune_allocator() -> tikv_jemalloc_ctl::Result<()> {
    // New arenas take the first; the main thread's, the only one so far, has the second.
    for name in [b"arenas.dirty_decay_ms\0".as_slice(), b"arena.0.dirty_decay_ms\0"] {
        name.name().write(DECAY_MS)?;
    }
    for name in [b"arenas.muzzy_decay_ms\0".as_slice(), b"arena.0.muzzy_decay_ms\0"] {
        name.name().write(0isize)?;
    }
    background_thread::write(true)
}

fn main() -> ExitCode {
    // Without it the node only takes more memory.
    let _ = tune_allocator();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    ironpeer::daemon::run(&words)
}

//! The demo and the bench, behind `./run`.

mod bench;
mod demo;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) =
        args.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
    match command {
        "demo" => demo::run(),
        "bench" => bench::run(rest),
        "measure" => bench::measure(rest),
        "kernel-replay" => bench::kernel_replay(rest),
        other => {
            eprintln!(
                "usage: xtask demo | bench [--profile S|M] [--blocks N] [--txs N] [--json FILE] (got `{other}`)"
            );
            ExitCode::from(2)
        }
    }
}

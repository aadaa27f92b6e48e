//! The daemon: from the command line to a running node, and back by a signal.

use std::process::ExitCode;
use std::sync::Arc;

use ironpeer_primitives::{Clock, LogLine, LogSink, SystemClock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{Args, ArgsError, help_message, options};
use crate::background::{self, Background, Parent};
use crate::config::Config;
use crate::log::{Log, LogConfig};
use crate::node::{Node, StartError, lock_directories};
use crate::{CLIENT_NAME, full_version, init};

/// Runs the daemon with the words after its name.
#[must_use]
pub fn run(words: &[String]) -> ExitCode {
    // What the node writes is its user's alone.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let (words, parent) = match words.split_first() {
        Some((first, words)) if first == background::MARK => (words, Some(Parent::leave())),
        _ => (words, None),
    };
    let clock = Arc::new(SystemClock::new());
    match prepare(words, &clock) {
        Ok(Some(prepared)) => match (prepared.background, parent) {
            (Background::Never, _) => serve(prepared, clock, None),
            (Background::AtOnce, Some(mut parent)) => {
                parent.tell(true);
                serve(prepared, clock, None)
            }
            (Background::WhenStarted, Some(parent)) => serve(prepared, clock, Some(parent)),
            (Background::AtOnce | Background::WhenStarted, None) => to_background(words, &prepared),
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// What the options come to.
struct Prepared {
    config: Config,
    log: Arc<Log>,
    background: Background,
}

/// Starts the process that becomes the node. What can be seen to be wrong is still told here.
fn to_background(words: &[String], prepared: &Prepared) -> ExitCode {
    // Given back at once: the new process takes them for good.
    if let Err(error) = lock_directories(&prepared.config) {
        return failed(&error);
    }
    let log_file = prepared.log.path().and_then(|path| path.file_name());
    background::start(words, &log_file.unwrap_or_default().to_string_lossy())
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("Error: {error}");
    ExitCode::FAILURE
}

/// Everything before the first file is opened. `None` if only a text was asked for.
fn prepare(words: &[String], clock: &Arc<SystemClock>) -> Result<Option<Prepared>, ArgsError> {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    args.parse_command_line(words)
        .map_err(|error| ArgsError(format!("Error parsing command line arguments: {error}")))?;
    for warning in init::init_config(&mut args)? {
        eprintln!("{warning}");
    }
    if let Some(token) = words.iter().find(|word| !word.starts_with('-')) {
        return Err(ArgsError(format!(
            "Command line contains unexpected token '{token}', see bitcoind -h for a list of options."
        )));
    }
    if ["?", "h", "help", "help-debug"].iter().any(|name| args.is_set(name))
        || args.bool("version") == Some(true)
    {
        print!("{}", about(&args));
        return Ok(None);
    }
    args.soft_set("server", "1");
    let log = Arc::new(Log::new(LogConfig::from_args(&args), Arc::clone(clock) as Arc<dyn Clock>));
    log.log(LogLine::info(format!("{CLIENT_NAME} version {}", full_version())));
    init::parameter_interaction(&mut args);
    let network = args.chain()?;
    let warnings = init::check_parameters(&mut args, network)?;
    init::set_log_categories(&args, &log)?;
    if let Some(mock) = args.int("mocktime") {
        clock.set_mock(mock);
    }
    let config = Config::from_args(&args)?;
    let notes = args.take_notes().into_iter();
    for note in notes.chain(init::where_things_are(&args, clock.unix())).chain(args.summary()) {
        log.log(note);
    }
    for warning in warnings {
        eprintln!("Warning: {warning}");
        log.log(LogLine::warning(warning));
    }
    Ok(Some(Prepared { config, log, background: Background::from_args(&args) }))
}

fn about(args: &Args) -> String {
    let mut text = format!("{CLIENT_NAME} daemon version {}\n", full_version());
    if args.bool("version") == Some(true) {
        text.push_str("Ironpeer, a Bitcoin full node in Rust, MIT licence\n");
    } else {
        text.push_str(
            "\nIronpeer validates and relays blocks and transactions and answers as bitcoind does.\n\n\
             Usage: ironpeer [options]\n\n",
        );
        text.push_str(&help_message(args));
    }
    text
}

/// The signals a daemon lives by.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The first one stops the node, the second the process: the files are those of a killed
    /// node, which the next start recovers. SIGHUP opens the log anew.
    async fn watch(mut self, log: Arc<Log>, shutdown: CancellationToken) {
        let mut asked = false;
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                _ = self.hangup.recv() => {
                    log.reopen();
                    continue;
                }
            }
            if asked {
                log.log(LogLine::warning("Second signal, exiting at once."));
                std::process::exit(1);
            }
            asked = true;
            shutdown.cancel();
        }
    }
}

/// Runs the node to its end; `parent` is told how the start went.
fn serve(prepared: Prepared, clock: Arc<SystemClock>, mut parent: Option<Parent>) -> ExitCode {
    let Prepared { config, log, .. } = prepared;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("net").build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        match Signals::install() {
            Ok(signals) => tokio::spawn(signals.watch(Arc::clone(&log), shutdown.clone())),
            Err(error) => return failed(&error),
        };
        let mut node = match Node::start(config, clock, Arc::clone(&log), shutdown).await {
            Ok(node) => node,
            Err(StartError::Stopped) => return ExitCode::SUCCESS,
            Err(error) => {
                log.log(LogLine::error(error.to_string()));
                eprintln!("{}", error.on_stderr());
                return ExitCode::FAILURE;
            }
        };
        if let Some(parent) = &mut parent {
            parent.tell(true);
        }
        let _ = node.stopping().await;
        // The last flush may fail as well.
        match node.shutdown().await {
            None => ExitCode::SUCCESS,
            Some(failure) => {
                failed(&format_args!("A fatal internal error occurred, see debug.log for details: {failure}"))
            }
        }
    })
}

#[cfg(test)]
#[path = "daemon_tests.rs"]
mod tests;

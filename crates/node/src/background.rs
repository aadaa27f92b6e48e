//! `-daemon` and `-daemonwait`: the node goes on without its terminal.
//!
//! A process with threads cannot be forked safely, so the program starts itself anew, with
//! [`MARK`] before the user's words. The new process leads a session of its own; its standard
//! input is a pipe by which it tells the waiting parent, with one byte, how its start went (Core's
//! `fork_daemon`).

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};

use crate::CLIENT_NAME;
use crate::args::Args;

/// First word of the process in the background; no option of the user's.
pub const MARK: &str = "--ironpeer-in-background";
/// What a start that went well is told with.
const STARTED: u8 = 1;
/// What a start that failed is told with.
const FAILED: u8 = 0;

/// When the process in the foreground ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// With the node: there is no other process.
    Never,
    /// Once the options are checked (`-daemon`).
    AtOnce,
    /// Once the node serves (`-daemonwait`).
    WhenStarted,
}

impl Background {
    /// Reads the two options.
    #[must_use]
    pub fn from_args(args: &Args) -> Self {
        match (args.bool("daemonwait"), args.bool("daemon")) {
            (Some(true), _) => Self::WhenStarted,
            (_, Some(true)) => Self::AtOnce,
            _ => Self::Never,
        }
    }
}

/// Starts the program in the background and waits until it says that all is well. `log_name` is
/// where the user is sent if it is not.
#[must_use]
pub fn start(words: &[String], log_name: &str) -> ExitCode {
    println!("{CLIENT_NAME} starting");
    // Whoever reads may have gone; the node starts all the same.
    let _ = std::io::stdout().flush();
    match started(words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("Error during initialization - check {log_name} for details");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("Error: fork_daemon() failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn started(words: &[String]) -> std::io::Result<bool> {
    let (mut told, tell) = std::io::pipe()?;
    // The command, and with it our copy of the pipe's other end, is gone after this statement:
    // if the child ends without a word, reading ends too.
    Command::new(std::env::current_exe()?)
        .arg(MARK)
        .args(words)
        .stdin(tell)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut token = [FAILED];
    Ok(told.read(&mut token)? == 1 && token == [STARTED])
}

/// The process that waits for this one.
#[derive(Debug)]
pub struct Parent {
    waiting: bool,
}

impl Parent {
    /// Leaves the terminal's session. Called once, first of all.
    #[must_use]
    pub fn leave() -> Self {
        // It fails only for a process that leads a group already, and so has a session.
        let _ = rustix::process::setsid();
        Self { waiting: true }
    }

    /// Lets the parent go, the first time it is called.
    pub fn tell(&mut self, started: bool) {
        if std::mem::take(&mut self.waiting) {
            let token = [if started { STARTED } else { FAILED }];
            // A parent that was killed waits no more.
            let _ = rustix::io::write(std::io::stdin().as_fd(), &token);
        }
    }
}

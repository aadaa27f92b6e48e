//! Commands of the user's run when something happens: `-startupnotify`, `-shutdownnotify`,
//! `-blocknotify`, `-alertnotify`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bitcoin::BlockHash;
use ironpeer_chain::{ChainFollower, ChainView, ChainWarnings, Followed};
use ironpeer_primitives::{ChainRead, LogLine, LogSink};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::log::Log;

/// Runs a command in the shell and logs a failure (Core's `runCommand`).
fn run(command: &str, log: &Log) {
    let status = Command::new("/bin/sh").arg("-c").arg(command).stdin(Stdio::null()).status();
    let failure = match status {
        Ok(status) if status.success() => return,
        Ok(status) => status.into_raw().to_string(),
        Err(error) => error.to_string(),
    };
    log.log(LogLine::error(format!("runCommand error: system({command}) returned {failure}")));
}

/// Runs a command beside everything else.
pub fn spawn(command: String, log: &Arc<Log>) {
    let log = Arc::clone(log);
    let started = std::thread::Builder::new().name("notify".into()).spawn(move || run(&command, &log));
    // Out of threads: a notification is what can be left out.
    drop(started);
}

/// Runs commands side by side and waits for all.
pub async fn run_all(commands: Vec<String>, log: &Arc<Log>) {
    let running: Vec<_> = commands
        .into_iter()
        .map(|command| {
            let log = Arc::clone(log);
            tokio::task::spawn_blocking(move || run(&command, &log))
        })
        .collect();
    for one in running {
        // A panic in it cost that command.
        let _ = one.await;
    }
}

/// Runs `-blocknotify` for every new tip once the initial download is over.
pub async fn follow_blocks(mut follower: ChainFollower, view: ChainView, command: String, log: Arc<Log>) {
    loop {
        let tips: Vec<BlockHash> = match follower.next().await {
            Followed::Event(event) => {
                event.connected_with_tips().filter(|(_, tip)| *tip).map(|(block, _)| block.hash).collect()
            }
            Followed::Lagged { tip, .. } => vec![tip.hash],
            Followed::Closed => return,
        };
        if !view.is_initial_block_download() {
            for tip in tips {
                spawn(command.replace("%s", &tip.to_string()), &log);
            }
        }
    }
}

/// The characters Core's `SanitizeString` leaves in a warning.
fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(c)
}

/// `-alertnotify` with a warning in single quotes for `%s`.
fn alert_command(command: &str, warning: &str) -> String {
    let safe: String = warning.chars().filter(|c| is_safe(*c)).collect();
    command.replace("%s", &format!("'{safe}'"))
}

/// Runs `-alertnotify` for every warning that arises, once for as long as it stands.
pub async fn follow_warnings(
    mut warnings: watch::Receiver<ChainWarnings>,
    command: String,
    shutdown: CancellationToken,
    log: Arc<Log>,
) {
    let mut standing = Vec::new();
    loop {
        let now = warnings.borrow_and_update().messages();
        for new in now.iter().filter(|warning| !standing.contains(*warning)) {
            spawn(alert_command(&command, new), &log);
        }
        standing = now;
        tokio::select! {
            changed = warnings.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
#[path = "notify_tests.rs"]
mod tests;

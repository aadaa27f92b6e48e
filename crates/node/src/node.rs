//! A whole node: what is built in which order, and how it stops.
//!
//! Nothing here is process-wide, so a hundred nodes run in one process. Everything that can fail
//! at start does so before anything is served.

use std::path::PathBuf;
use std::sync::Arc;

use ironpeer_api::{ApiContext, Door, Facts, LogControl, RpcServer};
use ironpeer_consensus::Params;
use ironpeer_primitives::{Clock, LogLine, LogSink};
use ironpeer_store::{DirLock, LockError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::ArgsError;
use crate::config::Config;
use crate::files::{self, OwnFile};
use crate::init;
use crate::log::Log;

/// Why a node did not start. The text is what follows `Error: `.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A wrong option, or an address or file that cannot be used.
    #[error("{0}")]
    Config(#[from] ArgsError),
    /// The node was told to stop before it was up.
    #[error("Shutdown requested. Exiting.")]
    Stopped,
}

/// Handles on a running node's rooms: cheap to clone, for embedders and the binaries.
#[derive(Clone)]
pub struct NodeContext {
    /// The network's rules.
    pub params: Arc<Params>,
    /// Time; `setmocktime` moves it.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<Log>,
    /// Cancelling it stops the node.
    pub shutdown: CancellationToken,
}

/// A running node.
pub struct Node {
    context: NodeContext,
    rpc: Option<RpcServer>,
    /// Rooms that cannot go on say so here.
    fail: watch::Sender<Option<Arc<str>>>,
    failure: watch::Receiver<Option<Arc<str>>>,
    cookie: Option<OwnFile>,
    pid: Option<OwnFile>,
    locks: Vec<DirLock>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("network", &self.context.params.network).finish_non_exhaustive()
    }
}

impl LogControl for Log {
    fn categories(&self) -> Vec<(&'static str, bool)> {
        Self::categories(self)
    }

    fn set_category(&self, name: &str, on: bool) -> bool {
        Self::set_category(self, name, on)
    }

    fn path(&self) -> PathBuf {
        Self::path(self).map(PathBuf::from).unwrap_or_default()
    }
}

impl Node {
    /// Builds a node and returns when it serves. `shutdown` ends the start as well.
    ///
    /// # Errors
    /// If a directory is in use, a file or address cannot be used, or `shutdown` came first.
    pub async fn start(
        config: Config,
        clock: Arc<dyn Clock>,
        log: Arc<Log>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let started = clock.steady();
        let locks = lock_directories(&config)?;
        let pid = match &config.pid_file {
            Some(path) => Some(files::write_pid(path).map_err(|error| {
                ArgsError(format!("Unable to create the PID file '{}': {error}", path.display()))
            })?),
            None => None,
        };
        log.start().map_err(|path| ArgsError(format!("Could not open debug log file {}", path.display())))?;

        // Callers of the RPC door are told what goes on while the rest is opened.
        let mut rpc = None;
        let mut cookie = None;
        let mut door = None;
        if let Some(rpc_config) = &config.rpc {
            let (credentials, file) = rpc_config.credentials(log.as_ref())?;
            let listeners = rpc_config.bind(log.as_ref())?;
            let new = Arc::new(Door::new(
                credentials,
                config.log_ips,
                Arc::clone(&log) as Arc<dyn LogSink>,
                Arc::clone(&clock),
            ));
            rpc = Some(RpcServer::serve(listeners, Arc::clone(&new), rpc_config.server.clone()));
            cookie = file;
            door = Some(new);
        }

        let (fail, failure) = watch::channel(None);
        let context = NodeContext {
            params: Arc::clone(&config.params),
            clock: Arc::clone(&clock),
            log: Arc::clone(&log),
            shutdown: shutdown.clone(),
        };
        if let Some(door) = &door {
            door.ready(Arc::new(ApiContext {
                clock,
                log: Arc::clone(&log) as Arc<dyn LogControl>,
                shutdown,
                facts: Facts {
                    started,
                    chain_name: config.params.chain_name.to_owned(),
                    mockable: config.params.mockable,
                    subversion: config.user_agent.clone(),
                    deprecated: config.deprecated_rpc.iter().cloned().collect(),
                    warnings: Vec::new(),
                },
            }));
        }
        status(&log, door.as_deref(), "Done loading");
        Ok(Self { context, rpc, fail, failure, cookie, pid, locks })
    }

    /// The handles.
    #[must_use]
    pub fn context(&self) -> &NodeContext {
        &self.context
    }

    /// Returns when the node was told to stop, or cannot go on: then with what is wrong.
    pub async fn stopping(&mut self) -> Option<Arc<str>> {
        tokio::select! {
            () = self.context.shutdown.cancelled() => {}
            // An error means that the writer is gone, which shows elsewhere.
            _ = self.failure.wait_for(Option::is_some) => self.context.shutdown.cancel(),
        }
        self.failure.borrow().clone()
    }

    /// Stops everything in order. The ports are free and the directories unlocked when it
    /// returns.
    pub async fn shutdown(self) {
        let Self { context, rpc, fail, failure, cookie, pid, locks } = self;
        context.shutdown.cancel();
        context.log.log(LogLine::info("Shutdown in progress..."));
        if let Some(rpc) = rpc {
            rpc.stop().await;
        }
        drop(cookie);
        drop(pid);
        context.log.log(LogLine::info("Shutdown done"));
        drop((fail, failure, locks));
    }
}

/// Says in the log, and to callers that are too early, what is going on.
fn status(log: &Log, door: Option<&Door>, text: &str) {
    log.log(LogLine::info(format!("init message: {text}")));
    if let Some(door) = door {
        door.set_warmup_status(text);
    }
}

fn lock_directories(config: &Config) -> Result<Vec<DirLock>, ArgsError> {
    let mut locks = Vec::new();
    for dir in config.directories() {
        std::fs::create_dir_all(dir).map_err(|_| unwritable(dir))?;
        locks.push(DirLock::acquire(dir).map_err(|error| match error {
            LockError::Held => ArgsError(init::lock_error(dir)),
            LockError::Unwritable(_) => unwritable(dir),
        })?);
    }
    Ok(locks)
}

fn unwritable(dir: &std::path::Path) -> ArgsError {
    ArgsError(format!("Cannot write to directory '{}'; check permissions.", dir.display()))
}

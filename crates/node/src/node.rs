//! A whole node: what is built in which order, and how it stops.
//!
//! Nothing here is process-wide, so a hundred nodes run in one process. Everything that can fail
//! at start does so before anything is served.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ironpeer_api::{ApiContext, Door, Facts, LogControl, RpcServer};
use ironpeer_chain::{Chain, ChainHandle, ChainThread, ImportError, OpenError};
use ironpeer_consensus::{Params, ScriptCache};
use ironpeer_primitives::{ChainRead, Clock, LogLine, LogSink};
use ironpeer_store::{DirLock, LockError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::ArgsError;
use crate::config::Config;
use crate::files::{self, OwnFile};
use crate::log::Log;
use crate::{init, notify};

/// How long followers may take to end after the chain has.
const TASKS_DEADLINE: Duration = Duration::from_secs(10);

/// Why a node did not start. The text is what follows `Error: `.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A wrong option, or an address or file that cannot be used.
    #[error("{0}")]
    Config(#[from] ArgsError),
    /// The chain cannot be opened.
    #[error("{}", explain_open(.0))]
    Chain(#[from] OpenError),
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The node was told to stop before it was up.
    #[error("Shutdown requested. Exiting.")]
    Stopped,
}

/// Core's question after a damaged database, as it stands in a log nobody can answer.
fn explain_open(error: &OpenError) -> String {
    match error {
        OpenError::Corrupted(text) => {
            format!("{text}.\nPlease restart with -reindex or -reindex-chainstate to recover.")
        }
        other => other.to_string(),
    }
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
    /// Blocks, headers and coins.
    pub chain: ChainHandle,
    /// Cancelling it stops the node.
    pub shutdown: CancellationToken,
}

/// A running node.
pub struct Node {
    context: NodeContext,
    rpc: Option<RpcServer>,
    chain_thread: ChainThread,
    /// Followers and imports; they end when the chain does.
    tasks: TaskTracker,
    shutdown_commands: Vec<String>,
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

        status(&log, door.as_deref(), "Loading block index\u{2026}");
        let (chain, chain_thread) = open_chain(&config, &clock, &log).await?;
        let tasks = TaskTracker::new();
        let context = NodeContext {
            params: Arc::clone(&config.params),
            clock: Arc::clone(&clock),
            log: Arc::clone(&log),
            chain: chain.clone(),
            shutdown: shutdown.clone(),
        };
        watch_stop_height(&context, &tasks);
        if let Some(command) = config.notify.block.clone() {
            let (follower, _) = chain.events();
            tasks.spawn(notify::follow_blocks(follower, chain.view(), command, Arc::clone(&log)));
        }
        let tip = chain.view().tip();
        log.log(LogLine::info(format!("nBestHeight = {}", tip.height)));
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
        tasks.spawn(import(context.clone(), config.load_blocks, config.stop_after_import));
        status(&log, door.as_deref(), "Done loading");
        for command in config.notify.startup {
            notify::spawn(command, &log);
        }
        Ok(Self {
            failure: chain.fatal(),
            context,
            rpc,
            chain_thread,
            tasks,
            shutdown_commands: config.notify.shutdown,
            cookie,
            pid,
            locks,
        })
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
        let Self { context, rpc, chain_thread, tasks, shutdown_commands, failure, cookie, pid, locks } = self;
        let log = &context.log;
        context.shutdown.cancel();
        notify::run_all(shutdown_commands, log).await;
        log.log(LogLine::info("Shutdown in progress..."));
        if let Some(rpc) = rpc {
            rpc.stop().await;
        }
        if context.chain.shutdown().await.is_err() && failure.borrow().is_none() {
            log.log(LogLine::error("The chain had stopped before it was told to"));
        }
        // The writer has answered, or is gone: joining it does not block.
        chain_thread.join();
        tasks.close();
        if tokio::time::timeout(TASKS_DEADLINE, tasks.wait()).await.is_err() {
            log.log(LogLine::warning("Some tasks did not end in time"));
        }
        drop(cookie);
        drop(pid);
        log.log(LogLine::info("Shutdown done"));
        drop(locks);
    }
}

/// Opens the chain off the runtime: recovery may read for a long time.
async fn open_chain(
    config: &Config,
    clock: &Arc<dyn Clock>,
    log: &Arc<Log>,
) -> Result<(ChainHandle, ChainThread), StartError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.pool_threads)
        .thread_name(|index| format!("scriptch.{index}"))
        .build()?;
    log.log(LogLine::info(format!(
        "Script verification uses {} additional threads",
        config.pool_threads.saturating_sub(1)
    )));
    let cache = Arc::new(ScriptCache::new(config.script_cache_bytes, rand::random()));
    let (settings, clock, sink) =
        (config.chain.clone(), Arc::clone(clock), Arc::clone(log) as Arc<dyn LogSink>);
    let opened =
        tokio::task::spawn_blocking(move || Chain::open(settings, clock, sink, Arc::new(pool), cache)).await;
    match opened {
        Ok(opened) => Ok(opened?),
        Err(panic) => Err(OpenError::Failed(format!("Error opening block database: {panic}")).into()),
    }
}

/// Stops the node at `-stopatheight`.
fn watch_stop_height(context: &NodeContext, tasks: &TaskTracker) {
    let mut reached = context.chain.stop_requested();
    let shutdown = context.shutdown.clone();
    tasks.spawn(async move {
        tokio::select! {
            Ok(_) = reached.wait_for(|reached| *reached) => shutdown.cancel(),
            () = shutdown.cancelled() => {}
        }
    });
}

/// Reads block files: the node's own after `-reindex`, then those of `-loadblock` (Core's
/// `ImportBlocks`).
async fn import(context: NodeContext, files: Vec<PathBuf>, stop_after: bool) {
    let NodeContext { log, chain, shutdown, .. } = context;
    let told = |error: &ImportError, what: &str| log.log(LogLine::warning(format!("{what}: {error}")));
    if chain.view().reindexing()
        && let Err(error) = chain.reindex().await
    {
        told(&error, "Reindexing failed");
        if shutdown.is_cancelled() {
            return;
        }
    }
    for path in files {
        if shutdown.is_cancelled() {
            return;
        }
        log.log(LogLine::info(format!("Importing blocks file {}...", path.display())));
        match chain.import(&path).await {
            Ok(_) => {}
            Err(ImportError::Io(_)) => {
                log.log(LogLine::warning(format!("Could not open blocks file {}", path.display())));
            }
            Err(error) => told(&error, &format!("Importing {} failed", path.display())),
        }
    }
    // It fails only once the chain has stopped.
    let _ = chain.activate_best_chain().await;
    if stop_after {
        log.log(LogLine::info("Stopping after block import"));
        shutdown.cancel();
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

//! A whole node: what is built in which order, and how it stops.
//!
//! Nothing here is process-wide, so a hundred nodes run in one process. Everything that can fail
//! at start does so before anything is served.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ironpeer_api::{
    ApiContext, Door, Facts, Forward, HealthServer, LogControl, Probes, RpcServer, ZmqServer, ZmqSockets,
    metrics,
};
use ironpeer_chain::{Chain, ChainHandle, ChainThread, ImportError, OpenError, Reindex};
use ironpeer_consensus::{Params, ScriptCache};
use ironpeer_index::{IndexError, IndexThreads, Indexes, MempoolScripts};
use ironpeer_mempool::{LoadOptions, MempoolHandle};
use ironpeer_mining::{MiningHandle, anyone_can_spend};
use ironpeer_peer::{Listener, PeerHandle, Rooms, SystemResolver};
use ironpeer_primitives::{ChainRead, Clock, LogLine, LogSink};
use ironpeer_store::{DirLock, Disk, LockError, OsDisk};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::ArgsError;
use crate::config::Config;
use crate::files::{self, Ballast, OwnFile};
use crate::log::Log;
use crate::scheduler::{FORWARD_BACKLOG, Scheduler};
use crate::{init, notify, rpc};

/// Health probes that may wait to be accepted.
const WEB_BACKLOG: u32 = 16;
/// How long one step of the shutdown may take before the next begins. The chain's flush has no
/// deadline but the second signal: cutting it short would only make the next start longer.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Why a node did not start. The text is what follows `Error: `.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A wrong option, or an address or file that cannot be used.
    #[error("{0}")]
    Config(#[from] ArgsError),
    /// The chain cannot be opened.
    #[error("{}", explain_open(.0))]
    Chain(#[from] OpenError),
    /// An index cannot be opened.
    #[error("{}", explain_index(.0))]
    Index(#[from] IndexError),
    /// The peers' files cannot be used.
    #[error(transparent)]
    Peers(#[from] ironpeer_peer::StartError),
    /// There is no room to work in. The text is Core's.
    #[error("Error: Disk space is low for \"{}\"", .0.display())]
    DiskFull(PathBuf),
    /// The system gives no threads.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The system gives no thread for ZMQ notifications.
    #[error("cannot start the ZMQ thread: {0}")]
    Zmq(std::io::Error),
    /// The node was told to stop before it was up.
    #[error("Shutdown requested. Exiting.")]
    Stopped,
}

impl StartError {
    /// What is written on stderr. The question after a damaged database stands there without the
    /// usual prefix, as in Core.
    #[must_use]
    pub fn on_stderr(&self) -> String {
        match self {
            Self::Chain(OpenError::Corrupted(_)) => self.to_string(),
            _ => format!("Error: {self}"),
        }
    }
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

/// An index that lacks blocks stops the start late in Core, which then says so twice.
fn explain_index(error: &IndexError) -> String {
    match error {
        IndexError::Pruned(_) => format!(
            "{error}\nError: A fatal internal error occurred, see debug.log for details: Failed to start indexes, shutting down\u{2026}"
        ),
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
    /// Transactions that wait for a block.
    pub mempool: MempoolHandle,
    /// Templates and proof of work.
    pub mining: MiningHandle,
    /// Connections.
    pub peers: PeerHandle,
    /// Lets time pass for what is done every so often, as `mockscheduler` does.
    pub scheduler: mpsc::Sender<Forward>,
    /// Where the node listens for peers, with the ports the system chose.
    pub p2p_addresses: Vec<SocketAddr>,
    /// Cancelling it stops the node.
    pub shutdown: CancellationToken,
}

/// A running node.
pub struct Node {
    context: NodeContext,
    rpc: Option<RpcServer>,
    web: Option<HealthServer>,
    zmq: Option<ZmqServer>,
    chain_thread: ChainThread,
    index_threads: IndexThreads,
    /// Searches, and the submission of what they find.
    mining_tasks: TaskTracker,
    mempool_file: Option<PathBuf>,
    fee_file: Option<PathBuf>,
    scheduler: JoinHandle<()>,
    /// Followers and imports; they end when the chain does.
    tasks: TaskTracker,
    shutdown_commands: Vec<String>,
    failure: watch::Receiver<Option<Arc<str>>>,
    cookie: Option<OwnFile>,
    pid: Option<OwnFile>,
    ballast: Option<Ballast>,
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
                let error = init::system_error(&error);
                ArgsError(format!("Unable to create the PID file '{}': {error}", path.display()))
            })?),
            None => None,
        };
        log.start().map_err(|path| ArgsError(format!("Could not open debug log file {}", path.display())))?;
        if config.params.signet_challenge.is_some() {
            let magic = hex::encode(config.params.magic);
            log.log(LogLine::info(format!("Signet derived magic (message start): {magic}")));
        }

        let listeners = config.p2p.listen()?;
        let p2p_addresses = listeners.iter().map(Listener::address).collect();
        let web_listener =
            match config.web_bind {
                Some(address) => Some(rpc::listen(address, WEB_BACKLOG).map_err(|error| {
                    ArgsError(format!("Unable to bind to {address} for -webbind: {error}"))
                })?),
                None => None,
            };
        // Callers of the RPC door are told what goes on while the rest is opened.
        let mut server = None;
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
            server = Some(RpcServer::serve(listeners, Arc::clone(&new), rpc_config.server.clone()));
            cookie = file;
            door = Some(new);
        }

        status(&log, door.as_deref(), "Loading block index\u{2026}");
        let opened = match open_chain(&config, &clock, &log).await {
            Err(StartError::Chain(OpenError::Corrupted(text)))
                if config.reindex_after_failure && config.chain.reindex == Reindex::No =>
            {
                log.log(LogLine::error(format!("{text}. Building the databases anew.")));
                let mut again = config.clone();
                again.chain.reindex = Reindex::All;
                open_chain(&again, &clock, &log).await?
            }
            opened => opened?,
        };
        let Opened { chain, chain_thread, pool, cache } = opened;
        // Before anything is pruned, which indexes may not have seen yet.
        let sink = Arc::clone(&log) as Arc<dyn LogSink>;
        let (mut indexes, index_threads) = open_indexes(&config, &chain, &clock, &sink).await?;
        if chain.view().prune_mode().is_some() {
            status(&log, door.as_deref(), "Pruning blockstore\u{2026}");
            // It fails only once the chain has stopped, which is noticed below.
            let _ = chain.prune(None).await;
        }
        check_disk_space(&config)?;
        let ballast = reserve_ballast(&config, &log)?;
        let tasks = TaskTracker::new();
        let mining_tasks = TaskTracker::new();
        let (mempool, follower) = MempoolHandle::on_chain(
            ironpeer_mempool::Parts {
                config: config.mempool,
                params: Arc::clone(&config.params),
                chain: Arc::new(chain.view()),
                clock: Arc::clone(&clock),
                log: Arc::clone(&sink),
                pool,
                checker: cache,
                disk: Arc::new(OsDisk),
            },
            &chain,
        );
        if let Some(path) = &config.fee_file {
            mempool.load_fee_estimates(path, files::age(path), config.accept_stale_fees).await;
        }
        let zmq = match ZmqSockets::open(&config.zmq, Arc::clone(&sink)).await {
            Some(sockets) => {
                let (follower, _) = chain.events();
                Some(sockets.publish(follower, mempool.subscribe(), chain.view()).map_err(StartError::Zmq)?)
            }
            None => None,
        };
        let following = mempool.clone();
        tasks.spawn(async move { following.follow(follower).await });
        if indexes.addresses.is_some() {
            let scripts = MempoolScripts::new(mempool.clone(), chain.view());
            indexes.mempool_scripts = Some(scripts.clone());
            tasks.spawn(scripts.follow());
        }
        let mining = MiningHandle::new(ironpeer_mining::Parts {
            config: config.mining,
            params: Arc::clone(&config.params),
            chain: chain.clone(),
            mempool: mempool.clone(),
            clock: Arc::clone(&clock),
            log: Arc::clone(&sink),
            shutdown: shutdown.clone(),
            tasks: mining_tasks.clone(),
        });
        let blocks_only = config.p2p.peer.sync.ignore_incoming_txs;
        status(&log, door.as_deref(), "Loading P2P addresses\u{2026}");
        let rooms = Rooms::new(chain.clone(), mempool.clone());
        let peers = PeerHandle::start(
            // From the first connection on: see `import`.
            ironpeer_peer::Config { importing: true, ..config.p2p.peer },
            ironpeer_peer::Parts {
                rooms: match &indexes.filters {
                    Some(filters) => rooms.with_filters(Arc::new(filters.clone())),
                    None => rooms,
                },
                clock: Arc::clone(&clock),
                log: sink,
                disk: Arc::new(OsDisk),
                resolver: Arc::new(SystemResolver),
                listeners,
                seed: rand::random(),
            },
        )?;
        let (forward, forwards) = mpsc::channel(FORWARD_BACKLOG);
        let scheduler =
            Scheduler { mempool: mempool.clone(), peers: peers.clone(), fee_file: config.fee_file.clone() };
        let scheduler = tokio::spawn(scheduler.run(forwards, shutdown.clone()));
        let context = NodeContext {
            params: Arc::clone(&config.params),
            clock: Arc::clone(&clock),
            log: Arc::clone(&log),
            chain: chain.clone(),
            mempool: mempool.clone(),
            mining: mining.clone(),
            peers: peers.clone(),
            scheduler: forward.clone(),
            p2p_addresses,
            shutdown: shutdown.clone(),
        };
        watch_stop_height(&context, &tasks);
        if let Some(command) = config.notify.block.clone() {
            let (follower, _) = chain.events();
            tasks.spawn(notify::follow_blocks(follower, chain.view(), command, Arc::clone(&log)));
        }
        if let Some(command) = config.notify.alert {
            let alerts =
                notify::follow_warnings(chain.warnings(), command, shutdown.clone(), Arc::clone(&log));
            tasks.spawn(alerts);
        }
        if let Some(rule) = config.auto_mine {
            let mining = mining.clone();
            tasks.spawn(async move { mining.auto_mine(rule, anyone_can_spend()).await });
        }
        let tip = chain.view().tip();
        log.log(LogLine::info(format!("nBestHeight = {}", tip.height)));
        let api = Arc::new(ApiContext {
            params: Arc::clone(&config.params),
            clock,
            log: Arc::clone(&log) as Arc<dyn LogControl>,
            chain: chain.clone(),
            mempool,
            mining,
            peers: Some(peers),
            shutdown,
            facts: Facts {
                started,
                mockable: config.params.mockable,
                subversion: config.user_agent.clone(),
                deprecated: config.deprecated_rpc.iter().cloned().collect(),
                warnings: Vec::new(),
                blocks_only,
                check_replies: config.check_replies,
                mempool_file: config.mempool_file.clone().unwrap_or_default(),
                zmq: if zmq.is_some() { config.zmq } else { Vec::new() },
            },
            scheduler: Some(forward),
            scan: Arc::default(),
            filter_scan: Arc::default(),
            indexes,
        });
        if let Some(door) = &door {
            door.ready(Arc::clone(&api));
        }
        let web =
            web_listener.map(|listener| HealthServer::serve(listener, probes(&context, api, door.clone())));
        let persisted = config.mempool_file.filter(|_| config.persist_mempool);
        let imported = Import {
            files: config.load_blocks,
            stop_after: config.stop_after_import,
            mempool_file: persisted.clone(),
        };
        tasks.spawn(import(context.clone(), imported));
        status(&log, door.as_deref(), "Done loading");
        for command in config.notify.startup {
            notify::spawn(command, &log);
        }
        Ok(Self {
            failure: chain.fatal(),
            context,
            rpc: server,
            web,
            zmq,
            chain_thread,
            index_threads,
            mining_tasks,
            mempool_file: persisted,
            fee_file: config.fee_file,
            scheduler,
            tasks,
            shutdown_commands: config.notify.shutdown,
            cookie,
            pid,
            ballast,
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
        let failure = self.failure.borrow().clone();
        if failure.is_some()
            && let Some(ballast) = self.ballast.take()
        {
            // The disk may be full: what the shutdown saves needs room.
            ballast.release();
        }
        failure
    }

    /// Stops everything in order. The ports are free and the directories unlocked when it
    /// returns. Says what went wrong with the chain, now or before.
    pub async fn shutdown(self) -> Option<Arc<str>> {
        let Self {
            context,
            rpc,
            web,
            zmq,
            chain_thread,
            index_threads,
            mining_tasks,
            mempool_file,
            fee_file,
            scheduler,
            tasks,
            shutdown_commands,
            failure,
            cookie,
            pid,
            ballast: _,
            locks,
        } = self;
        let log = &context.log;
        context.shutdown.cancel();
        notify::run_all(shutdown_commands, log).await;
        log.log(LogLine::info("Shutdown in progress..."));
        if let Some(rpc) = rpc {
            rpc.stop().await;
        }
        if let Some(web) = web {
            web.stop().await;
        }
        // A block that is found is submitted and told to the peers, whatever else happens.
        mining_tasks.close();
        in_time(log, "mining", mining_tasks.wait()).await;
        let (_, seq) = context.chain.view().tip_and_seq();
        in_time(log, "announcing", context.peers.wait_for_seq(seq)).await;
        context.peers.shutdown().await;
        if let Some(path) = mempool_file
            && context.mempool.info().loaded
        {
            // A failure is in the log, and the node stops all the same.
            let _ = context.mempool.save(&path).await;
        }
        index_threads.interrupt();
        // So that nobody else writes the file.
        in_time(log, "scheduled work", scheduler).await;
        if let Some(path) = fee_file {
            context.mempool.save_fee_estimates(&path, true).await;
        }
        if context.chain.shutdown().await.is_err() && failure.borrow().is_none() {
            log.log(LogLine::error("The chain had stopped before it was told to"));
        }
        // The writer has answered, or is gone: joining it does not block.
        chain_thread.join();
        tasks.close();
        in_time(log, "followers", tasks.wait()).await;
        in_time(log, "indexes", tokio::task::spawn_blocking(move || index_threads.join())).await;
        if let Some(zmq) = zmq {
            in_time(log, "ZMQ", zmq.stop()).await;
        }
        drop(cookie);
        drop(pid);
        log.log(LogLine::info("Shutdown done"));
        drop(locks);
        failure.borrow().clone()
    }
}

/// Healthy while nothing has failed; ready once what was to be imported is in and the initial
/// download is over.
fn probes(context: &NodeContext, api: Arc<ApiContext>, door: Option<Arc<Door>>) -> Probes {
    let failure = context.chain.fatal();
    let (view, mempool) = (context.chain.view(), context.mempool.clone());
    Probes {
        healthy: Box::new(move || failure.borrow().is_none()),
        ready: Box::new(move || mempool.info().loaded && !view.is_initial_block_download()),
        metrics: Box::new(move || metrics(&api, door.as_deref())),
    }
}

/// Waits for a step of the shutdown, but not for ever.
async fn in_time(log: &Log, step: &str, done: impl Future) {
    if tokio::time::timeout(STEP_DEADLINE, done).await.is_err() {
        log.log(LogLine::warning(format!("Shutdown: {step} did not end in time, going on")));
    }
}

/// The chain, and what it shares with the mempool.
struct Opened {
    chain: ChainHandle,
    chain_thread: ChainThread,
    pool: Arc<rayon::ThreadPool>,
    cache: Arc<ScriptCache>,
}

/// Opens the chain off the runtime: recovery may read for a long time.
async fn open_chain(config: &Config, clock: &Arc<dyn Clock>, log: &Arc<Log>) -> Result<Opened, StartError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.pool_threads)
        .thread_name(|index| format!("scriptch.{index}"))
        .build()?;
    let pool = Arc::new(pool);
    log.log(LogLine::info(format!(
        "Script verification uses {} additional threads",
        config.pool_threads.saturating_sub(1)
    )));
    let cache = Arc::new(ScriptCache::new(config.script_cache_bytes, rand::random()));
    let (settings, clock, sink) =
        (config.chain.clone(), Arc::clone(clock), Arc::clone(log) as Arc<dyn LogSink>);
    let (chain_pool, chain_cache) = (Arc::clone(&pool), Arc::clone(&cache));
    let open = move || Chain::open(settings, clock, sink, chain_pool, chain_cache);
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => {
            let (chain, chain_thread) = opened?;
            Ok(Opened { chain, chain_thread, pool, cache })
        }
        Err(panic) => Err(OpenError::Failed(format!("Error opening block database: {panic}")).into()),
    }
}

/// Opens the indexes off the runtime, each of which then follows the chain on a thread of its own.
/// What fails leaves the chain to be closed.
async fn open_indexes(
    config: &Config,
    chain: &ChainHandle,
    clock: &Arc<dyn Clock>,
    log: &Arc<dyn LogSink>,
) -> Result<(Indexes, IndexThreads), StartError> {
    let parts =
        ironpeer_index::Parts { chain: chain.clone(), clock: Arc::clone(clock), log: Arc::clone(log) };
    let settings = config.indexes.clone();
    let opened = tokio::task::spawn_blocking(move || Indexes::open(&settings, &parts)).await;
    let failed = |panic| OpenError::Failed(format!("Error opening an index: {panic}"));
    Ok(opened.map_err(failed)??)
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

/// What is read at start beside serving.
struct Import {
    files: Vec<PathBuf>,
    stop_after: bool,
    mempool_file: Option<PathBuf>,
}

/// Reads block files, the node's own after `-reindex`, then those of `-loadblock` (Core's
/// `ImportBlocks`), then the saved mempool.
async fn import(context: NodeContext, import: Import) {
    let NodeContext { log, chain, mempool, peers, shutdown, .. } = context;
    let told = |error: &ImportError, what: &str| log.log(LogLine::warning(format!("{what}: {error}")));
    if chain.view().reindexing()
        && let Err(error) = chain.reindex().await
    {
        told(&error, "Reindexing failed");
    }
    for path in import.files {
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
    peers.import_done();
    if import.stop_after {
        log.log(LogLine::info("Stopping after block import"));
        shutdown.cancel();
        return;
    }
    let (_, seq) = chain.view().tip_and_seq();
    mempool.wait_for_seq(seq).await;
    if let Some(path) = import.mempool_file {
        // What is wrong with the file is in the log.
        let _ = mempool.load(&path, LoadOptions::default()).await;
    }
    if !shutdown.is_cancelled() {
        mempool.set_loaded();
    }
}

/// Says in the log, and to callers that are too early, what is going on.
fn status(log: &Log, door: Option<&Door>, text: &str) {
    log.log(LogLine::info(format!("init message: {text}")));
    if let Some(door) = door {
        door.set_warmup_status(text);
    }
}

/// Refuses to serve on a disk that is nearly full (Core's `CheckDiskSpace`).
fn check_disk_space(config: &Config) -> Result<(), StartError> {
    for dir in config.directories() {
        let free = OsDisk.free_bytes(dir).map_err(|_| unwritable(dir))?;
        if free < ironpeer_chain::limits::MIN_FREE_DISK {
            return Err(StartError::DiskFull(dir.to_owned()));
        }
    }
    Ok(())
}

/// Sets space aside, except where networks are made and thrown away.
fn reserve_ballast(config: &Config, log: &Log) -> Result<Option<Ballast>, StartError> {
    let Some(dir) = config.directories().next().filter(|_| !config.params.mockable) else { return Ok(None) };
    match Ballast::reserve(&dir.join("ballast.dat")) {
        Ok(ballast) => Ok(Some(ballast)),
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Err(StartError::DiskFull(dir.to_owned()))
        }
        Err(error) => {
            log.log(LogLine::warning(format!("No disk space is set aside for a full disk: {error}")));
            Ok(None)
        }
    }
}

/// Takes the lock on each of the node's directories, which are made if they are not there.
///
/// # Errors
/// Core's texts for a directory in use or that cannot be written to.
pub fn lock_directories(config: &Config) -> Result<Vec<DirLock>, ArgsError> {
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

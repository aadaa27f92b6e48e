//! From options to the plain settings of each room.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network, ScriptBuf, Work};
use ironpeer_api::limits::DEFAULT_ZMQ_HIGH_WATER_MARK;
use ironpeer_api::{Topic, ZmqNotifier};
use ironpeer_chain::{Location, Prune, Reindex, SimulatedCrash};
use ironpeer_consensus::{BuriedDeployment, Params, RegtestOptions, VersionBitsParameters};
use ironpeer_mempool::FeeRate;
use ironpeer_mining::AutoMine;
use ironpeer_primitives::Height;

use crate::args::{Args, ArgsError};
use crate::init::integral;
use crate::log::LogConfig;
use crate::p2p::P2pConfig;
use crate::rpc::RpcConfig;
use crate::{USER_AGENT_NAME, datadir};

/// Least `-dbcache` in MiB (Core's `MIN_DB_CACHE`).
const MIN_CACHE_MIB: i64 = 4;
/// `-maxsigcachesize` in MiB (Core's `DEFAULT_SIGNATURE_CACHE_BYTES` and script cache together).
const DEFAULT_SCRIPT_CACHE_MIB: i64 = 32;
/// Most threads that check scripts: Core's 15 and the one that connects blocks.
const MAX_POOL_THREADS: usize = 16;
/// From this height on regtest may be pruned with `-fastprune`.
const FAST_PRUNE_AFTER_HEIGHT: Height = Height(100);
/// Longest user agent sent (Core's `MAX_SUBVERSION_LENGTH`).
const MAX_USER_AGENT: usize = 256;

/// Everything a node is started with.
#[derive(Clone)]
pub struct Config {
    /// The network's rules.
    pub params: Arc<Params>,
    /// Block index, coins and block files.
    pub chain: ironpeer_chain::Config,
    /// What can be looked up beside blocks and coins (`-txindex` and the like).
    pub indexes: ironpeer_index::Config,
    /// Threads that check scripts and decode blocks.
    pub pool_threads: usize,
    /// Bytes of the cache of verified scripts.
    pub script_cache_bytes: usize,
    /// Block files to import at start (`-loadblock`).
    pub load_blocks: Vec<PathBuf>,
    /// Stop after that (`-stopafterblockimport`).
    pub stop_after_import: bool,
    /// Build a damaged database anew without asking (`-test=reindex_after_failure_noninteractive_yes`).
    pub reindex_after_failure: bool,
    /// Commands to run at events.
    pub notify: Notify,
    /// File for the process id, or none.
    pub pid_file: Option<PathBuf>,
    /// Transactions that wait for a block.
    pub mempool: ironpeer_mempool::Config,
    /// Where the mempool is kept over a restart, or nowhere.
    pub mempool_file: Option<PathBuf>,
    /// It is written at stop and read at start, not only when asked for (`-persistmempool`).
    pub persist_mempool: bool,
    /// Where fee estimates are kept over a restart, or nowhere.
    pub fee_file: Option<PathBuf>,
    /// Fee estimates are read however old they are (`-acceptstalefeeestimates`).
    pub accept_stale_fees: bool,
    /// Block templates.
    pub mining: ironpeer_mining::Config,
    /// When to mine without being asked (`-automine`).
    pub auto_mine: Option<AutoMine>,
    /// Listening and peers.
    pub p2p: P2pConfig,
    /// The JSON-RPC door, or none.
    pub rpc: Option<RpcConfig>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served, or nowhere (`-webbind`).
    pub web_bind: Option<SocketAddr>,
    /// Whether peers' addresses are logged.
    pub log_ips: bool,
    /// User agent in `version` messages.
    pub user_agent: String,
    /// `-deprecatedrpc`.
    pub deprecated_rpc: Vec<String>,
    /// What is published over ZMQ (`-zmqpub...`).
    pub zmq: Vec<ZmqNotifier>,
    /// Every JSON-RPC reply is held against its description (`-rpcdoccheck`).
    pub check_replies: bool,
}

/// Commands of the user's to run at events.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    /// Once the node serves.
    pub startup: Vec<String>,
    /// Before it stops.
    pub shutdown: Vec<String>,
    /// When the tip changes.
    pub block: Option<String>,
    /// When there is a warning.
    pub alert: Option<String>,
}

impl Config {
    /// Reads all options.
    ///
    /// # Errors
    /// The text that follows `Error: `, in Core's words.
    pub fn from_args(args: &Args) -> Result<Self, ArgsError> {
        let params = Arc::new(params(args)?);
        let net = datadir::net(args);
        let blocks = datadir::blocks(args).unwrap_or_else(|| net.join("blocks"));
        let pid = args.path("pid").unwrap_or_else(|| PathBuf::from("bitcoind.pid"));
        let rpc = if args.bool("server") == Some(true) {
            Some(RpcConfig::from_args(args, params.rpc_port)?)
        } else {
            None
        };
        let mempool = mempool(args, &params)?;
        let user_agent = user_agent(&args.list("uacomment"))?;
        let p2p =
            P2pConfig::from_args(args, &params, &user_agent, mempool.min_relay.sat_per_kvb(), net.clone())?;
        Ok(Self {
            mempool_file: Some(net.join("mempool.dat")),
            persist_mempool: args.bool("persistmempool") != Some(false),
            fee_file: Some(net.join("fee_estimates.dat")),
            accept_stale_fees: args.bool("acceptstalefeeestimates") == Some(true),
            mempool,
            mining: mining(args)?,
            auto_mine: auto_mine(args, &params)?,
            p2p,
            pid_file: (!pid.as_os_str().is_empty()).then(|| net.join(pid)),
            indexes: indexes(args, &params, &net),
            chain: chain(args, &params, net, blocks)?,
            pool_threads: pool_threads(args.int("par").unwrap_or(0)),
            script_cache_bytes: usize::try_from(
                args.int("maxsigcachesize").unwrap_or(DEFAULT_SCRIPT_CACHE_MIB),
            )
            .unwrap_or(0)
            .saturating_mul(1 << 20),
            load_blocks: args.list("loadblock").into_iter().map(PathBuf::from).collect(),
            stop_after_import: args.bool("stopafterblockimport") == Some(true),
            reindex_after_failure: args
                .list("test")
                .iter()
                .any(|option| option == "reindex_after_failure_noninteractive_yes"),
            notify: Notify {
                startup: args.list("startupnotify"),
                shutdown: args.list("shutdownnotify"),
                block: args.text("blocknotify").filter(|command| !command.is_empty()),
                alert: args.text("alertnotify").filter(|command| !command.is_empty()),
            },
            rpc,
            web_bind: web_bind(args)?,
            log_ips: args.bool("logips") == Some(true),
            user_agent,
            deprecated_rpc: args.list("deprecatedrpc"),
            zmq: zmq(args),
            check_replies: args.bool("rpcdoccheck").unwrap_or(false),
            params,
        })
    }

    /// A node that keeps everything in memory, listens nowhere, serves no RPC and connects to
    /// nobody unless told; for embedders and tests.
    #[must_use]
    pub fn in_memory(params: Arc<Params>) -> Self {
        let mut sync = ironpeer_sync::Config::new(Arc::clone(&params));
        let user_agent = format!("/{USER_AGENT_NAME}:{}/", env!("CARGO_PKG_VERSION"));
        sync.user_agent.clone_from(&user_agent);
        sync.automatic_outbound = false;
        let mut peer = ironpeer_peer::Config::new(sync);
        peer.connect = Some(Vec::new());
        peer.dns_seed = false;
        Self {
            chain: ironpeer_chain::Config::in_memory(Arc::clone(&params)),
            indexes: ironpeer_index::Config::none(),
            pool_threads: 1,
            script_cache_bytes: 1 << 20,
            load_blocks: Vec::new(),
            stop_after_import: false,
            reindex_after_failure: false,
            notify: Notify::default(),
            pid_file: None,
            mempool: ironpeer_mempool::Config::default(),
            mempool_file: None,
            persist_mempool: true,
            fee_file: None,
            accept_stale_fees: false,
            mining: ironpeer_mining::Config::default(),
            auto_mine: None,
            p2p: P2pConfig { binds: Vec::new(), peer },
            rpc: None,
            web_bind: None,
            log_ips: false,
            user_agent,
            deprecated_rpc: Vec::new(),
            zmq: Vec::new(),
            check_replies: false,
            params,
        }
    }

    /// The directories a node has for itself.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        let dirs = match &self.chain.location {
            Location::Disk { data_dir, blocks_dir } => vec![data_dir.as_path(), blocks_dir.as_path()],
            _ => Vec::new(),
        };
        dirs.into_iter()
    }
}

impl LogConfig {
    /// Reads the log's options.
    #[must_use]
    pub fn from_args(args: &Args) -> Self {
        let on = |name: &str, default: bool| args.bool(name).unwrap_or(default);
        let file = args.path("debuglogfile").unwrap_or_else(|| PathBuf::from("debug.log"));
        let debugging = !args.list("debug").is_empty();
        Self {
            file: (!args.is_negated("debuglogfile")).then(|| datadir::net(args).join(file)),
            console: on("printtoconsole", !on("daemon", false)),
            timestamps: on("logtimestamps", true),
            micros: on("logtimemicros", false),
            thread_names: on("logthreadnames", false),
            level_always: on("loglevelalways", false),
            rate_limit: on("logratelimit", true),
            shrink: on("shrinkdebugfile", !debugging),
        }
    }
}

/// `/Ironpeer:0.1.0(comment; comment)/` (BIP14).
fn user_agent(comments: &[String]) -> Result<String, ArgsError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || " .,;-_?@".contains(c);
    if let Some(comment) = comments.iter().find(|comment| !comment.chars().all(safe)) {
        return fail(format!("User Agent comment ({comment}) contains unsafe characters."));
    }
    let comments = if comments.is_empty() { String::new() } else { format!("({})", comments.join("; ")) };
    let agent = format!("/{USER_AGENT_NAME}:{}{comments}/", env!("CARGO_PKG_VERSION"));
    if agent.len() > MAX_USER_AGENT {
        return fail(format!(
            "Total length of network version string ({}) exceeds maximum length ({MAX_USER_AGENT}). Reduce the number or size of uacomments.",
            agent.len()
        ));
    }
    Ok(agent)
}

fn fail<T>(text: impl Into<String>) -> Result<T, ArgsError> {
    Err(ArgsError(text.into()))
}

/// The chain's settings.
fn chain(
    args: &Args,
    params: &Arc<Params>,
    data_dir: PathBuf,
    blocks_dir: PathBuf,
) -> Result<ironpeer_chain::Config, ArgsError> {
    let mut chain = ironpeer_chain::Config::on_disk(Arc::clone(params), &data_dir);
    chain.location = Location::Disk { data_dir, blocks_dir };
    if let Some(mib) = args.int("dbcache") {
        chain.cache_bytes = usize::try_from(mib.max(MIN_CACHE_MIB)).unwrap_or(0).saturating_mul(1 << 20);
    }
    if let Some(bytes) = args.int("dbbatchsize").and_then(|bytes| usize::try_from(bytes).ok()) {
        chain.batch_bytes = bytes.max(1);
    }
    if let Some(text) = args.text("minimumchainwork") {
        let bytes = user_hex(&text).ok_or_else(|| {
            ArgsError(format!("Invalid minimum work specified ({text}), must be up to 64 hex digits"))
        })?;
        chain.minimum_chainwork = Work::from_be_bytes(bytes);
    }
    if let Some(text) = args.text("assumevalid") {
        let mut bytes = user_hex(&text).ok_or_else(|| {
            ArgsError(format!(
                "Invalid assumevalid block hash specified ({text}), must be up to 64 hex digits (or 0 to disable)"
            ))
        })?;
        bytes.reverse();
        chain.assume_valid = Some(BlockHash::from_byte_array(bytes)).filter(|_| bytes != [0; 32]);
    }
    if let Some(seconds) = args.int("maxtipage") {
        chain.max_tip_age = seconds;
    }
    chain.reindex = match (args.bool("reindex"), args.bool("reindex-chainstate")) {
        (Some(true), _) => Reindex::All,
        (_, Some(true)) => Reindex::Coins,
        _ => Reindex::No,
    };
    if let Some(blocks) = args.int("checkblocks") {
        chain.check_blocks = u32::try_from(blocks).unwrap_or(0);
    }
    chain.check_required = args.is_set("checkblocks") || args.is_set("checklevel");
    if let Some(level) = args.int("checklevel") {
        chain.check_level = u8::try_from(level.clamp(0, 4)).unwrap_or(0);
    }
    chain.stop_at_height = args
        .int("stopatheight")
        .and_then(|height| u32::try_from(height).ok())
        .filter(|height| *height != 0)
        .map(Height);
    chain.seed = rand::random();
    chain.prune = prune(args)?;
    chain.simulated_crash = args
        .int("dbcrashratio")
        .and_then(|ratio| u64::try_from(ratio).ok())
        .filter(|ratio| *ratio > 0)
        .map(|one_in| SimulatedCrash { one_in, crash: Arc::new(|| std::process::exit(0)) });
    chain.small_block_files = args.bool("fastprune") == Some(true);
    chain.xor_key = args.bool("blocksxor").unwrap_or(true).then(rand::random);
    Ok(chain)
}

/// Core's `-...index` options, and ours.
fn indexes(args: &Args, params: &Params, net: &Path) -> ironpeer_index::Config {
    ironpeer_index::Config {
        location: ironpeer_index::Location::Disk(net.join("indexes")),
        small: params.mockable,
        rebuild: args.bool("reindex") == Some(true),
        tx: args.bool("txindex") == Some(true),
        // What else it may be was refused before.
        filters: args.text("blockfilterindex").is_some_and(|kind| kind != "0"),
        coin_stats: args.bool("coinstatsindex") == Some(true),
        spenders: args.bool("txospenderindex") == Some(true),
        addresses: args.bool("addressindex") == Some(true),
        fail_hook: None,
    }
}

/// `-prune` (Core's `node/blockmanager_args.cpp`).
fn prune(args: &Args) -> Result<Option<Prune>, ArgsError> {
    let least = ironpeer_chain::limits::MIN_PRUNE_TARGET;
    match args.int("prune").unwrap_or(0) {
        0 => Ok(None),
        1 => Ok(Some(Prune::Manual)),
        mib => {
            let mib = u64::try_from(mib)
                .map_err(|_| ArgsError("Prune cannot be configured with a negative value.".into()))?;
            let target = mib.saturating_mul(1 << 20);
            if target < least {
                return fail(format!(
                    "Prune configured below the minimum of {} MiB.  Please use a higher number.",
                    least >> 20
                ));
            }
            Ok(Some(Prune::Automatic(target)))
        }
    }
}

/// An amount of coins as Core's `ParseMoney` reads it, in satoshi.
#[must_use]
pub fn parse_money(text: &str) -> Option<u64> {
    let text = text.trim_matches([' ', '\x0c', '\n', '\r', '\t', '\x0b']);
    let (coins, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || !digits(coins) || !digits(part) || part.len() > 8 || coins.len() > 10 {
        return None;
    }
    let satoshi = format!("0{coins}{part:0<8}").parse().ok()?;
    (satoshi <= bitcoin::Amount::MAX_MONEY.to_sat()).then_some(satoshi)
}

/// An option that is an amount.
fn money(args: &Args, name: &str) -> Result<Option<u64>, ArgsError> {
    let Some(text) = args.text(name) else { return Ok(None) };
    match parse_money(&text) {
        Some(satoshi) => Ok(Some(satoshi)),
        None => fail(format!("Invalid amount for -{name}=<amount>: '{text}'")),
    }
}

/// The mempool's settings (Core's `node/mempool_args.cpp`).
fn mempool(args: &Args, params: &Params) -> Result<ironpeer_mempool::Config, ArgsError> {
    let mut mempool = ironpeer_mempool::Config::default();
    let count = |name: &str| args.int(name).map(|value| u64::try_from(value).unwrap_or(0));
    let feerate = |name: &str| Ok::<_, ArgsError>(money(args, name)?.map(FeeRate::from_sat_per_kvb));
    if let Some(megabytes) = args.int("maxmempool") {
        // Less than nothing is too little, while nothing is not.
        mempool.max_bytes = usize::try_from(megabytes).map_or(1, |mb| mb.saturating_mul(1_000_000));
    }
    if let Some(hours) = args.int("mempoolexpiry") {
        mempool.expiry_seconds = hours.saturating_mul(3_600);
    }
    if let Some(rate) = feerate("incrementalrelayfee")? {
        mempool.incremental = rate;
        // Setting this one alone raises the other with it.
        mempool.min_relay = mempool.min_relay.max(rate);
    }
    if let Some(rate) = feerate("minrelaytxfee")? {
        mempool.min_relay = rate;
    }
    if let Some(rate) = feerate("dustrelayfee")? {
        mempool.dust_relay = rate;
    }
    if args.bool("datacarrier") == Some(false) {
        mempool.max_datacarrier_bytes = None;
    } else if let Some(bytes) = count("datacarriersize") {
        mempool.max_datacarrier_bytes = Some(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
    if let Some(permit) = args.bool("permitbaremultisig") {
        mempool.permit_bare_multisig = permit;
    }
    mempool.require_standard = args.bool("acceptnonstdtxn") != Some(true);
    if !mempool.require_standard && params.network == Network::Bitcoin {
        return fail(format!("acceptnonstdtxn is not currently supported for {} chain", params.chain_name));
    }
    if let Some(bytes) = count("bytespersigop") {
        mempool.bytes_per_sigop = bytes;
    }
    if let Some(transactions) = count("limitclustercount") {
        let most = ironpeer_mempool::limits::MAX_CLUSTER_COUNT;
        mempool.cluster_count = usize::try_from(transactions).unwrap_or(usize::MAX);
        if mempool.cluster_count > most {
            return fail(format!("limitclustercount must be less than or equal to {most}"));
        }
    }
    if let Some(kilobytes) = count("limitclustersize") {
        mempool.cluster_vbytes = kilobytes.saturating_mul(1_000);
    }
    mempool.estimate_fees = args.bool("blocksonly") != Some(true);
    mempool.persist_v1 = args.bool("persistmempoolv1") == Some(true);
    mempool.check().map_err(|error| ArgsError(error.to_string()))?;
    Ok(mempool)
}

/// The miner's settings (Core's `node/mining_args.cpp`).
fn mining(args: &Args) -> Result<ironpeer_mining::Config, ArgsError> {
    let mut mining = ironpeer_mining::Config::default();
    if let Some(rate) = money(args, "blockmintxfee")? {
        mining.min_fee_per_kvb = rate;
    }
    let weight = |name: &str| args.int(name).map(|weight| u64::try_from(weight).unwrap_or(0));
    if let Some(weight) = weight("blockreservedweight") {
        mining.reserved_weight = weight;
    }
    if let Some(weight) = weight("blockmaxweight") {
        mining.max_weight = weight;
    }
    mining.block_version = args.int("blockversion").and_then(|version| i32::try_from(version).ok());
    mining.print_priority = args.bool("printpriority") == Some(true);
    mining.check().map_err(ArgsError)?;
    Ok(mining)
}

/// The ZMQ notifiers, by topic in Core's order.
fn zmq(args: &Args) -> Vec<ZmqNotifier> {
    let of = |topic: Topic| {
        let option = format!("zmqpub{}", topic.name());
        let mark = args.int(&format!("{option}hwm")).and_then(|mark| usize::try_from(mark).ok());
        let high_water_mark = mark.unwrap_or(DEFAULT_ZMQ_HIGH_WATER_MARK);
        args.list(&option).into_iter().map(move |address| ZmqNotifier {
            topic,
            // libzmq's name for a Unix socket.
            address: match address.strip_prefix("unix:") {
                Some(path) => format!("ipc://{path}"),
                None => address,
            },
            high_water_mark,
        })
    };
    Topic::ALL.into_iter().flat_map(of).collect()
}

fn web_bind(args: &Args) -> Result<Option<SocketAddr>, ArgsError> {
    let Some(text) = args.text("webbind").filter(|text| text != "0") else { return Ok(None) };
    match text.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => fail(format!("Invalid address for -webbind=<addr>:<port>: '{text}'")),
    }
}

fn auto_mine(args: &Args, params: &Params) -> Result<Option<AutoMine>, ArgsError> {
    let Some(text) = args.text("automine").filter(|text| text != "0") else { return Ok(None) };
    if !matches!(params.network, Network::Regtest | Network::Signet) {
        return fail("-automine can only be used with regtest and signet");
    }
    text.parse().map(Some).map_err(|error: ironpeer_mining::AutoMineError| ArgsError(error.to_string()))
}

/// `-par`: 0 is one thread a core, a negative number leaves that many cores free.
fn pool_threads(par: i64) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if par > 0 { par } else { par.saturating_add_unsigned(cores as u64) };
    usize::try_from(threads).unwrap_or(1).clamp(1, MAX_POOL_THREADS)
}

/// Up to 64 hex digits, the number's last digit last, perhaps after `0x` (Core's
/// `uint256::FromUserHex`). Big-endian.
fn user_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() > 64 {
        return None;
    }
    hex::decode(format!("{digits:0>64}")).ok()?.try_into().ok()
}

/// How deployments differ from the network's own, as judged on every network: on main the option
/// itself is refused later.
type Deployments = (Vec<(BuriedDeployment, Height)>, Option<VersionBitsParameters>);

/// The chosen network's rules, with what `-signetchallenge`, `-testactivationheight`,
/// `-vbparams` and `-test=bip94` change about them.
///
/// # Errors
/// Core's texts for values that cannot be read.
pub fn params(args: &Args) -> Result<Params, ArgsError> {
    let network = args.chain()?;
    let (activation_heights, test_dummy) = deployments(args)?;
    Ok(match network {
        Network::Signet => {
            let mut params = Params::signet(signet_challenge(args)?);
            if args.is_set("signetseednode") {
                params.dns_seeds = args.list("signetseednode");
            }
            params.with_deployments(activation_heights, test_dummy)
        }
        Network::Regtest => {
            let enforce_bip94 = args.list("test").iter().any(|option| option == "bip94");
            let mut params =
                Params::regtest(RegtestOptions { activation_heights, test_dummy, enforce_bip94 });
            if args.bool("fastprune") == Some(true) {
                params.prune_after_height = FAST_PRUNE_AFTER_HEIGHT;
            }
            params
        }
        Network::Bitcoin => Params::main(),
        network => Params::for_network(network).with_deployments(activation_heights, test_dummy),
    })
}

fn signet_challenge(args: &Args) -> Result<Option<ScriptBuf>, ArgsError> {
    match args.list("signetchallenge").as_slice() {
        [] => Ok(None),
        [challenge] => match hex::decode(challenge) {
            Ok(script) => Ok(Some(ScriptBuf::from_bytes(script))),
            Err(_) => fail(format!("-signetchallenge must be hex, not '{challenge}'.")),
        },
        _ => fail("-signetchallenge cannot be multiple values."),
    }
}

fn deployments(args: &Args) -> Result<Deployments, ArgsError> {
    let mut activation_heights = Vec::new();
    for value in args.list("testactivationheight") {
        let Some((name, height)) = value.split_once('@') else {
            return fail(format!("Invalid format ({value}) for -testactivationheight=name@height."));
        };
        let Some(height) = integral::<u32>(height).filter(|height| *height < i32::MAX.unsigned_abs()) else {
            return fail(format!("Invalid height value ({value}) for -testactivationheight=name@height."));
        };
        let Some(deployment) = BuriedDeployment::from_option(name) else {
            return fail(format!("Invalid name ({value}) for -testactivationheight=name@height."));
        };
        activation_heights.push((deployment, Height(height)));
    }
    let mut test_dummy = None;
    for value in args.list("vbparams") {
        let fields: Vec<&str> = value.split(':').collect();
        let (name, start, end, least) = match fields.as_slice() {
            [name, start, end] => (*name, *start, *end, "0"),
            [name, start, end, least] => (*name, *start, *end, *least),
            _ => {
                return fail(
                    "Version bits parameters malformed, expecting deployment:start:end[:min_activation_height]",
                );
            }
        };
        let number = |what: &str, text: &str| {
            integral::<i64>(text).ok_or_else(|| ArgsError(format!("Invalid {what} ({text})")))
        };
        let start_time = number("nStartTime", start)?;
        let timeout = number("nTimeout", end)?;
        let least = number("min_activation_height", least)?;
        if name != "testdummy" {
            return fail(format!("Invalid deployment ({name})"));
        }
        let Ok(least) = u32::try_from(least) else {
            return fail(format!("Invalid min_activation_height ({least})"));
        };
        test_dummy =
            Some(VersionBitsParameters { start_time, timeout, min_activation_height: Height(least) });
    }
    Ok((activation_heights, test_dummy))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

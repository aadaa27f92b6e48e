//! What happens between the command line and the first file that is opened: settings are read,
//! options act on each other, and every wrong value is named (Core's `common/init.cpp` and the
//! first steps of `init.cpp`).

use std::path::Path;

use bitcoin::Network;
use ironpeer_peer::is_bad_port;
use ironpeer_primitives::{LogLine, LogSink};
use rustix::process::{Resource, Rlimit};

use crate::args::{Args, ArgsError, CONF_FILENAME, network_name};
use crate::cli::split_host_port;
use crate::{CLIENT_NAME, config, datadir};

/// Connections made and taken by default (Core's `DEFAULT_MAX_PEER_CONNECTIONS`).
pub const DEFAULT_MAX_CONNECTIONS: i64 = 125;
/// Memory for the mempool in MB when no transactions are taken from peers.
const BLOCKSONLY_MAX_MEMPOOL: &str = "5";
/// File descriptors kept for everything but connections (Core's `MIN_CORE_FDS`).
const RESERVED_DESCRIPTORS: u64 = 151;
/// Connections of `-addnode`, which `-maxconnections` does not count (Core's
/// `MAX_ADDNODE_CONNECTIONS`).
const MAX_ADDED_NODES: u64 = 8;
/// The one type of compact block filter (BIP158).
const BASIC_FILTER: &str = "basic";
/// Satoshi in a coin.
const COIN: u64 = 100_000_000;
/// Memory left to everything but the coin cache before Core warns about its size.
const MEMORY_FOR_THE_REST: u64 = 2 << 30;
/// What `-test` knows.
const TEST_OPTIONS: [&str; 3] = ["addrman", "reindex_after_failure_noninteractive_yes", "bip94"];

fn fail<T>(text: impl Into<String>) -> Result<T, ArgsError> {
    Err(ArgsError(text.into()))
}

/// What the system says about an error, without the number that Rust's text ends with.
fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(&*text, |(text, _)| text).to_owned()
}

/// The same with the number where Core puts it (`SysErrorString`).
#[must_use]
pub fn system_error(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{} ({number})", system_text(error)),
        None => error.to_string(),
    }
}

/// Reads every configuration file, makes the data directories and checks that the network's
/// parameters can be built. Returns warnings for standard error.
///
/// # Errors
/// The text that follows `Error: `.
pub fn init_config(args: &mut Args) -> Result<Vec<String>, ArgsError> {
    if !datadir::option_is_directory(args) {
        return fail(format!(
            "Specified data directory \"{}\" does not exist.",
            args.text("datadir").unwrap_or_default()
        ));
    }
    let original_base = datadir::base(args);
    let warnings = args.read_config_files().map_err(|error| match args.chain_conflict() {
        // The files are not to blame for two networks at once.
        Some(conflict) if conflict == error => conflict,
        _ => ArgsError(format!("Error reading configuration file: {error}")),
    })?;
    let network = args.chain()?;
    args.select_network(network);
    config::params(args)?;

    let made = |dir: &Path| {
        datadir::create_with_wallets(dir).map_err(|error| {
            let error = system_text(&error);
            ArgsError(format!("filesystem error: cannot create directories: {error} [{}]", dir.display()))
        })
    };
    let base = datadir::base(args);
    made(&base)?;
    made(&datadir::net(args))?;
    ignored_config(args, &base, &original_base)?;

    let unusable =
        |what: &str, error: &ArgsError| ArgsError(format!("Settings file could not be {what}:\n- {error}"));
    args.read_settings_file().map_err(|error| unusable("read", &error))?;
    args.write_settings_file().map_err(|error| unusable("written", &error))?;
    Ok(warnings)
}

/// A `bitcoin.conf` in the data directory that was not read is an error, lest its owner believe
/// it counts.
fn ignored_config(args: &mut Args, base: &Path, original_base: &Path) -> Result<(), ArgsError> {
    let lying_there = base.join(CONF_FILENAME);
    if !lying_there.exists() {
        return Ok(());
    }
    let used = args.config_path().to_owned();
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    if used.as_os_str().is_empty() {
        args.note(LogLine::info(format!(
            "Data directory {} contains a \"{CONF_FILENAME}\" file which is explicitly ignored using -noconf.",
            quoted(base)
        )));
        return Ok(());
    }
    let same = match (used.canonicalize(), lying_there.canonicalize()) {
        (Ok(used), Ok(lying_there)) => used == lying_there,
        _ => false,
    };
    if same {
        return Ok(());
    }
    let source = match args.text("conf").filter(|conf| !conf.is_empty()) {
        Some(conf) => format!("command line argument \"-conf={conf}\""),
        None => format!("data directory {}", quoted(original_base)),
    };
    let mut text = format!(
        "Data directory {dir} contains a \"{CONF_FILENAME}\" file which is ignored, because a different configuration file \
         {used} from {source} is being used instead. Possible ways to address this would be to:\n\
         - Delete or rename the \"{CONF_FILENAME}\" file in data directory {dir}.\n\
         - Change datadir= or conf= options to specify one configuration file, not two, and use \
         includeconf= to include any other configuration files.",
        dir = quoted(base),
        used = quoted(&used),
    );
    if args.bool("allowignoredconf") == Some(true) {
        args.note(LogLine::warning(text));
        return Ok(());
    }
    text.push_str("\n- Set allowignoredconf=1 option to treat this condition as a warning, not an error.");
    Err(ArgsError(text))
}

/// Options that imply others, with a line for the log each (Core's `InitParameterInteraction`).
pub fn parameter_interaction(args: &mut Args) {
    let soft = |args: &mut Args, cause: &str, name: &str, value: &str| {
        if args.soft_set(name, value) {
            args.note(LogLine::info(format!("parameter interaction: {cause} -> setting -{name}={value}")));
        }
    };
    if !args.list("bind").is_empty() {
        soft(args, "-bind set", "listen", "1");
    }
    if !args.list("whitebind").is_empty() {
        soft(args, "-whitebind set", "listen", "1");
    }
    let no_connections = args.int("maxconnections").unwrap_or(DEFAULT_MAX_CONNECTIONS) <= 0;
    if !args.list("connect").is_empty() || args.is_negated("connect") || no_connections {
        soft(args, "-connect or -maxconnections=0 set", "dnsseed", "0");
        soft(args, "-connect or -maxconnections=0 set", "listen", "0");
    }
    if args.text("proxy").is_some_and(|proxy| !proxy.is_empty() && proxy != "0") {
        soft(args, "-proxy set", "listen", "0");
        soft(args, "-proxy set", "natpmp", "0");
        soft(args, "-proxy set", "discover", "0");
    }
    if args.bool("listen") == Some(false) {
        for name in ["natpmp", "discover", "listenonion", "i2pacceptincoming"] {
            soft(args, "-listen=0", name, "0");
        }
    }
    if !args.list("externalip").is_empty() {
        soft(args, "-externalip set", "discover", "0");
    }
    if args.bool("blocksonly") == Some(true) {
        soft(args, "-blocksonly=1", "whitelistrelay", "0");
        soft(args, "-blocksonly=1", "maxmempool", BLOCKSONLY_MAX_MEMPOOL);
    }
    if args.bool("whitelistforcerelay") == Some(true) {
        soft(args, "-whitelistforcerelay=1", "whitelistrelay", "1");
    }
    let only = args.list("onlynet");
    let clear = |name: &String| matches!(name.to_ascii_lowercase().as_str(), "ipv4" | "ipv6");
    if !only.is_empty() && !only.iter().any(clear) {
        soft(args, "-onlynet excludes IPv4 and IPv6", "dnsseed", "0");
    }
}

/// Checks what can be checked without opening anything (Core's `AppInitParameterInteraction`).
/// Returns warnings for log and standard error.
///
/// # Errors
/// The text that follows `Error: `.
pub fn check_parameters(args: &mut Args, network: Network) -> Result<Vec<String>, ArgsError> {
    let mut warnings = Vec::new();
    if args.is_set("checkpoints") {
        warnings.push(
            "Option '-checkpoints' is set but checkpoints were removed. This option has no effect."
                .to_owned(),
        );
    }
    for (name, what) in [("limitancestorsize", "ancestor"), ("limitdescendantsize", "descendant")] {
        if args.is_set(name) {
            warnings.push(format!(
                "Option '-{name}' is given but {what} size limits have been replaced with cluster size limits (see -limitclustersize). This option has no effect."
            ));
        }
    }
    let chain = network_name(network);
    let unsuitable: String = args
        .unsuitable_section_only()
        .iter()
        .map(|name| {
            format!("Config setting for -{name} only applied on {chain} network when in [{chain}] section.\n")
        })
        .collect();
    if !unsuitable.is_empty() {
        return fail(unsuitable);
    }
    if network == Network::Testnet {
        args.note(LogLine::info(
            "Warning: Support for testnet3 is deprecated and will be removed in an upcoming release. Consider switching to testnet4.",
        ));
    }
    let odd: String = args
        .unrecognized_sections()
        .iter()
        .map(|section| {
            format!("{}:{} Section [{}] is not recognized.\n", section.file, section.line, section.name)
        })
        .collect();
    if !odd.is_empty() {
        warnings.push(odd);
    }
    for (opt, refused) in args.without_effect() {
        if refused {
            return fail(format!(
                "-{} is not available in this version, and leaving it out silently would break what it promises.",
                opt.name
            ));
        }
        args.note(LogLine::warning(format!("Option -{} has no effect in this version.", opt.name)));
    }
    if datadir::blocks(args).is_none() {
        return fail(format!(
            "Specified blocks directory \"{}\" does not exist.",
            args.text("blocksdir").unwrap_or_default()
        ));
    }
    check_pruning(args)?;
    check_connections(args)?;
    raise_descriptor_limit(args, &mut warnings)?;
    check_ports(args, &mut warnings)?;
    check_values(args, network)?;
    check_test_options(args, network, &mut warnings)?;
    warnings.extend(oversized_cache(args.int("dbcache"), total_memory()));
    Ok(warnings)
}

/// The machine's memory in bytes.
fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// Core's warning about a coin cache of `mib` on a machine with `memory` bytes.
fn oversized_cache(mib: Option<i64>, memory: u64) -> Option<String> {
    let bytes = u64::try_from(mib?).unwrap_or(0).saturating_mul(1 << 20);
    let most = (memory.saturating_sub(MEMORY_FOR_THE_REST) / 4 * 3)
        .max(ironpeer_chain::limits::DEFAULT_CACHE_BYTES as u64);
    (bytes > most).then(|| {
        format!(
            "A {} MiB dbcache may be too large for a system memory of only {} MiB.",
            bytes >> 20,
            memory >> 20
        )
    })
}

/// What a node without old blocks cannot do.
fn check_pruning(args: &Args) -> Result<(), ArgsError> {
    if args.int("prune").unwrap_or(0) == 0 {
        return Ok(());
    }
    for index in ["txindex", "txospenderindex"] {
        if args.bool(index) == Some(true) {
            return fail(format!("Prune mode is incompatible with -{index}."));
        }
    }
    if args.bool("reindex-chainstate") == Some(true) {
        return fail("Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead.");
    }
    Ok(())
}

fn check_connections(args: &Args) -> Result<(), ArgsError> {
    let listen = args.bool("listen").unwrap_or(true);
    if args.bool("forcednsseed") == Some(true) && args.bool("dnsseed") == Some(false) {
        return fail("Cannot set -forcednsseed to true when setting -dnsseed to false.");
    }
    let binds = args.list("bind").len() + args.list("whitebind").len();
    if !listen && binds > 0 {
        return fail("Cannot set -bind or -whitebind together with -listen=0");
    }
    if !listen && args.bool("listenonion") == Some(true) {
        return fail("Cannot set -listen=0 together with -listenonion=1");
    }
    if args.int("maxconnections").is_some_and(|most| most < 0) {
        return fail("-maxconnections must be greater or equal than zero");
    }
    if args.int("peertimeout").is_some_and(|seconds| seconds <= 0) {
        return fail("peertimeout must be a positive integer.");
    }
    Ok(())
}

/// Makes room for the connections asked for, or asks for less (Core's
/// `RaiseFileDescriptorLimit`).
fn raise_descriptor_limit(args: &mut Args, warnings: &mut Vec<String>) -> Result<(), ArgsError> {
    let binds = (args.list("bind").len() + args.list("whitebind").len()).max(1);
    let wanted = args.int("maxconnections").unwrap_or(DEFAULT_MAX_CONNECTIONS).unsigned_abs();
    let required = RESERVED_DESCRIPTORS + MAX_ADDED_NODES + binds as u64;
    let available = descriptors(wanted.saturating_add(required));
    if available < required {
        return fail(format!(
            "Not enough file descriptors available. {available} available, {required} required."
        ));
    }
    let most = wanted.min(available - required);
    if most < wanted {
        warnings.push(format!(
            "Reducing -maxconnections from {wanted} to {most}, because of system limitations."
        ));
        args.force_set("maxconnections", &most.to_string());
    }
    args.note(LogLine::info(format!(
        "Using at most {most} automatic connections ({available} file descriptors available)"
    )));
    Ok(())
}

/// A whole number without a plus sign or blanks (Core's `ToIntegral`).
pub fn integral<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// How many files may be open, after asking for `wanted`.
fn descriptors(wanted: u64) -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let (now, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if now >= wanted {
        return now;
    }
    let raised = wanted.min(most);
    match rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
        Ok(()) => raised,
        Err(_) => now,
    }
}

/// Core's `CheckHostPortOptions`, and its warnings about ports that nobody connects to.
fn check_ports(args: &Args, warnings: &mut Vec<String>) -> Result<(), ArgsError> {
    let invalid = |name: &str, value: &str| format!("Invalid port specified in -{name}: '{value}'");
    for name in ["port", "rpcport"] {
        if let Some(value) = args.text(name)
            && integral::<u16>(&value).is_none_or(|port| port == 0)
        {
            return fail(invalid(name, &value));
        }
    }
    // Whether a Unix socket or a suffix after `=` may stand there.
    for (name, unix, suffix) in [
        ("i2psam", false, false),
        ("onion", true, false),
        ("proxy", true, true),
        ("bind", false, true),
        ("rpcbind", false, false),
        ("torcontrol", false, false),
        ("whitebind", false, false),
        ("zmqpubhashblock", true, false),
        ("zmqpubhashtx", true, false),
        ("zmqpubrawblock", true, false),
        ("zmqpubrawtx", true, false),
        ("zmqpubsequence", true, false),
    ] {
        for value in args.list(name) {
            let address = value.rsplit_once('=').filter(|_| suffix).map_or(&*value, |(head, _)| head);
            if split_host_port(address).is_none() && !(unix && value.starts_with("unix:")) {
                return fail(invalid(name, &value));
            }
        }
    }
    let mut warn = |prefix: &str, port: u16| {
        if is_bad_port(port) {
            warnings.push(format!(
                "{prefix} request to listen on port {port}. This port is considered \"bad\" and thus it is unlikely that any peer will connect to it. See doc/p2p-bad-ports.md for details and a full list."
            ));
        }
    };
    let (binds, white) = (args.list("bind"), args.list("whitebind"));
    if binds.is_empty() && white.is_empty() {
        args.text("port").and_then(|port| port.parse().ok()).into_iter().for_each(|port| warn("-port", port));
    }
    for (_, port) in binds.iter().filter(|bind| !bind.contains('=')).filter_map(|bind| split_host_port(bind))
    {
        port.into_iter().for_each(|port| warn("-bind", port));
    }
    Ok(())
}

/// Values of options that act little or not at all here, but are judged as in Core.
fn check_values(args: &mut Args, network: Network) -> Result<(), ArgsError> {
    let filters: Vec<String> = match args.text("blockfilterindex").as_deref() {
        None | Some("0") => Vec::new(),
        Some("" | "1") => vec![BASIC_FILTER.to_owned()],
        Some(_) => args.list("blockfilterindex"),
    };
    if let Some(unknown) = filters.iter().find(|name| *name != BASIC_FILTER) {
        return fail(format!("Unknown -blockfilterindex value {unknown}."));
    }
    if args.bool("peerblockfilters") == Some(true) && filters.is_empty() {
        return fail("Cannot set -peerblockfilters without -blockfilterindex.");
    }
    if let Some(threads) = args.int("prevoutfetchthreads").filter(|threads| *threads < 0) {
        return fail(format!(
            "-prevoutfetchthreads must be non-negative (got {threads}). Use 0 to disable parallel input fetching."
        ));
    }
    if args.bool("acceptstalefeeestimates") == Some(true)
        && args.bool("blocksonly") != Some(true)
        && network != Network::Regtest
    {
        return fail(format!("acceptstalefeeestimates is not supported on {} chain.", network_name(network)));
    }
    if args.is_set("asmap") && !args.is_negated("asmap") {
        if args.bool("asmap") == Some(true) {
            return fail("Embedded asmap data not available");
        }
        let path = datadir::net(args).join(args.path("asmap").unwrap_or_default());
        if !path.exists() {
            return fail(format!("Could not find asmap file \"{}\"", path.display()));
        }
    }
    let relative = args.path("datadir").filter(|dir| !dir.is_absolute() && args.is_set("datadir"));
    if let (Some(dir), Ok(here)) = (relative, std::env::current_dir()) {
        args.note(LogLine::warning(format!(
            "Relative datadir option '{}' specified, which will be interpreted relative to the current working directory '{}'. This is fragile, because if bitcoin is started in the future from a different location, it will be unable to locate the current data files. There could also be data loss if bitcoin is started while in a temporary directory.",
            dir.display(),
            here.display()
        )));
    }
    let feerate = |name: &str| args.text(name).and_then(|text| config::parse_money(&text));
    if let (Some(rate), None) = (feerate("incrementalrelayfee"), args.text("minrelaytxfee"))
        && rate > ironpeer_mempool::Config::default().min_relay.sat_per_kvb()
    {
        args.note(LogLine::info(format!(
            "Increasing minrelaytxfee to {}.{:08} BTC/kvB to match incrementalrelayfee",
            rate / COIN,
            rate % COIN
        )));
    }
    for value in args.list("vbparams") {
        if let [name, start, end, rest @ ..] = value.split(':').collect::<Vec<_>>().as_slice() {
            args.note(LogLine::info(format!(
                "Setting version bits activation parameters for {name} to start={start}, timeout={end}, min_activation_height={}",
                rest.first().unwrap_or(&"0")
            )));
        }
    }
    if args.bool("logratelimit") == Some(false) {
        args.note(LogLine::info("Log rate limiting disabled"));
    }
    let connect = args.list("connect");
    if !connect.is_empty() && connect != ["0"] && !args.list("seednode").is_empty() {
        args.note(LogLine::info("-seednode is ignored when -connect is used"));
    }
    Ok(())
}

fn check_test_options(args: &Args, network: Network, warnings: &mut Vec<String>) -> Result<(), ArgsError> {
    let options = args.list("test");
    if !options.is_empty() && network != Network::Regtest {
        return fail("-test=<option> can only be used with regtest");
    }
    for option in options.iter().filter(|option| !TEST_OPTIONS.contains(&option.as_str())) {
        warnings.push(format!("Unrecognised option \"{option}\" provided in -test=<option>."));
    }
    if network == Network::Bitcoin {
        for name in ["testactivationheight", "vbparams"] {
            if args.is_set(name) {
                return fail(format!("The -{name} option may not be used on mainnet."));
            }
        }
    }
    Ok(())
}

/// Takes the categories and levels of `-debug`, `-debugexclude` and `-loglevel`.
///
/// # Errors
/// A name the log does not know.
pub fn set_log_categories(args: &Args, log: &crate::log::Log) -> Result<(), ArgsError> {
    let names = args.list("debug");
    let from = names.iter().rposition(|name| name == "0" || name == "none").map_or(0, |at| at + 1);
    for name in names.iter().skip(from) {
        if !log.set_category(name, true) {
            return fail(format!("Unsupported logging category -debug={name}."));
        }
    }
    for name in args.list("debugexclude") {
        if !log.set_category(&name, false) {
            return fail(format!("Unsupported logging category -debugexclude={name}."));
        }
    }
    log.log(LogLine::info(
        "Log output may contain privacy-sensitive information. Be cautious when sharing logs.",
    ));
    for value in args.list("loglevel") {
        let levels = "info, debug, trace";
        // A category has at least three letters.
        let colon = value.bytes().skip(3).any(|byte| byte == b':');
        match value.split_once(':').filter(|_| colon) {
            None if log.set_level(None, &value) => {}
            None => {
                return fail(format!(
                    "Unsupported global logging level -loglevel={value}. Valid values: {levels}."
                ));
            }
            Some((category, level)) if log.set_level(Some(category), level) => {}
            Some(_) => {
                let known: Vec<_> = log.category_names();
                return fail(format!(
                    "Unsupported category-specific logging level -loglevel={value}. Expected -loglevel=<category>:<loglevel>. Valid categories: {}. Valid loglevels: {levels}.",
                    known.join(", ")
                ));
            }
        }
    }
    Ok(())
}

/// Which directories and files are used, for the log.
#[must_use]
pub fn where_things_are(args: &Args, now: i64) -> Vec<LogLine> {
    let mut lines = Vec::new();
    if args.bool("logtimestamps") == Some(false) {
        lines.push(LogLine::info(format!("Startup time: {}", crate::log::iso8601(now))));
    }
    lines.push(LogLine::info(format!("Default data directory {}", datadir::default_dir().display())));
    lines.push(LogLine::info(format!("Using data directory {}", datadir::net(args).display())));
    let conf = args.config_path();
    lines.push(LogLine::info(if conf.as_os_str().is_empty() {
        "Config file: <disabled>".to_owned()
    } else if conf.exists() {
        format!("Config file: {}", conf.display())
    } else {
        format!("Config file: {} (not found, skipping)", conf.display())
    }));
    lines
}

/// Core's text for a directory whose lock another node holds.
#[must_use]
pub fn lock_error(dir: &Path) -> String {
    format!("Cannot obtain a lock on directory {}. {CLIENT_NAME} is probably already running.", dir.display())
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;

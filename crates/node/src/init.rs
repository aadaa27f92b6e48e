//! What happens between the command line and the first file that is opened: settings are read,
//! options act on each other, and every wrong value is named (Core's `common/init.cpp` and the
//! first steps of `init.cpp`).

use std::path::Path;

use bitcoin::Network;
use ironpeer_primitives::LogLine;

use crate::args::{Args, ArgsError, CONF_FILENAME, network_name};
use crate::cli::split_host_port;
use crate::{CLIENT_NAME, config, datadir};

/// Connections made and taken by default (Core's `DEFAULT_MAX_PEER_CONNECTIONS`).
pub const DEFAULT_MAX_CONNECTIONS: i64 = 125;
/// Memory for the mempool in MB when no transactions are taken from peers.
const BLOCKSONLY_MAX_MEMPOOL: &str = "5";
/// What `-test` knows.
const TEST_OPTIONS: [&str; 3] = ["addrman", "reindex_after_failure_noninteractive_yes", "bip94"];

fn fail<T>(text: impl Into<String>) -> Result<T, ArgsError> {
    Err(ArgsError(text.into()))
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
    let warnings = args
        .read_config_files()
        .map_err(|error| ArgsError(format!("Error reading configuration file: {error}")))?;
    let network = args.chain()?;
    args.select_network(network);
    config::params(args)?;

    let made = |dir: &Path| {
        datadir::create_with_wallets(dir).map_err(|error| {
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
    check_connections(args)?;
    check_ports(args)?;
    check_test_options(args, network, &mut warnings)?;
    Ok(warnings)
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

/// Core's `CheckHostPortOptions`.
fn check_ports(args: &Args) -> Result<(), ArgsError> {
    let invalid = |name: &str, value: &str| format!("Invalid port specified in -{name}: '{value}'");
    for name in ["port", "rpcport"] {
        if let Some(value) = args.text(name)
            && !value.parse::<u16>().is_ok_and(|port| port != 0)
        {
            return fail(invalid(name, &value));
        }
    }
    for name in ["bind", "rpcbind", "whitebind", "torcontrol"] {
        for value in args.list(name) {
            let address = if name == "bind" {
                value.rsplit_once('=').map_or(&*value, |(head, _)| head)
            } else {
                &value
            };
            if split_host_port(address).is_none() {
                return fail(invalid(name, &value));
            }
        }
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
    for value in args.list("loglevel") {
        let levels = "info, debug, trace";
        match value.split_once(':') {
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

/// Core's text for a directory whose lock another node holds.
#[must_use]
pub fn lock_error(dir: &Path) -> String {
    format!("Cannot obtain a lock on directory {}. {CLIENT_NAME} is probably already running.", dir.display())
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;

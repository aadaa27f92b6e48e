use super::*;
use crate::args::options;

fn args(line: &str, conf: &str) -> Args {
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    args.parse_command_line(&words).unwrap();
    args.read_config(conf, "bitcoin.conf").unwrap();
    let network = args.chain().unwrap();
    args.select_network(network);
    args
}

fn checked(line: &str, conf: &str) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut args = args(&format!("-datadir={} {line}", dir.path().display()), conf);
    parameter_interaction(&mut args);
    let network = args.chain().unwrap();
    check_parameters(&mut args, network).map_err(|error| error.0)
}

#[test]
fn options_imply_others() {
    for (line, conf, name, value) in [
        ("-bind=127.0.0.1 -connect=0", "", "listen", true),
        ("-connect=1.2.3.4", "", "listen", false),
        ("-noconnect", "", "dnsseed", false),
        ("-maxconnections=0", "", "listen", false),
        ("-connect=1.2.3.4", "listen=1\n", "listen", true),
        ("-blocksonly", "", "whitelistrelay", false),
    ] {
        let mut args = args(line, conf);
        parameter_interaction(&mut args);
        assert_eq!(args.bool(name), Some(value), "{line} {conf} {name}");
    }
}

#[test]
fn contradictions_and_wrong_values_have_cores_texts() {
    for (line, conf, error) in [
        ("-regtest -listen=0 -bind=127.0.0.1", "", "Cannot set -bind or -whitebind together with -listen=0"),
        ("-listen=0 -listenonion=1", "", "Cannot set -listen=0 together with -listenonion=1"),
        ("-maxconnections=-1", "", "-maxconnections must be greater or equal than zero"),
        ("-peertimeout=0", "", "peertimeout must be a positive integer."),
        ("-forcednsseed -dnsseed=0", "", "Cannot set -forcednsseed to true when setting -dnsseed to false."),
        ("-blocksdir=/nonexistent", "", "Specified blocks directory \"/nonexistent\" does not exist."),
        ("-port=65536", "", "Invalid port specified in -port: '65536'"),
        ("-rpcbind=127.0.0.1:0", "", "Invalid port specified in -rpcbind: '127.0.0.1:0'"),
        ("-bind=127.0.0.1:x=onion", "", "Invalid port specified in -bind: '127.0.0.1:x=onion'"),
        ("-prune=550 -txindex", "", "Prune mode is incompatible with -txindex."),
        ("-prune=1 -txospenderindex", "", "Prune mode is incompatible with -txospenderindex."),
        (
            "-prune=1 -reindex-chainstate",
            "",
            "Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead.",
        ),
        ("-test=addrman", "", "-test=<option> can only be used with regtest"),
        ("-vbparams=a:0:1", "", "The -vbparams option may not be used on mainnet."),
        (
            "-testactivationheight=segwit@2",
            "",
            "The -testactivationheight option may not be used on mainnet.",
        ),
        ("-zmqpubrawtx=host:x", "", "Invalid port specified in -zmqpubrawtx: 'host:x'"),
        ("-torcontrol=a:0", "", "Invalid port specified in -torcontrol: 'a:0'"),
        ("-blockfilterindex=fancy", "", "Unknown -blockfilterindex value fancy."),
        ("-peerblockfilters", "", "Cannot set -peerblockfilters without -blockfilterindex."),
        (
            "-prevoutfetchthreads=-1",
            "",
            "-prevoutfetchthreads must be non-negative (got -1). Use 0 to disable parallel input fetching.",
        ),
        ("-acceptstalefeeestimates", "", "acceptstalefeeestimates is not supported on main chain."),
        ("-asmap", "", "Embedded asmap data not available"),
        (
            "-regtest",
            "port=1\n",
            "Config setting for -port only applied on regtest network when in [regtest] section.\n",
        ),
    ] {
        assert_eq!(checked(line, conf), Err(error.to_owned()), "{line}");
    }
}

#[test]
fn a_promise_that_cannot_be_kept_is_refused_and_a_missing_comfort_noted() {
    let error = checked("-ipcbind=unix", "").unwrap_err();
    assert!(error.starts_with("-ipcbind is not available in this version"), "{error}");
    assert_eq!(checked("-noprune -prune=0 -txindex", ""), Ok(Vec::new()));
}

#[test]
fn ports_that_nobody_knocks_on_are_warned_about() {
    for line in ["-port=22", "-bind=127.0.0.1:6667", "-bind=127.0.0.1:6667=onion -bind=127.0.0.1:22"] {
        let warnings = checked(line, "").unwrap();
        assert_eq!(warnings.len(), 1, "{line}");
        assert!(warnings[0].contains("is considered \"bad\""), "{warnings:?}");
    }
}

#[test]
fn connections_are_cut_to_what_the_system_allows() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let Some(most) = limit.maximum else { return };
    let dir = tempfile::tempdir().unwrap();
    let line = format!("-datadir={} -maxconnections={most} -bind=127.0.0.1:8333", dir.path().display());
    let mut args = args(&line, "");
    let warnings = check_parameters(&mut args, Network::Bitcoin).unwrap();
    let kept = most - RESERVED_DESCRIPTORS - MAX_ADDED_NODES - 1;
    assert_eq!(
        warnings,
        [format!("Reducing -maxconnections from {most} to {kept}, because of system limitations.")]
    );
    assert_eq!(args.int("maxconnections"), i64::try_from(kept).ok());
}

#[test]
fn a_cache_that_does_not_fit_is_warned_about() {
    assert_eq!(oversized_cache(None, 1 << 30), None);
    assert_eq!(oversized_cache(Some(450), 1 << 30), None, "the default never is");
    assert_eq!(oversized_cache(Some(6 << 10), 10 << 30), None);
    assert_eq!(
        oversized_cache(Some((6 << 10) + 1), 10 << 30).unwrap(),
        "A 6145 MiB dbcache may be too large for a system memory of only 10240 MiB."
    );
}

#[test]
fn errors_of_the_system_read_as_cores() {
    let error = std::io::Error::from_raw_os_error(2);
    assert_eq!(system_error(&error), "No such file or directory (2)");
    assert_eq!(system_text(&error), "No such file or directory");
}

#[test]
fn what_no_longer_exists_is_warned_about() {
    let warnings = checked("-checkpoints=1 -regtest -test=moon", "[mars]\n").unwrap();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warnings[1], "bitcoin.conf:1 Section [mars] is not recognized.\n");
    assert_eq!(warnings[2], "Unrecognised option \"moon\" provided in -test=<option>.");
}

#[test]
fn a_new_data_directory_has_wallets_and_settings() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
    args.parse_command_line(&[format!("-datadir={}", dir.path().display()), "-regtest".to_owned()]).unwrap();
    assert_eq!(init_config(&mut args), Ok(Vec::new()));
    assert!(dir.path().join("regtest/wallets").is_dir());
    assert!(dir.path().join("regtest/settings.json").is_file());
    assert!(!dir.path().join("wallets").exists(), "the base was there before");
}

#[test]
fn a_configuration_file_that_is_not_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.conf");
    std::fs::write(dir.path().join(CONF_FILENAME), "").unwrap();
    std::fs::write(&other, "").unwrap();
    let run = |extra: &str| {
        let mut args = Args::new(&[options::CHAIN, options::DAEMON]);
        let mut words = vec![format!("-datadir={}", dir.path().display()), "-regtest".to_owned()];
        words.extend(extra.split_whitespace().map(str::to_owned));
        args.parse_command_line(&words).unwrap();
        init_config(&mut args).map_err(|error| error.0)
    };
    let error = run(&format!("-conf={}", other.display())).unwrap_err();
    assert!(error.contains("which is ignored, because a different configuration file"), "{error}");
    assert!(
        error
            .ends_with("- Set allowignoredconf=1 option to treat this condition as a warning, not an error.")
    );
    assert!(run(&format!("-conf={} -allowignoredconf", other.display())).is_ok());
    assert!(run("-noconf").is_ok());
    assert!(run("").is_ok());
}

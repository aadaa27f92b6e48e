use super::*;

/// Options that cannot stand, and what follows `Error: `. `{dir}` is the data directory; the
/// network is regtest unless the line names another.
const WRONG_OPTIONS: &[(&str, &str)] = &[
    // The command line itself.
    ("-moon", "Error parsing command line arguments: Invalid parameter -moon"),
    ("--moon=1", "Error parsing command line arguments: Invalid parameter --moon=1"),
    ("-regtest.port=1", "Error parsing command line arguments: Invalid parameter -regtest.port=1"),
    (
        "-nodatadir",
        "Error parsing command line arguments: Negating of -datadir is meaningless and therefore forbidden",
    ),
    (
        "-nologlevel",
        "Error parsing command line arguments: Negating of -loglevel is meaningless and therefore forbidden",
    ),
    (
        "-loglevel",
        "Error parsing command line arguments: Can not set -loglevel with no value. Please specify value with -loglevel=value.",
    ),
    (
        "-proxy",
        "Error parsing command line arguments: Can not set -proxy with no value. Please specify value with -proxy=value.",
    ),
    (
        "-includeconf=a",
        "Error parsing command line arguments: -includeconf cannot be used from commandline; -includeconf=\"a\"",
    ),
    ("stop", "Command line contains unexpected token 'stop', see bitcoind -h for a list of options."),
    // Networks, files and directories.
    (
        "-signet",
        "Invalid combination of -regtest, -signet, -testnet, -testnet4 and -chain. Can use at most one.",
    ),
    ("-noregtest -chain=mars", "Unknown chain mars."),
    (
        "-conf={dir}/moon.conf",
        "Error reading configuration file: specified config file \"{dir}/moon.conf\" could not be opened.",
    ),
    ("-conf={dir}", "Error reading configuration file: Config file \"{dir}\" is a directory."),
    ("-datadir={dir}/moon", "Specified data directory \"{dir}/moon\" does not exist."),
    ("-blocksdir={dir}/moon", "Specified blocks directory \"{dir}/moon\" does not exist."),
    ("-asmap=moon.dat", "Could not find asmap file \"{dir}/regtest/moon.dat\""),
    ("-asmap", "Embedded asmap data not available"),
    // Deployments.
    ("-testactivationheight=segwit", "Invalid format (segwit) for -testactivationheight=name@height."),
    (
        "-testactivationheight=segwit@+1",
        "Invalid height value (segwit@+1) for -testactivationheight=name@height.",
    ),
    (
        "-testactivationheight=segwit@2147483647",
        "Invalid height value (segwit@2147483647) for -testactivationheight=name@height.",
    ),
    ("-testactivationheight=moon@1", "Invalid name (moon@1) for -testactivationheight=name@height."),
    (
        "-vbparams=testdummy:1",
        "Version bits parameters malformed, expecting deployment:start:end[:min_activation_height]",
    ),
    ("-vbparams=moon:1:2", "Invalid deployment (moon)"),
    ("-vbparams=testdummy:x:2", "Invalid nStartTime (x)"),
    ("-noregtest -vbparams=testdummy:x:2", "Invalid nStartTime (x)"),
    ("-noregtest -vbparams=testdummy:1:2", "The -vbparams option may not be used on mainnet."),
    (
        "-noregtest -testactivationheight=csv@1",
        "The -testactivationheight option may not be used on mainnet.",
    ),
    ("-noregtest -signet -signetchallenge=5", "-signetchallenge must be hex, not '5'."),
    (
        "-noregtest -signet -signetchallenge=51 -signetchallenge=51",
        "-signetchallenge cannot be multiple values.",
    ),
    ("-noregtest -test=addrman", "-test=<option> can only be used with regtest"),
    // Options that contradict each other.
    (
        "-prune=1 -reindex-chainstate",
        "Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead.",
    ),
    ("-prune=550 -txindex", "Prune mode is incompatible with -txindex."),
    ("-peerblockfilters", "Cannot set -peerblockfilters without -blockfilterindex."),
    ("-blockfilterindex=fancy", "Unknown -blockfilterindex value fancy."),
    ("-forcednsseed -dnsseed=0", "Cannot set -forcednsseed to true when setting -dnsseed to false."),
    ("-listen=0", "Cannot set -bind or -whitebind together with -listen=0"),
    ("-nobind -listen=0 -listenonion", "Cannot set -listen=0 together with -listenonion=1"),
    // Values.
    ("-prune=-1", "Prune cannot be configured with a negative value."),
    ("-prune=549", "Prune configured below the minimum of 550 MiB.  Please use a higher number."),
    ("-maxconnections=-1", "-maxconnections must be greater or equal than zero"),
    ("-peertimeout=0", "peertimeout must be a positive integer."),
    (
        "-prevoutfetchthreads=-1",
        "-prevoutfetchthreads must be non-negative (got -1). Use 0 to disable parallel input fetching.",
    ),
    ("-minimumchainwork=0Xff", "Invalid minimum work specified (0Xff), must be up to 64 hex digits"),
    (
        "-assumevalid=moon",
        "Invalid assumevalid block hash specified (moon), must be up to 64 hex digits (or 0 to disable)",
    ),
    ("-debug=moon", "Unsupported logging category -debug=moon."),
    ("-debugexclude=moon", "Unsupported logging category -debugexclude=moon."),
    ("-loglevel=moon", "Unsupported global logging level -loglevel=moon. Valid values: info, debug, trace."),
    (
        "-loglevel=ab:debug",
        "Unsupported global logging level -loglevel=ab:debug. Valid values: info, debug, trace.",
    ),
    ("-blockmintxfee=x", "Invalid amount for -blockmintxfee=<amount>: 'x'"),
    ("-minrelaytxfee=-1", "Invalid amount for -minrelaytxfee=<amount>: '-1'"),
    ("-incrementalrelayfee=0.000000001", "Invalid amount for -incrementalrelayfee=<amount>: '0.000000001'"),
    ("-dustrelayfee=21000001", "Invalid amount for -dustrelayfee=<amount>: '21000001'"),
    ("-maxmempool=4", "-maxmempool must be at least 5 MB"),
    ("-maxmempool=-1", "-maxmempool must be at least 5 MB"),
    ("-limitclustercount=65", "limitclustercount must be less than or equal to 64"),
    ("-noregtest -acceptnonstdtxn", "acceptnonstdtxn is not currently supported for main chain"),
    ("-noregtest -acceptstalefeeestimates", "acceptstalefeeestimates is not supported on main chain."),
    ("-blockreservedweight=1999", "-blockreservedweight (1999) is lower than minimum safety value of (2000)"),
    (
        "-blockreservedweight=4000001",
        "-blockreservedweight (4000001) exceeds consensus maximum block weight (4000000)",
    ),
    ("-blockmaxweight=4000001", "-blockmaxweight (4000001) exceeds consensus maximum block weight (4000000)"),
    ("-blockmaxweight=7999", "-blockreservedweight (8000) exceeds -blockmaxweight (7999)"),
    ("-maxuploadtarget=9x", "Unable to parse -maxuploadtarget: '9x'"),
    ("-uacomment=/", "User Agent comment (/) contains unsafe characters."),
    // Addresses.
    ("-port=0", "Invalid port specified in -port: '0'"),
    ("-port=+5", "Invalid port specified in -port: '+5'"),
    ("-rpcport=65536", "Invalid port specified in -rpcport: '65536'"),
    ("-whitebind=127.0.0.1:x", "Invalid port specified in -whitebind: '127.0.0.1:x'"),
    ("-zmqpubsequence=127.0.0.1:x", "Invalid port specified in -zmqpubsequence: '127.0.0.1:x'"),
    ("-torcontrol=127.0.0.1:0", "Invalid port specified in -torcontrol: '127.0.0.1:0'"),
    ("-bind=moon", "Cannot resolve -bind address: 'moon'"),
    ("-bind=127.0.0.1:7=moon", "Cannot resolve -bind address: '127.0.0.1:7=moon'"),
    ("-whitebind=127.0.0.1", "Need to specify a port with -whitebind: '127.0.0.1'"),
    ("-whitebind=moon@127.0.0.1:7", "Invalid P2P permission: 'moon'"),
    (
        "-whitebind=out,relay@127.0.0.1:7",
        "whitebind may only be used for incoming connections (\"out\" was passed)",
    ),
    ("-whitelist=in@127.0.0.1", "Only direction was set, no permissions: 'in@127.0.0.1'"),
    ("-whitelist=moon", "Invalid netmask specified in -whitelist: 'moon'"),
    ("-externalip=!", "Cannot resolve -externalip address: '!'"),
    ("-onlynet=moon", "Unknown network specified in -onlynet: 'moon'"),
    (
        "-onlynet=onion -noonion",
        "Outbound connections restricted to Tor (-onlynet=onion) but the proxy for reaching the Tor network is explicitly forbidden: -onion=0",
    ),
    (
        "-rpcallowip=moon",
        "Invalid -rpcallowip subnet specification: moon. Valid values are a single IP (e.g. 1.2.3.4), a network/netmask (e.g. 1.2.3.4/255.255.255.0), a network/CIDR (e.g. 1.2.3.4/24), all ipv4 (0.0.0.0/0), or all ipv6 (::/0). RFC4193 is allowed only if -cjdnsreachable=0.\nError: Unable to start HTTP server. See debug log for details.",
    ),
];

#[test]
fn wrong_options_have_cores_texts() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display().to_string();
    let clock = Arc::new(SystemClock::new());
    for (line, error) in WRONG_OPTIONS {
        let line =
            format!("-datadir={shown} -regtest -bind=127.0.0.1:2 -noconnect {line}").replace("{dir}", &shown);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let found = prepare(&words, &clock).err().map(|error| error.0);
        assert_eq!(found, Some(error.replace("{dir}", &shown)), "{line}");
    }
}

#[test]
fn options_that_only_mean_less_than_they_could_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock::new());
    // Every option there is, but those that end the start or are refused on purpose.
    let args = Args::new(&[options::CHAIN, options::DAEMON]);
    let apart = [
        "?",
        "h",
        "help",
        "help-debug",
        "version",
        "chain",
        "regtest",
        "testnet",
        "testnet4",
        "signet",
        "datadir",
        "conf",
        "includeconf",
        "blocksdir",
        "proxy",
        "onion",
        "i2psam",
        "ipcbind",
        "privatebroadcast",
        "signetchallenge",
        "signetseednode",
        "testactivationheight",
        "vbparams",
    ];
    for opt in args.known().filter(|opt| !apart.contains(&opt.name)) {
        // Off, or nothing, where a value must be of a certain form.
        let word = if opt.flags & options::NO_NEGATION == 0 {
            format!("-no{}", opt.name)
        } else {
            format!("-{}=info", opt.name)
        };
        let words = [format!("-datadir={}", dir.path().display()), "-regtest".to_owned(), word.clone()];
        let found = prepare(&words, &clock).map(|prepared| prepared.is_some()).map_err(|error| error.0);
        let refused = match opt.name {
            "port" | "rpcport" => Some(format!("Invalid port specified in -{}: '0'", opt.name)),
            "peertimeout" => Some("peertimeout must be a positive integer.".to_owned()),
            "blockreservedweight" => {
                Some("-blockreservedweight (0) is lower than minimum safety value of (2000)".to_owned())
            }
            "blockmaxweight" => Some("-blockreservedweight (8000) exceeds -blockmaxweight (0)".to_owned()),
            _ => None,
        };
        assert_eq!(found, refused.map_or(Ok(true), Err), "{word}");
    }
}

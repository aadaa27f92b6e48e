//! What a terminal shows: of `-daemon` and `-daemonwait`, of options that cannot stand, and of the
//! tools that need no node.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ironpeer_testkit as process;

/// The words every run here starts with.
fn words(datadir: &Path, more: &[&str]) -> Vec<String> {
    let mut words = vec![
        format!("-datadir={}", datadir.display()),
        "-regtest".to_owned(),
        format!("-rpcport={}", process::port(0)),
        format!("-bind=127.0.0.1:{}", process::port(1)),
        "-noconnect".to_owned(),
    ];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

fn daemon(datadir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ironpeer")).args(words(datadir, more)).output().unwrap()
}

fn cli(datadir: &Path, command: &[&str]) -> Output {
    let address = [
        format!("-datadir={}", datadir.display()),
        "-regtest".to_owned(),
        format!("-rpcport={}", process::port(0)),
    ];
    Command::new(env!("CARGO_BIN_EXE_ironpeer-cli")).args(address).args(command).output().unwrap()
}

/// A node in the background, which a failed test must not leave behind.
struct InBackground<'a>(&'a Path);

impl InBackground<'_> {
    fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.0.join("regtest/bitcoind.pid")).unwrap();
        file.trim().parse().unwrap()
    }
}

impl Drop for InBackground<'_> {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = cli(self.0, &["stop"]);
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn daemonwait_returns_when_the_node_serves_and_leaves_it_running() {
    let dir = tempfile::tempdir().unwrap();
    let started = daemon(dir.path(), &["-daemonwait"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    assert_eq!((text(&started.stdout), text(&started.stderr)), ("Bitcoin Core starting\n", ""));
    let node = InBackground(dir.path());
    let process = format!("/proc/{}", node.pid());
    assert_eq!(text(&cli(dir.path(), &["getblockcount"]).stdout), "0\n");
    // The sixth field of the status is the session: its own.
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
    assert_eq!(session, node.pid().to_string());

    let second = daemon(dir.path(), &["-daemon"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).starts_with("Error: Cannot obtain a lock on directory"));

    assert!(cli(dir.path(), &["stop"]).status.success());
    while Path::new(&process).exists() {
        std::thread::yield_now();
    }
    assert!(!dir.path().join("regtest/bitcoind.pid").exists());
}

#[test]
fn daemon_returns_at_once_and_the_client_can_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let started = daemon(dir.path(), &["-daemon"]);
    assert!(started.status.success());
    let _node = InBackground(dir.path());
    let answer = cli(dir.path(), &["-rpcwait", "getblockcount"]);
    assert_eq!(text(&answer.stdout), "0\n", "{}", text(&answer.stderr));
}

#[test]
fn a_start_that_fails_in_the_background_is_told_in_the_foreground() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let web = format!("-webbind={}", taken.local_addr().unwrap());
    let started = daemon(dir.path(), &["-daemonwait", &web]);
    assert_eq!(started.status.code(), Some(1));
    assert_eq!(text(&started.stderr), "Error during initialization - check debug.log for details\n");
    let log = std::fs::read_to_string(dir.path().join("regtest/debug.log")).unwrap();
    assert!(log.contains("for -webbind"), "{log}");

    let wrong = daemon(dir.path(), &["-daemonwait", "-maxconnections=-1"]);
    assert_eq!(text(&wrong.stderr), "Error: -maxconnections must be greater or equal than zero\n");
    assert_eq!(text(&wrong.stdout), "");
}

/// Options that cannot stand, and all that the terminal shows: one for each step that finds such
/// a thing. `{dir}` is the data directory.
const WRONG_OPTIONS: &[(&str, &str)] = &[
    ("-moon", "Error parsing command line arguments: Invalid parameter -moon"),
    ("stop", "Command line contains unexpected token 'stop', see bitcoind -h for a list of options."),
    ("-datadir={dir}/moon", "Specified data directory \"{dir}/moon\" does not exist."),
    (
        "-prune=1 -reindex-chainstate",
        "Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead.",
    ),
    (
        "-pid=moon/pid",
        "Unable to create the PID file '{dir}/regtest/moon/pid': No such file or directory (2)",
    ),
    ("-debuglogfile=moon/log", "Could not open debug log file {dir}/regtest/moon/log"),
];

#[test]
fn wrong_options_end_the_start_with_cores_texts() {
    let dir = tempfile::tempdir().unwrap();
    // A start that nothing is wrong with ends here.
    let _taken = TcpListener::bind(("127.0.0.1", process::port(0))).unwrap();
    let shown = dir.path().display().to_string();
    for (line, error) in WRONG_OPTIONS {
        let line = line.replace("{dir}", &shown);
        let ended = daemon(dir.path(), &line.split(' ').collect::<Vec<_>>());
        assert_eq!(text(&ended.stderr), format!("Error: {}\n", error.replace("{dir}", &shown)), "{line}");
        assert_eq!(ended.status.code(), Some(1), "{line}");
    }
}

/// The same for what stands in the files.
#[test]
fn wrong_files_end_the_start_with_cores_texts() {
    let dir = tempfile::tempdir().unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", process::port(0))).unwrap();
    let port = format!("-rpcport={}", process::port(0));
    let shown = dir.path().display().to_string();
    for (file, contents, error) in [
        ("bitcoin.conf", "server", "Error reading configuration file: parse error on line 1: server"),
        (
            "bitcoin.conf",
            "\n#\nnoserver",
            "Error reading configuration file: parse error on line 3: noserver, if you intended to specify a negated option, use noserver=1 instead",
        ),
        (
            "bitcoin.conf",
            "-server=1",
            "Error reading configuration file: parse error on line 1: -server=1, options in configuration file must be specified without leading -",
        ),
        (
            "bitcoin.conf",
            "rpcpassword=a#b",
            "Error reading configuration file: parse error on line 1, using # in rpcpassword can be ambiguous and should be avoided",
        ),
        (
            "bitcoin.conf",
            "conf=a",
            "Error reading configuration file: conf cannot be set in the configuration file; use includeconf= if you want to include additional config files",
        ),
        (
            "bitcoin.conf",
            "includeconf=moon.conf",
            "Error reading configuration file: Failed to include configuration file moon.conf",
        ),
        (
            "bitcoin.conf",
            "signet=1",
            "Invalid combination of -regtest, -signet, -testnet, -testnet4 and -chain. Can use at most one.",
        ),
        (
            "bitcoin.conf",
            "wallet=a\naddnode=127.0.0.1",
            "Config setting for -addnode only applied on regtest network when in [regtest] section.\nConfig setting for -wallet only applied on regtest network when in [regtest] section.\n",
        ),
        (
            "regtest/settings.json",
            "{",
            "Settings file could not be read:\n- Settings file {dir}/regtest/settings.json does not contain valid JSON. This may be caused by a crash, power loss, full disk, or storage error, and can be fixed by removing the file, which will reset settings to default values.",
        ),
        (
            "regtest/settings.json",
            "\"a\"",
            "Settings file could not be read:\n- Found non-object value \"a\" in settings file {dir}/regtest/settings.json",
        ),
        (
            "regtest/settings.json",
            "{\"a\":1,\"a\":2}",
            "Settings file could not be read:\n- Found duplicate key a in settings file {dir}/regtest/settings.json",
        ),
    ] {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents.replace("{dir}", &shown)).unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_ironpeer"))
            .args([format!("-datadir={shown}").as_str(), "-regtest", &port])
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text(&ended.stderr), format!("Error: {}\n", error.replace("{dir}", &shown)), "{contents}");
        assert_eq!(ended.status.code(), Some(1), "{contents}");
    }
}

/// Exit code, standard output and standard error of a tool that was given `input`.
fn tool(program: &str, words: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut tool = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that reads nothing may be gone already.
    let _ = tool.stdin.take().unwrap().write_all(input.as_bytes());
    let ended = tool.wait_with_output().unwrap();
    (ended.status.code(), text(&ended.stdout).to_owned(), text(&ended.stderr).to_owned())
}

#[test]
fn the_transaction_tool_reads_words_and_standard_input() {
    let tx = |words: &[&str], input| tool(env!("CARGO_BIN_EXE_ironpeer-tx"), words, input);
    let good = |out: &str| (Some(0), out.to_owned(), String::new());
    let bad = |error: &str| (Some(1), String::new(), error.to_owned());
    assert_eq!(tx(&["-create", "nversion=1"], ""), good("01000000000000000000\n"));
    assert_eq!(tx(&["-", "locktime=1"], "01000000000000000000\n"), good("01000000000001000000\n"));
    assert_eq!(
        tx(&["-txid", "01000000000000000000"], ""),
        good("d21633ba23f70118185227be58a63527675641ad37967e2aa461559f577aec43\n")
    );
    let (_, json, _) = tx(&["-json", "-create", "outdata=ff"], "");
    assert!(json.starts_with("{\n    \"txid\": \""), "{json}");
    assert!(json.contains("\n            \"value\": 0.00000000,\n"), "{json}");
    assert_eq!(tx(&["-moon"], ""), bad("Error parsing command line arguments: Invalid parameter -moon\n"));
    assert_eq!(tx(&["-chain=moon"], ""), bad("Error: Unknown chain moon.\n"));
    assert_eq!(tx(&["-json"], ""), bad("error: too few parameters\n"));
    assert_eq!(tx(&["-create", "moon"], ""), bad("error: unknown command\n"));
    let (code, out, error) = tx(&[], "");
    assert_eq!((code, error.as_str()), (Some(1), "Error: too few parameters\n"));
    assert!(out.starts_with("Bitcoin Core bitcoin-tx utility version v31.0.0"), "{out}");
    assert!(out.contains("\nCommands:\n\n  delin=N\n"), "{out}");
    assert_eq!(tx(&["-version"], "").1.lines().count(), 2);
}

#[test]
fn the_utility_grinds_and_names_networks() {
    let util = |words: &[&str]| tool(env!("CARGO_BIN_EXE_ironpeer-util"), words, "");
    let bad = |error: &str| (Some(1), String::new(), format!("{error}\n"));
    assert_eq!(util(&["-regtest", "netmagic"]), (Some(0), "fabfb5da\n".to_owned(), String::new()));
    assert_eq!(util(&["netmagic", "1"]), bad("netmagic does not take arguments"));
    assert_eq!(util(&[]), bad("Error: must specify a command"));
    assert_eq!(util(&["mine"]), bad("Error parsing command line arguments: Invalid command 'mine'"));
    assert_eq!(util(&["grind"]), bad("Must specify block header to grind"));
    let header = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
    let bytes = bitcoin::consensus::encode::serialize_hex(&header);
    let (code, ground, _) = util(&["grind", &bytes]);
    assert_eq!(code, Some(0));
    // All but the nonce stays.
    assert_eq!((&ground[..152], ground.len()), (&bytes[..152], 161));
    assert!(util(&["-help"]).1.contains("grind <hex-block-header>"));
}

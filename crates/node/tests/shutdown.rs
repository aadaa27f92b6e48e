//! The daemon's end, seen from outside: signals, ports, files.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use ironpeer_testkit::{self as process, NodeProcess};
use serde_json::{Value, json};

/// An address of regtest whose key nobody needs here.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn daemon() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ironpeer"))
}

fn start(datadir: &Path, extra: &[&str]) -> NodeProcess {
    let mut args =
        vec!["-regtest".to_owned(), format!("-bind=127.0.0.1:{}", process::port(1)), "-noconnect".to_owned()];
    args.extend(extra.iter().map(|arg| (*arg).to_owned()));
    NodeProcess::start(&daemon(), datadir, "regtest", process::port(0), &args).unwrap()
}

fn mine(node: &mut NodeProcess, blocks: u32) -> Value {
    node.rpc.call("generatetoaddress", &[json!(blocks), json!(ADDRESS)]).unwrap();
    node.rpc.call("getbestblockhash", &[]).unwrap()
}

fn position(log: &str, text: &str) -> usize {
    log.find(text).unwrap_or_else(|| panic!("no {text:?} in the log:\n{log}"))
}

#[test]
fn ctrl_c_stops_in_order_and_frees_the_ports() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(dir.path(), &[]);
    let tip = mine(&mut node, 3);
    let (status, _) = node.stop().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(node.stderr(), "");
    let log = node.debug_log();
    let began = position(&log, "Shutdown in progress...");
    let saved = position(&log, "Dumped mempool");
    let done = position(&log, "Shutdown done");
    assert!(began < saved && saved < done, "{log}");
    for index in [0, 1] {
        TcpListener::bind(("127.0.0.1", process::port(index))).unwrap();
    }
    for gone in [".cookie", "bitcoind.pid"] {
        assert!(!dir.path().join("regtest").join(gone).exists(), "{gone} is left");
    }
    let mut again = start(dir.path(), &[]);
    assert_eq!(again.rpc.call("getbestblockhash", &[]).unwrap(), tip);
}

#[test]
fn stop_answers_before_the_door_closes() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(dir.path(), &[]);
    assert_eq!(node.rpc.call("stop", &[]).unwrap(), "Bitcoin Core stopping");
    assert_eq!(node.wait().unwrap().code(), Some(0));
    assert_eq!(node.stderr(), "");
}

#[test]
fn a_second_ctrl_c_forces_exit_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let begun = dir.path().join("begun");
    // The shutdown hangs in this command for as long as the node lives.
    let hang = format!("-shutdownnotify=touch {}; while kill -0 $PPID; do sleep 0.1; done", begun.display());
    let mut node = start(dir.path(), &[&hang]);
    let tip = mine(&mut node, 5);
    node.interrupt().unwrap();
    while !begun.exists() {
        std::thread::yield_now();
    }
    let (status, _) = node.stop().unwrap();
    assert_eq!(status.code(), Some(1));
    let mut again = start(dir.path(), &[]);
    assert_eq!(again.rpc.call("getbestblockhash", &[]).unwrap(), tip);
    assert_eq!(again.stop().unwrap().0.code(), Some(0));
}

#[test]
fn a_taken_directory_or_port_is_named_and_the_holder_unharmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = start(dir.path(), &[]);
    let second = |args: &[String]| {
        let output = std::process::Command::new(daemon()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let regtest = dir.path().join("regtest");
    assert_eq!(
        second(&[format!("-datadir={}", dir.path().display()), "-regtest".into(), "-noserver".into()]),
        format!(
            "Error: Cannot obtain a lock on directory {}. Bitcoin Core is probably already running.\n",
            regtest.display()
        )
    );
    assert!(regtest.join(".cookie").exists() && regtest.join("bitcoind.pid").exists());

    let other = tempfile::tempdir().unwrap();
    let error = second(&[
        format!("-datadir={}", other.path().display()),
        "-regtest".into(),
        "-noserver".into(),
        "-printtoconsole=0".into(),
        format!("-bind=127.0.0.1:{}", process::port(1)),
    ]);
    assert!(error.starts_with("Error: Unable to bind to 127.0.0.1:"), "{error}");
    assert!(!other.path().join("regtest/bitcoind.pid").exists());
    assert_eq!(node.rpc.call("getblockcount", &[]).unwrap(), 0);
}

#[test]
fn another_programs_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let chainstate = dir.path().join("regtest/chainstate");
    std::fs::create_dir_all(&chainstate).unwrap();
    std::fs::write(chainstate.join("CURRENT"), "MANIFEST-000001\n").unwrap();
    let output = std::process::Command::new(daemon())
        .args([
            &format!("-datadir={}", dir.path().display()),
            "-regtest",
            "-noserver",
            "-listen=0",
            "-printtoconsole=0",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("holds the database of another Bitcoin node"), "{error}");
    assert_eq!(std::fs::read_to_string(chainstate.join("CURRENT")).unwrap(), "MANIFEST-000001\n");
    assert_eq!(std::fs::read_dir(&chainstate).unwrap().count(), 1);
}

#[test]
fn health_probes_answer_where_they_were_asked_for() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", process::port(2));
    let mut node = start(dir.path(), &[&format!("-webbind={address}")]);
    mine(&mut node, 1);
    node.wait_until("getmempoolinfo", &[], |info| info["loaded"] == true).unwrap();
    let ask = |path: &str, host: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for path in ["/healthz", "/readyz"] {
        let answer = ask(path, &address);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        // A page elsewhere that made its name resolve to loopback gets nothing.
        let answer = ask(path, "example.org");
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    let metrics = ask("/metrics", &address);
    assert!(metrics.contains("\nironpeer_chain_height_blocks 1\n"), "{metrics}");
    assert_eq!(node.stop().unwrap().0.code(), Some(0));
    TcpListener::bind(&address).unwrap();
}

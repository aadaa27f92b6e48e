//! The house as ARCHITECTURE.md draws it, checked against what cargo says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Besides `primitives`, what each room may depend on.
const EDGES: [(&str, &[&str]); 13] = [
    ("primitives", &[]),
    ("script", &[]),
    ("wire", &[]),
    ("consensus", &[]),
    ("store", &[]),
    ("chain", &["consensus", "script", "store"]),
    ("mempool", &["chain", "consensus", "script", "store"]),
    ("sync", &["wire", "consensus"]),
    ("peer", &["sync", "wire", "store", "chain", "mempool"]),
    ("mining", &["consensus", "chain", "mempool"]),
    ("index", &["chain", "mempool", "consensus", "store"]),
    ("api", &["script", "wire", "consensus", "store", "chain", "mempool", "sync", "peer", "mining", "index"]),
    (
        "node",
        &[
            "script",
            "wire",
            "consensus",
            "store",
            "chain",
            "mempool",
            "sync",
            "peer",
            "mining",
            "index",
            "api",
        ],
    ),
];

/// Rooms without a runtime: everything in them can be driven by a test on one thread.
const NO_TOKIO: [&str; 6] = ["primitives", "script", "wire", "consensus", "store", "sync"];

/// Rooms that see bytes from outside, where nothing may panic.
const NO_PANIC: [&str; 7] = ["wire", "sync", "peer", "consensus", "script", "chain", "api"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Room name to the names of its normal dependencies.
fn rooms() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let name = package["name"].as_str().unwrap();
            let room =
                if name == "ironpeer" { "node" } else { name.strip_prefix("ironpeer-").unwrap_or(name) };
            let dependencies = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (room.to_owned(), dependencies)
        })
        .collect()
}

#[test]
fn rooms_depend_only_on_lower_rooms() {
    let rooms = rooms();
    for (room, allowed) in EDGES {
        for dependency in rooms.get(room).unwrap_or_else(|| panic!("room {room} is missing")) {
            let Some(lower) = dependency.strip_prefix("ironpeer-") else { continue };
            assert!(lower == "primitives" || allowed.contains(&lower), "{room} may not depend on {lower}");
        }
    }
    for room in rooms.keys() {
        let known = EDGES.iter().any(|(name, _)| name == room)
            || ["clients", "testkit", "xtask"].contains(&room.as_str());
        assert!(known, "{room} is not in the table of rooms");
    }
}

#[test]
fn pure_rooms_have_no_runtime() {
    let rooms = rooms();
    for room in NO_TOKIO {
        let tokio: Vec<_> = rooms[room].iter().filter(|name| name.starts_with("tokio")).collect();
        assert!(tokio.is_empty(), "{room} depends on {tokio:?}");
    }
}

/// docs/mission.md, row "short locks": held across an await, a lock does not compile.
#[test]
fn short_locks_a_lock_across_await_is_denied_in_every_crate() {
    let workspace = read("Cargo.toml");
    assert!(workspace.contains("await_holding_lock = \"deny\""));
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has lints of its own", path.display());
        for file in sources(&path) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(!text.contains("allow(clippy::await_holding_lock"), "{}", file.display());
        }
    }
}

#[test]
fn rooms_that_see_bytes_from_outside_deny_panics() {
    for room in NO_PANIC {
        let lib = read(&format!("crates/{room}/src/lib.rs"));
        for lint in ["unwrap_used", "expect_used", "panic", "indexing_slicing"] {
            let denied = lib.split("deny(").skip(1).any(|list| {
                list.split(')').next().is_some_and(|lints| lints.contains(&format!("clippy::{lint}")))
            });
            assert!(denied, "{room} does not deny clippy::{lint}");
        }
    }
}

/// Time is injected: only the clock in `primitives`, and code outside the node, may read it.
#[test]
fn rooms_read_no_clock_of_their_own() {
    for room in ["script", "wire", "consensus", "store", "sync", "mempool"] {
        for file in sources(&root().join("crates").join(room)) {
            if file.to_string_lossy().contains("test") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            for call in ["SystemTime::now", "Instant::now"] {
                assert!(!text.contains(call), "{} calls {call}", file.display());
            }
        }
    }
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The text of every Rust file of the repository, tests included.
fn all_code() -> String {
    let mut code = String::new();
    let mut folders: Vec<_> = ["crates", "testkit", "xtask"].map(|folder| root().join(folder)).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    code
}

/// The rows of a page's tables, without their heads.
fn table_rows(page: &str) -> Vec<String> {
    let text = read(page);
    let mut rows = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_head {
            rows.push(line.to_owned());
        }
    }
    rows
}

/// The tests that the last cell of a row names, each of which must be there.
fn tests_named_in<'a>(row: &'a str, code: &str) -> Vec<&'a str> {
    let cell = row.trim_end_matches([' ', '|']).rsplit("| ").next().unwrap();
    let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    for name in &names {
        assert!(code.contains(&format!("fn {name}(")), "no test named {name}, of the row {row}");
    }
    names
}

/// docs/mission.md names for each pattern of concurrency the tests that hold it.
#[test]
fn every_mission_row_names_tests_that_exist() {
    let code = all_code();
    let rows = table_rows("docs/mission.md");
    assert_eq!(rows.len(), 14);
    for row in rows {
        assert!(!tests_named_in(&row, &code).is_empty(), "{row}");
    }
}

/// docs/cases.md names for each known failure the tests that hold it, or says why there are none.
#[test]
fn every_known_failure_has_tests_or_a_reason() {
    let code = all_code();
    let rows = table_rows("docs/cases.md");
    assert!(rows.len() > 70, "{}", rows.len());
    for row in rows {
        let excused = ["| does not apply: ", "| not yet: "].iter().any(|excuse| row.contains(excuse));
        assert!(excused || !tests_named_in(&row, &code).is_empty(), "{row}");
    }
}

/// docs/consensus.md names for each point where implementations go wrong the tests that hold it.
#[test]
fn every_point_of_consensus_has_tests() {
    let code = all_code();
    let rows = table_rows("docs/consensus.md");
    assert!(rows.len() >= 60, "{}", rows.len());
    for row in rows {
        assert!(!tests_named_in(&row, &code).is_empty(), "{row}");
    }
}

/// A reject reason is reached by the differential run or stands in docs/consensus.md's last table.
#[test]
fn every_reject_reason_is_reached_or_listed() {
    const FIRST: [&str; 9] =
        ["bad", "block", "duplicate", "high", "inconclusive", "prev", "time", "too", "unexpected"];
    let reached = read("crates/chain/tests/differential.rs");
    let listed = read("docs/consensus.md");
    let mut reasons = std::collections::BTreeSet::new();
    for room in ["consensus", "chain"] {
        for file in sources(&root().join("crates").join(room)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for literal in text.split('"') {
                let end = literal.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                let word = &literal[..end.unwrap_or(literal.len())];
                if word.split_once('-').is_some_and(|(first, _)| FIRST.contains(&first)) {
                    reasons.insert(word.to_owned());
                }
            }
        }
    }
    assert!(reasons.len() > 35, "{reasons:?}");
    for reason in reasons {
        let found = [format!("\"{reason}\""), format!("\"{reason}(")].iter().any(|at| reached.contains(at));
        assert!(found || listed.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

//! The daemon that the clients call, and coins for them to move.

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs};

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Network, OutPoint, PrivateKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use ironpeer_testkit::{NodeProcess, Owned, ScriptKind, Signer, port};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What every transaction here leaves to the miner.
pub const FEE: Amount = Amount::from_sat(2_000);

/// The daemon of this build. It belongs to another package, so cargo names no path of it here.
fn program() -> PathBuf {
    let this = env::current_exe().unwrap();
    let folder = this.parent().and_then(Path::parent).unwrap();
    let daemon = folder.join("ironpeer");
    let how = "build it first: cargo build -p ironpeer --bins";
    let built = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let of_daemon: SystemTime = built(&daemon).unwrap_or_else(|_| panic!("no daemon; {how}"));
    // An old daemon would answer for the code that a reader sees.
    for source in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates")) {
        let newer = built(&source).is_ok_and(|of_source| of_source > of_daemon);
        assert!(!newer, "the daemon is older than {}; {how}", source.display());
    }
    daemon
}

/// What the daemon is made of, below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_source = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".rs") && !name.ends_with("_tests.rs")
    };
    let below = folders.iter().filter(|folder| !folder.ends_with("tests")).flat_map(|folder| sources(folder));
    files.into_iter().filter(is_source).chain(below).collect()
}

/// A daemon on regtest in a folder of its own.
pub struct Node {
    pub process: NodeProcess,
    pub folder: TempDir,
    rpc: u16,
    peers: u16,
}

impl Node {
    /// Starts it on the `index`th pair of this test's ports.
    pub fn start(index: u16, more: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (rpc, peers) = (port(2 * index), port(2 * index + 1));
        let mut args: Vec<String> =
            ["-regtest", "-dnsseed=0", "-fixedseeds=0", "-listenonion=0"].map(str::to_owned).into();
        args.push(format!("-bind=127.0.0.1:{peers}"));
        args.extend_from_slice(more);
        let process = NodeProcess::start(&program(), folder.path(), "regtest", rpc, &args).unwrap();
        Self { process, folder, rpc, peers }
    }

    /// Waits for the indexes it was started with.
    pub fn wait_for_indexes(&mut self) {
        let all_synced = |info: &Value| {
            let indexes = info.as_object().unwrap();
            assert!(!indexes.is_empty());
            indexes.values().all(|index| index["synced"] == json!(true))
        };
        self.process.wait_until("getindexinfo", &[], all_synced).unwrap();
    }

    pub fn rpc_port(&self) -> u16 {
        self.rpc
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc)
    }

    /// Where peers reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.peers)
    }

    pub fn cookie_file(&self) -> PathBuf {
        self.folder.path().join("regtest/.cookie")
    }
}

pub fn address(script: &ScriptBuf) -> Address {
    Address::from_script(script, Network::Regtest).unwrap()
}

/// An output of ours and where it is.
#[derive(Clone)]
pub struct Coin {
    pub at: OutPoint,
    pub owned: Owned,
}

impl Coin {
    /// Output `vout` of `tx`, locked with `key` in the way of `kind`.
    pub fn of(tx: &Transaction, vout: u32, kind: ScriptKind, key: u32) -> Self {
        let output = tx.output[vout as usize].clone();
        Self { at: OutPoint::new(tx.compute_txid(), vout), owned: Owned { output, kind, key } }
    }
}

/// Spends `coins` to `outputs`, not signed yet.
pub fn unsigned(coins: &[Coin], outputs: Vec<TxOut>) -> Transaction {
    let input = |coin: &Coin| TxIn {
        previous_output: coin.at,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: outputs,
    }
}

/// Spends `coins` to `outputs`.
pub fn spend(signer: &Signer, coins: &[Coin], outputs: Vec<TxOut>) -> Transaction {
    let mut tx = unsigned(coins, outputs);
    let spent: Vec<Owned> = coins.iter().map(|coin| coin.owned.clone()).collect();
    signer.sign(&mut tx, &spent);
    tx
}

/// Spends a coin to one output of the same kind and key.
pub fn pass_on(signer: &Signer, coin: &Coin, fee: Amount) -> Transaction {
    let mut output = coin.owned.output.clone();
    output.value -= fee;
    spend(signer, std::slice::from_ref(coin), vec![output])
}

/// A key in the form that wallets exchange.
pub fn private_key(signer: &Signer, key: u32) -> PrivateKey {
    PrivateKey::new(signer.secret(key), Network::Regtest)
}

//! What a transaction costs that is refused: reads of coins, and runs of the script engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::hashes::Hash as _;
use bitcoin::script::PushBytesBuf;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Txid, Witness, Work};
use ironpeer_chain::ChainView;
use ironpeer_consensus::{ScriptFailure, TxScriptCheck};
use ironpeer_mempool::limits::{COINS_GROWTH, FIRST_COINS, KNOWN_OUTPUT_LOOKUPS, MAX_TX_LEGACY_SIGOPS};
use ironpeer_mempool::{ChainSource, Config, MempoolHandle, SubmitTx, TxChecker};
use ironpeer_primitives::{ChainRead, Coin, HeaderInfo, Height, NullLog, TxClass};
use parking_lot::Mutex;

use crate::support::{Node, Tx, cache};

const COIN: u64 = 1_000_000;

/// The chain, remembering every coin it was asked for.
struct Counting {
    view: ChainView,
    asked: Mutex<Vec<OutPoint>>,
}

impl ChainSource for Counting {
    fn coins(&self, outpoints: &[OutPoint]) -> (BlockHash, Vec<Option<Coin>>) {
        self.asked.lock().extend(outpoints);
        self.view.coins(outpoints)
    }

    fn block(&self, hash: &BlockHash) -> Option<Arc<Block>> {
        self.view.block(hash).ok()
    }
}

impl ChainRead for Counting {
    fn tip(&self) -> HeaderInfo {
        self.view.tip()
    }

    fn best_header(&self) -> HeaderInfo {
        self.view.best_header()
    }

    fn header(&self, hash: &BlockHash) -> Option<HeaderInfo> {
        self.view.header(hash)
    }

    fn active_at(&self, height: Height) -> Option<HeaderInfo> {
        self.view.active_at(height)
    }

    fn ancestor(&self, of: &BlockHash, height: Height) -> Option<HeaderInfo> {
        self.view.ancestor(of, height)
    }

    fn locator(&self, from: &BlockHash) -> Vec<BlockHash> {
        self.view.locator(from)
    }

    fn find_fork(&self, locator: &[BlockHash]) -> HeaderInfo {
        self.view.find_fork(locator)
    }

    fn is_initial_block_download(&self) -> bool {
        self.view.is_initial_block_download()
    }

    fn minimum_chainwork(&self) -> Work {
        self.view.minimum_chainwork()
    }
}

fn nowhere(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 }
}

async fn counted(count: usize) -> (Node, Vec<OutPoint>, MempoolHandle, Arc<Counting>) {
    let (node, coins) = Node::funded(Config::default(), count, COIN).await;
    let counting = Arc::new(Counting { view: node.chain.view(), asked: Mutex::default() });
    let mempool = node.mempool_on(Arc::clone(&counting) as Arc<dyn ChainSource>);
    (node, coins, mempool, counting)
}

#[tokio::test]
async fn cve_2013_2293_behind_a_missing_coin_nothing_is_read() {
    let (_node, coins, mempool, counting) = counted(120).await;
    let submit = async |tx: &Tx| mempool.submit_tx(Arc::new(tx.0.clone()), SubmitTx::default()).await;
    let asked = || std::mem::take(&mut *counting.asked.lock());
    let with_missing_at = |place: usize| {
        let mut inputs = coins.clone();
        inputs.insert(place, nowhere(9));
        // More outputs than are looked up to see whether it is in the chain already.
        (0..2 * KNOWN_OUTPUT_LOOKUPS).fold(Tx::spending(inputs), |tx, _| tx.pay(COIN))
    };
    for place in [0, 1, 2, 5, 20, 21, 84, 85, 120] {
        let tx = with_missing_at(place);
        let reject = submit(&tx).await.unwrap_err();
        assert_eq!(reject.class, TxClass::MissingInputs);
        let (own, inputs): (Vec<_>, Vec<_>) = asked().into_iter().partition(|out| out.txid == tx.txid());
        assert_eq!(own.len(), KNOWN_OUTPUT_LOOKUPS);
        // In order and each once; beyond the missing one no further than its part.
        let spent: Vec<_> = tx.0.input.iter().map(|input| input.previous_output).collect();
        assert_eq!(inputs, spent[..inputs.len()]);
        assert!(inputs.len() > place && inputs.len() <= FIRST_COINS + (COINS_GROWTH + 1) * place, "{place}");
    }
    // A package ends with its first missing coin, too.
    let parent = with_missing_at(0);
    let child = Tx::spending([parent.out(0)]).pay(1_000);
    let package = [&parent, &child].map(|tx| Arc::new(tx.0.clone()));
    assert!(mempool.test_package(package.to_vec()).await.error.is_some());
    assert_eq!(asked(), [nowhere(9)]);
    // All there: each is read once.
    let good = Tx::spending(coins.clone()).pay(COIN);
    submit(&good).await.unwrap();
    assert_eq!(asked(), coins);
    // What is refused for itself, or is here, reads nothing.
    assert!(submit(&Tx::spending(coins.clone()).pay(COIN).version(9)).await.is_err());
    assert!(submit(&good).await.is_err());
    assert!(asked().is_empty());
}

/// The kernel, counting how often it is asked.
#[derive(Default)]
struct Runs(AtomicUsize);

impl TxChecker for Runs {
    fn check(&self, check: &TxScriptCheck) -> Result<(), ScriptFailure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        cache().check(check)
    }
}

/// A script of signature checks alone, which fails at the first.
fn checks(count: usize) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0xac; count])
}

/// Spoils the scripts of all inputs.
fn spoiled(mut tx: Tx) -> Tx {
    for input in &mut tx.0.input {
        input.witness = Witness::from_slice(&[[0x52]]);
    }
    tx
}

#[tokio::test]
async fn cve_2025_46598_no_script_runs_for_what_is_refused_without() {
    let runs = Arc::new(Runs::default());
    let mut node = Node::build(Config::default(), Arc::clone(&runs) as _, Arc::new(NullLog));
    let coins = node.fund(4, 10 * COIN).await;
    let (p2sh, p2wsh) = (checks(15), checks(3_300));
    let legacy = MAX_TX_LEGACY_SIGOPS as usize / 15 + 1;
    let fan = (0..legacy).fold(Tx::spending([coins[0]]), |tx, _| tx.pay_to(p2sh.to_p2sh(), 10_000));
    let wide = (0..5).fold(Tx::spending([coins[1]]), |tx, _| tx.pay_to(p2wsh.to_p2wsh(), COIN));
    node.mine(vec![fan.0.clone(), wide.0.clone()]).await;
    let rival = Tx::spending([coins[2]]).pay(10 * COIN - 10_000);
    node.accept(&rival).await;
    assert_eq!(runs.0.swap(0, Ordering::Relaxed), 1);

    let of = |tx: &Tx, count: usize| (0..count).map(|at| tx.out(at as u32)).collect::<Vec<_>>();
    let mut too_many_legacy = Tx::spending(of(&fan, legacy)).pay(1_000);
    for input in &mut too_many_legacy.0.input {
        input.witness = Witness::new();
        let redeem = PushBytesBuf::try_from(p2sh.to_bytes()).unwrap();
        input.script_sig = bitcoin::script::Builder::new().push_slice(redeem).into_script();
    }
    let mut too_many = Tx::spending(of(&wide, 5)).pay(COIN);
    for input in &mut too_many.0.input {
        input.witness = Witness::from_slice(&[p2wsh.to_bytes()]);
    }
    // Every script of these fails; none of them is what they are refused for.
    let free = coins[3];
    for (tx, reason) in [
        (spoiled(Tx::spending([free]).pay(COIN).version(9)), "version"),
        (spoiled(Tx::spending([free]).pay(COIN).padded(100_000)), "tx-size"),
        (spoiled(Tx::spending([free]).pay(10 * COIN + 1)), "bad-txns-in-belowout"),
        (spoiled(Tx::spending([free]).pay(10 * COIN)), "min relay fee not met"),
        (spoiled(Tx::spending([free]).pay(COIN).lock_time(10_000).sequence(0)), "non-final"),
        (spoiled(Tx::spending([free]).pay(COIN).sequence(10_000)), "non-BIP68-final"),
        (spoiled(Tx::spending([free, nowhere(3)]).pay(COIN)), "bad-txns-inputs-missingorspent"),
        (spoiled(Tx::spending([coins[2]]).pay(10 * COIN - 10_001)), "insufficient fee"),
        (too_many_legacy, "bad-txns-nonstandard-inputs"),
        (too_many, "bad-txns-too-many-sigops"),
    ] {
        let (_, text) = node.refuse(&tx).await;
        assert!(text.starts_with(reason), "{text} for {reason}");
    }
    assert_eq!(runs.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn cve_2025_46598_the_first_script_that_fails_is_the_last_that_runs() {
    let runs = Arc::new(Runs::default());
    let mut node = Node::build(Config::default(), Arc::clone(&runs) as _, Arc::new(NullLog));
    let coins = node.fund(50, COIN).await;
    // Input 7 fails in one way, those after it in another.
    let mut tx = Tx::spending(coins).pay(COIN);
    for input in &mut tx.0.input[8..] {
        input.witness = Witness::from_slice(&[[0x52]]);
    }
    tx.0.input[7].witness = Witness::from_slice(&[vec![1], vec![0x51]]);
    let (class, text) = node.refuse(&tx).await;
    assert_eq!(class, TxClass::NotStandard);
    assert!(text.starts_with("mempool-script-verify-flag-failed (Stack size must be exactly one"), "{text}");
    assert!(text.contains(", input 7 of "), "{text}");
    assert_eq!(runs.0.load(Ordering::Relaxed), 0);
    // Taken, a transaction goes to the kernel once.
    for input in &mut tx.0.input {
        input.witness = Witness::from_slice(&[[0x51]]);
    }
    node.accept(&tx).await;
    assert_eq!(runs.0.load(Ordering::Relaxed), 1);
}

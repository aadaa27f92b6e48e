//! A chain, a mempool on it, and transactions anyone can make.

use std::path::Path;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::script::PushBytesBuf;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use ironpeer_chain::{Chain, ChainFollower, ChainHandle, ChainThread, Followed, SubmitOptions};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_mempool::{Accepted, ChainSource, Config, MempoolHandle, Parts, SubmitTx, TxChecker};
use ironpeer_primitives::{ChainRead as _, Clock, FixedClock, LogSink, NullLog, TxClass, TxReject};
use ironpeer_store::{Disk as _, MemDisk};
use ironpeer_testkit::consensus::{block_on, seal};

/// 2026-01-01, well after every block here.
pub const NOW: i64 = 1_767_225_600;

/// A script anyone can spend: P2WSH of `OP_TRUE`.
pub fn anyone() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51]).to_p2wsh()
}

fn anyone_witness() -> Witness {
    Witness::from_slice(&[[0x51]])
}

/// A transaction being put together.
#[derive(Clone)]
pub struct Tx(pub Transaction);

impl Tx {
    /// Spends outpoints that anyone can spend.
    pub fn spending(outpoints: impl IntoIterator<Item = OutPoint>) -> Self {
        let input = |previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: anyone_witness(),
        };
        Self(Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: outpoints.into_iter().map(input).collect(),
            output: Vec::new(),
        })
    }

    /// Another output anyone can spend.
    pub fn pay(self, sats: u64) -> Self {
        self.pay_to(anyone(), sats)
    }

    pub fn pay_to(mut self, script_pubkey: ScriptBuf, sats: u64) -> Self {
        self.0.output.push(TxOut { value: Amount::from_sat(sats), script_pubkey });
        self
    }

    /// An output that carries `bytes` bytes, to make the transaction large.
    pub fn padded(self, bytes: usize) -> Self {
        let push = PushBytesBuf::try_from(vec![0; bytes]).unwrap();
        self.pay_to(ScriptBuf::new_op_return(push), 0)
    }

    pub fn version(mut self, version: i32) -> Self {
        self.0.version = Version(version);
        self
    }

    pub fn sequence(mut self, sequence: u32) -> Self {
        for input in &mut self.0.input {
            input.sequence = Sequence(sequence);
        }
        self
    }

    pub fn lock_time(mut self, lock_time: u32) -> Self {
        self.0.lock_time = LockTime::from_consensus(lock_time);
        self
    }

    pub fn txid(&self) -> Txid {
        self.0.compute_txid()
    }

    pub fn out(&self, vout: u32) -> OutPoint {
        OutPoint { txid: self.txid(), vout }
    }

    pub fn vsize(&self) -> u64 {
        self.0.weight().to_vbytes_ceil()
    }
}

/// The node's heart without its limbs.
pub struct Node {
    pub chain: ChainHandle,
    pub mempool: MempoolHandle,
    pub clock: Arc<FixedClock>,
    pub params: Arc<Params>,
    pub disk: Arc<MemDisk>,
    parts: Parts,
    follower: ChainFollower,
    thread: Option<ChainThread>,
    blocks: u32,
}

pub fn cache() -> Arc<ScriptCache> {
    Arc::new(ScriptCache::new(1 << 20, [7; 32]))
}

impl Node {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        Self::with_checker(config, cache())
    }

    pub fn with_checker(config: Config, checker: Arc<dyn TxChecker>) -> Self {
        Self::build(config, checker, Arc::new(NullLog))
    }

    pub fn with_log(config: Config, log: Arc<dyn LogSink>) -> Self {
        Self::build(config, cache(), log)
    }

    pub fn build(config: Config, checker: Arc<dyn TxChecker>, log: Arc<dyn LogSink>) -> Self {
        let clock = Arc::new(FixedClock::at(NOW));
        let params = Arc::new(Params::regtest(RegtestOptions::default()));
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
        let (chain, thread) = Chain::open(
            ironpeer_chain::Config::in_memory(Arc::clone(&params)),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(NullLog),
            Arc::clone(&pool),
            cache(),
        )
        .unwrap();
        let disk = Arc::new(MemDisk::new());
        disk.create_dir_all(Path::new("/")).unwrap();
        let parts = Parts {
            config,
            params: Arc::clone(&params),
            chain: Arc::new(chain.view()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            log,
            pool,
            checker,
            disk: Arc::clone(&disk) as Arc<dyn ironpeer_store::Disk>,
        };
        let (mempool, follower) = MempoolHandle::on_chain(parts.clone(), &chain);
        Self { chain, mempool, clock, params, disk, parts, follower, thread: Some(thread), blocks: 0 }
    }

    /// An empty mempool on the same chain, as after a restart.
    pub fn restarted_mempool(&self) -> MempoolHandle {
        MempoolHandle::on_chain(self.parts.clone(), &self.chain).0
    }

    /// An empty mempool with other options on the same chain.
    pub fn other_mempool(&self, config: Config) -> MempoolHandle {
        MempoolHandle::on_chain(Parts { config, ..self.parts.clone() }, &self.chain).0
    }

    /// An empty mempool that reads the same chain through `chain`.
    pub fn mempool_on(&self, chain: Arc<dyn ChainSource>) -> MempoolHandle {
        let (tip, seq) = self.chain.view().tip_and_seq();
        MempoolHandle::new(Parts { chain, ..self.parts.clone() }, tip, seq)
    }

    /// A node with `count` confirmed outputs of `sats` each that anyone can spend.
    pub async fn funded(config: Config, count: usize, sats: u64) -> (Self, Vec<OutPoint>) {
        let mut node = Self::with(config);
        let coins = node.fund(count, sats).await;
        (node, coins)
    }

    pub async fn fund(&mut self, count: usize, sats: u64) -> Vec<OutPoint> {
        let source = self.mine(Vec::new()).await;
        for _ in 0..100 {
            self.mine(Vec::new()).await;
        }
        let coinbase = OutPoint { txid: source.txdata[0].compute_txid(), vout: 0 };
        let fan = (0..count).fold(Tx::spending([coinbase]), |tx, _| tx.pay(sats));
        self.mine(vec![fan.0.clone()]).await;
        (0..count).map(|vout| fan.out(u32::try_from(vout).unwrap())).collect()
    }

    /// Hands the mempool every tip change there is.
    pub async fn follow(&mut self) {
        while let Some(followed) = self.follower.try_next() {
            match followed {
                Followed::Event(event) => self.mempool.apply(event).await,
                Followed::Lagged { seq, tip } => self.mempool.catch_up(tip, seq).await,
                Followed::Closed => break,
            }
        }
    }

    /// A block on the tip with these transactions; its fees are left uncollected.
    pub fn block(&mut self, txs: Vec<Transaction>) -> Block {
        self.blocks += 1;
        let view = self.chain.view();
        let parent = view.ancestry(&view.tip().hash).unwrap();
        let mut block = block_on(&parent, &self.params, anyone(), Amount::ZERO, txs, self.blocks);
        seal(&mut block, &self.params);
        block
    }

    /// Submits a block without telling the mempool.
    pub async fn connect(&mut self, txs: Vec<Transaction>) -> Block {
        let block = self.block(txs);
        let outcome = self.chain.submit_block(Arc::new(block.clone()), SubmitOptions::WANTED).await.unwrap();
        assert_eq!(outcome.result, Ok(()));
        block
    }

    pub async fn mine(&mut self, txs: Vec<Transaction>) -> Block {
        let block = self.connect(txs).await;
        self.follow().await;
        block
    }

    pub async fn submit(&self, tx: &Tx) -> Result<Accepted, TxReject> {
        self.mempool.submit_tx(Arc::new(tx.0.clone()), SubmitTx::default()).await
    }

    /// Submits what must be taken.
    pub async fn accept(&self, tx: &Tx) -> Accepted {
        self.submit(tx).await.unwrap_or_else(|reject| panic!("{reject}: {:?}", tx.0))
    }

    /// Submits what must be refused, and says how.
    pub async fn refuse(&self, tx: &Tx) -> (TxClass, String) {
        let reject = self.submit(tx).await.unwrap_err();
        (reject.class, reject.to_string())
    }

    pub fn has(&self, tx: &Tx) -> bool {
        self.mempool.tx(&tx.txid()).is_some()
    }

    pub fn path() -> &'static Path {
        Path::new("/mempool.dat")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It may have stopped already.
            let _ = self.chain.shutdown_blocking();
            thread.join();
        }
    }
}

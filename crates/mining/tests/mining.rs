//! The miner on a real chain and a real mempool, both in memory.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxOut,
    Witness, absolute, transaction,
};
use ironpeer_chain::{Chain, ChainHandle, ChainThread, SubmitOptions};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_mempool::{MempoolHandle, SubmitTx};
use ironpeer_mining::{
    AutoMine, Config, MiningError, MiningHandle, Parts, SearchEnd, SearchOutcome, Template, TemplateSource,
    Tries, Work, anyone_can_spend,
};
use ironpeer_primitives::{ChainRead, Clock, FixedClock, Height, NullLog};
use ironpeer_store::MemDisk;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Long enough for any step on a busy machine; a test that waits for it has failed.
const HANG: Duration = Duration::from_secs(60);

struct Node {
    params: Arc<Params>,
    chain: ChainHandle,
    thread: Option<ChainThread>,
    mempool: MempoolHandle,
    mining: MiningHandle,
    clock: Arc<FixedClock>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    fn start(params: Params, config: Config) -> Self {
        let params = Arc::new(params);
        let clock = Arc::new(FixedClock::at(i64::from(params.genesis.header.time) + 600));
        let log = Arc::new(NullLog);
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let cache = Arc::new(ScriptCache::new(1 << 20, [1; 32]));
        let (chain, thread) = Chain::open(
            ironpeer_chain::Config::in_memory(Arc::clone(&params)),
            Arc::clone(&clock) as Arc<dyn Clock>,
            log.clone(),
            Arc::clone(&pool),
            Arc::clone(&cache),
        )
        .unwrap();
        let parts = ironpeer_mempool::Parts {
            config: ironpeer_mempool::Config {
                require_standard: false,
                ..ironpeer_mempool::Config::default()
            },
            params: Arc::clone(&params),
            chain: Arc::new(chain.view()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            log: log.clone(),
            pool,
            checker: cache,
            disk: Arc::new(MemDisk::new()),
        };
        let (mempool, follower) = MempoolHandle::on_chain(parts, &chain);
        let following = mempool.clone();
        tokio::spawn(async move { following.follow(follower).await });
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mining = MiningHandle::new(Parts {
            config,
            params: Arc::clone(&params),
            chain: chain.clone(),
            mempool: mempool.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            log,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        });
        Self { params, chain, thread: Some(thread), mempool, mining, clock, shutdown, tasks }
    }

    fn regtest() -> Self {
        Self::start(Params::regtest(RegtestOptions::default()), Config::default())
    }

    /// A network whose blocks cannot be found unless they come twenty minutes after their parent
    /// (testnet's rule), when any hash will do. The clock, which stands still, says which.
    fn hard() -> Self {
        let mut params = Params::regtest(RegtestOptions::default());
        params.no_retargeting = false;
        params.genesis.header.bits = CompactTarget::from_consensus(0x0301_0000);
        params.genesis_hash = params.genesis.block_hash();
        Self::start(params, Config::default())
    }

    fn height(&self) -> Height {
        self.chain.view().tip().height
    }

    /// A block by someone else on our tip, easy because of its time.
    fn competing_block(&self) -> Block {
        let view = self.chain.view();
        let parent = view.tip();
        let chain = view.ancestry(&parent.hash).unwrap();
        let mut template = Template::assemble(&TemplateSource {
            params: &self.params,
            config: &Config::default(),
            parent,
            chain: &chain,
            version: 0x2000_0000,
            now: i64::from(parent.header.time) + 1_201,
            coinbase_script: &ScriptBuf::from_bytes(vec![0x52]),
            chunks: &[],
            transactions_updated: 0,
        })
        .unwrap();
        let work = Work::new(&template.block.header).unwrap();
        let SearchEnd::Found(nonce) = work.search(0, u32::MAX, &Tries::new(u64::MAX), || false) else {
            panic!("an easy block was not found");
        };
        template.block.header.nonce = nonce;
        template.block
    }

    async fn submit(&self, block: Block) -> BlockHash {
        let outcome = self.chain.submit_block(Arc::new(block), SubmitOptions::WANTED).await.unwrap();
        outcome.result.unwrap();
        outcome.hash
    }

    /// Lets other tasks run until this holds.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HANG, wait).await.expect("it never came to be");
    }

    /// Spends the coinbase of the block at `height`, with this fee.
    fn spend(&self, height: u32, fee: u64) -> Transaction {
        let view = self.chain.view();
        let block = view.block(&view.active_at(Height(height)).unwrap().hash).unwrap();
        let coinbase = &block.txdata[0];
        let half = (coinbase.output[0].value - Amount::from_sat(fee)) / 2;
        let output = TxOut { value: half, script_pubkey: anyone_can_spend() };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid: coinbase.compute_txid(), vout: 0 },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![output.clone(), output],
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.tasks.close();
        tokio::time::timeout(HANG, self.tasks.wait()).await.expect("tasks end after a stop");
        self.chain.shutdown().await.unwrap();
        if let Some(thread) = self.thread.take() {
            tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn generate_mines_one_on_the_other_and_returns_with_all_rooms_in_step() {
    let node = Node::regtest();
    let hashes = node.mining.generate(5, anyone_can_spend(), 1_000_000).await.unwrap();
    let view = node.chain.view();
    for (height, hash) in (1..).zip(&hashes) {
        assert_eq!(view.active_at(Height(height)).unwrap().hash, *hash);
    }
    assert_eq!((hashes.len(), node.mempool.view().tip.hash), (5, hashes[4]));
    assert_eq!(node.mining.generate(3, anyone_can_spend(), 0).await.unwrap(), []);
    assert_eq!(node.mining.stats().found, 5);
    node.stop().await;
}

#[tokio::test]
async fn hashes_run_out_after_max_tries() {
    let node = Node::hard();
    assert_eq!(node.mining.generate(1, anyone_can_spend(), 10_000).await.unwrap(), []);
    assert_eq!(node.mining.stats().hashes, 10_000);
    assert!(!node.mining.is_searching());
    node.stop().await;
}

#[tokio::test]
async fn mining_guard_a_second_start_fails_at_once_and_generate_waits_its_turn() {
    let node = Node::hard();
    let first = node.mining.start_search(anyone_can_spend()).unwrap();
    let refused = node.mining.start_search(anyone_can_spend()).err().unwrap();
    assert_eq!(refused.to_string(), "a block search is already running");

    let mining = node.mining.clone();
    let generate = tokio::spawn(async move { mining.generate(1, anyone_can_spend(), u64::MAX).await });
    node.until(|node| node.mining.stats().searches == 1).await;
    // From here on templates are easy; only the running one is not.
    node.clock.advance(Duration::from_secs(1_200));
    assert!(!generate.is_finished());
    first.cancel();
    assert_eq!(first.outcome().await, Ok(SearchOutcome::Cancelled));
    assert_eq!(generate.await.unwrap().unwrap().len(), 1);
    drop(node.mining.start_search(anyone_can_spend()).unwrap());
    node.stop().await;
}

#[tokio::test]
async fn cancellable_proof_of_work_a_competing_block_stops_the_search() {
    let node = Node::hard();
    let search = node.mining.start_search(anyone_can_spend()).unwrap();
    node.until(|node| node.mining.stats().searches == 1).await;
    node.submit(node.competing_block()).await;
    let outcome = tokio::time::timeout(HANG, search.outcome()).await.unwrap();
    assert_eq!(outcome, Ok(SearchOutcome::Overtaken));
    assert_eq!(node.mining.stats().overtaken, 1);
    assert!(!node.mining.is_searching());
    node.stop().await;
}

#[tokio::test]
async fn cancellable_proof_of_work_generate_builds_again_on_the_new_tip() {
    let node = Node::hard();
    let mining = node.mining.clone();
    let generate = tokio::spawn(async move { mining.generate(1, anyone_can_spend(), u64::MAX).await });
    node.until(|node| node.mining.stats().searches == 1).await;
    let competing = node.competing_block();
    // A block on theirs will be easy by now; the one searched for still is not.
    node.clock.advance(Duration::from_secs(3_600));
    let theirs = node.submit(competing).await;
    let mined = tokio::time::timeout(HANG, generate).await.unwrap().unwrap().unwrap();
    let ours = node.chain.view().header(&mined[0]).unwrap();
    assert_eq!((mined.len(), ours.height, ours.header.prev_blockhash), (1, Height(2), theirs));
    node.stop().await;
}

#[tokio::test]
async fn no_cancel_after_creation_the_caller_goes_away_and_the_node_stops() {
    let node = Node::regtest();
    {
        let call = node.mining.generate(1, anyone_can_spend(), u64::MAX);
        tokio::pin!(call);
        // One poll hands the work over; then the caller is gone.
        tokio::select! { biased; _ = &mut call => panic!("mined within one poll"), () = std::future::ready(()) => {} }
    }
    node.until(|node| node.mining.stats().found == 1).await;
    node.shutdown.cancel();
    node.tasks.close();
    tokio::time::timeout(HANG, node.tasks.wait()).await.unwrap();
    assert_eq!(node.height(), Height(1), "the found block was submitted");
    assert_eq!(node.mempool.view().tip.height, Height(1));
    node.stop().await;
}

#[tokio::test]
async fn a_stop_ends_every_search() {
    let node = Node::hard();
    let search = node.mining.start_search(anyone_can_spend()).unwrap();
    let mining = node.mining.clone();
    let waiting = tokio::spawn(async move { mining.generate(1, anyone_can_spend(), u64::MAX).await });
    node.until(|node| node.mining.stats().searches == 1).await;
    node.shutdown.cancel();
    let outcome = tokio::time::timeout(HANG, search.outcome()).await.unwrap();
    assert_eq!(outcome, Ok(SearchOutcome::Cancelled));
    assert_eq!(tokio::time::timeout(HANG, waiting).await.unwrap().unwrap(), Ok(vec![]));
    node.stop().await;
}

#[tokio::test]
async fn templates_take_the_mempools_transactions_and_their_fees() {
    let node = Node::regtest();
    node.mining.generate(103, anyone_can_spend(), u64::MAX).await.unwrap();
    let (empty, _) = node.mining.block_template().await.unwrap();
    for (height, fee) in [(1, 1_000), (2, 5_000)] {
        node.mempool.submit_tx(Arc::new(node.spend(height, fee)), SubmitTx::default()).await.unwrap();
    }
    let (cached, _) = node.mining.block_template().await.unwrap();
    assert_eq!(cached.txids, empty.txids, "five seconds are not over");
    node.clock.advance(Duration::from_secs(6));
    let (template, header) = node.mining.block_template().await.unwrap();
    assert_eq!(template.fees, [Amount::from_sat(5_000), Amount::from_sat(1_000)], "best feerate first");
    assert_eq!(i64::from(header.time), node.clock.unix().max(template.min_time));
    assert_eq!(node.mining.last_template().unwrap().txs, 2);

    node.mining.generate(1, anyone_can_spend(), u64::MAX).await.unwrap();
    assert_eq!(node.mempool.view().count, 0);
    let view = node.chain.view();
    let block = view.block(&view.tip().hash).unwrap();
    assert_eq!(block.txdata.len(), 3);
    assert_eq!(block.txdata[0].output[0].value, template.reward());
    node.stop().await;
}

#[tokio::test]
async fn generateblock_takes_exactly_the_given_transactions() {
    let node = Node::regtest();
    node.mining.generate(102, anyone_can_spend(), u64::MAX).await.unwrap();
    let tx = node.spend(1, 1_000);
    let block = |txs, submit| node.mining.generate_block(txs, anyone_can_spend(), 1_000_000, submit);
    let kept = block(vec![tx.clone()], false).await.unwrap().unwrap();
    assert_eq!(&kept.txdata[1..], std::slice::from_ref(&tx));
    assert_eq!(node.height(), Height(102), "it was not submitted");
    let twice = block(vec![tx.clone(), tx.clone()], true).await.unwrap_err();
    assert!(matches!(&twice, MiningError::InvalidTemplate(_)), "{twice}");
    assert!(twice.to_string().starts_with("TestBlockValidity failed: bad-txns"), "{twice}");
    block(vec![tx], true).await.unwrap().unwrap();
    assert_eq!(node.height(), Height(103));
    node.stop().await;
}

#[tokio::test]
async fn a_long_poll_ends_with_the_tip() {
    let node = Node::regtest();
    let tip = node.chain.view().tip().hash;
    let (mining, poll) = (node.mining.clone(), node.mining.clone());
    let poll = tokio::spawn(async move { poll.template_outdated(tip, 0).await });
    tokio::task::yield_now().await;
    assert!(!poll.is_finished());
    mining.generate(1, anyone_can_spend(), u64::MAX).await.unwrap();
    tokio::time::timeout(HANG, poll).await.unwrap().unwrap();
    let other = BlockHash::all_zeros();
    tokio::time::timeout(HANG, mining.template_outdated(other, 0)).await.expect("another tip: at once");
    node.stop().await;
}

#[tokio::test]
async fn mining_trigger_every_transaction_is_mined_by_itself() {
    let node = Node::regtest();
    node.mining.generate(103, anyone_can_spend(), u64::MAX).await.unwrap();
    let auto = node.mining.clone();
    node.tasks.spawn(async move { auto.auto_mine(AutoMine::EVERY_TX, anyone_can_spend()).await });
    for height in [1, 2] {
        node.mempool.submit_tx(Arc::new(node.spend(height, 1_000)), SubmitTx::default()).await.unwrap();
        node.until(|node| node.height() == Height(103 + height) && node.mempool.view().count == 0).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn mining_trigger_interval_mines_without_transactions() {
    let node = Node::regtest();
    let auto = node.mining.clone();
    let every = AutoMine::Interval(Duration::from_millis(5));
    node.tasks.spawn(async move { auto.auto_mine(every, anyone_can_spend()).await });
    node.until(|node| node.height() >= Height(3)).await;
    node.stop().await;
}

#[tokio::test]
async fn a_signet_with_a_trivial_challenge_can_be_mined() {
    let mut params = Params::signet(Some(anyone_can_spend()));
    // The real limit takes millions of hashes.
    params.pow_limit = Target::MAX_ATTAINABLE_REGTEST;
    params.no_retargeting = true;
    params.genesis.header.bits = params.pow_limit.to_compact_lossy();
    params.genesis_hash = params.genesis.block_hash();
    let node = Node::start(params, Config::default());
    assert_eq!(node.mining.generate(2, anyone_can_spend(), 1_000_000).await.unwrap().len(), 2);
    node.stop().await;
}

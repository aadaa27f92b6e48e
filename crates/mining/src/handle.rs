use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, ScriptBuf, Transaction};
use ironpeer_chain::{ChainHandle, ChainStopped, Followed, SubmitOptions};
use ironpeer_consensus::Params;
use ironpeer_consensus::versionbits::VersionBits;
use ironpeer_mempool::MempoolHandle;
use ironpeer_primitives::{
    BlockReject, ChainRead, Clock, HeaderInfo, LogCategory, LogLine, LogSink, UnixTime,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, anyone_can_spend};
use crate::guard::{MiningBusy, MiningGuard, MiningPermit};
use crate::limits::{LONGPOLL_FIRST_LOOK, LONGPOLL_NEXT_LOOK, TEMPLATE_MAX_AGE};
use crate::pow::Tries;
use crate::search::{self, SearchJob, Searched};
use crate::template::{Template, TemplateSource, update_time};

/// Why nothing was mined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MiningError {
    /// Another search is running.
    #[error(transparent)]
    Busy(#[from] MiningBusy),
    /// The chain refuses the template (Core's `TestBlockValidity failed`).
    #[error("TestBlockValidity failed: {0}")]
    InvalidTemplate(BlockReject),
    /// The chain refuses the block that was found.
    #[error("ProcessNewBlock, block not accepted")]
    NotAccepted(BlockReject),
    /// The node is stopping.
    #[error("Shutting down")]
    Stopping,
    /// A search could not be started, or ended without an answer.
    #[error("the search failed: {0}")]
    Failed(String),
}

impl From<ChainStopped> for MiningError {
    fn from(_: ChainStopped) -> Self {
        Self::Stopping
    }
}

/// What the miner is made of.
#[derive(Clone)]
pub struct Parts {
    /// The options.
    pub config: Config,
    /// The network.
    pub params: Arc<Params>,
    /// The chain to build on and to submit to.
    pub chain: ChainHandle,
    /// Where transactions come from.
    pub mempool: MempoolHandle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// `debug.log`.
    pub log: Arc<dyn LogSink>,
    /// Stops every search.
    pub shutdown: CancellationToken,
    /// Where tasks are counted, so that a stop can wait for a found block to be submitted.
    pub tasks: TaskTracker,
}

/// What goes into a template.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// What the coinbase pays to.
    pub coinbase_script: ScriptBuf,
    /// Take transactions from the mempool.
    pub use_mempool: bool,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self { coinbase_script: anyone_can_spend(), use_mempool: true }
    }
}

/// Size of the last template assembled (`getmininginfo`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastTemplate {
    /// Weight units, reserved ones included.
    pub weight: u64,
    /// Transactions without the coinbase.
    pub txs: usize,
}

/// What the miner has done since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MiningStats {
    /// Searches begun.
    pub searches: u64,
    /// Blocks found.
    pub found: u64,
    /// Searches ended by another block.
    pub overtaken: u64,
    /// Hashes tried in searches that have ended.
    pub hashes: u64,
    /// Microseconds from another block's arrival to the search's last thread stopped, the last
    /// time that happened.
    pub last_stop_micros: u64,
}

#[derive(Default)]
struct Counters {
    searches: AtomicU64,
    found: AtomicU64,
    overtaken: AtomicU64,
    hashes: AtomicU64,
    last_stop_micros: AtomicU64,
}

struct CachedTemplate {
    template: Arc<Template>,
    made: UnixTime,
}

struct Inner {
    parts: Parts,
    guard: MiningGuard,
    versions: Mutex<VersionBits>,
    last: Mutex<Option<LastTemplate>>,
    /// What `getblocktemplate` answered from last. Held while a new one is made, so that many
    /// callers make one between them.
    cached: tokio::sync::Mutex<Option<CachedTemplate>>,
    counters: Counters,
}

/// How one search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchOutcome {
    /// A block was found and the chain has taken it.
    Mined(BlockHash),
    /// Another block came first, on which a new search would build.
    Overtaken,
    /// Hashes ran out.
    OutOfTries,
    /// It was cancelled, or the node is stopping.
    Cancelled,
}

/// A search that was started; it goes on if this is dropped.
pub struct BlockSearch {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<SearchOutcome, MiningError>>,
}

impl BlockSearch {
    /// Stops hashing within a batch. A block already found is submitted all the same.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If no template could be made, or the block was not accepted.
    pub async fn outcome(self) -> Result<SearchOutcome, MiningError> {
        self.task.await.unwrap_or_else(|error| Err(MiningError::Failed(error.to_string())))
    }
}

/// The front of the miner: cheap to clone, usable from any task.
#[derive(Clone)]
pub struct MiningHandle {
    inner: Arc<Inner>,
}

impl MiningHandle {
    /// A miner on a chain and a mempool.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            parts,
            guard: MiningGuard::default(),
            versions: Mutex::new(VersionBits::new()),
            last: Mutex::new(None),
            cached: tokio::sync::Mutex::new(None),
            counters: Counters::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The options it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.parts.config
    }

    /// Size of the last template assembled, if any was.
    #[must_use]
    pub fn last_template(&self) -> Option<LastTemplate> {
        *self.inner.last.lock()
    }

    /// Whether a search is running.
    #[must_use]
    pub fn is_searching(&self) -> bool {
        self.inner.guard.is_busy()
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> MiningStats {
        let counters = &self.inner.counters;
        MiningStats {
            searches: counters.searches.load(Ordering::Relaxed),
            found: counters.found.load(Ordering::Relaxed),
            overtaken: counters.overtaken.load(Ordering::Relaxed),
            hashes: counters.hashes.load(Ordering::Relaxed),
            last_stop_micros: counters.last_stop_micros.load(Ordering::Relaxed),
        }
    }

    /// Makes a template on the tip and has the chain check it.
    ///
    /// # Errors
    /// If the chain refuses it, or the node is stopping.
    pub async fn template(&self, options: TemplateOptions) -> Result<Template, MiningError> {
        self.checked_template(options, None).await
    }

    /// `replace` are transactions to take instead of the mempool's.
    async fn checked_template(
        &self,
        options: TemplateOptions,
        replace: Option<&[Transaction]>,
    ) -> Result<Template, MiningError> {
        let parts = &self.inner.parts;
        loop {
            let this = self.clone();
            let how = options.clone();
            // Choosing from a full mempool takes milliseconds: not on a runtime worker.
            let made = tokio::task::spawn_blocking(move || this.assemble(&how));
            let mut template = made.await.map_err(|error| MiningError::Failed(error.to_string()))??;
            if let Some(txs) = replace {
                template.replace_transactions(txs.to_vec(), &parts.params);
            }
            let verdict = parts.chain.test_block_validity(template.block.clone()).await?;
            let (tip, seq) = parts.chain.view().tip_and_seq();
            match verdict {
                Ok(()) => {
                    if parts.config.print_priority {
                        self.log_priorities(&template);
                    }
                    return Ok(template);
                }
                // The tip moved meanwhile; the mempool will follow.
                Err(_) if tip.hash != template.parent.hash => parts.mempool.wait_for_seq(seq).await,
                Err(reject) => return Err(MiningError::InvalidTemplate(reject)),
            }
        }
    }

    fn assemble(&self, options: &TemplateOptions) -> Result<Template, MiningError> {
        let parts = &self.inner.parts;
        let view = parts.chain.view();
        let (node, mut chunks) = parts.mempool.chunks();
        if !options.use_mempool {
            chunks.clear();
        }
        let failed = |what: &str| MiningError::Failed(what.to_owned());
        let chain = view.ancestry(&node.tip.hash).ok_or_else(|| failed("the tip is unknown"))?;
        let version = match parts.config.block_version {
            Some(version) => version,
            None => self.inner.versions.lock().block_version(&parts.params, &chain),
        };
        let template = Template::assemble(&TemplateSource {
            params: &parts.params,
            config: &parts.config,
            parent: node.tip,
            chain: &chain,
            version,
            now: parts.clock.unix(),
            coinbase_script: &options.coinbase_script,
            chunks: &chunks,
            transactions_updated: node.transactions_updated,
        })
        .map_err(|error| MiningError::Failed(error.to_string()))?;
        let txs = template.fees.len();
        *self.inner.last.lock() = Some(LastTemplate { weight: template.weight, txs });
        parts.log.log(LogLine::info(format!(
            "CreateNewBlock(): block weight: {} txs: {txs} fees: {} sigops {}",
            template.block.weight().to_wu(),
            template.total_fees().to_sat(),
            template.sigop_costs.iter().sum::<u64>() + crate::limits::COINBASE_SIGOPS,
        )));
        Ok(template)
    }

    /// `-printpriority`: each transaction's feerate.
    fn log_priorities(&self, template: &Template) {
        let txs = template.block.txdata.iter().zip(&template.txids).skip(1);
        for ((tx, txid), fee) in txs.zip(&template.fees) {
            let per_kvb = fee.to_sat().saturating_mul(1_000).checked_div(tx.vsize() as u64).unwrap_or(0);
            self.inner.parts.log.log(LogLine::info(format!(
                "fee rate {}.{:08} BTC/kvB txid {txid}",
                per_kvb / 100_000_000,
                per_kvb % 100_000_000,
            )));
        }
    }

    /// The template that `getblocktemplate` answers from, and its header with the time (and, on
    /// test networks, the bits) brought up to now. Made anew when the tip has changed, or the
    /// mempool has and it is more than five seconds old.
    ///
    /// # Errors
    /// As [`MiningHandle::template`].
    pub async fn block_template(&self) -> Result<(Arc<Template>, Header), MiningError> {
        let parts = &self.inner.parts;
        let mut cached = self.inner.cached.lock().await;
        let now = parts.clock.unix();
        let tip = parts.chain.view().tip().hash;
        let updated = parts.mempool.view().transactions_updated;
        let fresh = cached.as_ref().filter(|cached| {
            cached.template.parent.hash == tip
                && (cached.template.transactions_updated == updated || now - cached.made <= TEMPLATE_MAX_AGE)
        });
        let template = match fresh {
            Some(cached) => Arc::clone(&cached.template),
            None => {
                *cached = None;
                let template = Arc::new(self.template(TemplateOptions::default()).await?);
                *cached = Some(CachedTemplate { template: Arc::clone(&template), made: now });
                template
            }
        };
        let mut header = template.block.header;
        if let Some(chain) = parts.chain.view().ancestry(&template.parent.hash) {
            update_time(&mut header, &chain, &parts.params, now);
        }
        Ok((template, header))
    }

    /// Waits until a template like the one on `tip`, made after `transactions_updated` changes of
    /// the mempool, is out of date: at once when the tip is another, after a minute when the
    /// mempool has changed, and when the node stops (BIP22's long polling).
    pub async fn template_outdated(&self, tip: BlockHash, transactions_updated: u64) {
        let parts = &self.inner.parts;
        let mut look = Duration::from_secs(LONGPOLL_FIRST_LOOK);
        loop {
            let (mut follower, now) = parts.chain.events();
            if now.hash != tip {
                return;
            }
            tokio::select! {
                () = parts.shutdown.cancelled() => return,
                followed = follower.next() => {
                    if matches!(followed, Followed::Closed) {
                        return;
                    }
                }
                () = tokio::time::sleep(look) => {
                    if parts.mempool.view().transactions_updated != transactions_updated {
                        return;
                    }
                    look = Duration::from_secs(LONGPOLL_NEXT_LOOK);
                }
            }
        }
    }

    /// Starts a search for one block on the tip, which ends when another block comes.
    ///
    /// # Errors
    /// At once if a search is running.
    pub fn start_search(&self, coinbase_script: ScriptBuf) -> Result<BlockSearch, MiningBusy> {
        let permit = self.inner.guard.try_acquire()?;
        let cancel = self.inner.parts.shutdown.child_token();
        let (this, token) = (self.clone(), cancel.clone());
        let task = self.inner.parts.tasks.spawn(async move {
            let tries = Arc::new(Tries::new(u64::MAX));
            this.search_once(&permit, coinbase_script, &tries, token).await
        });
        Ok(BlockSearch { cancel, task })
    }

    /// Waits until no search is running.
    pub async fn idle(&self) {
        drop(self.inner.guard.acquire().await);
    }

    /// Runs to its end even if the caller goes away, and is waited for by a stop.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, MiningError>> + Send + 'static,
    ) -> Result<T, MiningError> {
        let task = self.inner.parts.tasks.spawn(work);
        task.await.unwrap_or_else(|error| Err(MiningError::Failed(error.to_string())))
    }

    /// Mines blocks one on the other until there are `blocks` of them, `max_tries` hashes were
    /// tried, or the node stops; gives those it mined (Core's `generateBlocks`). The guard is
    /// taken anew for each block, and a block that comes from elsewhere only makes it build
    /// again. Chain, mempool and followers of both know each block when this returns.
    ///
    /// # Errors
    /// If a template or a found block was refused.
    pub async fn generate(
        &self,
        blocks: u32,
        coinbase_script: ScriptBuf,
        max_tries: u64,
    ) -> Result<Vec<BlockHash>, MiningError> {
        let this = self.clone();
        let work = async move {
            let tries = Arc::new(Tries::new(max_tries));
            let mut hashes = Vec::new();
            while (hashes.len() as u64) < u64::from(blocks) && tries.left() > 0 {
                let permit = this.inner.guard.acquire().await;
                let cancel = this.inner.parts.shutdown.child_token();
                match this.search_once(&permit, coinbase_script.clone(), &tries, cancel).await? {
                    SearchOutcome::Mined(hash) => hashes.push(hash),
                    SearchOutcome::Overtaken => {}
                    SearchOutcome::OutOfTries | SearchOutcome::Cancelled => break,
                }
            }
            Ok(hashes)
        };
        self.finish(work).await
    }

    /// Mines one block of exactly these transactions, without collecting their fees
    /// (`generateblock`); submits it unless told not to. `None` if `max_tries` hashes were not
    /// enough or the node is stopping.
    ///
    /// # Errors
    /// If the chain refuses the block.
    pub async fn generate_block(
        &self,
        txs: Vec<Transaction>,
        coinbase_script: ScriptBuf,
        max_tries: u64,
        submit: bool,
    ) -> Result<Option<Block>, MiningError> {
        let this = self.clone();
        let work = async move {
            let permit = this.inner.guard.acquire().await;
            let options = TemplateOptions { coinbase_script, use_mempool: false };
            let template = this.checked_template(options, Some(&txs)).await?;
            let cancel = this.inner.parts.shutdown.child_token();
            let tries = Arc::new(Tries::new(max_tries));
            let Searched::Found(block) = this.run(&permit, template, &tries, cancel, None).await?.0 else {
                return Ok(None);
            };
            if submit {
                this.submit(Arc::new((*block).clone())).await?;
            }
            Ok(Some(*block))
        };
        self.finish(work).await
    }

    /// One search on the tip of now.
    async fn search_once(
        &self,
        permit: &MiningPermit,
        coinbase_script: ScriptBuf,
        tries: &Arc<Tries>,
        cancel: CancellationToken,
    ) -> Result<SearchOutcome, MiningError> {
        let parts = &self.inner.parts;
        // Following begins before the template is made, so that no block can come unnoticed.
        let (mut follower, tip) = parts.chain.events();
        let options = TemplateOptions { coinbase_script, use_mempool: true };
        let template = self.template(options).await?;
        if template.parent.hash != tip.hash {
            return Ok(SearchOutcome::Overtaken);
        }
        let overtaken = async move {
            follower.next().await;
        };
        let (end, was_overtaken) =
            self.run(permit, template, tries, cancel, Some(Box::pin(overtaken))).await?;
        match end {
            Searched::Found(block) => Ok(SearchOutcome::Mined(self.submit(Arc::from(block)).await?)),
            Searched::OutOfTries => Ok(SearchOutcome::OutOfTries),
            Searched::Cancelled if was_overtaken => Ok(SearchOutcome::Overtaken),
            Searched::Cancelled => Ok(SearchOutcome::Cancelled),
        }
    }

    /// Hashes a template until it is found, cancelled, or `overtaken` resolves. The permit is
    /// borrowed: it lives until the block is submitted.
    async fn run(
        &self,
        _permit: &MiningPermit,
        template: Template,
        tries: &Arc<Tries>,
        cancel: CancellationToken,
        overtaken: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
    ) -> Result<(Searched, bool), MiningError> {
        let Inner { parts, counters, .. } = &*self.inner;
        counters.searches.fetch_add(1, Ordering::Relaxed);
        let hashes_before = tries.done();
        let parent = template.parent;
        let job = SearchJob {
            template: Arc::new(template),
            tries: Arc::clone(tries),
            cancel: cancel.clone(),
            threads: parts.config.threads,
            last_nonce: u32::MAX,
        };
        let mut search = search::start(job).map_err(|error| {
            cancel.cancel();
            MiningError::Failed(error.to_string())
        })?;
        let mut end = None;
        let mut was_overtaken = false;
        match overtaken {
            None => search.ended(&mut end).await,
            Some(overtaken) => tokio::select! {
                biased;
                () = search.ended(&mut end) => {}
                () = overtaken => was_overtaken = true,
            },
        }
        if was_overtaken {
            let came = parts.clock.steady();
            cancel.cancel();
            search.ended(&mut end).await;
            let took = parts.clock.steady().saturating_sub(came);
            self.note_overtaken(parent, took);
        }
        counters.hashes.fetch_add(tries.done().saturating_sub(hashes_before), Ordering::Relaxed);
        let end = end.ok_or_else(|| MiningError::Failed("a thread ended without an answer".to_owned()))?;
        Ok((end, was_overtaken))
    }

    fn note_overtaken(&self, parent: HeaderInfo, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let counters = &self.inner.counters;
        counters.overtaken.fetch_add(1, Ordering::Relaxed);
        counters.last_stop_micros.store(micros, Ordering::Relaxed);
        self.inner.parts.log.log(LogLine::debug(
            LogCategory::Bench,
            format!("search on {} stopped {micros} us after a new tip", parent.hash),
        ));
    }

    /// Hands a found block to the chain, and waits until the mempool knows of it. Nothing can
    /// cancel this.
    async fn submit(&self, block: Arc<Block>) -> Result<BlockHash, MiningError> {
        let parts = &self.inner.parts;
        self.inner.counters.found.fetch_add(1, Ordering::Relaxed);
        let outcome = parts.chain.submit_block(block, SubmitOptions::WANTED).await?;
        outcome.result.map_err(MiningError::NotAccepted)?;
        let (_, seq) = parts.chain.view().tip_and_seq();
        parts.mempool.wait_for_seq(seq).await;
        Ok(outcome.hash)
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.inner.parts
    }
}

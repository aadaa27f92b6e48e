use bitcoin::ScriptBuf;
use ironpeer_primitives::LogLine;
use tokio::sync::broadcast::error::RecvError;

use crate::config::AutoMine;
use crate::handle::{MiningHandle, SearchOutcome};

/// When the auto-miner wants a block: told what happens, it says whether one is due.
#[derive(Clone, Copy, Debug)]
pub struct Trigger {
    rule: AutoMine,
    waiting: usize,
    ticked: bool,
}

impl Trigger {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(rule: AutoMine) -> Self {
        Self { rule, waiting: 0, ticked: false }
    }

    /// The mempool holds this many transactions now.
    pub fn pool_changed(&mut self, transactions: usize) {
        self.waiting = transactions;
    }

    /// The interval has passed.
    pub fn tick(&mut self) {
        self.ticked = true;
    }

    /// A block was mined, by whomever, that left this many transactions.
    pub fn mined(&mut self, transactions: usize) {
        self.waiting = transactions;
        self.ticked = false;
    }

    /// Whether a block should be searched for.
    #[must_use]
    pub fn is_due(&self) -> bool {
        match self.rule {
            AutoMine::TxCount(count) => self.waiting >= count,
            AutoMine::Interval(_) => self.ticked,
        }
    }
}

impl MiningHandle {
    /// Mines whenever `rule` asks for a block, until the node stops. A search that runs already
    /// (a `generate*` call's, say) is waited for; its block may be the one that was due.
    pub async fn auto_mine(&self, rule: AutoMine, coinbase_script: ScriptBuf) {
        let parts = self.parts();
        let mut trigger = Trigger::new(rule);
        let mut changes = parts.mempool.subscribe();
        let mut ticks = match rule {
            AutoMine::Interval(every) => Some(tokio::time::interval(every)),
            AutoMine::TxCount(_) => None,
        };
        if let Some(ticks) = &mut ticks {
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            // The first tick comes at once.
            ticks.tick().await;
        }
        trigger.pool_changed(self.waiting_transactions().await);
        while !parts.shutdown.is_cancelled() {
            if trigger.is_due() {
                match self.start_search(coinbase_script.clone()) {
                    Ok(search) => self.auto_mined(search.outcome().await, &mut trigger).await,
                    Err(_) => {
                        self.idle().await;
                        trigger.pool_changed(self.waiting_transactions().await);
                    }
                }
                continue;
            }
            let tick = async {
                match &mut ticks {
                    Some(ticks) => {
                        ticks.tick().await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = parts.shutdown.cancelled() => return,
                () = tick => trigger.tick(),
                change = changes.recv() => {
                    if matches!(change, Err(RecvError::Closed)) {
                        return;
                    }
                    trigger.pool_changed(self.waiting_transactions().await);
                }
            }
        }
    }

    /// Transactions in the mempool once it stands on the chain's tip: counted earlier, those of a
    /// block just connected would seem to wait for another.
    async fn waiting_transactions(&self) -> usize {
        let parts = self.parts();
        parts.mempool.wait_for_seq(parts.chain.view().tip_and_seq().1).await;
        parts.mempool.info().count
    }

    async fn auto_mined(
        &self,
        outcome: Result<SearchOutcome, crate::handle::MiningError>,
        trigger: &mut Trigger,
    ) {
        let parts = self.parts();
        let left = self.waiting_transactions().await;
        match outcome {
            Ok(SearchOutcome::Mined(hash)) => {
                parts.log.log(LogLine::info(format!("Mined block {hash}")));
                // What no block takes (too cheap, not final) must not make it mine for ever.
                let took_any = self.last_template().is_some_and(|last| last.txs > 0);
                trigger.mined(if took_any { left } else { 0 });
            }
            Ok(SearchOutcome::Overtaken) => trigger.pool_changed(left),
            Ok(SearchOutcome::OutOfTries | SearchOutcome::Cancelled) => trigger.mined(0),
            Err(error) => {
                // The next change of the mempool, or tick, tries again.
                parts.log.log(LogLine::warning(format!("Auto-mining failed: {error}")));
                trigger.mined(0);
            }
        }
    }
}

#[cfg(test)]
#[path = "auto_tests.rs"]
mod tests;

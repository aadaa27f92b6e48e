//! Scripts' histories beyond the chain: what the mempool's transactions do to each. Kept in memory,
//! and so bounded by the mempool itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use ironpeer_chain::ChainView;
use ironpeer_mempool::{MempoolEvent, MempoolHandle};
use ironpeer_primitives::{Coin, Height, MempoolRead, PoolTx};
use parking_lot::RwLock;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::spawn_blocking;

use crate::addresses::{Moved, ScriptHash, moved_by};

/// A transaction of the mempool in a script's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnconfirmedEntry {
    /// Its id.
    pub txid: Txid,
    /// What it pays the miner.
    pub fee: Amount,
    /// Virtual size in vbytes.
    pub vsize: u64,
    /// It spends outputs of other transactions of the mempool.
    pub unconfirmed_parents: bool,
    /// What it does to the script.
    pub moved: Moved,
}

struct Held {
    pooled: PoolTx,
    moved: BTreeMap<ScriptHash, Moved>,
}

/// The synchronous half: which transactions concern which script.
#[derive(Default)]
struct Overlay {
    txs: HashMap<Txid, Held>,
    scripts: HashMap<ScriptHash, BTreeSet<Txid>>,
}

impl Overlay {
    fn add(&mut self, pooled: PoolTx, spent: &[Coin]) {
        self.remove(&pooled.txid);
        let moved = moved_by(&pooled.tx, spent);
        for script in moved.keys() {
            self.scripts.entry(*script).or_default().insert(pooled.txid);
        }
        self.txs.insert(pooled.txid, Held { pooled, moved });
    }

    fn remove(&mut self, txid: &Txid) {
        let Some(held) = self.txs.remove(txid) else { return };
        for script in held.moved.keys() {
            let Some(of_script) = self.scripts.get_mut(script) else { continue };
            of_script.remove(txid);
            if of_script.is_empty() {
                self.scripts.remove(script);
            }
        }
    }

    fn of(&self, script: &ScriptHash) -> impl Iterator<Item = &Held> {
        self.scripts.get(script).into_iter().flatten().filter_map(|txid| self.txs.get(txid))
    }

    fn history(&self, script: &ScriptHash) -> Vec<UnconfirmedEntry> {
        let entry = |held: &Held| UnconfirmedEntry {
            txid: held.pooled.txid,
            fee: held.pooled.fee,
            vsize: held.pooled.vsize,
            unconfirmed_parents: held
                .pooled
                .tx
                .input
                .iter()
                .any(|input| self.txs.contains_key(&input.previous_output.txid)),
            moved: held.moved.get(script).copied().unwrap_or_default(),
        };
        self.of(script).map(entry).collect()
    }

    /// The outputs to a script, those that are spent in the mempool again too.
    fn outputs(&self, script: &ScriptHash) -> Vec<(OutPoint, Amount)> {
        let to_script = |held: &Held| {
            let txid = held.pooled.txid;
            let outputs = held.pooled.tx.output.iter().zip(0u32..);
            let own = outputs.filter(|(output, _)| ScriptHash::of(&output.script_pubkey) == *script);
            own.map(|(output, vout)| (OutPoint { txid, vout }, output.value)).collect::<Vec<_>>()
        };
        self.of(script).flat_map(to_script).collect()
    }
}

/// What the mempool does to each script. Cheap to clone.
#[derive(Clone)]
pub struct MempoolScripts {
    overlay: Arc<RwLock<Overlay>>,
    mempool: MempoolHandle,
    view: ChainView,
}

impl std::fmt::Debug for MempoolScripts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MempoolScripts").finish_non_exhaustive()
    }
}

impl MempoolScripts {
    /// Of an empty mempool, or one that [`follow`](Self::follow) will read whole.
    #[must_use]
    pub fn new(mempool: MempoolHandle, view: ChainView) -> Self {
        Self { overlay: Arc::default(), mempool, view }
    }

    /// A script's transactions in the mempool.
    #[must_use]
    pub fn history(&self, script: &ScriptHash) -> Vec<UnconfirmedEntry> {
        self.overlay.read().history(script)
    }

    /// A script's outputs that the mempool makes and leaves unspent.
    #[must_use]
    pub fn unspent(&self, script: &ScriptHash) -> Vec<(OutPoint, Amount)> {
        let mut outputs = self.overlay.read().outputs(script);
        outputs.retain(|(outpoint, _)| self.mempool.spender(outpoint).is_none());
        outputs
    }

    /// Follows the mempool until it stops.
    pub async fn follow(self) {
        let mut events = self.read_all().await;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                // It never gets there: this returns when the mempool has stopped.
                () = self.mempool.wait_for_seq(u64::MAX) => return,
            };
            match event {
                Ok(MempoolEvent::Added { tx, .. }) => self.add(tx).await,
                Ok(MempoolEvent::Removed { tx, .. }) => self.overlay.write().remove(&tx.txid),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => events = self.read_all().await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Begins anew with what is in the mempool. What comes while it is read is in the events, too.
    async fn read_all(&self) -> Receiver<MempoolEvent> {
        let events = self.mempool.subscribe();
        *self.overlay.write() = Overlay::default();
        for pooled in MempoolRead::all(&self.mempool) {
            self.add(pooled).await;
        }
        events
    }

    async fn add(&self, pooled: PoolTx) {
        let this = self.clone();
        // Fails only when the runtime is shutting down.
        let _ = spawn_blocking(move || {
            if let Some(spent) = this.spent_by(&pooled.tx) {
                this.overlay.write().add(pooled, &spent);
            }
        })
        .await;
    }

    /// The coins a transaction of the mempool spends. If one is gone, the transaction is in a
    /// block already, or about to be thrown out.
    fn spent_by(&self, tx: &Transaction) -> Option<Vec<Coin>> {
        let outpoints: Vec<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
        let (_, coins) = self.view.coins(&outpoints);
        let unconfirmed = |outpoint: &OutPoint| {
            let parent = self.mempool.tx(&outpoint.txid)?;
            let output = parent.output.get(usize::try_from(outpoint.vout).ok()?)?.clone();
            Some(Coin { output, height: Height(u32::MAX), is_coinbase: false })
        };
        coins
            .into_iter()
            .zip(&outpoints)
            .map(|(coin, outpoint)| coin.or_else(|| unconfirmed(outpoint)))
            .collect()
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;

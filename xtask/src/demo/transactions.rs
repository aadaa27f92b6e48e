use std::time::Instant;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut};
use ironpeer_testkit::{Owned, ScriptKind, Signer};
use serde_json::json;

use super::network::{OP_TRUE, follow, mine};
use super::{DemoNode, Failure, text};
use crate::report::Report;

/// Key that the mined coins pay to.
const MINER_KEY: u32 = 1;

/// Mined coins to spread, each over every kind.
const COINS: u64 = 30;

/// Left to the miner by every transaction, and more for each output.
const FEE: Amount = Amount::from_sat(2_000);
const FEE_PER_OUTPUT: Amount = Amount::from_sat(10);

/// Coins of ours, ready to spend.
pub struct Wallet {
    signer: Signer,
    coins: Vec<(OutPoint, Owned)>,
    next_key: u32,
}

impl Wallet {
    /// A wallet without coins.
    pub fn new() -> Self {
        Self { signer: Signer::new(), coins: Vec::new(), next_key: 100 }
    }

    /// Mines `count` coins, lets them ripen, and returns transactions that each spread one of
    /// them over every kind of script.
    fn mine_and_spread(&mut self, node: &mut DemoNode, count: u64) -> Result<Vec<Transaction>, Failure> {
        self.mine_and_pay(node, count, &ScriptKind::ALL)
    }

    /// The same to `outputs` keys each.
    pub fn fan_out(
        &mut self,
        node: &mut DemoNode,
        count: u64,
        outputs: usize,
    ) -> Result<Vec<Transaction>, Failure> {
        self.mine_and_pay(node, count, &vec![ScriptKind::P2wpkh; outputs])
    }

    /// Transactions that each spend one of all coins, to two keys.
    pub fn split_all(&mut self) -> Vec<Transaction> {
        let coins: Vec<_> = self.coins.drain(..).collect();
        coins.into_iter().map(|coin| self.transaction(&[coin], &[ScriptKind::P2wpkh; 2])).collect()
    }

    fn mine_and_pay(
        &mut self,
        node: &mut DemoNode,
        count: u64,
        kinds: &[ScriptKind],
    ) -> Result<Vec<Transaction>, Failure> {
        let script = self.signer.script(ScriptKind::P2wpkh, MINER_KEY);
        let hashes = mine(node, count, &format!("raw({})", script.to_hex_string()))?;
        mine(node, 100, OP_TRUE)?;
        let mut spread = Vec::new();
        for hash in hashes {
            let block = node.call("getblock", &[json!(hash), json!(0)])?;
            let block: bitcoin::Block = bitcoin::consensus::encode::deserialize_hex(&text(&block))?;
            let coinbase = block.txdata.first().ok_or("a block without coinbase")?;
            let output = coinbase.output.first().ok_or("a coinbase without output")?.clone();
            let owned = Owned { output, kind: ScriptKind::P2wpkh, key: MINER_KEY };
            let coin = (OutPoint::new(coinbase.compute_txid(), 0), owned);
            spread.push(self.transaction(&[coin], kinds));
        }
        Ok(spread)
    }

    /// Transactions that each spend one of all coins, to the same kind of script.
    fn spend_all(&mut self) -> Vec<Transaction> {
        let coins: Vec<_> = self.coins.drain(..).collect();
        coins
            .into_iter()
            .map(|coin| {
                let kind = coin.1.kind;
                self.transaction(&[coin], &[kind])
            })
            .collect()
    }

    /// Signed transactions of every kind, ready to be sent: their coins are mined.
    pub fn prepare(&mut self, node: &mut DemoNode, coins: u64) -> Result<Vec<Transaction>, Failure> {
        for tx in self.mine_and_spread(node, coins)? {
            node.call("sendrawtransaction", &[json!(serialize_hex(&tx)), json!(0)])?;
        }
        mine(node, 1, OP_TRUE)?;
        Ok(self.spend_all())
    }

    /// A signed transaction that moves `spent` to new outputs of the given kinds, in equal parts.
    fn transaction(&mut self, spent: &[(OutPoint, Owned)], kinds: &[ScriptKind]) -> Transaction {
        let total: Amount = spent.iter().map(|(_, owned)| owned.output.value).sum();
        let outputs = kinds.len() as u64;
        let share = (total - FEE - FEE_PER_OUTPUT * outputs) / outputs;
        let outputs: Vec<Owned> = kinds
            .iter()
            .map(|kind| {
                self.next_key += 2;
                let script_pubkey = self.signer.script(*kind, self.next_key);
                Owned { output: TxOut { value: share, script_pubkey }, kind: *kind, key: self.next_key }
            })
            .collect();
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: spent
                .iter()
                .map(|(previous_output, _)| TxIn {
                    previous_output: *previous_output,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    ..TxIn::default()
                })
                .collect(),
            output: outputs.iter().map(|owned| owned.output.clone()).collect(),
        };
        let owned: Vec<Owned> = spent.iter().map(|(_, owned)| owned.clone()).collect();
        self.signer.sign(&mut tx, &owned);
        let txid = tx.compute_txid();
        self.coins.extend((0u32..).zip(outputs).map(|(vout, owned)| (OutPoint::new(txid, vout), owned)));
        tx
    }

    /// Sends `count` payments of one coin each through a node; returns their ids.
    pub fn send(&mut self, node: &mut DemoNode, count: usize) -> Result<Vec<String>, Failure> {
        let coins: Vec<_> = self.coins.drain(..count.min(self.coins.len())).collect();
        coins
            .into_iter()
            .map(|coin| {
                let kind = coin.1.kind;
                let tx = self.transaction(&[coin], &[kind]);
                Ok(text(&node.call("sendrawtransaction", &[json!(serialize_hex(&tx))])?))
            })
            .collect()
    }
}

/// Mines coins, spreads them over every standard kind of script, spends each of these, and mines
/// all of it.
pub fn run(nodes: &mut [DemoNode], report: &mut Report) -> Result<Wallet, Failure> {
    let mut wallet = Wallet::new();
    let spread = wallet.mine_and_spread(&mut nodes[0], COINS)?;
    let tip = nodes[0].best_hash()?;
    follow(nodes, &[tip])?;
    let start = Instant::now();
    send_all(nodes, &spread)?;
    let mined = mine(&mut nodes[2], 1, OP_TRUE)?;
    follow(nodes, &mined)?;
    let second = wallet.spend_all();
    send_all(nodes, &second)?;
    let count = spread.len() + second.len();
    report.fact(
        "transactions sent and seen by all nodes",
        format!(
            "{count} in {:.1} s, {} kinds of script spent",
            start.elapsed().as_secs_f64(),
            ScriptKind::ALL.len()
        ),
        count == COINS as usize * (1 + ScriptKind::ALL.len()),
    );
    let mined = mine(&mut nodes[4], 1, OP_TRUE)?;
    follow(nodes, &mined)?;
    let block = nodes[0].call("getblock", &[json!(mined[0])])?;
    let in_block = block["nTx"].as_u64().unwrap_or_default().saturating_sub(1);
    let mut left = 0;
    for node in nodes.iter_mut() {
        left += node.call("getrawmempool", &[])?.as_array().map_or(0, Vec::len);
    }
    report.fact(
        "mined by the far end",
        format!("{in_block} in one block, {left} left in the five mempools"),
        in_block == second.len() as u64 && left == 0,
    );
    Ok(wallet)
}

/// Hands the transactions to both ends of the line in turn and waits until every node has all.
fn send_all(nodes: &mut [DemoNode], txs: &[Transaction]) -> Result<(), Failure> {
    let last = nodes.len() - 1;
    for (index, tx) in txs.iter().enumerate() {
        let node = if index % 2 == 0 { 0 } else { last };
        nodes[node].call("sendrawtransaction", &[json!(serialize_hex(tx)), json!(0)])?;
    }
    for node in nodes.iter_mut() {
        node.process.wait_until("getrawmempool", &[], |pool| {
            pool.as_array().is_some_and(|ids| ids.len() == txs.len())
        })?;
    }
    Ok(())
}

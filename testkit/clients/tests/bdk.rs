//! A wallet of the Bitcoin Development Kit, kept in step with the node by `bdk_bitcoind_rpc`.

use bdk_bitcoind_rpc::bitcoincore_rpc::{Auth, Client, RpcApi};
use bdk_bitcoind_rpc::{Emitter, NO_EXPECTED_MEMPOOL_TXS};
use bdk_wallet::{Balance, KeychainKind, SignOptions, Wallet};
use bitcoin::bip32::Xpriv;
use bitcoin::{Amount, FeeRate, Network, Transaction, Txid};
use ironpeer_testkit::{ScriptKind, Signer};
use serde_json::{Value, json};

use crate::node::{Coin, FEE, Node, address, pass_on, spend};

/// Gives the wallet what the node has news of; returns what it says was evicted.
fn sync(wallet: &mut Wallet, emitter: &mut Emitter<&Client>, now: &mut u64) -> Vec<Txid> {
    while let Some(event) = emitter.next_block().unwrap() {
        wallet.apply_block_connected_to(&event.block, event.block_height(), event.connected_to()).unwrap();
    }
    *now += 1;
    let mempool = emitter.mempool_at(*now).unwrap();
    wallet.apply_unconfirmed_txs(mempool.update);
    let evicted: Vec<Txid> = mempool.evicted.iter().map(|(txid, _)| *txid).collect();
    wallet.apply_evicted_txs(mempool.evicted);
    evicted
}

/// Confirmed, and not.
fn has(wallet: &Wallet, confirmed: Amount, pending: Amount) {
    let Balance { confirmed: is, trusted_pending, untrusted_pending, immature } = wallet.balance();
    assert_eq!(immature, Amount::ZERO);
    assert_eq!((is, trusted_pending + untrusted_pending), (confirmed, pending));
}

fn mine(client: &Client, to: &str, txs: &[&Transaction]) {
    let ids: Vec<String> = txs.iter().map(|tx| tx.compute_txid().to_string()).collect();
    let _: Value = client.call("generateblock", &[json!(to), json!(ids)]).unwrap();
}

#[test]
fn bdk_keeps_a_wallet_across_a_reorganisation() {
    let signer = Signer::new();
    let mut node = Node::start(0, &[]);
    let client = Client::new(&node.url(), Auth::CookieFile(node.cookie_file())).unwrap();
    let miner = address(&signer.script(ScriptKind::P2wpkh, 1)).to_string();
    let key = Xpriv::new_master(Network::Regtest, &[7; 32]).unwrap();
    let chain = |which: u32| format!("tr({key}/86'/1'/0'/{which}/*)");
    let mut wallet =
        Wallet::create(chain(0), chain(1)).network(Network::Regtest).create_wallet_no_persist().unwrap();
    let mut emitter = Emitter::new(&client, wallet.latest_checkpoint(), 0, NO_EXPECTED_MEMPOOL_TXS);
    let mut now = 0;
    let blocks = client
        .generate_to_address(110, &miner.parse::<bitcoin::Address<_>>().unwrap().assume_checked())
        .unwrap();
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    assert_eq!(wallet.latest_checkpoint().hash(), blocks[109]);
    has(&wallet, Amount::ZERO, Amount::ZERO);

    // Received: seen in the mempool, then in a block.
    let coin = |height: usize| {
        let block = client.get_block(&blocks[height - 1]).unwrap();
        Coin::of(&block.txdata[0], 0, ScriptKind::P2wpkh, 1)
    };
    let ours = wallet.reveal_next_address(KeychainKind::External).address.script_pubkey();
    let pay = |coin: &Coin| {
        let value = coin.owned.output.value - FEE;
        spend(
            &signer,
            std::slice::from_ref(coin),
            vec![bitcoin::TxOut { value, script_pubkey: ours.clone() }],
        )
    };
    let first = pay(&coin(1));
    let paid = first.output[0].value;
    client.send_raw_transaction(&first).unwrap();
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    has(&wallet, Amount::ZERO, paid);
    mine(&client, &miner, &[&first]);
    let confirmed_in = client.get_best_block_hash().unwrap();
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    has(&wallet, paid, Amount::ZERO);

    // A longer chain without the payment, which is back in the mempool.
    client.invalidate_block(&confirmed_in).unwrap();
    mine(&client, &miner, &[]);
    mine(&client, &miner, &[]);
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    assert_eq!(wallet.latest_checkpoint().hash(), client.get_best_block_hash().unwrap());
    assert_eq!(wallet.latest_checkpoint().height(), 112);
    has(&wallet, Amount::ZERO, paid);

    // Confirmed once more, in another block.
    mine(&client, &miner, &[&first]);
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    has(&wallet, paid, Amount::ZERO);

    // Evicted: what spends the same coin for a higher fee takes its place.
    let lost = pay(&coin(2));
    client.send_raw_transaction(&lost).unwrap();
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    has(&wallet, paid, lost.output[0].value);
    let winner = pass_on(&signer, &coin(2), FEE * 5);
    client.send_raw_transaction(&winner).unwrap();
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), [lost.compute_txid()]);
    has(&wallet, paid, Amount::ZERO);

    // Spent: the wallet's own transaction is relayed, mined and taken into account.
    let mut spending = {
        let mut builder = wallet.build_tx();
        builder.add_recipient(signer.script(ScriptKind::P2wsh, 7), Amount::ONE_BTC);
        builder.fee_rate(FeeRate::from_sat_per_vb_u32(3));
        builder.finish().unwrap()
    };
    spending.sign(&key, wallet.secp_ctx()).unwrap();
    assert!(wallet.finalize_psbt(&mut spending, SignOptions::default()).unwrap());
    let spending = spending.extract_tx().unwrap();
    let fee = wallet.calculate_fee(&spending).unwrap();
    client.send_raw_transaction(&spending).unwrap();
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    has(&wallet, Amount::ZERO, paid - Amount::ONE_BTC - fee);
    mine(&client, &miner, &[&spending, &winner]);
    assert_eq!(sync(&mut wallet, &mut emitter, &mut now), []);
    has(&wallet, paid - Amount::ONE_BTC - fee, Amount::ZERO);
    node.process.stop().unwrap();
}

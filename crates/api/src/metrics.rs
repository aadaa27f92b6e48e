//! `/metrics` of `-webbind`: what a node counts, in Prometheus' text format 0.0.4.
//!
//! Nothing is counted twice: every number is read, when it is asked for, where the rooms keep it.

use std::fmt::{Display, Write as _};

use ironpeer_primitives::ChainRead;

use crate::context::ApiContext;
use crate::dialect::Door;

/// Media type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names end in their unit; those that only rise end in `_total`.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Lines of one metric: each value with the labels between braces, if any.
    fn metric(&mut self, kind: &str, name: &str, help: &str, values: &[(&str, &dyn Display)]) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP ironpeer_{name} {help}\n# TYPE ironpeer_{name} {kind}\n");
        for (labels, value) in values {
            let _ = writeln!(self.0, "ironpeer_{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: &dyn Display) {
        self.metric("gauge", name, help, &[("", value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: &dyn Display) {
        self.metric("counter", name, help, &[("", value)]);
    }
}

/// The whole text. `door` is the RPC door, if there is one.
#[must_use]
pub fn metrics(ctx: &ApiContext, door: Option<&Door>) -> String {
    let mut text = Text::default();
    let info = format!("{{network=\"{}\",user_agent=\"{}\"}}", ctx.params.chain_name, ctx.facts.subversion);
    text.metric("gauge", "info", "What runs, in the labels.", &[(&info, &1)]);
    let uptime = ctx.clock.steady().saturating_sub(ctx.facts.started);
    text.gauge("uptime_seconds", "Time since the start.", &uptime.as_secs());
    chain(&mut text, ctx);
    mempool(&mut text, ctx);
    peers(&mut text, ctx);
    mining(&mut text, ctx);
    indexes(&mut text, ctx);
    if let Some(door) = door {
        let counts = door.counts();
        text.counter("rpc_calls_total", "JSON-RPC methods called.", &counts.calls);
        text.counter("rpc_errors_total", "Those that answered with an error.", &counts.errors);
        text.gauge("rpc_calls_in_progress", "JSON-RPC methods that run now.", &counts.running);
    }
    text.0
}

fn chain(text: &mut Text, ctx: &ApiContext) {
    let view = ctx.view();
    let tip = view.tip();
    text.gauge("chain_height_blocks", "Height of the best valid block.", &tip.height);
    text.gauge("chain_headers_height_blocks", "Height of the best header.", &view.best_header().height);
    text.gauge("chain_tip_timestamp_seconds", "Unix time in the best block's header.", &tip.header.time);
    let progress = view.verification_progress(&tip.hash).unwrap_or(0.0);
    text.gauge(
        "chain_verification_progress_ratio",
        "Estimated share of the chain that is verified.",
        &progress,
    );
    text.gauge(
        "chain_initial_block_download",
        "1 while the node catches up with the network.",
        &u8::from(view.is_initial_block_download()),
    );
    let transactions = view.chain_tx_count(&tip.hash).unwrap_or(0);
    text.gauge("chain_transactions", "Transactions in the best chain.", &transactions);
    text.gauge("chain_files_bytes", "Size of block and undo files.", &view.size_on_disk());
    let (bytes, coins) = view.coin_cache_size();
    text.gauge("chain_coin_cache_bytes", "Memory of cached coins.", &bytes);
    text.gauge("chain_coin_cache_coins", "Coins in the cache.", &coins);
    text.gauge("chain_warnings", "Warnings that stand now.", &view.warnings().messages().len());
}

fn mempool(text: &mut Text, ctx: &ApiContext) {
    let info = ctx.mempool.info();
    text.gauge("mempool_transactions", "Transactions that wait for a block.", &info.count);
    text.gauge("mempool_size_vbytes", "Their virtual size.", &info.vbytes);
    text.gauge("mempool_memory_bytes", "Memory they take.", &info.usage);
    text.gauge("mempool_memory_limit_bytes", "Memory they may take.", &info.max_bytes);
    text.gauge("mempool_fees_satoshis", "What they pay.", &info.total_fee.to_sat());
    text.gauge(
        "mempool_min_feerate_satoshis_per_kvb",
        "Least feerate that is taken.",
        &info.min_fee.sat_per_kvb(),
    );
    text.gauge(
        "mempool_unbroadcast_transactions",
        "Own transactions no peer has fetched.",
        &info.unbroadcast_count,
    );
    let changes = ctx.mempool.view().mempool_sequence.saturating_sub(1);
    text.counter("mempool_changes_total", "Transactions that came or left.", &changes);
}

fn peers(text: &mut Text, ctx: &ApiContext) {
    let Some(peers) = &ctx.peers else { return };
    let counts = peers.counts();
    text.metric(
        "gauge",
        "peers",
        "Connections, by who opened them.",
        &[("{direction=\"inbound\"}", &counts.inbound), ("{direction=\"outbound\"}", &counts.outbound)],
    );
    let totals = peers.totals();
    text.counter("peers_received_bytes_total", "Bytes received from peers.", &totals.bytes_recv);
    text.counter("peers_sent_bytes_total", "Bytes sent to peers.", &totals.bytes_sent);
    let known = peers.address_counts(None);
    text.metric(
        "gauge",
        "peers_known_addresses",
        "Addresses of the address manager, by table.",
        &[("{table=\"new\"}", &known.new), ("{table=\"tried\"}", &known.tried)],
    );
    text.gauge("peers_banned", "Addresses and networks banned.", &peers.bans().len());
    text.counter("peers_panics_total", "Connections lost to a fault of ours.", &peers.panics());
}

fn mining(text: &mut Text, ctx: &ApiContext) {
    let stats = ctx.mining.stats();
    text.gauge("mining_searching", "1 while a search runs.", &u8::from(ctx.mining.is_searching()));
    text.counter("mining_searches_total", "Searches begun.", &stats.searches);
    text.counter("mining_blocks_found_total", "Blocks found.", &stats.found);
    text.counter("mining_overtaken_total", "Searches ended by another block.", &stats.overtaken);
    text.counter("mining_hashes_total", "Hashes tried in searches that have ended.", &stats.hashes);
}

fn indexes(text: &mut Text, ctx: &ApiContext) {
    let states: Vec<(String, u32, u8)> = ctx
        .indexes
        .handles()
        .into_iter()
        .map(|index| {
            let status = index.status();
            let height = status.tip.map_or(0, |tip| tip.height.0);
            (format!("{{index=\"{}\"}}", index.name()), height, u8::from(status.synced))
        })
        .collect();
    if states.is_empty() {
        return;
    }
    let heights: Vec<(&str, &dyn Display)> =
        states.iter().map(|(index, height, _)| (index.as_str(), height as &dyn Display)).collect();
    text.metric("gauge", "index_height_blocks", "Height that an index has got to.", &heights);
    let synced: Vec<(&str, &dyn Display)> =
        states.iter().map(|(index, _, synced)| (index.as_str(), synced as &dyn Display)).collect();
    text.metric("gauge", "index_synced", "1 while an index is in step with the chain.", &synced);
}

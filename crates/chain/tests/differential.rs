//! Our chain against libbitcoinkernel's: the same blocks into both, the same answers out.
//!
//! `IRONPEER_DIFFERENTIAL_BLOCKS` asks for a longer run, `IRONPEER_DIFFERENTIAL_SEED` for another.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{BlockHash, OutPoint};
use ironpeer_chain::{
    Backends, BlockOutcome, Chain, ChainHandle, Config, Location, SubmitOptions, UtxoHashKind,
};
use ironpeer_consensus::{ScriptCache, decode_block, is_unspendable, read_block};
use ironpeer_primitives::{
    BlockClass, ChainRead, Coin, Height, NullLog, SystemClock, decode_block_undo, encode_block_undo,
};
use ironpeer_store::{
    BlockFiles, BlockFilesConfig, Disk, FileKind, FilePos, MemDisk, OpenMode, OsDisk, XorKey,
};
use ironpeer_testkit::{Answer, Fate, Fault, Forge, Forged, Oracle, OracleLog, OracleReasons, Verdict};

/// Blocks of a run, unless more are asked for.
const BLOCKS: u64 = 24_000;
/// Reorganisations expected of that many blocks.
const REORGANISATIONS: u64 = 2_000;
/// Share of blocks that must be refused, in percent.
const REFUSED_PERCENT: u64 = 40;
/// Blocks given to one pair of chains: the oracle's own checks take time with the square of it.
const SEGMENT: u64 = 2_000;
/// Our block files are XORed with this.
const XOR_KEY: [u8; 8] = [0x17, 0xf0, 3, 0x99, 0x5a, 0xc4, 0x20, 0xee];
/// Pairs of chains at work at once.
const THREADS: usize = 2;

/// Every reason that can be reached with the oracle's regtest. The others stand in
/// docs/consensus.md with their tests.
const REACHABLE: [&str; 40] = [
    "bad-blk-length",
    "bad-blk-sigops",
    "bad-blk-sigops (seen with the coins)",
    "bad-blk-weight",
    "bad-cb-amount",
    "bad-cb-height",
    "bad-cb-length",
    "bad-cb-missing",
    "bad-cb-multiple",
    "bad-diffbits",
    "bad-prevblk",
    "bad-txnmrklroot",
    "bad-txns-duplicate",
    "bad-txns-in-belowout",
    "bad-txns-inputs-duplicate",
    "bad-txns-inputs-missingorspent",
    "bad-txns-nonfinal",
    "bad-txns-nonfinal (BIP68)",
    "bad-txns-premature-spend-of-coinbase",
    "bad-txns-prevout-null",
    "bad-txns-txouttotal-toolarge",
    "bad-txns-vin-empty",
    "bad-txns-vout-empty",
    "bad-txns-vout-negative",
    "bad-txns-vout-toolarge",
    "bad-version(0x00000000)",
    "bad-version(0x00000001)",
    "bad-version(0x00000002)",
    "bad-version(0x00000003)",
    "bad-version(0x80000000)",
    "bad-version(0xffffffff)",
    "bad-witness-merkle-match",
    "bad-witness-nonce-size",
    "block-script-verify-flag-failed",
    "duplicate-invalid",
    "high-hash",
    "prev-blk-not-found",
    "time-too-new",
    "time-too-old",
    "unexpected-witness",
];

#[derive(Default)]
struct Tally {
    blocks: u64,
    refused: u64,
    connected: u64,
    headers: u64,
    undecodable: u64,
    reorganisations: u64,
    deepest: u64,
    undo_compared: u64,
    undo_records: u64,
    coins_compared: u64,
    /// Script failures, and those of them named by the same script error on both sides.
    script_failures: (u64, u64),
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.refused += other.refused;
        self.connected += other.connected;
        self.headers += other.headers;
        self.undecodable += other.undecodable;
        self.reorganisations += other.reorganisations;
        self.deepest = self.deepest.max(other.deepest);
        self.undo_compared += other.undo_compared;
        self.undo_records += other.undo_records;
        self.coins_compared += other.coins_compared;
        self.script_failures.0 += other.script_failures.0;
        self.script_failures.1 += other.script_failures.1;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }

    fn summary(&self) -> String {
        let mut text = format!(
            "{} blocks ({} refused, {} connected, {} no block at all), {} headers alone, \
             {} reorganisations (deepest {}), undo of {} blocks and {} coins equal, \
             {} undo records found byte for byte in the other's files, \
             {} of {} script failures named alike\n",
            self.blocks,
            self.refused,
            self.connected,
            self.undecodable,
            self.headers,
            self.reorganisations,
            self.deepest,
            self.undo_compared,
            self.coins_compared,
            self.undo_records,
            self.script_failures.1,
            self.script_failures.0
        );
        for (reason, count) in &self.reasons {
            let _ = writeln!(text, "{count:>7} {reason}");
        }
        text
    }
}

/// Every undo record of a folder, with its checksum, as it stands on disk without the XOR, and
/// where it begins.
fn undo_records(disk: &dyn Disk, files: &BlockFiles, magic: [u8; 4]) -> BTreeMap<Vec<u8>, FilePos> {
    const HEAD: usize = 8;
    const CHECKSUM: usize = 32;
    let mut records = BTreeMap::new();
    for (number, size) in files.files(FileKind::Undo) {
        let mut bytes = vec![0; size as usize];
        let path = files.path(FileKind::Undo, number);
        disk.open(&path, OpenMode::Read).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        files.xor_key().apply(&mut bytes, 0);
        let mut at = 0;
        // Behind the last record the oracle has zeros.
        while bytes.get(at..at + 4).is_some_and(|found| found == magic) {
            let len = u32::from_le_bytes(bytes[at + 4..at + HEAD].try_into().unwrap()) as usize;
            let start = at + HEAD;
            at = start + len + CHECKSUM;
            let offset = u32::try_from(start).unwrap();
            records.insert(bytes[start..at].to_vec(), FilePos { file: number, offset });
        }
    }
    records
}

fn block_files(disk: Arc<dyn Disk>, dir: &Path, magic: [u8; 4]) -> BlockFiles {
    let config = BlockFilesConfig { magic, fresh_xor_key: Some(XOR_KEY), fast_prune: false };
    BlockFiles::open(disk, dir, config).unwrap()
}

/// One chain of ours and one of the oracle's, given the same.
struct Pair {
    forge: Forge,
    ours: ChainHandle,
    oracle: Oracle,
    /// Where our block files are.
    disk: MemDisk,
    tally: Tally,
    tip: BlockHash,
    /// Blocks whose undo records were compared.
    compared: HashSet<BlockHash>,
}

impl Pair {
    fn new(seed: u64, reasons: OracleReasons, pool: Arc<rayon::ThreadPool>) -> Self {
        let forge = Forge::new(seed);
        let backends = Backends::in_memory();
        let disk = MemDisk::new();
        let location = Location::Given(Backends { disk: Arc::new(disk.clone()), ..backends });
        let config = Config::in_memory(Arc::new(forge.params().clone()));
        let (ours, _thread) = Chain::open(
            Config { location, xor_key: Some(XOR_KEY), ..config },
            Arc::new(SystemClock::new()),
            Arc::new(NullLog),
            pool,
            Arc::new(ScriptCache::new(0, [0; 32])),
        )
        .unwrap();
        let tip = forge.params().genesis_hash;
        Self {
            forge,
            ours,
            oracle: Oracle::new(reasons),
            disk,
            tally: Tally::default(),
            tip,
            compared: HashSet::new(),
        }
    }

    fn step(&mut self) {
        let forged = self.forge.next_block();
        if forged.header_first {
            self.give_header(&forged);
        }
        if !forged.bytes.is_empty() {
            self.give_block(&forged);
        }
    }

    fn give_header(&mut self, forged: &Forged) {
        let header = forged.header();
        let theirs = self.oracle.header(&header);
        let ours = self.ours.submit_headers_blocking(vec![header], true).unwrap();
        let ours = ours.refused.map_or(Ok(()), |failure| Err(failure.reject.class));
        assert_eq!(ours, theirs, "verdict on the header of {forged:?}");
        self.tally.headers += 1;
    }

    fn give_block(&mut self, forged: &Forged) {
        let theirs = self.oracle.block(&forged.bytes);
        let ours = read_block(&mut forged.bytes.as_slice());
        let (theirs, ours) = match (theirs, ours) {
            (Some(theirs), Ok(ours)) => (theirs, ours),
            (None, Err(_)) => {
                self.tally.undecodable += 1;
                self.tally.refused += 1;
                self.tally.blocks += 1;
                return self.forge.told(forged, Fate::Failed, self.tip);
            }
            (theirs, ours) => panic!("one side reads it: {theirs:?}, {ours:?}, {forged:?}"),
        };
        let outcome = self.ours.submit_block_blocking(Arc::new(ours), SubmitOptions::WANTED).unwrap();
        let ours = answer(&outcome);
        assert!(same_answer(&ours, &theirs), "ours {outcome:?}, theirs {theirs:?}, {forged:?}");
        if is_script_failure(&ours) {
            self.tally.script_failures.0 += 1;
            self.tally.script_failures.1 += u64::from(ours == theirs);
        }

        self.tally.blocks += 1;
        let fate = match &theirs.verdict {
            Some(Err((_, text))) => {
                self.tally.refused += 1;
                *self.tally.reasons.entry(reason(text).to_owned()).or_default() += 1;
                Fate::Failed
            }
            Some(Ok(())) => {
                self.tally.connected += 1;
                Fate::Stored
            }
            None => Fate::Stored,
        };
        self.follow_tip(forged);
        self.forge.told(forged, fate, self.tip);
    }

    /// Compares the tips, counts reorganisations, and compares what new blocks spent.
    fn follow_tip(&mut self, forged: &Forged) {
        let (theirs, height) = self.oracle.tip();
        let view = self.ours.view();
        let tip = view.tip();
        assert_eq!((tip.hash, tip.height), (theirs, height), "tip after {forged:?}");
        if theirs == self.tip {
            return;
        }
        let fork = view.common_ancestor(&self.tip, &theirs).unwrap();
        if fork.hash != self.tip {
            self.tally.reorganisations += 1;
            let before = view.header(&self.tip).unwrap();
            self.tally.deepest = self.tally.deepest.max(u64::from(before.height.0 - fork.height.0));
        }
        for (hash, height) in self.oracle.blocks_above(fork.height) {
            if self.compared.insert(hash) {
                let (bytes, undo) = self.oracle.connected(&hash);
                assert_eq!(view.block_bytes(&hash).unwrap(), bytes, "block at {height}");
                assert_eq!(*view.undo(&hash).unwrap(), undo, "undo at {height}");
                self.tally.undo_compared += 1;
            }
        }
        self.tip = theirs;
    }

    /// Compares the files. Ours reads the oracle's; and every undo record of ours is one of the
    /// oracle's byte for byte, checksum included. (The oracle has more: it also keeps those of
    /// branches that proved invalid before they had the most work.)
    fn compare_files(&mut self) {
        let magic = self.forge.params().magic;
        let dir = self.oracle.blocks_dir();
        let theirs = block_files(Arc::new(OsDisk), &dir, magic);
        assert_ne!(theirs.xor_key(), XorKey::default());
        let stored: HashSet<Vec<u8>> = theirs
            .files(FileKind::Block)
            .into_iter()
            .flat_map(|(number, _)| theirs.scan(number).unwrap())
            .map(|block| block.unwrap().bytes)
            .collect();
        let their_undo = undo_records(&OsDisk, &theirs, magic);
        let ours = block_files(Arc::new(self.disk.clone()), Path::new("/blocks"), magic);
        let our_undo = undo_records(&self.disk, &ours, magic);
        assert!(our_undo.keys().all(|record| their_undo.contains_key(record)), "undo records differ");
        let view = self.ours.view();
        for hash in &self.compared {
            assert!(stored.contains(&view.block_bytes(hash).unwrap()), "block {hash} in their files");
            let undo = view.undo(hash).unwrap();
            let previous = view.header(hash).unwrap().header.prev_blockhash.to_byte_array();
            let mut record = encode_block_undo(&undo);
            let checksum = sha256d::Hash::hash(&[&previous, record.as_slice()].concat());
            record.extend(checksum.to_byte_array());
            let position = their_undo.get(&record).unwrap_or_else(|| panic!("undo record of {hash}"));
            let read = theirs.read_undo(*position, &previous).unwrap();
            assert_eq!(decode_block_undo(&read).unwrap(), *undo);
            self.tally.undo_records += 1;
        }
    }

    /// Compares our coins with those rebuilt from the oracle's blocks and undo records.
    fn finish(mut self) -> Tally {
        let mut coins: HashMap<OutPoint, Coin> = HashMap::new();
        for (hash, height) in self.oracle.blocks_above(Height::GENESIS) {
            let (bytes, undo) = self.oracle.connected(&hash);
            let block = decode_block(&bytes).unwrap();
            let mut spent = undo.txs.iter();
            for tx in &block.txdata {
                if !tx.is_coinbase() {
                    let spent = spent.next().expect("undo of every transaction");
                    for (input, spent) in tx.input.iter().zip(spent) {
                        assert_eq!(coins.remove(&input.previous_output).as_ref(), Some(spent));
                    }
                }
                let txid = tx.compute_txid();
                for (vout, output) in (0..).zip(&tx.output) {
                    if !is_unspendable(&output.script_pubkey) {
                        let coin = Coin { output: output.clone(), height, is_coinbase: tx.is_coinbase() };
                        coins.insert(OutPoint { txid, vout }, coin);
                    }
                }
            }
        }
        let view = self.ours.view();
        for (outpoint, coin) in &coins {
            assert_eq!(view.coin(outpoint).as_ref(), Some(coin));
        }
        let info = self.ours.utxo_set_info_blocking(UtxoHashKind::None).unwrap();
        assert_eq!(info.txouts, coins.len() as u64, "no coin more");
        self.tally.coins_compared += coins.len() as u64;
        self.compare_files();
        self.ours.shutdown_blocking().unwrap();
        self.tally
    }
}

fn answer(outcome: &BlockOutcome) -> Answer {
    let verdict: Verdict =
        outcome.result.as_ref().map_err(|reject| (reject.class, reject.to_string())).copied();
    Answer { new: outcome.new, verdict: outcome.checked.then_some(verdict) }
}

/// Reason and debug message must be the same letter for letter; only among several failing
/// scripts Core's choice is left to its threads.
fn same_answer(ours: &Answer, theirs: &Answer) -> bool {
    ours == theirs || ours.new == theirs.new && is_script_failure(ours) && is_script_failure(theirs)
}

fn is_script_failure(answer: &Answer) -> bool {
    match &answer.verdict {
        Some(Err((class, text))) => {
            *class == BlockClass::Consensus && reason(text) == "block-script-verify-flag-failed"
        }
        _ => false,
    }
}

/// The reason without debug message and script error; two that stand for two rules are told apart.
fn reason(text: &str) -> &str {
    let (reason, debug) = text.split_once(", ").unwrap_or((text, ""));
    match reason {
        "bad-blk-sigops" if debug == "too many sigops" => "bad-blk-sigops (seen with the coins)",
        "bad-txns-nonfinal" if debug.starts_with("contains a non-BIP68-final") => "bad-txns-nonfinal (BIP68)",
        _ if reason.starts_with("block-script") => "block-script-verify-flag-failed",
        _ => reason,
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn our_chain_answers_as_libbitcoinkernels_does() {
    let blocks = setting("IRONPEER_DIFFERENTIAL_BLOCKS", BLOCKS);
    let seed = setting("IRONPEER_DIFFERENTIAL_SEED", 0x1f0a_57ee);
    let segments = blocks.div_ceil(SEGMENT);
    let log = OracleLog::listen().unwrap();
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().unwrap());
    let total = Mutex::new(Tally::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let reasons = log.reasons();
            scope.spawn(|| {
                let reasons = reasons;
                loop {
                    let segment = next.fetch_add(1, Ordering::Relaxed);
                    if segment >= segments {
                        return;
                    }
                    let mut pair = Pair::new(seed.wrapping_add(segment), reasons.clone(), Arc::clone(&pool));
                    while pair.tally.blocks < SEGMENT {
                        pair.step();
                    }
                    let tally = pair.finish();
                    total.lock().unwrap().add(tally);
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{}", total.summary());
    assert!(total.blocks >= blocks);
    assert!(total.refused * 100 >= total.blocks * REFUSED_PERCENT, "{} refused", total.refused);
    assert!(
        total.reorganisations * BLOCKS >= REORGANISATIONS * blocks,
        "{} reorganisations",
        total.reorganisations
    );
    // Where several inputs fail, the two sides may name different ones.
    let (failures, alike) = total.script_failures;
    assert!(alike * 100 >= failures * 90, "{alike} of {failures} script failures named alike");
    assert_eq!(total.undo_records, total.undo_compared);
    let missed: Vec<_> = REACHABLE.iter().filter(|reason| !total.reasons.contains_key(**reason)).collect();
    assert!(missed.is_empty(), "reasons never reached: {missed:?}");
    let unknown: Vec<_> =
        total.reasons.keys().filter(|reason| !REACHABLE.contains(&reason.as_str())).collect();
    assert!(unknown.is_empty(), "reasons not in the list: {unknown:?}");
}

/// The faults that leave a trace are all made: none is dead code.
#[test]
fn the_forge_makes_every_fault() {
    let mut forge = Forge::new(7);
    let log = OracleLog::listen().unwrap();
    let oracle = Oracle::new(log.reasons());
    let mut made: HashSet<Fault> = HashSet::new();
    for _ in 0..2_500 {
        let forged = forge.next_block();
        made.extend(&forged.faults);
        if forged.bytes.is_empty() {
            continue;
        }
        let answer = oracle.block(&forged.bytes);
        let stored = answer.is_some_and(|answer| !matches!(answer.verdict, Some(Err(_))));
        forge.told(&forged, if stored { Fate::Stored } else { Fate::Failed }, oracle.tip().0);
    }
    let rare = [Fault::TooLong, Fault::TooHeavy];
    let never: Vec<_> = Fault::all().filter(|fault| !made.contains(fault) && !rare.contains(fault)).collect();
    assert!(never.is_empty(), "{never:?}");
}

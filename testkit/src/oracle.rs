//! libbitcoinkernel's chainstate manager as the one that knows.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use bitcoinkernel::prelude::*;
use bitcoinkernel::{
    Block, BlockTreeEntry, BlockValidationResult, BlockValidationStateRef, ChainType, ChainstateManager,
    Context, ContextBuilder, KernelError, Log, Logger, ProcessBlockHeaderResult, ProcessBlockResult,
    ValidationMode,
};
use ironpeer_primitives::{BlockClass, BlockUndo, Coin, Height};
use tempfile::TempDir;

/// A verdict: what the failure condemns, and reason and debug message as Core's `ToString` joins
/// them.
pub type Verdict = Result<(), (BlockClass, String)>;

/// What the oracle says of a block given to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// It was stored by this call.
    pub new: bool,
    /// Its verdict, if one was reached in this call.
    pub verdict: Option<Verdict>,
}

type Reasons = Arc<Mutex<HashMap<ThreadId, Vec<String>>>>;

/// Listens to the kernel's log, the only place where it names reasons. There is one log a
/// process, so lines are told apart by the thread that wrote them.
pub struct OracleLog {
    reasons: Reasons,
    _logger: Logger,
}

struct Listener {
    reasons: Reasons,
}

impl Log for Listener {
    fn log(&self, message: &str) {
        let accept = message
            .split_once("AcceptBlock FAILED (")
            .and_then(|(_, rest)| rest.trim_end().strip_suffix(')'));
        let connect = || {
            let (_, rest) = message.split_once("ConnectBlock ")?;
            rest.split_once(" failed, ").map(|(_, reason)| reason.trim_end())
        };
        if let Some(reason) = accept.or_else(connect) {
            let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
            reasons.entry(std::thread::current().id()).or_default().push(reason.to_owned());
        }
    }
}

impl OracleLog {
    /// Starts listening. Keep it until the last oracle is done.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn listen() -> Result<Self, KernelError> {
        let reasons = Reasons::default();
        let logger = Logger::new(Listener { reasons: Arc::clone(&reasons) })?;
        Ok(Self { reasons, _logger: logger })
    }

    /// The reasons heard, for oracles to read their own thread's from.
    #[must_use]
    pub fn reasons(&self) -> OracleReasons {
        OracleReasons(Arc::clone(&self.reasons))
    }
}

/// A reader's share of an [`OracleLog`].
#[derive(Clone, Debug)]
pub struct OracleReasons(Reasons);

impl OracleReasons {
    fn take(&self) -> Vec<String> {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.remove(&std::thread::current().id()).unwrap_or_default()
    }
}

type Checked = Arc<Mutex<Vec<(BlockHash, Option<BlockClass>)>>>;

/// A regtest chain of libbitcoinkernel's, its databases in memory.
pub struct Oracle {
    // Dropped in this order.
    chain: ChainstateManager,
    _context: Context,
    folder: TempDir,
    checked: Checked,
    reasons: OracleReasons,
}

impl Oracle {
    /// An oracle that knows only the genesis block. Everything is to be asked on one thread.
    ///
    /// # Panics
    /// If the kernel cannot set up its chain.
    #[must_use]
    pub fn new(reasons: OracleReasons) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let checked = Checked::default();
        let heard = Arc::clone(&checked);
        let context = ContextBuilder::new()
            .chain_type(ChainType::Regtest)
            .with_block_checked_validation(move |block: Block, state: BlockValidationStateRef<'_>| {
                let class = match state.mode() {
                    ValidationMode::Valid => None,
                    ValidationMode::Invalid => Some(class(state.result())),
                    ValidationMode::InternalError => panic!("the oracle broke"),
                };
                let hash = BlockHash::from_byte_array(block.hash().to_bytes());
                heard.lock().unwrap_or_else(PoisonError::into_inner).push((hash, class));
            })
            .build()
            .expect("a context");
        let path = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
        let chain = ChainstateManager::builder(&context, &path("data"), &path("blocks"))
            .and_then(|builder| {
                // One more thread makes it join script checks last, as nodes do.
                builder.worker_threads(1).block_tree_db_in_memory(true).chainstate_db_in_memory(true).build()
            })
            .expect("a chainstate");
        chain.import_blocks().expect("the genesis block");
        Self { chain, _context: context, folder, checked, reasons }
    }

    /// Gives it a block; `None` if the bytes are none.
    ///
    /// # Panics
    /// If its callbacks and its log do not fit together.
    #[must_use]
    pub fn block(&self, bytes: &[u8]) -> Option<Answer> {
        let block = Block::new(bytes).ok()?;
        let hash = BlockHash::from_byte_array(block.hash().to_bytes());
        let result = self.chain.process_block(&block);
        let checked = std::mem::take(&mut *self.checked.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reasons = self.reasons.take().into_iter();
        let mut verdict = None;
        for (of, class) in checked {
            // A refusal's reason is logged right after its callback.
            let this = match class {
                None => Ok(()),
                Some(class) => Err((class, reasons.next().expect("a reason for every refusal"))),
            };
            if of == hash {
                verdict = Some(this);
            }
        }
        assert_eq!(reasons.next(), None, "a refusal for every reason");
        Some(Answer { new: result == ProcessBlockResult::NewBlock, verdict })
    }

    /// Gives it a header.
    ///
    /// # Errors
    /// The class, if it is refused.
    ///
    /// # Panics
    /// If the kernel cannot read it.
    pub fn header(&self, header: &Header) -> Result<(), BlockClass> {
        let header = bitcoinkernel::BlockHeader::new(&serialize(header)).expect("80 bytes");
        let result = self.chain.process_block_header(&header).expect("an answer");
        self.reasons.take();
        match result {
            ProcessBlockHeaderResult::Valid => Ok(()),
            ProcessBlockHeaderResult::Invalid(state) => Err(class(state.result())),
        }
    }

    /// Where its block and undo files lie. All it has stored is in them at any time.
    #[must_use]
    pub fn blocks_dir(&self) -> PathBuf {
        self.folder.path().join("blocks")
    }

    /// The active chain's last block.
    #[must_use]
    pub fn tip(&self) -> (BlockHash, Height) {
        let tip = self.chain.active_chain().tip();
        (hash_of(&tip), height_of(&tip))
    }

    /// The active chain's blocks from above `below` to the tip.
    #[must_use]
    pub fn blocks_above(&self, below: Height) -> Vec<(BlockHash, Height)> {
        let chain = self.chain.active_chain();
        (below.0 as usize + 1..)
            .map_while(|height| chain.at_height(height))
            .map(|entry| (hash_of(&entry), height_of(&entry)))
            .collect()
    }

    /// A block's bytes and the coins it spent, both as the kernel stored them.
    ///
    /// # Panics
    /// If the block is not stored or was never connected.
    #[must_use]
    pub fn connected(&self, hash: &BlockHash) -> (Vec<u8>, BlockUndo) {
        let hash = bitcoinkernel::BlockHash::new(hash.as_byte_array());
        let hash = hash.expect("32 bytes");
        let entry = self.chain.get_block_tree_entry(&hash).expect("a known block");
        let bytes = self.chain.read_block_data(&entry).and_then(|block| block.consensus_encode());
        let undo = self.chain.read_spent_outputs(&entry).expect("undo data");
        let txs = (0..undo.count()).map(|tx| {
            let spent = undo.transaction_spent_outputs(tx).expect("within the count");
            (0..spent.count()).map(|coin| coin_of(&spent.coin(coin).expect("within the count"))).collect()
        });
        (bytes.expect("block data"), BlockUndo { txs: txs.collect() })
    }
}

fn coin_of(coin: &bitcoinkernel::CoinRef<'_>) -> Coin {
    let output = coin.output();
    Coin {
        output: TxOut {
            value: Amount::from_sat(u64::try_from(output.value()).expect("a coin's value")),
            script_pubkey: ScriptBuf::from_bytes(output.script_pubkey().to_bytes()),
        },
        height: Height(coin.confirmation_height()),
        is_coinbase: coin.is_coinbase(),
    }
}

fn hash_of(entry: &BlockTreeEntry<'_>) -> BlockHash {
    BlockHash::from_byte_array(entry.block_hash().to_bytes())
}

fn height_of(entry: &BlockTreeEntry<'_>) -> Height {
    Height(u32::try_from(entry.height()).expect("no negative height"))
}

fn class(result: BlockValidationResult) -> BlockClass {
    match result {
        BlockValidationResult::Consensus => BlockClass::Consensus,
        BlockValidationResult::CachedInvalid => BlockClass::CachedInvalid,
        BlockValidationResult::InvalidHeader => BlockClass::InvalidHeader,
        BlockValidationResult::Mutated => BlockClass::Mutated,
        BlockValidationResult::MissingPrev => BlockClass::MissingPrev,
        BlockValidationResult::InvalidPrev => BlockClass::InvalidPrev,
        BlockValidationResult::TimeFuture => BlockClass::TimeFuture,
        BlockValidationResult::HeaderLowWork => BlockClass::HeaderLowWork,
        other => panic!("a refusal without a class: {other:?}"),
    }
}

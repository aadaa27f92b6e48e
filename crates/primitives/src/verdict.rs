use std::borrow::Cow;
use std::fmt;

/// What a block or header failure condemns: Core's `BlockValidationResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockClass {
    /// Breaks a consensus rule.
    Consensus,
    /// Was found invalid before (`duplicate-invalid`).
    CachedInvalid,
    /// The header breaks a rule of its own.
    InvalidHeader,
    /// The body does not belong to the header; never condemns the header.
    Mutated,
    /// The parent is unknown (`prev-blk-not-found`).
    MissingPrev,
    /// Built on an invalid block (`bad-prevblk`).
    InvalidPrev,
    /// More than two hours ahead of the clock; may be right later.
    TimeFuture,
    /// Too little work to be kept (`too-little-chainwork`).
    HeaderLowWork,
}

/// A refused block or header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReject {
    /// What the failure condemns.
    pub class: BlockClass,
    /// Core's reject reason, such as `bad-txns-inputs-missingorspent`.
    pub reason: Cow<'static, str>,
    /// Core's debug message; empty when it has none.
    pub debug: String,
}

impl BlockReject {
    /// A refusal without a debug message.
    pub fn new(class: BlockClass, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { class, reason: reason.into(), debug: String::new() }
    }

    /// The same with Core's debug message.
    #[must_use]
    pub fn with_debug(mut self, debug: impl Into<String>) -> Self {
        self.debug = debug.into();
        self
    }

    /// Whether the failure may be written down against the header's hash. A mutated body, an
    /// early block and a missing parent say nothing lasting about it.
    #[must_use]
    pub const fn condemns_header(&self) -> bool {
        !matches!(
            self.class,
            BlockClass::Mutated
                | BlockClass::TimeFuture
                | BlockClass::MissingPrev
                | BlockClass::HeaderLowWork
        )
    }
}

impl fmt::Display for BlockReject {
    /// As Core's `ValidationState::ToString`: the reason, then the debug message after a comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.debug.is_empty() {
            write!(f, ", {}", self.debug)?;
        }
        Ok(())
    }
}

impl std::error::Error for BlockReject {}

/// Why a transaction was refused: Core's `TxValidationResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxClass {
    /// Breaks a consensus rule.
    Consensus,
    /// Fails on its inputs under policy but not consensus rules.
    InputsNotStandard,
    /// Against relay policy.
    NotStandard,
    /// Spends coins that are not known (an orphan, perhaps).
    MissingInputs,
    /// Immature coinbase, or not final yet.
    PrematureSpend,
    /// The witness may have been changed on the way; says nothing about the txid.
    WitnessMutated,
    /// The witness was taken away on the way.
    WitnessStripped,
    /// In the mempool or the chain already, or conflicts with what is.
    Conflict,
    /// Fee, size, cluster or replacement limits.
    MempoolPolicy,
    /// This node has no mempool to check it against.
    NoMempool,
    /// Could pass together with a child (a package).
    Reconsiderable,
    /// Not determined.
    Unknown,
}

/// A refused transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReject {
    /// What the failure means for the peer and the caches.
    pub class: TxClass,
    /// Core's reject reason, such as `bad-txns-vout-empty`.
    pub reason: Cow<'static, str>,
    /// Core's debug message; empty when it has none.
    pub debug: String,
}

impl TxReject {
    /// A refusal without a debug message.
    pub fn new(class: TxClass, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { class, reason: reason.into(), debug: String::new() }
    }

    /// The same with Core's debug message.
    #[must_use]
    pub fn with_debug(mut self, debug: impl Into<String>) -> Self {
        self.debug = debug.into();
        self
    }
}

impl fmt::Display for TxReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if !self.debug.is_empty() {
            write!(f, ", {}", self.debug)?;
        }
        Ok(())
    }
}

impl std::error::Error for TxReject {}

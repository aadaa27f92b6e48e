use std::borrow::Cow;

/// Core's log categories (`src/logging/categories.h`); `Any` is Core's `ALL`/unconditional.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogCategory {
    Any,
    Net,
    Tor,
    Mempool,
    Http,
    Bench,
    Zmq,
    WalletDb,
    Rpc,
    EstimateFee,
    Addrman,
    SelectCoins,
    Reindex,
    CmpctBlock,
    Rand,
    Prune,
    Proxy,
    MempoolRej,
    Libevent,
    CoinDb,
    Qt,
    LevelDb,
    Validation,
    I2p,
    Ipc,
    BlockStorage,
    TxReconciliation,
    Scan,
    TxPackages,
    PrivBroadcast,
    Kernel,
}

impl LogCategory {
    /// Every category that `-debug=` knows, with its name there.
    pub const NAMED: [(&'static str, Self); 30] = [
        ("net", Self::Net),
        ("tor", Self::Tor),
        ("mempool", Self::Mempool),
        ("http", Self::Http),
        ("bench", Self::Bench),
        ("zmq", Self::Zmq),
        ("walletdb", Self::WalletDb),
        ("rpc", Self::Rpc),
        ("estimatefee", Self::EstimateFee),
        ("addrman", Self::Addrman),
        ("selectcoins", Self::SelectCoins),
        ("reindex", Self::Reindex),
        ("cmpctblock", Self::CmpctBlock),
        ("rand", Self::Rand),
        ("prune", Self::Prune),
        ("proxy", Self::Proxy),
        ("mempoolrej", Self::MempoolRej),
        ("libevent", Self::Libevent),
        ("coindb", Self::CoinDb),
        ("qt", Self::Qt),
        ("leveldb", Self::LevelDb),
        ("validation", Self::Validation),
        ("i2p", Self::I2p),
        ("ipc", Self::Ipc),
        ("blockstorage", Self::BlockStorage),
        ("txreconciliation", Self::TxReconciliation),
        ("scan", Self::Scan),
        ("txpackages", Self::TxPackages),
        ("privatebroadcast", Self::PrivBroadcast),
        ("kernel", Self::Kernel),
    ];

    /// The name in `-debug=` and in the line's `[name]` prefix.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(_, category)| *category == self).map_or("all", |(name, _)| name)
    }
}

/// How much a line matters.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
}

/// One line for `debug.log`, as data: pure rooms return these among their actions, and a shell
/// hands them to the node's [`LogSink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// What it is about; decides with `level` whether it is written.
    pub category: LogCategory,
    /// How much it matters.
    pub level: LogLevel,
    /// Core's text where a client or test compares it; no newline at the end.
    pub text: Cow<'static, str>,
}

impl LogLine {
    /// A line that is always written, as Core's `LogInfo`.
    pub fn info(text: impl Into<Cow<'static, str>>) -> Self {
        Self { category: LogCategory::Any, level: LogLevel::Info, text: text.into() }
    }

    /// A warning, always written.
    pub fn warning(text: impl Into<Cow<'static, str>>) -> Self {
        Self { category: LogCategory::Any, level: LogLevel::Warning, text: text.into() }
    }

    /// An error, always written.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Self {
        Self { category: LogCategory::Any, level: LogLevel::Error, text: text.into() }
    }

    /// A line written only when `category` is switched on, as Core's `LogDebug`.
    pub fn debug(category: LogCategory, text: impl Into<Cow<'static, str>>) -> Self {
        Self { category, level: LogLevel::Debug, text: text.into() }
    }
}

/// Where log lines go. Each line is written before the call returns, since Core's tests read
/// the file as soon as the reply that follows it arrives.
pub trait LogSink: Send + Sync + 'static {
    /// Writes the line if its category and level are on.
    fn log(&self, line: LogLine);

    /// Whether debug lines of this category are written, to spare building their text.
    fn enabled(&self, category: LogCategory) -> bool;
}

/// Drops every line; for tests and embedders that want none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullLog;

impl LogSink for NullLog {
    fn log(&self, _: LogLine) {}

    fn enabled(&self, _: LogCategory) -> bool {
        false
    }
}

use std::fmt;

/// The bytes of a message type name, at most twelve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Command([u8; 12]);

impl Command {
    /// Every type Core knows, in the order of its `ALL_NET_MESSAGE_TYPES`.
    pub const KNOWN: [&'static str; 36] = [
        "version",
        "verack",
        "addr",
        "addrv2",
        "sendaddrv2",
        "inv",
        "getdata",
        "merkleblock",
        "getblocks",
        "getheaders",
        "tx",
        "headers",
        "block",
        "getaddr",
        "mempool",
        "ping",
        "pong",
        "notfound",
        "filterload",
        "filteradd",
        "filterclear",
        "sendheaders",
        "feefilter",
        "sendcmpct",
        "cmpctblock",
        "getblocktxn",
        "blocktxn",
        "getcfilters",
        "cfilter",
        "getcfheaders",
        "cfheaders",
        "getcfcheckpt",
        "cfcheckpt",
        "wtxidrelay",
        "sendtxrcncl",
        "feature",
    ];

    /// The type with this name; bytes past the twelfth are dropped.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; 12];
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self(bytes)
    }

    /// A type as it stands in a header.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The twelve bytes of the header.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 12] {
        self.0
    }

    /// The name up to the first zero byte.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The name as the static string Core knows it by, if it does.
    #[must_use]
    pub fn known(&self) -> Option<&'static str> {
        Self::KNOWN.into_iter().find(|known| known.as_bytes() == self.name())
    }

    /// Printable characters, then nothing but zeros (Core's `IsMessageTypeValid`).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let name = self.name();
        name.iter().all(|byte| (b' '..=0x7e).contains(byte))
            && self.0.iter().skip(name.len()).all(|b| *b == 0)
    }
}

impl fmt::Display for Command {
    /// As Core logs it: only characters that are safe in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sanitize(self.name()))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({self})")
    }
}

/// Keeps the characters that are safe in a log line or an RPC answer, drops the others (Core's
/// `SanitizeString` with its default rule).
#[must_use]
pub fn sanitize(bytes: &[u8]) -> String {
    let safe = |byte: &&u8| byte.is_ascii_alphanumeric() || b" .,;-_/:?@()".contains(*byte);
    bytes.iter().filter(safe).map(|byte| char::from(*byte)).collect()
}

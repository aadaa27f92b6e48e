use std::ops::{BitOr, BitOrAssign};
use std::str::FromStr;

/// The rules a script is held to (Core's `script_verify_flags`, same bits;
/// `src/script/interpreter.h`). Those of [`Self::MANDATORY`] are consensus and the only ones that
/// libbitcoinkernel takes; the rest exist as relay policy alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScriptFlags(u32);

#[allow(missing_docs)]
impl ScriptFlags {
    /// No rule beyond the first release's.
    pub const NONE: Self = Self(0);
    /// Pay to script hash (BIP16).
    pub const P2SH: Self = Self(1 << 0);
    pub const STRICTENC: Self = Self(1 << 1);
    /// Strict signature encoding (BIP66).
    pub const DERSIG: Self = Self(1 << 2);
    pub const LOW_S: Self = Self(1 << 3);
    /// The dummy of a multisig check is empty (BIP147).
    pub const NULLDUMMY: Self = Self(1 << 4);
    pub const SIGPUSHONLY: Self = Self(1 << 5);
    pub const MINIMALDATA: Self = Self(1 << 6);
    pub const DISCOURAGE_UPGRADABLE_NOPS: Self = Self(1 << 7);
    pub const CLEANSTACK: Self = Self(1 << 8);
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP65).
    pub const CHECKLOCKTIMEVERIFY: Self = Self(1 << 9);
    /// `OP_CHECKSEQUENCEVERIFY` (BIP112).
    pub const CHECKSEQUENCEVERIFY: Self = Self(1 << 10);
    /// Segregated witness (BIP141).
    pub const WITNESS: Self = Self(1 << 11);
    pub const DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM: Self = Self(1 << 12);
    pub const MINIMALIF: Self = Self(1 << 13);
    pub const NULLFAIL: Self = Self(1 << 14);
    pub const WITNESS_PUBKEYTYPE: Self = Self(1 << 15);
    pub const CONST_SCRIPTCODE: Self = Self(1 << 16);
    /// Taproot (BIP341, BIP342).
    pub const TAPROOT: Self = Self(1 << 17);
    pub const DISCOURAGE_UPGRADABLE_TAPROOT_VERSION: Self = Self(1 << 18);
    pub const DISCOURAGE_OP_SUCCESS: Self = Self(1 << 19);
    pub const DISCOURAGE_UPGRADABLE_PUBKEYTYPE: Self = Self(1 << 20);

    /// What every transaction must keep to be valid in a block today
    /// (`MANDATORY_SCRIPT_VERIFY_FLAGS`): every rule of consensus.
    pub const MANDATORY: Self = Self(
        Self::P2SH.0
            | Self::DERSIG.0
            | Self::NULLDUMMY.0
            | Self::CHECKLOCKTIMEVERIFY.0
            | Self::CHECKSEQUENCEVERIFY.0
            | Self::WITNESS.0
            | Self::TAPROOT.0,
    );

    /// What a transaction must keep to be relayed (`STANDARD_SCRIPT_VERIFY_FLAGS`).
    pub const STANDARD: Self = Self(
        Self::MANDATORY.0
            | Self::STRICTENC.0
            | Self::MINIMALDATA.0
            | Self::DISCOURAGE_UPGRADABLE_NOPS.0
            | Self::CLEANSTACK.0
            | Self::MINIMALIF.0
            | Self::NULLFAIL.0
            | Self::LOW_S.0
            | Self::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM.0
            | Self::WITNESS_PUBKEYTYPE.0
            | Self::CONST_SCRIPTCODE.0
            | Self::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION.0
            | Self::DISCOURAGE_OP_SUCCESS.0
            | Self::DISCOURAGE_UPGRADABLE_PUBKEYTYPE.0,
    );

    /// Core's name of each rule, in the order it prints them.
    pub const NAMES: [(&'static str, Self); 21] = [
        ("CHECKLOCKTIMEVERIFY", Self::CHECKLOCKTIMEVERIFY),
        ("CHECKSEQUENCEVERIFY", Self::CHECKSEQUENCEVERIFY),
        ("CLEANSTACK", Self::CLEANSTACK),
        ("CONST_SCRIPTCODE", Self::CONST_SCRIPTCODE),
        ("DERSIG", Self::DERSIG),
        ("DISCOURAGE_OP_SUCCESS", Self::DISCOURAGE_OP_SUCCESS),
        ("DISCOURAGE_UPGRADABLE_NOPS", Self::DISCOURAGE_UPGRADABLE_NOPS),
        ("DISCOURAGE_UPGRADABLE_PUBKEYTYPE", Self::DISCOURAGE_UPGRADABLE_PUBKEYTYPE),
        ("DISCOURAGE_UPGRADABLE_TAPROOT_VERSION", Self::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION),
        ("DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM", Self::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM),
        ("LOW_S", Self::LOW_S),
        ("MINIMALDATA", Self::MINIMALDATA),
        ("MINIMALIF", Self::MINIMALIF),
        ("NULLDUMMY", Self::NULLDUMMY),
        ("NULLFAIL", Self::NULLFAIL),
        ("P2SH", Self::P2SH),
        ("SIGPUSHONLY", Self::SIGPUSHONLY),
        ("STRICTENC", Self::STRICTENC),
        ("TAPROOT", Self::TAPROOT),
        ("WITNESS", Self::WITNESS),
        ("WITNESS_PUBKEYTYPE", Self::WITNESS_PUBKEYTYPE),
    ];
}

impl ScriptFlags {
    /// Core's bits, which libbitcoinkernel shares.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether every rule of `other` is among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any rule of `other` is among these.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// These but those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Core's names of these rules, in the order it prints them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, flag)| self.contains(*flag)).map(|(name, _)| name)
    }
}

impl BitOr for ScriptFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ScriptFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Core has no script rule of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown script verification flag: {0}")]
pub struct UnknownScriptFlag(pub String);

impl FromStr for ScriptFlags {
    type Err = UnknownScriptFlag;

    /// Names with commas between, as in Core's test vectors; `NONE` and nothing mean none.
    fn from_str(text: &str) -> Result<Self, UnknownScriptFlag> {
        text.split(',').filter(|name| !name.is_empty() && *name != "NONE").try_fold(
            Self::NONE,
            |all, name| match Self::NAMES.iter().find(|(known, _)| *known == name) {
                Some((_, flag)) => Ok(all | *flag),
                None => Err(UnknownScriptFlag(name.to_owned())),
            },
        )
    }
}

#[cfg(test)]
#[path = "script_flags_tests.rs"]
mod tests;

use std::ops::{BitOr, BitOrAssign};

use bitcoin::BlockHash;
use ironpeer_primitives::Height;

use crate::Params;

/// Script rules in force for a block, in libbitcoinkernel's bits (`src/script/interpreter.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScriptFlags(u32);

impl ScriptFlags {
    /// No rule beyond the first release's.
    pub const NONE: Self = Self(0);
    /// Pay to script hash (BIP16).
    pub const P2SH: Self = Self(1 << 0);
    /// Strict signature encoding (BIP66).
    pub const DERSIG: Self = Self(1 << 2);
    /// The dummy of a multisig check is empty (BIP147).
    pub const NULLDUMMY: Self = Self(1 << 4);
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP65).
    pub const CHECKLOCKTIMEVERIFY: Self = Self(1 << 9);
    /// `OP_CHECKSEQUENCEVERIFY` (BIP112).
    pub const CHECKSEQUENCEVERIFY: Self = Self(1 << 10);
    /// Segregated witness (BIP141).
    pub const WITNESS: Self = Self(1 << 11);
    /// Taproot (BIP341, BIP342).
    pub const TAPROOT: Self = Self(1 << 17);
    /// Every rule libbitcoinkernel knows.
    pub const ALL: Self = Self(
        Self::P2SH.0
            | Self::DERSIG.0
            | Self::NULLDUMMY.0
            | Self::CHECKLOCKTIMEVERIFY.0
            | Self::CHECKSEQUENCEVERIFY.0
            | Self::WITNESS.0
            | Self::TAPROOT.0,
    );

    /// As libbitcoinkernel's bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// From libbitcoinkernel's bits; `None` if one of them is unknown to it.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// Whether every rule of `other` is in force.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
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

/// The script rules for the block `hash` at `height` (Core's `GetBlockScriptFlags`).
///
/// P2SH, witness and taproot rules hold at every height, since only the blocks listed in
/// [`Params::script_flag_exceptions`] break them; the others begin at their buried heights.
#[must_use]
pub fn script_flags(hash: &BlockHash, height: Height, params: &Params) -> ScriptFlags {
    let mut flags = params
        .script_flag_exceptions
        .iter()
        .find(|(exception, _)| exception == hash)
        .map_or(ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::TAPROOT, |(_, flags)| *flags);
    for (activation, rule) in [
        (params.bip66_height, ScriptFlags::DERSIG),
        (params.bip65_height, ScriptFlags::CHECKLOCKTIMEVERIFY),
        (params.csv_height, ScriptFlags::CHECKSEQUENCEVERIFY),
        (params.segwit_height, ScriptFlags::NULLDUMMY),
    ] {
        if height >= activation {
            flags |= rule;
        }
    }
    flags
}

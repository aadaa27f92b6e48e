use bitcoin::BlockHash;
use ironpeer_primitives::{Height, ScriptFlags};

use crate::Params;

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

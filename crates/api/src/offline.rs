//! What command line tools do with transactions without a node: the same code that answers the
//! JSON-RPC methods of the same purpose, without the texts and checks those alone have.

use bitcoin::{Network, ScriptBuf, Transaction};
use serde_json::Value;

pub use crate::methods::sign::sign_offline as sign;
use crate::{address, call, tx_json};

/// A transaction from hex, in the form whose scripts make sense.
#[must_use]
pub fn decode_transaction(hex: &str) -> Option<Transaction> {
    crate::methods::rawtx::decode(hex, true, true)
}

/// A transaction in hex; one without inputs is never in the witness form.
#[must_use]
pub fn transaction_hex(tx: &Transaction) -> String {
    crate::methods::rawtx::serialize_no_witness_marker(tx)
}

/// A transaction taken apart, as `getrawtransaction` shows it.
#[must_use]
pub fn transaction_json(tx: &Transaction, network: Network) -> Value {
    tx_json::transaction(tx, network, true, None).into()
}

/// The output script an address of the network stands for.
#[must_use]
pub fn address_script(text: &str, network: Network) -> Option<ScriptBuf> {
    address::decode(text, network).ok()
}

/// An amount in JSON, in satoshi.
///
/// # Errors
/// Core's text for what is no amount.
pub fn amount(value: &Value) -> Result<u64, String> {
    call::amount_sats(value).map(i64::unsigned_abs).map_err(|error| error.message)
}

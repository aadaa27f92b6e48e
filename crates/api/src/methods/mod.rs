//! The methods, one file a group.

mod absent;
mod activity;
mod block_stats;
pub(crate) mod blockchain;
mod branches;
mod coins;
mod control;
mod fees;
mod filters;
mod generate;
mod mempool;
mod mining;
mod net;
mod packages;
mod proof;
mod psbt;
mod psbt_analysis;
mod psbt_fields;
mod psbt_packet;
mod psbt_text;
pub(crate) mod rawtx;
pub(crate) mod scan;
pub(crate) mod sign;
mod snapshot;
mod util;
mod zmq;

use crate::table::Method;

/// Every group's methods.
pub(crate) static GROUPS: &[&[Method]] = &[
    absent::METHODS,
    activity::METHODS,
    block_stats::METHODS,
    blockchain::METHODS,
    branches::METHODS,
    coins::METHODS,
    control::METHODS,
    fees::METHODS,
    filters::METHODS,
    generate::METHODS,
    mempool::METHODS,
    mining::METHODS,
    net::METHODS,
    packages::METHODS,
    proof::METHODS,
    psbt::METHODS,
    rawtx::METHODS,
    snapshot::METHODS,
    util::METHODS,
    zmq::METHODS,
];

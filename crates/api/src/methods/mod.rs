//! The methods, one file a group.

mod block_stats;
mod blockchain;
mod branches;
pub(crate) mod coins;
mod control;
mod generate;
mod mempool;
mod mining;
mod net;
mod packages;
mod rawtx;
mod sign;
mod util;
mod zmq;

use crate::table::Method;

/// Every group's methods.
pub(crate) static GROUPS: &[&[Method]] = &[
    block_stats::METHODS,
    blockchain::METHODS,
    branches::METHODS,
    coins::METHODS,
    control::METHODS,
    generate::METHODS,
    mempool::METHODS,
    mining::METHODS,
    net::METHODS,
    packages::METHODS,
    rawtx::METHODS,
    util::METHODS,
    zmq::METHODS,
];

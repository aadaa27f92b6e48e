//! Other people's clients, as their users run them, against the daemon.

mod bdk;
mod bitcoincore;
mod node;
mod plain;
#[expect(deprecated, reason = "the client's authors rename it; its users have this one")]
mod typed;
mod zmq;

//! The doors of the node: JSON-RPC in Bitcoin Core's dialect, REST, ZMQ notifications and the web
//! server. Wire types live only here; other rooms are reached by their handles and views alone.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
mod address;
mod auth;
mod body;
mod call;
mod context;
mod descriptor;
mod dialect;
mod error;
mod health;
pub mod json;
pub mod limits;
mod methods;
mod metrics;
pub mod offline;
mod openrpc;
mod reply;
mod rest;
mod results;
mod seats;
mod server;
mod shape;
mod table;
mod tx_json;
mod zmq;

pub use auth::{BadRpcAuth, Credentials, Subnet};
pub use context::{ApiContext, Facts, Forward, LogControl};
pub use dialect::Door;
pub use error::{RpcError, RpcResult, code};
pub use health::{HealthServer, Probes};
pub use metrics::metrics;
pub use openrpc::openrpc;
pub use server::{RpcServer, ServerConfig};
pub use table::{CliConversion, CliFormat, cli_conversions};
pub use zmq::{Topic, ZmqNotifier, ZmqServer, ZmqSockets};

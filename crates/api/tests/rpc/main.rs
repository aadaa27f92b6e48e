//! The doors on real sockets, over a real chain and mempool in memory.

mod cases;
mod dialect;
mod files;
mod health;
mod hostile;
mod indexes;
mod methods;
mod metrics;
mod openrpc;
mod psbt;
mod rest;
mod support;
mod zmq;

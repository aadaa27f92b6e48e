//! Sockets, per-peer tasks, connection and address management.

//! The Bitcoin P2P message set and its framing, sans-IO.

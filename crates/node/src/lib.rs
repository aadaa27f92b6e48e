//! The door: flags, files, logs, build order, shutdown order; the binaries.

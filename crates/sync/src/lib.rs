//! Pure protocol machines: handshake, header sync, block and transaction download.

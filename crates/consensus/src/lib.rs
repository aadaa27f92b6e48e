//! Pure validity rules of headers, transactions and blocks.

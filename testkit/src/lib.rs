//! Chain builder, fake clock and simulated parts for tests and benches.

mod data;

pub use data::{core_vectors, testdata};

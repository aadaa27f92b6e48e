//! Block templates, cancellable proof of work and the mining guard.

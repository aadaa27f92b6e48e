//! Transaction policy, packages, replacement and eviction.

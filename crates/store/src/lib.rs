//! The few verbs of disk: flat files, key-value batches, journal, atomic files, locks.

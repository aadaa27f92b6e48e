//! Header tree, coins, reorganisation and recovery: the single chain writer.

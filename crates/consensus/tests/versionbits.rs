//! BIP9 states, counted on chains of headers.

use bitcoin::block::Version;
use ironpeer_consensus::versionbits::{
    StateCache, ThresholdState, VersionBits, signals, state_after, state_since, statistics,
};
use ironpeer_consensus::{Ancestry, Bip9Deployment, Params, RegtestOptions, VersionBitsParameters};
use ironpeer_primitives::Height;
use ironpeer_testkit::consensus::HeaderChain;

const SIGNAL: i32 = 0x3000_0000;
const SILENT: i32 = 0x2000_0000;

/// Regtest headers with these versions, one second apart.
fn chain(params: &Params, versions: impl IntoIterator<Item = i32>) -> HeaderChain {
    let mut chain = HeaderChain::genesis(params);
    for version in versions {
        let (prev_blockhash, last) = chain.header_at(chain.height()).unwrap();
        let mut header = last;
        header.prev_blockhash = prev_blockhash;
        header.time += 1;
        header.version = Version::from_consensus(version);
        chain.push(header);
    }
    chain
}

fn with_dummy(start_time: i64, timeout: i64, min_activation_height: u32) -> Params {
    let min_activation_height = Height(min_activation_height);
    Params::regtest(RegtestOptions {
        test_dummy: Some(VersionBitsParameters { start_time, timeout, min_activation_height }),
        ..RegtestOptions::default()
    })
}

fn state(params: &Params, chain: &HeaderChain, parent: u32) -> ThresholdState {
    state_after(&params.deployments[0], chain, Some(Height(parent)), &mut StateCache::new())
}

#[test]
fn signals_need_the_top_bits() {
    assert!(signals(SIGNAL, 28));
    assert!(!signals(SILENT, 28));
    assert!(!signals(0x5000_0000, 28));
    assert!(!signals(-1, 28));
    assert!(signals(0x2000_0001, 0));
}

#[test]
fn a_deployment_starts_locks_in_and_activates_at_period_ends() {
    let params = with_dummy(0, Bip9Deployment::NO_TIMEOUT, 0);
    // The second period has 108 signals: just enough.
    let versions = (1..720).map(|height| if (144..252).contains(&height) { SIGNAL } else { SILENT });
    let chain = chain(&params, versions);
    use ThresholdState::{Active, Defined, LockedIn, Started};
    for (parent, expected) in [
        (0, Defined),
        (142, Defined),
        (143, Started),
        (286, Started),
        (287, LockedIn),
        (430, LockedIn),
        (431, Active),
        (719, Active),
    ] {
        assert_eq!(state(&params, &chain, parent), expected, "child of {parent}");
    }
    let since =
        |parent| state_since(&params.deployments[0], &chain, Some(Height(parent)), &mut StateCache::new()).0;
    assert_eq!([since(10), since(200), since(300), since(500), since(719)], [0, 144, 288, 432, 432]);
    // One cache serves all, in any order.
    let mut cache = StateCache::new();
    for parent in [719, 143, 300] {
        let fresh = state(&params, &chain, parent);
        assert_eq!(state_after(&params.deployments[0], &chain, Some(Height(parent)), &mut cache), fresh);
    }
    assert_eq!(state_after(&params.deployments[0], &chain, None, &mut cache), Defined);
}

#[test]
fn one_signal_too_few_does_not_lock_in() {
    let params = with_dummy(0, Bip9Deployment::NO_TIMEOUT, 0);
    let chain =
        chain(&params, (1..300).map(|height| if (144..251).contains(&height) { SIGNAL } else { SILENT }));
    assert_eq!(state(&params, &chain, 287), ThresholdState::Started);
    let stats = statistics(&params.deployments[0], &chain, Height(287));
    assert_eq!((stats.elapsed, stats.count, stats.possible), (144, 107, false));
    let stats = statistics(&params.deployments[0], &chain, Height(286));
    assert_eq!((stats.elapsed, stats.count, stats.possible, stats.signalling.len()), (143, 107, true, 143));
}

#[test]
fn activation_waits_for_its_least_height() {
    let params = with_dummy(0, Bip9Deployment::NO_TIMEOUT, 500);
    let chain = chain(&params, (1..720).map(|_| SIGNAL));
    assert_eq!(state(&params, &chain, 431), ThresholdState::LockedIn);
    assert_eq!(state(&params, &chain, 574), ThresholdState::LockedIn);
    assert_eq!(state(&params, &chain, 575), ThresholdState::Active);
}

#[test]
fn start_and_timeout_are_median_times() {
    let genesis_time = 1_296_688_602;
    // Median time past of block 143 is five seconds before its time.
    let late = with_dummy(genesis_time + 138, Bip9Deployment::NO_TIMEOUT, 0);
    let too_late = with_dummy(genesis_time + 139, Bip9Deployment::NO_TIMEOUT, 0);
    let chain = chain(&late, (1..720).map(|_| SILENT));
    assert_eq!(state(&late, &chain, 143), ThresholdState::Started);
    assert_eq!(state(&too_late, &chain, 143), ThresholdState::Defined);
    let timed_out = with_dummy(0, genesis_time + 282, 0);
    assert_eq!(state(&timed_out, &chain, 287), ThresholdState::Failed);
    assert_eq!(state(&with_dummy(0, genesis_time + 283, 0), &chain, 287), ThresholdState::Started);
    assert_eq!(state(&timed_out, &chain, 719), ThresholdState::Failed);
}

#[test]
fn always_and_never_need_no_blocks() {
    for (start, expected) in [
        (Bip9Deployment::ALWAYS_ACTIVE, ThresholdState::Active),
        (Bip9Deployment::NEVER_ACTIVE, ThresholdState::Failed),
    ] {
        let params = with_dummy(start, Bip9Deployment::NO_TIMEOUT, 0);
        let chain = chain(&params, []);
        assert_eq!(state(&params, &chain, 0), expected);
    }
    assert!(Params::main().deployments.iter().all(|dep| dep.start_time == Bip9Deployment::NEVER_ACTIVE));
}

#[test]
fn new_blocks_signal_while_started_or_locked_in() {
    let params = with_dummy(0, Bip9Deployment::NO_TIMEOUT, 0);
    let version = |blocks| {
        let chain = chain(&params, (0..blocks).map(|_| SIGNAL));
        VersionBits::new().block_version(&params, &chain)
    };
    assert_eq!(version(0), SILENT);
    assert_eq!(version(143), SIGNAL);
    assert_eq!(version(287), SIGNAL);
    assert_eq!(version(431), SILENT);
}

#[test]
fn unknown_rules_are_noticed() {
    let params = with_dummy(Bip9Deployment::NEVER_ACTIVE, Bip9Deployment::NO_TIMEOUT, 0);
    let unknown = |blocks| {
        let chain = chain(&params, (0..blocks).map(|_| 0x2000_0020));
        VersionBits::new().unknown_activations(&params, &chain)
    };
    assert_eq!(unknown(200), []);
    assert_eq!(unknown(287), [(5, false)]);
    assert_eq!(unknown(431), [(5, true)]);
    // What this node signals for itself is known.
    let started = with_dummy(0, Bip9Deployment::NO_TIMEOUT, 0);
    let chain = chain(&started, (0..300).map(|_| SIGNAL));
    assert_eq!(VersionBits::new().unknown_activations(&started, &chain), []);
}

//! Header rules on recorded headers and Core's proof-of-work vectors.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Network, Target, TxMerkleNode};
use ironpeer_consensus::{
    Ancestry, BuriedDeployment, Params, RegtestOptions, ScriptFlags, block_proof_equivalent_time,
    check_header, check_proof_of_work, contextual_check_header, median_time_past, next_work_required,
    permitted_difficulty_transition, script_flags, target_from_bits,
};
use ironpeer_primitives::{BlockClass, Height};
use ironpeer_testkit::consensus::HeaderChain;

const FAR_FUTURE: i64 = 4_000_000_000;

fn bits(bits: u32) -> CompactTarget {
    CompactTarget::from_consensus(bits)
}

/// Every header after `from` keeps every rule on top of those before it.
fn check_recorded(chain: &HeaderChain, params: &Params, from: u32) -> usize {
    let mut checked = 0;
    let mut last = None;
    for (height, hash, header) in chain.iter() {
        if let Some(last) = last {
            assert_eq!(header.prev_blockhash, last, "height {height} is linked");
        }
        last = Some(hash);
        check_header(header, params).unwrap();
        if height.0 > from {
            let parent = chain.up_to(height.prev().unwrap());
            contextual_check_header(header, &parent, params, FAR_FUTURE).unwrap();
            checked += 1;
        }
    }
    checked
}

#[test]
fn recorded_main_headers_keep_the_rules_over_the_first_retarget() {
    let chain = HeaderChain::recorded("mainnet-headers-0-32260.bin", Height(0));
    assert_eq!(check_recorded(&chain, &Params::main(), 0), 32_260);
    assert_eq!(chain.header_at(Height(32_256)).unwrap().1.bits, bits(0x1d00_d86a));
}

#[test]
fn recorded_main_headers_keep_the_rules_over_four_late_retargets() {
    // The first period is only there to retarget from.
    let chain = HeaderChain::recorded("mainnet-headers-822528-830592.bin", Height(822_528));
    assert_eq!(check_recorded(&chain, &Params::main(), 822_528 + 11), 8_053);
    for height in [824_544, 826_560, 828_576, 830_592] {
        let old = chain.header_at(Height(height - 1)).unwrap().1.bits;
        let new = chain.header_at(Height(height)).unwrap().1.bits;
        assert_ne!(old, new);
        let params = Params::main();
        assert!(permitted_difficulty_transition(&params, Height(height), old, new));
        assert!(!permitted_difficulty_transition(&params, Height(height + 1), old, new));
    }
}

#[test]
fn recorded_testnet3_headers_keep_the_twenty_minute_rule() {
    let chain = HeaderChain::recorded("testnet3-headers-0-9999.bin", Height(0));
    assert_eq!(check_recorded(&chain, &Params::testnet3(), 0), 9_999);
    let easiest = Params::testnet3().pow_limit_bits();
    let returns = (1..9_999)
        .filter(|height| {
            let at = |height| chain.header_at(Height(height)).unwrap().1.bits;
            at(*height) == easiest && at(height + 1) != easiest
        })
        .count();
    assert_eq!(returns, 3, "walks back to real difficulty");
}

#[test]
fn recorded_signet_headers_keep_the_rules() {
    let chain = HeaderChain::recorded("signet-headers-0-2015.bin", Height(0));
    assert_eq!(check_recorded(&chain, &Params::signet(None), 0), 2_015);
}

/// Core's `pow_tests.cpp`: first and last time of a period, its bits, and the bits after.
#[test]
fn retargets_match_cores_vectors() {
    let params = Params::main();
    for (last_height, first_time, last_time, old, new) in [
        (32_255, 1_261_130_161, 1_262_152_739, 0x1d00_ffff, 0x1d00_d86a),
        (2_015, 1_231_006_505, 1_233_061_996, 0x1d00_ffff, 0x1d00_ffff),
        (68_543, 1_279_008_237, 1_279_297_671, 0x1c05_a3f4, 0x1c01_68fd),
        (46_367, 1_263_163_443, 1_269_211_443, 0x1c38_7f6f, 0x1d00_e1fd),
    ] {
        let period = period(last_height, first_time, last_time, bits(old), bits(old));
        assert_eq!(next_work_required(&period, last_time + 600, &params), Some(bits(new)));
        let permitted =
            |new| permitted_difficulty_transition(&params, Height(last_height + 1), bits(old), bits(new));
        assert!(permitted(new));
        match last_height {
            68_543 => assert!(!permitted(new - 1)),
            46_367 => assert!(!permitted(new + 1)),
            _ => {}
        }
    }
}

fn header(time: u32, bits: CompactTarget) -> Header {
    Header {
        version: Version::from_consensus(4),
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time,
        bits,
        nonce: 0,
    }
}

/// A period of headers up to `last_height`, whose first has the bits `first`, the others `rest`.
fn period(
    last_height: u32,
    first_time: u32,
    last_time: u32,
    first: CompactTarget,
    rest: CompactTarget,
) -> HeaderChain {
    let headers = (0..2_016).map(|i| match i {
        0 => header(first_time, first),
        2_015 => header(last_time, rest),
        _ => header(first_time + i, rest),
    });
    HeaderChain::new(Height(last_height - 2_015), headers)
}

#[test]
fn bits_negative_zero_overflowing_or_above_the_limit_are_high_hash() {
    let params = Params::main();
    let zero_hash = BlockHash::all_zeros();
    for bad in [
        0,
        0x0080_0001,
        0x1d80_ffff,
        0x0100_0000,
        0x0300_0000,
        0xff7f_ffff,
        0x2300_0001,
        0x2200_0100,
        0x2101_0000,
        0x1d01_0000,
        0x207f_ffff,
    ] {
        assert!(!check_proof_of_work(zero_hash, bits(bad), &params), "{bad:08x}");
    }
    assert!(check_proof_of_work(zero_hash, bits(0x1d00_ffff), &params));
    assert!(check_proof_of_work(zero_hash, bits(0x0101_0000), &params), "a target of 1");
    let reject = check_header(&header(0, bits(0x1d00_ffff)), &params).unwrap_err();
    assert_eq!(
        (reject.class, reject.to_string().as_str()),
        (BlockClass::InvalidHeader, "high-hash, proof of work failed")
    );

    let at_target = |target: Target| BlockHash::from_byte_array(target.to_le_bytes());
    let target = target_from_bits(bits(0x1d00_ffff)).unwrap();
    assert!(check_proof_of_work(at_target(target), bits(0x1d00_ffff), &params));
    let mut above = target.to_le_bytes();
    above[0] += 1;
    assert!(!check_proof_of_work(BlockHash::from_byte_array(above), bits(0x1d00_ffff), &params));
}

#[test]
fn proof_of_work_limits_differ_by_network() {
    for (network, limit) in [
        (Network::Bitcoin, 0x1d00_ffff),
        (Network::Testnet, 0x1d00_ffff),
        (Network::Testnet4, 0x1d00_ffff),
        (Network::Signet, 0x1e03_77ae),
        (Network::Regtest, 0x207f_ffff),
    ] {
        let params = Params::for_network(network);
        assert_eq!(params.pow_limit_bits(), bits(limit));
        assert!(check_proof_of_work(params.genesis_hash, params.genesis.header.bits, &params));
        assert!(!check_proof_of_work(BlockHash::all_zeros(), bits(limit + 1), &params), "{network}");
    }
}

#[test]
fn regtest_never_retargets_and_allows_the_minimum_only() {
    let params = Params::regtest(RegtestOptions::default());
    let mut chain = HeaderChain::genesis(&params);
    for n in 1..145 {
        chain.push(header(1_296_688_602 + n, bits(0x207f_ffff)));
    }
    assert_eq!(params.difficulty_adjustment_interval(), 144);
    for height in [142, 143, 144] {
        assert_eq!(next_work_required(&chain.up_to(Height(height)), 0, &params), Some(bits(0x207f_ffff)));
    }
}

#[test]
fn testnet_minimum_difficulty_needs_more_than_twenty_minutes() {
    let params = Params::testnet3();
    let real = bits(0x1c00_ffff);
    let mut chain = period(4_031, 1_000_000, 2_000_000, real, real);
    chain.push(header(2_000_600, real));
    let next = |chain: &HeaderChain, time| next_work_required(chain, time, &params).unwrap();
    assert_eq!(next(&chain, 2_001_800), real);
    assert_eq!(next(&chain, 2_001_801), params.pow_limit_bits());
    // Back to the last block that did not use the exception.
    chain.push(header(2_001_801, params.pow_limit_bits()));
    chain.push(header(2_003_100, params.pow_limit_bits()));
    assert_eq!(next(&chain, 2_003_200), real);
    assert!(permitted_difficulty_transition(&params, Height(5), real, params.pow_limit_bits()));

    // But not beyond the period's start, minimum or not.
    let mut chain = period(4_031, 1_000_000, 2_000_000, real, real);
    chain.push(header(2_000_600, params.pow_limit_bits()));
    chain.push(header(2_002_600, params.pow_limit_bits()));
    assert_eq!(next(&chain, 2_002_700), params.pow_limit_bits());
}

#[test]
fn bip94_retargets_from_the_periods_first_block() {
    let (first, rest) = (bits(0x1c00_ffff), bits(0x1d00_ffff));
    let half = 1_000_000 + 14 * 24 * 60 * 60 / 2;
    let chain = period(2_015, 1_000_000, half, first, rest);
    assert_eq!(next_work_required(&chain, half, &Params::testnet4()), Some(bits(0x1b7f_ff80)));
    assert_eq!(next_work_required(&chain, half, &Params::testnet3()), Some(bits(0x1c7f_ff80)));
}

#[test]
fn bip94_bounds_the_first_time_of_a_period() {
    let options = |enforce_bip94| RegtestOptions { enforce_bip94, ..RegtestOptions::default() };
    let mut chain = HeaderChain::genesis(&Params::regtest(options(true)));
    for n in 1..143 {
        chain.push(header(1_300_000_000 + n, bits(0x207f_ffff)));
    }
    chain.push(header(1_300_010_000, bits(0x207f_ffff)));
    let judge = |time, enforce| {
        contextual_check_header(
            &header(time, bits(0x207f_ffff)),
            &chain,
            &Params::regtest(options(enforce)),
            FAR_FUTURE,
        )
    };
    judge(1_300_009_400, true).unwrap();
    let reject = judge(1_300_009_399, true).unwrap_err();
    assert_eq!(reject.reason, "time-timewarp-attack");
    assert_eq!(reject.class, BlockClass::InvalidHeader);
    judge(1_300_009_399, false).unwrap();
    // Any other block may be earlier than that.
    let parent = chain.up_to(Height(142));
    contextual_check_header(
        &header(1_300_000_140, bits(0x207f_ffff)),
        &parent,
        &Params::regtest(options(true)),
        FAR_FUTURE,
    )
    .unwrap();
}

#[test]
fn times_lie_between_median_time_past_and_two_hours_ahead() {
    let params = Params::regtest(RegtestOptions::default());
    let mut chain = HeaderChain::genesis(&params);
    for time in [50, 10, 40, 20, 30, 60, 70, 80, 90, 100, 110] {
        chain.push(header(1_400_000_000 + time, bits(0x207f_ffff)));
    }
    assert_eq!(median_time_past(&chain), 1_400_000_060);
    // Fewer than eleven: the upper of the middle two.
    assert_eq!(median_time_past(&chain.up_to(Height(1))), 1_400_000_050);
    assert_eq!(median_time_past(&chain.up_to(Height(0))), 1_296_688_602);
    let judge = |time| {
        contextual_check_header(&header(time, bits(0x207f_ffff)), &chain, &params, 1_400_000_000)
            .map_err(|reject| (reject.class, reject.reason))
    };
    assert_eq!(judge(1_400_000_060), Err((BlockClass::InvalidHeader, "time-too-old".into())));
    assert_eq!(judge(1_400_000_061), Ok(()));
    assert_eq!(judge(1_400_007_200), Ok(()));
    assert_eq!(judge(1_400_007_201), Err((BlockClass::TimeFuture, "time-too-new".into())));
}

#[test]
fn version_gates_open_at_the_buried_heights() {
    let at = |deployment, height| {
        let never = Height(1_000);
        let mut heights: Vec<_> = BuriedDeployment::ALL.into_iter().map(|other| (other, never)).collect();
        heights.push((deployment, Height(height)));
        Params::regtest(RegtestOptions { activation_heights: heights, ..RegtestOptions::default() })
    };
    let params = Params::regtest(RegtestOptions::default());
    let mut chain = HeaderChain::genesis(&params);
    chain.push(header(1_296_688_603, bits(0x207f_ffff)));
    let judge = |version, params: &Params| {
        let header =
            Header { version: Version::from_consensus(version), ..header(1_300_000_000, bits(0x207f_ffff)) };
        contextual_check_header(&header, &chain, params, FAR_FUTURE).map_err(|reject| reject.to_string())
    };
    for (deployment, least) in
        [(BuriedDeployment::HeightInCoinbase, 2), (BuriedDeployment::DerSig, 3), (BuriedDeployment::Cltv, 4)]
    {
        judge(least - 1, &at(deployment, 3)).unwrap();
        judge(least, &at(deployment, 2)).unwrap();
        let version = least - 1;
        assert_eq!(
            judge(version, &at(deployment, 2)).unwrap_err(),
            format!("bad-version(0x{version:08x}), rejected nVersion=0x{version:08x} block")
        );
    }
    assert!(judge(-1, &params).unwrap_err().starts_with("bad-version(0xffffffff)"));
}

#[test]
fn wrong_bits_come_before_everything_else() {
    let params = Params::regtest(RegtestOptions::default());
    let chain = HeaderChain::genesis(&params);
    let reject = contextual_check_header(&header(0, bits(0x207f_fffe)), &chain, &params, 0).unwrap_err();
    assert_eq!(reject.to_string(), "bad-diffbits, incorrect proof of work");
}

#[test]
fn work_is_weighed_in_seconds_of_the_tips_difficulty() {
    let params = Params::main();
    let proof = target_from_bits(bits(0x1d00_ffff)).unwrap().to_work();
    let seconds = |n: usize| {
        let ahead = (0..n).fold(proof, |sum, _| sum + proof);
        block_proof_equivalent_time(ahead, proof, proof, &params)
    };
    assert_eq!(seconds(0), 0);
    assert_eq!(seconds(2_016), 14 * 24 * 60 * 60);
    let hard = target_from_bits(bits(0x0101_0000)).unwrap().to_work();
    assert_eq!(block_proof_equivalent_time(hard, proof, proof, &params), i64::MAX);
}

#[test]
fn p2sh_witness_and_taproot_hold_at_every_height_but_in_three_blocks() {
    let always = ScriptFlags::P2SH | ScriptFlags::WITNESS | ScriptFlags::TAPROOT;
    let main = Params::main();
    let some: BlockHash = BlockHash::all_zeros();
    assert_eq!(script_flags(&some, Height(1), &main), always);
    let hash = |text: &str| text.parse::<BlockHash>().unwrap();
    let bip16 = hash("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22");
    assert_eq!(script_flags(&bip16, Height(170_060), &main), ScriptFlags::NONE);
    let taproot = hash("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad");
    let buried = ScriptFlags::DERSIG
        | ScriptFlags::CHECKLOCKTIMEVERIFY
        | ScriptFlags::CHECKSEQUENCEVERIFY
        | ScriptFlags::NULLDUMMY;
    assert_eq!(
        script_flags(&taproot, Height(692_261), &main),
        ScriptFlags::P2SH | ScriptFlags::WITNESS | buried
    );
    let test = hash("00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105");
    assert_eq!(script_flags(&test, Height(394), &Params::testnet3()), ScriptFlags::NONE);
    assert_eq!(script_flags(&test, Height(394), &main), always);
    assert_eq!(
        script_flags(&some, Height(1), &Params::regtest(RegtestOptions::default())),
        ScriptFlags::MANDATORY
    );
    assert_eq!(always | buried, ScriptFlags::MANDATORY);
}

#[test]
fn the_other_script_rules_begin_at_their_buried_heights() {
    let main = Params::main();
    for (rule, height) in [
        (ScriptFlags::DERSIG, 363_725),
        (ScriptFlags::CHECKLOCKTIMEVERIFY, 388_381),
        (ScriptFlags::CHECKSEQUENCEVERIFY, 419_328),
        (ScriptFlags::NULLDUMMY, 481_824),
    ] {
        let flags = |height| script_flags(&BlockHash::all_zeros(), Height(height), &main);
        assert!(!flags(height - 1).contains(rule));
        assert!(flags(height).contains(rule));
    }
}

#[test]
fn networks_begin_where_core_begins_them() {
    for (network, name, genesis, magic, port) in [
        (
            Network::Bitcoin,
            "main",
            "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
            "f9beb4d9",
            8333,
        ),
        (
            Network::Testnet,
            "test",
            "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
            "0b110907",
            18_333,
        ),
        (
            Network::Testnet4,
            "testnet4",
            "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
            "1c163f28",
            48_333,
        ),
        (
            Network::Signet,
            "signet",
            "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
            "0a03cf40",
            38_333,
        ),
        (
            Network::Regtest,
            "regtest",
            "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
            "fabfb5da",
            18_444,
        ),
    ] {
        let params = Params::for_network(network);
        assert_eq!(params.chain_name, name);
        assert_eq!(params.genesis_hash.to_string(), genesis);
        assert_eq!(params.genesis.block_hash(), params.genesis_hash);
        assert!(params.genesis.check_merkle_root());
        assert_eq!(hex::encode(params.magic), magic);
        assert_eq!(params.default_port, port);
        assert_eq!(params.pow_target_timespan % params.pow_target_spacing, 0);
        if let Some(assume_valid) = params.assume_valid {
            assert!(assume_valid.to_string().starts_with("0000000"));
            assert!(params.minimum_chainwork.log2() > 40.0);
        }
    }
    // The magic follows from the challenge (BIP325).
    let own = Params::signet(Some(bitcoin::ScriptBuf::from_bytes(vec![0x51])));
    assert_eq!(hex::encode(own.magic), "54d26fbd");
    assert!(own.assume_valid.is_none() && own.dns_seeds.is_empty());
}

/// Taproot is a flag of every height by now, and nothing waits for miners but the test dummy.
#[test]
fn the_test_dummy_is_the_only_deployment_left() {
    for network in [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest]
    {
        let names: Vec<_> = Params::for_network(network).deployments.iter().map(|one| one.name).collect();
        assert_eq!(names, ["testdummy"], "{network}");
    }
}

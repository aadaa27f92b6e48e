//! Our networks' facts against the source they are copied from.

use ironpeer_consensus::{Params, RegtestOptions};
use ironpeer_testkit::core_vectors;

/// What Core's source says of one network, without the comments.
fn source(class: &str) -> String {
    let text = core_vectors("../../kernel/chainparams.cpp");
    let start = text.find(&format!("class {class} ")).expect("the network's class");
    let body = &text[start..];
    let end = body.find("\n};").expect("the class ends");
    body[..end].lines().map(|line| line.split(" //").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Facts written as the source writes them.
fn facts(params: &Params) -> Vec<String> {
    let mut facts = vec![
        format!("BIP65Height = {};", params.bip65_height),
        format!("BIP66Height = {};", params.bip66_height),
        format!("BIP34Height = {};", params.bip34_height),
        format!("CSVHeight = {};", params.csv_height),
        format!("SegwitHeight = {};", params.segwit_height),
        format!("MinBIP9WarningHeight = {};", params.min_bip9_warning_height),
        format!("nSubsidyHalvingInterval = {};", params.subsidy_halving_interval),
        format!("fPowAllowMinDifficultyBlocks = {};", params.allow_min_difficulty),
        format!("fPowNoRetargeting = {};", params.no_retargeting),
        format!("powLimit = uint256{{\"{:x}\"}};", params.pow_limit),
        format!("nDefaultPort = {};", params.default_port),
        match params.chain_name {
            "regtest" => format!("nPruneAfterHeight = opts.fastprune ? 100 : {};", params.prune_after_height),
            _ => format!("nPruneAfterHeight = {};", params.prune_after_height),
        },
        format!(".threshold = {};", params.deployments[0].threshold),
        format!(".period = {};", params.deployments[0].period),
        format!(".commitment_period = {},", params.headers_sync.commitment_period),
        format!(".redownload_buffer_size = {},", params.headers_sync.redownload_buffer_size),
        format!("hashGenesisBlock == uint256{{\"{}\"}}", params.genesis_hash),
        format!("hashMerkleRoot == uint256{{\"{}\"}}", params.genesis.header.merkle_root),
    ];
    if let Some(hash) = params.bip34_hash {
        facts.push(format!("BIP34Hash = uint256{{\"{hash}\"}};"));
    }
    if let Some(hash) = params.assume_valid {
        facts.push(format!("defaultAssumeValid = uint256{{\"{hash}\"}};"));
        facts.push(format!("nMinimumChainWork = uint256{{\"{:x}\"}};", params.minimum_chainwork));
        facts.push(format!(".nTime    = {},", params.chain_tx_data.time));
        facts.push(format!(".tx_count = {},", params.chain_tx_data.tx_count));
        facts.push(format!(".dTxRate  = {},", params.chain_tx_data.tx_rate));
    }
    facts.extend(
        params
            .script_flag_exceptions
            .iter()
            .map(|(hash, _)| format!("uint256{{\"{hash}\"}}, SCRIPT_VERIFY_")),
    );
    facts.extend(params.dns_seeds.iter().map(|seed| format!("vSeeds.emplace_back(\"{seed}\");")));
    if params.signet_challenge.is_none() {
        for (place, byte) in params.magic.iter().enumerate() {
            facts.push(format!("pchMessageStart[{place}] = 0x{byte:02x};"));
        }
    }
    facts
}

#[test]
fn every_fact_stands_in_cores_source() {
    for (class, params) in [
        ("CMainParams", Params::main()),
        ("CTestNetParams", Params::testnet3()),
        ("CTestNet4Params", Params::testnet4()),
        ("SigNetParams", Params::signet(None)),
        ("CRegTestParams", Params::regtest(RegtestOptions::default())),
    ] {
        let source = source(class);
        for fact in facts(&params) {
            assert!(source.contains(&fact), "{class}: {fact}");
        }
        assert_eq!(source.matches("vSeeds.emplace_back").count(), params.dns_seeds.len(), "{class}");
        assert_eq!(
            source.matches("script_flag_exceptions.emplace").count(),
            params.script_flag_exceptions.len(),
            "{class}"
        );
        assert_eq!(source.contains("BIP34Hash = uint256{\""), params.bip34_hash.is_some(), "{class}");
    }
    let challenge = Params::signet(None).signet_challenge.unwrap();
    assert!(source("SigNetParams").contains(&format!("bin = \"{challenge:x}\"_hex_v_u8;")));
}

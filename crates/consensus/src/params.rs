use bitcoin::consensus::encode::serialize;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash, CompactTarget, Network, ScriptBuf, Target, Work};
use ironpeer_primitives::{Height, UnixTime};

use crate::ScriptFlags;
use crate::header::target_from_bits;

/// A rule change whose activation height is fixed (BIP90).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuriedDeployment {
    /// Height in the coinbase (BIP34).
    HeightInCoinbase,
    /// Strict signature encoding (BIP66).
    DerSig,
    /// `OP_CHECKLOCKTIMEVERIFY` (BIP65).
    Cltv,
    /// Relative lock times and median time past (BIP68, BIP112, BIP113).
    Csv,
    /// Segregated witness (BIP141, BIP143, BIP147).
    Segwit,
}

impl BuriedDeployment {
    /// All, in the order `getdeploymentinfo` lists them.
    pub const ALL: [Self; 5] = [Self::HeightInCoinbase, Self::DerSig, Self::Cltv, Self::Csv, Self::Segwit];

    /// The name in `getdeploymentinfo` (Core's `DeploymentName`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeightInCoinbase => "bip34",
            Self::DerSig => "bip66",
            Self::Cltv => "bip65",
            Self::Csv => "csv",
            Self::Segwit => "segwit",
        }
    }

    /// By the name `-testactivationheight=` uses (Core's `GetBuriedDeployment`).
    #[must_use]
    pub fn from_option(name: &str) -> Option<Self> {
        Some(match name {
            "segwit" => Self::Segwit,
            "bip34" => Self::HeightInCoinbase,
            "dersig" => Self::DerSig,
            "cltv" => Self::Cltv,
            "csv" => Self::Csv,
            _ => return None,
        })
    }
}

/// A rule change that miners signal for (BIP9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bip9Deployment {
    /// Its name in RPC answers and in `-vbparams=`.
    pub name: &'static str,
    /// The signalling bit of the block version.
    pub bit: u8,
    /// Median time from which signals count; or [`Self::ALWAYS_ACTIVE`], [`Self::NEVER_ACTIVE`].
    pub start_time: UnixTime,
    /// Median time after which it has failed.
    pub timeout: UnixTime,
    /// Least height at which it becomes active.
    pub min_activation_height: Height,
    /// Blocks in a signalling period.
    pub period: u32,
    /// Signals within a period that lock it in.
    pub threshold: u32,
    /// Whether a miner may ignore it (`getblocktemplate`'s `!` prefix is left out).
    pub gbt_optional_rule: bool,
}

impl Bip9Deployment {
    /// A start time: active from genesis.
    pub const ALWAYS_ACTIVE: UnixTime = -1;
    /// A start time: failed from genesis.
    pub const NEVER_ACTIVE: UnixTime = -2;
    /// A timeout that never comes.
    pub const NO_TIMEOUT: UnixTime = i64::MAX;

    const fn test_dummy(start_time: UnixTime, threshold: u32, period: u32) -> Self {
        Self {
            name: "testdummy",
            bit: 28,
            start_time,
            timeout: Self::NO_TIMEOUT,
            min_activation_height: Height(0),
            period,
            threshold,
            gbt_optional_rule: true,
        }
    }
}

/// What `-vbparams=` sets for the deployment named there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionBitsParameters {
    /// See [`Bip9Deployment::start_time`].
    pub start_time: UnixTime,
    /// See [`Bip9Deployment::timeout`].
    pub timeout: UnixTime,
    /// See [`Bip9Deployment::min_activation_height`].
    pub min_activation_height: Height,
}

/// What may be changed about regtest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegtestOptions {
    /// `-testactivationheight=name@height`.
    pub activation_heights: Vec<(BuriedDeployment, Height)>,
    /// `-vbparams=testdummy:start:end[:min_activation_height]`.
    pub test_dummy: Option<VersionBitsParameters>,
    /// `-test=bip94`.
    pub enforce_bip94: bool,
}

/// Tuning of the header download that precedes storing (`src/headerssync.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersSyncParams {
    /// Headers between two one-bit commitments.
    pub commitment_period: u32,
    /// Headers held back on the second download until this many follow.
    pub redownload_buffer_size: u32,
}

/// The chain's transaction count at some time, to estimate progress from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChainTxData {
    /// Time of the count.
    pub time: UnixTime,
    /// Transactions up to then.
    pub tx_count: u64,
    /// Transactions a second after then.
    pub tx_rate: f64,
}

/// A network's consensus rules and its other fixed facts (`src/kernel/chainparams.cpp`).
#[derive(Clone, Debug)]
pub struct Params {
    /// Which network.
    pub network: Network,
    /// Its name in RPC answers and `-chain=`.
    pub chain_name: &'static str,
    /// Its folder below the data directory; empty for main.
    pub data_folder: &'static str,
    /// The first block.
    pub genesis: Block,
    /// The first block's hash.
    pub genesis_hash: BlockHash,
    /// Easiest target allowed.
    pub pow_limit: Target,
    /// Seconds a retarget period should take.
    pub pow_target_timespan: i64,
    /// Seconds between blocks aimed at.
    pub pow_target_spacing: i64,
    /// A block 20 minutes after its parent may, and must, have the easiest target.
    pub allow_min_difficulty: bool,
    /// The target never changes.
    pub no_retargeting: bool,
    /// The rules of BIP94 against timewarp and block storms.
    pub enforce_bip94: bool,
    /// First height with BIP34.
    pub bip34_height: Height,
    /// Hash of the block at that height in the chain where BIP34 makes BIP30 superfluous.
    pub bip34_hash: Option<BlockHash>,
    /// First height with BIP65.
    pub bip65_height: Height,
    /// First height with BIP66.
    pub bip66_height: Height,
    /// First height with BIP68, BIP112 and BIP113.
    pub csv_height: Height,
    /// First height with BIP141 commitments and BIP147.
    pub segwit_height: Height,
    /// Signals for unknown rules below this height are known history.
    pub min_bip9_warning_height: Height,
    /// Rule changes by signalling.
    pub deployments: Vec<Bip9Deployment>,
    /// Blocks judged under the flags listed instead of the usual three.
    pub script_flag_exceptions: Vec<(BlockHash, ScriptFlags)>,
    /// Blocks between two halvings of the subsidy.
    pub subsidy_halving_interval: u32,
    /// The script that signs blocks (BIP325).
    pub signet_challenge: Option<ScriptBuf>,
    /// Work of a chain worth following, before `-minimumchainwork`.
    pub minimum_chainwork: Work,
    /// A block known to be valid with all its ancestors, before `-assumevalid`.
    pub assume_valid: Option<BlockHash>,
    /// First bytes of every P2P message and block file record.
    pub magic: [u8; 4],
    /// P2P port.
    pub default_port: u16,
    /// RPC port.
    pub rpc_port: u16,
    /// Names that resolve to nodes' addresses.
    pub dns_seeds: Vec<String>,
    /// First height at which automatic pruning may delete.
    pub prune_after_height: Height,
    /// Whether `setmocktime` and the like are allowed.
    pub mockable: bool,
    /// Tuning of the header download.
    pub headers_sync: HeadersSyncParams,
    /// To estimate progress from.
    pub chain_tx_data: ChainTxData,
}

/// Two weeks, in seconds.
const TWO_WEEKS: i64 = 14 * 24 * 60 * 60;
/// Ten minutes, in seconds.
const TEN_MINUTES: i64 = 10 * 60;

/// Reads a hash or number from the 64 hex digits Core prints it as.
fn display_bytes(hex: &str) -> [u8; 32] {
    // Every caller gives 64 digits of this file; a test compares them all with Core's source.
    <[u8; 32]>::from_hex(hex).unwrap_or_default()
}

fn block_hash(hex: &str) -> BlockHash {
    let mut bytes = display_bytes(hex);
    bytes.reverse();
    BlockHash::from_byte_array(bytes)
}

fn work(hex: &str) -> Work {
    Work::from_be_bytes(display_bytes(hex))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

impl Params {
    /// The network on which people trade.
    #[must_use]
    pub fn main() -> Self {
        let genesis = genesis_block(Network::Bitcoin);
        Self {
            network: Network::Bitcoin,
            chain_name: "main",
            data_folder: "",
            genesis_hash: genesis.block_hash(),
            genesis,
            pow_limit: Target::from_be_bytes(display_bytes(
                "00000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            )),
            pow_target_timespan: TWO_WEEKS,
            pow_target_spacing: TEN_MINUTES,
            allow_min_difficulty: false,
            no_retargeting: false,
            enforce_bip94: false,
            bip34_height: Height(227_931),
            bip34_hash: Some(block_hash("000000000000024b89b42a942fe0d9fea3bb44ab7bd1b19115dd6a759c0808b8")),
            bip65_height: Height(388_381),
            bip66_height: Height(363_725),
            csv_height: Height(419_328),
            segwit_height: Height(481_824),
            min_bip9_warning_height: Height(711_648),
            deployments: vec![Bip9Deployment::test_dummy(Bip9Deployment::NEVER_ACTIVE, 1815, 2016)],
            script_flag_exceptions: vec![
                (
                    block_hash("00000000000002dc756eebf4f49723ed8d30cc28a5f108eb94b1ba88ac4f9c22"),
                    ScriptFlags::NONE,
                ),
                (
                    block_hash("0000000000000000000f14c35b2d841e986ab5441de8c585d5ffe55ea1e395ad"),
                    ScriptFlags::P2SH | ScriptFlags::WITNESS,
                ),
            ],
            subsidy_halving_interval: 210_000,
            signet_challenge: None,
            minimum_chainwork: work("0000000000000000000000000000000000000001128750f82f4c366153a3a030"),
            assume_valid: Some(block_hash(
                "00000000000000000000ccebd6d74d9194d8dcdc1d177c478e094bfad51ba5ac",
            )),
            magic: [0xf9, 0xbe, 0xb4, 0xd9],
            default_port: 8333,
            rpc_port: 8332,
            dns_seeds: names(&[
                "dnsseed.bluematt.me.",
                "seed.bitcoin.jonasschnelli.ch.",
                "seed.btc.petertodd.net.",
                "seed.bitcoin.sprovoost.nl.",
                "dnsseed.emzy.de.",
                "seed.bitcoin.wiz.biz.",
                "seed.mainnet.achownodes.xyz.",
            ]),
            prune_after_height: Height(100_000),
            mockable: false,
            headers_sync: HeadersSyncParams { commitment_period: 641, redownload_buffer_size: 15_218 },
            chain_tx_data: ChainTxData {
                time: 1_772_055_173,
                tx_count: 1_315_805_869,
                tx_rate: 5.401_110_064_961_22,
            },
        }
    }

    /// The third public test network.
    #[must_use]
    pub fn testnet3() -> Self {
        let genesis = genesis_block(Network::Testnet);
        Self {
            network: Network::Testnet,
            chain_name: "test",
            data_folder: "testnet3",
            genesis_hash: genesis.block_hash(),
            genesis,
            allow_min_difficulty: true,
            bip34_height: Height(21_111),
            bip34_hash: Some(block_hash("0000000023b3a96d3484e5abb3755c413e7d41500f8e2a5c3f0dd01299cd8ef8")),
            bip65_height: Height(581_885),
            bip66_height: Height(330_776),
            csv_height: Height(770_112),
            segwit_height: Height(834_624),
            min_bip9_warning_height: Height(2_013_984),
            deployments: vec![Bip9Deployment::test_dummy(Bip9Deployment::NEVER_ACTIVE, 1512, 2016)],
            script_flag_exceptions: vec![(
                block_hash("00000000dd30457c001f4095d208cc1296b0eed002427aa599874af7a432b105"),
                ScriptFlags::NONE,
            )],
            minimum_chainwork: work("0000000000000000000000000000000000000000000017dde1c649f3708d14b6"),
            assume_valid: Some(block_hash(
                "000000007a61e4230b28ac5cb6b5e5a0130de37ac1faf2f8987d2fa6505b67f4",
            )),
            magic: [0x0b, 0x11, 0x09, 0x07],
            default_port: 18_333,
            rpc_port: 18_332,
            dns_seeds: names(&[
                "testnet-seed.bitcoin.jonasschnelli.ch.",
                "seed.tbtc.petertodd.net.",
                "seed.testnet.bitcoin.sprovoost.nl.",
                "testnet-seed.bluematt.me.",
                "seed.testnet.achownodes.xyz.",
            ]),
            prune_after_height: Height(1000),
            headers_sync: HeadersSyncParams { commitment_period: 673, redownload_buffer_size: 14_460 },
            chain_tx_data: ChainTxData {
                time: 1_772_051_651,
                tx_count: 536_108_416,
                tx_rate: 0.026_914_790_162_571_17,
            },
            ..Self::main()
        }
    }

    /// The fourth public test network (BIP94).
    #[must_use]
    pub fn testnet4() -> Self {
        let genesis = genesis_block(Network::Testnet4);
        Self {
            network: Network::Testnet4,
            chain_name: "testnet4",
            data_folder: "testnet4",
            genesis_hash: genesis.block_hash(),
            genesis,
            allow_min_difficulty: true,
            enforce_bip94: true,
            minimum_chainwork: work("0000000000000000000000000000000000000000000009a0fe15d0177d086304"),
            assume_valid: Some(block_hash(
                "0000000002368b1e4ee27e2e85676ae6f9f9e69579b29093e9a82c170bf7cf8a",
            )),
            deployments: vec![Bip9Deployment::test_dummy(Bip9Deployment::NEVER_ACTIVE, 1512, 2016)],
            magic: [0x1c, 0x16, 0x3f, 0x28],
            default_port: 48_333,
            rpc_port: 48_332,
            dns_seeds: names(&["seed.testnet4.bitcoin.sprovoost.nl.", "seed.testnet4.wiz.biz."]),
            prune_after_height: Height(1000),
            headers_sync: HeadersSyncParams { commitment_period: 606, redownload_buffer_size: 16_092 },
            chain_tx_data: ChainTxData {
                time: 1_772_013_387,
                tx_count: 14_191_421,
                tx_rate: 0.018_485_795_795_284_12,
            },
            ..Self::active_from_block_one()
        }
    }

    /// The signed test network (BIP325): the default one, or one's own by its challenge.
    #[must_use]
    pub fn signet(challenge: Option<ScriptBuf>) -> Self {
        let genesis = genesis_block(Network::Signet);
        let is_default = challenge.is_none();
        let challenge = challenge.unwrap_or_else(|| {
            ScriptBuf::from_hex(concat!(
                "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be430",
                "210359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae",
            ))
            .unwrap_or_default()
        });
        let [a, b, c, d, ..] = sha256d::Hash::hash(&serialize(&challenge)).to_byte_array();
        let params = Self {
            network: Network::Signet,
            chain_name: "signet",
            data_folder: "signet",
            genesis_hash: genesis.block_hash(),
            pow_limit: target_from_bits(genesis.header.bits).unwrap_or(Target::ZERO),
            genesis,
            minimum_chainwork: work("00000000000000000000000000000000000000000000000000000b463ea0a4b8"),
            assume_valid: Some(block_hash(
                "00000008414aab61092ef93f1aacc54cf9e9f16af29ddad493b908a01ff5c329",
            )),
            signet_challenge: Some(challenge),
            magic: [a, b, c, d],
            default_port: 38_333,
            rpc_port: 38_332,
            dns_seeds: names(&["seed.signet.bitcoin.sprovoost.nl.", "seed.signet.achownodes.xyz."]),
            prune_after_height: Height(1000),
            headers_sync: HeadersSyncParams { commitment_period: 620, redownload_buffer_size: 15_724 },
            chain_tx_data: ChainTxData {
                time: 1_772_055_248,
                tx_count: 28_676_833,
                tx_rate: 0.067_366_234_363_389_29,
            },
            ..Self::active_from_block_one()
        };
        if is_default {
            return params;
        }
        Self {
            minimum_chainwork: Work::from_be_bytes([0; 32]),
            assume_valid: None,
            dns_seeds: Vec::new(),
            chain_tx_data: ChainTxData { time: 0, tx_count: 0, tx_rate: 0.0 },
            ..params
        }
    }

    /// A private network whose blocks are found at once.
    #[must_use]
    pub fn regtest(options: RegtestOptions) -> Self {
        let genesis = genesis_block(Network::Regtest);
        let params = Self {
            network: Network::Regtest,
            chain_name: "regtest",
            data_folder: "regtest",
            genesis_hash: genesis.block_hash(),
            genesis,
            pow_limit: Target::from_be_bytes(display_bytes(
                "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            )),
            pow_target_timespan: 24 * 60 * 60,
            allow_min_difficulty: true,
            no_retargeting: true,
            enforce_bip94: options.enforce_bip94,
            segwit_height: Height(0),
            deployments: vec![Bip9Deployment::test_dummy(0, 108, 144)],
            subsidy_halving_interval: 150,
            minimum_chainwork: Work::from_be_bytes([0; 32]),
            assume_valid: None,
            magic: [0xfa, 0xbf, 0xb5, 0xda],
            default_port: 18_444,
            rpc_port: 18_443,
            dns_seeds: names(&["dummySeed.invalid."]),
            prune_after_height: Height(1000),
            mockable: true,
            headers_sync: HeadersSyncParams { commitment_period: 275, redownload_buffer_size: 7017 },
            chain_tx_data: ChainTxData { time: 0, tx_count: 0, tx_rate: 0.001 },
            ..Self::active_from_block_one()
        };
        params.with_deployments(options.activation_heights, options.test_dummy)
    }

    /// The same rules, activated at other heights.
    #[must_use]
    pub fn with_deployments(
        mut self,
        activation_heights: Vec<(BuriedDeployment, Height)>,
        test_dummy: Option<VersionBitsParameters>,
    ) -> Self {
        for (deployment, height) in activation_heights {
            match deployment {
                BuriedDeployment::HeightInCoinbase => self.bip34_height = height,
                BuriedDeployment::DerSig => self.bip66_height = height,
                BuriedDeployment::Cltv => self.bip65_height = height,
                BuriedDeployment::Csv => self.csv_height = height,
                BuriedDeployment::Segwit => self.segwit_height = height,
            }
        }
        if let (Some(set), Some(dummy)) = (test_dummy, self.deployments.first_mut()) {
            dummy.start_time = set.start_time;
            dummy.timeout = set.timeout;
            dummy.min_activation_height = set.min_activation_height;
        }
        self
    }

    /// The usual parameters of a network.
    #[must_use]
    pub fn for_network(network: Network) -> Self {
        match network {
            Network::Bitcoin => Self::main(),
            Network::Testnet => Self::testnet3(),
            Network::Testnet4 => Self::testnet4(),
            Network::Signet => Self::signet(None),
            Network::Regtest => Self::regtest(RegtestOptions::default()),
        }
    }

    /// What the networks begun after the buried rule changes share.
    fn active_from_block_one() -> Self {
        Self {
            bip34_height: Height(1),
            bip34_hash: None,
            bip65_height: Height(1),
            bip66_height: Height(1),
            csv_height: Height(1),
            segwit_height: Height(1),
            min_bip9_warning_height: Height(0),
            script_flag_exceptions: Vec::new(),
            ..Self::main()
        }
    }

    /// Blocks between two retargets.
    #[must_use]
    pub fn difficulty_adjustment_interval(&self) -> u32 {
        u32::try_from(self.pow_target_timespan / self.pow_target_spacing).unwrap_or(1).max(1)
    }

    /// The easiest target in the form headers carry.
    #[must_use]
    pub fn pow_limit_bits(&self) -> CompactTarget {
        self.pow_limit.to_compact_lossy()
    }

    /// First height at which a buried deployment's rules hold.
    #[must_use]
    pub const fn activation_height(&self, deployment: BuriedDeployment) -> Height {
        match deployment {
            BuriedDeployment::HeightInCoinbase => self.bip34_height,
            BuriedDeployment::DerSig => self.bip66_height,
            BuriedDeployment::Cltv => self.bip65_height,
            BuriedDeployment::Csv => self.csv_height,
            BuriedDeployment::Segwit => self.segwit_height,
        }
    }

    /// Whether a buried deployment's rules hold for a block at `height`.
    #[must_use]
    pub fn is_active(&self, deployment: BuriedDeployment, height: Height) -> bool {
        height >= self.activation_height(deployment)
    }
}

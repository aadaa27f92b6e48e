use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bitcoin::Address;
use ironpeer_api::{ApiContext, Credentials, Door, Facts, LogControl, RpcServer, ServerConfig};
use ironpeer_chain::{Chain, ChainThread};
use ironpeer_consensus::{Params, RegtestOptions, ScriptCache};
use ironpeer_index::{IndexThreads, Indexes, MempoolScripts};
use ironpeer_mempool::MempoolHandle;
use ironpeer_mining::MiningHandle;
use ironpeer_primitives::{Clock, FixedClock, LogCategory, LogLine, LogSink, NullLog};
use ironpeer_store::MemDisk;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Long enough for any step on a busy machine; a test that waits for it has failed.
pub const HANG: Duration = Duration::from_secs(60);

/// Keeps every line.
#[derive(Default)]
pub struct Lines(pub Mutex<Vec<String>>);

impl LogSink for Lines {
    fn log(&self, line: LogLine) {
        self.0.lock().push(line.text.into_owned());
    }

    fn enabled(&self, _: LogCategory) -> bool {
        true
    }
}

impl LogControl for Lines {
    fn categories(&self) -> Vec<(&'static str, bool)> {
        vec![("net", true), ("rpc", false)]
    }

    fn set_category(&self, name: &str, _: bool) -> bool {
        ["net", "rpc", "all", "1"].contains(&name)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("debug.log")
    }
}

/// A node without peers behind its RPC door on a free port.
pub struct TestNode {
    pub port: u16,
    pub door: Arc<Door>,
    pub context: Arc<ApiContext>,
    pub clock: Arc<FixedClock>,
    pub log: Arc<Lines>,
    pub server: Option<RpcServer>,
    thread: Option<ChainThread>,
    index_threads: IndexThreads,
    tasks: TaskTracker,
}

pub struct HttpReply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl HttpReply {
    pub fn json(&self) -> Value {
        ironpeer_api::json::parse(self.body.as_bytes()).unwrap_or_else(|| panic!("no JSON: {}", self.body))
    }
}

impl TestNode {
    pub async fn start() -> Self {
        Self::start_with(ServerConfig::default(), |_| ()).await
    }

    pub async fn start_with(config: ServerConfig, edit: impl FnOnce(&mut Credentials)) -> Self {
        let node = Self::start_cold(config, edit).await;
        node.door.ready(Arc::clone(&node.context));
        node
    }

    /// The server answers, the node is not ready yet.
    pub async fn start_cold(config: ServerConfig, edit: impl FnOnce(&mut Credentials)) -> Self {
        Self::start_indexed(config, edit, &ironpeer_index::Config::none()).await
    }

    /// Ready, with REST and every index.
    pub async fn start_with_indexes() -> Self {
        let config = ServerConfig { rest: true, ..ServerConfig::default() };
        let all = ironpeer_index::Config::all(ironpeer_index::Location::Memory);
        let node = Self::start_indexed(config, |_| (), &all).await;
        node.door.ready(Arc::clone(&node.context));
        node
    }

    async fn start_indexed(
        config: ServerConfig,
        edit: impl FnOnce(&mut Credentials),
        indexes: &ironpeer_index::Config,
    ) -> Self {
        let params = Arc::new(Params::regtest(RegtestOptions::default()));
        let clock = Arc::new(FixedClock::at(i64::from(params.genesis.header.time) + 600));
        let dyn_clock = || Arc::clone(&clock) as Arc<dyn Clock>;
        let quiet = Arc::new(NullLog);
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let cache = Arc::new(ScriptCache::new(1 << 20, [1; 32]));
        let (chain, thread) = Chain::open(
            ironpeer_chain::Config::in_memory(Arc::clone(&params)),
            dyn_clock(),
            quiet.clone(),
            Arc::clone(&pool),
            Arc::clone(&cache),
        )
        .unwrap();
        let parts = ironpeer_index::Parts { chain: chain.clone(), clock: dyn_clock(), log: quiet.clone() };
        let (mut indexes, index_threads) = Indexes::open(indexes, &parts).unwrap();
        let (mempool, follower) = MempoolHandle::on_chain(
            ironpeer_mempool::Parts {
                config: ironpeer_mempool::Config {
                    require_standard: false,
                    ..ironpeer_mempool::Config::default()
                },
                params: Arc::clone(&params),
                chain: Arc::new(chain.view()),
                clock: dyn_clock(),
                log: quiet.clone(),
                pool,
                checker: cache,
                disk: Arc::new(MemDisk::new()),
            },
            &chain,
        );
        let following = mempool.clone();
        tokio::spawn(async move { following.follow(follower).await });
        let scripts = MempoolScripts::new(mempool.clone(), chain.view());
        indexes.mempool_scripts = Some(scripts.clone());
        tokio::spawn(scripts.follow());
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mining = MiningHandle::new(ironpeer_mining::Parts {
            config: ironpeer_mining::Config::default(),
            params: Arc::clone(&params),
            chain: chain.clone(),
            mempool: mempool.clone(),
            clock: dyn_clock(),
            log: quiet,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        });
        let log = Arc::new(Lines::default());
        let context = Arc::new(ApiContext {
            params,
            clock: dyn_clock(),
            log: Arc::clone(&log) as Arc<dyn LogControl>,
            chain,
            mempool,
            mining,
            peers: None,
            shutdown,
            facts: Facts {
                mockable: true,
                check_replies: true,
                subversion: "/Ironpeer:0.1.0/".into(),
                mempool_file: "mempool.dat".into(),
                ..Facts::default()
            },
            scheduler: None,
            scan: Arc::default(),
            filter_scan: Arc::default(),
            indexes,
        });
        let mut credentials = Credentials::new();
        credentials.add_password("user", "pass");
        edit(&mut credentials);
        let sink = Arc::clone(&log) as Arc<dyn LogSink>;
        let door = Arc::new(Door::new(credentials, false, sink, dyn_clock()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Some(RpcServer::serve(vec![listener], Arc::clone(&door), config));
        Self { port, door, context, clock, log, server, thread: Some(thread), index_threads, tasks }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// A POST as the user, on a connection of its own.
    pub async fn post(&self, body: &str) -> HttpReply {
        self.post_as("user:pass", body).await
    }

    pub async fn post_as(&self, login: &str, body: &str) -> HttpReply {
        let mut stream = self.connect().await;
        send(&mut stream, "POST", "/", Some(login), body).await;
        receive(&mut stream).await
    }

    /// A 2.0 call: its result, or code and message of its error.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let body = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let reply = self.post(&body.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let json = reply.json();
        match json.get("error") {
            None => Ok(json["result"].clone()),
            Some(error) => Err((error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().into())),
        }
    }

    /// Mines to a fresh OP_TRUE output, time moving on.
    pub async fn mine(&self, blocks: u32) -> Vec<String> {
        self.clock.advance(Duration::from_secs(600));
        let hashes = self.call("generatetodescriptor", serde_json::json!([blocks, "raw(51)"])).await.unwrap();
        hashes.as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().into()).collect()
    }

    pub async fn stop(mut self) {
        self.context.shutdown.cancel();
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.context.chain.shutdown().await.unwrap();
        self.thread.take().unwrap().join();
        self.index_threads.join();
    }
}

pub fn basic(login: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
}

pub async fn send(stream: &mut TcpStream, method: &str, path: &str, login: Option<&str>, body: &str) {
    let auth = login.map_or(String::new(), |login| format!("Authorization: {}\r\n", basic(login)));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{auth}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads one reply, leaving the connection open.
pub async fn receive(stream: &mut TcpStream) -> HttpReply {
    tokio::time::timeout(HANG, receive_unlimited(stream)).await.expect("a reply")
}

async fn receive_unlimited(stream: &mut TcpStream) -> HttpReply {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        let mut byte = [0u8; 1];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return HttpReply {
                status: 0,
                head: String::from_utf8_lossy(&bytes).into(),
                body: String::new(),
            };
        }
        bytes.push(byte[0]);
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
        .map_or(0, |n| n.parse::<usize>().unwrap());
    let mut body = vec![0u8; length];
    stream.read_exact(&mut body).await.unwrap();
    HttpReply { status, head, body: String::from_utf8(body).unwrap() }
}

/// A regtest address of a known key.
pub fn some_address() -> String {
    let key = bitcoin::PrivateKey::from_slice(&[7; 32], bitcoin::Network::Regtest).unwrap();
    let key = key.public_key(&bitcoin::secp256k1::Secp256k1::new());
    Address::p2pkh(key, bitcoin::Network::Regtest).to_string()
}

//! JSON-RPC as Core speaks it: versions 1.0, 1.1 and 2.0, batches, notifications and their HTTP
//! codes (`httprpc.cpp`, `rpc/request.cpp`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ironpeer_primitives::{Clock, LogCategory, LogLine, LogSink};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Credentials;
use crate::call::Call;
use crate::context::ApiContext;
use crate::error::{RpcError, RpcResult, code};
use crate::json::{self, Object, Repeat, Text, bare_text, type_name};
use crate::limits::{BATCH_YIELD, LARGE_REPLIES};
use crate::table;

/// The JSON-RPC door: open for callers from the start, answering -28 until the node is ready.
pub struct Door {
    credentials: Credentials,
    log_ips: bool,
    status: RwLock<String>,
    context: OnceLock<Arc<ApiContext>>,
    active: Mutex<BTreeMap<u64, (String, Duration)>>,
    next_call: AtomicU64,
    errors: AtomicU64,
    /// Places of large replies.
    large: Arc<Semaphore>,
    pub(crate) log: Arc<dyn LogSink>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("ready", &self.context.get().is_some()).finish_non_exhaustive()
    }
}

/// Calls since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoorCounts {
    /// Of methods that exist.
    pub calls: u64,
    /// Answered with an error.
    pub errors: u64,
    /// Under way.
    pub running: usize,
}

/// An answer before it is HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// Absent for refusals by whitelist and for notifications.
    pub body: Option<Value>,
    /// Kept until a large answer is sent.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Answer {
    const fn empty(status: u16) -> Self {
        Self { status, body: None, place: None }
    }

    const fn with(status: u16, body: Value) -> Self {
        Self { status, body: Some(body), place: None }
    }
}

/// Methods whose reply may be a block's or the mempool's worth of JSON.
const LARGE: [&str; 4] = ["getblock", "getrawmempool", "getmempoolancestors", "getmempooldescendants"];

/// Whether a request, or one of a batch, asks for a large reply.
fn asks_for_much(value: &Value) -> bool {
    let large = |request: &Value| {
        request.get("method").and_then(Value::as_str).is_some_and(|method| LARGE.contains(&method))
    };
    match value {
        Value::Array(requests) => requests.iter().any(large),
        request => large(request),
    }
}

/// Who calls, for the log.
#[derive(Debug)]
pub(crate) struct Caller {
    pub user: String,
    pub address: String,
}

/// What is known of one request while it is taken apart. In a batch it is carried from element to
/// element, as in Core: an element that is no object answers under the id before it.
#[derive(Debug)]
struct Request {
    /// Outer `None`: the request has no `id` at all.
    id: Option<Value>,
    v2: bool,
    method: String,
    params: Value,
    /// Keys that `params` names twice.
    repeats: Vec<Repeat>,
}

impl Request {
    fn new() -> Self {
        Self {
            id: Some(Value::Null),
            v2: false,
            method: String::new(),
            params: Value::Null,
            repeats: Vec::new(),
        }
    }

    const fn is_notification(&self) -> bool {
        self.v2 && self.id.is_none()
    }

    /// `place` is where in a batch the request stands.
    fn parse(&mut self, value: &Value, repeats: &[Repeat], place: Option<usize>) -> Result<(), RpcError> {
        let invalid = |text: &str| RpcError::new(code::INVALID_REQUEST, text);
        let Value::Object(request) = value else { return Err(invalid("Invalid Request object")) };
        self.id = request.get("id").cloned();
        self.v2 = false;
        match request.get("jsonrpc") {
            None | Some(Value::Null) => {}
            Some(Value::String(version)) => match version.as_str() {
                "1.0" => {}
                "2.0" => self.v2 = true,
                _ => return Err(invalid("JSON-RPC version not supported")),
            },
            Some(_) => return Err(invalid("jsonrpc field must be a string")),
        }
        self.method = match request.get("method") {
            None | Some(Value::Null) => return Err(invalid("Missing method")),
            Some(Value::String(method)) => method.clone(),
            Some(_) => return Err(invalid("Method must be a string")),
        };
        self.params = match request.get("params") {
            None | Some(Value::Null) => Value::Array(Vec::new()),
            Some(params @ (Value::Array(_) | Value::Object(_))) => params.clone(),
            Some(_) => return Err(invalid("Params must be an array or object")),
        };
        let prefix: Vec<String> =
            place.map(|place| place.to_string()).into_iter().chain(["params".into()]).collect();
        let within = |repeat: &Repeat| {
            let path = repeat.path.strip_prefix(prefix.as_slice())?.to_vec();
            Some(Repeat { path, key: repeat.key.clone() })
        };
        self.repeats = repeats.iter().filter_map(within).collect();
        Ok(())
    }

    fn reply(&self, result: RpcResult) -> Value {
        let mut reply = Map::new();
        if self.v2 {
            reply.insert("jsonrpc".into(), "2.0".into());
        }
        match result {
            Ok(result) => {
                reply.insert("result".into(), result);
                if !self.v2 {
                    reply.insert("error".into(), Value::Null);
                }
            }
            Err(error) => {
                if !self.v2 {
                    reply.insert("result".into(), Value::Null);
                }
                reply.insert("error".into(), error.to_json());
            }
        }
        if let Some(id) = &self.id {
            reply.insert("id".into(), id.clone());
        }
        Value::Object(reply)
    }

    /// A refusal of the request as a whole, with the HTTP code that goes with it.
    fn refusal(&self, error: RpcError) -> Answer {
        let status = match error.code {
            code::INVALID_REQUEST => 400,
            code::METHOD_NOT_FOUND => 404,
            _ => 500,
        };
        Answer::with(status, self.reply(Err(error)))
    }
}

/// Takes its call off the list of those under way, however the call ends.
struct Active<'a> {
    door: &'a Door,
    number: u64,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.door.active.lock().remove(&self.number);
    }
}

/// Leaves only the characters that may stand in a log line (Core's `SanitizeString`).
fn sanitize(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || " .,;-_/:?@()".contains(*c)).collect()
}

impl Door {
    /// A door that answers -28 to everything until [`Door::ready`].
    #[must_use]
    pub fn new(
        credentials: Credentials,
        log_ips: bool,
        log: Arc<dyn LogSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            credentials,
            log_ips,
            status: RwLock::new("RPC server started".into()),
            context: OnceLock::new(),
            active: Mutex::new(BTreeMap::new()),
            next_call: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            large: Arc::new(Semaphore::new(LARGE_REPLIES)),
            log,
            clock,
        }
    }

    /// Tells callers what the node is doing while it starts (Core's `SetRPCWarmupStatus`).
    pub fn set_warmup_status(&self, status: impl Into<String>) {
        *self.status.write() = status.into();
    }

    /// Ends the warm-up: from now on methods run on `context`. Only the first call counts.
    pub fn ready(&self, context: Arc<ApiContext>) {
        let _ = self.context.set(context);
    }

    /// Whether the warm-up is over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.context.get().is_some()
    }

    pub(crate) const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Calls under way, oldest first: name and microseconds so far.
    pub(crate) fn active_calls(&self) -> Vec<(String, u64)> {
        let now = self.clock.steady();
        let micros = |start: Duration| u64::try_from(now.saturating_sub(start).as_micros()).unwrap_or(0);
        self.active.lock().values().map(|(name, start)| (name.clone(), micros(*start))).collect()
    }

    /// What the door has done since the start.
    pub(crate) fn counts(&self) -> DoorCounts {
        DoorCounts {
            calls: self.next_call.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            running: self.active.lock().len(),
        }
    }

    /// What methods run on, or -28 and what the node is doing until it is ready.
    pub(crate) fn context(&self) -> Result<&Arc<ApiContext>, RpcError> {
        self.context.get().ok_or_else(|| RpcError::new(code::IN_WARMUP, self.status.read().clone()))
    }

    /// Runs one method. `repeats` are the keys that `params` names twice.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        method: &str,
        params: &Value,
        repeats: &[Repeat],
    ) -> RpcResult {
        let result = self.run(method, params, repeats).await;
        if result.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn run(self: &Arc<Self>, method: &str, params: &Value, repeats: &[Repeat]) -> RpcResult {
        let ctx = self.context()?;
        let Some(found) = table::find(method) else {
            return Err(RpcError::new(code::METHOD_NOT_FOUND, "Method not found"));
        };
        let number = self.next_call.fetch_add(1, Ordering::Relaxed);
        self.active.lock().insert(number, (method.to_owned(), self.clock.steady()));
        let _active = Active { door: self, number };
        let params = found.positions(params, repeats)?;
        let result = (found.handler)(Call { ctx: Arc::clone(ctx), door: Arc::clone(self), params }).await?;
        if ctx.facts.check_replies
            && let Some(fault) = found.reply_fault(&result)
        {
            return Err(RpcError::misc(format!(
                "Internal bug detected: RPC call \"{method}\" returned incorrect type:\n{fault}"
            )));
        }
        Ok(result)
    }

    /// Answers a request body.
    pub(crate) async fn answer(self: &Arc<Self>, body: &[u8], caller: &Caller) -> Answer {
        let Some(text) = json::read(body) else {
            return Request::new().refusal(RpcError::new(code::PARSE_ERROR, "Parse error"));
        };
        let place = if asks_for_much(&text.value) {
            // The places are never closed.
            Arc::clone(&self.large).acquire_owned().await.ok()
        } else {
            None
        };
        Answer { place, ..self.answer_text(text, caller).await }
    }

    async fn answer_text(self: &Arc<Self>, text: Text, caller: &Caller) -> Answer {
        let Text { value, repeats } = text;
        let mut request = Request::new();
        let allowed = self.credentials.allowed(&caller.user);
        if allowed.is_some() && !self.credentials.has_whitelist(&caller.user) {
            let user = &caller.user;
            self.log.log(LogLine::warning(format!("RPC User {user} not allowed to call any methods")));
            return Answer::empty(403);
        }
        let refused = |method: &str| {
            let refused = allowed.as_ref().is_some_and(|allowed| !allowed.contains(method));
            if refused {
                let user = &caller.user;
                let text = format!("RPC User {user} not allowed to call method {}", sanitize(method));
                self.log.log(LogLine::warning(text));
            }
            refused
        };
        match &value {
            Value::Object(_) => {
                if let Err(error) = request.parse(&value, &repeats, None) {
                    return request.refusal(error);
                }
                self.log_call(&request, caller);
                if refused(&request.method) {
                    return Answer::empty(403);
                }
                let result = self.execute(&request.method, &request.params, &request.repeats).await;
                match result {
                    _ if request.is_notification() => Answer::empty(204),
                    Err(error) if !request.v2 => request.refusal(error),
                    result => Answer::with(200, request.reply(result)),
                }
            }
            Value::Array(elements) => {
                if allowed.is_some() {
                    for element in elements {
                        let Value::Object(element) = element else {
                            let text = "Invalid Request object";
                            return request.refusal(RpcError::new(code::INVALID_REQUEST, text));
                        };
                        let Some(Value::String(method)) = element.get("method") else {
                            let actual = type_name(element.get("method").unwrap_or(&json::NULL));
                            let text = format!("JSON value of type {actual} is not of expected type string");
                            return request.refusal(RpcError::new(code::PARSE_ERROR, text));
                        };
                        if refused(method) {
                            return Answer::empty(403);
                        }
                    }
                }
                self.answer_batch(&mut request, elements, &repeats, caller).await
            }
            _ => request.refusal(RpcError::new(code::PARSE_ERROR, "Top-level object parse error")),
        }
    }

    async fn answer_batch(
        self: &Arc<Self>,
        request: &mut Request,
        elements: &[Value],
        repeats: &[Repeat],
        caller: &Caller,
    ) -> Answer {
        let mut replies = Vec::new();
        for (i, element) in elements.iter().enumerate() {
            if i % BATCH_YIELD == BATCH_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            let result = match request.parse(element, repeats, Some(i)) {
                Ok(()) => {
                    self.log_call(request, caller);
                    self.execute(&request.method, &request.params, &request.repeats).await
                }
                Err(error) => Err(error),
            };
            if !request.is_notification() {
                replies.push(request.reply(result));
            }
        }
        if replies.is_empty() && !elements.is_empty() {
            return Answer::empty(204);
        }
        Answer::with(200, Value::Array(replies))
    }

    fn log_call(&self, request: &Request, caller: &Caller) {
        if !self.log.enabled(LogCategory::Rpc) {
            return;
        }
        let method = sanitize(&request.method);
        let id = request.id.as_ref().map_or_else(String::new, |id| sanitize(&bare_text(id)));
        let user = &caller.user;
        let from = if self.log_ips { format!(" peeraddr={}", caller.address) } else { String::new() };
        let text = format!("ThreadRPCServer method={method} user={user}{from} id={id}");
        self.log.log(LogLine::debug(LogCategory::Rpc, text));
    }
}

/// `getrpcinfo`'s list of calls under way.
pub(crate) fn active_json(door: &Door) -> Value {
    door.active_calls()
        .into_iter()
        .map(|(method, micros)| {
            let mut entry = Object::new();
            entry.push("method", method).push("duration", micros);
            Value::from(entry)
        })
        .collect()
}

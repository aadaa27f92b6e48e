//! JSON-RPC as Core speaks it: versions 1.0, 1.1 and 2.0, batches, notifications and their HTTP
//! codes (`httprpc.cpp`, `rpc/request.cpp`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ironpeer_primitives::{Clock, LogCategory, LogLine, LogSink};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::auth::Credentials;
use crate::body::Pieces;
use crate::call::Call;
use crate::context::ApiContext;
use crate::error::{RpcError, code};
use crate::json::{self, Object, Repeat, Text, bare_text, type_name};
use crate::limits::{BATCH_PARALLEL, BATCH_YIELD, LARGE_REPLIES};
use crate::reply::Answered;
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
    pub body: Option<Pieces>,
    /// Kept until a large answer is sent.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Answer {
    const fn empty(status: u16) -> Self {
        Self { status, body: None, place: None }
    }

    const fn with(status: u16, body: Pieces) -> Self {
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
#[derive(Clone, Debug)]
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

    /// Adds the answer's text to a body.
    async fn reply(&self, result: Answered, out: &mut Pieces) {
        out.text(if self.v2 { "{\"jsonrpc\":\"2.0\"," } else { "{" });
        match result {
            Ok(result) => {
                out.text("\"result\":");
                result.write(out).await;
                if !self.v2 {
                    out.text(",\"error\":null");
                }
            }
            Err(error) => self.error(&error, out),
        }
        self.end(out);
    }

    fn error(&self, error: &RpcError, out: &mut Pieces) {
        if !self.v2 {
            out.text("\"result\":null,");
        }
        out.text("\"error\":").text(error.to_json().to_string());
    }

    fn end(&self, out: &mut Pieces) {
        if let Some(id) = &self.id {
            out.text(",\"id\":").text(id.to_string());
        }
        out.text("}");
    }

    /// The answer within a batch, if one is wanted.
    async fn batch_reply(&self, result: Answered) -> Option<Pieces> {
        if self.is_notification() {
            return None;
        }
        let mut body = Pieces::default();
        self.reply(result, &mut body).await;
        Some(body)
    }

    /// A refusal of the request as a whole, with the HTTP code that goes with it.
    fn refusal(&self, error: RpcError) -> Answer {
        let status = match error.code {
            code::INVALID_REQUEST => 400,
            code::METHOD_NOT_FOUND => 404,
            _ => 500,
        };
        let mut body = Pieces::default();
        body.text(if self.v2 { "{\"jsonrpc\":\"2.0\"," } else { "{" });
        self.error(&error, &mut body);
        self.end(&mut body);
        Answer::with(status, body)
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

/// The replies of a batch in the order of its calls, of which some may still run.
#[derive(Default)]
struct Batch {
    running: VecDeque<JoinHandle<Option<Pieces>>>,
    body: Pieces,
    replies: usize,
}

impl Batch {
    /// Waits for the first calls until no more than `most` run.
    async fn leave_running(&mut self, most: usize) {
        while self.running.len() > most {
            let Some(call) = self.running.pop_front() else { return };
            match call.await {
                Ok(reply) => self.add(reply),
                // As it would without a task of its own, a panic ends the whole request.
                Err(failed) => std::panic::resume_unwind(Box::new(failed.to_string())),
            }
        }
    }

    fn add(&mut self, reply: Option<Pieces>) {
        let Some(reply) = reply else { return };
        if self.replies > 0 {
            self.body.text(",");
        }
        self.replies += 1;
        self.body.append(reply);
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
    ) -> Answered {
        let result = self.run(method, params, repeats).await;
        if result.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn run(self: &Arc<Self>, method: &str, params: &Value, repeats: &[Repeat]) -> Answered {
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
            && let Some(fault) = found.reply_fault(&result.to_value())
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
                    result => {
                        let mut body = Pieces::default();
                        request.reply(result, &mut body).await;
                        Answer::with(200, body)
                    }
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
        let mut batch = Batch::default();
        for (i, element) in elements.iter().enumerate() {
            if i % BATCH_YIELD == BATCH_YIELD - 1 {
                tokio::task::yield_now().await;
            }
            match request.parse(element, repeats, Some(i)) {
                Ok(()) => {
                    self.log_call(request, caller);
                    let alone = !table::only_reads(&request.method);
                    // A call that changes something sees what those before it did, and is seen by
                    // those after it.
                    batch.leave_running(if alone { 0 } else { BATCH_PARALLEL - 1 }).await;
                    let (door, asked) = (Arc::clone(self), request.clone());
                    batch.running.push_back(tokio::spawn(async move {
                        let result = door.execute(&asked.method, &asked.params, &asked.repeats).await;
                        asked.batch_reply(result).await
                    }));
                    if alone {
                        batch.leave_running(0).await;
                    }
                }
                Err(error) => {
                    batch.leave_running(0).await;
                    batch.add(request.batch_reply(Err(error)).await);
                }
            }
        }
        batch.leave_running(0).await;
        if batch.replies == 0 && !elements.is_empty() {
            return Answer::empty(204);
        }
        let mut body = Pieces::default();
        body.text("[").append(batch.body).text("]");
        Answer::with(200, body)
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

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;

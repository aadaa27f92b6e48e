//! The one list of methods: it drives dispatch, help, named arguments and the command line's
//! conversions.

use std::fmt::Write as _;

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::call::{Call, Params};
use crate::error::RpcError;
use crate::json::{self, Repeat, type_name};
use crate::methods;
use crate::reply::Answered;
use crate::results;

/// JSON type of an argument, as far as it is checked before the handler runs (Core's
/// `RPCArg::Type`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Text.
    Str,
    /// Hex text.
    Hex,
    /// Number.
    Num,
    /// Number or text, checked by the handler.
    Amount,
    /// Number or pair, checked by the handler.
    Range,
    /// True or false.
    Bool,
    /// Object.
    Obj,
    /// Object whose members may also be given as named arguments.
    Named(&'static [Arg]),
    /// Array.
    Arr,
}

/// Whether an argument must be given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// Must be given.
    Required,
    /// May be left out.
    Optional,
    /// May be left out; the help names what it is then.
    Default(&'static str),
}

/// One argument of a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arg {
    /// Names it goes by, the first one in help: `verbosity|verbose`.
    pub names: &'static str,
    pub kind: Kind,
    pub need: Need,
    pub help: &'static str,
    /// Stands for the argument in the usage line, where its kind alone says too little.
    pub usage: Option<&'static str>,
    /// Left out of help.
    pub hidden: bool,
    /// The handler checks the type.
    pub any_type: bool,
    /// The command line reads it as JSON although it is text here.
    pub cli_json: bool,
}

impl Arg {
    const fn new(names: &'static str, kind: Kind, need: Need, help: &'static str) -> Self {
        Self { names, kind, need, help, usage: None, hidden: false, any_type: false, cli_json: false }
    }

    pub(crate) const fn req(names: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(names, kind, Need::Required, help)
    }

    pub(crate) const fn opt(names: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(names, kind, Need::Optional, help)
    }

    pub(crate) const fn def(
        names: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self::new(names, kind, Need::Default(default), help)
    }

    pub(crate) const fn usage(mut self, usage: &'static str) -> Self {
        self.usage = Some(usage);
        self
    }

    pub(crate) const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    pub(crate) const fn any_type(mut self) -> Self {
        self.any_type = true;
        self
    }

    pub(crate) const fn cli_json(mut self) -> Self {
        self.cli_json = true;
        self
    }

    pub(crate) fn first_name(&self) -> &'static str {
        self.names.split('|').next().unwrap_or(self.names)
    }

    pub(crate) const fn optional(&self) -> bool {
        !matches!(self.need, Need::Required)
    }

    fn expected(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Str | Kind::Hex => Some("string"),
            Kind::Num => Some("number"),
            Kind::Bool => Some("bool"),
            Kind::Obj | Kind::Named(_) => Some("object"),
            Kind::Arr => Some("array"),
            Kind::Amount | Kind::Range => None,
        }
    }

    /// The mismatch text of a value, if it is of another type.
    fn mismatch(&self, value: &Value) -> Option<String> {
        if self.any_type || (self.optional() && value.is_null()) {
            return None;
        }
        let expected = self.expected()?;
        let actual = type_name(value);
        (expected != actual)
            .then(|| format!("JSON value of type {actual} is not of expected type {expected}"))
    }

    fn in_usage(&self) -> String {
        if let Some(usage) = self.usage {
            return usage.into();
        }
        let name = self.first_name();
        match self.kind {
            Kind::Str | Kind::Hex => format!("\"{name}\""),
            Kind::Num | Kind::Amount | Kind::Range | Kind::Bool => name.into(),
            Kind::Obj => "{}".into(),
            Kind::Named(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|m| {
                        let shape = match m.kind {
                            Kind::Str => "\"str\"",
                            Kind::Hex => "\"hex\"",
                            Kind::Amount => "amount",
                            Kind::Bool => "bool",
                            Kind::Arr => "[...]",
                            _ => "n",
                        };
                        format!("\"{}\":{shape}", m.first_name())
                    })
                    .collect();
                format!("{{{},...}}", members.join(","))
            }
            Kind::Arr => format!("[{name},...]"),
        }
    }

    fn describe(&self) -> String {
        let kind = match self.kind {
            Kind::Str | Kind::Hex => "string",
            Kind::Num => "numeric",
            Kind::Amount => "numeric or string",
            Kind::Range => "numeric or array",
            Kind::Bool => "boolean",
            Kind::Obj | Kind::Named(_) => "json object",
            Kind::Arr => "json array",
        };
        let need = match self.need {
            Need::Required => "required".to_owned(),
            Need::Optional => "optional".to_owned(),
            Need::Default(value) => format!("optional, default={value}"),
        };
        format!("({kind}, {need}) {}", self.help)
    }
}

/// Runs a call.
pub(crate) type Handler = fn(Call) -> BoxFuture<'static, Answered>;

/// One method.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    pub category: &'static str,
    pub name: &'static str,
    pub args: &'static [Arg],
    pub help: &'static str,
    pub handler: Handler,
}

/// Makes a [`Method`] of an `async fn(Call) -> RpcResult`.
macro_rules! method {
    ($category:literal, $name:literal, [$($arg:expr),* $(,)?], $help:expr, $handler:path) => {
        $crate::table::Method {
            category: $category,
            name: $name,
            args: &[$($arg),*],
            help: $help,
            handler: |call| {
                ::std::boxed::Box::pin(async move { $handler(call).await.map($crate::reply::Reply::from) })
            },
        }
    };
}
pub(crate) use method;

/// Finds a method by name.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    all().find(|method| method.name == name)
}

/// Whether a call of the method changes nothing that another call could tell, so that a batch need
/// not wait for it.
pub(crate) fn only_reads(name: &str) -> bool {
    ONLY_READ.contains(&name)
}

/// What clients ask for by the hundred.
const ONLY_READ: &[&str] = &[
    "analyzepsbt",
    "decodepsbt",
    "decoderawtransaction",
    "decodescript",
    "deriveaddresses",
    "estimatesmartfee",
    "getbestblockhash",
    "getblock",
    "getblockchaininfo",
    "getblockcount",
    "getblockfilter",
    "getblockhash",
    "getblockheader",
    "getblockstats",
    "getchaintips",
    "getchaintxstats",
    "getdescriptorinfo",
    "getdifficulty",
    "getmempoolancestors",
    "getmempooldescendants",
    "getmempoolentry",
    "getmempoolinfo",
    "getrawmempool",
    "getrawtransaction",
    "gettxout",
    "gettxoutproof",
    "gettxspendingprevout",
    "testmempoolaccept",
    "validateaddress",
    "verifymessage",
    "verifytxoutproof",
];

/// Every method, in no order that matters.
pub(crate) fn all() -> impl Iterator<Item = &'static Method> {
    methods::GROUPS.iter().flat_map(|group| group.iter())
}

impl Method {
    /// Positions that must be filled at least.
    fn required(&self) -> usize {
        self.args.iter().rposition(|arg| !arg.optional()).map_or(0, |last| last + 1)
    }

    /// Turns a call's `params` into positions, and checks their number and types. `repeats` are
    /// the keys that `params` names twice.
    pub(crate) fn positions(&self, params: &Value, repeats: &[Repeat]) -> Result<Params, RpcError> {
        let mut repeats = repeats.to_vec();
        let values = match params {
            Value::Array(values) => values.clone(),
            Value::Object(named) => {
                if let Some(twice) = repeats.iter().find(|repeat| repeat.path.is_empty()) {
                    return Err(RpcError::parameter(format!(
                        "Parameter {} specified multiple times",
                        twice.key
                    )));
                }
                repeats.iter_mut().for_each(|repeat| self.place_path(&mut repeat.path));
                self.place_named(named)?
            }
            _ => Vec::new(),
        };
        if values.len() < self.required() || values.len() > self.args.len() {
            return Err(RpcError::misc(self.full_help()));
        }
        let mut wrong = Map::new();
        for (i, arg) in self.args.iter().enumerate() {
            if let Some(text) = arg.mismatch(values.get(i).unwrap_or(&json::NULL)) {
                wrong.insert(format!("Position {} ({})", i + 1, arg.names), text.into());
            }
        }
        if !wrong.is_empty() {
            let text = json::pretty(&Value::Object(wrong), 4);
            return Err(RpcError::wrong_type(format!("Wrong type passed:\n{text}")));
        }
        Ok(Params { values, repeats })
    }

    /// A path that begins with an argument's name begins with its position instead.
    fn place_path(&self, path: &mut Vec<String>) {
        let Some(name) = path.first_mut() else { return };
        if name == "args" {
            path.remove(0);
        } else if let Some(place) = self.args.iter().position(|arg| arg.names.split('|').any(|n| n == name)) {
            *name = place.to_string();
        }
    }

    /// Named to positional, with Core's rules for `args` and for options given by name
    /// (`transformNamedArguments`, `src/rpc/server.cpp`).
    fn place_named(&self, named: &Map<String, Value>) -> Result<Vec<Value>, RpcError> {
        let mut left = named.clone();
        let mut out: Vec<Value> = Vec::new();
        let (mut hole, mut initial_hole) = (0usize, 0usize);
        let mut first_named: Option<&str> = None;
        for arg in self.args {
            let mut options = Map::new();
            if let Kind::Named(members) = arg.kind {
                for member in members {
                    let found = member.names.split('|').find(|name| left.contains_key(*name));
                    if let Some((name, value)) = found.and_then(|name| left.shift_remove_entry(name)) {
                        options.insert(name, value);
                    }
                }
            }
            let given = arg
                .names
                .split('|')
                .find(|name| left.contains_key(*name))
                .and_then(|name| left.shift_remove_entry(name));
            if given.is_none() && options.is_empty() {
                hole += 1;
                if out.is_empty() {
                    initial_hole = hole;
                }
                continue;
            }
            out.extend(std::iter::repeat_n(Value::Null, hole));
            hole = 0;
            first_named.get_or_insert(arg.names);
            match given {
                Some((name, _)) if !options.is_empty() => {
                    let other = options.keys().next().map_or("", String::as_str);
                    return Err(RpcError::parameter(format!(
                        "Parameter {name} conflicts with parameter {other}"
                    )));
                }
                Some((_, value)) => out.push(value),
                None => out.push(Value::Object(options)),
            }
        }
        if let Some(Value::Array(positional)) = left.get("args") {
            if let Some(name) = first_named.filter(|_| initial_hole < positional.len()) {
                return Err(RpcError::parameter(format!(
                    "Parameter {name} specified twice both as positional and named argument"
                )));
            }
            let mut all = positional.clone();
            let from = all.len();
            all.extend(out.into_iter().skip(from));
            out = all;
            left.shift_remove("args");
        }
        match left.keys().next() {
            Some(name) => Err(RpcError::parameter(format!("Unknown named parameter {name}"))),
            None => Ok(out),
        }
    }

    /// `name "a" b ( c )`, the first line of help.
    pub(crate) fn usage(&self) -> String {
        let mut line = self.name.to_owned();
        let mut in_optional = false;
        for arg in self.args.iter().take_while(|arg| !arg.hidden) {
            line.push(' ');
            if arg.optional() {
                if !in_optional {
                    line.push_str("( ");
                }
                in_optional = true;
            } else {
                if in_optional {
                    line.push_str(") ");
                }
                in_optional = false;
            }
            line.push_str(&arg.in_usage());
        }
        if in_optional {
            line.push_str(" )");
        }
        line
    }

    /// The whole help text.
    pub(crate) fn full_help(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage(), self.help.trim());
        let shown: Vec<&Arg> = self.args.iter().take_while(|arg| !arg.hidden).collect();
        if !shown.is_empty() {
            text.push_str("\nArguments:\n");
        }
        let mut by_name = String::new();
        for (i, arg) in shown.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}. {}    {}", i + 1, arg.first_name(), arg.describe());
            if let Kind::Named(members) = arg.kind {
                for member in members {
                    let _ = writeln!(by_name, "{}    {}", member.first_name(), member.describe());
                }
            }
        }
        if !by_name.is_empty() {
            text.push_str("\nNamed Arguments:\n");
            text.push_str(&by_name);
        }
        if let Some(shape) = results::result(self.name) {
            let _ = writeln!(text, "\nResult:\n{}", shape.help());
            let mut used = Vec::new();
            shape.defined(&mut used);
            for name in used {
                let body = results::definition(name).map(|shape| shape.help()).unwrap_or_default();
                let _ = writeln!(text, "\n<{name}>: {body}");
            }
        }
        text
    }

    /// Where a reply is not what is documented, if it is not.
    pub(crate) fn reply_fault(&self, reply: &Value) -> Option<String> {
        results::result(self.name)?.fault(reply)
    }
}

/// All methods' usage lines by category, or one method's help (Core's `CRPCTable::help`).
pub(crate) fn help(command: &str) -> String {
    if !command.is_empty() {
        return find(command).map_or_else(|| format!("help: unknown command: {command}"), Method::full_help);
    }
    let mut methods: Vec<&Method> = all().filter(|method| method.category != "hidden").collect();
    methods.sort_by_key(|method| (method.category, method.name));
    let mut text = String::new();
    let mut category = "";
    for method in methods {
        if method.category != category {
            if !category.is_empty() {
                text.push('\n');
            }
            category = method.category;
            let (head, tail) = category.split_at(1);
            let _ = writeln!(text, "== {}{tail} ==", head.to_uppercase());
        }
        text.push_str(&method.usage());
        text.push('\n');
    }
    text.pop();
    text
}

/// How the command line reads one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CliFormat {
    /// As JSON; anything else is an error.
    Json,
    /// As JSON if it is some, else as text.
    JsonOrString,
    /// As text.
    String,
}

/// One argument's rule for the command line: what Core keeps in `vRPCConvertParams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CliConversion {
    /// The method.
    pub method: &'static str,
    /// Position from 0; members of an options object have the object's.
    pub position: usize,
    /// One of the argument's names.
    pub name: &'static str,
    /// How to read it.
    pub format: CliFormat,
}

/// The command line's rules for every argument of every method.
#[must_use]
pub fn cli_conversions() -> Vec<CliConversion> {
    let mut rules = Vec::new();
    for method in all() {
        for (position, arg) in method.args.iter().enumerate() {
            let inner = if let Kind::Named(members) = arg.kind { members } else { &[] };
            for arg in std::iter::once(arg).chain(inner) {
                let format = match arg.kind {
                    _ if arg.cli_json => CliFormat::Json,
                    Kind::Str | Kind::Hex => CliFormat::String,
                    _ if arg.any_type => CliFormat::JsonOrString,
                    _ => CliFormat::Json,
                };
                for name in arg.names.split('|') {
                    rules.push(CliConversion { method: method.name, position, name, format });
                }
            }
        }
    }
    rules
}

/// Method, position, name, and whether it is text here, of every argument, for
/// `help dump_all_command_conversions`.
pub(crate) fn conversions_json() -> Value {
    let mut methods: Vec<&Method> = all().collect();
    methods.sort_by_key(|method| method.name);
    let mut rows = Vec::new();
    for method in methods {
        for (position, arg) in method.args.iter().enumerate() {
            let inner = if let Kind::Named(members) = arg.kind { members } else { &[] };
            for arg in std::iter::once(arg).chain(inner) {
                let text = matches!(arg.kind, Kind::Str | Kind::Hex);
                for name in arg.names.split('|') {
                    rows.push(Value::Array(vec![
                        method.name.into(),
                        position.into(),
                        name.into(),
                        text.into(),
                    ]));
                }
            }
        }
    }
    rows.into()
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

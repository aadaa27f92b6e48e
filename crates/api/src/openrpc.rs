//! The OpenRPC document, made from the method table: what `rpc.discover` answers and
//! `docs/openrpc.json` holds.

use serde_json::{Map, Value, json};

use crate::results::{self, DEFINITIONS};
use crate::table::{self, Arg, Kind, Method, Need};

/// The schema of an argument.
fn schema(arg: &Arg) -> Value {
    let mut schema = match arg.kind {
        _ if arg.any_type => json!({}),
        Kind::Str => json!({"type": "string"}),
        Kind::Hex => json!({"type": "string", "pattern": "^([0-9a-fA-F]{2})*$"}),
        Kind::Num => json!({"type": "number"}),
        Kind::Amount => json!({"type": ["number", "string"]}),
        Kind::Range => json!({"type": ["number", "array"]}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Obj => json!({"type": "object"}),
        Kind::Arr => json!({"type": "array"}),
        Kind::Named(members) => {
            let members: Map<String, Value> =
                members.iter().map(|member| (member.first_name().to_owned(), schema(member))).collect();
            json!({"type": "object", "properties": members})
        }
    };
    if let (Need::Default(default), Some(schema)) = (arg.need, schema.as_object_mut()) {
        // A default that is a description stays out.
        if let Ok(default) = serde_json::from_str::<Value>(default) {
            schema.insert("default".into(), default);
        }
    }
    schema
}

fn method(method: &Method) -> Value {
    let params = method.args.iter().filter(|arg| !arg.hidden).map(|arg| {
        json!({
            "name": arg.first_name(),
            "description": arg.help,
            "required": !arg.optional(),
            "schema": schema(arg),
        })
    });
    let result = results::result(method.name).map_or(Value::Bool(true), |shape| shape.schema());
    json!({
        "name": method.name,
        "summary": method.help,
        "tags": [{"name": method.category}],
        "paramStructure": "either",
        "params": params.collect::<Vec<_>>(),
        "result": {"name": "result", "schema": result},
    })
}

/// All methods with their arguments and answers, as an OpenRPC 1.3 document.
#[must_use]
pub fn openrpc() -> Value {
    let mut methods: Vec<&Method> = table::all().collect();
    methods.sort_by_key(|method| method.name);
    let schemas: Map<String, Value> = DEFINITIONS
        .iter()
        .filter_map(|(name, _)| Some(((*name).to_owned(), results::definition(name)?.schema())))
        .collect();
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "Ironpeer JSON-RPC",
            "description": "The methods of Bitcoin Core 31.0, without the wallet's.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "methods": methods.into_iter().map(method).collect::<Vec<_>>(),
        "components": {"schemas": schemas},
    })
}

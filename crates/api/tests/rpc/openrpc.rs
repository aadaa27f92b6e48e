//! The document of all methods, as served and as kept in the repository.

use std::path::Path;

use serde_json::json;

use crate::support::TestNode;

/// Set to write the document anew.
const WRITE: &str = "IRONPEER_WRITE_DOCS";

#[tokio::test]
async fn the_openrpc_document_is_current() {
    let node = TestNode::start().await;
    let served = node.call("rpc.discover", json!([])).await.unwrap();
    node.stop().await;
    let text = ironpeer_api::json::pretty(&served, 2) + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openrpc.json");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let differs = kept.lines().zip(text.lines()).find(|(kept, now)| kept != now);
    assert!(kept == text, "{differs:?}: run this test once with {WRITE}=1");
    // Every reference leads somewhere.
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(served["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

use serde_json::json;

use crate::support::TestNode;

#[tokio::test]
async fn metrics_are_well_formed_and_count_what_happened() {
    let node = TestNode::start().await;
    node.mine(3).await;
    node.call("getblockhash", json!([9])).await.unwrap_err();
    let text = ironpeer_api::metrics(&node.context, Some(&node.door));
    for line in [
        "ironpeer_chain_height_blocks 3",
        "ironpeer_chain_headers_height_blocks 3",
        "ironpeer_chain_transactions 4",
        "ironpeer_mempool_transactions 0",
        "ironpeer_mining_blocks_found_total 3",
        "ironpeer_rpc_calls_total 2",
        "ironpeer_rpc_errors_total 1",
        "ironpeer_rpc_calls_in_progress 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    // Each metric once: its help, its type, its values.
    let mut names = std::collections::BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(help) = lines.next() {
        let (name, words) = help.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
        assert!(words.ends_with('.') && names.insert(name), "{help}");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} {kind}");
        let mut values = 0;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.split('{').next() == Some(name) && value.parse::<f64>().is_ok(), "{line}");
            values += 1;
        }
        assert!(values > 0, "{name}");
    }
    node.stop().await;
}

use bitcoin::Network;
use bitcoin::constants::genesis_block;

use super::*;

fn rows() -> Vec<Row> {
    let header = genesis_block(Network::Bitcoin).header;
    let at = |file, offset| Some(FilePos { file, offset });
    vec![
        Row { header, validity: Validity::Tree, failed: false, tx_count: 0, data: None, undo: None },
        Row {
            header,
            validity: Validity::Transactions,
            failed: true,
            tx_count: 1,
            data: at(0, 8),
            undo: None,
        },
        Row {
            header,
            validity: Validity::Scripts,
            failed: false,
            tx_count: u32::MAX,
            data: at(99_999, u32::MAX),
            undo: at(7, 300),
        },
    ]
}

#[test]
fn rows_come_back_as_they_were() {
    for row in rows() {
        assert_eq!(Row::decode(&row.encode()), Some(row.clone()));
        let record = Record::Row(row);
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }
    let tip = Record::Tip(genesis_block(Network::Regtest).block_hash());
    assert_eq!(Record::decode(&tip.encode()), Some(tip));
    assert_eq!(Record::decode(&Record::Synced.encode()), Some(Record::Synced));
}

#[test]
fn anything_else_is_refused() {
    for row in rows() {
        let bytes = Record::Row(row).encode();
        for len in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..len]), None, "cut to {len}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Record::decode(&longer), None);
        let mut unknown = bytes;
        unknown[0] = b'?';
        assert_eq!(Record::decode(&unknown), None);
    }
}

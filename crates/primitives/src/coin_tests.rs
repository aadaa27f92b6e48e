use super::*;

/// Core's `compress_tests.cpp` pairs.
#[test]
fn amounts_compress_as_in_core() {
    let coin = 100_000_000;
    for (sats, compressed) in [
        (0, 0x0),
        (1, 0x1),
        (coin / 100, 0x7),
        (coin, 0x9),
        (50 * coin, 0x32),
        (21_000_000 * coin, 0x1406f40),
    ] {
        assert_eq!(compress_amount(sats), compressed);
        assert_eq!(decompress_amount(compressed), Ok(sats));
    }
    assert_eq!(decompress_amount(u64::MAX), Err(CodecError::OutOfRange));
}

#[test]
fn varints_have_one_encoding_and_an_end() {
    for n in [0, 1, 0x7f, 0x80, 0x407f, 0x4080, 0xffff_ffff, u64::MAX] {
        let mut bytes = Vec::new();
        write_varint(&mut bytes, n);
        assert_eq!(read_varint(&mut bytes.as_slice()), Ok(n));
    }
    let mut bytes = Vec::new();
    write_varint(&mut bytes, 0x80);
    assert_eq!(bytes, [0x80, 0x00]);
    assert_eq!(read_varint(&mut [0xff_u8; 11].as_slice()), Err(CodecError::OutOfRange));
    assert_eq!(read_varint(&mut [0x80_u8].as_slice()), Err(CodecError::Truncated));
}

/// Record layouts from Core's `coins_tests.cpp` (`ccoins_serialization`).
#[test]
fn coins_decode_as_in_core() {
    let good = hex("97f23c835800816115944e077fe7c803cfa57f29b36bf87c1d35");
    let coin = decode_coin(&good).unwrap();
    assert!(!coin.is_coinbase);
    assert_eq!(coin.height, Height(203_998));
    assert_eq!(coin.output.value.to_sat(), 60_000_000_000);
    let mut again = Vec::new();
    encode_coin(&mut again, &coin);
    assert_eq!(again, good);

    let coinbase = decode_coin(&hex("8ddf77bbd123008c988f1a4a4de2161e0f50aac7f17e7f9555caa4")).unwrap();
    assert!(coinbase.is_coinbase);
    assert_eq!(coinbase.height, Height(120_891));
    assert_eq!(coinbase.output.value.to_sat(), 110_397);

    assert_eq!(decode_coin(&hex("000007")).unwrap_err(), CodecError::Truncated);
    assert!(decode_coin(&hex("00008a95c0bb00")).is_err());
}

#[test]
fn public_key_scripts_survive_compression() {
    let key = "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    let script = ScriptBuf::from_bytes(hex(&format!("41{key}ac")));
    let coin = Coin {
        output: TxOut { value: Amount::from_sat(5_000_000_000), script_pubkey: script },
        height: Height(1),
        is_coinbase: true,
    };
    let mut bytes = Vec::new();
    encode_coin(&mut bytes, &coin);
    assert!(bytes.len() < 40);
    assert_eq!(decode_coin(&bytes), Ok(coin.clone()));

    let undo = BlockUndo { txs: vec![vec![coin], vec![]] };
    assert_eq!(decode_block_undo(&encode_block_undo(&undo)), Ok(undo));
}

fn hex(text: &str) -> Vec<u8> {
    <Vec<u8> as bitcoin::hex::FromHex>::from_hex(text).unwrap()
}

use std::io::Write;

use proptest::prelude::*;

use super::block::Block;
use super::builder::{Builder, block, put_string};
use super::{Array, Gguf, TensorType, Value, Weights, header};
use crate::error::Result;

fn sample() -> Vec<u8> {
    let mut strings = 8_u32.to_le_bytes().to_vec();
    strings.extend(2_u64.to_le_bytes());
    put_string(&mut strings, "one");
    put_string(&mut strings, "zwö");
    let mut numbers = 5_u32.to_le_bytes().to_vec();
    numbers.extend(3_u64.to_le_bytes());
    [-1_i32, 0, 70000].iter().for_each(|n| numbers.extend(n.to_le_bytes()));
    let mut text = Vec::new();
    put_string(&mut text, "llama");
    Builder::new()
        .value("general.architecture", 8, &text)
        .value("count", 4, &30_u32.to_le_bytes())
        .value("epsilon", 6, &0.5_f32.to_le_bytes())
        .value("flag", 7, &[1])
        .value("tokens", 9, &strings)
        .value("types", 9, &numbers)
        .tensor("a", &[2, 3], 0, &(0..6).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<_>>())
        .tensor("b", &[32, 1], 8, &[1; 34])
        .build()
}

fn open(bytes: &[u8]) -> Result<Gguf> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Gguf::open(file.path())
}

fn reason(bytes: &[u8]) -> &'static str {
    header::read(bytes, bytes.len() as u64).unwrap_err().reason
}

#[test]
fn values_and_weights_are_read() {
    let file = open(&sample()).unwrap();
    assert_eq!(file.string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.unsigned("count").unwrap(), Some(30));
    assert_eq!(file.float("epsilon").unwrap(), Some(0.5));
    assert_eq!(file.boolean("flag").unwrap(), Some(true));
    assert_eq!(file.strings("tokens").unwrap().unwrap(), ["one", "zwö"]);
    assert_eq!(file.integers("types").unwrap().unwrap(), [-1, 0, 70000]);
    assert_eq!(file.string("nothing").unwrap(), None);
    assert_eq!(file.string("count").unwrap_err().reason, "DAMAGED_MODEL");
    assert!(matches!(file.value("types"), Some(Value::Array(Array::Numbers { kind: 5, .. }))));
    assert_eq!(file.weights("a", &[3, 2]).unwrap(), Weights::Dense(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    assert!(
        matches!(file.weights("b", &[1, 32]).unwrap(), Weights::Blocks(blocks) if blocks.kind == TensorType::Q8_0)
    );
    assert_eq!(file.weights("a", &[2, 3]).unwrap_err().reason, "DAMAGED_MODEL");
    assert_eq!(file.weights("c", &[1]).unwrap_err().reason, "DAMAGED_MODEL");
}

#[test]
fn lies_and_unknown_things_have_clear_errors() {
    let huge = |tensors: u64, values: u64| {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(tensors.to_le_bytes());
        file.extend(values.to_le_bytes());
        file
    };
    assert_eq!(reason(b"PK\x03\x04 not a model"), "NOT_GGUF");
    assert_eq!(reason(b"GGUF\0\0\0\x03"), "UNSUPPORTED_MODEL");
    assert_eq!(reason(b"GG"), "DAMAGED_MODEL");
    assert_eq!(reason(&huge(u64::MAX, 0)), "DAMAGED_MODEL");
    assert_eq!(reason(&huge(0, u64::MAX)), "DAMAGED_MODEL");
    let value = |kind, bytes: &[u8]| reason(&Builder::new().value("key", kind, bytes).build());
    assert_eq!(value(99, &[0; 64]), "DAMAGED_MODEL");
    assert_eq!(value(8, &u64::MAX.to_le_bytes()), "DAMAGED_MODEL");
    assert_eq!(value(7, &[2; 16]), "DAMAGED_MODEL");
    let array = |kind: u32, count: u64| [kind.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
    for kind in [0, 8, 9, 10, 77] {
        assert_eq!(value(9, &array(kind, u64::MAX / 4)), "DAMAGED_MODEL");
    }
    let nested = array(9, 1).repeat(30);
    assert_eq!(value(9, &nested), "DAMAGED_MODEL");
    let tensor = |dimensions: &[u64], kind, data: &[u8]| {
        let file = Builder::new().tensor("t", dimensions, kind, data).build();
        header::read(file.as_slice(), file.len() as u64).map(drop).map_err(|e| e.reason)
    };
    assert_eq!(tensor(&[4], 0, &[0; 16]), Ok(()));
    assert_eq!(tensor(&[u64::MAX, 2], 0, &[]), Err("DAMAGED_MODEL"));
    assert_eq!(tensor(&[1 << 40], 0, &[]), Err("DAMAGED_MODEL"));
    assert_eq!(tensor(&[0], 0, &[]), Err("DAMAGED_MODEL"));
    assert_eq!(tensor(&[33], 8, &[0; 64]), Err("DAMAGED_MODEL"));
    assert_eq!(tensor(&[1; 5], 0, &[0; 64]), Err("DAMAGED_MODEL"));
    assert_eq!(tensor(&[4], 4711, &[0; 64]), Err("UNSUPPORTED_MODEL"));
    for (kind, named) in [(11, "got Q3_K"), (23, "got IQ4_XS"), (4711, "got type 4711")] {
        let file = Builder::new().tensor("t", &[256], kind, &[0; 256]).build();
        let message = header::read(file.as_slice(), file.len() as u64).unwrap_err().message;
        assert!(message.contains(named) && message.contains("Q4_K_M"), "{message}");
    }
    let twice = Builder::new().value("key", 7, &[1]).value("key", 7, &[1]).build();
    assert_eq!(reason(&twice), "DAMAGED_MODEL");
    let odd = Builder::new().value("general.alignment", 4, &3_u32.to_le_bytes()).build();
    assert_eq!(reason(&odd), "DAMAGED_MODEL");
}

fn floats(kind: TensorType, bytes: &[u8]) -> Vec<f32> {
    match kind.decode(bytes.to_vec(), kind.block().0).unwrap() {
        Weights::Blocks(blocks) => blocks.to_floats(),
        Weights::Dense(values) => values,
    }
}

#[test]
fn blocks_give_the_values_of_their_formats() {
    let q4_0 = floats(TensorType::Q4_0, &block(TensorType::Q4_0, &[(0, 0.5)], |_| 0x9f));
    assert_eq!((q4_0[0], q4_0[16]), (3.5, 0.5));
    let q4_1 = floats(TensorType::Q4_1, &block(TensorType::Q4_1, &[(0, 0.5), (2, -1.0)], |_| 0x2f));
    assert_eq!((q4_1[0], q4_1[16]), (6.5, 0.0));
    // The fifth bit of element 0 is set, that of element 16 is not.
    let q5_0 = block(TensorType::Q5_0, &[(0, 1.0)], |at| {
        if at == 2 {
            1
        } else if at < 6 {
            0
        } else {
            0x21
        }
    });
    assert_eq!((floats(TensorType::Q5_0, &q5_0)[0], floats(TensorType::Q5_0, &q5_0)[16]), (1.0, -14.0));
    let q5_1 = block(TensorType::Q5_1, &[(0, 1.0), (2, 0.25)], |at| {
        if at == 4 {
            1
        } else if at < 8 {
            0
        } else {
            0x21
        }
    });
    assert_eq!((floats(TensorType::Q5_1, &q5_1)[0], floats(TensorType::Q5_1, &q5_1)[16]), (17.25, 2.25));
    let q8_0 = floats(TensorType::Q8_0, &block(TensorType::Q8_0, &[(0, 2.0)], |at| at as u8 ^ 0x80));
    assert_eq!((q8_0[0], q8_0[31]), (2.0 * -126.0, 2.0 * -95.0));

    // Scales 1 and minima 2 in the first four parts; scales 17 and minima 34 in the last four.
    let scales = |at: usize| match at {
        4..8 => 0b0100_0001,
        8..12 => 0b1000_0010,
        _ => 0x21,
    };
    let q4_k = floats(TensorType::Q4K, &block(TensorType::Q4K, &[(0, 1.0), (2, 0.5)], scales));
    assert_eq!((q4_k[0], q4_k[32], q4_k[128], q4_k[160]), (0.0, 1.0, 17.0 - 17.0, 34.0 - 17.0));
    let q5_k = |at: usize| if (16..48).contains(&at) { 0b10 } else { scales(at) };
    let q5_k = floats(TensorType::Q5K, &block(TensorType::Q5K, &[(0, 1.0), (2, 0.5)], q5_k));
    assert_eq!((q5_k[0], q5_k[32], q5_k[128]), (0.0, 17.0, 0.0));
    let q6_k = |at: usize| match at {
        0..128 => 0x21,
        128..192 => 0b11_10_01_00,
        _ => 0xff,
    };
    let q6_k = floats(TensorType::Q6K, &block(TensorType::Q6K, &[(208, 0.5)], q6_k));
    // Quarters have low bits 1, 1, 2, 2 and high bits 0 to 3; the scale is -0.5.
    assert_eq!([q6_k[0], q6_k[32], q6_k[64], q6_k[96]], [15.5, 7.5, -1.0, -9.0]);
    assert_eq!(q6_k[..128], q6_k[128..]);
    assert_eq!(floats(TensorType::Bf16, &[0x80, 0x3f]), [1.0]);
    assert_eq!(floats(TensorType::F16, &[0x00, 0x3c]), [1.0]);
}

/// Against ggml's own definition as the package `gguf` has it; tests/data/make_tiny_decoders.py made the file.
#[test]
fn random_blocks_give_the_values_of_ggml() {
    #[derive(serde::Deserialize)]
    struct Golden {
        r#type: u32,
        bytes: Vec<String>,
        values: Vec<Vec<f32>>,
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/decoders/blocks.json");
    let golden: std::collections::BTreeMap<String, Golden> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(golden.len(), 8);
    for (name, golden) in golden {
        let kind = TensorType::from_number(golden.r#type).unwrap();
        for (hex, expected) in golden.bytes.iter().zip(golden.values) {
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
            let got = floats(kind, &bytes);
            assert_eq!(got.len(), expected.len(), "{name}");
            let greatest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
                assert!((got - expected).abs() <= 2e-6 * greatest, "{name}, {at}: {got} {expected}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = header::read(bytes.as_slice(), bytes.len() as u64);
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(bytes);
        let _ = header::read(file.as_slice(), file.len() as u64);
    }

    #[test]
    fn a_cut_file_is_an_error(cut in 0..sample().len() - 32) {
        let bytes = sample();
        let error = header::read(&bytes[..cut], cut as u64).unwrap_err();
        prop_assert!(["DAMAGED_MODEL", "NOT_GGUF"].contains(&error.reason));
        // A length that lies does not help.
        prop_assert!(header::read(&bytes[..cut.min(40)], u64::MAX).is_err());
    }

    #[test]
    fn a_changed_byte_is_no_panic(at in 0..sample().len(), to in any::<u8>()) {
        let mut bytes = sample();
        bytes[at] = to;
        if let Ok(file) = open(&bytes) {
            for name in file.tensor_names().map(str::to_owned).collect::<Vec<_>>() {
                let shape = file.tensor(&name).unwrap().shape();
                let _ = file.weights(&name, &shape);
            }
        }
    }

    #[test]
    fn any_blocks_decode(kind in 0_usize..11, bytes in proptest::collection::vec(any::<u8>(), 420)) {
        let kinds = [0, 1, 30, 2, 3, 6, 7, 8, 12, 13, 14];
        let kind = TensorType::from_number(kinds[kind]).unwrap();
        let (elements, size) = kind.block();
        let whole = bytes.len() / size * size;
        let count = match kind.decode(bytes[..whole].to_vec(), elements).unwrap() {
            Weights::Dense(values) => values.len(),
            Weights::Blocks(blocks) => {
                for chunk in blocks.bytes.chunks_exact(size) {
                    let mut written = vec![0; size];
                    Block::read(kind, chunk).write(kind, &mut written);
                    prop_assert_eq!(&written, chunk);
                }
                let blocks = blocks.to_rows();
                let limit = if blocks.bits == 4 { -8..=7 } else { -128..=127_i16 };
                prop_assert!(blocks.values.iter().all(|&q| limit.contains(&i16::from(q))));
                prop_assert_eq!(blocks.rows(), whole / size);
                blocks.to_floats().len()
            }
        };
        prop_assert_eq!(count, whole / size * elements);
    }
}

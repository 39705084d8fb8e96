//! The part of a GGUF file before the weights.

use std::collections::HashMap;
use std::io::Read;

use super::blocks::TensorType;
use super::damaged;
use crate::error::{Error, Result};

const MAGIC: [u8; 4] = *b"GGUF";
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// The format's own limits.
const MAX_KEY_BYTES: u64 = 65535;
const MAX_DIMENSIONS: u32 = 4;
/// Arrays of arrays are allowed by the format; nothing known nests deeper.
const MAX_NESTING: usize = 3;

const UINT8: u32 = 0;
const INT8: u32 = 1;
const UINT16: u32 = 2;
const INT16: u32 = 3;
const UINT32: u32 = 4;
const INT32: u32 = 5;
const FLOAT32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const UINT64: u32 = 10;
const INT64: u32 = 11;
const FLOAT64: u32 = 12;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of any unsigned type.
    Unsigned(u64),
    /// Of any signed type.
    Signed(i64),
    /// Of either float type.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Many of one type.
    Array(Array),
}

/// An array of metadata values.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Strings.
    Strings(Vec<String>),
    /// Arrays.
    Arrays(Vec<Array>),
    /// Numbers or truth values as they are in the file.
    Numbers {
        /// Their type's number.
        kind: u32,
        /// Little-endian.
        bytes: Vec<u8>,
    },
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Unsigned(_) => "an unsigned integer",
            Value::Signed(_) => "a signed integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a truth value",
            Value::String(_) => "a string",
            Value::Array(Array::Strings(_)) => "an array of strings",
            Value::Array(Array::Arrays(_)) => "an array of arrays",
            Value::Array(Array::Numbers { .. }) => "an array of numbers",
        }
    }

    /// Its text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Its value, where it is an integer that is not negative.
    pub fn as_unsigned(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(value) => Some(value),
            Value::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// Its value, where it is a float.
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Value::Float(value) => Some(value),
            _ => None,
        }
    }

    /// Its value, where it is a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// Its elements, where it is an array of strings.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Value::Array(Array::Strings(strings)) => Some(strings),
            _ => None,
        }
    }

    /// Its elements, where it is an array of 32-bit floats.
    pub fn as_floats(&self) -> Option<Vec<f32>> {
        match self {
            Value::Array(Array::Numbers { kind: FLOAT32, bytes }) => {
                Some(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            _ => None,
        }
    }

    /// Its elements, where it is an array of integers.
    pub fn as_integers(&self) -> Option<Vec<i64>> {
        let Value::Array(Array::Numbers { kind, bytes }) = self else { return None };
        let size = scalar_size(*kind)?;
        if matches!(*kind, FLOAT32 | FLOAT64 | BOOL) {
            return None;
        }
        let signed = matches!(*kind, INT8 | INT16 | INT32 | INT64);
        let values = bytes.chunks_exact(size).map(|chunk| {
            let negative = signed && chunk.last().is_some_and(|&b| b >= 0x80);
            let mut wide = if negative { [0xff; 8] } else { [0; 8] };
            wide.iter_mut().zip(chunk).for_each(|(w, &c)| *w = c);
            i64::from_le_bytes(wide)
        });
        Some(values.collect())
    }
}

/// Where a tensor is and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Innermost dimension first, as in the file.
    dimensions: Vec<u64>,
    /// Number of its type.
    kind: u32,
    /// From the start of the weights.
    pub offset: u64,
    /// Length in the file.
    pub bytes: u64,
}

impl TensorInfo {
    /// Outermost dimension first.
    pub fn shape(&self) -> Vec<usize> {
        self.dimensions.iter().rev().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect()
    }

    /// Its type.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` for a type that is not known.
    pub fn tensor_type(&self, name: &str) -> Result<TensorType> {
        TensorType::from_number(self.kind).ok_or_else(|| unknown_type(name, self.kind))
    }
}

/// Types of ggml that are not read.
const OTHER_TYPES: [(u32, &str); 18] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

fn unknown_type(name: &str, kind: u32) -> Error {
    let known = OTHER_TYPES.iter().find(|entry| entry.0 == kind);
    let got = known.map_or_else(|| format!("type {kind}"), |entry| entry.1.to_owned());
    Error::precondition(
        "UNSUPPORTED_MODEL",
        format!(
            "tensor {name}: expected one of the types {}, got {got}; take the file of another quantization, such as Q4_K_M",
            TensorType::names()
        ),
    )
}

#[derive(Debug)]
pub(super) struct Header {
    pub metadata: HashMap<String, Value>,
    pub tensors: HashMap<String, TensorInfo>,
    pub data_start: u64,
}

/// Reads the header of a file of a length.
pub(super) fn read(input: impl Read, length: u64) -> Result<Header> {
    let mut reader = Reader { input, position: 0, length };
    let magic: [u8; 4] = reader.bytes()?;
    if magic != MAGIC {
        return Err(Error::invalid(
            "NOT_GGUF",
            format!("expected a file that starts with GGUF, got {magic:?}"),
        ));
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(Error::precondition(
            "UNSUPPORTED_MODEL",
            format!("expected GGUF version 2 or 3 in little-endian order, got {version}"),
        ));
    }
    let tensor_count = reader.u64()?;
    let value_count = reader.u64()?;
    // The least sizes of an entry: an empty name, a type and the smallest value; a name, no dimensions, type, offset.
    reader.check_count("metadata values", value_count, 8 + 4 + 1)?;
    reader.check_count("tensors", tensor_count, 8 + 4 + 4 + 8)?;

    let mut metadata = HashMap::new();
    for _ in 0..value_count {
        let key = reader.string(MAX_KEY_BYTES)?;
        let kind = reader.u32()?;
        let value = reader.value(kind, &key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(damaged(format!("key {key:?} is there twice")));
        }
    }
    let mut tensors = HashMap::new();
    for _ in 0..tensor_count {
        let name = reader.string(MAX_KEY_BYTES)?;
        let info = reader.tensor(&name)?;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(damaged(format!("tensor {name:?} is there twice")));
        }
    }

    let alignment = match metadata.get(ALIGNMENT).map(Value::as_unsigned) {
        None => DEFAULT_ALIGNMENT,
        Some(Some(value)) if value.is_power_of_two() && value <= 1 << 20 => value,
        Some(other) => return Err(damaged(format!("{ALIGNMENT}: expected a power of two, got {other:?}"))),
    };
    let data_start = reader.position.next_multiple_of(alignment);
    let available = length.saturating_sub(data_start);
    for (name, info) in &tensors {
        let end = info.offset.checked_add(info.bytes);
        if !info.offset.is_multiple_of(alignment) || end.is_none_or(|end| end > available) {
            return Err(damaged(format!(
                "tensor {name}: expected {} bytes at a multiple of {alignment} within {available}, got offset {}",
                info.bytes, info.offset
            )));
        }
    }
    Ok(Header { metadata, tensors, data_start })
}

struct Reader<R> {
    input: R,
    position: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    fn left(&self) -> u64 {
        self.length.saturating_sub(self.position)
    }

    fn check_count(&self, what: &str, count: u64, least_bytes: u64) -> Result<()> {
        if count > self.left() / least_bytes {
            return Err(damaged(format!(
                "{count} {what} do not fit into the {} bytes that are left",
                self.left()
            )));
        }
        Ok(())
    }

    /// Fails before it takes memory for more than the file holds.
    fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        self.check_count("bytes", count, 1)?;
        let mut bytes =
            vec![0; usize::try_from(count).map_err(|_| damaged(format!("{count} bytes at once")))?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let at = self.position;
        self.input.read_exact(bytes).map_err(|e| {
            damaged(format!("expected {} more bytes at {at}, got {e}", bytes.len())).with_source(e)
        })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn string(&mut self, most: u64) -> Result<String> {
        let length = self.u64()?;
        if length > most {
            return Err(damaged(format!("expected a string of at most {most} bytes, got {length}")));
        }
        let at = self.position;
        String::from_utf8(self.take(length)?).map_err(|_| damaged(format!("the string at {at} is not UTF-8")))
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value> {
        Ok(match kind {
            UINT8 => Value::Unsigned(u8::from_le_bytes(self.bytes()?).into()),
            INT8 => Value::Signed(i8::from_le_bytes(self.bytes()?).into()),
            UINT16 => Value::Unsigned(u16::from_le_bytes(self.bytes()?).into()),
            INT16 => Value::Signed(i16::from_le_bytes(self.bytes()?).into()),
            UINT32 => Value::Unsigned(self.u32()?.into()),
            INT32 => Value::Signed(i32::from_le_bytes(self.bytes()?).into()),
            FLOAT32 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            BOOL => match u8::from_le_bytes(self.bytes()?) {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => {
                    return Err(damaged(format!("{key}: expected a truth value of 0 or 1, got {other}")));
                }
            },
            STRING => Value::String(self.string(u64::MAX)?),
            ARRAY => Value::Array(self.array(key, MAX_NESTING)?),
            UINT64 => Value::Unsigned(self.u64()?),
            INT64 => Value::Signed(i64::from_le_bytes(self.bytes()?)),
            FLOAT64 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(damaged(format!("{key}: expected a value type of 0 to 12, got {other}"))),
        })
    }

    fn array(&mut self, key: &str, nesting: usize) -> Result<Array> {
        let kind = self.u32()?;
        let count = self.u64()?;
        if let Some(size) = scalar_size(kind) {
            self.check_count("array elements", count, size as u64)?;
            return Ok(Array::Numbers { kind, bytes: self.take(count * size as u64)? });
        }
        match kind {
            STRING => {
                self.check_count("strings", count, 8)?;
                (0..count).map(|_| self.string(u64::MAX)).collect::<Result<_>>().map(Array::Strings)
            }
            ARRAY if nesting > 0 => {
                self.check_count("arrays", count, 4 + 8)?;
                (0..count).map(|_| self.array(key, nesting - 1)).collect::<Result<_>>().map(Array::Arrays)
            }
            ARRAY => Err(damaged(format!("{key}: arrays nest too deep"))),
            other => Err(damaged(format!("{key}: expected an element type of 0 to 12, got {other}"))),
        }
    }

    fn tensor(&mut self, name: &str) -> Result<TensorInfo> {
        let rank = self.u32()?;
        if rank > MAX_DIMENSIONS {
            return Err(damaged(format!(
                "tensor {name}: expected at most {MAX_DIMENSIONS} dimensions, got {rank}"
            )));
        }
        let dimensions = (0..rank).map(|_| self.u64()).collect::<Result<Vec<_>>>()?;
        let kind = self.u32()?;
        let offset = self.u64()?;
        let lies = || damaged(format!("tensor {name}: impossible dimensions {dimensions:?}"));
        let elements = dimensions.iter().try_fold(1_u64, |all, &d| all.checked_mul(d)).ok_or_else(lies)?;
        let (per_block, block_bytes) =
            TensorType::from_number(kind).ok_or_else(|| unknown_type(name, kind))?.block();
        let columns = dimensions.first().copied().unwrap_or(1);
        if elements == 0 || !columns.is_multiple_of(per_block as u64) {
            return Err(lies());
        }
        let bytes = (elements / per_block as u64).checked_mul(block_bytes as u64).ok_or_else(lies)?;
        Ok(TensorInfo { dimensions, kind, offset, bytes })
    }
}

fn scalar_size(kind: u32) -> Option<usize> {
    match kind {
        UINT8 | INT8 | BOOL => Some(1),
        UINT16 | INT16 => Some(2),
        UINT32 | INT32 | FLOAT32 => Some(4),
        UINT64 | INT64 | FLOAT64 => Some(8),
        _ => None,
    }
}

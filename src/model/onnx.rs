//! The few ONNX messages that the graph writer needs; field numbers from the ONNX schema.

/// Element type `FLOAT`.
pub const FLOAT: i32 = 1;
/// Element type `UINT8`.
pub const UINT8: i32 = 2;
/// Element type `FLOAT16`.
pub const FLOAT16: i32 = 10;
/// Element type `INT32`.
pub const INT32: i32 = 6;
/// Element type `INT64`.
pub const INT64: i32 = 7;
const ATTRIBUTE_FLOAT: i32 = 1;
const ATTRIBUTE_INT: i32 = 2;
const LOCATION_EXTERNAL: i32 = 1;
/// Domain of the fused operators.
pub const MICROSOFT: &str = "com.microsoft";

#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub raw_data: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Type>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub param: Option<String>,
}

/// An axis of a graph's input or output.
pub enum Axis {
    /// Known when the graph is run.
    Free(&'static str),
    /// Always this long.
    Fixed(i64),
}

impl ValueInfo {
    /// A named tensor of an element type and shape.
    pub fn tensor(name: &str, elem_type: i32, axes: Vec<Axis>) -> Self {
        let dim = axes.into_iter().map(|axis| match axis {
            Axis::Free(name) => Dimension { value: None, param: Some(name.to_owned()) },
            Axis::Fixed(length) => Dimension { value: Some(length), param: None },
        });
        let shape = Some(Shape { dim: dim.collect() });
        let kind = Type { tensor_type: Some(TensorType { elem_type, shape }) };
        Self { name: name.to_owned(), kind: Some(kind) }
    }
}

impl Tensor {
    /// A float initializer.
    pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        Self {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Self::default()
        }
    }

    /// An initializer of integers.
    pub fn integers(name: &str, dims: &[usize], values: &[i64]) -> Self {
        Self {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: INT64,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..Self::default()
        }
    }

    /// An initializer whose data is in a file beside the graph's.
    pub fn external(name: &str, dims: &[usize], data_type: i32, file: &str, offset: u64, bytes: u64) -> Self {
        let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
        Self {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type,
            name: name.to_owned(),
            external_data: vec![
                entry("location", file.to_owned()),
                entry("offset", offset.to_string()),
                entry("length", bytes.to_string()),
            ],
            data_location: LOCATION_EXTERNAL,
            ..Self::default()
        }
    }
}

impl Node {
    /// A node with one output, named after it.
    pub fn new(op_type: &str, domain: &str, input: &[&str], output: &str) -> Self {
        Self {
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{output}/{op_type}"),
            op_type: op_type.to_owned(),
            attribute: Vec::new(),
            domain: domain.to_owned(),
        }
    }

    /// Adds an output; an empty name leaves one out.
    pub fn and_output(mut self, name: &str) -> Self {
        self.output.push(name.to_owned());
        self
    }

    /// Adds a float attribute.
    pub fn float(mut self, name: &str, value: f32) -> Self {
        self.attribute.push(Attribute {
            name: name.to_owned(),
            f: Some(value),
            i: None,
            kind: ATTRIBUTE_FLOAT,
        });
        self
    }

    /// Adds an integer attribute.
    pub fn int(mut self, name: &str, value: i64) -> Self {
        self.attribute.push(Attribute {
            name: name.to_owned(),
            f: None,
            i: Some(value),
            kind: ATTRIBUTE_INT,
        });
        self
    }
}

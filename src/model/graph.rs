//! Reads what is needed of any ONNX file: where the input embeddings are and which other files hold weights.
//!
//! The messages name only the fields that are used (numbers from ONNX's schema); prost skips the rest. The bytes
//! of tensors are shared with the file's, not copied.

use std::collections::HashSet;
use std::path::Path;

use half::f16;
use prost::Message;
use prost::bytes::Bytes;

use super::dir::is_inside;
use super::table::StaticTable;
use crate::error::{Error, Result};

const FLOAT: i32 = 1;
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;
const DATA_IS_EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct ModelMessage {
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GraphMessage {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeMessage>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NodeMessage {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TensorMessage {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<EntryMessage>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryMessage {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// An ONNX file's graph, as far as it is read.
pub(super) struct GraphFile {
    graph: GraphMessage,
    /// The program that wrote it.
    pub producer: String,
}

impl GraphFile {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` where they are no ONNX model, or one without a graph.
    pub fn parse(bytes: Bytes, name: &str) -> Result<Self> {
        let model = ModelMessage::decode(bytes)
            .map_err(|e| damaged(format!("{name} is no ONNX model: {e}")).with_source(e))?;
        match model.graph {
            Some(graph) if !graph.node.is_empty() => Ok(Self { graph, producer: model.producer_name }),
            _ => Err(damaged(format!("{name} is no ONNX model: expected a graph with nodes, got none"))),
        }
    }

    /// Names of the files that hold weights outside the model's own, in the order of their first use.
    ///
    /// # Errors
    /// `DAMAGED_MODEL` for a name that leads out of the file's folder.
    pub fn external_files(&self) -> Result<Vec<String>> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        for tensor in self.graph.initializer.iter().filter(|t| t.data_location == DATA_IS_EXTERNAL) {
            let location = tensor.entry("location").unwrap_or_default();
            if !is_inside(location) {
                return Err(damaged(format!(
                    "expected weights of {:?} in a file beside the model, got {location:?}",
                    tensor.name
                )));
            }
            if seen.insert(location) {
                names.push(location.to_owned());
            }
        }
        Ok(names)
    }

    /// The input embeddings, `[vocabulary, width]`: the table from which `input_ids` gathers rows or, where no node
    /// does so in plain sight, the tensor that is named for the word embeddings. `None` where there is no such
    /// table, or one of another width or of quantized elements.
    pub fn static_table(&self, folder: &Path, width: usize) -> Option<StaticTable> {
        let tensor = self.gathered().or_else(|| self.named())?;
        let &[rows, columns] = tensor.dims.as_slice() else { return None };
        if usize::try_from(columns).ok()? != width || width == 0 {
            return None;
        }
        let rows = usize::try_from(rows).ok()?;
        StaticTable::new(width, tensor.values(rows.checked_mul(width)?, folder)?)
    }

    fn gathered(&self) -> Option<&TensorMessage> {
        let mut ids = HashSet::from(["input_ids"]);
        for node in &self.graph.node {
            let input = |i: usize| node.input.get(i).map(String::as_str);
            let of_ids = |i: usize| input(i).is_some_and(|name| ids.contains(name));
            match node.op_type.as_str() {
                "Cast" | "Identity" if of_ids(0) => ids.extend(node.output.iter().map(String::as_str)),
                "Gather" if of_ids(1) => return self.initializer(input(0)?),
                "EmbedLayerNormalization" if of_ids(0) => return self.initializer(input(2)?),
                _ => {}
            }
        }
        None
    }

    fn named(&self) -> Option<&TensorMessage> {
        self.graph.initializer.iter().find(|t| t.dims.len() == 2 && t.name.contains("word_embeddings"))
    }

    fn initializer(&self, name: &str) -> Option<&TensorMessage> {
        self.graph.initializer.iter().find(|t| t.name == name)
    }
}

impl TensorMessage {
    fn entry(&self, key: &str) -> Option<&str> {
        self.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str())
    }

    /// Its elements, if there are as many as told and they are floats.
    fn values(&self, count: usize, folder: &Path) -> Option<Vec<f16>> {
        let values = if self.data_location == DATA_IS_EXTERNAL {
            self.decode_values(&self.external(folder, count)?)
        } else if self.raw_data.is_empty() && self.data_type == FLOAT {
            self.float_data.iter().map(|&x| f16::from_f32(x)).collect()
        } else {
            self.decode_values(&self.raw_data)
        };
        (values.len() == count).then_some(values)
    }

    fn decode_values(&self, bytes: &[u8]) -> Vec<f16> {
        match self.data_type {
            FLOAT => bytes.as_chunks::<4>().0.iter().map(|&b| f16::from_f32(f32::from_le_bytes(b))).collect(),
            FLOAT16 => bytes.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b)).collect(),
            BFLOAT16 => {
                let wide = |&b: &[u8; 2]| f16::from_f32(half::bf16::from_le_bytes(b).to_f32());
                bytes.as_chunks::<2>().0.iter().map(wide).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Reads no more than the elements take and the file has.
    fn external(&self, folder: &Path, count: usize) -> Option<Vec<u8>> {
        use std::io::{Read, Seek, SeekFrom};
        let size = if self.data_type == FLOAT { 4 } else { 2 };
        let wanted = count.checked_mul(size)? as u64;
        let offset: u64 = self.entry("offset").map_or(Some(0), |o| o.parse().ok())?;
        let mut file = std::fs::File::open(folder.join(self.entry("location")?)).ok()?;
        if offset.checked_add(wanted)? > file.metadata().ok()?.len() {
            return None;
        }
        file.seek(SeekFrom::Start(offset)).ok()?;
        let mut bytes = Vec::new();
        file.take(wanted).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

fn damaged(message: String) -> Error {
    Error::data_loss("DAMAGED_MODEL", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(node: Vec<NodeMessage>, initializer: Vec<TensorMessage>) -> Bytes {
        let graph = Some(GraphMessage { node, initializer });
        ModelMessage { producer_name: "test".to_owned(), graph }.encode_to_vec().into()
    }

    fn node(op_type: &str, input: &[&str], output: &str) -> NodeMessage {
        NodeMessage {
            op_type: op_type.to_owned(),
            input: input.iter().map(|&s| s.to_owned()).collect(),
            output: vec![output.to_owned()],
        }
    }

    fn tensor(name: &str, rows: i64, columns: i64) -> TensorMessage {
        let values = (0..rows * columns).flat_map(|i| (i as f32).to_le_bytes());
        TensorMessage {
            dims: vec![rows, columns],
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: values.collect::<Vec<u8>>().into(),
            ..Default::default()
        }
    }

    fn table(bytes: Bytes, width: usize) -> Option<StaticTable> {
        GraphFile::parse(bytes, "model.onnx").unwrap().static_table(Path::new("."), width)
    }

    #[test]
    fn the_table_that_ids_gather_from_is_found() {
        let nodes = vec![
            node("Gather", &["positions", "numbers"], "p"),
            node("Cast", &["input_ids"], "ids64"),
            node("Gather", &["embed.weight", "ids64"], "e"),
        ];
        let tensors = || vec![tensor("positions", 9, 4), tensor("embed.weight", 5, 4)];
        let found = table(model(nodes.clone(), tensors()), 4).unwrap();
        assert_eq!(found.row(1).unwrap()[0].to_f32(), 4.0);
        assert!(found.row(5).is_none());
        assert!(table(model(nodes, tensors()), 8).is_none(), "another width");

        let hidden = vec![node("Custom", &["input_ids"], "e")];
        let named = vec![tensor("bert.embeddings.word_embeddings.weight", 5, 4)];
        assert!(table(model(hidden.clone(), named), 4).is_some());
        assert!(table(model(hidden.clone(), vec![tensor("other", 5, 4)]), 4).is_none());
        let short = TensorMessage { dims: vec![1 << 40, 4], ..tensor("word_embeddings", 5, 4) };
        assert!(table(model(hidden, vec![short]), 4).is_none(), "fewer elements than told");
    }

    #[test]
    fn weights_in_other_files_are_read_and_stay_beside_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..20).flat_map(|i| (i as f32).to_le_bytes()).collect();
        std::fs::write(folder.path().join("model.onnx_data"), &bytes).unwrap();
        let entry = |key: &str, value: &str| EntryMessage { key: key.to_owned(), value: value.to_owned() };
        let external = |location: &str, offset: &str| TensorMessage {
            raw_data: Bytes::new(),
            data_location: DATA_IS_EXTERNAL,
            external_data: vec![entry("location", location), entry("offset", offset)],
            ..tensor("embed", 4, 4)
        };
        let parse = |tensor| {
            let nodes = vec![node("Gather", &["embed", "input_ids"], "e")];
            GraphFile::parse(model(nodes, vec![tensor]), "model.onnx").unwrap()
        };
        let file = parse(external("model.onnx_data", "16"));
        assert_eq!(file.external_files().unwrap(), ["model.onnx_data"]);
        assert_eq!(file.static_table(folder.path(), 4).unwrap().row(0).unwrap()[0].to_f32(), 4.0);
        assert!(parse(external("model.onnx_data", "20")).static_table(folder.path(), 4).is_none());
        for bad in ["../secret", "/etc/passwd", ""] {
            assert_eq!(parse(external(bad, "0")).external_files().unwrap_err().reason, "DAMAGED_MODEL");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(file) = GraphFile::parse(bytes.into(), "model.onnx") {
                let _ = (file.external_files(), file.static_table(Path::new("."), 4));
            }
        }

        #[test]
        fn damage_is_read_or_refused(at in 0usize..1000, to in any::<u8>(), keep in 0usize..1000) {
            let nodes = vec![node("Gather", &["embed", "input_ids"], "e")];
            let mut bytes = model(nodes, vec![tensor("embed", 5, 4)]).to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.truncate(keep.max(1));
            if let Ok(file) = GraphFile::parse(bytes.into(), "model.onnx") {
                let _ = (file.external_files(), file.static_table(Path::new("."), 4));
            }
        }
    }
}

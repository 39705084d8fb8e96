//! What a stored index consists of.

/// The segments in use, as a protobuf record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Manifest {
    /// Dimensions of every vector.
    #[prost(uint32, tag = "1")]
    pub dimensions: u32,
    /// Segments, in order of making.
    #[prost(message, repeated, tag = "2")]
    pub segments: Vec<SegmentEntry>,
    /// Greatest point in any segment; absent where there is none.
    #[prost(uint64, optional, tag = "3")]
    pub watermark: Option<u64>,
}

/// One segment of a [`Manifest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SegmentEntry {
    /// Under which number its bytes are kept.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Number of points, dead ones too.
    #[prost(uint64, tag = "2")]
    pub points: u64,
    /// blake3 of its bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub checksum: Vec<u8>,
    /// Slots removed, as a serialised roaring bitmap.
    #[prost(bytes = "vec", tag = "4")]
    pub deleted: Vec<u8>,
}

impl Manifest {
    /// Reads a manifest.
    pub fn from_bytes(bytes: &[u8]) -> crate::error::Result<Self> {
        prost::Message::decode(bytes)
            .map_err(|e| super::format::damaged("its manifest is garbled").with_source(e))
    }
}

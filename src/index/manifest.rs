//! What a stored index consists of.

/// The segments in use, as a protobuf record.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Manifest {
    /// Dimensions of every vector.
    #[prost(uint32, tag = "1")]
    pub(super) dimensions: u32,
    /// Segments, in order of making.
    #[prost(message, repeated, tag = "2")]
    pub(super) segments: Vec<SegmentEntry>,
    /// Greatest point in any segment; absent where there is none.
    #[prost(uint64, optional, tag = "3")]
    pub(super) watermark: Option<u64>,
}

/// One segment of a [`Manifest`].
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SegmentEntry {
    /// Under which number its bytes are kept.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Number of points, dead ones too.
    #[prost(uint64, tag = "2")]
    pub(super) points: u64,
    /// BLAKE3 of its bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) checksum: Vec<u8>,
    /// Slots removed, as a serialised roaring bitmap. Only manifests of the first version say so;
    /// since then the store's tombstones tell what was removed for as long as a segment holds it.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) deleted: Vec<u8>,
}

impl Manifest {
    /// Reads a manifest.
    pub(super) fn from_bytes(bytes: &[u8]) -> crate::error::Result<Self> {
        prost::Message::decode(bytes)
            .map_err(|e| super::format::damaged("its manifest is garbled").with_source(e))
    }
}

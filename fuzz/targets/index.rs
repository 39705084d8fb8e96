//! Stored parts of the vector index.

use prost::Message;
use roaring::RoaringBitmap;
use trove::index::{IndexOptions, VectorIndex, segments_of};

const DIMENSIONS: usize = 4;

/// As a manifest is stored.
#[derive(Clone, PartialEq, Message)]
struct Manifest {
    #[prost(uint32, tag = "1")]
    dimensions: u32,
    #[prost(message, repeated, tag = "2")]
    segments: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    points: u64,
    #[prost(bytes = "vec", tag = "3")]
    checksum: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    deleted: Vec<u8>,
}

fn options() -> IndexOptions {
    IndexOptions { head_limit: 8, build_threads: 1, ..IndexOptions::default() }
}

/// A segment whose checksum is right, whatever it holds: refused, or searched without going wrong.
pub fn segment(bytes: &[u8]) {
    // The number of points as the header has it, which the manifest must repeat.
    let points =
        bytes.get(20..24).and_then(|count| count.first_chunk()).map_or(0, |c| u32::from_le_bytes(*c));
    let checksum = blake3::hash(bytes).as_bytes().to_vec();
    let entry = Entry { id: 1, points: points.into(), checksum, deleted: Vec::new() };
    let manifest = Manifest { dimensions: DIMENSIONS as u32, segments: vec![entry] };
    let read = |_| Ok(bytes.to_vec());
    let Ok(index) = VectorIndex::from_segments(options(), &manifest.encode_to_vec(), read) else { return };
    let filter: RoaringBitmap = (0..6).collect();
    for exact in [false, true] {
        for filter in [None, Some(&filter)] {
            let found = index.search(&[0.6, 0.8, 0.0, 0.1], 3, 8, exact, filter);
            assert!(found.is_ok_and(|found| found.len() <= 3));
        }
    }
    index.remove_range(0..3);
    let _ = (index.len(), index.memory(), index.contains(1));
}

/// A built one of twelve points.
pub fn segment_seeds() -> Vec<Vec<u8>> {
    let index = VectorIndex::new(DIMENSIONS, options());
    for point in 0..12_u64 {
        let x = point as f32;
        let vector = [x.sin(), x.cos(), 0.1 * x, 0.5];
        index
            .insert(point, (point / 2) as u32, &vector)
            .unwrap_or_else(|error| panic!("not inserted: {error}"));
    }
    index.seal().ok().flatten().map(|sealed| sealed.bytes).into_iter().collect()
}

pub fn manifest(bytes: &[u8]) {
    let _ = segments_of(bytes);
    let _ = VectorIndex::from_segments(options(), bytes, |_| Ok(segment_bytes().to_vec()));
}

fn segment_bytes() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| segment_seeds().pop().unwrap_or_default())
}

pub fn manifest_seeds() -> Vec<Vec<u8>> {
    let checksum = blake3::hash(segment_bytes()).as_bytes().to_vec();
    let mut deleted = Vec::new();
    let written = RoaringBitmap::from([1, 3]).serialize_into(&mut deleted);
    written.unwrap_or_else(|error| panic!("not written: {error}"));
    let whole = Entry { id: 1, points: 12, checksum: checksum.clone(), deleted };
    let plain = Entry { id: 2, points: 12, checksum, deleted: Vec::new() };
    [whole, plain]
        .map(|entry| Manifest { dimensions: DIMENSIONS as u32, segments: vec![entry] }.encode_to_vec())
        .to_vec()
}

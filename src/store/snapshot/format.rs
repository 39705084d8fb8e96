//! The file of a snapshot.
//!
//! ```text
//! "TROVESNP"  version (u32)
//! chunk*      length (u32, not zero)  CRC-32 of number and bytes  bytes
//! end         0 (u32)  documents (u64)  passages (u64)  left out (u64)  BLAKE3 of all before
//! ```
//!
//! Numbers are little-endian. The chunks, one after the other, hold records, each after its length (u32): one
//! header with the collections, then one for each document, in any order.

use std::io::{Read, Write};

use half::f16;
use prost::Message;

use crate::error::{Error, Result};
use crate::store::codec;
use crate::store::live::from_io;
use crate::store::records::{CollectionRecord, Inserted, NewDocument, NewPassage, PassageRecord};

const MAGIC: &[u8; 8] = b"TROVESNP";
/// The version that this program writes; it reads all up to it.
pub const VERSION: u32 = 1;
/// Records are gathered to chunks of about this many bytes; no chunk is larger.
const CHUNK: usize = 1 << 20;
/// Bytes of the end after the zero.
pub const END_BYTES: u64 = 3 * 8 + 32;

/// Reason of the error of a snapshot that cannot be read.
pub const DAMAGED: &str = "SNAPSHOT_DAMAGED";

/// What a snapshot says of itself at its beginning.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    /// Version of the program that made it.
    #[prost(string, tag = "1")]
    pub program: String,
    /// When, in nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    pub create_time_ns: i64,
    /// Whether the schedule made it.
    #[prost(bool, tag = "3")]
    pub is_scheduled: bool,
    /// Its collections; documents name them by position.
    #[prost(message, repeated, tag = "4")]
    pub collections: Vec<CollectionRecord>,
    /// Greater than those of all snapshots that were there when it was made. Zero in those of older programs.
    #[prost(uint64, tag = "5")]
    pub number: u64,
    /// Names of collections whose records were damaged, and that are not in it.
    #[prost(string, repeated, tag = "6")]
    pub damaged_collections: Vec<String>,
}

/// What a snapshot says of itself at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct End {
    /// Documents in it.
    pub documents: u64,
    /// Their passages.
    pub passages: u64,
    /// Documents that could not be read, and are not in it.
    pub left_out: u64,
    /// BLAKE3 of all that is before it.
    pub blake3: [u8; 32],
}

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(uint32, tag = "1")]
    collection: u32,
    #[prost(bytes = "vec", tag = "2")]
    record: Vec<u8>,
    #[prost(string, tag = "3")]
    text: String,
    #[prost(message, repeated, tag = "4")]
    passages: Vec<Passage>,
    /// Single-precision numbers.
    #[prost(bytes = "vec", tag = "5")]
    vector: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Passage {
    #[prost(bytes = "vec", tag = "1")]
    record: Vec<u8>,
    /// Single-precision numbers.
    #[prost(bytes = "vec", tag = "2")]
    vector: Vec<u8>,
    /// Half-precision numbers, as the store keeps them.
    #[prost(bytes = "vec", repeated, tag = "3")]
    sentence_vectors: Vec<Vec<u8>>,
}

fn singles(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn singles_in(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn halves(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect()
}

fn halves_in(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<2>();
    rest.is_empty().then(|| numbers.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect())
}

fn document_out(collection: u32, stored: &Inserted) -> Document {
    let passage = |(index, passage): (u32, &NewPassage)| {
        let record = PassageRecord {
            doc_no: stored.record.doc_no,
            index,
            span: passage.span,
            headings: passage.headings.clone(),
            page: passage.page,
            sentences: passage.sentences.clone(),
        };
        Passage {
            record: codec::encode_passage(&record),
            vector: singles(&passage.vector),
            sentence_vectors: passage.sentence_vectors.iter().map(|v| halves(v)).collect(),
        }
    };
    Document {
        collection,
        record: codec::encode_document(&stored.record),
        text: stored.document.text.clone(),
        passages: (0u32..).zip(&stored.document.passages).map(passage).collect(),
        vector: singles(&stored.document.document_vector),
    }
}

fn document_in(document: Document) -> Option<(u32, Inserted)> {
    let record = codec::decode_document(&document.record)?;
    let fits = |p: &Passage, index: u32| {
        let record = codec::decode_passage(&p.record).filter(|r| r.index == index)?;
        Some(NewPassage {
            span: record.span,
            headings: record.headings,
            page: record.page,
            sentences: record.sentences,
            vector: singles_in(&p.vector)?,
            sentence_vectors: p.sentence_vectors.iter().map(|v| halves_in(v)).collect::<Option<_>>()?,
        })
    };
    let passages =
        (0u32..).zip(&document.passages).map(|(index, p)| fits(p, index)).collect::<Option<Vec<_>>>()?;
    if passages.len() as u64 != u64::from(record.passage_count)
        || document.text.len() as u64 != record.text_bytes
    {
        return None;
    }
    let content = NewDocument {
        id: record.id.clone(),
        title: record.title.clone(),
        source_uri: record.source_uri.clone(),
        media_type: record.media_type.clone(),
        content_hash: record.content_hash,
        metadata: record.metadata.clone(),
        text: document.text,
        passages,
        document_vector: singles_in(&document.vector)?,
        token_count: record.token_count,
        file_title: record.file_title.clone().unwrap_or_default(),
        file_metadata: record.file_metadata.clone(),
        processing: record.processing,
    };
    Some((document.collection, Inserted { record, document: content }))
}

/// Writes a snapshot.
pub struct Writer<W> {
    output: W,
    hasher: blake3::Hasher,
    chunk: Vec<u8>,
    chunks: u64,
    end: End,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub fn new(output: W, header: &Header) -> Result<Self> {
        let mut writer = Self {
            output,
            hasher: blake3::Hasher::new(),
            chunk: Vec::with_capacity(CHUNK),
            chunks: 0,
            end: End::default(),
            bytes: 0,
        };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.record(&header.encode_to_vec())?;
        Ok(writer)
    }

    /// Adds a document of the collection at a position of the header.
    pub fn document(&mut self, collection: u32, document: &Inserted) -> Result<()> {
        self.end.documents += 1;
        self.end.passages += document.document.passages.len() as u64;
        self.record(&document_out(collection, document).encode_to_vec())
    }

    /// Notes that a document could not be read.
    pub fn leave_out(&mut self) {
        self.end.left_out += 1;
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the end, and gives it with the output.
    pub fn finish(mut self) -> Result<(End, W)> {
        self.flush()?;
        self.put(&0u32.to_le_bytes())?;
        for count in [self.end.documents, self.end.passages, self.end.left_out] {
            self.put(&count.to_le_bytes())?;
        }
        self.end.blake3 = *self.hasher.finalize().as_bytes();
        self.output.write_all(&self.end.blake3).map_err(from_io)?;
        Ok((self.end, self.output))
    }

    fn record(&mut self, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| {
            let message =
                format!("expected documents of less than 4 GiB with their vectors, got {}", bytes.len());
            Error::precondition("DOCUMENT_TOO_LARGE", message)
        })?;
        self.add(&length.to_le_bytes())?;
        self.add(bytes)
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
            if self.chunk.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.put(&(chunk.len() as u32).to_le_bytes())?;
        self.put(&checksum(self.chunks, &chunk).to_le_bytes())?;
        self.put(&chunk)?;
        self.chunks += 1;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.output.write_all(bytes).map_err(from_io)
    }
}

fn checksum(number: u64, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(chunk);
    hasher.finalize()
}

/// Reads a snapshot, and checks all of it on the way.
pub struct Reader<R> {
    input: R,
    hasher: blake3::Hasher,
    chunk: Vec<u8>,
    /// How much of the chunk has been read.
    at: usize,
    chunks: u64,
    header: Header,
    seen: End,
    end: Option<End>,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// `SNAPSHOT_TOO_NEW`, and `SNAPSHOT_DAMAGED` with what is wrong.
    pub fn new(input: R) -> Result<Self> {
        let mut reader = Self {
            input,
            hasher: blake3::Hasher::new(),
            chunk: Vec::new(),
            at: 0,
            chunks: 0,
            header: Header::default(),
            seen: End::default(),
            end: None,
        };
        if reader.get::<8>()? != *MAGIC {
            return Err(damaged("it is no snapshot"));
        }
        let version = reader.number()?;
        if version > VERSION {
            return Err(Error::precondition(
                "SNAPSHOT_TOO_NEW",
                format!(
                    "the snapshot has format version {version}, this program knows versions up to {VERSION}: use a newer program"
                ),
            ));
        }
        let header = reader.record()?.ok_or_else(|| damaged("it has no header"))?;
        reader.header =
            Header::decode(header.as_slice()).map_err(|_| damaged("its header does not decode"))?;
        Ok(reader)
    }

    /// What it says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next document and the position of its collection; `None` after the last, when everything has been
    /// found to be whole.
    pub fn document(&mut self) -> Result<Option<(usize, Inserted)>> {
        let Some(bytes) = self.record()? else { return Ok(None) };
        let number = self.seen.documents;
        let document = Document::decode(bytes.as_slice()).ok().and_then(document_in);
        let (collection, document) =
            document.ok_or_else(|| damaged(&format!("document {number} does not decode")))?;
        if collection as usize >= self.header.collections.len() {
            return Err(damaged(&format!("document {number} belongs to no collection")));
        }
        self.seen.documents += 1;
        self.seen.passages += document.document.passages.len() as u64;
        Ok(Some((collection as usize, document)))
    }

    /// What it says at its end, once the last document has been read.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The next record; `None` where they end.
    fn record(&mut self) -> Result<Option<Vec<u8>>> {
        if self.at == self.chunk.len() && !self.load()? {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.copy(&mut length)?;
        let mut left = u32::from_le_bytes(length) as usize;
        // Grows with what is really there: the length may be wrong.
        let mut record = Vec::new();
        while left > 0 {
            if self.at == self.chunk.len() && !self.load()? {
                return Err(damaged("it ends within a record"));
            }
            let now = left.min(self.chunk.len() - self.at);
            record.extend_from_slice(self.chunk.get(self.at..self.at + now).unwrap_or_default());
            self.at += now;
            left -= now;
        }
        Ok(Some(record))
    }

    fn copy(&mut self, into: &mut [u8]) -> Result<()> {
        for byte in into {
            if self.at == self.chunk.len() && !self.load()? {
                return Err(damaged("it ends within a record"));
            }
            *byte = self.chunk.get(self.at).copied().unwrap_or_default();
            self.at += 1;
        }
        Ok(())
    }

    /// Reads the next chunk, or the end: then there is none.
    fn load(&mut self) -> Result<bool> {
        if self.end.is_some() {
            return Ok(false);
        }
        let length = self.number()? as usize;
        if length == 0 {
            self.read_end()?;
            return Ok(false);
        }
        if length > CHUNK {
            return Err(damaged("a chunk is too long"));
        }
        let sum = self.number()?;
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(length, 0);
        self.input.read_exact(&mut chunk).map_err(from_read)?;
        self.hasher.update(&chunk);
        if checksum(self.chunks, &chunk) != sum {
            return Err(damaged(&format!("the checksum of chunk {} does not match", self.chunks)));
        }
        self.chunks += 1;
        self.chunk = chunk;
        self.at = 0;
        Ok(true)
    }

    fn read_end(&mut self) -> Result<()> {
        self.chunk.clear();
        self.at = 0;
        let mut end = End::default();
        for count in [&mut end.documents, &mut end.passages, &mut end.left_out] {
            *count = u64::from_le_bytes(self.get()?);
        }
        let found = *self.hasher.finalize().as_bytes();
        end.blake3 = self.get()?;
        if end.blake3 != found {
            return Err(damaged("its BLAKE3 does not match"));
        }
        if (end.documents, end.passages) != (self.seen.documents, self.seen.passages) {
            return Err(damaged("it holds another number of documents than it says"));
        }
        if self.input.read(&mut [0]).map_err(from_io)? != 0 {
            return Err(damaged("it goes on after its end"));
        }
        self.end = Some(end);
        Ok(())
    }

    fn number(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.get()?))
    }

    fn get<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(from_read)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }
}

/// A file of one chunk with these records, whatever they are, and the end that fits them as far as anybody can tell.
#[cfg(feature = "fuzzing")]
pub fn sealed(records: &[u8]) -> Vec<u8> {
    let mut file = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    for (number, chunk) in (0..).zip(records.chunks(CHUNK)) {
        file.extend((chunk.len() as u32).to_le_bytes());
        file.extend(checksum(number, chunk).to_le_bytes());
        file.extend(chunk);
    }
    file.extend([0; 4]);
    [1u64, 2, 0].iter().for_each(|count| file.extend(count.to_le_bytes()));
    let hash = *blake3::hash(&file).as_bytes();
    file.extend(hash);
    file
}

/// The records of a file of one chunk.
#[cfg(feature = "fuzzing")]
pub fn unsealed(file: &[u8]) -> Vec<u8> {
    let begin = MAGIC.len() + 3 * size_of::<u32>();
    let end = file.len().saturating_sub(size_of::<u32>() + END_BYTES as usize);
    file.get(begin..end).unwrap_or_default().to_vec()
}

/// Reads what stands at the end of a file, which is not checked against the rest.
pub fn end_in(bytes: &[u8; END_BYTES as usize]) -> End {
    let mut end = End::default();
    let mut counts = bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
    for count in [&mut end.documents, &mut end.passages, &mut end.left_out] {
        *count = counts.next().unwrap_or_default();
    }
    end.blake3 = bytes.last_chunk::<32>().copied().unwrap_or_default();
    end
}

fn from_read(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return damaged("it is cut off");
    }
    from_io(error)
}

/// The error of a snapshot that cannot be read.
pub fn damaged(why: &str) -> Error {
    Error::data_loss(DAMAGED, format!("the snapshot is damaged: {why}"))
}

//! What a message takes in memory once it is decoded, told from its bytes before anything is allocated for it.
//!
//! A field of two bytes can become hundreds: an empty message of a list takes all of its struct. So the bytes are walked
//! through once by a table made of the API's description, and counted as the decoder will allocate: lists and maps grow
//! by doubling, with the old memory beside the new one.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use super::texts;
use crate::error::{Error, Result};
use crate::proto::FILE_DESCRIPTOR_SET;

/// Most items of lists and maps in one message, wherever in it they stand: messages, strings, entries. Numbers are not
/// counted.
pub(super) const MAX_ITEMS: usize = 1 << 18;
/// Messages nested deeper than this are refused, as the decoder does.
const MAX_DEPTH: usize = 100;
/// Size of a string, a list or a box of bytes, without what it points to.
const LIST: usize = 24;
/// Size of a map, without its entries.
const MAP: usize = 48;
/// Size of a pointer or of any number.
const WORD: usize = 8;
/// What the beginning of a map takes besides its entries.
const MAP_BEGIN: usize = 64;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(FILE_DESCRIPTOR_SET));

/// The layout of all messages.
#[derive(Default)]
struct Table {
    messages: Vec<Layout>,
    by_name: HashMap<String, usize>,
}

/// The layout of one kind of message.
#[derive(Default)]
struct Layout {
    /// Bytes of its struct, rounded up.
    size: usize,
    /// Its fields by their numbers.
    fields: Vec<Field>,
    /// Whether a method takes it.
    is_request: bool,
}

struct Field {
    number: u32,
    name: String,
    repeated: bool,
    holds: Holds,
    /// Most bytes of its text.
    most: Option<usize>,
}

#[derive(Clone, Copy)]
enum Holds {
    /// Numbers of so many bytes.
    Number { width: usize, wire: Number },
    /// Text or bytes.
    Text,
    /// Messages, by their place in the table.
    Message(usize),
    /// Entries of a map.
    Entry(usize),
}

/// How numbers are written in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    Varint,
    Fixed(usize),
}

/// How much a decoded message takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Bytes of memory at most, while it is decoded and afterwards.
    pub bytes: usize,
    /// Items of its lists and maps.
    pub items: usize,
}

/// Weighs a message of a name such as `trove.v1.SearchRequest`; `None` where no method takes such a message.
///
/// # Errors
/// `MALFORMED_MESSAGE` where the bytes are no message; `TOO_MANY_ITEMS`.
pub(super) fn weigh(name: &str, bytes: &[u8]) -> Result<Option<Weight>> {
    let layout = TABLE.by_name.get(name).and_then(|&index| TABLE.messages.get(index));
    if !layout.is_some_and(|layout| layout.is_request) {
        return Ok(None);
    }
    weigh_any(name, bytes).map(Some)
}

/// Weighs a message of any name; one that is not known weighs nothing.
///
/// # Errors
/// Those of [`weigh`].
pub(super) fn weigh_any(name: &str, bytes: &[u8]) -> Result<Weight> {
    let Some(&index) = TABLE.by_name.get(name) else { return Ok(Weight::default()) };
    let size = TABLE.messages.get(index).map_or(0, |layout| layout.size);
    let mut scan = Scan { table: &TABLE, weight: Weight { bytes: size, items: 0 } };
    scan.message(bytes, index, 0, false).map_err(named)?;
    Ok(scan.weight)
}

/// Tells the field in the message too.
fn named(error: Error) -> Error {
    match &error.field {
        Some(field) => Error { message: format!("{field}: {}", error.message), ..error },
        None => error,
    }
}

impl Table {
    fn new(descriptors: &[u8]) -> Self {
        let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
        let mut table = Table::default();
        let mut described = Vec::new();
        for file in &set.file {
            for message in &file.message_type {
                table.name(file.package(), message, &mut described);
            }
        }
        let mut names = vec![String::new(); described.len()];
        for (name, &index) in &table.by_name {
            names[index].clone_from(name);
        }
        for (index, message) in described.iter().enumerate() {
            let most = |field: &Field| texts::most(&format!("{}.{}", names[index], field.name));
            let fields = message.field.iter().filter_map(|field| table.field(field, &described));
            let mut fields: Vec<Field> = fields.map(|field| Field { most: most(&field), ..field }).collect();
            fields.sort_by_key(|field| field.number);
            table.messages[index].fields = fields;
        }
        for index in 0..described.len() {
            table.messages[index].size = table.size(index, &described, &mut Vec::new());
        }
        let methods = set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        for method in methods {
            let taken = table.by_name.get(method.input_type().trim_start_matches('.'));
            if let Some(layout) = taken.and_then(|&index| table.messages.get_mut(index)) {
                layout.is_request = true;
            }
        }
        table
    }

    /// Gives a message and those within it their places.
    fn name<'a>(
        &mut self,
        package: &str,
        message: &'a DescriptorProto,
        described: &mut Vec<&'a DescriptorProto>,
    ) {
        let name = format!("{package}.{}", message.name());
        self.by_name.insert(name.clone(), self.messages.len());
        self.messages.push(Layout::default());
        described.push(message);
        message.nested_type.iter().for_each(|nested| self.name(&name, nested, described));
    }

    fn field(&self, field: &FieldDescriptorProto, described: &[&DescriptorProto]) -> Option<Field> {
        let index = || self.by_name.get(field.type_name().trim_start_matches('.')).copied();
        let number = |width, wire| Holds::Number { width, wire };
        let holds = match field.r#type() {
            Type::String | Type::Bytes => Holds::Text,
            Type::Message | Type::Group => {
                let index = index()?;
                let is_entry = described[index].options.as_ref().is_some_and(|options| options.map_entry());
                if is_entry { Holds::Entry(index) } else { Holds::Message(index) }
            }
            Type::Double | Type::Fixed64 | Type::Sfixed64 => number(8, Number::Fixed(8)),
            Type::Float | Type::Fixed32 | Type::Sfixed32 => number(4, Number::Fixed(4)),
            Type::Int64 | Type::Uint64 | Type::Sint64 => number(8, Number::Varint),
            Type::Int32 | Type::Uint32 | Type::Sint32 | Type::Enum | Type::Bool => number(4, Number::Varint),
        };
        let repeated = field.label() == Label::Repeated;
        Some(Field {
            number: field.number().unsigned_abs(),
            name: field.name().to_owned(),
            repeated,
            holds,
            most: None,
        })
    }

    /// Bytes of a message's struct, rounded up. A message within itself is boxed.
    fn size(&self, index: usize, described: &[&DescriptorProto], within: &mut Vec<usize>) -> usize {
        if within.contains(&index) {
            return WORD;
        }
        within.push(index);
        let message = described[index];
        let mut own = 0;
        let mut choices = vec![0; message.oneof_decl.len()];
        for described_field in &message.field {
            let Some(field) = self.field(described_field, described) else { continue };
            let size = match field.holds {
                Holds::Entry(_) => MAP,
                _ if field.repeated => LIST,
                Holds::Text => LIST,
                Holds::Number { .. } => WORD,
                Holds::Message(inner) => self.size(inner, described, within) + WORD,
            };
            match described_field
                .oneof_index
                .and_then(|choice| choices.get_mut(choice.unsigned_abs() as usize))
            {
                Some(choice) => *choice = size.max(*choice),
                None => own += size,
            }
        }
        within.pop();
        own + choices.iter().map(|size| size + WORD).sum::<usize>()
    }
}

/// A walk through the bytes of a message.
struct Scan<'a> {
    table: &'a Table,
    weight: Weight,
}

impl Scan<'_> {
    /// Walks through a message. `again` tells that it is merged into one that is there already.
    fn message(&mut self, mut rest: &[u8], index: usize, depth: usize, again: bool) -> Result<()> {
        let Some(layout) = self.table.messages.get(index) else { return Ok(()) };
        let mut seen = 0_u64;
        while !rest.is_empty() {
            let (number, wire) = key(&mut rest)?;
            let place = layout.fields.binary_search_by_key(&number, |field| field.number);
            let field = place
                .ok()
                .and_then(|place| Some((1_u64.checked_shl(place as u32), layout.fields.get(place)?)));
            let Some((bit, field)) = field.filter(|_| wire == Wire::Length || wire.is_number()) else {
                skip(&mut rest, number, wire, depth)?;
                continue;
            };
            // Of a field that there is no bit for, the most is counted.
            let before = bit.is_none_or(|bit| seen & bit != 0);
            seen |= bit.unwrap_or_default();
            self.field(&mut rest, field, wire, depth, Seen { before, again })
                .map_err(|e| e.within(&field.name))?;
        }
        Ok(())
    }

    fn field(&mut self, rest: &mut &[u8], field: &Field, wire: Wire, depth: usize, seen: Seen) -> Result<()> {
        if wire != Wire::Length {
            if let (true, Holds::Number { width, .. }) = (field.repeated, field.holds) {
                self.grow(width, 1, seen);
            }
            return skip(rest, field.number, wire, depth);
        }
        let content = length_delimited(rest)?;
        match field.holds {
            Holds::Number { width, wire } if field.repeated => {
                let count = match wire {
                    Number::Fixed(bytes) => content.len() / bytes,
                    Number::Varint => content.iter().filter(|byte| **byte < 0x80).count(),
                };
                self.grow(width, count, seen);
            }
            Holds::Number { .. } => {}
            Holds::Text => {
                if let Some(most) = field.most.filter(|most| content.len() > *most) {
                    let message = format!("expected at most {most} bytes, got {}", content.len());
                    return Err(Error::invalid("TEXT_TOO_LONG", message));
                }
                if field.repeated {
                    self.item(LIST, seen)?;
                    self.add(content.len().max(WORD));
                } else if seen.before || seen.again {
                    // It may grow to twice its length, beside what it was.
                    self.add(content.len().saturating_mul(3).max(WORD));
                } else {
                    self.add(content.len().max(WORD));
                }
            }
            Holds::Message(index) => {
                let size = self.table.messages.get(index).map_or(0, |layout| layout.size);
                let again = if field.repeated {
                    self.item(size, seen)?;
                    false
                } else {
                    // Boxed where it is within itself.
                    self.add(size);
                    seen.before || seen.again
                };
                self.nested(content, index, depth, again)?;
            }
            Holds::Entry(index) => {
                let size = self.table.messages.get(index).map_or(0, |layout| layout.size);
                if !seen.before {
                    self.add(MAP_BEGIN);
                }
                self.count()?;
                self.add(4 * (size + 1));
                self.nested(content, index, depth, false)?;
            }
        }
        Ok(())
    }

    fn nested(&mut self, content: &[u8], index: usize, depth: usize, again: bool) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(malformed(format!(
                "expected at most {MAX_DEPTH} messages within each other, got more"
            )));
        }
        self.message(content, index, depth + 1, again)
    }

    /// One more item of a list.
    fn item(&mut self, size: usize, seen: Seen) -> Result<()> {
        self.count()?;
        self.grow(size, 1, seen);
        Ok(())
    }

    fn count(&mut self) -> Result<()> {
        self.weight.items += 1;
        if self.weight.items > MAX_ITEMS {
            let message =
                format!("expected a message of at most {MAX_ITEMS} items in all its lists, got more");
            return Err(Error::invalid("TOO_MANY_ITEMS", message));
        }
        Ok(())
    }

    /// So many more items of a list that doubles as it grows, beside what it was, from four items on.
    fn grow(&mut self, size: usize, count: usize, seen: Seen) {
        let first = if seen.before || count == 0 { 0 } else { 4 * size.max(2) };
        self.add(count.saturating_mul(3 * size).saturating_add(first));
    }

    fn add(&mut self, bytes: usize) {
        self.weight.bytes = self.weight.bytes.saturating_add(bytes);
    }
}

/// Whether a field came before.
#[derive(Clone, Copy)]
struct Seen {
    /// In this occurrence of its message.
    before: bool,
    /// Maybe in an occurrence of its message that this one is merged into.
    again: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Varint,
    Eight,
    Length,
    Open,
    Close,
    Four,
}

impl Wire {
    fn is_number(self) -> bool {
        matches!(self, Wire::Varint | Wire::Eight | Wire::Four)
    }
}

/// The error of bytes that are no message.
pub(super) fn malformed(message: impl Into<String>) -> Error {
    Error::invalid("MALFORMED_MESSAGE", message)
}

/// Reads a field's number and how its value is written.
fn key(rest: &mut &[u8]) -> Result<(u32, Wire)> {
    let key = varint(rest)?;
    let wire = match key & 7 {
        0 => Wire::Varint,
        1 => Wire::Eight,
        2 => Wire::Length,
        3 => Wire::Open,
        4 => Wire::Close,
        5 => Wire::Four,
        other => return Err(malformed(format!("expected a wire type of 0 to 5, got {other}"))),
    };
    let number = u32::try_from(key).map_or(0, |key| key >> 3);
    if number == 0 {
        return Err(malformed(format!("expected a key of a field, got {key}")));
    }
    Ok((number, wire))
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for shift in 0..10 {
        let Some((byte, after)) = rest.split_first() else {
            return Err(malformed("expected a whole number, got the end of the message"));
        };
        *rest = after;
        if shift == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed("expected a number of 64 bits, got a longer one"))
}

fn length_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = varint(rest)?;
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((content, after)) = split else {
        return Err(malformed(format!("expected {length} bytes of a field, got {}", rest.len())));
    };
    *rest = after;
    Ok(content)
}

/// Passes over the value of a field.
fn skip(rest: &mut &[u8], number: u32, wire: Wire, depth: usize) -> Result<()> {
    let fixed = match wire {
        Wire::Varint => return varint(rest).map(drop),
        Wire::Length => return length_delimited(rest).map(drop),
        Wire::Eight => 8,
        Wire::Four => 4,
        Wire::Close => return Err(malformed(format!("expected a field, got the end of group {number}"))),
        Wire::Open => return skip_group(rest, number, depth),
    };
    let Some(after) = rest.get(fixed..) else {
        return Err(malformed(format!("expected {fixed} bytes of a field, got {}", rest.len())));
    };
    *rest = after;
    Ok(())
}

fn skip_group(rest: &mut &[u8], number: u32, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(malformed(format!("expected at most {MAX_DEPTH} groups within each other, got more")));
    }
    loop {
        let (inner, wire) = key(rest)?;
        match wire {
            Wire::Close if inner == number => return Ok(()),
            _ => skip(rest, inner, wire, depth + 1)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto;

    fn weight_of(message: &impl prost::Name) -> Weight {
        weigh(&full_name(message), &message.encode_to_vec()).unwrap().unwrap()
    }

    fn full_name<M: prost::Name>(_: &M) -> String {
        M::full_name()
    }

    #[test]
    fn every_request_is_weighed_and_its_fields_have_a_bit() {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut count = 0;
        for method in set.file.iter().flat_map(|f| &f.service).flat_map(|service| &service.method) {
            let weight = weigh(method.input_type().trim_start_matches('.'), &[]).unwrap();
            assert!(weight.is_some(), "{}", method.input_type());
            count += 1;
        }
        assert!(count > 25, "{count}");
        assert_eq!(weigh("trove.v1.SearchResponse", &[]).unwrap(), None, "answers are not");
        assert!(TABLE.messages.iter().all(|layout| layout.fields.len() <= 64));
    }

    #[test]
    fn structs_are_no_larger_than_the_table_says() {
        let size = |name: &str| TABLE.messages[TABLE.by_name[name]].size;
        macro_rules! fits {
            ($($kind:ident),*) => {$(
                let (own, told) = (size_of::<proto::$kind>(), size(concat!("trove.v1.", stringify!($kind))));
                assert!(own <= told && told <= 3 * own + 64, "{}: {own}, {told}", stringify!($kind));
            )*};
        }
        fits!(
            SearchRequest,
            SearchQuery,
            Filter,
            FilterList,
            FieldCondition,
            MetadataValue,
            StringList,
            IntList,
            DoubleList,
            Range,
            StringRange,
            Document,
            StoredDocument,
            StoredPassage,
            StoredPassages,
            Passage,
            EmbedRequest,
            EmbedOptions,
            Label,
            ClassifyRequest,
            AnswerRequest,
            Message,
            SamplingOptions,
            GenerateRequest,
            Collection,
            DenseVector,
            ByteSpan,
            Fusion,
            Rerank,
            LateInteraction,
            CompareRequest,
            UpsertDocumentsRequest,
            IngestDocumentsRequest,
            ImportDocumentsRequest,
            UpdateCollectionRequest
        );
    }

    #[test]
    fn what_is_small_on_the_wire_weighs_what_it_becomes() {
        let searches =
            |count| proto::BatchSearchRequest { requests: vec![proto::SearchRequest::default(); count] };
        assert!(weight_of(&searches(1000)).bytes >= 1000 * size_of::<proto::SearchRequest>());
        let bytes = searches(MAX_ITEMS + 1).encode_to_vec();
        let error = weigh("trove.v1.BatchSearchRequest", &bytes).unwrap_err();
        assert_eq!((error.reason, error.field.as_deref()), ("TOO_MANY_ITEMS", Some("requests")));
        let nodes = proto::FilterList { filters: vec![proto::Filter::default(); 1000] };
        let filter = proto::Filter { node: Some(proto::filter::Node::All(nodes)) };
        let search = proto::SearchRequest { filter: Some(filter), ..Default::default() };
        assert!(weight_of(&search).bytes >= 1000 * size_of::<proto::Filter>());
        // Packed or not, a number takes what it takes.
        let packed = proto::DetokenizeRequest { token_ids: vec![1; 1000], ..Default::default() };
        let single: Vec<u8> = [0x10, 1].repeat(1000);
        let single = weigh("trove.v1.DetokenizeRequest", &single).unwrap().unwrap();
        assert_eq!(weight_of(&packed), single);
        assert!(single.bytes >= 3 * 4000);
    }

    #[test]
    fn a_text_that_is_too_long_is_named() {
        let collection = proto::Collection { description: "x".repeat(5000), ..Default::default() };
        let bytes = proto::CreateCollectionRequest { collection: Some(collection) }.encode_to_vec();
        let error = weigh("trove.v1.CreateCollectionRequest", &bytes).unwrap_err();
        assert_eq!((error.reason, error.field.as_deref()), ("TEXT_TOO_LONG", Some("collection.description")));
        assert!(error.message.contains("at most 4096 bytes, got 5000"), "{}", error.message);
    }

    #[test]
    fn what_is_no_message_is_refused_and_names_the_field() {
        let error = |bytes: &[u8]| weigh("trove.v1.SearchRequest", bytes).unwrap_err();
        for bytes in [&[0x0a, 5, b'a'][..], &[0x0f], &[0], &[0x0c], &[0x18, 0x80], &[0xff; 11], &[0x0b, 0x14]]
        {
            assert_eq!(error(bytes).reason, "MALFORMED_MESSAGE", "{bytes:x?}");
        }
        // A filter whose child is cut off.
        assert_eq!(error(&[0x22, 3, 0x1a, 9, 0]).field.as_deref(), Some("filter.not"));
        let mut deep = Vec::new();
        for _ in 0..200 {
            let mut outer = vec![0x1a];
            prost::encoding::encode_varint(deep.len() as u64, &mut outer);
            outer.append(&mut deep);
            deep = outer;
        }
        let mut search = vec![0x22];
        prost::encoding::encode_varint(deep.len() as u64, &mut search);
        search.append(&mut deep);
        assert_eq!(error(&search).reason, "MALFORMED_MESSAGE");
        assert!(proto::SearchRequest::decode(search.as_slice()).is_err());
        assert_eq!(error(&[0x7b; 300]).reason, "MALFORMED_MESSAGE");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn whatever_the_decoder_takes_is_weighed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let weight = weigh("trove.v1.SearchRequest", &bytes);
            if proto::SearchRequest::decode(bytes.as_slice()).is_ok() {
                prop_assert!(weight.is_ok(), "{weight:?}");
            }
        }

        #[test]
        fn so_it_is_with_parts_that_look_right(
            parts in prop::collection::vec((1_u32..16, 0_u8..6, prop::collection::vec(any::<u8>(), 0..9)), 0..20)
        ) {
            let mut bytes = Vec::new();
            for (number, wire, content) in parts {
                prost::encoding::encode_varint(u64::from(number << 3) | u64::from(wire), &mut bytes);
                if wire == 2 {
                    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
                }
                bytes.extend(content);
            }
            let takes = |decoded: bool, name: &str| !decoded || weigh(name, &bytes).is_ok();
            prop_assert!(takes(proto::SearchRequest::decode(&*bytes).is_ok(), "trove.v1.SearchRequest"));
            let ingest = proto::IngestDocumentsRequest::decode(&*bytes).is_ok();
            prop_assert!(takes(ingest, "trove.v1.IngestDocumentsRequest"));
        }
    }
}

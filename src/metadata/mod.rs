//! Which documents a filter matches: for each metadata key an ordered index from values to roaring bitmaps
//! (Lemire et al., "Roaring Bitmaps: Implementation of an Optimized Software Library", 2018). Tests become
//! look-ups, ranges of values unions, and the tree of a filter algebra on bitmaps.
//!
//! The index is kept in memory alone. It is made from the documents' records when a collection is opened and
//! follows the store's commits, so there is nothing on disk that could differ from them.

mod postings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use roaring::RoaringBitmap;

use crate::domain::{Filter, Metadata, MetadataValue, Number, Test, Time};
use crate::error::Result;
use crate::task::{Cancelled, check_cancelled};
use postings::Postings;

/// Looks documents up by their ids, which this index does not hold.
pub trait DocumentIds {
    /// The number of the document of an id.
    ///
    /// # Errors
    /// Whatever reading gives.
    fn number(&self, id: &str) -> Result<Option<u32>>;

    /// Numbers of the documents whose ids start with a prefix.
    ///
    /// # Errors
    /// Whatever reading gives.
    fn numbers(&self, prefix: &str) -> Result<RoaringBitmap>;
}

/// A filter whose document ids have been looked up.
#[derive(Debug)]
pub enum ResolvedFilter<'a> {
    /// Every child matches.
    All(Vec<ResolvedFilter<'a>>),
    /// At least one child matches.
    Any(Vec<ResolvedFilter<'a>>),
    /// The child does not match.
    Not(Box<ResolvedFilter<'a>>),
    /// A test of one metadata key.
    Field(&'a str, &'a Test),
    /// One of these documents.
    Documents(RoaringBitmap),
}

impl<'a> ResolvedFilter<'a> {
    /// Looks up the ids of a filter.
    ///
    /// # Errors
    /// `CANCELLED`; what the look-up gives.
    pub fn new(filter: &'a Filter, ids: &impl DocumentIds, is_cancelled: Cancelled<'_>) -> Result<Self> {
        check_cancelled(is_cancelled)?;
        let all = |children: &'a [Filter]| -> Result<Vec<Self>> {
            children.iter().map(|child| Self::new(child, ids, is_cancelled)).collect()
        };
        Ok(match filter {
            Filter::All(children) => Self::All(all(children)?),
            Filter::Any(children) => Self::Any(all(children)?),
            Filter::Not(child) => Self::Not(Box::new(Self::new(child, ids, is_cancelled)?)),
            Filter::Field(key, test) => Self::Field(key, test),
            Filter::DocumentIdPrefix(prefix) => Self::Documents(ids.numbers(prefix)?),
            Filter::DocumentIds(list) => {
                let mut numbers = RoaringBitmap::new();
                for id in list {
                    numbers.extend(ids.number(id)?);
                }
                Self::Documents(numbers)
            }
        })
    }
}

/// The documents of a collection by their metadata.
#[derive(Debug, Default)]
pub struct MetadataIndex {
    documents: RoaringBitmap,
    fields: HashMap<Box<str>, Field>,
}

/// The values of one metadata key. Each type has an order of its own, so types never mix.
#[derive(Debug, Default)]
struct Field {
    present: RoaringBitmap,
    nulls: RoaringBitmap,
    booleans: [RoaringBitmap; 2],
    /// Strings, and those of lists.
    strings: Postings<Box<str>>,
    numbers: Postings<Number>,
    times: Postings<Time>,
    /// Whole lists, by a hash of their strings.
    lists: Postings<u128>,
}

impl MetadataIndex {
    /// Adds a document; it must not be there.
    pub fn insert(&mut self, number: u32, metadata: &Metadata) {
        self.documents.insert(number);
        for (key, value) in metadata {
            if !self.fields.contains_key(key.as_str()) {
                self.fields.insert(key.as_str().into(), Field::default());
            }
            if let Some(field) = self.fields.get_mut(key.as_str()) {
                field.insert(number, value);
            }
        }
    }

    /// Removes a document, by the metadata that it was added with.
    pub fn remove(&mut self, number: u32, metadata: &Metadata) {
        self.documents.remove(number);
        for (key, value) in metadata {
            let Some(field) = self.fields.get_mut(key.as_str()) else { continue };
            field.remove(number, value);
            if field.present.is_empty() {
                self.fields.remove(key.as_str());
            }
        }
    }

    /// Number of documents.
    pub fn len(&self) -> u64 {
        self.documents.len()
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Numbers of the documents that a filter matches.
    ///
    /// # Errors
    /// `CANCELLED`.
    pub fn matching(
        &self,
        filter: &ResolvedFilter<'_>,
        is_cancelled: Cancelled<'_>,
    ) -> Result<RoaringBitmap> {
        // What was removed by other metadata than its own leaves traces, which do not count.
        Ok(self.evaluate(filter, is_cancelled)? & &self.documents)
    }

    fn evaluate(&self, filter: &ResolvedFilter<'_>, is_cancelled: Cancelled<'_>) -> Result<RoaringBitmap> {
        check_cancelled(is_cancelled)?;
        Ok(match filter {
            ResolvedFilter::All(children) => {
                let mut found = self.documents.clone();
                for child in children {
                    if found.is_empty() {
                        break;
                    }
                    found &= self.evaluate(child, is_cancelled)?;
                }
                found
            }
            ResolvedFilter::Any(children) => {
                let mut found = RoaringBitmap::new();
                for child in children {
                    found |= self.evaluate(child, is_cancelled)?;
                }
                found
            }
            ResolvedFilter::Not(child) => &self.documents - self.evaluate(child, is_cancelled)?,
            ResolvedFilter::Documents(numbers) => numbers.clone(),
            ResolvedFilter::Field(key, Test::Exists(false)) => match self.fields.get(*key) {
                Some(field) => &self.documents - &field.present,
                None => self.documents.clone(),
            },
            ResolvedFilter::Field(key, test) => {
                self.fields.get(*key).map(|field| field.passing(test)).unwrap_or_default()
            }
        })
    }
}

impl Field {
    fn insert(&mut self, number: u32, value: &MetadataValue) {
        self.present.insert(number);
        match value {
            MetadataValue::Null => drop(self.nulls.insert(number)),
            MetadataValue::Bool(value) => drop(self.boolean_mut(*value).insert(number)),
            MetadataValue::String(string) => self.insert_string(number, string),
            MetadataValue::StringList(list) => {
                list.iter().for_each(|string| self.insert_string(number, string));
                let hash = hash_of(list);
                self.lists.insert(&hash, number, || hash);
            }
            MetadataValue::Int(_) | MetadataValue::Double(_) => {
                if let Some(key) = Number::of(value) {
                    self.numbers.insert(&key, number, || key);
                }
            }
            MetadataValue::Timestamp(..) => {
                if let Some(key) = Time::of(value) {
                    self.times.insert(&key, number, || key);
                }
            }
        }
    }

    fn insert_string(&mut self, number: u32, string: &str) {
        self.strings.insert(string, number, || string.into());
    }

    fn remove(&mut self, number: u32, value: &MetadataValue) {
        self.present.remove(number);
        match value {
            MetadataValue::Null => drop(self.nulls.remove(number)),
            MetadataValue::Bool(value) => drop(self.boolean_mut(*value).remove(number)),
            MetadataValue::String(string) => self.strings.remove(string.as_str(), number),
            MetadataValue::StringList(list) => {
                list.iter().for_each(|string| self.strings.remove(string.as_str(), number));
                self.lists.remove(&hash_of(list), number);
            }
            MetadataValue::Int(_) | MetadataValue::Double(_) => {
                if let Some(key) = Number::of(value) {
                    self.numbers.remove(&key, number);
                }
            }
            MetadataValue::Timestamp(..) => {
                if let Some(key) = Time::of(value) {
                    self.times.remove(&key, number);
                }
            }
        }
    }

    fn boolean_mut(&mut self, value: bool) -> &mut RoaringBitmap {
        let [no, yes] = &mut self.booleans;
        if value { yes } else { no }
    }

    /// Documents whose value passes a test, which is not one for absence.
    fn passing(&self, test: &Test) -> RoaringBitmap {
        match test {
            Test::Exists(_) => self.present.clone(),
            Test::Equals(value) => self.equal(value),
            Test::In(list) => self.strings.of_any(list.iter().map(String::as_str)),
            Test::Prefix(prefix) => {
                self.strings.run_from(prefix.as_str(), |string| string.starts_with(prefix.as_str()))
            }
            Test::StringRange(bounds) => bounds
                .limits(|bound| Some(bound.as_str()))
                .map(|limits| self.strings.within(limits))
                .unwrap_or_default(),
            Test::Range(bounds) => {
                let numbers = bounds
                    .limits(|bound| Number::from_double(*bound))
                    .map(|(from, to)| self.numbers.within((from.as_ref(), to.as_ref())));
                let times = bounds
                    .limits(|bound| Time::from_seconds(*bound))
                    .map(|(from, to)| self.times.within((from.as_ref(), to.as_ref())));
                numbers.unwrap_or_default() | times.unwrap_or_default()
            }
        }
    }

    fn equal(&self, value: &MetadataValue) -> RoaringBitmap {
        match value {
            MetadataValue::Null => self.nulls.clone(),
            MetadataValue::Bool(value) => {
                let [no, yes] = &self.booleans;
                if *value { yes.clone() } else { no.clone() }
            }
            MetadataValue::String(string) => self.strings.of(string.as_str()),
            MetadataValue::StringList(list) => self.lists.of(&hash_of(list)),
            MetadataValue::Int(_) | MetadataValue::Double(_) => {
                Number::of(value).map(|key| self.numbers.of(&key)).unwrap_or_default()
            }
            MetadataValue::Timestamp(..) => {
                Time::of(value).map(|key| self.times.of(&key)).unwrap_or_default()
            }
        }
    }
}

/// 128 bits of BLAKE3, by which lists are told apart.
fn hash_of(list: &[String]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for string in list {
        hasher.update(&(string.len() as u64).to_le_bytes());
        hasher.update(string.as_bytes());
    }
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

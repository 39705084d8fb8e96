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
    /// `CANCELLED`, and whatever reading gives.
    fn numbers(&self, prefix: &str, is_cancelled: Cancelled<'_>) -> Result<RoaringBitmap>;
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
            Filter::DocumentIdPrefix(prefix) => Self::Documents(ids.numbers(prefix, is_cancelled)?),
            Filter::DocumentIds(list) => {
                let mut numbers = RoaringBitmap::new();
                for id in list {
                    check_cancelled(is_cancelled)?;
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
    /// Numbers, and those of lists.
    numbers: Postings<Number>,
    times: Postings<Time>,
    /// Whole lists, by a hash of their members.
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

    /// The greatest number of a document.
    pub fn greatest(&self) -> Option<u32> {
        self.documents.max()
    }

    /// Number of documents.
    pub fn len(&self) -> u64 {
        self.documents.len()
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Documents that one step of a filter asks for.
    pub fn step(&self, step: Step<'_>) -> RoaringBitmap {
        match step {
            Step::Everything => self.documents.clone(),
            Step::Field(key, Test::Exists(false)) => match self.fields.get(key) {
                Some(field) => &self.documents - &field.present,
                None => self.documents.clone(),
            },
            // What was removed by other metadata than its own leaves traces, which do not count.
            Step::Field(key, test) => match self.fields.get(key) {
                Some(field) => field.passing(test) & &self.documents,
                None => RoaringBitmap::new(),
            },
        }
    }
}

/// What a filter asks the index for, one after the other.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// All documents.
    Everything,
    /// Those that pass a test of one key.
    Field(&'a str, &'a Test),
}

/// Numbers of the documents that a filter matches. `steps` answers from the index, which need not stay the same in
/// between.
///
/// # Errors
/// `CANCELLED`.
pub fn matching(
    filter: &ResolvedFilter<'_>,
    steps: &impl Fn(Step<'_>) -> RoaringBitmap,
    is_cancelled: Cancelled<'_>,
) -> Result<RoaringBitmap> {
    check_cancelled(is_cancelled)?;
    Ok(match filter {
        ResolvedFilter::All(children) => {
            let mut found: Option<RoaringBitmap> = None;
            for child in children {
                if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
                    break;
                }
                let passing = matching(child, steps, is_cancelled)?;
                found = Some(match found {
                    None => passing,
                    Some(found) => found & passing,
                });
            }
            found.unwrap_or_else(|| steps(Step::Everything))
        }
        ResolvedFilter::Any(children) => {
            let mut found = RoaringBitmap::new();
            for child in children {
                found |= matching(child, steps, is_cancelled)?;
            }
            found
        }
        ResolvedFilter::Not(child) => {
            let excluded = matching(child, steps, is_cancelled)?;
            steps(Step::Everything) - excluded
        }
        ResolvedFilter::Documents(numbers) => numbers.clone(),
        ResolvedFilter::Field(key, test) => steps(Step::Field(key, test)),
    })
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
            MetadataValue::Int(_) | MetadataValue::Double(_) => self.insert_numbers(number, value),
            MetadataValue::IntList(_) | MetadataValue::DoubleList(_) => {
                self.insert_numbers(number, value);
                let hash = hash_of_numbers(value);
                self.lists.insert(&hash, number, || hash);
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

    fn insert_numbers(&mut self, number: u32, value: &MetadataValue) {
        for key in Number::all_of(value) {
            self.numbers.insert(&key, number, || key);
        }
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
            MetadataValue::Int(_) | MetadataValue::Double(_) => self.remove_numbers(number, value),
            MetadataValue::IntList(_) | MetadataValue::DoubleList(_) => {
                self.remove_numbers(number, value);
                self.lists.remove(&hash_of_numbers(value), number);
            }
            MetadataValue::Timestamp(..) => {
                if let Some(key) = Time::of(value) {
                    self.times.remove(&key, number);
                }
            }
        }
    }

    fn remove_numbers(&mut self, number: u32, value: &MetadataValue) {
        Number::all_of(value).for_each(|key| self.numbers.remove(&key, number));
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
            MetadataValue::IntList(_) | MetadataValue::DoubleList(_) => {
                self.lists.of(&hash_of_numbers(value))
            }
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
    beginning(&hasher)
}

/// The same for lists of numbers, which are equal by their values and never equal to strings.
fn hash_of_numbers(list: &MetadataValue) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key("trove list of numbers");
    for number in Number::all_of(list) {
        hasher.update(&number.to_bytes());
    }
    beginning(&hasher)
}

fn beginning(hasher: &blake3::Hasher) -> u128 {
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

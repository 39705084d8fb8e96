use std::collections::HashSet;
use std::ops::Bound;

use super::MetadataValue;
use crate::error::{Error, Result};

/// Most levels of a filter.
const MAX_DEPTH: usize = 16;
/// Most nodes: each is a step over bitmaps of all documents.
const MAX_NODES: usize = 4096;
/// Most listed values.
const MAX_VALUES: usize = 65_536;
/// Most ranges and prefixes: each goes over all the values or ids within it.
const MAX_RANGES: usize = 256;

/// A boolean tree over a document's id and metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every child matches; an empty list matches everything.
    All(Vec<Filter>),
    /// At least one child matches; an empty list matches nothing.
    Any(Vec<Filter>),
    /// The child does not match.
    Not(Box<Filter>),
    /// A test of one metadata key.
    Field(String, Test),
    /// The document's id is one of these.
    DocumentIds(HashSet<String>),
    /// The document's id starts with this.
    DocumentIdPrefix(String),
}

/// A test of one metadata value. A key that is absent fails every test but `Exists(false)`; a list
/// passes when one of its members does. A value of another type than the test's passes none.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Equal to; numbers compare by value, whatever their type.
    Equals(MetadataValue),
    /// A string that is one of these.
    In(HashSet<String>),
    /// A number or time (in seconds) within bounds.
    Range(RangeBounds<f64>),
    /// A string within bounds, by the bytes of its UTF-8.
    StringRange(RangeBounds<String>),
    /// Present or absent.
    Exists(bool),
    /// A string that starts with this.
    Prefix(String),
}

/// Bounds; an unset bound is open.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RangeBounds<T> {
    /// Greater than or equal.
    pub gte: Option<T>,
    /// Greater than.
    pub gt: Option<T>,
    /// Less than or equal.
    pub lte: Option<T>,
    /// Less than.
    pub lt: Option<T>,
}

/// The lower and the upper bound of a range that is not empty.
pub type Limits<K> = (Bound<K>, Bound<K>);

impl<T> RangeBounds<T> {
    /// The tighter bounds of each side in the order of `key`; `None` where nothing is within them, or a bound has
    /// no key.
    pub fn limits<'a, K: Ord + Copy>(&'a self, key: impl Fn(&'a T) -> Option<K>) -> Option<Limits<K>> {
        let key = |bound: &'a Option<T>| match bound {
            None => Some(None),
            Some(bound) => key(bound).map(Some),
        };
        let lower = match (key(&self.gte)?, key(&self.gt)?) {
            (Some(gte), Some(gt)) if gte > gt => Bound::Included(gte),
            (_, Some(gt)) => Bound::Excluded(gt),
            (Some(gte), None) => Bound::Included(gte),
            (None, None) => Bound::Unbounded,
        };
        let upper = match (key(&self.lte)?, key(&self.lt)?) {
            (Some(lte), Some(lt)) if lte < lt => Bound::Included(lte),
            (_, Some(lt)) => Bound::Excluded(lt),
            (Some(lte), None) => Bound::Included(lte),
            (None, None) => Bound::Unbounded,
        };
        let is_empty = match (lower, upper) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
                from >= to
            }
            _ => false,
        };
        (!is_empty).then_some((lower, upper))
    }
}

/// How large a filter is that is being made. What goes beyond a limit is refused before it is there.
#[derive(Debug, Default)]
pub struct FilterSize {
    nodes: usize,
    values: usize,
    ranges: usize,
}

impl FilterSize {
    /// One more node, so many levels below the first.
    ///
    /// # Errors
    /// `FILTER_TOO_DEEP` and `FILTER_TOO_LARGE`.
    pub fn add_node(&mut self, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let message = format!("expected a filter of at most {MAX_DEPTH} levels, got more");
            return Err(Error::invalid("FILTER_TOO_DEEP", message));
        }
        add(&mut self.nodes, 1, MAX_NODES, "nodes")
    }

    /// So many more values of a list.
    ///
    /// # Errors
    /// `FILTER_TOO_LARGE`.
    pub fn add_values(&mut self, more: usize) -> Result<()> {
        add(&mut self.values, more, MAX_VALUES, "listed values")
    }

    /// One more range or prefix.
    ///
    /// # Errors
    /// `FILTER_TOO_LARGE`.
    pub fn add_range(&mut self) -> Result<()> {
        add(&mut self.ranges, 1, MAX_RANGES, "ranges and prefixes")
    }
}

fn add(count: &mut usize, more: usize, most: usize, what: &str) -> Result<()> {
    *count = count.saturating_add(more);
    if *count > most {
        let message = format!("expected a filter of at most {most} {what}, got more");
        return Err(Error::invalid("FILTER_TOO_LARGE", message));
    }
    Ok(())
}

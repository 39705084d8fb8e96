//! Values in order, each with the numbers of the documents that have it.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::domain::Limits;

/// Most documents of a value that are listed; of more there is a bitmap, which takes 150 bytes at least.
const FEW: usize = 32;
/// Marks an entry that is a place in `many`, not a document.
const MANY: u32 = 1 << 31;
/// A range that gives a list longer than one in so many of the greatest number is put together as plain bits.
const DENSE: usize = 64;

/// An ordered map from values to documents. A value of one document takes four bytes beside its key and its
/// place in the tree, so that values which are all different stay cheap.
#[derive(Debug)]
pub(super) struct Postings<K> {
    /// Each value's document, or its place in `many`.
    map: BTreeMap<K, u32>,
    many: Vec<Many>,
    /// Places in `many` that are not used.
    free: Vec<u32>,
}

#[derive(Debug)]
enum Many {
    /// Ascending.
    Few(Vec<u32>),
    Bitmap(RoaringBitmap),
}

impl Many {
    fn insert(&mut self, number: u32) {
        match self {
            Many::Bitmap(bitmap) => {
                bitmap.insert(number);
            }
            Many::Few(list) => {
                if let Err(at) = list.binary_search(&number) {
                    list.insert(at, number);
                }
                if list.len() > FEW {
                    *self = Many::Bitmap(list.iter().copied().collect());
                }
            }
        }
    }

    fn remove(&mut self, number: u32) {
        match self {
            Many::Bitmap(bitmap) => {
                bitmap.remove(number);
            }
            Many::Few(list) => list.retain(|other| *other != number),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Many::Few(list) => list.is_empty(),
            Many::Bitmap(bitmap) => bitmap.is_empty(),
        }
    }
}

impl<K> Default for Postings<K> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), many: Vec::new(), free: Vec::new() }
    }
}

impl<K: Ord> Postings<K> {
    /// Adds a document to a value. `owned` makes the key where the value is new.
    pub(super) fn insert<Q: Ord + ?Sized>(&mut self, key: &Q, number: u32, owned: impl FnOnce() -> K)
    where
        K: Borrow<Q>,
    {
        let Some(entry) = self.map.get_mut(key) else {
            let entry = if number < MANY { number } else { self.keep(vec![number]) };
            self.map.insert(owned(), entry);
            return;
        };
        let known = *entry;
        if known & MANY != 0 {
            if let Some(many) = self.many.get_mut((known & !MANY) as usize) {
                many.insert(number);
            }
            return;
        }
        if known == number {
            return;
        }
        let kept = self.keep(vec![known.min(number), known.max(number)]);
        if let Some(entry) = self.map.get_mut(key) {
            *entry = kept;
        }
    }

    /// Keeps a list and returns what stands for it.
    fn keep(&mut self, list: Vec<u32>) -> u32 {
        let many = Many::Few(list);
        if let Some(at) = self.free.pop()
            && let Some(slot) = self.many.get_mut(at as usize)
        {
            *slot = many;
            return at | MANY;
        }
        self.many.push(many);
        (self.many.len() - 1) as u32 | MANY
    }

    /// Takes a document from a value; a value without documents goes.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, number: u32)
    where
        K: Borrow<Q>,
    {
        let Some(entry) = self.map.get(key).copied() else { return };
        let is_empty =
            if entry & MANY == 0 { entry == number } else { self.remove_from(entry & !MANY, number) };
        if is_empty {
            self.map.remove(key);
        }
    }

    /// Takes a document from a list or bitmap; whether that is empty now, and its place free.
    fn remove_from(&mut self, at: u32, number: u32) -> bool {
        let Some(many) = self.many.get_mut(at as usize) else { return false };
        many.remove(number);
        let is_empty = many.is_empty();
        if is_empty {
            *many = Many::Few(Vec::new());
            self.free.push(at);
        }
        is_empty
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Documents of one value.
    pub(super) fn of<Q: Ord + ?Sized>(&self, key: &Q) -> RoaringBitmap
    where
        K: Borrow<Q>,
    {
        self.union(self.map.get(key).copied())
    }

    /// Documents of all values within bounds.
    pub(super) fn within<Q: Ord + ?Sized>(&self, limits: Limits<&Q>) -> RoaringBitmap
    where
        K: Borrow<Q>,
    {
        self.union(self.map.range::<Q, _>(limits).map(|(_, entry)| *entry))
    }

    /// Documents of any of some values.
    pub(super) fn of_any<'a, Q: Ord + ?Sized + 'a>(&self, keys: impl Iterator<Item = &'a Q>) -> RoaringBitmap
    where
        K: Borrow<Q>,
    {
        self.union(keys.filter_map(|key| self.map.get(key).copied()))
    }

    /// Documents of the values from one on, for as long as they go on so.
    pub(super) fn run_from<Q: Ord + ?Sized>(&self, first: &Q, goes_on: impl Fn(&K) -> bool) -> RoaringBitmap
    where
        K: Borrow<Q>,
    {
        let limits = (std::ops::Bound::Included(first), std::ops::Bound::Unbounded);
        let run = self.map.range::<Q, _>(limits).take_while(|(key, _)| goes_on(key));
        self.union(run.map(|(_, entry)| *entry))
    }

    fn union(&self, entries: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        let mut numbers = Vec::new();
        let mut result = RoaringBitmap::new();
        for entry in entries {
            if entry & MANY == 0 {
                numbers.push(entry);
                continue;
            }
            match self.many.get((entry & !MANY) as usize) {
                Some(Many::Few(list)) => numbers.extend_from_slice(list),
                Some(Many::Bitmap(bitmap)) => result |= bitmap,
                None => {}
            }
        }
        result | collect(&mut numbers)
    }
}

/// Numbers in any order as a bitmap.
fn collect(numbers: &mut [u32]) -> RoaringBitmap {
    let Some(greatest) = numbers.iter().max().map(|number| *number as usize) else {
        return RoaringBitmap::new();
    };
    if numbers.len() <= greatest / DENSE {
        numbers.sort_unstable();
        return numbers.iter().copied().collect();
    }
    let mut bits = vec![0u8; greatest / 8 + 1];
    for number in numbers.iter() {
        if let Some(byte) = bits.get_mut(*number as usize / 8) {
            *byte |= 1 << (number % 8);
        }
    }
    RoaringBitmap::from_lsb0_bytes(0, &bits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn great_numbers_are_kept_as_they_are() {
        let mut postings = Postings::<u8>::default();
        for number in [u32::MAX, MANY, 5] {
            postings.insert(&1, number, || 1);
        }
        assert_eq!(postings.of(&1), RoaringBitmap::from_iter([5, MANY, u32::MAX]));
        for number in [5, u32::MAX, MANY] {
            postings.remove(&1, number);
        }
        assert!(postings.is_empty());
        postings.insert(&2, u32::MAX, || 2);
        assert_eq!(postings.many.len(), 1, "a freed place is used again");
    }

    proptest! {
        #[test]
        fn they_are_sets_of_documents(
            ops in proptest::collection::vec((any::<bool>(), 0u8..6, 0u32..120), 0..400),
            from in 0u8..7, to in 0u8..7,
        ) {
            let mut postings = Postings::<u8>::default();
            let mut model = BTreeSet::new();
            for (is_insert, key, number) in ops {
                if is_insert {
                    postings.insert(&key, number, || key);
                    model.insert((key, number));
                } else {
                    postings.remove(&key, number);
                    model.remove(&(key, number));
                }
            }
            let expected = |keys: std::ops::Range<u8>| -> RoaringBitmap {
                model.iter().filter(|(key, _)| keys.contains(key)).map(|(_, number)| *number).collect()
            };
            for key in 0..6 {
                prop_assert_eq!(postings.of(&key), expected(key..key + 1));
            }
            if from < to {
                let limits = (Bound::Included(&from), Bound::Excluded(&to));
                prop_assert_eq!(postings.within(limits), expected(from..to));
            }
            prop_assert_eq!(postings.is_empty(), model.is_empty());
        }
    }
}

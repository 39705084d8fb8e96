//! Ids of records that have none of their own: their numbers. A record keeps its number from run to run as long as its
//! text is the same, wherever it stands in its file, so that only what is new is encoded.

use std::collections::{HashMap, HashSet};

use super::known::Known;

/// Numbers of stored records, by the file and the hash of the text.
#[derive(Default)]
pub struct Stored<'a>(HashMap<&'a str, Vec<(u64, blake3::Hash)>>);

impl<'a> Stored<'a> {
    /// The records of a collection whose ids are numbers.
    pub fn new(known: &'a Known) -> Self {
        let mut files: HashMap<&str, Vec<_>> = HashMap::new();
        for (id, stored) in known {
            let number = id.strip_prefix(&stored.file).and_then(|rest| rest.strip_prefix('#')?.parse().ok());
            if let (Some(number), Some(content)) = (number, stored.content) {
                files.entry(&stored.file).or_default().push((number, content));
            }
        }
        files.values_mut().for_each(|records| records.sort_unstable_by_key(|(number, _)| *number));
        Self(files)
    }

    /// Whether there is a record of a file.
    pub fn knows(&self, file: &str) -> bool {
        self.0.contains_key(file)
    }

    /// The number that each record of a file is to have, by its place. The records come with their places, and the hashes
    /// of their texts.
    pub fn assign(&self, file: &str, records: &[(u64, blake3::Hash)]) -> HashMap<u64, u64> {
        let stored = self.0.get(file).map(Vec::as_slice).unwrap_or_default();
        let mut free: HashMap<blake3::Hash, Vec<u64>> = HashMap::new();
        // Taken from the end, so that the lowest number comes first.
        stored.iter().rev().for_each(|(number, hash)| free.entry(*hash).or_default().push(*number));
        let mut assigned = HashMap::with_capacity(records.len());
        // Those that stand where they stood, then those that have moved.
        for (place, hash) in records {
            if let Some(numbers) = free.get_mut(hash)
                && let Some(at) = numbers.iter().position(|number| number == place)
            {
                numbers.remove(at);
                assigned.insert(*place, *place);
            }
        }
        for (place, hash) in records {
            if assigned.contains_key(place) {
                continue;
            }
            if let Some(number) = free.get_mut(hash).and_then(Vec::pop) {
                assigned.insert(*place, number);
            }
        }
        let mut taken: HashSet<u64> = assigned.values().copied().collect();
        let greatest = stored.iter().chain(records).map(|(number, _)| *number).max().unwrap_or_default();
        let mut fresh = greatest + 1;
        for (place, _) in records {
            if assigned.contains_key(place) {
                continue;
            }
            // A record that changed in its place takes the place of what it was.
            let number = if taken.insert(*place) { *place } else { fresh };
            if number == fresh {
                fresh += 1;
            }
            assigned.insert(*place, number);
        }
        assigned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Assigns numbers to texts, with those of a run before.
    fn assign(before: &[(u64, &str)], texts: &[&str]) -> Vec<u64> {
        let hash = |text: &str| blake3::hash(text.as_bytes());
        let stored =
            Stored([("f", before.iter().map(|(number, text)| (*number, hash(text))).collect())].into());
        let records: Vec<_> = (1..).zip(texts).map(|(place, text)| (place, hash(text))).collect();
        let assigned = stored.assign("f", &records);
        records.iter().map(|(place, _)| assigned[place]).collect()
    }

    #[test]
    fn records_keep_their_numbers_wherever_they_stand() {
        let before = [(1, "a"), (2, "b"), (3, "c")];
        assert_eq!(assign(&[], &["a", "b"]), [1, 2]);
        assert_eq!(assign(&before, &["new", "a", "b", "c"]), [5, 1, 2, 3]);
        assert_eq!(
            assign(&[(1, "a"), (2, "b"), (3, "c"), (5, "new")], &["new", "a", "b", "c"]),
            [5, 1, 2, 3]
        );
        // One that changed where it stands is the same record.
        assert_eq!(assign(&before, &["a", "changed", "c"]), [1, 2, 3]);
        assert_eq!(assign(&before, &["c", "b", "a"]), [3, 2, 1]);
        assert_eq!(assign(&before, &["b", "c"]), [2, 3]);
        // Equal ones are told apart by their number.
        assert_eq!(assign(&[(1, "a"), (2, "a")], &["a", "a", "a"]), [1, 2, 3]);
        assert_eq!(assign(&[(1, "a"), (2, "a")], &["x", "a", "a"]), [4, 2, 1]);
    }
}

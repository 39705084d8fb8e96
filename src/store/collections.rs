//! Collections: made, changed and deleted under the writer's lock.

use std::collections::BTreeSet;

use super::codec::{self, Counters, Number};
use super::live::Live;
use super::records::CollectionRecord;
use super::{Store, commit, keys, now_ns, readers, unknown_collection, versions};
use crate::error::{Error, ErrorKind, Result};

/// Share of a collection's document numbers from which on a start says that they run out.
const MANY_USED: f64 = 0.75;

impl Store {
    /// Makes a collection; number, times and etag are set here.
    pub fn create_collection(&self, record: CollectionRecord) -> Result<CollectionRecord> {
        self.create_collection_with(record, |_| ())
    }

    /// The same; `prepare` sees the record before anyone can write to the collection. It must not write to the store.
    pub fn create_collection_with(
        &self,
        mut record: CollectionRecord,
        prepare: impl FnOnce(&CollectionRecord),
    ) -> Result<CollectionRecord> {
        let _writer = self.inner.writer.lock();
        self.inner.check_room()?;
        let live = self.inner.settled()?;
        let key = keys::collection(&record.name);
        if live.get(&key)?.is_some() {
            let message = format!("there is a collection {:?} already", record.name);
            let error = Error::new(ErrorKind::AlreadyExists, "COLLECTION_EXISTS", message);
            return Err(error.about("collection", record.name));
        }
        let (cid, next) = next_cid(&live)?;
        record.cid = cid;
        record.create_time_ns = now_ns();
        touch(&mut record);
        let counters = Counters::of(&record);
        let counters_key = keys::counters(record.cid);
        let mut batch = sled::Batch::default();
        batch.insert(keys::NEXT_CID, codec::pack(keys::NEXT_CID, &next));
        batch.insert(counters_key.as_slice(), codec::pack(&counters_key, &counters));
        batch.insert(key.as_slice(), codec::pack(&key, &record));
        prepare(&record);
        live.apply(batch)?;
        live.sync()?;
        Ok(record)
    }

    /// A collection by name.
    pub fn get_collection(&self, name: &str) -> Result<CollectionRecord> {
        let key = keys::collection(name);
        let value = self.live().get(&key)?.ok_or_else(|| unknown_collection(format!("{name:?}")))?;
        codec::unpack(&key, &value)
    }

    /// All collections by name. One whose record is damaged is left out and logged: the others go on.
    pub fn list_collections(&self) -> Result<Vec<CollectionRecord>> {
        let mut readable = Vec::new();
        for (name, record) in read_all(&self.live())? {
            match record {
                Ok(record) => readable.push(record),
                Err(error) => tracing::error!(collection = name, %error, "a collection is left out"),
            }
        }
        Ok(readable)
    }

    /// Names of all collections; [`Store::get_collection`] tells which of them are damaged.
    pub fn collection_names(&self) -> Result<Vec<String>> {
        Ok(read_all(&self.live())?.into_iter().map(|(name, _)| name).collect())
    }

    /// Changes a collection's record; name, number, dimensions and creation time stay. With an etag given,
    /// only if it is still the record's; without, whatever others have changed meanwhile. `change` gets the record of
    /// the moment, which nobody else can change before it is stored, and may refuse.
    pub fn update_collection(
        &self,
        name: &str,
        etag: Option<&str>,
        change: impl FnOnce(&mut CollectionRecord) -> Result<()>,
    ) -> Result<CollectionRecord> {
        let _writer = self.inner.writer.lock();
        self.inner.check_little_room()?;
        let live = self.inner.settled()?;
        let old = self.get_collection(name)?;
        check_etag(&old, etag)?;
        let mut new = old.clone();
        change(&mut new)?;
        new.cid = old.cid;
        new.name = old.name;
        new.dimensions = old.dimensions;
        new.create_time_ns = old.create_time_ns;
        new.update_time_ns = old.update_time_ns;
        touch(&mut new);
        let key = keys::collection(name);
        live.put(&key, codec::pack(&key, &new))?;
        live.sync()?;
        Ok(new)
    }

    /// Deletes a collection and all that is in it. Once its record is gone it is deleted, even if the
    /// program stops before the rest is: that is done at the next open. Where it is read, the rest goes with the last
    /// reader. One that holds documents is only deleted with `force`.
    pub fn delete_collection(&self, name: &str, etag: Option<&str>, force: bool) -> Result<CollectionRecord> {
        let writer = self.inner.writer.lock();
        self.inner.check_little_room()?;
        let live = self.inner.settled()?;
        let record = self.get_collection(name)?;
        check_etag(&record, etag)?;
        let (documents, _) = self.counts(record.cid)?;
        if documents > 0 && !force {
            return Err(Error::precondition(
                "COLLECTION_NOT_EMPTY",
                format!("collection {name} holds {documents} documents: set force to delete it all the same"),
            ));
        }
        let mut batch = sled::Batch::default();
        batch.remove(keys::collection(name));
        batch.remove(keys::counters(record.cid));
        live.apply(batch)?;
        live.sync()?;
        drop(writer);
        if self.inner.readers.retire(record.cid) {
            readers::delete(&self.inner, record.cid);
        }
        Ok(record)
    }
}

/// Makes the counters again where they are damaged, and adds what an older program did not write down.
pub(super) fn repair_counters(live: &Live) -> Result<()> {
    let next = live.get(keys::NEXT_CID)?;
    if next.is_none_or(|value| codec::unpack::<Number>(keys::NEXT_CID, &value).is_err()) {
        let next = cids(live)?.last().map_or(1, |cid| u64::from(*cid) + 1);
        live.put(keys::NEXT_CID, codec::pack(keys::NEXT_CID, &Number { value: next }))?;
        live.sync()?;
        tracing::warn!(next, "the next collection number was damaged; it was found again");
    }
    for record in read_all(live)?.into_iter().filter_map(|(_, record)| record.ok()) {
        commit::repair_counters(live, &record)?;
        let used = commit::numbers_used(live, record.cid)?;
        if used > MANY_USED {
            tracing::warn!(
                collection = record.name,
                used,
                "its document numbers run out: {}",
                commit::RENUMBER
            );
        }
    }
    Ok(())
}

/// Numbers of collections that have rows.
fn cids(live: &Live) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for kind in keys::OWNED {
        let mut start = vec![kind];
        while let Some((key, _)) = live.from(&start).next().transpose()? {
            let Some(cid) = keys::cid_of(&key).filter(|_| key.first() == Some(&kind)) else { break };
            found.insert(cid);
            let Some(next) = cid.checked_add(1) else { break };
            start = keys::owned(kind, next);
        }
    }
    Ok(found)
}

/// Deletes what was kept for readers, and what belongs to collections that are gone. While a collection's record is damaged nobody can
/// tell what is its, so nothing is deleted.
pub(super) fn purge_orphans(live: &Live) -> Result<()> {
    versions::drop_all(live)?;
    let records: Result<Vec<CollectionRecord>> =
        read_all(live)?.into_iter().map(|(_, record)| record).collect();
    let Ok(records) = records else { return Ok(()) };
    let known: BTreeSet<u32> = records.into_iter().map(|record| record.cid).collect();
    let orphans = cids(live)?.into_iter().filter(|cid| !known.contains(cid));
    orphans.into_iter().try_for_each(|cid| purge(live, cid))
}

/// A number for a new collection, and what is to be stored as the next one.
pub(super) fn next_cid(live: &Live) -> Result<(u32, Number)> {
    let next = live.get(keys::NEXT_CID)?.ok_or_else(|| codec::damaged(keys::NEXT_CID, "it is missing"))?;
    let next: Number = codec::unpack(keys::NEXT_CID, &next)?;
    let cid = u32::try_from(next.value)
        .map_err(|_| Error::precondition("TOO_MANY_COLLECTIONS", "every collection number has been used"))?;
    Ok((cid, Number { value: next.value + 1 }))
}

/// Deletes all that belongs to a collection's number.
pub(super) fn purge(live: &Live, cid: u32) -> Result<()> {
    keys::OWNED.iter().try_for_each(|&kind| live.purge(&keys::owned(kind, cid)))?;
    live.sync()
}

/// Every collection's name with its record, or that this is damaged.
pub(super) fn read_all(live: &Live) -> Result<Vec<(String, Result<CollectionRecord>)>> {
    let unpack = |(key, value): (Vec<u8>, Vec<u8>)| (keys::name_of(&key), codec::unpack(&key, &value));
    live.prefix(&[keys::COLLECTION]).map(|item| Ok(unpack(item?))).collect()
}

/// Gives a record a new time of change and etag.
pub(super) fn touch(record: &mut CollectionRecord) {
    record.update_time_ns = now_ns().max(record.update_time_ns.saturating_add(1));
    record.etag = format!("{:x}", record.update_time_ns);
}

fn check_etag(record: &CollectionRecord, etag: Option<&str>) -> Result<()> {
    match etag {
        Some(etag) if etag != record.etag => Err(Error::precondition(
            "ETAG_MISMATCH",
            format!(
                "collection {:?} has changed: expected etag {etag:?}, it is {:?}",
                record.name, record.etag
            ),
        )),
        _ => Ok(()),
    }
}

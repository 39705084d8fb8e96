//! Brings a store to the present layout, one ordered step after the other.

use super::{codec, keys, live::Live};
use crate::error::{Error, Result};

#[path = "../../migrations/v0001_initial.rs"]
mod v0001_initial;

type Step = fn(&Target<'_>) -> Result<()>;

/// Step `n` (from zero) leads to version `n + 1`. A step may run again after a crash half-way.
const STEPS: &[Step] = &[v0001_initial::apply];

/// The schema version that this program writes.
pub const SCHEMA_VERSION: u32 = STEPS.len() as u32;

/// What a step may touch.
pub struct Target<'a>(&'a Live);

impl Target<'_> {
    fn start_collection_numbers(&self) -> Result<()> {
        if self.0.get(keys::NEXT_CID)?.is_some() {
            return Ok(());
        }
        self.0.put(keys::NEXT_CID, codec::pack(keys::NEXT_CID, &codec::Number { value: 1 }))
    }
}

/// The schema version of a store; zero for an empty one.
pub fn version(live: &Live) -> Result<u64> {
    match live.get(keys::SCHEMA)? {
        Some(value) => Ok(codec::unpack::<codec::Number>(keys::SCHEMA, &value)?.value),
        None => Ok(0),
    }
}

/// Runs the steps that are missing; refuses a store of a newer program.
pub fn run(live: &Live) -> Result<()> {
    let version = version(live)?;
    let newest = STEPS.len() as u64;
    if version > newest {
        return Err(Error::precondition(
            "SCHEMA_TOO_NEW",
            format!(
                "the store has schema version {version}, this program knows versions up to {newest}: use a newer program"
            ),
        ));
    }
    for (done, step) in (0u64..).zip(STEPS).skip(version as usize) {
        step(&Target(live))?;
        live.put(keys::SCHEMA, codec::pack(keys::SCHEMA, &codec::Number { value: done + 1 }))?;
        live.sync()?;
    }
    Ok(())
}

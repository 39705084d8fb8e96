//! Version 1: the first layout.

use super::Target;
use crate::error::Result;

/// Starts the count of collections. Running it again changes nothing.
pub fn apply(target: &Target<'_>) -> Result<()> {
    target.start_collection_numbers()
}

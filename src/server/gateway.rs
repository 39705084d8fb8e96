//! The gateway of HTTP, with what it needs of the server.

use std::path::Path;
use std::sync::Arc;

use trove_gateway::{Gateway, Options};

use crate::config::Config;
use crate::error::Result;
use crate::extract;
use crate::grpc::ALLOWANCE;
use crate::proto::FILE_DESCRIPTOR_SET;

/// Most bytes of a body of JSON: as it is read it takes several times its length.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The gateway by the settings.
///
/// # Errors
/// `BAD_DESCRIPTORS` where the API is not what the routes expect.
pub(super) fn new(config: &Config) -> Result<Arc<Gateway>> {
    let options = Options {
        max_body_bytes: config.limits.max_message_bytes.min(MAX_BODY_BYTES),
        room: Arc::new(room),
        media_type_of: |name, bytes| extract::media_type_of(Path::new(name), bytes),
        is_local: config.listen.ip().to_canonical().is_loopback(),
        origins: config.http.origins.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    Gateway::new(FILE_DESCRIPTOR_SET, options)
}

/// Room of the call whose body is read, which the guard has admitted.
fn room(bytes: usize) -> Result<Box<dyn Send>> {
    match ALLOWANCE.try_with(|allowance| allowance.part(bytes)) {
        Ok(part) => Ok(Box::new(part?)),
        // Calls that the program makes by itself have no allowance.
        Err(_) => Ok(Box::new(())),
    }
}

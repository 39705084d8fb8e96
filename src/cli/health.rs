//! `trove health`.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::client::Client;
use super::{EXIT_FAILED, EXIT_OK, output};

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server for its health: fine while it serves.
pub async fn run(client: &Client, json: bool) -> Result<i32> {
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(TIMEOUT);
    let status = client.health().check(request).await?.into_inner().status();
    if json {
        output::print_json(&json!({"status": status.as_str_name()}))?;
    } else {
        output::line(status.as_str_name().to_ascii_lowercase().replace('_', " "))?;
    }
    Ok(if status == ServingStatus::Serving { EXIT_OK } else { EXIT_FAILED })
}

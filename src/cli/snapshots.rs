//! `trove snapshots`.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::{EXIT_FAILED, EXIT_OK, damage, output};
use crate::proto::{
    CreateSnapshotRequest, DeleteSnapshotRequest, ListSnapshotsRequest, RestoreSnapshotRequest, Snapshot,
    VerifySnapshotRequest,
};

/// Commands on snapshots.
#[derive(Debug, Clone, Subcommand)]
pub enum SnapshotsCommand {
    /// Write a snapshot of some collections or all, as they are now.
    Create {
        /// Its name: letters, digits, '-' and '_'; left out, one made of the time.
        name: Option<String>,
        /// Collection; can be given several times. Left out, all.
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
    },
    /// List snapshots, the newest first.
    List,
    /// Read a whole snapshot and check everything in it.
    Verify {
        /// Its name.
        name: String,
    },
    /// Put a snapshot's collections in the place of those that have their names now.
    Restore {
        /// Its name.
        name: String,
        /// Collection of the snapshot; can be given several times. Left out, all.
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
    },
    /// Delete a snapshot.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Runs a command on snapshots.
pub async fn run(client: &Client, json: bool, command: SnapshotsCommand) -> Result<i32> {
    let mut service = client.admin();
    match command {
        SnapshotsCommand::Create { name, collections } => {
            let request = CreateSnapshotRequest { collections, name: name.unwrap_or_default() };
            let snapshot = service.create_snapshot(request).await?.into_inner().snapshot.unwrap_or_default();
            show(json, &snapshot)?;
            let code = damage::collections(&snapshot.damaged_collections, "is not in the snapshot");
            if snapshot.left_out_count > 0 {
                output::note(format!(
                    "error: {} documents are damaged and were left out; the server's log names them",
                    snapshot.left_out_count
                ));
                return Ok(EXIT_FAILED);
            }
            Ok(code)
        }
        SnapshotsCommand::List => list(client, json).await,
        SnapshotsCommand::Verify { name } => {
            let request = VerifySnapshotRequest { name };
            let snapshot = service.verify_snapshot(request).await?.into_inner().snapshot.unwrap_or_default();
            show(json, &snapshot)?;
            Ok(EXIT_OK)
        }
        SnapshotsCommand::Restore { name, collections } => {
            let request = RestoreSnapshotRequest { name, collections };
            let restored = service.restore_snapshot(request).await?.into_inner();
            if json {
                output::print_json(
                    &json!({"restored": restored.collections, "missing_models": restored.missing_models}),
                )?;
            } else {
                output::line(format!("restored {}", restored.collections.join(", ")))?;
            }
            for model in restored.missing_models {
                output::note(format!(
                    "warning: the server has not loaded {model}: until it has, collections of it cannot be searched"
                ));
            }
            Ok(EXIT_OK)
        }
        SnapshotsCommand::Delete { name } => {
            service.delete_snapshot(DeleteSnapshotRequest { name: name.clone() }).await?;
            if json {
                output::print_json(&json!({"deleted": name}))?;
            } else {
                output::line(format!("deleted snapshot {name}"))?;
            }
            Ok(EXIT_OK)
        }
    }
}

async fn list(client: &Client, json: bool) -> Result<i32> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSnapshotsRequest { page_size: 1000, page_token };
        let response = client.admin().list_snapshots(request).await?.into_inner();
        all.extend(response.snapshots);
        if response.next_page_token.is_empty() {
            break;
        }
        page_token = response.next_page_token;
    }
    if json {
        output::print_json(&all.iter().map(snapshot_json).collect::<Value>())?;
        return Ok(EXIT_OK);
    }
    if all.is_empty() {
        output::line("no snapshots; `trove snapshots create` makes one")?;
        return Ok(EXIT_OK);
    }
    let rows = all
        .into_iter()
        .map(|s| {
            let origin = if s.scheduled { "schedule" } else { "manual" };
            [
                s.name,
                output::short_timestamp(s.create_time.as_ref()),
                origin.to_owned(),
                s.size_bytes.to_string(),
                s.document_count.to_string(),
                if s.problem.is_empty() { s.collections.join(", ") } else { s.problem },
            ]
        })
        .collect();
    output::print_table(["name", "created", "made by", "bytes", "documents", "collections"], rows)?;
    Ok(EXIT_OK)
}

fn show(json: bool, snapshot: &Snapshot) -> Result<()> {
    if json {
        return output::print_json(&snapshot_json(snapshot));
    }
    output::print_fields(&[
        ("name", snapshot.name.clone()),
        ("collections", snapshot.collections.join(", ")),
        ("documents", snapshot.document_count.to_string()),
        ("passages", snapshot.passage_count.to_string()),
        ("left out", snapshot.left_out_count.to_string()),
        ("bytes", snapshot.size_bytes.to_string()),
        ("blake3", snapshot.checksum.clone()),
        ("created", output::short_timestamp(snapshot.create_time.as_ref())),
    ])
}

fn snapshot_json(s: &Snapshot) -> Value {
    json!({"name": s.name, "collections": s.collections, "size_bytes": s.size_bytes, "checksum": s.checksum,
        "create_time": s.create_time.as_ref().map(output::timestamp), "scheduled": s.scheduled,
        "document_count": s.document_count, "passage_count": s.passage_count,
        "left_out_count": s.left_out_count, "damaged_collections": s.damaged_collections, "problem": s.problem})
}

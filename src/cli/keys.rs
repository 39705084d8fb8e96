//! `trove keys`: works on the data directory of this machine; a server that runs reads the file again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::config::LocalArgs;
use super::failure::{Usage, told};
use super::{EXIT_OK, output};
use crate::access::{KeyFile, KeyRecord, NewKey, Scope};
use crate::domain::CollectionName;

/// Arguments of `keys`.
#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// Where the data directory is.
    #[command(flatten)]
    pub local: LocalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    /// Search, read and embed.
    Read,
    /// Also put documents in and take them out.
    Write,
    /// Also manage collections and the server.
    Admin,
}

/// Commands on API keys. A server that runs heeds every change at the next call.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once. From the first key on the server is closed to all who have none.
    Create {
        /// Name, for people.
        #[arg(long)]
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        scope: ScopeArg,
        /// Only this collection; can be given several times.
        #[arg(long = "collection", value_name = "NAME")]
        collections: Vec<String>,
        /// How long it holds, such as 90d, 12h or 30m; left out, until it is revoked.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
    /// List the keys; the keys themselves are not stored.
    List,
    /// Revoke a key.
    Revoke {
        /// Id or name.
        key: String,
    },
}

/// Makes, lists or revokes keys.
pub fn run(json: bool, args: KeysArgs) -> Result<i32> {
    let config = args.local.load().map_err(told)?;
    let file = KeyFile::in_dir(&config.data_dir);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    match args.command {
        KeysCommand::Create { name, scope, collections, expires_in } => {
            let lifetime = expires_in.as_deref().map(lifetime).transpose()?;
            let collections =
                collections.into_iter().map(CollectionName::new).collect::<Result<_, _>>().map_err(told)?;
            let scope = match scope {
                ScopeArg::Read => Scope::Read,
                ScopeArg::Write => Scope::Write,
                ScopeArg::Admin => Scope::Admin,
            };
            let is_first = file.read().map_err(told)?.is_none();
            let new = NewKey { name, scope, collections, lifetime };
            let (key, record) = file.create(new, now).map_err(told)?;
            if json {
                let mut shown = record_json(&record, now);
                shown["key"] = json!(key.reveal());
                output::print_json(&shown)?;
                return Ok(EXIT_OK);
            }
            output::line(key.reveal())?;
            output::note("this is shown once; keep it where the client reads it, such as in TROVE_API_KEY");
            if is_first {
                output::note("from now on the server refuses calls without a key");
            }
        }
        KeysCommand::List => {
            let keys = file.read().map_err(told)?.unwrap_or_default();
            if json {
                let keys: Vec<_> = keys.iter().map(|key| record_json(key, now)).collect();
                output::print_json(&json!({ "keys": keys }))?;
                return Ok(EXIT_OK);
            }
            if keys.is_empty() {
                output::note(format!("no keys in {}: the server is open to all", config.data_dir.display()));
                return Ok(EXIT_OK);
            }
            let rows = keys.iter().map(|key| {
                let collections = key.collections.as_ref().map_or("all".to_owned(), |names| names.join(", "));
                let expires = key.expire_time.map_or("never".to_owned(), time);
                let scope = key.scope.name().to_owned();
                let (created, status) = (time(key.create_time), status(key, now).to_owned());
                [key.id.clone(), key.name.clone(), scope, collections, created, expires, status]
            });
            let header = ["id", "name", "scope", "collections", "created", "expires", "status"];
            output::print_table(header, rows.collect())?;
        }
        KeysCommand::Revoke { key } => {
            let record = file.revoke(&key, now).map_err(told)?;
            if json {
                output::print_json(&record_json(&record, now))?;
                return Ok(EXIT_OK);
            }
            output::line(format!("revoked {} ({})", record.name, record.id))?;
        }
    }
    Ok(EXIT_OK)
}

fn status(key: &KeyRecord, now: u64) -> &'static str {
    match key.revoke_time {
        Some(_) => "revoked",
        None if key.is_expired(now) => "expired",
        None => "active",
    }
}

fn record_json(key: &KeyRecord, now: u64) -> Value {
    json!({
        "id": key.id, "name": key.name, "scope": key.scope.name(), "collections": key.collections,
        "create_time": rfc3339(key.create_time), "expire_time": key.expire_time.map(rfc3339),
        "revoke_time": key.revoke_time.map(rfc3339), "status": status(key, now),
    })
}

fn timestamp(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 }
}

fn rfc3339(seconds: u64) -> String {
    output::timestamp(&timestamp(seconds))
}

fn time(seconds: u64) -> String {
    output::short_timestamp(Some(&timestamp(seconds)))
}

/// A number and a unit: m, h, d or w.
fn lifetime(text: &str) -> Result<Duration> {
    let expected = || Usage(format!("--expires-in: expected a time such as 90d, 12h or 30m, got {text:?}"));
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(expected)?;
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        _ => return Err(expected().into()),
    };
    let amount = digits.parse::<u32>().ok().filter(|amount| *amount > 0).ok_or_else(expected)?;
    Ok(Duration::from_secs(u64::from(amount) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_a_number_and_a_unit() {
        let seconds = |text| lifetime(text).ok().map(|time| time.as_secs());
        assert_eq!(seconds("90d"), Some(90 * 86_400));
        assert_eq!(seconds("12h"), Some(43_200));
        assert_eq!(seconds("30m"), Some(1800));
        assert_eq!(seconds("2w"), Some(1_209_600));
        for bad in ["", "d", "90", "0d", "-1d", "1.5h", "4294967296d", "9é", "1s"] {
            assert_eq!(seconds(bad), None, "{bad:?}");
        }
    }
}

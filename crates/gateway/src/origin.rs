//! Which pages may call: those that the server itself sent, and those of origins that the settings name.

use http::uri::Authority;

/// Whether an `Origin` header names the host that was called.
pub fn is_same(origin: &str, host: &str) -> bool {
    let Some((_, rest)) = origin.split_once("://") else { return false };
    rest.eq_ignore_ascii_case(host)
}

/// Whether a `Host` header names this machine: `localhost`, or an address of the loopback.
pub fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost") {
        return true;
    }
    name.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for local in
            ["localhost", "LOCALHOST:7700", "127.0.0.1", "127.0.0.1:80", "[::1]:7700", "[::ffff:127.0.0.1]:1"]
        {
            assert!(is_local(local), "{local}");
        }
        for foreign in
            ["", "evil.example", "localhost.evil.example", "10.0.0.1:7700", "a b", "127.0.0.1.evil.example"]
        {
            assert!(!is_local(foreign), "{foreign}");
        }
    }

    #[test]
    fn an_origin_is_that_of_the_host() {
        assert!(is_same("https://Search.example:443", "search.example:443"));
        assert!(!is_same("null", "127.0.0.1") && !is_same("http://127.0.0.1:8000", "127.0.0.1:7700"));
    }
}

//! Addresses of other servers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::Uri;

use super::value::Text;

/// An absolute `https` or `http` URL without a user or password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(pub(crate) Uri);

impl Url {
    /// Whether nobody on the way can read or change what goes there: `https`, or this machine.
    pub(crate) fn is_private(&self) -> bool {
        self.0.scheme_str() == Some("https") || self.is_loopback()
    }

    fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Debug for Url {
    /// Without path and query, which may hold a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It has no user and password, so that this is the host with its port.
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}", self.0.scheme_str().unwrap_or_default())
    }
}

impl Text for Url {
    fn accepts() -> String {
        r#"a URL such as "https://example.com/path""#.into()
    }

    /// Without path and query, as in its `Debug` form.
    fn shown(text: &str) -> String {
        let url = text.parse::<Self>();
        url.map_or_else(
            |_| String::new(),
            |url| if url.0.path() == "/" && url.0.query().is_none() { text.into() } else { format!("{url:?}/…") },
        )
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| String::new())?;
        let authority = uri.authority().ok_or_else(String::new)?;
        match uri.scheme_str() {
            Some("https" | "http") if authority.host().is_empty() => Err(String::new()),
            Some("https" | "http") if authority.as_str().contains('@') => {
                Err("it has a user or password, which URLs here may not have".into())
            }
            Some("https" | "http") => Ok(Self(uri)),
            _ => Err(r#"it begins with neither "https://" nor "http://""#.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        /// `None`: refused; otherwise whether it is private.
        #[track_caller]
        fn check(text: &str, private: Option<bool>) {
            assert_eq!(text.parse::<Url>().ok().map(|url| url.is_private()), private, "{text}");
        }
        check("https://example.com/keys?x=1", Some(true));
        check("http://example.com/keys", Some(false));
        check("http://127.0.0.1:5/keys", Some(true));
        check("http://[::1]:5/keys", Some(true));
        check("http://localhost/keys", Some(true));
        check("http://localhost.example.com/keys", Some(false));
        check("http://127.0.0.1.example.com/keys", Some(false));
        check("https://user:password@example.com/", None);
        check("http://localhost@example.com/", None);
        check("ftp://example.com/", None);
        check("file:///etc/keys", None);
        check("/keys", None);
        check("example.com/keys", None);
        check("", None);
        for (text, shown) in [("https://a.b/key?secret", "https://a.b"), ("http://a.b:8080/key", "http://a.b:8080")] {
            assert_eq!(format!("{:?}", text.parse::<Url>().unwrap()), shown);
        }
    }
}

//! Who is asked for certificates, and as whom.

use std::path::PathBuf;

/// Directories that are known by name.
pub const DIRECTORIES: [(&str, &str); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// URL of the CA's directory.
    pub directory: String,
    /// It was given by its URL: it may know names that nobody else does.
    pub own_directory: bool,
    /// Certificates (PEM) that the directory's may come from; none: those of the system.
    pub ca: Option<PathBuf>,
    /// For the account.
    pub email: Option<String>,
    /// Kind of certificate, of those that the directory offers (draft-ietf-acme-profiles); none: the CA's choice.
    pub profile: Option<String>,
    pub binding: Option<Binding>,
}

/// An account elsewhere that the CA knows (RFC 8555 section 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub id: String,
    /// File with the HMAC key, base64.
    pub key: PathBuf,
}

/// Of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    pub url: String,
    /// It was not called by a name that is known here.
    pub own: bool,
}

impl Options {
    pub(crate) fn contact(&self) -> Vec<String> {
        self.email.iter().map(|email| format!("mailto:{email}")).collect()
    }
}

/// A name of [`DIRECTORIES`], or a URL.
pub fn parse_directory(text: &str) -> Result<Directory, String> {
    if let Some((_, url)) = DIRECTORIES.iter().find(|(name, _)| *name == text) {
        return Ok(Directory { url: (*url).to_owned(), own: false });
    }
    let names: Vec<&str> = DIRECTORIES.iter().map(|(name, _)| *name).collect();
    let uri = text.parse::<http::Uri>().ok();
    let is_url = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.authority().is_some());
    // Whoever writes the URL of a known one means that one.
    let own = !DIRECTORIES.iter().any(|(_, url)| *url == text);
    match is_url {
        true => Ok(Directory { url: text.to_owned(), own }),
        false => Err(format!("`{text}` is neither a URL nor one of {}", names.join(", "))),
    }
}

/// The name of a profile: what a CA could call one.
pub fn parse_profile(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| text.to_owned()).ok_or_else(|| format!("`{text}` is not the name of a profile, such as shortlived"))
}

/// An address that a CA takes.
pub fn parse_email(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '?' | '<' | '>' | '"');
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && text.chars().all(is_plain) => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not an e-mail address")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn directories_have_names() {
        let staging = parse_directory("letsencrypt-staging").unwrap();
        assert_eq!((staging.url.as_str(), staging.own), (DIRECTORIES[1].1, false));
        assert!(!parse_directory(DIRECTORIES[0].1).unwrap().own);
        assert!(parse_directory("https://ca.internal:14000/dir").unwrap().own);
        for wrong in ["letsencript", "ca.example/dir", "ftp://ca.example", "https://"] {
            assert!(parse_directory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn profiles_are_words() {
        assert_eq!(parse_profile("shortlived").unwrap(), "shortlived");
        for wrong in ["", "two words", &"x".repeat(65)] {
            assert!(parse_profile(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_of_people() {
        assert!(parse_email("a.b@c.example").is_ok());
        for wrong in ["a", "@b", "a@", "a b@c", "mailto:<a@b>"] {
            assert!(parse_email(wrong).is_err(), "{wrong}");
        }
    }
}

//! A downloaded package and the names apt gives its file.

use super::AptError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A downloaded package file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deb {
    pub(crate) package: Package,
    pub(crate) path: PathBuf,
}

/// A package that an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its Debian version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// SHA-256 of the package file, in hex.
    pub sha256: String,
}

impl Deb {
    /// The package in `path`, which apt named `file_name`; `None` when that is no package's name.
    pub(super) fn new(file_name: &str, path: PathBuf, sha256: String) -> Option<Self> {
        let (name, version, architecture) = parse_file_name(file_name)?;
        Some(Self { package: Package { name, version, architecture, sha256 }, path })
    }
}

/// Takes `name_version_arch.deb` apart. apt writes the colon of an epoch as `%3a`.
pub(super) fn parse_file_name(file_name: &str) -> Option<(String, String, String)> {
    let mut parts = file_name.strip_suffix(".deb")?.split('_');
    let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && ![name, version, architecture].contains(&"");
    whole.then(|| (name.to_owned(), version.replace("%3a", ":"), architecture.to_owned()))
}

/// The file name in a line of `apt-get --print-uris`: `'URI' FILE SIZE HASH`.
pub(super) fn listed_file(line: &str) -> Result<String, AptError> {
    line.split(' ')
        .nth(1)
        .filter(|file| file.ends_with(".deb") && !file.contains('/'))
        .map(str::to_owned)
        .ok_or_else(|| AptError::Listing(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_holds_name_version_and_architecture() {
        let (name, version, architecture) =
            parse_file_name("zlib1g_1%3a1.2.13.dfsg-1_amd64.deb").unwrap();
        assert_eq!((name.as_str(), version.as_str()), ("zlib1g", "1:1.2.13.dfsg-1"));
        assert_eq!(architecture, "amd64");
        for bad in ["", "zlib1g.deb", "a_b.deb", "a_b_c_d.deb", "a__c.deb", "a_b_c.udeb"] {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_listed_line_names_a_file_without_a_path() {
        let line = "'http://deb.debian.org/debian/pool/m/x_1_all.deb' x_1_all.deb 123 SHA256:00";
        assert_eq!(listed_file(line).unwrap(), "x_1_all.deb");
        for bad in ["", "E: nothing", "'u' ../x_1_all.deb 1", "'u' x.tar 1"] {
            assert!(listed_file(bad).is_err(), "{bad}");
        }
    }
}

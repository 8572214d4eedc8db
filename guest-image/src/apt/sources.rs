//! Finds the Debian mirrors the host already uses, so that private networks and local mirrors just work.
//!
//! Reads both formats of apt's sources: one line per source (`sources.list`) and deb822 stanzas (`*.sources`). What
//! is found is only a place to download from; what is downloaded must carry Debian's signature all the same.

use std::fs;
use std::path::Path;

/// Debian's public default, for hosts whose sources name no Debian mirror.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";

/// Releases whose presence in a source marks it as a candidate for a Debian mirror.
const RELEASES: [&str; 9] = [
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "stable",
    "oldstable",
    "testing",
    "unstable",
    "bullseye",
];

/// Where to download Debian packages from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mirrors {
    archive: String,
    security: String,
}

impl Mirrors {
    /// The mirrors that the apt configuration in `etc` names, else the public ones.
    pub(super) fn of_host(etc: &Path) -> Self {
        let mut sources = read(&etc.join("sources.list"), one_line_sources);
        let mut files: Vec<_> = fs::read_dir(etc.join("sources.list.d"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|e| e.to_str()) {
                Some("list") => sources.extend(read(&file, one_line_sources)),
                Some("sources") => sources.extend(read(&file, stanzas)),
                _ => {}
            }
        }
        Self::of_sources(&sources)
    }

    fn of_sources(sources: &[Source]) -> Self {
        let find = |wanted: fn(&str) -> bool, folder| {
            sources
                .iter()
                .filter(|source| source.components.iter().any(|c| c == "main"))
                .filter(|source| source.suites.iter().any(|suite| wanted(suite)))
                .flat_map(|source| &source.uris)
                .find(|uri| ends_in_folder(uri, folder))
                .cloned()
        };
        let archive = |suite: &str| {
            let release = suite.strip_suffix("-updates").unwrap_or(suite);
            RELEASES.contains(&release)
        };
        Self {
            archive: find(archive, "debian").unwrap_or_else(|| ARCHIVE.to_owned()),
            security: find(|suite| suite.ends_with("-security"), "debian-security")
                .unwrap_or_else(|| SECURITY.to_owned()),
        }
    }

    /// The sources of one release as a deb822 file.
    pub(super) fn sources(&self, suite: &str, keyring: &str) -> String {
        let stanza = |uri: &str, suites: &str| {
            format!(
                "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nArchitectures: amd64\n\
                 Targets: Packages\nSigned-By: {keyring}\n\n"
            )
        };
        let mut file = stanza(&self.archive, &format!("{suite} {suite}-updates"));
        file.push_str(&stanza(&self.security, &format!("{suite}-security")));
        file
    }
}

/// Whether a URI is a mirror's folder of that name. Third parties also publish suites named `bookworm`, but in
/// folders of their own; cloud images name a list of mirrors (`mirror+file:/etc/apt/mirrors/debian.list`).
fn ends_in_folder(uri: &str, folder: &str) -> bool {
    let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri);
    last.strip_suffix(".list").unwrap_or(last) == folder && !uri.starts_with("cdrom:")
}

/// One source of binary packages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
}

fn read(file: &Path, parse: fn(&str) -> Vec<Source>) -> Vec<Source> {
    fs::read_to_string(file).map(|text| parse(&text)).unwrap_or_default()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Parses `deb [option=value ...] URI suite component...` lines.
fn one_line_sources(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line_source).collect()
}

fn one_line_source(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?.strip_prefix(char::is_whitespace)?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut parts = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![parts.next()?],
        suites: vec![parts.next()?],
        components: parts.collect(),
    })
}

/// Parses deb822 stanzas: `Field: words`, continued by indented lines, `#` comments, blank lines between stanzas.
fn stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let fields = fields(stanza);
        let field = |name: &str| {
            fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, v)| v)
        };
        let disabled = field("Enabled").trim().eq_ignore_ascii_case("no");
        if !disabled && field("Types").split_whitespace().any(|t| t == "deb") {
            sources.push(Source {
                uris: words(field("URIs")),
                suites: words(field("Suites")),
                components: words(field("Components")),
            });
        }
    }
    sources
}

fn fields(stanza: &[&str]) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    fields
}

#[cfg(test)]
mod tests;

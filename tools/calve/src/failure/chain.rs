//! An error and its sources in one line.

use std::error::Error;
use std::io;

/// Joins an error and its sources with `: `.
///
/// What stands behind the last `; ` of a message is its remedy: it goes to the end of the line, behind the causes. A
/// source that repeats what is already said is left out, line breaks become spaces.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    let mut said = String::new();
    let mut remedies: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = flat(&error.to_string());
        let (what, remedy) = match text.rsplit_once("; ") {
            Some((what, remedy)) => (what, Some(remedy)),
            None => (text.as_str(), None),
        };
        if !said.contains(what) {
            if !said.is_empty() {
                said.push_str(": ");
            }
            said.push_str(what);
        }
        remedies
            .extend(remedy.filter(|r| !remedies.iter().any(|known| known == r)).map(Into::into));
        next = error.source();
    }
    if remedies.is_empty() && is_full(error) {
        remedies.push("free some space".into());
    }
    for remedy in remedies {
        said.push_str("; ");
        said.push_str(&remedy);
    }
    said
}

/// Whether a full disk or quota is at the bottom of it.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// One line without control characters: parts of a message may come from a guest.
pub(crate) fn flat(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

//! Rules about single files: size, opening, words, and where `unsafe` must not be.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// The most lines of a source file; near 200 is better.
const MOST_LINES: usize = 600;
/// The most bytes of any file: nothing built, downloaded or recorded belongs here.
const MOST_BYTES: u64 = 1 << 20;
/// Paths of somebody's machine. In pieces, so that this file may be checked too.
const MACHINE_PATHS: [&str; 3] =
    [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
/// Rooms in which no code is `unsafe`.
const SAFE_ROOMS: [&str; 1] = ["manager/"];
/// What opts a module out of the workspace's lint.
const UNSAFE: &str = concat!("allow(unsafe", "_code)");

/// Checks every tracked file.
pub(super) fn check(root: &Path, tracked: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut violations = Vec::new();
    for path in tracked {
        let file = root.join(path);
        let read = || format!("cannot read {}", file.display());
        let bytes = fs::metadata(&file).with_context(read)?.len();
        if bytes > MOST_BYTES {
            violations
                .push(format!("{path} has {bytes} bytes: nothing over {MOST_BYTES} belongs here"));
            continue;
        }
        let contents = fs::read(&file).with_context(read)?;
        match String::from_utf8(contents) {
            Ok(text) => violations.extend(check_text(path, &text)),
            Err(_) => {
                violations.push(format!("{path} is no text: generate it or fetch it instead"));
            }
        }
    }
    Ok(violations)
}

fn check_text(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in MACHINE_PATHS.iter().filter(|word| line.contains(*word)) {
            violations
                .push(format!("{path}:{number} names {word}: no path of one machine belongs here"));
        }
    }
    if Path::new(path).extension().is_some_and(|extension| extension == "rs") {
        if !text.starts_with("//!") && !is_unit_test(path) {
            violations.push(format!("{path} does not open with `//!`: say what it is for"));
        }
        let lines = text.lines().count();
        if lines > MOST_LINES {
            violations
                .push(format!("{path} has {lines} lines: split it, {MOST_LINES} is the limit"));
        }
        if SAFE_ROOMS.iter().any(|room| path.starts_with(room)) && text.contains(UNSAFE) {
            violations.push(format!("{path} allows unsafe code: its room has none"));
        }
    }
    violations
}

/// A module of unit tests needs no opening: it is about its parent.
fn is_unit_test(path: &str) -> bool {
    let mut parts = path.split('/').skip_while(|part| *part != "src");
    parts.any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check_text(path, text).len()
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let good = "//! A module.\n";
        assert_eq!(found("vmm/src/lib.rs", good), 0);
        assert_eq!(found("vmm/src/lib.rs", "fn main() {}\n"), 1);
        assert_eq!(found("vmm/src/memory/tests.rs", "use super::*;\n"), 0);
        assert_eq!(found("vmm/tests/kvm_machine.rs", "use calve_vmm::*;\n"), 1);
        assert_eq!(found("README.md", "no opening needed\n"), 0);
        assert_eq!(found("README.md", &format!("cd {}me\n", MACHINE_PATHS[1])), 1);
        assert_eq!(found("vmm/src/lib.rs", &good.repeat(MOST_LINES)), 0);
        assert_eq!(found("vmm/src/lib.rs", &good.repeat(MOST_LINES + 1)), 1);
        let opted_out = format!("{good}#![{UNSAFE}]\n");
        assert_eq!(found("vmm/src/lib.rs", &opted_out), 0);
        assert_eq!(found("manager/src/lib.rs", &opted_out), 1);
    }

    #[test]
    fn large_and_binary_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        file("large", &vec![b'x'; 1 + usize::try_from(MOST_BYTES).unwrap()]);
        file("binary", b"\x7fELF\xff");
        file("text", b"fine\n");
        let found = check(folder.path(), &["large", "binary", "text"]).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}

use super::*;

fn refusal(result: Result<impl std::fmt::Debug, Failure>) -> String {
    match result.unwrap_err() {
        Failure::Told { status, line } => {
            assert_eq!(status as u8, 2);
            assert!(!line.contains('\n'), "{line}");
            line
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_is_taken_as_it_is() {
    for event in ["{}", " [1, 2.50] ", "null", "\"@x\"", "1e400"] {
        assert_eq!(read(event).unwrap(), event.as_bytes());
    }
}

#[test]
fn what_is_not_json_is_refused_with_the_place() {
    assert!(refusal(read("{\"a\": }")).starts_with("event is not JSON: expected value at line 1"));
    assert!(
        refusal(read("hello"))
            .ends_with("give a JSON text, such as '{}', or @FILE, or - for stdin")
    );
    assert!(refusal(read("{} {}")).contains("trailing characters"));
    refusal(read(""));
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(read(&deep).unwrap().len(), 1_000_000);
}

#[test]
fn files_are_read_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("e.json");
    let argument = format!("@{}", path.display());
    assert!(refusal(read(&argument)).contains("No such file"));
    assert!(refusal(read(&format!("@{}", dir.path().display()))).contains("directory"));

    let largest = format!("\"{}\"", "x".repeat(MAX_BODY - 2));
    std::fs::write(&path, &largest).unwrap();
    assert_eq!(read(&argument).unwrap().len(), MAX_BODY);
    std::fs::write(&path, format!("{largest} ")).unwrap();
    let line = refusal(read(&argument));
    assert!(line.contains("e.json is over 6 MiB"), "{line}");
}

#[test]
fn a_line_is_an_event() {
    let events = lines("f", &b"{\"a\":1}\n\n  \n2\r\n3"[..]).unwrap();
    assert_eq!(events, [&b"{\"a\":1}"[..], b"2\r", b"3"]);
    assert!(refusal(lines("f", &b"1\n{\n"[..])).starts_with("event in line 2 of f is not JSON"));
    assert!(refusal(lines("f", &b"\n"[..])).starts_with("no event in f"));
}

#[test]
fn a_line_is_bounded() {
    let mut long = vec![b' '; MAX_BODY + 1];
    long.push(b'1');
    assert!(refusal(lines("f", &long[..])).contains("line 1 of f is over 6 MiB"));
}

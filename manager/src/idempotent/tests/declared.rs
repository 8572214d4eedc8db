//! What functions and callers declare.

use super::*;

#[test]
fn a_policy_has_bounds() {
    assert_eq!(Idempotency::default().check(), Ok(()));
    for ttl_s in [0, 59, 2_592_001, u32::MAX] {
        let policy = Idempotency { ttl_s, ..Idempotency::default() };
        assert_eq!(policy.check(), Err(PolicyError::Ttl(ttl_s)));
    }
    let resources = |names: &[&str]| Idempotency {
        resources: names.iter().map(|&name| name.to_owned()).collect(),
        ..Idempotency::default()
    };
    assert_eq!(resources(&["a"; 64]).check(), Ok(()));
    assert_eq!(resources(&["a"; 65]).check(), Err(PolicyError::Many(65)));
    for name in ["prices/today.csv", "ä b", ".hidden", "..a/b..", "a.b"] {
        assert_eq!(resources(&[name]).check(), Ok(()), "{name:?}");
    }
    let long = "x".repeat(1025);
    for name in ["", "/a", "a/", "a//b", "../a", "a/..", "./a", ".", "a\0b", "a\tb", &long] {
        let refused = Err(PolicyError::Name(name.to_owned()));
        assert_eq!(resources(&["fine", name]).check(), refused);
    }
}

#[test]
fn a_policy_is_read_from_what_is_there() {
    let policy: Policy = serde_json::from_str("{}").unwrap();
    assert_eq!(policy.idempotency, None);
    let policy: Policy = serde_json::from_str(r#"{"idempotency":{"resources":["a"]}}"#).unwrap();
    let idempotency = policy.idempotency.clone().unwrap();
    assert_eq!((idempotency.ttl_s, idempotency.resources.as_slice()), (86_400, &["a".into()][..]));
    let text = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
}

#[test]
fn a_callers_key_is_printable_and_short() {
    for key in [&b"a"[..], b"order 7 ~", &[b'x'; 256]] {
        assert!(OwnKey::parse(key).is_ok());
    }
    for key in [&b""[..], b"a\n", b"\x7f", b"\xc3\xa4", &[b'x'; 257]] {
        assert_eq!(OwnKey::parse(key), Err(OwnKeyError));
    }
}

#[test]
fn every_part_of_the_work_is_in_its_key() {
    let none = BTreeMap::new();
    let some = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let (one, other) = (some("a", "bc"), some("ab", "c"));
    let names = ["a".to_owned(), "b".to_owned()];
    let base =
        Work { tenant: "t", function: "f", lineage: "s", environment: &none, resources: &[] };
    let works = [
        base,
        Work { tenant: "tf", function: "", ..base },
        Work { function: "g", ..base },
        Work { lineage: "s2", ..base },
        Work { environment: &one, ..base },
        Work { environment: &other, ..base },
        Work { resources: &names, ..base },
        Work { resources: &names[..1], ..base },
    ];
    let own = OwnKey::parse(b"{}").unwrap();
    let mut keys: Vec<_> = works.iter().map(|&work| Key::of_event(work, b"{}")).collect();
    keys.extend(works.iter().map(|&work| Key::of_caller(work, &own)));
    keys.extend([&b"{"[..], b"[]", b"{ {", b"\xff"].map(|event| Key::of_event(base, event)));
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(Key::of_event(base, b"{}"), Key::of_event(base, b" { } "));
    assert!(keys.iter().all(|key| key.as_str().len() == 64));
}

//! Ways to write the same JSON.

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::idempotent::canonical::canonical;

fn text(json: &str) -> String {
    canonical(json.as_bytes()).unwrap()
}

#[test]
fn the_same_is_the_same() {
    for (json, expected) in [
        (" { \"b\" : [ 1 , { } , [ ] ] ,\t\"a\" : null }\r\n", r#"{"a":null,"b":[1,{},[]]}"#),
        (r#"{"\u0062":1,"a":2}"#, r#"{"a":2,"b":1}"#),
        (r#""\u00e5\/\u001f\"""#, r#""å/\u001f\"""#),
        (r#"{"a":{"d":1,"c":2},"Z":"}"}"#, r#"{"Z":"}","a":{"c":2,"d":1}}"#),
        ("1.50", "1.50"),
        ("12345678901234567890123 ", "12345678901234567890123"),
        (r#""\\""#, r#""\\""#),
    ] {
        assert_eq!(text(json), expected, "{json}");
        assert_eq!(text(expected), expected);
    }
}

#[test]
fn the_different_is_different() {
    let texts = [
        "1",
        "1.0",
        "1e0",
        "-0",
        "0",
        "\"1\"",
        "[1]",
        "[[1]]",
        "{\"1\":1}",
        "[1,2]",
        "[2,1]",
        "null",
        "\"null\"",
        r#"{"a":1,"a":2}"#,
        r#"{"a":2,"a":1}"#,
        r#"{"a":2}"#,
        r#""\ud800""#,
        r#""\\ud800""#,
        "\"a\"",
        "\"a \"",
        "{}",
        "[]",
        "[{}]",
        "true",
        "false",
        "9007199254740992",
        "9007199254740993",
    ]
    .map(text);
    let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
    assert_eq!(distinct.len(), texts.len());
}

#[test]
fn what_is_not_json_has_no_text() {
    for json in
        ["", " ", "{", "[1,]", "{\"a\"}", "1 2", "nul", "'a'", "01", "\"\n\"", "[1}", "\u{a0}1"]
    {
        assert_eq!(canonical(json.as_bytes()), None, "{json:?}");
    }
    assert_eq!(canonical(b"\"\xff\""), None);
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(canonical(nested(128).as_bytes()).is_some());
    assert_eq!(canonical(nested(129).as_bytes()), None);
    assert_eq!(canonical(nested(1 << 20).as_bytes()), None);
}

fn value() -> impl Strategy<Value = Value> {
    // Few letters, so that names collide and escapes happen.
    let string = "[ab\"\\\\/\n\u{1}å😀]{0,3}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Minus zero equals zero, though it is written otherwise.
        any::<f64>().prop_map(|number| Value::from(number + 0.0)),
        string.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((string, inner), 0..5)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Writes a value in one of many ways, as `dice` fall.
fn write(value: &Value, dice: &mut impl Iterator<Item = u8>, out: &mut String) {
    let mut roll = |sides: u8| dice.next().unwrap_or(0) % sides;
    out.push_str(["", " ", "\n\t", "\r "][usize::from(roll(4))]);
    match value {
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write(item, dice, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            let by = usize::from(roll(5)) % members.len().max(1);
            members.rotate_left(by);
            if roll(2) == 1 {
                members.reverse();
            }
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write(&Value::from(name.as_str()), dice, out);
                out.push(':');
                write(value, dice, out);
            }
            out.push('}');
        }
        Value::String(string) => {
            out.push('"');
            for char in string.chars() {
                if roll(2) == 1 || char.is_control() || matches!(char, '"' | '\\') {
                    let mut units = [0; 2];
                    for unit in char.encode_utf16(&mut units) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                } else {
                    out.push(char);
                }
            }
            out.push('"');
        }
        other => out.push_str(&other.to_string()),
    }
    out.push_str([" ", ""][usize::from(dice.next().unwrap_or(0) % 2)]);
}

proptest! {
    #[test]
    fn however_it_is_written(value in value(), dice in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut written = String::new();
        write(&value, &mut dice.into_iter(), &mut written);
        let expected = text(&value.to_string());
        prop_assert_eq!(text(&written), expected.clone());
        // Nothing is lost, so different values have different texts.
        prop_assert_eq!(serde_json::from_str::<Value>(&expected).unwrap(), serde_json::from_str::<Value>(&written).unwrap());
    }

    #[test]
    fn different_values_have_different_texts(one in value(), other in value()) {
        let (one_text, other_text) = (one.to_string(), other.to_string());
        prop_assert_eq!(text(&one_text) == text(&other_text), one == other);
    }

    #[test]
    fn anything_is_read_without_harm(text in "[\\[\\]{}\",:\\\\ u0-9a-f.eE+-]{0,24}", bytes: Vec<u8>) {
        prop_assert_eq!(canonical(text.as_bytes()).is_some(), serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
        canonical(&bytes);
    }
}

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::*;

/// Where routes of ours are registered. A file that is not here has none: see
/// [`our_routes_are_registered_where_they_are_looked_for`].
const SOURCES: [(&str, &str); 5] = [
    ("api/own.rs", include_str!("../own.rs")),
    ("api/watch.rs", include_str!("../watch.rs")),
    ("api/lambda.rs", include_str!("../lambda.rs")),
    ("api/openapi.rs", include_str!("../openapi.rs")),
    ("events/routes.rs", include_str!("../../events/routes.rs")),
];
const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Every path that begins with `/calve/`, and each method that it is registered for.
fn registered(source: &str) -> BTreeSet<(String, String)> {
    let mut routes = BTreeSet::new();
    for call in source.split(".route(").skip(1) {
        // To the parenthesis that closes the call.
        let mut depth = 1;
        let end = call.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        let call = &call[..end.unwrap()];
        let Some(path) = call.split('"').nth(1).filter(|path| path.starts_with("/calve/")) else {
            continue;
        };
        let rest = call.split_once(',').unwrap().1;
        let methods = METHODS.iter().filter(|method| {
            let called = format!("{method}(");
            rest.match_indices(&called).any(|(at, _)| {
                !rest[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            })
        });
        let before = routes.len();
        routes.extend(methods.map(|method| (path.to_owned(), (*method).to_owned())));
        assert!(routes.len() > before, "no method of {path} is known: {call}");
    }
    routes
}

fn described(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys().filter(|key| METHODS.contains(&&***key));
        methods.map(move |method| (path.clone(), method.clone()))
    });
    routes.collect()
}

#[test]
fn routes_are_found_in_source() {
    let found = registered(
        r#"r.route("/calve/v1/a/{b}", put(set_get).get(of)).route("/other", get(x)).route(
            "/calve/v1/c", post(|| async { forget(1) }))"#,
    );
    let pair = |path: &str, method: &str| (path.to_owned(), method.to_owned());
    let wanted = [
        pair("/calve/v1/a/{b}", "get"),
        pair("/calve/v1/a/{b}", "put"),
        pair("/calve/v1/c", "post"),
    ];
    assert_eq!(found, BTreeSet::from(wanted));
}

#[test]
fn every_route_is_described_and_every_description_is_of_a_route() {
    let registered: BTreeSet<_> =
        SOURCES.iter().flat_map(|(_, source)| registered(source)).collect();
    let described = described(&document());
    let missing: Vec<_> = registered.difference(&described).collect();
    let extra: Vec<_> = described.difference(&registered).collect();
    assert!(missing.is_empty(), "openapi.json does not describe {missing:?}: add them");
    assert!(extra.is_empty(), "openapi.json describes {extra:?}, which nobody serves: remove them");
}

#[test]
fn our_routes_are_registered_where_they_are_looked_for() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&source).unwrap().to_str().unwrap();
            let of_tests = name.contains("tests");
            if path.is_dir() && !of_tests {
                folders.push(path);
            } else if name.ends_with(".rs")
                && !of_tests
                && !SOURCES.iter().any(|(known, _)| *known == name)
            {
                let found = registered(&std::fs::read_to_string(&path).unwrap());
                assert!(found.is_empty(), "{name} has {found:?}: add it to SOURCES");
            }
        }
    }
}

#[test]
fn the_document_holds_together() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let bearer = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!((&bearer["type"], &bearer["scheme"]), (&"http".into(), &"bearer".into()));
    let mut ids = BTreeSet::new();
    for (path, method) in described(&document) {
        let operation = &document["paths"][&path][&method];
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        assert!(operation["summary"].is_string(), "{id} has no summary");
        let open = operation["security"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(open, path == "/calve/v1/openapi.json", "{id}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{id} has no good end");
        assert!(open || responses.contains_key("403"), "{id} does not say what no key leads to");
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let shared = document["paths"][&path]["parameters"].as_array().unwrap();
            let named = |it: &&Value| resolve(&document, it)["name"] == name;
            assert!(shared.iter().any(|it| named(&it)), "{path} does not declare {name}");
        }
    }
    check_references(&document, &document);
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(to) => document.pointer(to.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref") {
                let to = to.as_str().unwrap();
                let found = document.pointer(to.strip_prefix('#').unwrap());
                assert!(found.is_some(), "{to} leads nowhere");
            }
            fields.values().for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| check_references(document, value)),
        _ => {}
    }
}

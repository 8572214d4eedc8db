//! Games with symlinks.

use super::*;

#[test]
fn links_that_stay_inside_are_kept() {
    let zip = zip(&[
        ("a/b/c", FILE, b""),
        ("a/up", LINK, b".."),
        ("a/b/root", LINK, b"../../a/../a"),
        ("by", LINK, b"a/up/a/b/c"),
        ("missing", LINK, b"a/no/such/../../thing"),
        ("here", LINK, b"."),
    ]);
    let links = unpacked(&zip).into_iter().filter(|(_, what)| what.starts_with("->")).count();
    assert_eq!(links, 5);
}

#[test]
fn links_that_lead_out_are_refused() {
    let long = "a/".repeat(3000);
    let ways = [
        "/etc/passwd",
        "/",
        "..",
        "../victim",
        "d/../../victim",
        "d/e/../../../x",
        "no/../../x",
        "./..//x",
        "",
        &long,
        // By way of another link.
        "d/root/..",
        "d/root/d/root/../victim",
        "l",
        "d/loop",
    ];
    for way in ways {
        let zip = zip(&[
            ("d/e/f", FILE, b""),
            ("d/root", LINK, b".."),
            ("l", LINK, way.as_bytes()),
            ("d/loop", LINK, b"../l"),
        ]);
        let error = refused(&zip);
        assert!(matches!(error, PackageError::Link(_)), "{way:?}: {error}");
    }
}

#[test]
fn a_link_does_not_become_a_parent_in_any_order() {
    for entries in [
        &[("a", LINK, &b"."[..]), ("a/x", FILE, b"")][..],
        &[("a/x", FILE, b""), ("a", LINK, b".")],
    ] {
        let error = refused(&zip(entries));
        assert!(matches!(error, PackageError::NoFolder(_) | PackageError::Twice(_)), "{error}");
    }
}

#[test]
fn long_chains_end() {
    let names: Vec<_> = (0..60).map(|n| (format!("l{n}"), format!("l{}", n + 1))).collect();
    let chain = |length: usize| {
        let entries: Vec<_> = names[..length]
            .iter()
            .map(|(name, way)| (name.as_str(), LINK, way.as_bytes()))
            .collect();
        zip(&entries)
    };
    assert_eq!(unpacked(&chain(40)).len(), 40);
    assert!(matches!(refused(&chain(41)), PackageError::Link(_)));
}

#[test]
fn much_walking_is_refused() {
    let way = "a/../".repeat(800);
    let names: Vec<_> = (0..2000).map(|n| format!("l{n}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), LINK, way.as_bytes())).collect();
    assert!(matches!(refused(&zip(&entries)), PackageError::Link(_)));
}

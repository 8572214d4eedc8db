//! Tests of the pure parts of aliases.

use super::*;

fn routing(weights: &[(&str, f64)]) -> Option<RoutingConfig> {
    let weights = weights.iter().map(|(version, weight)| ((*version).to_owned(), *weight));
    Some(RoutingConfig { additional_version_weights: Some(weights.collect()) })
}

#[test]
fn weights_are_millionths() {
    assert_eq!(weights(routing(&[("2", 0.05)])).unwrap()["2"], Weight(50_000));
    assert_eq!(weights(routing(&[("2", 1.0)])).unwrap()["2"], Weight(1_000_000));
    assert!(weights(None).unwrap().is_empty());
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(weights(routing(&[("2", bad)])).is_err());
    }
    assert!(weights(routing(&[("2", 0.1), ("3", 0.1)])).is_err());
}

#[test]
fn names_are_no_numbers() {
    for good in ["prod", "v1", "1a", "_", "a-b"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    for bad in ["", "1", "42", "$LATEST", "a b", "a.b", &"x".repeat(129)] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}

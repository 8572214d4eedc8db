//! Layers as methods; `api::lambda` has them over HTTP.

use super::*;
use crate::control::request::{Blob, Package, Precondition, Settings};
use crate::control::testing::{Bench, creation, one, settings, two, zip_of};
use crate::model::{Quota, State};

fn request(content: &str) -> PublishLayer {
    let content = Package { zip_file: Some(Blob(zip_of(content))), ..Package::default() };
    PublishLayer { content: Some(content), ..PublishLayer::default() }
}

/// Publishes a layer of tenant `one`: its ARN.
fn publish(bench: &Bench, name: &str, content: &str) -> String {
    let layer = bench.control.publish_layer(&one(), name, request(content)).unwrap();
    bench.control.scope(&one()).layer_version_arn(name, layer.number)
}

fn with(layers: &[&String]) -> Settings {
    let layers = layers.iter().map(|arn| (*arn).clone()).collect();
    Settings { layers: Some(layers), ..Settings::default() }
}

fn create(bench: &Bench, name: &str, layers: &[&String]) -> Result<(), ApiError> {
    let settings = Settings { layers: with(layers).layers, ..settings() };
    bench.control.create(&one(), creation(name), settings).map(drop)
}

fn configure(bench: &Bench, layers: &[&String]) -> Result<(), ApiError> {
    let precondition = Precondition::default();
    bench.control.update_configuration(&one(), "f", with(layers), &precondition).map(drop)
}

/// ARNs of the layers of function `f`.
fn layers(bench: &Bench) -> Vec<String> {
    let function = bench.control.catalog().get("one", "f").unwrap();
    function.latest.configuration.layers.iter().map(|layer| layer.arn.clone()).collect()
}

#[test]
fn a_function_keeps_what_its_build_needs_of_a_layer_that_is_deleted() {
    let mut bench = Bench::new();
    let (a, b) = (publish(&bench, "a", "a"), publish(&bench, "b", "b"));
    create(&bench, "f", &[&a]).unwrap();
    bench.build_all();
    let used = bench.control.codes().used("one");
    bench.control.delete_layer(&one(), "a", "1").unwrap();
    bench.control.delete_layer(&one(), "a", "1").unwrap();
    assert_eq!(bench.control.codes().used("one"), used, "the function has it");
    let error = create(&bench, "g", &[&a]).unwrap_err();
    assert_eq!(error.name, "InvalidParameterValueException");
    assert!(error.message.contains(&a), "{}", error.message);

    configure(&bench, &[&b, &a]).unwrap();
    assert_eq!(bench.build_all(), 1);
    assert_eq!(layers(&bench), [b.clone(), a.clone()]);
    configure(&bench, &[&b]).unwrap();
    bench.build_all();
    assert!(bench.control.codes().used("one") < used, "nobody has it any more");
    assert_eq!(configure(&bench, &[&a]).unwrap_err().name, "InvalidParameterValueException");
    let next = format!("{}2", a.strip_suffix('1').unwrap());
    assert_eq!(publish(&bench, "a", "again"), next, "no number comes twice");
}

#[test]
fn a_change_of_layers_and_of_nothing_else_is_a_build() {
    let mut bench = Bench::new();
    let (a, b) = (publish(&bench, "a", "a"), publish(&bench, "b", "b"));
    create(&bench, "f", &[&a, &b]).unwrap();
    bench.build_all();
    for (layers, builds) in [(vec![&a, &b], 0), (vec![&b, &a], 1), (vec![], 1), (vec![], 0)] {
        configure(&bench, &layers).unwrap();
        assert_eq!(bench.build_all(), builds, "{layers:?}");
    }
    let state = bench.control.catalog().get("one", "f").unwrap().latest.state.clone();
    assert_eq!(state, State::Active);
}

#[test]
fn another_tenant_s_layers_are_not_there() {
    let bench = Bench::new();
    let arn = publish(&bench, "a", "a");
    let request = creation("f");
    let settings = Settings { layers: Some(vec![arn.clone()]), ..settings() };
    let error = bench.control.create(&two(), request, settings).unwrap_err();
    assert_eq!(error.name, "InvalidParameterValueException");
    assert_eq!(bench.control.codes().used("two"), 0, "nothing is left of it");
    for found in [bench.control.layer_by_arn(&two(), &arn), bench.control.layer(&two(), "a", "1")] {
        assert_eq!(found.unwrap_err().name, "ResourceNotFoundException");
    }
    bench.control.delete_layer(&two(), "a", "1").unwrap();
    bench.control.layer(&one(), "a", "1").unwrap();
}

#[test]
fn layers_count_in_the_quota_and_their_packages_once() {
    let bench = Bench::new();
    publish(&bench, "a", "content");
    let used = bench.control.codes().used("one");
    assert!(used > 0);
    publish(&bench, "a", "content");
    publish(&bench, "b", "content");
    assert_eq!(bench.control.codes().used("one"), used);
    bench.control.collect().unwrap();
    bench.limit(Quota { storage: used, ..Quota::default() });
    let error = bench.control.publish_layer(&one(), "a", request("more")).unwrap_err();
    assert_eq!(error.name, "CodeStorageExceededException");
    for (name, number) in [("a", "1"), ("a", "2"), ("b", "1")] {
        assert_eq!(bench.control.codes().used("one"), used);
        bench.control.delete_layer(&one(), name, number).unwrap();
    }
    assert_eq!(bench.control.codes().used("one"), 0);
}

#[test]
fn what_cannot_be_unpacked_is_no_layer() {
    let bench = Bench::new();
    let refused = |request| {
        let error = bench.control.publish_layer(&one(), "a", request).unwrap_err();
        assert_eq!(error.name, "InvalidParameterValueException", "{error}");
        error.message
    };
    assert!(refused(PublishLayer::default()).contains("Content"));
    assert!(
        refused(PublishLayer { content: Some(Package::default()), ..PublishLayer::default() })
            .contains("ZipFile")
    );
    // Of a good name in the directory, and another one where it counts.
    let mut zip = zip_of("x");
    let places: Vec<usize> =
        (0..zip.len() - 7).filter(|at| zip[*at..].starts_with(b"main.py")).collect();
    for at in places {
        zip[at..at + 7].copy_from_slice(b"../a.py");
    }
    let content = Some(Package { zip_file: Some(Blob(zip)), ..Package::default() });
    assert!(refused(PublishLayer { content, ..PublishLayer::default() }).contains("'..'"));
    let with = |change: fn(&mut PublishLayer)| {
        let mut request = request("x");
        change(&mut request);
        request
    };
    refused(with(|r| r.license_info = Some("x".repeat(513))));
    refused(with(|r| r.description = Some("x".repeat(257))));
    refused(with(|r| r.compatible_runtimes = Some(vec!["python3.11".into(); 16])));
    refused(with(|r| r.compatible_runtimes = Some(vec!["a b".into()])));
    refused(with(|r| r.compatible_architectures = Some(vec!["riscv".into()])));
    assert_eq!(bench.control.codes().used("one"), 0);
    assert!(bench.control.layers_of("one").unwrap().is_empty());
}

#[test]
fn code_and_layers_share_one_limit() {
    let layer = |unzipped| {
        let code = crate::codes::CodeStore::describe(b"any");
        Layer { arn: String::new(), code, unzipped }
    };
    let most = package::UNZIPPED_MOST;
    check_size(most - 3, &[layer(1), layer(2)]).unwrap();
    let error = check_size(most - 2, &[layer(1), layer(2)]).unwrap_err();
    assert!(error.message.contains(&(most + 1).to_string()), "{}", error.message);
}

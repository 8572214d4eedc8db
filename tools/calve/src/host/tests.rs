use super::*;

fn server(url: &str, key: Option<&str>) -> Server {
    Server { url: url.to_owned(), key: key.map(str::to_owned) }
}

fn refused(url: &str, key: Option<&str>) -> String {
    let failure = Host::new(&server(url, key)).err().unwrap();
    assert_eq!(failure.status(), Some(Status::Usage));
    failure.line().to_owned()
}

#[test]
fn an_address_that_is_none_is_refused() {
    for url in ["127.0.0.1:9470", "ftp://h", "http://", "http://h/?q=1", "a b"] {
        let line = refused(url, Some("a:b"));
        assert!(line.ends_with("write it as http://HOST:PORT"), "{line}");
    }
    assert!(refused("https://h", Some("a:b")).contains("speaks no TLS; go through a tunnel"));
    let host = Host::new(&server("http://h:1/calve/", Some("a:b"))).unwrap();
    assert_eq!(host.url, "http://h:1/calve");
    assert_eq!(Host::new(&server("", Some("a:b"))).unwrap().url, DEFAULT_URL);
}

#[test]
fn a_wrong_key_is_not_shown() {
    assert!(refused("http://h", None).contains("CALVE_KEY"));
    assert!(refused("http://h", Some("")).contains("no access key"));
    for key in ["AKIASECRET", ":SECRET", "AKIASECRET:", "AKIA:SEC\nRET"] {
        let line = refused("http://h", Some(key));
        assert!(line.contains("ID:SECRET") && !line.contains("AKIA"), "{line}");
    }
    let shown = format!("{:?}", server("http://h", Some("AKIA:SECRET")));
    assert!(!shown.contains("AKIA"), "{shown}");
}

#[test]
fn names_and_values_are_encoded() {
    let ask = Ask::get(format!("/f/{}", segment("a/b:c"))).query("Qualifier", Some("$LATEST"));
    let ask = ask.query("Marker", None).query("Marker", Some("x&y"));
    assert_eq!(ask.target, "/f/a%2Fb%3Ac?Qualifier=%24LATEST&Marker=x%26y");
}

//! The console in a browser: a host without machines, Debian's Chromium, and what a person would do.
//!
//! Run with `--ignored`, by `cargo xtask test`, which installs the browser.

// Clippy knows test functions, not the helpers of an integration test.
#![allow(clippy::unwrap_used)]

mod console;

use console::browser::{Browser, ENTER};
use console::host::{MARKUP, Served};
use serde_json::json;

/// Nothing that a function printed has run or become an element.
fn assert_unharmed(browser: &Browser) {
    assert_eq!(browser.run("return window.harmed ?? null"), json!(null));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main script').length"), 0);
}

#[track_caller]
fn assert_no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), [""; 0]);
}

fn sign_in(browser: &Browser, id: &str, secret: &str) {
    for (field, text) in [("#key-id", id), ("#key-secret", secret)] {
        browser.clear(field);
        browser.type_into(field, text);
    }
    browser.click("#enter");
}

fn invoke(browser: &Browser, function: &str, event: &str) {
    browser.click(&format!("tr[data-function='{function}'] button"));
    browser.clear("#invoke-event");
    browser.type_into("#invoke-event", event);
    browser.click("#invoke-go");
}

#[test]
#[ignore = "needs a browser"]
fn a_person_signs_in_invokes_and_reads_what_came_of_it() {
    let host = Served::start();
    host.create("greet", "python3.11", MARKUP);
    host.create("thumbnail", "nodejs20.x", "makes small pictures");
    host.keep("greet");
    let browser = Browser::start();
    let page = format!("http://{}/", host.address);
    browser.open(&page);

    // A wrong secret says so, and is not kept.
    sign_in(&browser, &host.key.id, "wrong");
    browser.shows("#sign-in-problem", &["security token", "Check both"]);
    assert_eq!(browser.run("return sessionStorage.length"), 0);
    let complaints = browser.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("403"), "{complaints:?}");

    sign_in(&browser, &host.key.id, &host.key.secret);
    browser.shows("#link", &["live"]);
    browser.shows(
        "tr[data-function=greet]",
        &["greet", "python3.11", "256 MiB", "Active", "1", "keep", MARKUP],
    );
    browser.shows("tr[data-function=thumbnail]", &["nodejs20.x", "fresh", "makes small pictures"]);
    assert_eq!(browser.run("return [localStorage.length, document.cookie]"), json!([0, ""]));

    // Where a call goes that cannot be made.
    invoke(&browser, "greet", "{oops");
    browser.shows("#invoke-problem", &["not JSON"]);

    invoke(&browser, "greet", r#"{"name": "Ada"}"#);
    browser.shows("#answer-title", &["greet", "ok"]);
    browser.shows("#answer-facts", &["cold", "machine-0", "$LATEST"]);
    browser.shows("#answer-result", &[r#""name": "Ada""#, "9007199254740993"]);
    browser.shows("#answer-log", &[MARKUP, "call 1"]);
    browser.shows("#calls li", &["greet", "$LATEST", "ok", "cold", "0.90 ms"]);
    browser.shows("#changes li", &["greet"]);
    browser.shows("#pool-idle", &["1"]);

    // A version, on a machine of its own; and one that was used before, by the keyboard.
    browser.type_into("#invoke-qualifier", "1");
    browser.type_into("#invoke-event", "\u{e009}\u{e007}");
    browser.shows("#answer-facts", &["machine-1"]);
    browser.clear("#invoke-qualifier");
    invoke(&browser, "greet", r#"{"fail": true}"#);
    browser.shows("#answer-title", &["function error"]);
    browser.shows("#answer-facts", &["reuse", "machine-0"]);
    browser.shows("#answer-result", &["ValueError", "errorMessage"]);
    browser.shows("#calls li", &["function error", "reuse"]);

    // The log of a call is opened by the keyboard, and stays open while others come.
    browser.until("document.querySelectorAll('#calls > li').length === 3");
    browser.type_into("#calls li summary", ENTER);
    browser.shows("#calls li pre", &[MARKUP, "call 2"]);
    invoke(&browser, "thumbnail", r#"{"first_output_us": 52000}"#);
    browser.until("document.querySelectorAll('#calls > li').length === 4");
    browser.shows("#calls details[open] pre", &["call 2"]);
    browser.shows("#percentiles", &["0.90 ms", "52.0 ms", "4"]);
    let chart = browser.run("return document.querySelector('#chart svg').ariaLabel");
    assert!(chart.as_str().unwrap().contains("half within 0.90 ms, 99 of 100 within 52.0 ms"));
    browser.click("#failed-only");
    browser.until("document.querySelectorAll('#calls > li').length === 1");
    browser.click("#failed-only");
    assert_unharmed(&browser);
    assert_no_complaints(&browser);

    // A version that there is not.
    browser.type_into("#invoke-qualifier", "77");
    browser.click("#invoke-go");
    browser.shows("#invoke-problem", &["not found", "check the qualifier"]);
    let complaints = browser.complaints();
    assert!(complaints.len() == 1 && complaints[0].contains("404"), "{complaints:?}");

    // A page that is loaded again knows the key; one where somebody signed out does not.
    browser.open(&page);
    browser.shows("tr[data-function=greet]", &["Active"]);
    browser.click("#sign-out");
    browser.shows("#sign-in-title", &["Sign in"]);
    assert_eq!(browser.run("return sessionStorage.length"), 0);
    let left =
        "return document.querySelectorAll('#functions tbody tr, #calls li, #changes li').length";
    assert_eq!(browser.run(left), 0);
    browser.open(&page);
    browser.shows("#sign-in-title", &["Sign in"]);
    assert_no_complaints(&browser);
}

#[test]
#[ignore = "needs a browser"]
fn the_page_fits_any_width_in_either_scheme() {
    let host = Served::start();
    let name = "a-function-whose-name-is-as-long-as-names-of-functions-may-be-64";
    host.create(name, "provided.al2023", "");
    let browser = Browser::start();
    browser.open(&format!("http://{}/", host.address));
    sign_in(&browser, &host.key.id, &host.key.secret);
    browser.shows("#functions tbody tr", &[name, "Active"]);
    invoke(&browser, name, "{}");
    browser.shows("#answer-result", &["markup"]);
    browser.shows("#calls li", &[name]);
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        backgrounds.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
        for width in [360, 600, 767, 768, 1024, 1920] {
            browser.resize(width, 800);
            browser.until(&format!("innerWidth === {width}"));
            // What sticks out would have the page scroll sideways.
            let wide = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
            assert!(wide <= width.into(), "at {width} px the page takes {wide} px");
        }
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    assert_no_complaints(&browser);
}

#[test]
#[ignore = "needs a browser"]
fn a_host_that_is_gone_is_said_to_be_gone() {
    let host = Served::start();
    host.create("greet", "python3.11", "");
    let browser = Browser::start();
    browser.open(&format!("http://{}/", host.address));
    sign_in(&browser, &host.key.id, &host.key.secret);
    browser.shows("#link", &["live"]);
    browser.shows("tr[data-function=greet]", &["Active"]);
    host.stop();
    browser.shows("#link", &["connection lost"]);
    browser.shows("#problem", &["does not answer", "calve serve"]);
    // What was known is still shown, and the key is kept for when it is back.
    browser.shows("tr[data-function=greet]", &["Active"]);
    assert_eq!(browser.run("return sessionStorage.length"), 1);
}

#[test]
#[ignore = "needs a browser"]
fn the_browser_refuses_what_is_not_of_the_page() {
    let host = Served::start();
    for path in ["/", "/console.css", "/console.js", "/console.svg"] {
        let answer = host.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    assert_eq!(host.get("/calve/v1/openapi.json").status, 200);
    assert_eq!(host.get("/calve/v1/top").status, 403);

    let browser = Browser::start();
    browser.open(&format!("http://{}/", host.address));
    browser.shows("#sign-in-title", &["Sign in"]);
    assert_no_complaints(&browser);
    let refused = browser.fails("document.body.innerHTML = '<p>markup</p>'");
    assert!(refused.contains("TrustedHTML"), "{refused}");
    let refused = browser.fails("document.body.setAttribute('onclick', 'window.harmed = true')");
    assert!(refused.contains("TrustedScript"), "{refused}");
    browser.run(
        "const image = document.createElement('img');
         image.src = 'http://127.0.0.2:1/';
         document.body.append(image)",
    );
    browser.until("document.images.length === 2");
    let complaints = browser.complaints().join("\n");
    assert!(complaints.contains("img-src"), "{complaints}");
}

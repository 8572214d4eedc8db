//! A headless Chromium, driven by the few commands of W3C WebDriver that tests need, and by two of Chromium's own.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::exchange;

/// The key of an element's id (W3C WebDriver, "Elements").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The Enter key (W3C WebDriver, "Keyboard actions").
pub(crate) const ENTER: &str = "\u{e007}";
/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page. Closed when dropped.
pub(crate) struct Browser {
    driver: Driver,
    session: String,
}

/// `chromedriver`; killed when dropped.
struct Driver {
    child: Child,
    address: SocketAddr,
    /// What both leave behind: removed when they have ended.
    _folder: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let driver = Driver::start();
        let options = json!({
            "binary": "/usr/bin/chromium",
            // Tests run as root, which Chromium's sandbox does not; a container's /dev/shm may be small.
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                     "--no-first-run", "--window-size=1280,900"],
        });
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let capabilities = json!({ "capabilities": { "alwaysMatch": wanted } });
        let made = driver.tell("POST", "/session", &capabilities).unwrap();
        Self { session: made["sessionId"].as_str().unwrap().to_owned(), driver }
    }

    pub(crate) fn open(&self, url: &str) {
        self.tell("url", &json!({ "url": url }));
    }

    /// Types into the first element that the selector finds.
    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.tell(&format!("element/{element}/value"), &json!({ "text": text }));
    }

    #[track_caller]
    pub(crate) fn clear(&self, selector: &str) {
        let element = self.find(selector);
        self.tell(&format!("element/{element}/clear"), &json!({}));
    }

    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.tell(&format!("element/{element}/click"), &json!({}));
    }

    /// What a script returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.tell("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Why a script fails.
    #[track_caller]
    pub(crate) fn fails(&self, script: &str) -> String {
        let path = self.path("execute/sync");
        let failed = self.driver.tell("POST", &path, &json!({ "script": script, "args": [] }));
        failed.expect_err("the script fails")
    }

    /// The text of the first element that the selector finds, once it is visible and has all of `parts`.
    #[track_caller]
    pub(crate) fn shows(&self, selector: &str, parts: &[&str]) -> String {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.run(&script).as_str().unwrap_or_default().to_owned();
            if !text.is_empty() && parts.iter().all(|part| text.contains(part)) {
                return text;
            }
            let said = || self.run("return document.body.innerText");
            assert!(
                Instant::now() < deadline,
                "{selector} does not show {parts:?} but {text:?}, on the page {}",
                said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({expression})")) != true {
            assert!(Instant::now() < deadline, "it never comes true that {expression}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What went wrong on the page since this was last asked: each message of the console that is an error or a warning.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.tell("se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().unwrap().iter();
        let bad = entries.filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        bad.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Has the page be this wide, as on a telephone.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Has the page be read by somebody who prefers `light` or `dark`.
    pub(crate) fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// A command of the Chrome DevTools Protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.tell("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    #[track_caller]
    fn find(&self, selector: &str) -> String {
        let found = self.tell("element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn tell(&self, command: &str, parameters: &Value) -> Value {
        let told = self.driver.tell("POST", &self.path(command), parameters);
        told.unwrap_or_else(|error| panic!("{command} {parameters}: {error}"))
    }

    fn path(&self, command: &str) -> String {
        format!("/session/{}/{command}", self.session)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Also while a test fails: the browser is not the driver's child alone.
        let path = format!("/session/{}", self.session);
        let _ = self.driver.tell("DELETE", &path, &json!({}));
    }
}

impl Driver {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver starts: install Debian's chromium and chromium-driver, or run `cargo xtask test`");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // What it says from now on is read by nobody, and must not make it wait.
        std::thread::spawn(move || lines.count());
        let port = port.expect("chromedriver says its port");
        Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), _folder: folder }
    }

    /// A command's value, or the error.
    fn tell(&self, method: &str, path: &str, parameters: &Value) -> Result<Value, String> {
        let answer = exchange(self.address, method, path, "", &parameters.to_string());
        let mut told: Value = serde_json::from_str(&answer.body).unwrap();
        let value = told["value"].take();
        if answer.status == 200 { Ok(value) } else { Err(format!("{}", value["message"])) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A host that is served on this machine, with an engine that has functions but no machines.

use std::io::{Cursor, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use calve_manager::api;
use calve_manager::engine::{
    Answer, Blueprint, BuildFailure, Call, Engine, EngineError, FunctionFailure, Instance, Killer,
};
use calve_manager::host::{Host, Settings};
use calve_manager::model::AccessKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::http::{self, exchange};

/// What a function prints that means harm.
pub(crate) const MARKUP: &str =
    "<img src=x onerror=\"window.harmed = true\"><script>window.harmed = true</script>";

/// The engine: each function gives its event back, or fails if that has `fail`.
#[derive(Default)]
struct Echo {
    machines: AtomicU64,
}

struct Machine {
    name: String,
    calls: u64,
}

impl Engine for Echo {
    fn build(&self, _: &Blueprint<'_>) -> Result<(), BuildFailure> {
        Ok(())
    }

    fn start(&self, _: &str) -> Result<Box<dyn Instance>, EngineError> {
        let number = self.machines.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Machine { name: format!("machine-{number}"), calls: 0 }))
    }

    fn remove(&self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }
}

impl Instance for Machine {
    fn call(&mut self, call: Call<'_>) -> Result<Answer, EngineError> {
        self.calls += 1;
        (call.logs)(format!("{MARKUP}\ncall {}\n", self.calls).as_bytes());
        let event: Value = serde_json::from_slice(call.event).unwrap();
        let result = if event["fail"] == true {
            let error = json!({ "errorType": "ValueError", "errorMessage": MARKUP });
            let body = error.to_string().into_bytes();
            Err(FunctionFailure { timed_out: false, body, usable: true })
        } else {
            // The number is one that JavaScript cannot hold.
            let event = String::from_utf8_lossy(call.event);
            let markup = json!(MARKUP);
            Ok(format!(r#"{{"event":{event},"large":9007199254740993,"markup":{markup}}}"#).into())
        };
        let first_output_us = event["first_output_us"].as_u64().unwrap_or(900);
        Ok(Answer { result, first_output_us, private_kib: None })
    }

    fn reset(self: Box<Self>) -> Result<Box<dyn Instance>, EngineError> {
        Ok(self)
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn machine(&self) -> &str {
        &self.name
    }

    fn killer(&self) -> Option<Arc<dyn Killer>> {
        None
    }
}

/// A host, served until this is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) key: AccessKey,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Served {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let (address, key) = runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let host = Host::open(Settings::new(folder.path()), Arc::<Echo>::default()).unwrap();
            let key = host.keyring().create_key("acme", false).unwrap();
            tokio::spawn(async move {
                api::serve(&host, listener, std::future::pending(), Duration::ZERO).await
            });
            (address, key)
        });
        Self { address, key, runtime, _folder: folder }
    }

    /// Ends it, with every connection.
    pub(crate) fn stop(self) {
        self.runtime.shutdown_background();
    }

    pub(crate) fn get(&self, path: &str) -> http::Answer {
        exchange(self.address, "GET", path, "", "")
    }

    /// Asks with the key, to a good end.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let bearer = format!("Authorization: Bearer {}:{}\r\n", self.key.id, self.key.secret);
        let answer = exchange(self.address, method, path, &bearer, &body.to_string());
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// Makes a function with one published version, and waits until it can be called.
    pub(crate) fn create(&self, name: &str, runtime: &str, description: &str) {
        let function = json!({
            "FunctionName": name, "Runtime": runtime, "Handler": "app.handler",
            "Role": "arn:aws:iam::000000000000:role/any", "MemorySize": 256,
            "Description": description, "Code": { "ZipFile": BASE64.encode(package()) },
            "Publish": true,
        });
        self.ask("POST", "/2015-03-31/functions", &function);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ask("GET", &format!("/2015-03-31/functions/{name}/configuration"), &json!({}))["State"]
            != "Active"
        {
            assert!(Instant::now() < deadline, "{name} is never active");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Says that a function's machines are kept.
    pub(crate) fn keep(&self, name: &str) {
        let path = format!("/calve/v1/functions/{name}/policy");
        self.ask("PUT", &path, &json!({ "reuse": "keep" }));
    }
}

fn package() -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("app.py", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"def handler(event, context): return event\n").unwrap();
    zip.finish().unwrap().into_inner()
}

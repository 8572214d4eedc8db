//! Sources of a host that has a ledger and folders, but no functions that run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::*;
use crate::auth::Caller;
use crate::ledger::{Message, SqliteLedger};
use crate::model::{Code, Configuration, LATEST, Policy, Quota, State, Tenant, Update, Version};

mod doors;
mod files;
mod hostile;
mod killed;
mod queues;
mod rights;
mod schedules;
mod tables;

/// A host that can be stopped and started again.
struct Host {
    folder: TempDir,
    ledger: Arc<SqliteLedger>,
    events: Arc<Events>,
    /// Whether functions seem to be of another tenant than they are.
    stolen: Arc<AtomicBool>,
}

const REGION: &str = "eu-central-1";

impl Host {
    fn new() -> Self {
        Self::with_clock(Arc::new(crate::clock::now))
    }

    fn with_clock(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(&folder.path().join("ledger")).unwrap());
        for tenant in ["a", "b"] {
            let tenant = Tenant {
                name: tenant.into(),
                account: account(tenant),
                quota: Quota::default(),
                created: 0,
            };
            ledger.put_tenant(&tenant).unwrap();
        }
        ledger.put_function(&function("a", "f")).unwrap();
        ledger.put_function(&function("b", "g")).unwrap();
        let stolen = Arc::new(AtomicBool::new(false));
        let events = open(folder.path(), &ledger, &stolen, clock);
        Self { folder, ledger, events, stolen }
    }

    /// As a host that is started again has it.
    fn reopen(&mut self) {
        self.events =
            open(self.folder.path(), &self.ledger, &self.stolen, self.events.parts.clock.clone());
    }

    /// Adds a source of tenant a's function f.
    fn add(&self, settings: &str) -> Arc<Live> {
        let kind = serde_json::from_str(settings).unwrap();
        let draft = Draft { function: "f".into(), enabled: true, kind };
        self.events.create(&caller("a"), draft).unwrap()
    }

    fn set_enabled(&self, live: &Live, enabled: bool) {
        let change = Change { enabled: Some(enabled), ..Change::default() };
        self.events.update(&caller("a"), &live.source.id, change).unwrap();
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The inbox of tenant a.
    fn inbox(&self) -> PathBuf {
        self.files().join("a/inbox")
    }

    fn waiting(&self) -> u64 {
        self.ledger.backlog("a", "f").unwrap().0
    }

    /// All messages of tenant a's function.
    fn messages(&self) -> Vec<Message> {
        let all = self.ledger.lease(u64::MAX >> 2, u64::MAX >> 1, usize::MAX).unwrap();
        self.ledger.release_all().unwrap();
        all
    }

    /// The events of all messages.
    fn bodies(&self) -> Vec<Value> {
        let read = |message: &Message| serde_json::from_slice(&message.event).unwrap();
        self.messages().iter().map(read).collect()
    }

    /// Waits until so many messages wait.
    async fn wait_for(&self, count: u64) {
        // A host that is not root's is patient with files that were there before.
        for _ in 0..2400 {
            if self.waiting() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{} of {count} messages", self.waiting());
    }
}

fn open(
    folder: &Path,
    ledger: &Arc<SqliteLedger>,
    stolen: &Arc<AtomicBool>,
    clock: Clock,
) -> Arc<Events> {
    let (functions, stolen) = (ledger.clone(), stolen.clone());
    let lookup: Lookup = Arc::new(move |tenant, name| {
        let all = functions.functions().unwrap();
        let mut found = all.into_iter().find(|f| f.tenant == tenant && f.name == name)?;
        if stolen.load(Ordering::SeqCst) {
            found.tenant = "b".into();
        }
        Some(Arc::new(found))
    });
    Events::open(Parts {
        ledger: ledger.clone(),
        functions: lookup,
        accounts: Arc::new(|tenant| Some(account(tenant))),
        files: folder.join("files"),
        region: REGION.into(),
        clock,
        arrived: Arc::new(Notify::new()),
    })
    .unwrap()
}

fn account(tenant: &str) -> String {
    format!("11111111111{}", u8::from(tenant == "b"))
}

fn caller(tenant: &str) -> Caller {
    Caller { tenant: tenant.into(), account: account(tenant), key: "k".into(), root: false }
}

fn function(tenant: &str, name: &str) -> Function {
    let configuration = Configuration {
        runtime: "python3.11".into(),
        handler: "m.f".into(),
        role: String::new(),
        description: String::new(),
        timeout_s: 3,
        memory_mib: 128,
        environment: BTreeMap::new(),
        layers: Vec::new(),
        dead_letter: String::new(),
        tracing: String::new(),
        ephemeral_mib: 512,
        snap_start: String::new(),
    };
    Function {
        tenant: tenant.into(),
        name: name.into(),
        latest: Version {
            number: None,
            configuration,
            code: Code { sha256: String::new(), size: 0 },
            state: State::Active,
            update: Update::Successful,
            revision: String::new(),
            lineage: String::new(),
            modified: 0,
            snapshot: None,
        },
        versions: BTreeMap::new(),
        last_number: 0,
        aliases: BTreeMap::new(),
        reserved: None,
        provisioned: BTreeMap::new(),
        event_invoke: BTreeMap::new(),
        urls: BTreeMap::new(),
        tags: BTreeMap::new(),
        policy: Policy::default(),
    }
}

/// Writes a file in one go.
fn write(folder: &Path, name: &str, content: &str) {
    std::fs::write(folder.join(name), content).unwrap();
}

/// How many files are in a folder, folders and hidden ones apart.
fn count(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().unwrap().is_file()).count()
}

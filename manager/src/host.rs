//! The host as a whole: opened on a folder and an engine, then served.
//!
//! ```text
//! <data>/host.db    the ledger           <data>/code/    packages as they were uploaded
//! <data>/files/     tenants' own files   <data>/lock     held by whoever serves this folder; says whose it is
//! ```

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::auth::Keyring;
use crate::catalog::Catalog;
use crate::clock;
use crate::codes::{CodeStore, CodesError};
use crate::control::{Control, Parts};
use crate::dispatch::Dispatcher;
use crate::engine::Engine;
use crate::events::{self, Events, Sources};
use crate::idempotent::{Idempotent, Resources};
use crate::invoke::Attempt;
use crate::ledger::{Ledger, LedgerError, SqliteLedger};
use crate::metrics::{Metrics, Percentiles};
use crate::schedule;

mod builds;
mod codes;
mod housekeeping;
mod names;
mod provisions;
mod recent;
mod restore;

pub use self::codes::code_of;
pub(crate) use self::recent::{Recent, Recents};
use crate::queue::Queue;

/// Settings of a host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub data: PathBuf,
    /// The region in ARNs.
    pub region: String,
    /// What the host names of functions' addresses end with; none: `lambda-url.<region>.localhost`, which browsers and
    /// curl know to be this machine.
    pub url_domain: Option<String>,
    /// What all machines may take.
    pub machines: schedule::Settings,
    /// Snapshots that are built at the same time.
    pub builds: usize,
    /// How long a call waits for a machine.
    pub patience: Duration,
    /// Memory that bodies of requests may take together before it is known who sends them, MiB. One key's bodies get half.
    pub bodies_mib: u32,
    /// How long until an asynchronous call that its function failed is tried again; twice as long the second time.
    pub retry: Duration,
}

impl Settings {
    /// AWS Lambda's retries after one minute and two, two builds at once, two seconds' patience, 256 MiB for bodies.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            region: "us-east-1".into(),
            url_domain: None,
            machines: schedule::Settings::default(),
            builds: 2,
            patience: Duration::from_secs(2),
            bodies_mib: 256,
            retry: Duration::from_secs(60),
        }
    }

    /// What the host names of functions' addresses end with.
    fn url_domain(&self) -> String {
        let usual = || format!("lambda-url.{}.localhost", self.region);
        // Host names are the same however they are written.
        self.url_domain.clone().unwrap_or_else(usual).to_ascii_lowercase()
    }
}

/// Why a host cannot be opened.
#[derive(Debug, Error)]
pub enum HostError {
    /// The folder cannot be made or read.
    #[error("cannot use {path} as the data folder")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another host serves it.
    #[error("{0} is served by another process: stop that, or choose another folder with --data")]
    Taken(PathBuf),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The code store.
    #[error(transparent)]
    Codes(#[from] CodesError),
}

/// A function host.
pub struct Host {
    pub(crate) settings: Settings,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) control: Arc<Control>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) queue: Arc<Queue>,
    pub(crate) events: Arc<Events>,
    sources: Mutex<Option<Sources>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) percentiles: Percentiles,
    pub(crate) recents: Recents,
    pub(crate) idempotent: Idempotent<Attempt>,
    /// Whose snapshots are this host's.
    owner: names::Owner,
    draining: watch::Sender<bool>,
    /// Held for as long as this lives.
    _lock: File,
}

/// How long nobody else does the work of a host that has died in the middle of it.
const LEASE: Duration = Duration::from_secs(30);

/// The ledger's file in a data folder.
pub fn ledger_file(data: &Path) -> PathBuf {
    data.join("host.db")
}

/// Makes the data folder, for its owner alone, if it is not there.
///
/// # Errors
///
/// When it cannot be made.
pub fn make_folder(data: &Path) -> Result<(), HostError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|source| HostError::Folder { path: data.into(), source })
}

impl Host {
    /// Opens the data folder and starts everything that works in the background, in the async runtime that this is called
    /// in. Blocks while it reads the ledger.
    ///
    /// # Errors
    ///
    /// When the folder cannot be used, or another host has it.
    pub fn open(settings: Settings, engine: Arc<dyn Engine>) -> Result<Arc<Self>, HostError> {
        let data = settings.data.clone();
        make_folder(&data)?;
        let lock = lock(&data)?;
        let owner = names::Owner::of(&lock)
            .map_err(|source| HostError::Folder { path: data.clone(), source })?;
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&ledger_file(&data))?);
        // Whoever held leases held the lock, too.
        ledger.release_all()?;
        let keyring = Arc::new(Keyring::open(ledger.clone())?);
        make_folder(&data.join("files"))?;
        let resources = Resources::open(&data.join("files"));
        let resources =
            resources.map_err(|source| HostError::Folder { path: data.join("files"), source })?;
        let queue = Arc::new(Queue::default());
        let (builds, wanted) = mpsc::unbounded_channel();
        let (retired, unused) = mpsc::unbounded_channel();
        let (lost, unopened) = mpsc::unbounded_channel();
        let catalog = Arc::new(Catalog::open(ledger.clone())?);
        let dispatcher = Dispatcher::start(engine.clone(), settings.machines, lost);
        let control = Arc::new(Control::new(Parts {
            catalog: catalog.clone(),
            codes: Arc::new(CodeStore::open(data.join("code"))?),
            ledger: ledger.clone(),
            keyring: keyring.clone(),
            region: settings.region.clone(),
            url_domain: settings.url_domain(),
            builds,
            retired,
            readiness: Arc::new(provisions::Ready::new(&catalog, &dispatcher)),
        }));
        let (catalog, accounts) = (control.catalog().clone(), keyring.clone());
        let events = Events::open(events::Parts {
            ledger: ledger.clone(),
            functions: Arc::new(move |tenant, name| catalog.get(tenant, name)),
            accounts: Arc::new(move |tenant| Some(accounts.tenant(tenant)?.account.clone())),
            files: data.join("files"),
            region: settings.region.clone(),
            clock: Arc::new(clock::now),
            arrived: queue.bell(),
        })?;
        let sources = Sources::start(events.clone())
            .map_err(|source| HostError::Folder { path: data.join("files"), source })?;
        let host = Arc::new(Self {
            keyring,
            control,
            dispatcher,
            engine,
            queue,
            sources: Mutex::new(Some(sources)),
            events,
            metrics: Arc::new(Metrics::new()),
            percentiles: Percentiles::new(),
            recents: Recents::default(),
            idempotent: Idempotent::new(ledger.clone(), Arc::new(resources), LEASE),
            owner,
            draining: watch::Sender::new(false),
            ledger,
            settings,
            _lock: lock,
        });
        builds::start(&host, wanted);
        housekeeping::start(&host, unused);
        restore::start(&host, unopened);
        provisions::start(&host);
        crate::queue::start(&host);
        Ok(host)
    }

    /// Access keys and tenants.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// Functions.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Whether it is being shut down.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Becomes true when it is being shut down.
    pub(crate) fn end(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Takes no more calls and waits for those that there are, for so long at most. Whether all are done.
    pub async fn drain(&self, most: Duration) -> bool {
        self.draining.send_replace(true);
        self.queue.stop();
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stopped = async {
            if let Some(sources) = sources {
                sources.stop().await;
            }
            // A call whose outcome is not taken down is made again by the next host.
            self.queue.settled().await;
        };
        let stopped = tokio::time::timeout(most, stopped);
        let (calls, stopped) = tokio::join!(self.dispatcher.drain(most), stopped);
        calls && stopped.is_ok()
    }
}

fn lock(data: &Path) -> Result<File, HostError> {
    let path = data.join("lock");
    let failed = |source| HostError::Folder { path: data.into(), source };
    let mut options = File::options();
    let options = options.create(true).truncate(false).read(true).write(true);
    let file = options.open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(HostError::Taken(data.into())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

//! The host itself, opened in a folder of its own and served on a port of its own.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calve_manager::host::{Host, Settings};
use calve_manager::model::Quota;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Client, FakeEngine, LONG};

/// A host that is being served.
pub(crate) struct TestHost {
    pub(crate) engine: FakeEngine,
    pub(crate) host: Option<Arc<Host>>,
    pub(crate) addr: SocketAddr,
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<std::io::Result<()>>>,
    /// None: somebody else's.
    folder: Option<Arc<tempfile::TempDir>>,
    settings: Settings,
}

/// A folder in memory, where there is one: what a disk that others keep busy takes to sync is no part of these tests.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Settings for tests: nothing takes long.
pub(crate) fn settings(data: impl Into<PathBuf>) -> Settings {
    Settings {
        patience: Duration::from_secs(10),
        retry: Duration::from_millis(20),
        ..Settings::new(data)
    }
}

impl TestHost {
    /// One as it comes.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// One with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = Arc::new(folder());
        let mut settings = settings(folder.path().join("data"));
        change(&mut settings);
        Self::open(settings, FakeEngine::default(), Some(folder))
    }

    /// One on a folder that there is.
    pub(crate) fn on(data: &Path, engine: FakeEngine) -> Self {
        Self::open(settings(data), engine, None)
    }

    fn open(
        settings: Settings,
        engine: FakeEngine,
        folder: Option<Arc<tempfile::TempDir>>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (host, addr, served) = runtime.block_on(async {
            let host = Host::open(settings.clone(), Arc::new(engine.clone())).unwrap();
            // The usual queue of 128 is soon full: then a client's kernel waits for a second.
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(4096).unwrap();
            let addr = listener.local_addr().unwrap();
            let serving = host.clone();
            let served = tokio::spawn(async move {
                let stopped = async { drop(stopped.await) };
                calve_manager::api::serve(&serving, listener, stopped, LONG).await
            });
            (host, addr, served)
        });
        Self {
            engine,
            host: Some(host),
            addr,
            runtime: Some(runtime),
            stop: Some(stop),
            served: Some(served),
            folder,
            settings,
        }
    }

    /// Somebody of a tenant, which is made if it is not there.
    pub(crate) fn client(&self, tenant: &str) -> Client {
        self.client_of(tenant, false)
    }

    /// Somebody of a tenant, with a root key perhaps.
    pub(crate) fn client_of(&self, tenant: &str, root: bool) -> Client {
        let keyring = self.host().keyring();
        let key = keyring.create_key(tenant, root).unwrap();
        let account = keyring.tenant(tenant).unwrap().account.clone();
        let bearer = format!("Bearer {}:{}", key.id, key.secret);
        Client { addr: self.addr, bearer, account, host: String::new() }
    }

    /// Changes what a tenant may use.
    pub(crate) fn limit(&self, tenant: &str, change: impl FnOnce(&mut Quota)) {
        let keyring = self.host().keyring();
        let mut quota = keyring.tenant(tenant).unwrap().quota;
        change(&mut quota);
        keyring.set_quota(tenant, quota).unwrap();
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        self.host.as_ref().unwrap()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.settings.data
    }

    /// Has it do something in its runtime.
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// Tells it to stop, and does not wait.
    pub(crate) fn begin_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until it has served everybody; it has to have been told to stop.
    pub(crate) fn wait_until_served(&mut self) {
        let served = self.served.take().unwrap();
        let served = self.run(async { tokio::time::timeout(LONG, served).await });
        served.expect("the server does not stop").unwrap().unwrap();
    }

    /// Stops it as a signal does; the folder is free afterwards.
    pub(crate) fn stop(&mut self) {
        self.begin_to_stop();
        self.wait_until_served();
        self.host = None;
        self.runtime.take().unwrap().shutdown_timeout(LONG);
    }

    /// Stops it and starts another on its folder, with the same engine.
    pub(crate) fn restarted(mut self) -> Self {
        self.stop();
        let (settings, engine) = (self.settings.clone(), self.engine.clone());
        let folder = self.folder.clone();
        // Now: this lets go of whatever its engine holds.
        drop(self);
        Self::open(settings, engine, folder)
    }

    /// Copies its folder as it is on the disk now, and starts another host on that: what a power cut leaves.
    pub(crate) fn reborn(&self, engine: FakeEngine) -> Self {
        let folder = Arc::new(folder());
        let data = folder.path().join("data");
        copy(self.data(), &data);
        Self::open(Settings { data, ..self.settings.clone() }, engine, Some(folder))
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.engine.release();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A package of one file.
pub(crate) fn zip_of(code: &str) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("main.py", SimpleFileOptions::default()).unwrap();
    zip.write_all(code.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

//! `calve serve`: the function host, on a fleet and a store of this machine.

use std::sync::Arc;
use std::time::Duration;

use calve_fleet::{Fleet, Options};
use calve_manager::api;
use calve_manager::engine::FleetEngine;
use calve_manager::host::{Host, HostError};
use calve_snapshots::Store;
use tokio::sync::Notify;

use crate::args::Serve;
use crate::failure::{Failure, Status};
use crate::store::Place;
use crate::{fleet, interrupt, stdio};

mod first_key;
mod images;
mod log;
mod settings;

use settings::Settings;

/// Threads that may wait for machines, besides one for each machine.
const SPARE_THREADS: usize = 128;

/// Serves until a signal comes, and then until the calls under way are done.
pub(crate) fn run(place: &Place, args: Serve) -> Result<(), Failure> {
    let settings = Settings::new(args)?;
    log::start(settings.log_format);
    fleet::check_host()?;
    raise_descriptors();
    let fleet = Fleet::new(Options::default())?;
    calve_manager::host::make_folder(&settings.host.data)?;
    let store = place.or(&settings.host.data.join("store")).open()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(settings.host.machines.machines + SPARE_THREADS)
        .build()
        .map_err(|e| Failure::of(Status::Host, &e).about("cannot start threads"))?;
    let served = runtime.block_on(serve(settings, fleet, store));
    // What still waits for a machine is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(5));
    served
}

async fn serve(settings: Settings, fleet: Fleet, store: Store) -> Result<(), Failure> {
    let engine = Arc::new(FleetEngine::new(fleet, store, images::Cached));
    let (listen, key_file) = (settings.listen, settings.first_key);
    let listener = api::listen(listen).map_err(|e| Failure::of(Status::Usage, &e).about(listen))?;
    let at = listener.local_addr().unwrap_or(listen);
    let host = Host::open(settings.host, engine)?;
    first_key::ensure(host.keyring(), key_file.as_deref())?;
    let stop = Arc::new(Notify::new());
    let told = stop.clone();
    let _signal = interrupt::on_signal(move || told.notify_one());
    stdio::say(format_args!("serving on http://{at}"));
    let served = api::serve(&host, listener, stop.notified(), settings.grace).await;
    served.map_err(|e| Failure::of(Status::Host, &e).about(at))
}

/// Each machine takes some descriptors: as many as there may be.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it is refused, there are fewer machines.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let status = match &error {
            HostError::Folder { .. } | HostError::Taken(_) => Status::Usage,
            _ => Status::Host,
        };
        Self::of(status, &error)
    }
}

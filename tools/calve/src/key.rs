//! `calve key`: access keys, in the function host's own file.
//!
//! Not over HTTP: the first key is made when nobody has one. The ledger is safe to share between processes, and a
//! running host looks there for a key that it does not know.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use calve_manager::auth::{Keyring, KeyringError};
use calve_manager::ledger::{LedgerError, SqliteLedger};
use calve_manager::model::AccessKey;
use serde::Serialize;

use crate::args::{Data, Key};
use crate::failure::{Failure, Status};
use crate::table::{self, Table};
use crate::{interrupt, near, stdio};

/// The ledger's name in the host's folder.
const LEDGER: &str = "host.db";

/// Does what the subcommand says.
pub(crate) fn run(command: Key) -> Result<(), Failure> {
    // Each is done in one step.
    let _guard = interrupt::leave_at_once();
    match command {
        Key::Create { data, tenant, root, json } => create(&data, &tenant, root, json),
        Key::Ls { data, tenant, json } => list(&data, tenant.as_deref(), json),
        Key::Rm { data, id } => remove(&data, &id),
    }
}

/// The key in the form for programs; the field names are documented.
#[derive(Serialize)]
struct Created<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
}

fn create(data: &Data, tenant: &str, root: bool, json: bool) -> Result<(), Failure> {
    // For the owner alone, like all that will be in it.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&data.folder);
    made.map_err(|e| Failure::of(Status::Usage, &e).about(data.folder.display()))?;
    let key = open(&data.folder)?.create_key(tenant, root)?;
    if json {
        let (id, secret) = (&key.id, &key.secret);
        return stdio::print_json(&Created { access_key_id: id, secret_access_key: secret });
    }
    stdio::print_line(format!("key     {}\nsecret  {}", key.id, key.secret))
}

/// A key of the list in the form for programs: all but its secret.
#[derive(Serialize)]
struct Line<'a> {
    access_key_id: &'a str,
    tenant: &'a str,
    root: bool,
    created_ms: u64,
}

fn list(data: &Data, tenant: Option<&str>, json: bool) -> Result<(), Failure> {
    let keyring = open_existing(&data.folder)?;
    if let Some(tenant) = tenant.filter(|tenant| keyring.tenant(tenant).is_none()) {
        let known: Vec<String> = keyring.tenants().iter().map(|t| t.name.clone()).collect();
        return Err(unknown("tenant", tenant, &known));
    }
    let keys = keys(&keyring, tenant);
    if json {
        return keys.iter().try_for_each(|key| {
            let (access_key_id, tenant) = (&*key.id, &*key.tenant);
            let (root, created_ms) = (key.root, key.created);
            stdio::print_json(&Line { access_key_id, tenant, root, created_ms })
        });
    }
    let mut table = Table::new(["KEY", "TENANT", "ROOT", "CREATED"]);
    for key in keys {
        let created = UNIX_EPOCH.checked_add(Duration::from_millis(key.created));
        let root = if key.root { "yes" } else { "no" };
        let age = created.map(table::age).unwrap_or_default();
        table.row([key.id.clone(), key.tenant.clone(), root.to_owned(), age]);
    }
    stdio::print(table.render().as_bytes())
}

fn remove(data: &Data, id: &str) -> Result<(), Failure> {
    let keyring = open_existing(&data.folder)?;
    if keyring.remove_key(id)? {
        return Ok(());
    }
    let known: Vec<String> = keys(&keyring, None).iter().map(|key| key.id.clone()).collect();
    Err(unknown("key", id, &known))
}

/// The keys of one tenant or of all.
fn keys(keyring: &Keyring, tenant: Option<&str>) -> Vec<Arc<AccessKey>> {
    let tenants = keyring.tenants().into_iter();
    let wanted = tenants.filter(|found| tenant.is_none_or(|tenant| tenant == found.name));
    wanted.flat_map(|tenant| keyring.list_keys(&tenant.name)).collect()
}

fn unknown(what: &str, name: &str, known: &[String]) -> Failure {
    match near::nearest(name, known) {
        Some(near) => {
            Failure::usage(format_args!("there is no {what} `{name}`; did you mean `{near}`?"))
        }
        None => Failure::usage(format_args!("there is no {what} `{name}`; see `calve key ls`")),
    }
}

/// Opens the keyring of a folder that must have one: looking does not make anything.
fn open_existing(folder: &Path) -> Result<Keyring, Failure> {
    let ledger = folder.join(LEDGER);
    match ledger.try_exists() {
        Ok(true) => open(folder),
        Ok(false) => Err(Failure::usage(format_args!(
            "{}: there is no function host's data here; make a first key with `calve key create`",
            folder.display()
        ))),
        Err(error) => Err(Failure::of(Status::Usage, &error).about(ledger.display())),
    }
}

/// Opens the keyring; makes its ledger where there is none.
fn open(folder: &Path) -> Result<Keyring, Failure> {
    let path = folder.join(LEDGER);
    let opened = SqliteLedger::open(&path).and_then(|ledger| Keyring::open(Arc::new(ledger)));
    opened.map_err(|error| Failure::from(error).about(path.display()))
}

impl From<KeyringError> for Failure {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Name(_) | KeyringError::NoTenant(_) => Self::of(Status::Usage, &error),
            KeyringError::Random(_) => Self::of(Status::Host, &error),
            KeyringError::Ledger(error) => error.into(),
        }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let status = match &error {
            // Another folder, or another program, would do.
            LedgerError::File { .. } | LedgerError::Version { .. } => Status::Usage,
            LedgerError::Full(_) => Status::Host,
            _ => Status::Machine,
        };
        Self::of(status, &error)
    }
}

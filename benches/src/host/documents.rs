//! What is in a host's ledger before it starts.

use std::collections::BTreeMap;
use std::path::Path;

use calve_manager::host::{ledger_file, make_folder};
use calve_manager::ledger::{Ledger as _, SqliteLedger};
use calve_manager::model::{
    AccessKey, Alias, Code, Configuration, Function, LATEST, Millis, Policy, Quota, Reuse,
    Snapshot, State, Tenant, Update, Version,
};

/// Functions of one tenant: as many as tenants may have if nobody says otherwise.
const OF_TENANT: usize = 1000;
/// Variables of a function, each with its value 64 bytes: 1 KB.
const VARIABLES: usize = 16;
/// The key of the first tenant.
pub(super) const KEY: &str = "AKIABENCHBENCHBENCHB";
/// When everything was made: an hour of 2025.
const MADE: Millis = 1_750_000_000_000;

/// Functions whose machines serve one call, and those whose machines serve many: every other one.
pub(super) const FRESH: &str = "function-00000";
pub(super) const KEEP: &str = "function-00001";

/// Makes a data folder with so many functions, two at least. The secret of [`KEY`].
pub(super) fn fill(data: &Path, functions: usize) -> anyhow::Result<String> {
    make_folder(data)?;
    let ledger = SqliteLedger::open(&ledger_file(data))?;
    let functions = functions.max(2);
    for n in 0..functions.div_ceil(OF_TENANT) {
        ledger.put_tenant(&tenant(n))?;
    }
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned();
    ledger.add_key(&AccessKey {
        id: KEY.into(),
        secret: secret.clone(),
        tenant: tenant(0).name,
        root: false,
        created: MADE,
    })?;
    (0..functions).try_for_each(|n| ledger.put_function(&function(n)))?;
    Ok(secret)
}

/// One that may call as often as it likes.
fn tenant(n: usize) -> Tenant {
    let quota = Quota { rate: 1_000_000, ..Quota::default() };
    Tenant {
        name: format!("tenant-{n}"),
        account: format!("{:012}", 111_111_111_111 + n),
        quota,
        created: MADE,
    }
}

fn function(n: usize) -> Function {
    let latest = version(n, None);
    let alias = Alias {
        version: "1".into(),
        weights: BTreeMap::new(),
        description: "what clients call".into(),
        revision: revision(n),
    };
    Function {
        tenant: tenant(n / OF_TENANT).name,
        name: format!("function-{n:05}"),
        versions: [(1, version(n, Some(1)))].into(),
        latest,
        last_number: 1,
        aliases: [("live".to_owned(), alias)].into(),
        reserved: None,
        provisioned: BTreeMap::new(),
        event_invoke: BTreeMap::new(),
        urls: BTreeMap::new(),
        tags: [("team".to_owned(), format!("team-{}", n % 7))].into(),
        policy: Policy {
            reuse: if n.is_multiple_of(2) { Reuse::Fresh } else { Reuse::Keep },
            ..Policy::default()
        },
    }
}

/// A version that can be called.
fn version(n: usize, number: Option<u32>) -> Version {
    let variable = |at: usize| (format!("VARIABLE_{at:03}"), format!("{n:052x}"));
    Version {
        number,
        configuration: Configuration {
            runtime: "python3.11".into(),
            handler: "app.handler".into(),
            role: "arn:aws:iam::111111111111:role/service-role/lambda-basic-execution".into(),
            description: "answers requests of its clients".into(),
            timeout_s: 3,
            memory_mib: 128,
            environment: (0..VARIABLES).map(variable).collect(),
            layers: Vec::new(),
            dead_letter: String::new(),
            tracing: "PassThrough".into(),
            ephemeral_mib: 512,
            snap_start: "None".into(),
        },
        code: Code { sha256: format!("{n:064x}"), size: 10_000 },
        state: State::Active,
        update: Update::Successful,
        revision: revision(n),
        lineage: revision(n),
        modified: MADE,
        snapshot: Some(Snapshot {
            name: format!("fn.{n:032x}{:>8}", number.map_or(LATEST.into(), |n| n.to_string()))
                .replace([' ', '$'], "0"),
            memory_mib: 128,
            timeout_s: 3,
            lineage: revision(n),
        }),
    }
}

/// As long as a UUID.
fn revision(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

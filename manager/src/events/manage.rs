//! Creates, changes and removes sources, for a caller. Everything here blocks.

use std::sync::Arc;

use http::StatusCode;

use super::deliver::new_id;
use super::inbox::Inbox;
use super::queue::internal;
use super::registry::Live;
use super::settings::{Kind, Settings};
use super::target::{Target, has};
use super::{Events, arn};
use crate::api::ApiError;
use crate::auth::Caller;
use crate::ledger::{LedgerError, Source};

/// Sources of a tenant.
const MOST: usize = 1000;

/// A source to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The function: name or ARN, with a qualifier or without.
    pub function: String,
    /// Whether it delivers.
    pub enabled: bool,
    /// What kind of source it is.
    pub kind: Kind,
}

/// What is to change of a source. What is not given stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// The function.
    pub function: Option<String>,
    /// Whether it delivers.
    pub enabled: Option<bool>,
    /// Other settings, of the same kind.
    pub kind: Option<Kind>,
    /// The most messages of one event.
    pub batch_size: Option<u32>,
}

/// Why a change under the registry's lock was not made.
enum Unmade {
    Refused(ApiError),
    Ledger(LedgerError),
}

impl From<LedgerError> for Unmade {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Unmade> for ApiError {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Refused(error) => error,
            Unmade::Ledger(LedgerError::Missing { .. }) => {
                Self::not_found("the function has just been removed")
            }
            Unmade::Ledger(error) => internal(&error),
        }
    }
}

impl Events {
    /// Adds a source of the caller's tenant.
    ///
    /// # Errors
    ///
    /// When its function is not the tenant's, when its settings cannot be, when its folder or queue has a source, or when
    /// the ledger or the file system fails.
    pub fn create(&self, caller: &Caller, draft: Draft) -> Result<Arc<Live>, ApiError> {
        let Draft { function, enabled, kind } = draft;
        kind.check()?;
        let target = self.target(caller, &function)?;
        self.prepare(caller, &kind)?;
        let now = self.now();
        let after = self.rows_before(caller, &kind)?;
        let settings = Settings { source: kind, since: now, after };
        let source = source(new_id(), &caller.tenant, target, &settings, enabled, now)?;
        self.put_source(source, None)
    }

    /// A source of the caller's tenant.
    ///
    /// # Errors
    ///
    /// When there is none of that id, or when the ledger fails.
    pub fn get(&self, caller: &Caller, id: &str) -> Result<Arc<Live>, ApiError> {
        let all = self.list(caller)?;
        let found = all.into_iter().find(|live| live.source.id == id);
        found.ok_or_else(|| ApiError::not_found("The resource you requested does not exist."))
    }

    /// All sources of the caller's tenant, by id.
    ///
    /// # Errors
    ///
    /// When the ledger fails.
    pub fn list(&self, caller: &Caller) -> Result<Vec<Arc<Live>>, ApiError> {
        // From the ledger, which knows what went with its function.
        let sources = self.parts.ledger.sources().map_err(|error| internal(&error))?;
        let own = sources.into_iter().filter(|source| source.tenant == caller.tenant);
        Ok(own.filter_map(|source| Live::read(source).ok()).map(Arc::new).collect())
    }

    /// Changes a source of the caller's tenant.
    ///
    /// # Errors
    ///
    /// As [`Self::create`] and [`Self::get`].
    pub fn update(&self, caller: &Caller, id: &str, change: Change) -> Result<Arc<Live>, ApiError> {
        let before = self.get(caller, id)?;
        let mut settings = before.settings.clone();
        if let Some(kind) = change.kind {
            if std::mem::discriminant(&kind) != std::mem::discriminant(&settings.source) {
                return Err(ApiError::invalid("the kind of a source cannot be changed"));
            }
            settings.source = kind;
        }
        if let Some(size) = change.batch_size {
            settings.source = with_batch_size(settings.source, size)?;
        }
        settings.source.check()?;
        self.prepare(caller, &settings.source)?;
        let target = match change.function {
            Some(function) => self.target(caller, &function)?,
            None => Target {
                name: before.source.function.clone(),
                qualifier: before.source.qualifier.clone(),
            },
        };
        let enabled = change.enabled.unwrap_or(before.source.enabled);
        let now = self.now();
        if (enabled && !before.source.enabled)
            || timetable(&settings.source) != timetable(&before.settings.source)
        {
            settings.since = now;
        }
        if !settings.source.is_same_place(&before.settings.source) {
            settings.after = self.rows_before(caller, &settings.source)?;
        }
        let source =
            source(before.source.id.clone(), &caller.tenant, target, &settings, enabled, now)?;
        self.put_source(source, Some(&before.source))
    }

    /// Removes a source of the caller's tenant; as it was. Messages of it that wait will be refused.
    ///
    /// # Errors
    ///
    /// As [`Self::get`].
    pub fn delete(&self, caller: &Caller, id: &str) -> Result<Arc<Live>, ApiError> {
        let live = self.get(caller, id)?;
        let ledger = &*self.parts.ledger;
        self.registry.change(ledger, || Ok::<_, Unmade>(ledger.remove_source(id)?))?;
        self.changed.notify_one();
        Ok(live)
    }

    /// ARNs of a source: of what it takes from, of its function, and its own.
    pub(super) fn arns(&self, live: &Live) -> [String; 3] {
        let (region, source) = (&self.parts.region, &live.source);
        let account = self.account(&source.tenant);
        [
            arn::of(region, &account, &source.id, &live.settings.source),
            Target::arn(&source.function, &source.qualifier, region, &account),
            arn::of_mapping(region, &account, &source.id),
        ]
    }

    /// A function of the caller's tenant, and which version.
    pub(super) fn target(&self, caller: &Caller, text: &str) -> Result<Target, ApiError> {
        let target = Target::parse(text, &self.parts.region, &caller.account)?;
        let function = (self.parts.functions)(&caller.tenant, &target.name);
        let function = function.filter(|function| function.tenant == caller.tenant);
        if function.is_some_and(|function| has(&function, &target.qualifier)) {
            return Ok(target);
        }
        Err(ApiError::not_found(format!("Function not found: {text}")))
    }

    /// Makes the folder that files will be dropped in, or the tenant's, for databases.
    fn prepare(&self, caller: &Caller, kind: &Kind) -> Result<(), ApiError> {
        let folder = match kind {
            Kind::FileDrop { folder, .. } => folder.as_str(),
            Kind::Table { .. } => "",
            Kind::Schedule { .. } | Kind::Queue { .. } => return Ok(()),
        };
        Inbox::open(&self.parts.files, &caller.tenant, folder).map_err(|error| {
            tracing::warn!(tenant = caller.tenant, folder, %error, "a folder cannot be made");
            ApiError::invalid(format!("the folder `{folder}` cannot be made or opened"))
        })?;
        Ok(())
    }

    /// The last row that a table has already, if those are none of the source's business. Known before the source is there: a
    /// row that comes after that is new.
    fn rows_before(&self, caller: &Caller, kind: &Kind) -> Result<Option<i64>, ApiError> {
        let Kind::Table { database, table, existing: false } = kind else { return Ok(None) };
        let Some(look) = self.looking.take(caller.tenant.clone()) else {
            let text = "Another table of yours is being looked at: try again";
            return Err(ApiError::conflict(text));
        };
        let last = self.last_row(&caller.tenant, database, table);
        drop(look);
        last.map_err(|error| match error {
            Some(error) => {
                let table = format!("{database}/{table}");
                tracing::info!(
                    tenant = caller.tenant,
                    table,
                    error = &error as &dyn std::error::Error,
                    "refused"
                );
                ApiError::invalid(format!("`{table}` cannot be an event source: {error}"))
            }
            None => ApiError::conflict(format!("`{database}` is being written to: try again")),
        })
    }

    /// Puts a source in the place of `before`, or adds it.
    fn put_source(&self, source: Source, before: Option<&Source>) -> Result<Arc<Live>, ApiError> {
        let ledger = &*self.parts.ledger;
        let live = Live::read(source).map_err(|error| internal(&error))?;
        self.registry.change(ledger, || {
            let all = ledger.sources()?;
            let found = all.iter().find(|other| other.id == live.source.id);
            if found != before {
                let text = "the event source was changed or removed meanwhile: try again";
                return Err(Unmade::Refused(ApiError::conflict(text)));
            }
            let own: Vec<_> = all
                .into_iter()
                .filter(|other| other.tenant == live.source.tenant && other.id != live.source.id)
                .collect();
            if before.is_none() && own.len() >= MOST {
                return Err(Unmade::Refused(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    "LimitExceededException",
                    format!("a tenant has {MOST} event sources at most: delete one"),
                )));
            }
            let taken = own.into_iter().filter_map(|other| Live::read(other).ok());
            let mut taken =
                taken.filter(|other| other.settings.source.is_same_place(&live.settings.source));
            if let Some(other) = taken.next() {
                return Err(Unmade::Refused(ApiError::conflict(format!(
                    "An event source mapping of this source already exists. Please update or delete the existing mapping \
                     with UUID {}",
                    other.source.id
                ))));
            }
            Ok(ledger.put_source(&live.source)?)
        })?;
        self.changed.notify_one();
        Ok(Arc::new(live))
    }
}

/// A source with a batch size; only queues have one that is not 1.
pub(super) fn with_batch_size(kind: Kind, size: u32) -> Result<Kind, ApiError> {
    match kind {
        Kind::Queue { name, .. } => Ok(Kind::Queue { name, batch_size: size }),
        other if size == 1 => Ok(other),
        _ => Err(ApiError::invalid("BatchSize of this kind of event source is 1")),
    }
}

fn timetable(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::Schedule { expression, .. } => Some(expression),
        _ => None,
    }
}

fn source(
    id: String,
    tenant: &str,
    target: Target,
    settings: &Settings,
    enabled: bool,
    modified: u64,
) -> Result<Source, ApiError> {
    let settings = serde_json::to_string(settings).map_err(|error| internal(&error))?;
    let Target { name, qualifier } = target;
    let tenant = tenant.to_owned();
    Ok(Source { id, tenant, function: name, qualifier, settings, enabled, modified })
}

//! The base trees of the cache: which packages a runtime was last resolved to, and their unpacked tree.

use super::RootError;
use super::fill::Filler;
use super::recipe::{Recipe, STAND_INS};
use crate::apt::{Apt, Deb, Package};
use crate::cache::Cache;
use crate::digest::Key;
use crate::fsutil::{self, FileError, create_dir, in_file};
use crate::progress::Progress;
use crate::runtime::Runtime;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::PathBuf;

/// What a base tree was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BaseId {
    pub(super) runtime: Runtime,
    pub(super) suite: String,
    recipe: String,
    pub(super) packages: Vec<Package>,
}

impl BaseId {
    fn new(runtime: Runtime, recipe: &Recipe, debs: &[Deb]) -> Self {
        let packages = debs.iter().map(|deb| deb.package.clone()).collect();
        Self { runtime, suite: recipe.suite.to_owned(), recipe: recipe.digest(), packages }
    }

    /// Hashes everything that the tree depends on.
    pub(super) fn key(&self) -> String {
        let fields = self.packages.iter().flat_map(|p| [&p.name, &p.version, &p.sha256]);
        let fields: Vec<&str> = fields.map(String::as_str).collect();
        Key::new("base")
            .field(self.runtime.as_str())
            .field(&self.recipe)
            .fields(fields.into_iter())
            .finish()
    }
}

/// A finished base tree.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) id: BaseId,
    pub(super) tree: PathBuf,
}

impl Base {
    /// The tree made last for a runtime, unless the recipe has changed since.
    pub(super) fn remembered(cache: &Cache, runtime: Runtime) -> Option<Self> {
        let id: BaseId = fsutil::read_json(&memory(cache, runtime))?;
        (id.recipe == Recipe::of(runtime).digest()).then_some(())?;
        Self::find(cache, id)
    }

    fn find(cache: &Cache, id: BaseId) -> Option<Self> {
        let tree = place(cache, &id).join("tree");
        tree.is_dir().then_some(Self { id, tree })
    }
}

/// The file that says which packages were chosen last.
fn memory(cache: &Cache, runtime: Runtime) -> PathBuf {
    cache.bases().join(format!("{runtime}.json"))
}

fn place(cache: &Cache, id: &BaseId) -> PathBuf {
    cache.bases().join(format!("{}-{}", id.runtime, id.key()))
}

/// Resolves the newest packages and makes their tree, unless there is one. The caller holds the lock of the roots.
pub(super) fn build(
    cache: &Cache,
    runtime: Runtime,
    progress: &mut dyn Progress,
) -> Result<Base, RootError> {
    let recipe = Recipe::of(runtime);
    let packages_error = |source| RootError::Packages { runtime, source };
    let apt = Apt::open(cache, recipe.suite, &STAND_INS, progress).map_err(packages_error)?;
    let debs = apt.fetch(&recipe.packages, progress).map_err(packages_error)?;
    let id = BaseId::new(runtime, &recipe, &debs);
    let base = match Base::find(cache, id.clone()) {
        Some(base) => base,
        None => {
            make(cache, &id, &debs, progress)?;
            let tree = place(cache, &id).join("tree");
            Base { id, tree }
        }
    };
    fsutil::write_json(&memory(cache, runtime), &base.id)?;
    remove_older(cache, &base.id)?;
    Ok(base)
}

/// Makes the tree in a temporary place and publishes it.
fn make(
    cache: &Cache,
    id: &BaseId,
    debs: &[Deb],
    progress: &mut dyn Progress,
) -> Result<(), RootError> {
    let bases = cache.bases();
    create_dir(&bases)?;
    fsutil::remove_leftovers(&bases)?;
    let work = fsutil::temporary_dir(&bases)?;
    let tree = work.path().join("tree");
    Filler { tree: &tree, runtime: id.runtime, progress }.fill(debs)?;
    sync(&work)?;
    Ok(fsutil::publish(work, &place(cache, id))?)
}

/// Makes the whole tree durable before it gets its name.
fn sync(work: &tempfile::TempDir) -> Result<(), FileError> {
    let path = work.path();
    let dir = File::open(path).map_err(in_file("open", path))?;
    nix::unistd::syncfs(&dir).map_err(std::io::Error::from).map_err(in_file("sync", path))
}

/// Removes the runtime's earlier trees: images are made from the newest one only.
fn remove_older(cache: &Cache, id: &BaseId) -> Result<(), FileError> {
    let bases = cache.bases();
    let newest = place(cache, id);
    let prefix = format!("{}-", id.runtime);
    for entry in fs::read_dir(&bases).map_err(in_file("read", &bases))? {
        let path = entry.map_err(in_file("read", &bases))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with(&prefix) && path != newest {
            fsutil::remove(&path)?;
        }
    }
    Ok(())
}

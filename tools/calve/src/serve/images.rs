//! The kernel and the root images of the user's cache, for the function host.

use std::error::Error;
use std::path::{Path, PathBuf};

use calve_image::code::{self, Limits};
use calve_image::{BASE_CMDLINE, Cache, Runtime, Silent, kernel, root};
use calve_manager::engine::Images;

use crate::programs::{self, Program};

/// What the cache has; built if it has to be, which takes minutes.
pub(super) struct Cached;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

impl Images for Cached {
    fn kernel(&self) -> Done<(PathBuf, String)> {
        let kernel = kernel::ensure(&Cache::from_env()?, &mut Silent)?;
        Ok((kernel.vmlinux, BASE_CMDLINE.to_owned()))
    }

    fn root(&self, runtime: &str) -> Done<PathBuf> {
        let runtime = Runtime::ALL.into_iter().find(|known| known.as_str() == runtime);
        let runtime = runtime.ok_or("there is no such runtime")?;
        let agent = programs::find(Program::Agent).map_err(|failure| failure.line().to_string())?;
        Ok(root::ensure(&Cache::from_env()?, runtime, &agent, &mut Silent)?.path)
    }

    fn pack(&self, folder: &Path, layers: &[PathBuf], image: &Path) -> Done<()> {
        code::build_layered(folder, layers, image, Limits::default(), &mut Silent)?;
        Ok(())
    }
}

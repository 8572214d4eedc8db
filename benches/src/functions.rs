//! The functions that are measured, and what they are made of.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use calve_fleet::{BuildSpec, Function, RuntimeSpec};
use calve_image::{Cache, Runtime, Silent, code, kernel, root};

/// Deadlines: generous, since an emulated host is some 20 times slower than others.
const SLOW: Duration = Duration::from_secs(300);

/// A function to measure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) memory_mib: u32,
    pub(crate) event: &'static str,
    pub(crate) code: PathBuf,
}

/// Kernel and root image, copied to memory: in the lab, files of its host are slow to read.
pub(crate) struct Images {
    pub(crate) kernel: PathBuf,
    pub(crate) root: PathBuf,
}

impl Images {
    pub(crate) fn new(agent: &Path, folder: &Path) -> anyhow::Result<Self> {
        let cache = Cache::from_env()?;
        let copy = |from: &Path, name: &str| {
            let to = folder.join(name);
            std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            Ok::<_, anyhow::Error>(to)
        };
        let kernel = kernel::ensure(&cache, &mut Silent)?;
        let root = root::ensure(&cache, Runtime::Python311, agent, &mut Silent)?;
        Ok(Self { kernel: copy(&kernel.vmlinux, "vmlinux")?, root: copy(&root.path, "root")? })
    }
}

/// The functions; `numpy` is a folder that has numpy in it.
pub(crate) fn cases(
    functions: &Path,
    numpy: Option<&Path>,
    folder: &Path,
) -> anyhow::Result<Vec<Case>> {
    let image = |name: &str, code: &Path| {
        let image = folder.join(format!("{name}.erofs"));
        code::build(code, &image)?;
        Ok::<_, anyhow::Error>(image)
    };
    let hello = image("hello", &functions.join("hello"))?;
    let mut cases =
        vec![Case { name: "python hello", memory_mib: 256, event: r#"{"n":1}"#, code: hello }];
    if let Some(numpy) = numpy {
        let code = image("numpy", numpy)?;
        let event = r#"{"n":1}"#;
        cases.push(Case { name: "python numpy 30 MB", memory_mib: 512, event, code });
    }
    Ok(cases)
}

impl Case {
    pub(crate) fn function(&self) -> Function {
        let function = Function::new("bench", "python3.11", "app.handler");
        Function { timeout: SLOW, init_timeout: SLOW, ..function }
    }

    /// Name of its snapshot; a flat one has a name of its own.
    pub(crate) fn snapshot(&self, flat: bool) -> String {
        format!("{}{}", self.name.replace(' ', "-"), if flat { ".flat" } else { "" })
    }

    /// The runtime that it stands on.
    pub(crate) fn runtime(&self, images: &Images) -> RuntimeSpec {
        RuntimeSpec {
            name: format!("runtime.{}m", self.memory_mib),
            runtime: "python3.11".into(),
            memory_mib: self.memory_mib,
            vcpus: 1,
            kernel: images.kernel.clone(),
            root: images.root.clone(),
            cmdline: calve_image::BASE_CMDLINE.into(),
            init_timeout: SLOW,
            up_timeout: SLOW,
        }
    }

    /// How it is built: on its runtime as by default, or flat, from a boot of its own.
    pub(crate) fn spec(&self, images: &Images, flat: bool) -> BuildSpec {
        let base = (!flat).then(|| self.runtime(images).name);
        BuildSpec {
            name: self.snapshot(flat),
            memory_mib: self.memory_mib,
            vcpus: 1,
            kernel: images.kernel.clone(),
            root: images.root.clone(),
            code: Some(self.code.clone()),
            cmdline: calve_image::BASE_CMDLINE.into(),
            function: self.function(),
            warm: vec![self.event.into()],
            up_timeout: SLOW,
            base,
        }
    }
}

//! `calve snapshot build`: from a folder to a snapshot.
//!
//! What the caller gave is checked before anything is built, and everything cheap before everything slow: events, code,
//! kernel; then the host; then the images; then the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use calve_fleet::{
    BuildError, BuildSpec, Function, LogStream, RuntimeSpec, Step, build_snapshot_with,
};
use calve_image::BASE_CMDLINE;
use calve_image::code::{self, Limits};
use calve_manager::package;
use calve_snapshots::SigningKey;
use tempfile::TempDir;

use super::base;
use crate::args::Build;
use crate::failure::{self, Failure, Status};
use crate::host::read_package;
use crate::logs::Logs;
use crate::progress::Bar;
use crate::run::ErrorObject;
use crate::store::{self, Place};
use crate::{event, fleet, image, interrupt, kernel, stdio};

/// Builds a snapshot and prints its id.
pub(super) fn run(place: &Place, args: Build) -> Result<(), Failure> {
    if args.name.starts_with(RuntimeSpec::PREFIX) {
        let (name, prefix) = (&args.name, RuntimeSpec::PREFIX);
        let text =
            format_args!("name `{name}`: `{prefix}` is what runtimes are called; choose another");
        return Err(Failure::usage(text));
    }
    let warm = args.warm.iter().map(|event| event::read(event)).collect::<Result<_, _>>()?;
    if let Some(kernel) = &args.kernel {
        kernel::open(kernel)?;
    }
    if let Some(root) = &args.root {
        kernel::open_image(root, "root image")?;
    }
    let key = store::given_path(args.sign_key.clone()).map(SigningKey::read).transpose()?;
    let (_folder, code) = pack(&args)?;
    let store = place.open()?;
    // What it is built on will be vouched for with it.
    let store = match key {
        Some(key) => store.signing(key),
        None => store,
    };
    // So that a name that is wrong or in use is told before minutes have been spent.
    let reserved = store.draft(&args.name)?;
    fleet::check_host()?;
    // A runtime is of Calve's own images, and of code that it has room for.
    let own_images = args.kernel.is_none() && args.root.is_none();
    let flat = args.flat || !own_images;
    let mut spec = BuildSpec {
        kernel: args.kernel.clone().map_or_else(image::ensure_kernel, Ok)?,
        root: args.root.clone().map_or_else(|| image::ensure_root(args.runtime), Ok)?,
        code: Some(code),
        cmdline: BASE_CMDLINE.into(),
        memory_mib: args.memory,
        vcpus: args.vcpus,
        function: function(&args),
        name: args.name,
        warm,
        up_timeout: calve_fleet::BootSpec::UP_TIMEOUT,
        base: None,
    };
    let fleet = fleet::new()?;
    let _signal = fleet::cancel_on_signal(&fleet);
    let bar = Bar::new();
    if !flat {
        spec.base = Some(base::ensure(&fleet, &store, &spec, &bar)?);
    }
    drop(reserved);
    let mut logs = Logs::new(false);
    let mut steps = |step| show(&bar, &spec.name, step);
    let mut sink = |_: LogStream, bytes: &[u8]| bar.suspend(|| logs.write(bytes));
    let built = build_snapshot_with(&fleet, &store, &spec, &mut steps, &mut sink);
    drop(bar);
    match built {
        Ok(id) => stdio::print_line(id.to_string()),
        Err(error) => Err(fail(error, &spec.name)),
    }
}

/// Packs the code folder and its layers into an image in a folder that goes with the command.
fn pack(args: &Build) -> Result<(TempDir, PathBuf), Failure> {
    let folder = tempfile::Builder::new().prefix("calve-").tempdir();
    let folder = folder.map_err(|e| Failure::of(Status::Host, &e).about("temporary folder"))?;
    let image = folder.path().join("code.erofs");
    let layers = layers(&args.layer, folder.path())?;
    code::build_layered(&args.code, &layers, &image, Limits::default(), &mut Bar::new())?;
    Ok((folder, image))
}

/// Folders of layers; zip files are unpacked below `folder`.
fn layers(paths: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unpacked = paths.iter().enumerate().map(|(number, path)| {
        // What is there and is no file is for the packing to look at, and so is what is not there.
        if !path.is_file() {
            return Ok(path.clone());
        }
        let (zip, to) = (read_package(path)?, folder.join(format!("layer-{number}")));
        match package::unpack(&zip, &to, &package::Limits::default()) {
            Ok(_) => Ok(to),
            Err(error) => {
                let status = if error.is_of_package() { Status::Usage } else { Status::Host };
                Err(Failure::of(status, &error).about(path.display()))
            }
        }
    });
    unpacked.collect()
}

fn function(args: &Build) -> Function {
    let env = args.env.iter().map(|variable| (variable.name.clone(), variable.value.clone()));
    Function {
        env: env.collect::<BTreeMap<_, _>>(),
        timeout: args.timeout,
        init_timeout: args.init_timeout,
        ..Function::new(
            &args.name,
            args.runtime.as_str(),
            args.handler.as_deref().unwrap_or_default(),
        )
    }
}

pub(super) fn show(bar: &Bar, name: &str, step: Step) {
    match step {
        Step::Images => bar.stage("Taking images into the store"),
        Step::Booting => bar.stage(&format!("Booting {name}")),
        Step::Warming { number, of } => {
            bar.stage(&format!("Warming {name} up, event {number} of {of}"));
        }
        Step::Freezing => bar.stage(&format!("Freezing {name}")),
        Step::Recording => bar.stage(&format!("Trying clones of {name}")),
        Step::Writing { done, total } => bar.advance(done, total),
    }
}

/// A failure of the function is printed as JSON on stdout, like that of a call, besides the line.
fn fail(error: BuildError, name: &str) -> Failure {
    if let Some(error) = failure::in_build(&error).filter(|_| !interrupt::came())
        && let Err(failure) = stdio::print_json(&ErrorObject::from(error))
    {
        return failure;
    }
    Failure::from(error).about(name)
}

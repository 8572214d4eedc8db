//! What the host is told: by options, else by variables, else by a file, else what is usual.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use calve_manager::host;
use serde::Deserialize;

use crate::args::{LogFormat, Serve};
use crate::failure::{Failure, Status};
use crate::store::given_path;

/// Where the host listens if nobody says.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9470);

/// All of it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) host: host::Settings,
    pub(super) listen: SocketAddr,
    pub(super) grace: Duration,
    pub(super) log_format: LogFormat,
    pub(super) first_key: Option<PathBuf>,
}

/// The file. Names are those of the options.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    data: Option<PathBuf>,
    region: Option<String>,
    url_domain: Option<String>,
    memory: Option<u64>,
    machines: Option<u32>,
    builds: Option<u32>,
    patience: Option<u32>,
    bodies: Option<u32>,
    retry: Option<u32>,
    grace: Option<u32>,
    log_format: Option<LogFormat>,
    first_key: Option<PathBuf>,
}

impl Settings {
    pub(super) fn new(args: Serve) -> Result<Self, Failure> {
        let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let data = args.data.or(file.data).ok_or_else(|| {
            Failure::usage("where is everything to be kept? name a folder with --data")
        })?;
        let data = std::path::absolute(&data)
            .map_err(|e| Failure::of(Status::Usage, &e).about(data.display()))?;
        let seconds = |given: Option<u32>, file: Option<u32>, usual: u32| {
            Duration::from_secs(given.or(file).unwrap_or(usual).into())
        };
        let mut host = host::Settings::new(data);
        host.region = args.region.or(file.region).unwrap_or(host.region);
        host.url_domain = args.url_domain.or(file.url_domain);
        if let Some(domain) = host.url_domain.as_deref().filter(|domain| !is_domain(domain)) {
            return Err(Failure::usage(format_args!(
                "{domain} is no domain: letters, digits and hyphens with dots between, no port"
            )));
        }
        host.machines.memory_mib =
            args.memory.or(file.memory).unwrap_or_else(|| available_mib() / 4 * 3).max(128);
        let machines = args.machines.or(file.machines).unwrap_or(500);
        host.machines.machines = usize::try_from(machines).unwrap_or(usize::MAX);
        host.builds = usize::try_from(args.builds.or(file.builds).unwrap_or(1)).unwrap_or(1);
        host.patience = seconds(args.patience, file.patience, 2);
        host.bodies_mib = args.bodies.or(file.bodies).unwrap_or(host.bodies_mib);
        host.retry = seconds(args.retry, file.retry, 60);
        Ok(Self {
            host,
            listen: args.listen.or(file.listen).unwrap_or(LISTEN),
            grace: seconds(args.grace, file.grace, 60),
            log_format: args.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
            first_key: given_path(args.first_key.or(file.first_key)),
        })
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path)
            .map_err(|e| Failure::of(Status::Usage, &e).about(path.display()))?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text.get(..span.start).unwrap_or_default().matches('\n').count()
            });
            let what = error.message().lines().collect::<Vec<_>>().join(" ");
            Failure::usage(format_args!("{} line {line}: {what}", path.display()))
        })?;
        for (name, given, least, most) in [
            ("memory", file.memory, 128, u64::MAX),
            ("machines", file.machines.map(u64::from), 1, 5000),
            ("builds", file.builds.map(u64::from), 1, 64),
            ("bodies", file.bodies.map(u64::from), 140, 1 << 20),
        ] {
            if given.is_some_and(|given| !(least..=most).contains(&given)) {
                let line = text.lines().position(|line| line.trim_start().starts_with(name));
                let line = line.map_or(1, |line| line + 1);
                let at_most = if most == u64::MAX { String::new() } else { format!(" to {most}") };
                return Err(Failure::usage(format_args!(
                    "{} line {line}: {name} has to be {least}{at_most}",
                    path.display()
                )));
            }
        }
        Ok(file)
    }
}

/// Whether host names can end with it (RFC 1123, section 2.1).
fn is_domain(text: &str) -> bool {
    text.len() <= 200
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// What the kernel says can be had without swapping, MiB; 4 GiB where it does not say.
fn available_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(4096, |kib| kib >> 10)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The file that packages install has every setting as a comment, but for those that their unit gives.
    #[test]
    fn the_packaged_file_is_understood() {
        let text = include_str!("../../debian/calve.toml");
        assert_eq!(toml::from_str::<toml::Table>(text).unwrap(), toml::Table::new());
        let lines = text.lines().filter_map(|line| line.strip_prefix('#'));
        let set = lines.filter(|line| !line.starts_with(' ') && line.contains(" = "));
        let set: Vec<_> = set.collect();
        let file: File = toml::from_str(&set.join("\n")).unwrap();
        assert_eq!(file.listen, Some(LISTEN));
        let names = set.iter().filter_map(|line| line.split(" = ").next());
        let names: BTreeSet<_> = names.chain(["data", "first-key"]).collect();
        let refusal = toml::from_str::<File>("unheard-of = 1").unwrap_err();
        assert_eq!(names, known(refusal.message()));
        assert_eq!(names.len(), set.len() + 2, "each once, and not what the unit gives");
    }

    /// The fields of the file, by what serde says where there is another.
    fn known(refusal: &str) -> BTreeSet<&str> {
        let (_, known) = refusal.split_once("expected one of").unwrap();
        known.split('`').skip(1).step_by(2).collect()
    }
}

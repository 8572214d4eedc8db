//! AWS's own clients, with which the function host is tested: boto3, the command line `aws`, and the runtime client for
//! Python with its hooks.
//!
//! Everything is pinned, what they require as well: a test that fails must not be news of somebody else's release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::pypi;

/// Everything, for Python 3.11. `awscli` brings a botocore of its own; boto3 needs the one named here.
const PACKAGES: [&str; 16] = [
    "awscli==1.46.3",
    "awslambdaric==4.2.2",
    "boto3==1.44.8",
    "botocore==1.44.8",
    "colorama==0.4.6",
    "docutils==0.19",
    "jmespath==1.1.0",
    "pyasn1==0.6.5",
    "python-dateutil==2.9.0.post0",
    "pyyaml==6.0.4",
    "rsa==4.7.2",
    "s3transfer==0.19.3",
    "simplejson==4.3.0",
    "six==1.17.0",
    "snapshot-restore-py==1.0.0",
    "urllib3==2.8.0",
];
/// Where descriptions of services are, a folder for each.
const SERVICES: [&str; 2] = ["botocore/data", "awscli/botocore/data"];
/// The services that are kept: Lambda, and those whose commands `aws` renames each time it starts, whatever it is asked
/// for. A client lists the folders of all services when it starts, and where tests run each is a message to the host's
/// file server.
const KEPT: [&str; 7] =
    ["lambda", "codedeploy", "config", "s3", "sagemaker-runtime", "sdb", "sms-voice"];
/// Texts for `aws help`: more files than all the rest.
const EXAMPLES: &str = "awscli/examples";

/// The folder with all of them, for `PYTHONPATH`; made if it is not there.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    pypi::folder(&name(), &PACKAGES, trim)
}

/// Another list is another folder: a checkout of last month finds its own.
fn name() -> String {
    let mut digest = Sha256::new();
    for part in PACKAGES.iter().chain(&KEPT) {
        digest.update(part);
        digest.update(b"\n");
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("clients-{}", &digest[..16])
}

/// Takes out what is said of other services: most of all bytes and files.
fn trim(folder: &Path) -> anyhow::Result<()> {
    remove(&folder.join(EXAMPLES))?;
    for services in SERVICES {
        let services = folder.join(services);
        let read = || format!("cannot read {}", services.display());
        for entry in fs::read_dir(&services).with_context(read)? {
            let entry = entry.with_context(read)?;
            let kept = KEPT.iter().any(|kept| entry.file_name() == **kept);
            // The files beside them are of all services.
            if !kept && entry.file_type().with_context(read)?.is_dir() {
                remove(&entry.path())?;
            }
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_clients_need_to_start_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |path: &str| folder.path().join(path);
        fs::create_dir_all(path(EXAMPLES).join("ec2")).unwrap();
        for services in SERVICES {
            for service in ["ec2", "lambda", "s3", "sqs"] {
                fs::create_dir_all(path(services).join(service)).unwrap();
            }
            fs::write(path(services).join("endpoints.json"), "{}").unwrap();
        }
        trim(folder.path()).unwrap();
        assert!(!path(EXAMPLES).exists());
        for services in SERVICES {
            let mut left: Vec<_> =
                fs::read_dir(path(services)).unwrap().map(|e| e.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, ["endpoints.json", "lambda", "s3"]);
        }
    }

    #[test]
    fn every_version_is_pinned() {
        assert!(PACKAGES.iter().all(|package| package.split_once("==").is_some()));
        assert_eq!(name().len(), "clients-".len() + 16);
    }
}

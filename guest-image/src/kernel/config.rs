//! The config fragment, and the check that a configured kernel keeps to it.

use super::KernelError;

/// Our fragment: every option of the guest kernel that is not off.
pub const FRAGMENT: &str = include_str!("../../kernel/calve.config");

/// Checks that every line of `fragment` holds in `config`. Kconfig silently drops options whose dependencies are not
/// met and options it no longer knows.
pub(super) fn check(fragment: &str, config: &str) -> Result<(), KernelError> {
    let refused: Vec<String> = fragment
        .lines()
        .filter_map(wanted)
        .filter(|(option, value)| value_in(config, option) != *value)
        .map(|(option, value)| format!("{option}={}", value.unwrap_or("n")))
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(KernelError::Refused(refused)) }
}

/// The option a line sets and its value; `None` as the value for an option that must be off.
fn wanted(line: &str) -> Option<(&str, Option<&str>)> {
    if let Some(off) = line.strip_prefix("# CONFIG_") {
        let name = off.strip_suffix(" is not set")?;
        return Some((line.get(2..2 + "CONFIG_".len() + name.len())?, None));
    }
    if !line.starts_with("CONFIG_") {
        return None;
    }
    let (option, value) = line.split_once('=')?;
    Some((option, Some(value)))
}

fn value_in<'a>(config: &'a str, option: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_that_holds_every_line_passes() {
        let fragment = "# -- Title\n\nCONFIG_A=y\n# why\n# CONFIG_B is not set\nCONFIG_N=\"x=1\"\n";
        check(fragment, "CONFIG_A=y\nCONFIG_N=\"x=1\"\nCONFIG_C=y\n").unwrap();
        check(fragment, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=\"x=1\"\n").unwrap();
    }

    #[test]
    fn every_dropped_option_is_named() {
        let fragment = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_NR=8\nCONFIG_OK=y\n";
        let config = "CONFIG_AB=y\nCONFIG_B=y\nCONFIG_NR=64\nCONFIG_OK=y\n";
        let error = check(fragment, config).unwrap_err().to_string();
        assert!(error.ends_with("CONFIG_A=y, CONFIG_B=n, CONFIG_NR=8"), "{error}");
    }

    #[test]
    fn the_fragment_names_no_option_twice_and_no_modules() {
        let mut names: Vec<_> = FRAGMENT.lines().filter_map(wanted).map(|(name, _)| name).collect();
        let count = names.len();
        assert!(count > 100, "{count} options");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(!FRAGMENT.lines().any(|line| line.ends_with("=m")));
    }

    #[test]
    fn what_the_machine_relies_on_is_in_the_fragment() {
        for option in [
            "PVH",
            "KVM_GUEST",
            "ACPI",
            "VMGENID",
            "VIRTIO_MMIO",
            "VIRTIO_BLK",
            "VIRTIO_VSOCKETS",
            "EROFS_FS",
            "OVERLAY_FS",
            "TMPFS",
            "DEVTMPFS",
            "MEMCG",
            "COMPACTION",
        ] {
            let line = format!("CONFIG_{option}=y");
            assert!(FRAGMENT.lines().any(|l| l == line), "{line}");
        }
    }
}

//! Packages that are declared installed, so that apt does not bring them.

/// A package that is declared installed without being there, because only maintainer scripts would use it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StandIn {
    pub(crate) name: &'static str,
    /// Virtual packages it also stands for.
    pub(crate) provides: &'static str,
}

/// A dpkg status file in which exactly the stand-ins are installed.
pub(super) fn status(stand_ins: &[StandIn]) -> String {
    let stanza = |stand_in: &StandIn| {
        let provides = match stand_in.provides {
            "" => String::new(),
            names => format!("Provides: {names}\n"),
        };
        // The version only has to satisfy every `>=`.
        format!(
            "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: foreign\n\
             Version: 9999\n{provides}Maintainer: nobody <nobody@localhost>\nDescription: stand-in\n\n",
            stand_in.name
        )
    };
    stand_ins.iter().map(stanza).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_installed_packages_to_apt() {
        let status = status(&[
            StandIn { name: "debconf", provides: "" },
            StandIn { name: "mawk", provides: "awk" },
        ]);
        assert_eq!(status.matches("Status: install ok installed").count(), 2);
        assert!(status.contains("Package: mawk\n") && status.contains("Provides: awk\n"));
        assert!(status.ends_with("\n\n"));
    }
}

use super::*;

const DEFAULT_HOST: &str = "\
Types: deb
# http://snapshot.example/archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites:
 bookworm-security
Components: main contrib
";

fn mirrors(archive: &str, security: &str) -> Mirrors {
    Mirrors { archive: archive.to_owned(), security: security.to_owned() }
}

#[test]
fn deb822_sources_name_the_mirrors() {
    assert_eq!(
        Mirrors::of_sources(&stanzas(DEFAULT_HOST)),
        mirrors("http://mirror.example/debian", "http://mirror.example/debian-security/")
    );
}

#[test]
fn one_line_sources_name_the_mirrors() {
    let text = "\
# deb http://old.example/debian bookworm main
deb-src http://src.example/debian bookworm main
deb [ arch=amd64 signed-by=/x y=z ] https://a.example/debian/ stable-updates main # near
deb\thttps://a.example/debian-security trixie-security main
";
    assert_eq!(
        Mirrors::of_sources(&one_line_sources(text)),
        mirrors("https://a.example/debian/", "https://a.example/debian-security")
    );
}

#[test]
fn third_parties_disabled_stanzas_and_discs_are_passed_over() {
    let text = "\
deb https://download.example/linux/debian bookworm stable
deb https://repo.example/apt bookworm main
deb cdrom:[Debian]/debian bookworm main
deb https://x.example/node_20.x nodistro main
";
    let mut sources = one_line_sources(text);
    sources.extend(stanzas(&DEFAULT_HOST.replace("Types: deb", "Enabled: no\nTypes: deb")));
    assert_eq!(Mirrors::of_sources(&sources), mirrors(ARCHIVE, SECURITY));
}

#[test]
fn lists_of_mirrors_count_as_mirrors() {
    let text = "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main";
    assert_eq!(
        Mirrors::of_sources(&one_line_sources(text)).archive,
        "mirror+file:/etc/apt/mirrors/debian.list"
    );
}

#[test]
fn a_host_without_sources_gets_the_public_mirrors() {
    let etc = tempfile::tempdir().unwrap();
    assert_eq!(Mirrors::of_host(etc.path()), mirrors(ARCHIVE, SECURITY));
}

#[test]
fn both_kinds_of_files_are_read() {
    let etc = tempfile::tempdir().unwrap();
    let parts = etc.path().join("sources.list.d");
    fs::create_dir(&parts).unwrap();
    fs::write(parts.join("debian.sources"), DEFAULT_HOST).unwrap();
    fs::write(parts.join("ignored.save"), "deb http://z.example/debian sid main").unwrap();
    fs::write(etc.path().join("sources.list"), "deb http://one.example/debian sid main").unwrap();
    assert_eq!(
        Mirrors::of_host(etc.path()),
        mirrors("http://one.example/debian", "http://mirror.example/debian-security/")
    );
}

#[test]
fn every_written_source_demands_the_keyring() {
    let text = mirrors("http://a/debian", "http://b/debian-security").sources("trixie", "/k.gpg");
    let read = stanzas(&text);
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].suites, ["trixie", "trixie-updates"]);
    assert_eq!(read[1].suites, ["trixie-security"]);
    assert_eq!(text.matches("Signed-By: /k.gpg\n").count(), 2);
}

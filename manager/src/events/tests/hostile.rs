//! What does not belong into an inbox.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;

use super::*;

#[tokio::test]
async fn takes_regular_files_only() {
    let host = Host::new();
    let secret = host.folder.path().join("secret");
    write(host.folder.path(), "secret", "of somebody else");
    std::fs::create_dir_all(host.inbox()).unwrap();
    let fill = |prefix: &str| {
        let at = |name: &str| host.inbox().join(format!("{prefix}{name}"));
        symlink(&secret, at("link")).unwrap();
        symlink("missing", at("dangling")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("folder").join("inner"), "x").unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("s")).unwrap();
    };
    fill("before-");
    host.add(r#"{"kind":"file-drop","folder":"inbox","inline":true}"#);
    let sources = Sources::start(host.events.clone()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    fill("after-");
    write(&host.inbox(), ".hidden", "unfinished");
    // What has been moved in is announced, whatever it is.
    symlink(&secret, host.files().join("link")).unwrap();
    std::fs::rename(host.files().join("link"), host.inbox().join("moved-link")).unwrap();
    for name in [b"new\nline".as_slice(), b"\xff\xfe", b"-rf", b"it's \"so\"", &[b'x'; 255]] {
        std::fs::write(host.inbox().join(OsStr::from_bytes(name)), "fine").unwrap();
    }
    host.wait_for(5).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    sources.stop().await;
    let bodies = host.bodies();
    assert_eq!(bodies.len(), 5);
    assert!(bodies.iter().all(|body| body["Records"][0]["s3"]["object"]["content"] == "ZmluZQ=="));
    assert_eq!(count(&host.inbox().join(".done")), 5);
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "of somebody else");
}

#[test]
fn a_folder_that_leads_elsewhere_is_not_opened() {
    let host = Host::new();
    std::fs::create_dir_all(host.files().join("a")).unwrap();
    std::fs::create_dir_all(host.files().join("b/inbox")).unwrap();
    symlink("../b", host.files().join("a/link")).unwrap();
    for folder in ["link", "link/inbox"] {
        let kind = Kind::FileDrop { folder: folder.into(), inline: false, keep: false };
        let draft = Draft { function: "f".into(), enabled: true, kind };
        let error = host.events.create(&caller("a"), draft).unwrap_err();
        assert_eq!(error.name, "InvalidParameterValueException");
    }
}

#[tokio::test]
async fn a_source_that_fails_is_no_concern_of_others() {
    let host = Host::new();
    let broken = host.add(r#"{"kind":"file-drop","folder":"broken"}"#);
    host.add(r#"{"kind":"file-drop","folder":"inbox"}"#);
    let mut unreadable = broken.source.clone();
    unreadable.id = "unreadable".into();
    unreadable.settings = "{".into();
    host.ledger.put_source(&unreadable).unwrap();
    host.events.refresh().unwrap();
    std::fs::remove_dir(host.files().join("a/broken")).unwrap();
    write(&host.files().join("a"), "broken", "a file where a folder should be");
    let sources = Sources::start(host.events.clone()).unwrap();
    write(&host.inbox(), "x", "content");
    host.wait_for(1).await;
    sources.stop().await;
}

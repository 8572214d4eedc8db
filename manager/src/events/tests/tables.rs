//! Rows of tables.

use std::fs::File;
use std::os::unix::fs::symlink;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::stat::Mode;
use rusqlite::Connection;
use serde_json::json;

use super::deliver::Undelivered;
use super::table::{Looked, Memory, TableError, look};
use super::*;

const ORDERS: &str = r#"{"kind":"table","database":"shop.db","table":"orders"}"#;
const ALL_ORDERS: &str =
    r#"{"kind":"table","database":"shop.db","table":"orders","existing":true}"#;

impl Host {
    /// A file in the tenant's folder.
    fn file(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.files().join("a")).unwrap();
        self.files().join("a").join(name)
    }

    /// Changes the database. Closed again: nothing of it is locked in this process, where looks would end that.
    fn write(&self, sql: &str) {
        let connection = Connection::open(self.file("shop.db")).unwrap();
        connection.execute_batch(sql).unwrap();
        connection.close().unwrap();
    }

    fn look(&self, live: &Arc<Live>, memory: &mut Memory) -> Looked {
        look(&self.events, live, memory).unwrap()
    }

    /// One look of a source that knows nothing, which fails.
    fn fails(&self, live: &Arc<Live>) -> TableError {
        match look(&self.events, live, &mut Memory::default()) {
            Err(Undelivered::Table(error)) => error,
            Err(other) => panic!("{other:?}"),
            Ok(looked) => panic!("{looked:?}"),
        }
    }

    fn table(&self, settings: &str) -> Arc<Live> {
        let id = self.add(settings).source.id.clone();
        // As the supervisor has it.
        self.events.registry.hold()[&id].clone()
    }

    /// The rowids of all messages, in order.
    fn rowids(&self) -> Vec<i64> {
        let rowid = |body: &Value| body["Records"][0]["table"]["rowid"].as_i64().unwrap();
        self.bodies().iter().map(rowid).collect()
    }

    fn acknowledge_all(&self) {
        self.messages().iter().for_each(|message| self.ledger.acknowledge(&message.id).unwrap());
    }
}

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
    INSERT INTO orders (what) SELECT i FROM n;";

#[test]
fn a_row_is_a_message() {
    let host = Host::new();
    let live = host.table(ORDERS);
    let mut memory = Memory::default();
    // No database yet, then an empty file, then no table.
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    host.write("");
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    host.write("CREATE TABLE customers (name)");
    assert!(matches!(host.fails(&live), TableError::NoTable));
    host.write(
        "CREATE TABLE Orders (id INTEGER PRIMARY KEY, what TEXT, picture BLOB);
         INSERT INTO orders VALUES (5, 'floe', x'c0ffee')",
    );
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    let body = host.bodies().remove(0);
    let record = &body["Records"][0];
    assert_eq!(record["eventSource"], "calve:table");
    assert_eq!(
        record["eventSourceARN"],
        "arn:calve:table:eu-central-1:111111111110:shop.db/orders"
    );
    assert_eq!(record["functionArn"], "arn:aws:lambda:eu-central-1:111111111110:function:f");
    assert_eq!(
        record["table"],
        json!({ "database": "shop.db", "name": "orders", "rowid": 5, "base64": ["picture"],
            "row": { "id": 5, "what": "floe", "picture": "wP/u" } })
    );
    let message = host.messages().remove(0);
    assert_eq!(
        (record["eventID"].as_str(), message.source),
        (Some(&*message.id), live.source.id.clone())
    );
}

#[test]
fn rows_that_were_there_are_events_where_they_are_asked_for() {
    let host = Host::new();
    host.write("CREATE TABLE orders (what); INSERT INTO orders VALUES (1), (2);");
    let (new, mut memory) = (host.table(ORDERS), Memory::default());
    host.write("INSERT INTO orders VALUES (3)");
    assert_eq!(host.look(&new, &mut memory), Looked::All);
    assert_eq!(host.rowids(), [3]);
    host.acknowledge_all();
    host.events.delete(&caller("a"), &new.source.id).unwrap();
    let all = host.table(ALL_ORDERS);
    assert_eq!(host.look(&all, &mut Memory::default()), Looked::All);
    assert_eq!(host.rowids(), [1, 2, 3]);
}

#[test]
fn many_rows_are_many_looks_and_none_comes_twice() {
    let mut host = Host::new();
    let live = host.table(ORDERS);
    host.write(&format!("CREATE TABLE orders (what); {MANY}"));
    let mut memory = Memory::default();
    let looks: Vec<_> = (0..3).map(|_| host.look(&live, &mut memory)).collect();
    assert_eq!(looks, [Looked::Some, Looked::Some, Looked::All]);
    assert_eq!(host.rowids(), (1..=600).collect::<Vec<_>>());
    host.acknowledge_all();
    // A host that is started again knows what the ledger has.
    host.reopen();
    let live = host.events.registry.hold()[&live.source.id].clone();
    let mut memory = Memory::default();
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    host.write("INSERT INTO orders VALUES ('one more')");
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    assert_eq!(host.rowids(), [601]);
}

#[test]
fn a_file_that_has_been_left_alone_is_not_read_again() {
    let host = Host::new();
    let live = host.table(ORDERS);
    host.write("CREATE TABLE orders (what); INSERT INTO orders VALUES (1)");
    let mut memory = Memory::default();
    // The kernel's clock has to be past its last change.
    for _ in 0..400 {
        assert_eq!(host.look(&live, &mut memory), Looked::All);
        if memory.is_drained() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(memory.is_drained());
    host.write("INSERT INTO orders VALUES (2)");
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    assert_eq!(host.rowids(), [1, 2]);
}

#[test]
fn nothing_is_taken_from_a_source_that_is_not_what_it_was() {
    let host = Host::new();
    let live = host.table(ORDERS);
    host.write("CREATE TABLE orders (what); INSERT INTO orders VALUES (1)");
    host.set_enabled(&live, false);
    let outcome = look(&host.events, &live, &mut Memory::default());
    assert!(matches!(outcome, Err(Undelivered::Stale)), "{outcome:?}");
    host.set_enabled(&live, true);
    let live = host.events.registry.hold()[&live.source.id].clone();
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    assert_eq!(host.rowids(), [1]);
}

#[test]
fn another_table_begins_anew() {
    let host = Host::new();
    let live = host.table(ALL_ORDERS);
    host.write(
        "CREATE TABLE orders (what); INSERT INTO orders VALUES (1), (2);
         CREATE TABLE returns (what); INSERT INTO returns VALUES (1);",
    );
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    host.acknowledge_all();
    let kind = serde_json::from_str(&ORDERS.replace("orders", "returns")).unwrap();
    let change = Change { kind: Some(kind), ..Change::default() };
    host.events.update(&caller("a"), &live.source.id, change).unwrap();
    host.write("INSERT INTO returns VALUES (2)");
    let live = host.events.registry.hold()[&live.source.id].clone();
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    assert_eq!(host.bodies()[0]["Records"][0]["table"]["name"], "returns");
    assert_eq!(host.rowids(), [2]);
}

#[test]
fn a_table_is_the_same_in_whatever_case_its_name_is_written() {
    let host = Host::new();
    let live = host.table(ALL_ORDERS);
    host.write("CREATE TABLE orders (what); INSERT INTO orders VALUES (1);");
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    host.acknowledge_all();
    let kind = serde_json::from_str(&ALL_ORDERS.replace("orders", "Orders")).unwrap();
    let change = Change { kind: Some(kind), ..Change::default() };
    host.events.update(&caller("a"), &live.source.id, change).unwrap();
    let live = host.events.registry.hold()[&live.source.id].clone();
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    assert!(host.bodies().is_empty());
    host.write("INSERT INTO orders VALUES (2)");
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    assert_eq!(host.rowids(), [2]);
}

#[test]
fn a_table_waits_while_its_function_has_too_much_to_do() {
    let host = Host::new();
    let live = host.table(ORDERS);
    host.add(r#"{"kind":"queue","name":"q"}"#);
    for count in [10_000, 1] {
        host.events.put(&caller("a"), "q", vec![Value::Null; count]).unwrap();
    }
    host.write("CREATE TABLE orders (what); INSERT INTO orders VALUES (1)");
    let mut memory = Memory::default();
    assert_eq!(host.look(&live, &mut memory), Looked::Swamped);
    assert_eq!(host.waiting(), 10_001);
    host.acknowledge_all();
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    assert_eq!(host.rowids(), [1]);
}

/// Takes one of the locks of SQLite, as another process would.
fn lock(file: &File, start: i64, length: i64) {
    let number = |number: i32| i16::try_from(number).unwrap();
    let (l_type, l_whence) = (number(libc::F_WRLCK), number(libc::SEEK_SET));
    let range = libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).unwrap();
}

#[test]
fn nothing_is_read_while_somebody_writes() {
    let host = Host::new();
    let live = host.table(ORDERS);
    host.write("CREATE TABLE orders (what); INSERT INTO orders VALUES (1)");
    let open = || File::options().read(true).write(true).open(host.file("shop.db")).unwrap();
    let mut memory = Memory::default();
    for (start, length) in [(0x4000_0000, 1), (0x4000_0002, 510)] {
        let writer = open();
        lock(&writer, start, length);
        assert_eq!(host.look(&live, &mut memory), Looked::Busy);
    }
    // Somebody who prepares a change has changed nothing yet; somebody who has gone in between has.
    std::fs::write(host.file("shop.db-journal"), b"\xd9\xd5").unwrap();
    assert!(matches!(host.fails(&live), TableError::Unfinished));
    let writer = open();
    lock(&writer, 0x4000_0001, 1);
    assert_eq!(host.look(&live, &mut memory), Looked::All);
    drop(writer);
    std::fs::write(host.file("shop.db-journal"), [0; 512]).unwrap();
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    assert_eq!(host.rowids(), [1]);
}

#[test]
fn whatever_is_no_database_of_the_tenants_is_not_opened() {
    let host = Host::new();
    let live = host.table(ORDERS);
    let file = host.file("shop.db");
    let elsewhere = host.files().join("elsewhere.db");
    let other = Connection::open(&elsewhere).unwrap();
    other.execute_batch("CREATE TABLE orders (what); INSERT INTO orders VALUES (1)").unwrap();
    other.close().unwrap();
    for target in ["../elsewhere.db", elsewhere.to_str().unwrap(), "missing", "shop.db"] {
        symlink(target, &file).unwrap();
        assert!(matches!(host.fails(&live), TableError::NotAFile), "{target}");
        std::fs::remove_file(&file).unwrap();
    }
    nix::unistd::mkfifo(&file, Mode::from_bits_truncate(0o600)).unwrap();
    assert!(matches!(host.fails(&live), TableError::NotAFile));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(matches!(host.fails(&live), TableError::NotAFile));
    std::fs::remove_dir(&file).unwrap();
    for text in ["no database", &"no database".repeat(100), "SQLite format 3\0"] {
        std::fs::write(&file, text).unwrap();
        assert!(matches!(host.fails(&live), TableError::Foreign), "{text}");
    }
    std::fs::copy(&elsewhere, &file).unwrap();
    nix::unistd::mkfifo(&host.file("shop.db-journal"), Mode::from_bits_truncate(0o600)).unwrap();
    assert!(matches!(host.fails(&live), TableError::NotAFile));
    std::fs::remove_file(host.file("shop.db-journal")).unwrap();
    // These are not looked at: whatever they are.
    for beside in ["shop.db-wal", "shop.db-shm"] {
        nix::unistd::mkfifo(&host.file(beside), Mode::from_bits_truncate(0o600)).unwrap();
    }
    assert_eq!(host.look(&live, &mut Memory::default()), Looked::All);
    assert_eq!(host.waiting(), 1);
}

#[test]
fn a_database_with_a_log_is_refused_and_told() {
    let host = Host::new();
    host.write("PRAGMA journal_mode = WAL; CREATE TABLE orders (what)");
    let kind = serde_json::from_str(ORDERS).unwrap();
    let draft = Draft { function: "f".into(), enabled: true, kind };
    let error = host.events.create(&caller("a"), draft).unwrap_err();
    assert_eq!(error.name, "InvalidParameterValueException");
    assert!(error.message.contains("journal_mode"), "{}", error.message);
}

#[tokio::test]
async fn a_table_that_cannot_be_read_is_no_concern_of_others() {
    let host = Host::new();
    host.add(&ORDERS.replace("shop", "broken"));
    host.add(ORDERS);
    host.add(&ORDERS.replace("orders", "returns"));
    std::fs::write(host.file("broken.db"), "no database").unwrap();
    host.write(
        "CREATE TABLE orders (what); INSERT INTO orders VALUES (1);
         CREATE TABLE returns (what); INSERT INTO returns VALUES (1);",
    );
    let sources = Sources::start(host.events.clone()).unwrap();
    host.wait_for(2).await;
    sources.stop().await;
}

/// The rows that messages are of, done with as they come: what is delivered twice is seen twice.
fn serve(ledger: &SqliteLedger, seen: &mut BTreeMap<i64, u32>) {
    for message in ledger.lease(u64::MAX >> 2, u64::MAX >> 1, 100).unwrap() {
        let event: Value = serde_json::from_slice(&message.event).unwrap();
        let rowid = event["Records"][0]["table"]["rowid"].as_i64().unwrap();
        *seen.entry(rowid).or_default() += 1;
        ledger.acknowledge(&message.id).unwrap();
    }
}

/// Serves until so many rows have been seen.
fn serve_until(ledger: &SqliteLedger, seen: &mut BTreeMap<i64, u32>, rows: usize) {
    for _ in 0..2400 {
        serve(ledger, seen);
        if seen.len() >= rows {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{} of {rows} rows", seen.len());
}

#[test]
fn every_row_is_one_message_however_often_the_host_is_killed() {
    const ROUNDS: usize = 8;
    let host = Host::new();
    host.add(ORDERS);
    host.write("CREATE TABLE orders (what)");
    let mut seen = BTreeMap::new();
    for round in 1..=ROUNDS {
        // More than one look takes: it is killed in the middle of them, or between.
        host.write(MANY);
        let mut process = killed::start(host.folder.path());
        serve_until(&host.ledger, &mut seen, round * 600 - 599);
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let mut process = killed::start(host.folder.path());
    // Rows that come while it looks, in changes of their own.
    for number in 0..20 {
        host.write(&format!("INSERT INTO orders VALUES ('late {number}')"));
    }
    serve_until(&host.ledger, &mut seen, ROUNDS * 600 + 20);
    process.kill().unwrap();
    process.wait().unwrap();
    serve(&host.ledger, &mut seen);
    assert!(seen.keys().copied().eq(1..=seen.len().try_into().unwrap()));
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
}

/// A database may be made to keep whoever opens it: that is one thread of a tenant, however often it asks.
#[test]
fn one_table_of_a_tenant_is_looked_at_before_it_is_a_source() {
    let host = Host::new();
    let draft = || Draft {
        function: "f".into(),
        enabled: true,
        kind: serde_json::from_str(ORDERS).unwrap(),
    };
    let look = host.events.looking.take("a".to_owned()).unwrap();
    // However often.
    for _ in 0..3 {
        let refused = host.events.create(&caller("a"), draft()).unwrap_err();
        assert_eq!(refused.name, "ResourceConflictException");
    }
    drop(look);
    host.events.create(&caller("a"), draft()).unwrap();
    assert!(host.events.looking.take("a".to_owned()).is_some());
}

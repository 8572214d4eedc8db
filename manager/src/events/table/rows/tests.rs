use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A database that was made by these statements.
fn made(sql: &str) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a database?#%.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
    (folder, path)
}

fn rows(path: &Path, table: &str) -> Result<Vec<Row>, TableError> {
    Table::open(path, table)?.after(None, 1000, usize::MAX).map(|(rows, _)| rows)
}

#[test]
fn values_are_what_json_has() {
    let (_folder, path) = made(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, \"it's \"\"so\"\"\" TEXT, x, twice AS (x * 2), big);
         INSERT INTO t VALUES (-7, 'ä', 1.5, NULL), (0, NULL, 9e999, zeroblob(300000)),
             (9223372036854775807, CAST(x'ff' AS TEXT), x'00ff', 9223372036854775807);",
    );
    let rows = rows(&path, "T").unwrap();
    let values: Vec<_> = rows.iter().map(|row| Value::Object(row.values.clone())).collect();
    assert_eq!(
        values,
        [
            json!({ "id": -7, "it's \"so\"": "ä", "x": 1.5, "big": null }),
            json!({ "id": 0, "it's \"so\"": null, "x": "inf", "big": null }),
            json!({ "id": i64::MAX, "it's \"so\"": "/w==", "x": "AP8=", "big": i64::MAX }),
        ]
    );
    assert_eq!(rows.iter().map(|row| row.rowid).collect::<Vec<_>>(), [-7, 0, i64::MAX]);
    assert_eq!((&*rows[1].omitted, &*rows[1].base64), (&["big".to_owned()][..], &[][..]));
    assert_eq!(rows[2].base64, ["it's \"so\"", "x"]);
}

#[test]
fn only_tables_with_rows_of_their_own_are_read() {
    let many: Vec<_> = (0..=MOST_COLUMNS).map(|number| format!("c{number}")).collect();
    let (_folder, path) = made(&format!(
        "CREATE TABLE t (x); INSERT INTO t VALUES (1);
         CREATE VIEW v AS SELECT * FROM t;
         CREATE VIRTUAL TABLE f USING fts5(x);
         CREATE TABLE w (x PRIMARY KEY) WITHOUT ROWID;
         CREATE TABLE hides (rowid TEXT, oid); INSERT INTO hides VALUES ('a', 'b');
         CREATE TABLE hides_all (rowid, oid, _ROWID_);
         CREATE TABLE wide ({});",
        many.join(",")
    ));
    let why = |table: &str| rows(&path, table).unwrap_err();
    assert!(matches!(why("v"), TableError::NoTable));
    assert!(matches!(why("f"), TableError::NoTable));
    assert!(matches!(why("none"), TableError::NoTable));
    assert!(matches!(why("w"), TableError::NoRowid));
    assert!(matches!(why("hides_all"), TableError::NoRowid));
    assert!(matches!(why("wide"), TableError::Wide));
    assert_eq!(rows(&path, "hides").unwrap()[0].values["rowid"], "a");
    assert_eq!(Table::open(&path, "hides").unwrap().last().unwrap(), Some(1));
}

#[test]
fn rows_come_in_order_and_a_few_at_a_time() {
    let (_folder, path) = made(
        "CREATE TABLE t (x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
             INSERT INTO t SELECT printf('%.1000c', 'x') FROM n;",
    );
    let table = Table::open(&path, "t").unwrap();
    let after = |after, most, bytes| {
        let (rows, all) = table.after(after, most, bytes).unwrap();
        (rows.first().map(|row| row.rowid), rows.len(), all)
    };
    assert_eq!(after(None, 60, usize::MAX), (Some(1), 60, false));
    assert_eq!(after(Some(60), 60, usize::MAX), (Some(61), 40, true));
    assert_eq!(after(Some(10), 60, 5000), (Some(11), 5, false));
    assert_eq!(after(Some(100), 60, 5000), (None, 0, true));
    assert_eq!(after(Some(i64::MAX), 60, 5000), (None, 0, true));
    assert_eq!(table.last().unwrap(), Some(100));
}

#[test]
fn an_event_has_a_size() {
    let columns: Vec<_> = (0..20).map(|number| format!("c{number}")).collect();
    let values = vec!["printf('%.200000c', 'x')"; 20].join(",");
    let (_folder, path) =
        made(&format!("CREATE TABLE t ({}); INSERT INTO t VALUES ({values});", columns.join(",")));
    let row = rows(&path, "t").unwrap().remove(0);
    assert!(serde_json::to_vec(&row.values).unwrap().len() <= 1 << 20);
    assert_eq!((row.values.len(), row.omitted.len()), (20, 16));
    // Ten times what a value may have at all.
    let (_folder, path) =
        made("CREATE TABLE t (x, y); INSERT INTO t VALUES (zeroblob(10000000), 'y');");
    let row = rows(&path, "t").unwrap().remove(0);
    assert_eq!((&row.values["y"], &*row.omitted), (&json!("y"), &["x".to_owned()][..]));
}

#[test]
fn work_is_bounded() {
    let (_folder, path) = made(
        "CREATE TABLE t (x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
             INSERT INTO t SELECT i FROM n;",
    );
    let table = Table::open_until(&path, "t", Instant::now());
    let error = table.and_then(|table| table.after(None, 5000, usize::MAX)).unwrap_err();
    assert!(matches!(error, TableError::Slow), "{error:?}");
}

#[test]
fn nothing_of_the_schema_is_executed() {
    let (_folder, path) = made(
        "CREATE TABLE t (x DEFAULT (1), y AS (printf('%.20000000c', 'x')));
         CREATE INDEX i ON t (length(x)) WHERE abs(x) > 0;
         CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END;
         INSERT INTO t (x) VALUES (5);",
    );
    assert_eq!(Value::Object(rows(&path, "t").unwrap().remove(0).values), json!({ "x": 5 }));
    // Nor is anything written.
    let table = Table::open(&path, "t").unwrap();
    table.connection.execute("INSERT INTO t (x) VALUES (6)", []).unwrap_err();
}

/// Damage of any kind is an error, or rows that are not what they were; never more.
#[test]
fn a_damaged_file_ends_nothing() {
    let (_folder, path) = made(
        "PRAGMA page_size = 512;
         CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT, y BLOB);
         CREATE TABLE other (x); CREATE INDEX i ON t (x);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
             INSERT INTO t SELECT i, printf('%.*c', i * 7, 'x'), zeroblob(i * 3) FROM n;",
    );
    let whole = std::fs::read(&path).unwrap();
    // A linear congruential generator (Numerical Recipes): the same damage each time.
    let mut state = 7_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(state >> 8).unwrap() % below
    };
    let mut refused = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random(20) {
            // Half of the damage where pages begin, which is what leads from one to the next.
            let at = random(bytes.len());
            let at = if round % 2 == 0 { at / 512 * 512 + random(16) } else { at };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = u8::try_from(random(256)).unwrap();
            }
        }
        if round % 5 == 0 {
            bytes.truncate(random(whole.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        match rows(&path, "t") {
            Ok(rows) => assert!(rows.windows(2).all(|two| two[0].rowid < two[1].rowid)),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}

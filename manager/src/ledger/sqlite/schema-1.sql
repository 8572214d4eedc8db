-- Format 1 of the ledger. Never changed once released: later formats are further files.
-- Times are milliseconds since 1970. Nothing removes a tenant, so nothing refers to one.

CREATE TABLE tenants (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE keys (
    id       TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE functions (
    tenant   TEXT NOT NULL,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;

-- Messages that wait (`leased_until` = 0) or are being delivered. `number` is the order they came in. The event is
-- last, so that its overflow pages are read only when it is asked for.
CREATE TABLE messages (
    number       INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    tenant       TEXT NOT NULL,
    function     TEXT NOT NULL,
    qualifier    TEXT NOT NULL,
    created      INTEGER NOT NULL,
    due          INTEGER NOT NULL,
    leased_until INTEGER NOT NULL DEFAULT 0,
    tries        INTEGER NOT NULL,
    source       TEXT NOT NULL,
    trace        TEXT NOT NULL,
    key          TEXT NOT NULL,
    event        BLOB NOT NULL,
    FOREIGN KEY (tenant, function) REFERENCES functions (tenant, name) ON DELETE CASCADE
) STRICT;

CREATE INDEX messages_waiting ON messages (due, number) WHERE leased_until = 0;
CREATE INDEX messages_leased ON messages (leased_until) WHERE leased_until > 0;
CREATE INDEX messages_of_function ON messages (tenant, function, created);

CREATE TABLE dead_letters (
    number    INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    tenant    TEXT NOT NULL,
    function  TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    created   INTEGER NOT NULL,
    due       INTEGER NOT NULL,
    tries     INTEGER NOT NULL,
    source    TEXT NOT NULL,
    trace     TEXT NOT NULL,
    key       TEXT NOT NULL,
    buried    INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    event     BLOB NOT NULL,
    FOREIGN KEY (tenant, function) REFERENCES functions (tenant, name) ON DELETE CASCADE
) STRICT;

CREATE INDEX dead_letters_of_function ON dead_letters (tenant, function, buried);
CREATE INDEX dead_letters_buried ON dead_letters (buried);

CREATE TABLE records (
    tenant    TEXT NOT NULL,
    key       TEXT NOT NULL,
    function  TEXT NOT NULL,
    resources TEXT NOT NULL,
    version   TEXT NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL,
    result    BLOB NOT NULL,
    PRIMARY KEY (tenant, key),
    FOREIGN KEY (tenant, function) REFERENCES functions (tenant, name) ON DELETE CASCADE
) STRICT;

CREATE INDEX records_of_function ON records (tenant, function);
CREATE INDEX records_expires ON records (expires);

-- Who runs a key at present. A claim names no function; it runs out by itself.
CREATE TABLE claims (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    owner  TEXT NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT;

CREATE INDEX claims_until ON claims (until);

CREATE TABLE sources (
    id        TEXT PRIMARY KEY,
    tenant    TEXT NOT NULL,
    function  TEXT NOT NULL,
    qualifier TEXT NOT NULL,
    settings  TEXT NOT NULL,
    enabled   INTEGER NOT NULL,
    modified  INTEGER NOT NULL,
    position  TEXT NOT NULL DEFAULT '',
    FOREIGN KEY (tenant, function) REFERENCES functions (tenant, name) ON DELETE CASCADE
) STRICT;

CREATE INDEX sources_of_function ON sources (tenant, function);

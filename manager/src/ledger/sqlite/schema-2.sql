-- Format 2: layers.

-- The highest number that a version of each layer was ever given. Kept when they are removed: none is given twice.
CREATE TABLE layers (
    tenant TEXT NOT NULL,
    name   TEXT NOT NULL,
    last   INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT;

CREATE TABLE layer_versions (
    tenant   TEXT NOT NULL,
    name     TEXT NOT NULL,
    number   INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (tenant, name, number)
) STRICT;

-- The tables of one run of a driver program, in the first schema of search_path.

CREATE TABLE items (
    id     integer PRIMARY KEY,
    note   text NOT NULL UNIQUE,
    parent integer REFERENCES items DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE copied (
    id     integer PRIMARY KEY,
    note   text,
    amount numeric(12,2),
    at     timestamptz
);

CREATE TABLE ledger (
    task   integer NOT NULL,
    number integer NOT NULL,
    PRIMARY KEY (task, number)
);

CREATE TYPE mood AS ENUM ('calm', 'rough', 'stormy');
CREATE TYPE position AS (lat double precision, lon double precision);

-- The tables that the executor searches, in the first schema of search_path.

DROP TABLE IF EXISTS search_history, faults, work_order_parts, work_orders,
    documents, inventory_items, parts, yachts;

CREATE TABLE yachts (
    yacht_id uuid PRIMARY KEY,
    name     text NOT NULL UNIQUE
);

CREATE TABLE parts (
    part_id     integer PRIMARY KEY,
    yacht_id    uuid NOT NULL REFERENCES yachts,
    name        text NOT NULL,
    part_number text NOT NULL,
    unit_price  numeric(10,2) NOT NULL,
    weight_kg   double precision,
    attributes  jsonb NOT NULL,
    active      boolean NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX ON parts (yacht_id);

CREATE TABLE inventory_items (
    item_id          integer PRIMARY KEY,
    yacht_id         uuid NOT NULL REFERENCES yachts,
    part_id          integer NOT NULL REFERENCES parts,
    location         text NOT NULL,
    quantity         integer NOT NULL,
    minimum_quantity integer NOT NULL,
    counted_at       timestamptz
);
CREATE INDEX ON inventory_items (yacht_id);
CREATE INDEX ON inventory_items (part_id);

CREATE TABLE documents (
    document_id bigint PRIMARY KEY,
    yacht_id    uuid NOT NULL REFERENCES yachts,
    title       text NOT NULL,
    kind        text NOT NULL,
    pages       smallint NOT NULL,
    attributes  jsonb NOT NULL,
    revised_on  date NOT NULL,
    body        text NOT NULL
);
CREATE INDEX ON documents (yacht_id);

CREATE TABLE work_orders (
    work_order_id   integer PRIMARY KEY,
    yacht_id        uuid NOT NULL REFERENCES yachts,
    title           text NOT NULL,
    status          text NOT NULL CHECK (status IN ('open', 'in progress', 'waiting', 'done')),
    due_on          date,
    estimated_hours interval NOT NULL
);
CREATE INDEX ON work_orders (yacht_id);

CREATE TABLE work_order_parts (
    work_order_id integer NOT NULL REFERENCES work_orders,
    part_id       integer NOT NULL REFERENCES parts,
    PRIMARY KEY (work_order_id, part_id)
);

CREATE TABLE faults (
    fault_id    integer PRIMARY KEY,
    yacht_id    uuid NOT NULL REFERENCES yachts,
    code        text NOT NULL,
    symptom     text NOT NULL,
    severity    smallint NOT NULL,
    resolved    boolean NOT NULL,
    reported_at timestamptz NOT NULL,
    signature   bytea NOT NULL
);
CREATE INDEX ON faults (yacht_id);

CREATE TABLE search_history (
    request_id bigint NOT NULL,
    yacht_id   uuid NOT NULL,
    term       text NOT NULL,
    capability text NOT NULL,
    hits       integer NOT NULL
);

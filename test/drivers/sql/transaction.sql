-- Transactions, savepoints and psql's own savepoints around each statement.
\set VERBOSITY verbose
BEGIN;
INSERT INTO :schema.items VALUES (1, 'one', NULL);
SAVEPOINT a;
INSERT INTO :schema.items VALUES (2, 'one', NULL);
SELECT 1;
ROLLBACK TO SAVEPOINT a;
INSERT INTO :schema.items VALUES (3, 'three', 1);
RELEASE SAVEPOINT a;
COMMIT;
TABLE :schema.items;
BEGIN; INSERT INTO :schema.items VALUES (4, 'four', 999); COMMIT;
BEGIN; SELECT 1/0; COMMIT;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; SHOW transaction_isolation; DELETE FROM :schema.items; ROLLBACK AND CHAIN;
SHOW transaction_isolation;
COMMIT;
SHOW transaction_isolation;
INSERT INTO :schema.items VALUES (5, 'five', NULL) \; SELECT 1/0 \; INSERT INTO :schema.items VALUES (6, 'six', NULL);
\set AUTOCOMMIT off
INSERT INTO :schema.items VALUES (7, 'seven', NULL);
ROLLBACK;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO :schema.items VALUES (8, 'eight', NULL);
SELECT nothing_like_this;
INSERT INTO :schema.items VALUES (9, 'nine', NULL);
COMMIT;
TABLE :schema.items;

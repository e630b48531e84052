-- What psql prints for queries, errors and its own commands.
\set VERBOSITY verbose
SELECT current_database(), current_user, version() LIKE 'PostgreSQL %' AS is_postgresql;
SELECT n, repeat('x', n) AS t, NULL AS nothing FROM generate_series(1, 3) AS n;
SELECT 1 AS a \; SELECT 2 AS b \; SELECT 1/0 AS c \; SELECT 3 AS d;
SELECT nothing_like_this;
SELECT 'Größe 舵 ⚓', E'a\tb\\', $$it's$$;
;
SELECT 7 AS seven \gset
SELECT :seven * 6 AS answer;
SELECT 1 AS one, 'x'::varchar(3) AS two \gdesc
SELECT format('SELECT %s AS made', n) FROM generate_series(1, 3) AS n \gexec
SELECT n % 2 AS row, n % 3 AS col, n FROM generate_series(0, 5) AS n \crosstabview row col n
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; END $$;
DO $$ BEGIN RAISE EXCEPTION 'an error' USING DETAIL = 'its detail', HINT = 'its hint', ERRCODE = 'P0099'; END $$;
\errverbose
\d :schema.items
\echo status :ERROR :SQLSTATE :ROW_COUNT
\encoding
\encoding LATIN1
SELECT encode(convert_to('Größe', 'LATIN1'), 'hex'), length('Größe');
SHOW client_encoding;

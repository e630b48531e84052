-- COPY by psql, both ways, inline and from a program, with errors.
\set VERBOSITY verbose
COPY :schema.copied FROM STDIN;
1	one	1.5	2024-01-01 00:00:00+00
2	\N	2.5	\N
\.
COPY :schema.copied TO STDOUT;
COPY :schema.copied (id, note) FROM STDIN (FORMAT csv, HEADER);
id,note
3,"a ""quoted"" one"
4,
\.
COPY :schema.copied (id) FROM STDIN;
not a number
\.
SELECT count(*) FROM :schema.copied;
BEGIN;
COPY :schema.copied (id) FROM STDIN;
5
5
\.
SELECT 1;
ROLLBACK;
COPY (SELECT n, repeat('y', n) FROM generate_series(1, 5) AS n) TO STDOUT (FORMAT csv);
COPY (SELECT 10 / (3 - n) FROM generate_series(1, 5) AS n) TO STDOUT;
SET search_path = :schema;
\copy copied (id, note) from program 'seq -f "%g,n%g" 100 20099' with (format csv)
SELECT count(*), sum(id), md5(string_agg(note, '' ORDER BY id)) FROM copied;
\copy (select id, note from copied order by id) to program 'cksum'
COPY copied (id) FROM STDIN \; SELECT 'after the copy' \; COPY copied (id) TO STDOUT (FORMAT binary, FORCE_NULL (id));
30000
\.

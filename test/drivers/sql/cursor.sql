-- Results in parts (psql's FETCH_COUNT), and cursors.
\set FETCH_COUNT 7
SELECT n, repeat('x', n % 10) FROM generate_series(1, 30) AS n;
SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n;
SELECT 'still here';
\set FETCH_COUNT 0
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 100) AS n;
FETCH 3 FROM c;
FETCH LAST FROM c;
FETCH BACKWARD 2 FROM c;
MOVE ABSOLUTE 10 FROM c;
FETCH FROM c;
CLOSE c;
FETCH FROM c;
COMMIT;
FETCH FROM c;

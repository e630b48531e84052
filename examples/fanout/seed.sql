-- Rows for schema.sql. Everything is computed from row numbers: two databases
-- that ran this file hold the same rows.

DROP TABLE IF EXISTS seed_words;
CREATE TABLE seed_words (word_id integer, word text);
INSERT INTO seed_words VALUES
    (0, 'fuel filter'), (1, 'impeller'), (2, 'generator belt'), (3, 'oil pump'),
    (4, 'winch bearing'), (5, 'anchor chain'), (6, 'bilge pump'), (7, 'heat exchanger'),
    (8, 'Größe M6 Schraube'), (9, '舵 bearing'), (10, 'O''ring 100% "sealed"'), (11, 'fuel injector');

INSERT INTO yachts
SELECT md5('yacht ' || y)::uuid, 'M/Y Number ' || y
FROM generate_series(0, 11) AS y;

INSERT INTO parts
SELECT n,
       md5('yacht ' || n % 12)::uuid,
       w.word || ' ' || n / 12,
       'PN-' || upper(substr(md5('part ' || n), 1, 8)),
       ((n * 7919) % 1000000) / 100.0,
       CASE WHEN n % 7 = 0 THEN NULL ELSE (n % 977) / 8.0 END,
       jsonb_build_object('maker', 'Maker ' || n % 23, 'sizes', jsonb_build_array(n % 5, n % 9)),
       n % 11 <> 0,
       timestamptz '2024-01-01 00:00:00+00' + n * interval '37 minutes'
FROM generate_series(1, 3600) AS n
JOIN seed_words w ON w.word_id = (n / 12) % 12;

INSERT INTO inventory_items
SELECT n, p.yacht_id, p.part_id,
       'deck ' || n % 4 || ', locker ' || n % 31,
       (n * 31) % 40, (n * 17) % 20,
       CASE WHEN n % 5 = 0 THEN NULL ELSE timestamptz '2025-03-01 12:00:00+00' + n * interval '1 hour' END
FROM generate_series(1, 3600) AS n
JOIN parts p ON p.part_id = n
WHERE n % 3 <> 0;

INSERT INTO documents
SELECT n,
       md5('yacht ' || n % 12)::uuid,
       'Manual: ' || w.word || ', volume ' || n / 144,
       (ARRAY['manual', 'certificate', 'drawing'])[n % 3 + 1],
       (n % 400) + 1,
       jsonb_build_object('language', (ARRAY['en', 'de', 'fr'])[n % 3 + 1], 'revision', n % 6),
       date '2020-01-01' + n % 1500,
       repeat('Inspect the ' || w.word || ' of section ' || n % 19 || '. ', 1 + n % 40)
FROM generate_series(1, 1440) AS n
JOIN seed_words w ON w.word_id = (n / 12) % 12;

INSERT INTO work_orders
SELECT n,
       md5('yacht ' || n % 12)::uuid,
       (ARRAY['Replace ', 'Check ', 'Clean '])[n % 3 + 1] || w.word,
       (ARRAY['open', 'in progress', 'waiting', 'done'])[n % 4 + 1],
       CASE WHEN n % 9 = 0 THEN NULL ELSE date '2025-01-01' + n % 365 END,
       n % 48 * interval '30 minutes'
FROM generate_series(1, 1800) AS n
JOIN seed_words w ON w.word_id = (n / 12) % 12;

INSERT INTO work_order_parts
SELECT n, n + 12 * k
FROM generate_series(1, 1800) AS n, generate_series(0, 2) AS k
WHERE n % 4 > k;

INSERT INTO faults
SELECT n,
       md5('yacht ' || n % 12)::uuid,
       'E' || lpad((n % 500)::text, 3, '0'),
       (ARRAY['noise from ', 'leak at ', 'no signal from '])[n % 3 + 1] || w.word,
       n % 5 + 1,
       n % 2 = 0,
       timestamptz '2025-06-01 08:00:00+00' + n * interval '13 minutes',
       decode(md5('fault ' || n), 'hex')
FROM generate_series(1, 1440) AS n
JOIN seed_words w ON w.word_id = (n / 12) % 12;

DROP TABLE seed_words;

ANALYZE yachts, parts, inventory_items, documents, work_orders, work_order_parts, faults;

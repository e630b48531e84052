"""psycopg2: the scenarios of test/drivers/scenarios_test.go.

It sends simple queries only and puts parameters into the text itself. What is
prepared is prepared by SQL.
"""

from __future__ import annotations

import datetime
import decimal
import io
import select
import sys
import threading
import time
import uuid
from typing import Any, Sequence

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
from psycopg2 import sql

from smoke import DIVISION, RAISES, Smoke, Task, attempt, in_threads, kind, main

UTC = datetime.timezone.utc


def open_(s: Smoke, autocommit: bool = True, **options: Any) -> Any:
    connection = psycopg2.connect(s.dsn, **options)
    connection.autocommit = autocommit
    return connection


def rows(connection: Any, query: Any, arguments: "Sequence[Any] | None" = None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return [list(row) for row in cursor.fetchall()] if cursor.description else cursor.statusmessage


def value(connection: Any, query: Any, arguments: "Sequence[Any] | None" = None) -> Any:
    return rows(connection, query, arguments)[0][0]


def connect(s: Smoke) -> Any:
    result: dict[str, Any] = {}
    ours = open_(
        s, application_name="smoke psycopg2", client_encoding="LATIN1",
        options=f"-c TimeZone=Asia/Tokyo -c DateStyle=German -c statement_timeout=12345 -c search_path={s.schema}")
    plain = open_(s)
    shown = ("application_name", "client_encoding", "TimeZone", "DateStyle", "statement_timeout", "search_path")
    result["shown"] = [
        [value(connection, f"SHOW {setting}") for setting in shown] + [value(connection, "SELECT 'Größe'")]
        for _ in range(4) for connection in (ours, plain)
    ]
    result["reported"] = {
        setting: ours.get_parameter_status(setting)
        for setting in ("server_encoding", "client_encoding", "TimeZone", "DateStyle", "application_name",
                        "is_superuser", "session_authorization", "server_version", "integer_datetimes",
                        "standard_conforming_strings", "IntervalStyle", "in_hot_standby")
    }
    result["info"] = [ours.server_version, ours.encoding, ours.protocol_version, ours.get_transaction_status()]
    ours.close()
    plain.close()
    for what, options in {
        "wrong password": {"password": "not the password"},
        "unknown user": {"user": "nobody_of_that_name"},
        "unknown database": {"dbname": "no_database_of_that_name"},
        "bad setting": {"options": "-c TimeZone=Nowhere/Land"},
    }.items():
        try:
            open_(s, **options).close()
            result[what] = "connected"
        except psycopg2.OperationalError as error:
            # libpq gives no SQLSTATE for a failed login: the severity is what can be compared.
            result[what] = "FATAL" if "FATAL" in str(error) else "other"
    return result


def types(s: Smoke) -> Any:
    connection = open_(s)
    psycopg2.extras.register_uuid(conn_or_curs=connection)
    position = psycopg2.extras.register_composite(f"{s.schema}.position", connection)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    values = [
        ("int2", -32768), ("int4", 2147483647), ("int8", -(2**63)),
        ("numeric", decimal.Decimal("123456789012345678901234567890.123456789")),
        ("float4", 1.5), ("float8", float("inf")), ("float8", 1e-300),
        ("bool", True), ("text", "Größe 舵 ⚓ O'ring \\ %"), ("text", "x" * 100_000), ("text", ""), ("text", None),
        ("bytea", psycopg2.Binary(bytes(range(256)) * 40)), ("uuid", uuid.UUID(int=7)),
        ("date", datetime.date(1, 1, 1)), ("time", datetime.time(12, 30)), ("timestamptz", moment),
        ("timestamp", moment.replace(tzinfo=None)), ("interval", datetime.timedelta(days=3, seconds=4)),
        ("jsonb", psycopg2.extras.Json({"a": [1, None]})), ("int4[]", [[1, 2], [3, 4]]), ("text[]", ["a", None, 'q"']),
        ("int4range", psycopg2.extras.NumericRange(1, 10)), (f"{s.schema}.mood", "stormy"),
        (f"{s.schema}.position", position.type(54.3, 10.1)),
    ]
    result: list[Any] = []
    for type_, sent in values:
        back = value(connection, f"SELECT (%s)::{type_}", [sent])
        back = bytes(back) if isinstance(back, memoryview) else back
        result.append([len(repr(back)), repr(back)[:200]])
    result.append(attempt(lambda: value(connection, "SELECT %s::int4", ["not a number"])))
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 AS a, NULL::int AS b, 'x'::varchar(3) AS c")
        result.append([[column.name, column.type_code] for column in cursor.description])
    connection.close()
    return result


def prepared(s: Smoke) -> Any:
    # SQL's own PREPARE: two connections give their statements the same names and different texts.
    sides = {"left": open_(s), "right": open_(s)}
    wrong, answers = [], 0
    for i in range(s.statements):
        for side, connection in sides.items():
            rows(connection, f"PREPARE s{i} (int) AS SELECT $1 + {i}, '{side}{i}', pg_backend_pid()")
    for turn in range(2):
        for i in range(s.statements):
            if i % 7 == 0:  # clients that take turns in step would meet the same server each time
                rows(sides["left"], "SELECT 1")
            for side, connection in sides.items():
                [row] = rows(connection, f"EXECUTE s{i} (%s)", [turn])
                s.saw(side, row[2])
                answers += 1
                if row[:2] != [turn + i, f"{side}{i}"]:
                    wrong.append([side, i, turn, row])
    left, right = sides.values()
    result: dict[str, Any] = {"answers": answers, "wrong": wrong[:5]}
    result["duplicate"] = attempt(lambda: rows(left, "PREPARE s1 AS SELECT 1"))
    result["closed"] = [rows(left, "DEALLOCATE s1"), attempt(lambda: rows(left, "EXECUTE s1 (1)"))]
    result["alive"] = rows(right, "EXECUTE s1 (1)")[0][:2]
    result["bad"] = attempt(lambda: rows(left, "PREPARE bad AS SELECT nothing_like_this"))
    result["good"] = [rows(left, "PREPARE bad AS SELECT 5"), rows(left, "EXECUTE bad")]
    result["all closed"] = [rows(left, "DEALLOCATE ALL"), attempt(lambda: rows(left, "EXECUTE s2 (1)"))]
    result["explained"] = len(rows(right, "EXPLAIN EXECUTE s2 (1)"))
    left.autocommit = False
    rows(left, "PREPARE kept AS SELECT 7")
    left.rollback()  # does not take a PREPARE back
    result["kept"] = rows(left, "EXECUTE kept")
    for connection in sides.values():
        connection.close()
    return result


def ddl(s: Smoke) -> Any:
    changes, reads = open_(s), open_(s)
    table = f"{s.schema}.changed"
    rows(changes, f"CREATE TABLE {table} (a int)")
    rows(changes, f"INSERT INTO {table} VALUES (1)")
    rows(reads, f"PREPARE reads AS SELECT * FROM {table}")
    result: dict[str, Any] = {"before": rows(reads, "EXECUTE reads")}
    rows(changes, f"ALTER TABLE {table} ADD COLUMN b int DEFAULT 2")
    # As often as there are servers: PostgreSQL refuses each time.
    result["after"] = [attempt(lambda: rows(reads, "EXECUTE reads")) for _ in range(7)]
    result["as it is"] = rows(reads, f"SELECT * FROM {table}")
    result["anew"] = [rows(reads, "DEALLOCATE reads"), rows(reads, f"PREPARE reads AS SELECT * FROM {table}"),
                      rows(reads, "EXECUTE reads")]
    rows(changes, f"DROP TABLE {table}")
    result["dropped"] = attempt(lambda: rows(reads, "EXECUTE reads"))
    changes.close()
    reads.close()
    return result


def transaction(s: Smoke) -> Any:
    items = f"{s.schema}.items"
    one, other = open_(s, autocommit=False), open_(s)
    insert, count = f"INSERT INTO {items} VALUES (%s, %s, %s)", f"SELECT count(*) FROM {items}"
    result: dict[str, Any] = {"inserted": rows(one, insert, [1, "one", None])}
    rows(one, "SAVEPOINT a")
    result["duplicate"] = attempt(lambda: rows(one, insert, [2, "one", None]))
    result["failed"] = [attempt(lambda: value(one, "SELECT 1")), one.get_transaction_status()]
    rows(one, "ROLLBACK TO SAVEPOINT a")
    rows(one, insert, [3, "three", 1])
    result["seen"] = [value(one, count), value(other, count)]
    one.commit()
    result["after commit"] = rows(other, f"SELECT * FROM {items} ORDER BY id")
    try:
        with one:
            rows(one, insert, [4, "four", None])
            rows(one, "SELECT 1/0")
    except psycopg2.Error as error:
        result["with"] = kind(error)
    rows(one, insert, [5, "five", 999])
    result["deferred constraint"] = [attempt(one.commit), one.get_transaction_status()]
    one.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    result["isolation"] = value(one, "SHOW transaction_isolation")
    result["read only"] = attempt(lambda: rows(one, insert, [6, "six", None]))
    one.rollback()
    result["isolation elsewhere"] = value(other, "SHOW transaction_isolation")
    result["many statements"] = attempt(lambda: rows(
        other, f"INSERT INTO {items} VALUES (7, 'seven', NULL); SELECT 1/0; INSERT INTO {items} VALUES (8, 'eight', NULL)"))
    result["results"] = rows(other, "SELECT 1; SELECT 2, 3")
    one.set_session(isolation_level="DEFAULT", readonly=False, deferrable=False)
    one.tpc_begin(one.xid(1, s.schema, "smoke"))
    rows(one, insert, [9, "nine", None])
    one.tpc_prepare()
    one.tpc_rollback()
    result["end"] = rows(other, f"SELECT * FROM {items} ORDER BY id")
    one.close()
    other.close()
    return result


def cursor(s: Smoke) -> Any:
    connection = open_(s, autocommit=False)
    query = "SELECT n, repeat('x', n %% 50) FROM generate_series(1, %s) AS n"
    result: dict[str, Any] = {}
    with connection.cursor(name="c1") as named:
        named.itersize = 100
        named.execute(query, [5000])
        seen = [row[0] for row in named]
        result["iterated"] = [len(seen), sum(seen)]
    one, two = connection.cursor(name="c1", scrollable=True), connection.cursor(name='odd "name"')
    one.execute(query, [100])
    two.execute(query, [200])
    result["interleaved"] = [[row[0] for row in c.fetchmany(3)] for c in (one, two, one, two)]
    one.scroll(-2)
    result["scrolled"] = one.fetchone()[0]
    result["rest"] = [len(one.fetchall()), len(two.fetchall())]
    connection.commit()
    late = connection.cursor(name="late")
    late.execute("SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n")
    result["before the error"] = len(late.fetchmany(10))
    result["error inside"] = attempt(lambda: late.fetchmany(20))
    connection.rollback()
    held = connection.cursor(name="held", withhold=True)
    held.execute("SELECT n FROM generate_series(1, 10) AS n")
    connection.commit()
    found = [row[0] for row in held.fetchmany(4)]
    connection.commit()
    result["hold"] = found + [row[0] for row in held.fetchall()]
    held.close()
    connection.commit()
    result["afterwards"] = value(connection, "SELECT 1")
    connection.close()
    return result


def copy(s: Smoke) -> Any:
    connection = open_(s)
    table = f"{s.schema}.copied"
    digest = f"SELECT count(*), sum(id), sum(amount), count(note), md5(string_agg(note, '' ORDER BY id)) FROM {table}"
    c = connection.cursor()

    def into(text: str) -> Any:
        c.copy_expert(f"COPY {table} FROM STDIN", io.StringIO(text))
        return c.rowcount

    result: dict[str, Any] = {"in": into("".join(
        "%d\t%s\t%s\t2024-01-01 00:00:00+00\n" % (i, f"note {i} \\\\" if i % 10 else "\\N", i / 4) for i in range(20_000)))}
    result["digest"] = rows(connection, digest)
    out = io.StringIO()
    c.copy_expert(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT", out)
    rows(connection, f"TRUNCATE {table}")
    result["again"] = [into(out.getvalue()), rows(connection, digest)]
    binary = io.BytesIO()
    c.copy_expert(f"COPY (SELECT id, note FROM {table} ORDER BY id) TO STDOUT (FORMAT binary)", binary)
    result["binary out"] = binary.tell()
    result["bad line"] = attempt(lambda: into("100002\tx\tnot a number\t2024-01-01\n" + "100003\tx\t1\t2024-01-01\n" * 2000))

    class GivesUp:
        def read(self, size: int = -1) -> str:
            raise ValueError("no more")

    result["source fails"] = attempt(lambda: c.copy_expert(f"COPY {table} FROM STDIN", GivesUp()))["sqlstate"]
    connection.autocommit = False
    into("100004\tin transaction\t1\t2024-01-01\n")
    result["inside"] = value(connection, f"SELECT note FROM {table} WHERE id = 100004")
    connection.rollback()
    result["end"] = rows(connection, digest)
    connection.close()
    return result


def running(watch: Any, marker: str) -> None:
    """Wait until the query with this marker sleeps on a server: while it is parsed a cancel would find nothing to cancel."""
    while not value(
        watch, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE %s",
        [f"%{marker}%"],
    ):
        time.sleep(0.01)


def cancel(s: Smoke) -> Any:
    one, neighbour, watch = [open_(s) for _ in range(3)]
    result: list[Any] = []
    for turn in range(5):
        marker = f"{s.schema} cancel {turn}"
        answers: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda: answers.update(beside=value(neighbour, "SELECT 7 FROM pg_sleep(0.5)"))),
            threading.Thread(target=lambda: answers.update(
                query=attempt(lambda: rows(one, f"SELECT pg_sleep(600) /* {marker} */")))),
        ]
        for thread in threads:
            thread.start()
        running(watch, marker)
        one.cancel()
        for thread in threads:
            thread.join()
        result.append([answers["query"], value(one, "SELECT 1"), answers["beside"]])
    one.cancel()
    result.append(value(one, "SELECT 'idle cancel does nothing'"))
    for connection in (one, neighbour, watch):
        connection.close()
    return result


def timeout(s: Smoke) -> Any:
    connection = open_(s, autocommit=False, options="-c lock_timeout=50")
    ledger = f"{s.schema}.ledger"
    rows(connection, f"INSERT INTO {ledger} VALUES (-2, 1)")
    rows(connection, "SET LOCAL statement_timeout = '50ms'")
    result = {"statement_timeout": attempt(lambda: rows(connection, "SELECT pg_sleep(600)"))}
    connection.rollback()
    result["setting afterwards"] = value(connection, "SHOW statement_timeout")
    connection.rollback()
    holder = open_(s, autocommit=False)
    rows(holder, f"LOCK TABLE {ledger}")
    result["lock_timeout"] = attempt(lambda: rows(connection, f"INSERT INTO {ledger} VALUES (-2, 2)"))
    holder.rollback()
    connection.rollback()
    given = open_(s, options="-c statement_timeout=500")
    result["configured"] = [attempt(lambda: rows(given, "SELECT pg_sleep(600)")) for _ in range(3)]
    result["committed"] = value(connection, f"SELECT count(*) FROM {ledger} WHERE task = -2")
    for c in (connection, holder, given):
        c.close()
    return result


def notices(s: Smoke) -> Any:
    one, other = open_(s), open_(s)
    rows(other, "SET client_min_messages = warning")
    for turn in range(5):
        for connection in (one, other):
            rows(connection, RAISES.format(turn))
    rows(one, f"CREATE TABLE IF NOT EXISTS {s.schema}.items (id int)")
    result: dict[str, Any] = {"one": one.notices, "other": other.notices, "told": []}
    channel = f"{s.schema}_channel"
    rows(one, f"LISTEN {channel}")
    for turn in range(3):
        for connection in (one, other):
            rows(connection, "SELECT pg_notify(%s, %s)", [channel, f"turn {turn}"])
            while not one.notifies:
                select.select([one], [], [], 10)
                one.poll()
            notify = one.notifies.pop()
            result["told"].append([notify.channel, notify.payload, notify.pid == one.get_backend_pid()])
    rows(one, "UNLISTEN *")
    rows(other, f"NOTIFY {channel}, 'nobody hears'")
    result["afterwards"] = [value(one, "SELECT 1"), one.notifies]
    one.close()
    other.close()
    return result


def settings(s: Smoke) -> Any:
    zones = ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
    connections = [open_(s) for _ in zones]
    result: list[Any] = []
    for number, (connection, zone) in enumerate(zip(connections, zones)):
        rows(connection, f"SET TimeZone = '{zone}'")
        rows(connection, f"SET work_mem = '{number + 1}MB'")
        rows(connection, f"SET app.tenant = 'tenant {number}'")
    connections[1].set_client_encoding("LATIN1")
    query = ("SELECT timestamptz '2024-07-01 12:00:00+00'::text, current_setting('work_mem'), "
             "current_setting('app.tenant'), 'Größe', pg_backend_pid()")
    for turn in range(5):
        for number, connection in enumerate(connections):
            if turn == number:  # clients that take turns in step would meet the same server each time
                rows(connection, "SELECT 1")
            [row] = rows(connection, query)
            s.saw(number, row[4])
            result.append([*row[:4], connection.encoding])
    one = connections[0]
    one.autocommit = False
    rows(one, "SET TimeZone = 'Asia/Kolkata'")
    one.rollback()
    result.append([one.get_parameter_status("TimeZone"), value(one, "SHOW TimeZone")])
    rows(one, "SET LOCAL TimeZone = 'Asia/Kolkata'")
    one.commit()
    result.append([one.get_parameter_status("TimeZone"), value(one, "SHOW TimeZone")])
    one.commit()
    for connection in connections:
        connection.reset()  # psycopg2's own: ABORT; RESET ALL; SET SESSION AUTHORIZATION DEFAULT
        result.append([value(connection, f"SHOW {n}") for n in ("TimeZone", "client_encoding", "work_mem")])
        connection.close()
    return result


def concurrent(s: Smoke) -> Any:
    ledger = f"{s.schema}.ledger"
    # apps: pool
    pool = psycopg2.pool.ThreadedConnectionPool(1, s.tasks, s.dsn)
    # apps: end

    def opens(task: Task) -> Any:
        connection = pool.getconn()
        connection.autocommit = True
        rows(connection, "SET TimeZone = %s", [task.zone])
        rows(connection, "SET application_name = %s", [task.name])

        def count() -> int:
            return value(connection, f"SELECT count(*) FROM {ledger} WHERE task = %s", [task.number])

        def step(kind: int, turn: int) -> None:
            if kind == 0:
                [row] = rows(connection, "SELECT %s * 2, %s, pg_backend_pid()", [task.number, f"t{turn}"])
                s.saw(task.number, row[2])
                task.check("select", row[:2], [task.number * 2, f"t{turn}"])
            elif kind in (1, 2):
                connection.autocommit = False
                rows(connection, f"INSERT INTO {ledger} VALUES (%s, %s)", [task.number, turn])
                if kind == 1:
                    task.committed += 1
                    task.check("own rows", count(), task.committed)
                    connection.commit()
                else:
                    connection.rollback()
                connection.autocommit = True
            elif kind == 3:
                task.check("error", attempt(lambda: rows(connection, "SELECT 1 / 0")), DIVISION)
            elif kind == 4:
                [row] = rows(connection, "SELECT current_setting('TimeZone'), current_setting('application_name')")
                task.check("settings", row, [task.zone, task.name])
            else:
                found = rows(connection, "SELECT n * %s FROM generate_series(1, 200) AS n", [task.number])
                task.check("series", sum(row[0] for row in found), task.number * 20100)

        def end() -> None:
            task.check("at the end", count(), task.committed)
            pool.putconn(connection)

        return step, end

    result = in_threads(s, opens)
    pool.closeall()
    return result


if __name__ == "__main__":
    sys.exit(main({
        "connect": connect, "types": types, "prepared": prepared, "ddl": ddl, "transaction": transaction,
        "cursor": cursor, "copy": copy, "cancel": cancel, "timeout": timeout, "notices": notices,
        "settings": settings, "concurrent": concurrent,
    }))

"""asyncpg: the scenarios of test/drivers/scenarios_test.go."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import sys
import time
import uuid
from typing import Any

import asyncpg

from smoke import RAISES, Smoke, failure, main, outcome

UTC = datetime.timezone.utc


async def connect(s: Smoke) -> Any:
    result: dict[str, Any] = {}
    settings = {
        "application_name": "smoke asyncpg",
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German, DMY",
        "extra_float_digits": "0",
        "statement_timeout": "12345",
        "search_path": s.schema,
    }
    ours = await asyncpg.connect(s.dsn, server_settings=settings)
    plain = await asyncpg.connect(s.dsn)
    shown = []
    for _ in range(4):
        shown.append({name: await ours.fetchval(f"SHOW {name}") for name in settings})
        shown.append({name: await plain.fetchval(f"SHOW {name}") for name in settings})
    result["shown"] = shown
    reported = ours.get_settings()
    result["reported"] = {
        name: getattr(reported, name, None)
        for name in ("server_encoding", "client_encoding", "TimeZone", "DateStyle", "application_name",
                     "is_superuser", "session_authorization", "server_version", "integer_datetimes")
    }
    result["version"] = list(ours.get_server_version())
    await ours.close()
    await plain.close()
    for name, options in {
        "wrong password": {"password": "not the password"},
        "unknown user": {"user": "nobody_of_that_name"},
        "unknown database": {"database": "no_database_of_that_name"},
        "bad setting": {"server_settings": {"TimeZone": "Nowhere/Land"}},
    }.items():
        try:
            await (await asyncpg.connect(s.dsn, **options)).close()
            result[name] = "connected"
        except asyncpg.PostgresError as error:
            result[name] = error.sqlstate
    return result


async def types(s: Smoke) -> Any:
    connection = await asyncpg.connect(s.dsn)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    values = [
        ("int2", -32768), ("int4", 2147483647), ("int8", -(2**63)),
        ("numeric", decimal.Decimal("123456789012345678901234567890.123456789")),
        ("float4", 1.5), ("float8", float("inf")), ("float8", 1e-300),
        ("bool", True), ("text", "Größe 舵 ⚓ O'ring \\"), ("text", "x" * 100_000), ("text", ""), ("text", None),
        ("bytea", bytes(range(256)) * 40), ("uuid", uuid.UUID(int=7)),
        ("date", datetime.date(1, 1, 1)), ("time", datetime.time(12, 30)), ("timestamptz", moment),
        ("timestamp", moment.replace(tzinfo=None)), ("interval", datetime.timedelta(days=3, seconds=4)),
        ("json", '{"a": [1, null]}'), ("jsonb", '{"a": [1, null]}'),
        ("int4[]", [[1, 2], [3, 4]]), ("text[]", ["a", None, 'q"']),
        ("int4range", asyncpg.Range(1, 10)), ("point", asyncpg.Point(1, 2)),
        (f"{s.schema}.mood", "stormy"), (f"{s.schema}.position", (54.3, 10.1)),
    ]
    result = []
    for name, value in values:
        back = await connection.fetchval(f"SELECT $1::{name}", value)
        result.append([name, back == value or repr(back), repr(back)[:200]])
    result.append(await outcome(connection.fetchval("SELECT $1::int4", "not a number")))
    result.append(await outcome(connection.fetchval("SELECT 'not a number'::text::int4")))
    row = await connection.fetchrow("SELECT 1 AS a, NULL::int AS b, 'x'::varchar(3) AS c")
    result.append(dict(row))
    await connection.close()
    return result


async def prepared(s: Smoke) -> Any:
    # Two connections give their statements the same names and different texts.
    left, right = await asyncpg.connect(s.dsn), await asyncpg.connect(s.dsn)
    wrong, answers = [], 0

    async def prepare(connection: asyncpg.Connection, side: str) -> list[Any]:
        return [
            await connection.prepare(f"SELECT $1::int + {i} AS n, '{side}{i}' AS tag, pg_backend_pid() AS pid")
            for i in range(s.statements)
        ]

    statements = {"left": await prepare(left, "left"), "right": await prepare(right, "right")}
    for turn in range(2):
        for i in range(s.statements):
            if i % 7 == 0:  # clients that take turns in step would meet the same server each time
                await left.execute("SELECT 1")
            for side, connection in (("left", left), ("right", right)):
                statement = statements[side][i]
                if turn % 2:
                    async with connection.transaction():
                        row = await statement.fetchrow(turn)
                        row = await statement.fetchrow(turn)
                else:
                    row = await statement.fetchrow(turn)
                s.saw(side, row["pid"])
                answers += 1
                if (row["n"], row["tag"]) != (turn + i, f"{side}{i}"):
                    wrong.append([side, i, turn, dict(row)])
    result: dict[str, Any] = {"answers": answers, "wrong": wrong[:5]}

    # The statement cache: more texts than it holds, so that statements are closed and prepared again.
    cached = await asyncpg.connect(s.dsn, statement_cache_size=20)
    total = 0
    for turn in range(3):
        for i in range(50):
            total += await cached.fetchval(f"SELECT $1::int * {i}", turn)
    result["cached"] = total
    uncached = await asyncpg.connect(s.dsn, statement_cache_size=0)
    result["uncached"] = sum([await uncached.fetchval("SELECT $1::int", i) for i in range(50)])
    for connection in (left, right, cached, uncached):
        await connection.close()
    return result


async def ddl(s: Smoke) -> Any:
    # Statements whose table has changed since they were prepared.
    changes, reads = await asyncpg.connect(s.dsn), await asyncpg.connect(s.dsn)
    table = f"{s.schema}.changed"
    query = f"SELECT * FROM {table}"
    await changes.execute(f"CREATE TABLE {table} (a int)")
    await changes.execute(f"INSERT INTO {table} VALUES (1)")
    result: dict[str, Any] = {"before": await rows(reads, query)}
    await changes.execute(f"ALTER TABLE {table} ADD COLUMN b int DEFAULT 2")
    # asyncpg prepares again by itself outside a transaction, and cannot inside.
    result["after"] = await outcome(rows(reads, query))
    result["once more"] = await outcome(rows(reads, query))
    fresh = await asyncpg.connect(s.dsn)
    async with fresh.transaction():
        result["fresh"] = await outcome(rows(fresh, query))
    await changes.execute(f"ALTER TABLE {table} ALTER COLUMN a TYPE text")
    async with reads.transaction():
        result["other type"] = await outcome(rows(reads, query))
    await changes.execute(f"DROP TABLE {table}")
    result["dropped"] = await outcome(rows(reads, query))
    for connection in (changes, reads, fresh):
        await connection.close()
    return result


async def rows(connection: asyncpg.Connection, query: str, *arguments: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch(query, *arguments)]


async def transaction(s: Smoke) -> Any:
    items = f"{s.schema}.items"
    one, other = await asyncpg.connect(s.dsn), await asyncpg.connect(s.dsn)
    insert = f"INSERT INTO {items} VALUES ($1, $2, $3)"
    result: dict[str, Any] = {}

    outer = one.transaction()
    await outer.start()
    await one.execute(insert, 1, "one", None)
    savepoint = one.transaction()
    await savepoint.start()
    result["duplicate"] = await outcome(one.execute(insert, 2, "one", None))
    result["failed"] = await outcome(one.fetchval("SELECT 1"))
    await savepoint.rollback()
    async with one.transaction():
        await one.execute(insert, 3, "three", 1)
    result["seen inside"] = await one.fetchval(f"SELECT count(*) FROM {items}")
    result["seen outside"] = await other.fetchval(f"SELECT count(*) FROM {items}")
    await outer.commit()
    result["after commit"] = await rows(other, f"SELECT * FROM {items} ORDER BY id")

    try:
        async with one.transaction():
            await one.execute(insert, 4, "four", None)
            raise ValueError("changed its mind")
    except ValueError:
        pass
    result["after rollback"] = await other.fetchval(f"SELECT count(*) FROM {items}")

    deferred = one.transaction()
    await deferred.start()
    await one.execute(insert, 5, "five", 999)
    result["deferred constraint"] = await outcome(deferred.commit())
    result["idle again"] = [one.is_in_transaction(), await one.fetchval("SELECT 1")]

    async with one.transaction(isolation="serializable", readonly=True, deferrable=True):
        result["isolation"] = await one.fetchval("SHOW transaction_isolation")
        result["read only"] = await outcome(one.execute(insert, 6, "six", None))
    result["isolation after"] = [await c.fetchval("SHOW transaction_isolation") for c in (one, other)]
    result["many statements"] = await outcome(one.execute(
        f"INSERT INTO {items} VALUES (7, 'seven', NULL); SELECT 1/0; INSERT INTO {items} VALUES (8, 'eight', NULL)"))
    result["end"] = await rows(other, f"SELECT * FROM {items} ORDER BY id")
    await one.close()
    await other.close()
    return result


async def cursor(s: Smoke) -> Any:
    connection = await asyncpg.connect(s.dsn)
    result: dict[str, Any] = {}
    query = "SELECT n, repeat('x', n % 50) AS t FROM generate_series(1, $1::int) AS n"
    async with connection.transaction():
        total = count = 0
        async for row in connection.cursor(query, 5000, prefetch=100):
            total, count = total + row["n"], count + 1
        result["iterated"] = [count, total]
        one, two = await connection.cursor(query, 100), await connection.cursor(query, 200)
        result["interleaved"] = [
            [r["n"] for r in await c.fetch(3)] for c in (one, two, one, two)
        ]
        await one.forward(90)
        result["rest"] = [len(await one.fetch(100)), len(await two.fetch(1000))]
    async with connection.transaction():
        async for row in connection.cursor(query, 5000, prefetch=10):
            if row["n"] == 25:
                break
        result["left early"] = await connection.fetchval("SELECT 25")
    result["outside"] = await outcome(first(connection, query))
    try:
        async with connection.transaction():
            async for row in connection.cursor("SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n", prefetch=5):
                pass
    except asyncpg.PostgresError as error:
        result["error inside"] = failure(error)
    result["afterwards"] = await connection.fetchval("SELECT 1")
    await connection.close()
    return result


async def first(connection: asyncpg.Connection, query: str) -> Any:
    async for row in connection.cursor(query, 10):
        return row["n"]


async def copy(s: Smoke) -> Any:
    connection = await asyncpg.connect(s.dsn)
    table, schema = "copied", s.schema
    moment = datetime.datetime(2024, 1, 1, tzinfo=UTC)
    records = [
        (i, None if i % 10 == 0 else f"note\t{i}\n\\", decimal.Decimal(i) / 4, moment + datetime.timedelta(minutes=i))
        for i in range(20_000)
    ]
    result: dict[str, Any] = {}
    result["binary in"] = await connection.copy_records_to_table(table, schema_name=schema, records=records)
    digest = ("SELECT count(*), sum(id), sum(amount), count(note), "
              f"md5(string_agg(note, '' ORDER BY id)) FROM {schema}.{table}")
    result["digest"] = list(await connection.fetchrow(digest))

    chunks: list[bytes] = []

    async def collect(chunk: bytes) -> None:
        chunks.append(chunk)

    result["text out"] = await connection.copy_from_table(table, schema_name=schema, output=collect)
    text = b"".join(chunks)
    await connection.execute(f"TRUNCATE {schema}.{table}")

    async def pieces() -> Any:
        for at in range(0, len(text), 1000):
            yield text[at:at + 1000]

    result["text in"] = await connection.copy_to_table(table, schema_name=schema, source=pieces())
    result["digest again"] = list(await connection.fetchrow(digest))
    chunks.clear()
    result["query out"] = await connection.copy_from_query(
        f"SELECT id, note FROM {schema}.{table} WHERE id < $1 ORDER BY id", 500, output=collect, format="csv")
    result["csv"] = b"".join(chunks).decode()[:300]

    async def gives_up() -> Any:
        yield b"100001\tx\t1\t2024-01-01\n"
        raise ValueError("no more")

    result["source fails"] = await outcome(connection.copy_to_table(table, schema_name=schema, source=gives_up()))

    async def bad() -> Any:
        yield b"100002\tx\tnot a number\t2024-01-01\n"
        for i in range(2000):
            yield b"100003\tx\t1\t2024-01-01\n"

    result["bad line"] = await outcome(connection.copy_to_table(table, schema_name=schema, source=bad()))
    result["duplicate"] = await outcome(
        connection.copy_records_to_table(table, schema_name=schema, records=[records[0]]))
    async with connection.transaction():
        await connection.copy_records_to_table(table, schema_name=schema, records=[(100_004, "in transaction", 1, moment)])
        result["inside"] = await connection.fetchval(f"SELECT note FROM {schema}.{table} WHERE id = 100004")
    result["end"] = list(await connection.fetchrow(digest))
    await connection.close()
    return result


async def running(watch: asyncpg.Connection, marker: str) -> None:
    """Wait until the query with this marker sleeps on a server: while it is parsed a cancel would find nothing to cancel."""
    while not await watch.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE $1",
        f"%{marker}%",
    ):
        await asyncio.sleep(0.01)


async def cancel(s: Smoke) -> Any:
    one, neighbour, watch = [await asyncpg.connect(s.dsn) for _ in range(3)]
    result = []
    for turn in range(5):
        marker = f"{s.schema} cancel {turn}"
        beside = asyncio.ensure_future(neighbour.fetchval("SELECT 7 FROM pg_sleep(0.5)"))
        query = asyncio.ensure_future(one.fetchval(f"SELECT pg_sleep(600) /* {marker} */"))
        await running(watch, marker)
        query.cancel()
        try:
            ended: Any = await query
        except asyncio.CancelledError:
            ended = "cancelled"
        result.append([ended, await one.fetchval("SELECT 1"), await beside])
    async with one.transaction():
        marker = f"{s.schema} cancel inside"
        await one.execute(f"INSERT INTO {s.schema}.ledger VALUES (-1, 1)")
        pid = await one.fetchval("SELECT pg_backend_pid()")
        query = asyncio.ensure_future(one.fetchval(f"SELECT pg_sleep(600) /* {marker} */"))
        await running(watch, marker)
        await watch.execute("SELECT pg_cancel_backend($1)", pid)
        result.append(await outcome(query))
        result.append(await outcome(one.fetchval("SELECT 1")))
    result.append(await watch.fetchval(f"SELECT count(*) FROM {s.schema}.ledger WHERE task = -1"))
    for connection in (one, neighbour, watch):
        await connection.close()
    return result


async def timeout(s: Smoke) -> Any:
    connection = await asyncpg.connect(s.dsn)
    result: dict[str, Any] = {}
    ledger = f"{s.schema}.ledger"
    try:
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {ledger} VALUES (-2, 1)")
            await connection.execute("SET LOCAL statement_timeout = '50ms'")
            await connection.execute("SELECT pg_sleep(600)")
    except asyncpg.PostgresError as error:
        result["statement_timeout"] = failure(error)
    result["setting afterwards"] = await connection.fetchval("SHOW statement_timeout")
    try:
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {ledger} VALUES (-2, 2)")
            await connection.fetchval("SELECT pg_sleep(600)", timeout=0.2)
    except asyncio.TimeoutError:
        result["driver's timeout"] = "timeout"
    result["usable"] = await connection.fetchval("SELECT 1")
    result["committed"] = await connection.fetchval(f"SELECT count(*) FROM {ledger} WHERE task = -2")
    await connection.close()
    pool = asyncpg.create_pool(s.dsn, min_size=1, max_size=2, command_timeout=0.2)
    async with pool:
        result["pool"] = [await outcome(pool.fetchval("SELECT pg_sleep(600)")), await pool.fetchval("SELECT 2", timeout=60)]
    return result


async def notices(s: Smoke) -> Any:
    heard: dict[str, list[Any]] = {"one": [], "other": []}
    one, other = await asyncpg.connect(s.dsn), await asyncpg.connect(s.dsn)
    for who, connection in (("one", one), ("other", other)):
        connection.add_log_listener(lambda _, m, who=who: heard[who].append(
            [m.severity, m.sqlstate, m.message, m.detail, m.hint]))
    await other.execute("SET client_min_messages = warning")
    for turn in range(5):
        for connection in (one, other):
            await connection.execute(RAISES.format(turn))
    await one.execute(f"CREATE TABLE IF NOT EXISTS {s.schema}.items (id int)")
    await asyncio.sleep(0)  # the listeners are called by the event loop
    result: dict[str, Any] = {"heard": heard}
    told: asyncio.Queue[Any] = asyncio.Queue()
    channel = f"{s.schema}_channel"

    def hears(connection: asyncpg.Connection, pid: int, channel: str, payload: str) -> None:
        told.put_nowait([channel, payload, pid == connection.get_server_pid()])

    await one.add_listener(channel, hears)
    result["told"] = []
    for turn in range(3):
        for connection in (one, other):
            await connection.execute("SELECT pg_notify($1, $2)", channel, f"turn {turn}")
            result["told"].append(await told.get())
    await one.remove_listener(channel, hears)
    await other.execute(f"NOTIFY {channel}, 'nobody hears'")
    result["afterwards"] = [await one.fetchval("SELECT 1"), told.qsize()]
    for connection in (one, other):
        await connection.close()
    return result


async def pipeline(s: Smoke) -> Any:
    # asyncpg's pipeline is executemany: any number of Bind and Execute before one Sync.
    connection = await asyncpg.connect(s.dsn)
    ledger = f"{s.schema}.ledger"
    insert = f"INSERT INTO {ledger} VALUES ($1, $2)"
    count = f"SELECT count(*), sum(number) FROM {ledger} WHERE task = -3"
    result: dict[str, Any] = {}
    await connection.executemany(insert, [(-3, n) for n in range(2000)])
    result["many"] = list(await connection.fetchrow(count))
    result["error"] = await outcome(connection.executemany(insert, [(-3, n) for n in range(3000, 1500, -1)]))
    result["after error"] = list(await connection.fetchrow(count))
    async with connection.transaction():
        await connection.executemany(insert, [(-3, n) for n in range(5000, 5100)])
        found = await connection.fetchmany(f"SELECT number + $2 FROM {ledger} WHERE task = -3 AND number = $1",
                                           [(n, 1) for n in range(10)])
        result["fetchmany"] = [row[0] for row in found]
    result["end"] = list(await connection.fetchrow(count))
    await connection.close()
    return result


async def settings(s: Smoke) -> Any:
    zones = ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
    connections = [await asyncpg.connect(s.dsn) for _ in zones]
    result: list[Any] = []
    for number, (connection, zone) in enumerate(zip(connections, zones)):
        await connection.execute(f"SET TimeZone = '{zone}'")
        await connection.execute(f"SET application_name = 'smoke {number}'")
        await connection.execute(f"SET DateStyle = '{['ISO', 'German', 'SQL'][number]}, DMY'")
    query = "SELECT timestamptz '2024-07-01 12:00:00+00'::text, current_setting('application_name'), pg_backend_pid()"
    for turn in range(5):
        for number, connection in enumerate(connections):
            row = await connection.fetchrow(query)
            s.saw(number, row[2])
            if turn == number:  # clients that take turns in step would meet the same server each time
                await connection.execute("SELECT 1")
            result.append([row[0], row[1], connection.get_settings().TimeZone])
    one = connections[0]
    try:
        async with one.transaction():
            await one.execute("SET TimeZone = 'Asia/Kolkata'")
            result.append(await one.fetchval("SHOW TimeZone"))
            raise ValueError
    except ValueError:
        result.append([await one.fetchval("SHOW TimeZone"), one.get_settings().TimeZone])
    async with one.transaction():
        await one.execute("SET LOCAL TimeZone = 'Asia/Kolkata'")
        result.append(await one.fetchval("SHOW TimeZone"))
    result.append([await one.fetchval("SHOW TimeZone"), one.get_settings().TimeZone])
    for connection in connections:
        await connection.execute("RESET ALL")
        result.append([await connection.fetchval(f"SHOW {name}") for name in ("TimeZone", "DateStyle", "application_name")])
        await connection.close()
    return result


async def concurrent(s: Smoke) -> Any:
    deadline = time.monotonic() + s.seconds
    wrong: list[Any] = []

    async def task(number: int) -> int:
        zone = f"Etc/GMT+{number % 12}"
        committed = turn = 0
        connection = await asyncpg.connect(
            s.dsn, server_settings={"application_name": f"task {number}", "TimeZone": zone})

        def check(what: str, got: Any, want: Any) -> None:
            if got != want:
                wrong.append([what, number, got, want])

        while turn < 30 or time.monotonic() < deadline:
            turn += 1
            kind = (turn + number) % 6
            if kind == 0:
                row = await connection.fetchrow("SELECT $1::int * 2, $2::text, pg_backend_pid()", number, f"t{turn}")
                s.saw(number, row[2])
                check("select", [row[0], row[1]], [number * 2, f"t{turn}"])
            elif kind == 1:
                async with connection.transaction():
                    await connection.execute(f"INSERT INTO {s.schema}.ledger VALUES ($1, $2)", number, turn)
                    seen = await connection.fetchval(f"SELECT count(*) FROM {s.schema}.ledger WHERE task = $1", number)
                    committed += 1
                    check("own rows", seen, committed)
            elif kind == 2:
                try:
                    async with connection.transaction():
                        await connection.execute(f"INSERT INTO {s.schema}.ledger VALUES ($1, $2)", number, turn)
                        raise ValueError
                except ValueError:
                    pass
            elif kind == 3:
                got = await outcome(connection.fetchval("SELECT 1 / ($1::int - $1::int)", number))
                check("error", got, {"sqlstate": "22012", "message": "division by zero"})
            elif kind == 4:
                row = await connection.fetchrow(
                    "SELECT current_setting('TimeZone'), current_setting('application_name')")
                check("settings", list(row), [zone, f"task {number}"])
            else:
                found = await connection.fetch("SELECT n * $1::int FROM generate_series(1, 200) AS n", number)
                check("series", sum(r[0] for r in found), number * 20100)
        check("at the end", await connection.fetchval(
            f"SELECT count(*) FROM {s.schema}.ledger WHERE task = $1", number), committed)
        await connection.close()
        return turn

    turns = await asyncio.gather(*(task(number) for number in range(s.tasks)))
    return {"tasks": len(turns), "wrong": wrong[:10], "pool": await pooled(s)}


async def pooled(s: Smoke) -> Any:
    """asyncpg's own pool. Each release of a connection runs the driver's reset, with a RESET ALL in it."""
    # apps: pool
    async with asyncpg.create_pool(s.dsn, min_size=5, max_size=10, command_timeout=60) as pool:
        async with pool.acquire() as connection, connection.transaction():
            total = await connection.fetchval("SELECT sum(n) FROM generate_series(1, $1::int) AS n", 100)
    # apps: end
    settings = {"application_name": "smoke pool", "TimeZone": "Asia/Tokyo"}
    async with asyncpg.create_pool(s.dsn, min_size=2, max_size=4, server_settings=settings) as pool:
        async def one(n: int) -> Any:
            async with pool.acquire() as connection:
                if n % 3 == 0:
                    await connection.execute("SET TimeZone = 'Europe/Berlin'")
                return [await connection.fetchval("SHOW TimeZone"), await connection.fetchval("SELECT $1::int", n)]
        return [total, await asyncio.gather(*(one(n) for n in range(60)))]


if __name__ == "__main__":
    sys.exit(main({
        "connect": connect, "types": types, "prepared": prepared, "ddl": ddl, "transaction": transaction,
        "cursor": cursor, "copy": copy, "cancel": cancel, "timeout": timeout, "notices": notices, "pipeline": pipeline,
        "settings": settings, "concurrent": concurrent,
    }))

"""psycopg 3: the scenarios of test/drivers/scenarios_test.go."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import sys
import time
import uuid
from typing import Any, Sequence

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from smoke import RAISES, Smoke, failure, main, outcome

UTC = datetime.timezone.utc


async def open_(s: Smoke, **options: Any) -> AsyncConnection:
    """A connection outside of any transaction, unless the caller opens one."""
    # apps: connect
    return await AsyncConnection.connect(s.dsn, autocommit=True, **options)
    # apps: end


async def rows(connection: AsyncConnection, query: Any, arguments: Sequence[Any] = (), **options: Any) -> list[Any]:
    cursor = await connection.execute(query, arguments, **options)
    return [list(row) for row in await cursor.fetchall()]


async def value(connection: AsyncConnection, query: Any, arguments: Sequence[Any] = (), **options: Any) -> Any:
    return (await rows(connection, query, arguments, **options))[0][0]


def name(s: Smoke, table: str) -> Any:
    return sql.Identifier(s.schema, table)


async def connect(s: Smoke) -> Any:
    result: dict[str, Any] = {}
    ours = await open_(
        s, application_name="smoke psycopg", client_encoding="LATIN1",
        options=f"-c TimeZone=Asia/Tokyo -c DateStyle=German -c statement_timeout=12345 -c search_path={s.schema}")
    plain = await open_(s)
    shown = ("application_name", "client_encoding", "TimeZone", "DateStyle", "statement_timeout", "search_path")
    result["shown"] = [
        [await value(connection, f"SHOW {setting}") for setting in shown] + [await value(connection, "SELECT 'Größe'")]
        for _ in range(4) for connection in (ours, plain)
    ]
    result["reported"] = {
        setting: ours.info.parameter_status(setting)
        for setting in ("server_encoding", "client_encoding", "TimeZone", "DateStyle", "application_name",
                        "is_superuser", "session_authorization", "server_version", "integer_datetimes",
                        "standard_conforming_strings", "IntervalStyle", "in_hot_standby")
    }
    result["info"] = [ours.info.server_version, ours.info.dbname, ours.info.user, ours.info.transaction_status.name]
    await ours.close()
    await plain.close()
    for what, options in {
        "wrong password": {"password": "not the password"},
        "unknown user": {"user": "nobody_of_that_name"},
        "unknown database": {"dbname": "no_database_of_that_name"},
        "bad setting": {"options": "-c TimeZone=Nowhere/Land"},
    }.items():
        try:
            await (await open_(s, **options)).close()
            result[what] = "connected"
        except psycopg.OperationalError as error:
            # libpq gives no SQLSTATE for a failed login: the severity is what can be compared.
            result[what] = "FATAL" if "FATAL" in str(error) else "other"
    return result


async def types(s: Smoke) -> Any:
    connection = await open_(s)
    mood = await EnumInfo.fetch(connection, name(s, "mood"))
    position = await CompositeInfo.fetch(connection, name(s, "position"))
    register_enum(mood, connection)
    register_composite(position, connection)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    values = [
        ("int2", -32768), ("int4", 2147483647), ("int8", -(2**63)),
        ("numeric", decimal.Decimal("123456789012345678901234567890.123456789")),
        ("float4", 1.5), ("float8", float("inf")), ("float8", 1e-300),
        ("bool", True), ("text", "Größe 舵 ⚓ O'ring \\"), ("text", "x" * 100_000), ("text", ""), ("text", None),
        ("bytea", bytes(range(256)) * 40), ("uuid", uuid.UUID(int=7)),
        ("date", datetime.date(1, 1, 1)), ("time", datetime.time(12, 30)), ("timestamptz", moment),
        ("timestamp", moment.replace(tzinfo=None)), ("interval", datetime.timedelta(days=3, seconds=4)),
        ("jsonb", Jsonb({"a": [1, None]})), ("int4[]", [[1, 2], [3, 4]]), ("text[]", ["a", None, 'q"']),
        ("int4range", Range(1, 10)), (sql.SQL("{}").format(name(s, "mood")), mood.enum.stormy),
        (sql.SQL("{}").format(name(s, "position")), position.python_type(54.3, 10.1)),
    ]
    result: list[Any] = []
    for binary in (False, True):
        for type_, sent in values:
            type_ = sql.SQL(type_) if isinstance(type_, str) else type_
            back = await value(connection, sql.SQL("SELECT %s::{}").format(type_), [sent], binary=binary)
            result.append([binary, len(repr(back)), repr(back)[:200]])
    result.append(await outcome(value(connection, "SELECT %s::int4", ["not a number"])))
    result.append(await outcome(value(connection, "SELECT 'not a number'::text::int4")))
    cursor = await connection.execute("SELECT 1 AS a, NULL::int AS b, 'x'::varchar(3) AS c")
    result.append([[column.name, column.type_code] for column in cursor.description])
    await connection.close()
    return result


async def prepared(s: Smoke) -> Any:
    # Two connections give their statements the same names and different texts.
    sides = {"left": await open_(s), "right": await open_(s)}
    for connection in sides.values():
        connection.prepare_threshold = 0
        connection.prepared_max = s.statements
    wrong, answers = [], 0
    for turn in range(2):
        for i in range(s.statements):
            if i % 7 == 0:  # clients that take turns in step would meet the same server each time
                await sides["left"].execute("SELECT 1")
            for side, connection in sides.items():
                query = f"SELECT %s::int + {i}, '{side}{i}', pg_backend_pid()"
                if turn % 2:
                    async with connection.transaction():
                        await rows(connection, query, [turn])
                        [row] = await rows(connection, query, [turn])
                else:
                    [row] = await rows(connection, query, [turn])
                s.saw(side, row[2])
                answers += 1
                if row[:2] != [turn + i, f"{side}{i}"]:
                    wrong.append([side, i, turn, row])
    result: dict[str, Any] = {"answers": answers, "wrong": wrong[:5]}

    # More texts than the driver keeps prepared: it closes and prepares again.
    few = await open_(s)
    few.prepare_threshold, few.prepared_max = 1, 10
    result["few"] = sum([
        await value(few, f"SELECT %s::int * {i}", [turn]) for turn in range(4) for i in range(30)])
    binary = sides["left"]
    result["binary"] = sum([await value(binary, "SELECT %b::int * 3", [i], binary=True) for i in range(30)])
    never = await open_(s)
    never.prepare_threshold = None
    result["never"] = sum([await value(never, "SELECT %s::int", [i]) for i in range(30)])
    for connection in (*sides.values(), few, never):
        await connection.close()
    return result


async def ddl(s: Smoke) -> Any:
    # Statements whose table has changed since they were prepared.
    changes, reads = await open_(s), await open_(s)
    changes.prepare_threshold = reads.prepare_threshold = 0
    table = name(s, "changed")
    query = sql.SQL("SELECT * FROM {}").format(table)
    await changes.execute(sql.SQL("CREATE TABLE {} (a int)").format(table))
    await changes.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(table))
    result: dict[str, Any] = {"before": [await rows(reads, query) for _ in range(3)]}
    await changes.execute(sql.SQL("ALTER TABLE {} ADD COLUMN b int DEFAULT 2").format(table))
    # PostgreSQL refuses the old plan.
    result["after"] = await outcome(rows(reads, query))
    result["once more"] = await outcome(rows(reads, query))
    fresh = await open_(s)
    fresh.prepare_threshold = 0
    async with fresh.transaction():
        result["fresh"] = await outcome(rows(fresh, query))
    await changes.execute(sql.SQL("DROP TABLE {}").format(table))
    result["dropped"] = await outcome(rows(fresh, query))
    for connection in (changes, reads, fresh):
        await connection.close()
    return result


async def transaction(s: Smoke) -> Any:
    items = name(s, "items")
    # The way psycopg works unless told otherwise: a transaction begins with the first statement.
    one, other = await AsyncConnection.connect(s.dsn), await open_(s)
    insert = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(items)
    count = sql.SQL("SELECT count(*) FROM {}").format(items)
    all_ = sql.SQL("SELECT * FROM {} ORDER BY id").format(items)
    result: dict[str, Any] = {}

    await one.execute(insert, [1, "one", None])
    try:
        async with one.transaction():
            result["duplicate"] = await outcome(one.execute(insert, [2, "one", None]))
            result["failed"] = await outcome(value(one, "SELECT 1"))
            raise psycopg.Rollback()
    except psycopg.errors.InFailedSqlTransaction as error:
        result["savepoint"] = failure(error)
    async with one.transaction():
        await one.execute(insert, [3, "three", 1])
    result["status"] = one.info.transaction_status.name
    result["seen inside"] = await value(one, count)
    result["seen outside"] = await value(other, count)
    await one.commit()
    result["after commit"] = await rows(other, all_)
    await one.execute(insert, [4, "four", None])
    await one.rollback()
    result["after rollback"] = await value(other, count)
    await one.execute(insert, [5, "five", 999])
    result["deferred constraint"] = await outcome(one.commit())
    result["status again"] = one.info.transaction_status.name
    await one.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
    await one.set_read_only(True)
    result["isolation"] = await value(one, "SHOW transaction_isolation")
    result["read only"] = await outcome(one.execute(insert, [6, "six", None]))
    await one.rollback()
    result["isolation elsewhere"] = await value(other, "SHOW transaction_isolation")
    result["many statements"] = await outcome(other.execute(sql.SQL(
        "INSERT INTO {t} VALUES (7, 'seven', NULL); SELECT 1/0; INSERT INTO {t} VALUES (8, 'eight', NULL)"
    ).format(t=items)))
    cursor = await other.execute("SELECT 1; SELECT 2, 3; SET LOCAL work_mem = '1MB'; SELECT 4")
    results = [[list(row) for row in await cursor.fetchall()]]
    while cursor.nextset():
        results.append(cursor.statusmessage if cursor.description is None else [list(r) for r in await cursor.fetchall()])
    result["results"] = results
    result["end"] = await rows(other, all_)
    result["two-phase"] = await outcome(two_phase(s))
    await one.close()
    await other.close()
    return result


async def two_phase(s: Smoke) -> Any:
    connection = await AsyncConnection.connect(s.dsn)
    try:
        await connection.tpc_begin(connection.xid(1, s.schema, "smoke"))
        await connection.execute("SELECT 1")
        await connection.tpc_prepare()
        await connection.tpc_rollback()
        return "rolled back"
    finally:
        await connection.close()


async def cursor(s: Smoke) -> Any:
    connection = await AsyncConnection.connect(s.dsn)
    query = "SELECT n, repeat('x', n %% 50) FROM generate_series(1, %s) AS n"
    result: dict[str, Any] = {}
    async with connection.cursor(name="c1") as named:
        named.itersize = 100
        await named.execute(query, [5000])
        seen = [row[0] async for row in named]
        result["iterated"] = [len(seen), sum(seen)]
    one, two = connection.cursor(name="c1", scrollable=True), connection.cursor(name='odd "name"')
    await one.execute(query, [100])
    await two.execute(query, [200])
    result["interleaved"] = [[row[0] for row in await c.fetchmany(3)] for c in (one, two, one, two)]
    await one.scroll(-2)
    result["scrolled"] = (await one.fetchone())[0]
    result["rest"] = [len(await one.fetchall()), len(await two.fetchall())]
    await one.close()
    await connection.commit()
    await two.close()
    late = connection.cursor(name="late")
    await late.execute("SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n")
    result["before the error"] = len(await late.fetchmany(10))
    result["error inside"] = await outcome(late.fetchmany(20))
    await connection.rollback()
    result["single rows"] = [row[0] async for row in connection.cursor().stream(query, [20])]
    await connection.rollback()
    result["hold"] = await hold(s)
    result["afterwards"] = await value(connection, "SELECT 1")
    await connection.close()
    return result


async def hold(s: Smoke) -> Any:
    # A cursor that outlives its transaction.
    connection = await AsyncConnection.connect(s.dsn)
    held = connection.cursor(name="held", withhold=True)
    await held.execute("SELECT n FROM generate_series(1, 10) AS n")
    await connection.commit()
    found = [row[0] for row in await held.fetchmany(4)]
    await connection.commit()
    found += [row[0] for row in await held.fetchall()]
    await held.close()
    await connection.close()
    return found


async def copy(s: Smoke) -> Any:
    connection = await open_(s)
    table = name(s, "copied")
    moment = datetime.datetime(2024, 1, 1, tzinfo=UTC)
    records = [
        (i, None if i % 10 == 0 else f"note\t{i}\n\\", decimal.Decimal(i) / 4, moment + datetime.timedelta(minutes=i))
        for i in range(20_000)
    ]
    copy_in = sql.SQL("COPY {} FROM STDIN").format(table)
    digest = sql.SQL(
        "SELECT count(*), sum(id), sum(amount), count(note), md5(string_agg(note, '' ORDER BY id)) FROM {}").format(table)
    result: dict[str, Any] = {}
    c = connection.cursor()
    async with c.copy(copy_in) as target:
        for record in records:
            await target.write_row(record)
    result["rows in"] = [c.statusmessage, await rows(connection, digest)]
    chunks = []
    async with c.copy(sql.SQL("COPY (SELECT * FROM {} ORDER BY id) TO STDOUT (FORMAT binary)").format(table)) as source:
        async for chunk in source:
            chunks.append(bytes(chunk))
    result["binary out"] = sum(map(len, chunks))
    await connection.execute(sql.SQL("TRUNCATE {}").format(table))
    async with c.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(table)) as target:
        for chunk in chunks:
            await target.write(chunk)
    result["binary in"] = [c.statusmessage, await rows(connection, digest)]
    async with c.copy(sql.SQL("COPY (SELECT id, note FROM {} WHERE id < %s ORDER BY id) TO STDOUT").format(table), [50]) as source:
        result["rows out"] = [list(row) async for row in source.rows()]

    async def gives_up() -> None:
        async with c.copy(copy_in) as target:
            await target.write_row((100_001, "x", 1, moment))
            raise ValueError("no more")

    async def bad() -> None:
        async with c.copy(copy_in) as target:
            await target.write("100002\tx\tnot a number\t2024-01-01\n")
            for _ in range(2000):
                await target.write_row((100_003, "x", 1, moment))

    async def leaves() -> None:
        # psycopg cancels the COPY and reads what is still on its way.
        async with c.copy(sql.SQL("COPY {} TO STDOUT").format(table)) as source:
            async for _ in source:
                raise ValueError("enough")

    result["source fails"] = await outcome(gives_up())
    result["bad line"] = await outcome(bad())
    result["leaves early"] = await outcome(leaves())
    async with connection.transaction():
        async with c.copy(copy_in) as target:
            await target.write_row((100_004, "in transaction", 1, moment))
        result["inside"] = await value(connection, sql.SQL("SELECT note FROM {} WHERE id = 100004").format(table))
    result["end"] = await rows(connection, digest)
    await connection.close()
    return result


async def running(watch: AsyncConnection, marker: str) -> None:
    """Wait until the query with this marker sleeps on a server: while it is parsed a cancel would find nothing to cancel."""
    while not await value(
        watch, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE %s",
        [f"%{marker}%"],
    ):
        await asyncio.sleep(0.01)


async def cancel(s: Smoke) -> Any:
    one, neighbour, watch = [await open_(s) for _ in range(3)]
    result: list[Any] = []
    for turn in range(6):
        marker = f"{s.schema} cancel {turn}"
        beside = asyncio.ensure_future(value(neighbour, "SELECT 7 FROM pg_sleep(0.5)"))
        query = asyncio.ensure_future(outcome(one.execute(f"SELECT pg_sleep(600) /* {marker} */")))
        await running(watch, marker)
        if turn % 2:
            await asyncio.to_thread(one.cancel)
        else:
            await one.cancel_safe()
        result.append([await query, await value(one, "SELECT 1"), await beside])
    async with one.transaction(force_rollback=True):
        marker = f"{s.schema} cancel inside"
        await one.execute(sql.SQL("INSERT INTO {} VALUES (-1, 1)").format(name(s, "ledger")))
        query = asyncio.ensure_future(outcome(one.execute(f"SELECT pg_sleep(600) /* {marker} */")))
        await running(watch, marker)
        await one.cancel_safe()
        result.append(await query)
        result.append(one.info.transaction_status.name)
    result.append(await value(watch, sql.SQL("SELECT count(*) FROM {} WHERE task = -1").format(name(s, "ledger"))))
    await one.cancel_safe()
    result.append(await value(one, "SELECT 'idle cancel does nothing'"))
    for connection in (one, neighbour, watch):
        await connection.close()
    return result


async def timeout(s: Smoke) -> Any:
    connection = await open_(s)
    ledger = name(s, "ledger")
    insert = sql.SQL("INSERT INTO {} VALUES (-2, %s)").format(ledger)
    result: dict[str, Any] = {}
    try:
        async with connection.transaction():
            await connection.execute(insert, [1])
            await connection.execute("SET LOCAL statement_timeout = '50ms'")
            await connection.execute("SELECT pg_sleep(600)")
    except psycopg.errors.QueryCanceled as error:
        result["statement_timeout"] = failure(error)
    result["setting afterwards"] = await value(connection, "SHOW statement_timeout")

    async def slow() -> None:
        async with connection.transaction():
            await connection.execute(insert, [2])
            await connection.execute("SELECT pg_sleep(600)")

    # psycopg has no timeout of its own: cancelling the task sends a cancel request.
    try:
        await asyncio.wait_for(slow(), 0.2)
    except asyncio.TimeoutError:
        result["task's timeout"] = "timeout"
    result["usable"] = await value(connection, "SELECT 1")
    result["committed"] = await value(connection, sql.SQL("SELECT count(*) FROM {} WHERE task = -2").format(ledger))
    holder = await AsyncConnection.connect(s.dsn)
    await holder.execute(sql.SQL("LOCK TABLE {}").format(ledger))
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '50ms'")
            await connection.execute(insert, [3])
    except psycopg.errors.LockNotAvailable as error:
        result["lock_timeout"] = failure(error)
    await holder.rollback()
    await holder.close()
    await connection.close()
    return result


async def notices(s: Smoke) -> Any:
    heard: dict[str, list[Any]] = {"one": [], "other": []}
    one, other = await open_(s), await open_(s)
    for who, connection in (("one", one), ("other", other)):
        connection.add_notice_handler(lambda d, who=who: heard[who].append(
            [d.severity, d.sqlstate, d.message_primary, d.message_detail, d.message_hint]))
    await other.execute("SET client_min_messages = warning")
    for turn in range(5):
        for connection in (one, other):
            await connection.execute(RAISES.format(turn))
    await one.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (id int)").format(name(s, "items")))
    result: dict[str, Any] = {"heard": heard, "told": []}
    channel = f"{s.schema}_channel"
    await one.execute(f"LISTEN {channel}")
    for turn in range(3):
        await other.execute("SELECT pg_notify(%s, %s)", [channel, f"turn {turn}"])
        async for notify in one.notifies(stop_after=1):
            result["told"].append([notify.channel, notify.payload, notify.pid == one.info.backend_pid])
    await one.execute("UNLISTEN *")
    await other.execute(f"NOTIFY {channel}, 'nobody hears'")
    result["afterwards"] = [await value(one, "SELECT 1"), [n.payload async for n in one.notifies(timeout=0.1)]]
    for connection in (one, other):
        await connection.close()
    return result


async def pipeline(s: Smoke) -> Any:
    connection = await open_(s)
    ledger = name(s, "ledger")
    insert = sql.SQL("INSERT INTO {} VALUES (-3, %s)").format(ledger)
    count = sql.SQL("SELECT count(*), sum(number) FROM {} WHERE task = -3").format(ledger)
    result: dict[str, Any] = {}
    async with connection.pipeline() as line:
        cursors = [await connection.execute("SELECT %s::int * 2", [n]) for n in range(200)]
        await line.sync()
        result["answers"] = sum([(await c.fetchone())[0] for c in cursors])
        await connection.execute(insert, [1])
    result["one"] = await rows(connection, count)
    async with connection.cursor() as many:
        await many.executemany(insert, [(n,) for n in range(1000, 2000)])
        await many.executemany("SELECT %s::int", [(n,) for n in range(5)], returning=True)
        returned = [(await many.fetchone())[0]]
        while many.nextset():
            returned.append((await many.fetchone())[0])
        result["returned"] = returned
    result["many"] = await rows(connection, count)

    async def broken() -> None:
        async with connection.pipeline():
            await connection.execute(insert, [3000])
            await connection.execute(insert, [1500])
            await connection.execute(insert, [3001])

    result["error"] = await outcome(broken())
    result["after error"] = await rows(connection, count)
    async def aborted() -> None:
        async with connection.pipeline() as line:
            for query in ("SELECT 1", "SELECT 1 / 0", "SELECT 2"):
                await connection.execute(query)
            await line.sync()

    result["aborted"] = await outcome(aborted())
    async with connection.pipeline():
        result["after aborted"] = await value(connection, "SELECT 3")
    async with connection.pipeline(), connection.transaction():
        await connection.execute(insert, [5000])
        await connection.execute(insert, [5001])
    result["end"] = await rows(connection, count)
    await connection.close()
    return result


async def settings(s: Smoke) -> Any:
    zones = ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
    connections = [await open_(s) for _ in zones]
    result: list[Any] = []
    for number, (connection, zone) in enumerate(zip(connections, zones)):
        await connection.execute(f"SET TimeZone = '{zone}'")
        await connection.execute(f"SET application_name = 'smoke {number}'")
    await connections[1].execute("SET client_encoding = 'LATIN1'")
    query = "SELECT timestamptz '2024-07-01 12:00:00+00', current_setting('application_name'), 'Größe', pg_backend_pid()"
    for turn in range(5):
        for number, connection in enumerate(connections):
            if turn == number:  # clients that take turns in step would meet the same server each time
                await connection.execute("SELECT 1")
            [row] = await rows(connection, query)
            s.saw(number, row[3])
            result.append([row[0].isoformat(), str(row[0].tzinfo), *row[1:3], connection.info.encoding])
    one = connections[0]
    async with one.transaction(force_rollback=True):
        await one.execute("SET TimeZone = 'Asia/Kolkata'")
        result.append(one.info.parameter_status("TimeZone"))
    result.append([one.info.parameter_status("TimeZone"), await value(one, "SHOW TimeZone")])
    async with one.transaction():
        await one.execute("SET LOCAL TimeZone = 'Asia/Kolkata'")
    result.append([one.info.parameter_status("TimeZone"), await value(one, "SHOW TimeZone")])
    for connection in connections:
        await connection.execute("DISCARD ALL")
        result.append([await value(connection, f"SHOW {n}") for n in ("TimeZone", "client_encoding", "application_name")])
        await connection.close()
    return result


async def concurrent(s: Smoke) -> Any:
    deadline = time.monotonic() + s.seconds
    wrong: list[Any] = []
    ledger = name(s, "ledger")
    insert = sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(ledger)
    count = sql.SQL("SELECT count(*) FROM {} WHERE task = %s").format(ledger)

    async def task(number: int) -> int:
        zone = f"Etc/GMT+{number % 12}"
        committed = turn = 0
        connection = await open_(s, application_name=f"task {number}", options=f"-c TimeZone={zone}")
        connection.prepare_threshold = (None, 0, 3)[number % 3]

        def check(what: str, got: Any, want: Any) -> None:
            if got != want:
                wrong.append([what, number, got, want])

        while turn < 30 or time.monotonic() < deadline:
            turn += 1
            kind = (turn + number) % 6
            if kind == 0:
                [row] = await rows(connection, "SELECT %s::int * 2, %s, pg_backend_pid()", [number, f"t{turn}"])
                s.saw(number, row[2])
                check("select", row[:2], [number * 2, f"t{turn}"])
            elif kind == 1:
                async with connection.transaction():
                    await connection.execute(insert, [number, turn])
                    committed += 1
                    check("own rows", await value(connection, count, [number]), committed)
            elif kind == 2:
                async with connection.transaction(force_rollback=True):
                    await connection.execute(insert, [number, turn])
            elif kind == 3:
                got = await outcome(value(connection, "SELECT 1 / (%s::int - %s::int)", [number, number]))
                check("error", got, {"sqlstate": "22012", "message": "division by zero"})
            elif kind == 4:
                [row] = await rows(connection, "SELECT current_setting('TimeZone'), current_setting('application_name')")
                check("settings", row, [zone, f"task {number}"])
            else:
                async with connection.pipeline():
                    found = [await connection.execute("SELECT %s::int * %s::int", [number, n]) for n in range(20)]
                    check("pipeline", [(await c.fetchone())[0] for c in found], [number * n for n in range(20)])
        check("at the end", await value(connection, count, [number]), committed)
        await connection.close()
        return turn

    turns = await asyncio.gather(*(task(number) for number in range(s.tasks)))
    return {"tasks": len(turns), "wrong": wrong[:10]}


if __name__ == "__main__":
    sys.exit(main({
        "connect": connect, "types": types, "prepared": prepared, "ddl": ddl, "transaction": transaction,
        "cursor": cursor, "copy": copy, "cancel": cancel, "timeout": timeout, "notices": notices, "pipeline": pipeline,
        "settings": settings, "concurrent": concurrent,
    }))

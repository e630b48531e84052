"""SQLAlchemy over asyncpg and over psycopg: the scenarios of test/drivers/scenarios_test.go."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import sys
import time
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from smoke import DIVISION, RAISES, Smoke, main

UTC = datetime.timezone.utc


def address(s: Smoke) -> sa.URL:
    return sa.make_url(s.dsn).set(drivername=f"postgresql+{s.driver.removeprefix('sqlalchemy-')}", query={})


def engine(s: Smoke, **options: Any) -> AsyncEngine:
    return create_async_engine(address(s), **options)


def over_asyncpg(s: Smoke) -> bool:
    return s.driver.endswith("asyncpg")


def failure(error: BaseException) -> Any:
    """PostgreSQL's own error under SQLAlchemy's."""
    original = getattr(error, "orig", None)
    if original is None:
        return {"error": type(error).__name__}
    original = original.__cause__ if getattr(original, "__cause__", None) is not None else original
    diagnostic = getattr(original, "diag", None)
    message = diagnostic.message_primary if diagnostic is not None else getattr(original, "message", str(original))
    return {"sqlstate": getattr(original, "sqlstate", None), "message": message, "class": type(error).__name__}


async def outcome(work: Any) -> Any:
    try:
        return await work
    except Exception as error:
        return failure(error)


async def rows(c: AsyncConnection, query: Any, **arguments: Any) -> list[Any]:
    query = sa.text(query) if isinstance(query, str) else query
    return [list(row) for row in (await c.execute(query, arguments)).all()]


async def value(c: AsyncConnection, query: Any, **arguments: Any) -> Any:
    return (await rows(c, query, **arguments))[0][0]


async def execute(c: AsyncConnection, query: str, **arguments: Any) -> None:
    await c.execute(sa.text(query), arguments)


def auto(e: AsyncEngine) -> AsyncEngine:
    return e.execution_options(isolation_level="AUTOCOMMIT")


def startup(s: Smoke, **settings: str) -> dict[str, Any]:
    """connect_args of the driver that make these settings startup parameters."""
    if over_asyncpg(s):
        return {"server_settings": settings}
    return {"options": " ".join(f"-c {name}={value}" for name, value in settings.items())}


async def connect(s: Smoke) -> Any:
    settings = {"application_name": "smoke", "TimeZone": "Asia/Tokyo", "DateStyle": "German", "statement_timeout": "12345",
                "search_path": s.schema}
    ours, plain = engine(s, connect_args=startup(s, **settings)), engine(s)
    result: dict[str, Any] = {"shown": []}
    for _ in range(4):
        for one in (ours, plain):
            async with one.connect() as c:
                result["shown"].append([await value(c, f"SHOW {name}") for name in settings])
    async with plain.connect() as c:
        result["dialect"] = [list(c.dialect.server_version_info), c.dialect.default_schema_name]
        result["isolation"] = await c.get_isolation_level()
    for what, change in {
        "wrong password": {"password": "not the password"},
        "unknown user": {"username": "nobody_of_that_name"},
        "unknown database": {"database": "no_database_of_that_name"},
    }.items():
        refused = create_async_engine(plain.url.set(**change))
        try:
            async with refused.connect():
                result[what] = "connected"
        except Exception as error:
            result[what] = [type(error).__name__, type(getattr(error, "orig", None)).__name__]
        await refused.dispose()
    await ours.dispose()
    await plain.dispose()
    return result


class Base(DeclarativeBase):
    pass


class Everything(Base):
    """A row with a column of each kind."""

    __tablename__ = "everything"
    id: Mapped[int] = mapped_column(primary_key=True)
    big: Mapped[int] = mapped_column(sa.BigInteger)
    amount: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(60, 9))
    real: Mapped[float] = mapped_column(sa.Float)
    yes: Mapped[bool]
    note: Mapped[str] = mapped_column(sa.Text)
    missing: Mapped["str | None"] = mapped_column(sa.Text)
    blob: Mapped[bytes] = mapped_column(sa.LargeBinary)
    key: Mapped[uuid.UUID]
    day: Mapped[datetime.date]
    clock: Mapped[datetime.time]
    at: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True))
    span: Mapped[datetime.timedelta]
    document: Mapped[Any] = mapped_column(pg.JSONB)
    numbers: Mapped[Any] = mapped_column(pg.ARRAY(sa.Integer, dimensions=2))
    words: Mapped[Any] = mapped_column(pg.ARRAY(sa.Text))
    range: Mapped[Any] = mapped_column(pg.INT4RANGE)
    mood: Mapped[str] = mapped_column(pg.ENUM("calm", "rough", "stormy", name="weather"))


async def types(s: Smoke) -> Any:
    e = engine(s, connect_args=startup(s, search_path=s.schema))
    async with e.begin() as c:
        await c.run_sync(Base.metadata.create_all)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    sent = {
        "id": 1, "big": -(2**63), "amount": decimal.Decimal("123456789012345678901234567890.123456789"), "real": 1e-300,
        "yes": True, "note": "Größe 舵 ⚓ O'ring \\ :x %" + "x" * 100_000, "missing": None, "blob": bytes(range(256)) * 40,
        "key": uuid.UUID(int=7), "day": datetime.date(1, 1, 1), "clock": datetime.time(12, 30), "at": moment,
        "span": datetime.timedelta(days=3, seconds=4), "document": {"a": [1, None]}, "numbers": [[1, 2], [3, 4]],
        "words": ["a", None, 'q"'], "range": pg.Range(1, 10), "mood": "stormy",
    }
    async with AsyncSession(e) as session, session.begin():
        session.add(Everything(**sent))
    result: list[Any] = []
    async with AsyncSession(e) as session:
        found = await session.get_one(Everything, 1)
        for name in sent:
            back = repr(getattr(found, name))
            result.append([name, len(back), back[:100]])
        await session.delete(found)
        await session.commit()
    async with e.connect() as c:
        result.append(await outcome(value(c, "SELECT 'not a number'::text::int4")))
        await c.rollback()
        result.append(sorted(await c.run_sync(lambda sync: sa.inspect(sync).get_table_names(schema=s.schema))))
        result.append([[str(v) for v in (column["name"], column["type"], column["nullable"])] for column in
                       await c.run_sync(lambda sync: sa.inspect(sync).get_columns("everything", schema=s.schema))])
    async with e.begin() as c:
        await c.run_sync(Base.metadata.drop_all)
    await e.dispose()
    return result


async def prepared(s: Smoke) -> Any:
    # SQLAlchemy's asyncpg dialect prepares every statement, and asyncpg names them by the connection's own counter: any two
    # connections use the same names. Where a pooler lets sessions share a server, one finds the other's.
    e = auto(engine(s))
    wrong, answers = [], 0
    async with e.connect() as left, e.connect() as right:
        sides = {"left": left, "right": right}
        for turn in range(2):
            for i in range(s.statements):
                if i % 7 == 0:  # clients that take turns in step would meet the same server each time
                    await rows(left, "SELECT 1")
                for side, c in sides.items():
                    query = sa.text(f"SELECT CAST(:n AS integer) + {i}, '{side}{i}', pg_backend_pid()")
                    row = list((await c.execute(query, {"n": turn})).one())
                    s.saw(side, row[2])
                    answers += 1
                    if row[:2] != [turn + i, f"{side}{i}"]:
                        wrong.append([side, i, turn, row])
        result: dict[str, Any] = {"answers": answers, "wrong": wrong[:5]}
        result["bad"] = await outcome(rows(left, "SELECT nothing_like_this"))
        result["good"] = await rows(left, "SELECT 5")
    # The pool's own reset, and connections that come back from it.
    for i in range(20):
        async with e.connect() as c:
            answers += await value(c, "SELECT CAST(:n AS integer)", n=i)
    result["pooled"] = answers
    await e.dispose()
    return result


async def ddl(s: Smoke) -> Any:
    e = auto(engine(s))
    table = f"{s.schema}.changed"
    query = f"SELECT * FROM {table}"
    result: dict[str, Any] = {}
    async with e.connect() as changes, e.connect() as reads:
        await execute(changes, f"CREATE TABLE {table} (a int)")
        await execute(changes, f"INSERT INTO {table} VALUES (1)")
        result["before"] = [await rows(reads, query) for _ in range(7)]
        await execute(changes, f"ALTER TABLE {table} ADD COLUMN b int DEFAULT 2")
        result["after"] = await outcome(rows(reads, query))
        result["once more"] = await outcome(rows(reads, query))
    async with e.connect() as fresh:
        result["fresh"] = await outcome(rows(fresh, query))
        await execute(fresh, f"DROP TABLE {table}")
        result["dropped"] = await outcome(rows(fresh, query))
    await e.dispose()
    return result


async def transaction(s: Smoke) -> Any:
    e = engine(s)
    items = sa.table("items", sa.column("id"), sa.column("note"), sa.column("parent"), schema=s.schema)
    count = sa.select(sa.func.count()).select_from(items)
    all_ = sa.select(items).order_by(items.c.id)
    result: dict[str, Any] = {}

    async def add(c: AsyncConnection, id_: int, note: str, parent: Any = None) -> int:
        return (await c.execute(items.insert().values(id=id_, note=note, parent=parent))).rowcount

    async with e.connect() as one, auto(e).connect() as other:
        async with one.begin():
            result["added"] = await add(one, 1, "one")
            try:
                async with one.begin_nested():
                    await add(one, 2, "one")
            except sa.exc.IntegrityError as error:
                result["duplicate"] = failure(error)
            async with one.begin_nested():
                await add(one, 3, "three", 1)
            result["seen"] = [await value(one, count), await value(other, count)]
        result["after commit"] = await rows(other, all_)
        try:
            async with one.begin():
                await add(one, 4, "four")
                await rows(one, "SELECT 1 / 0")
        except sa.exc.DBAPIError as error:
            result["division"] = failure(error)
        result["after rollback"] = await value(other, count)
        outer = await one.begin()
        await add(one, 5, "five", 999)
        result["deferred constraint"] = await outcome(outer.commit())
    async with e.execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True).connect() as one:
        result["isolation"] = await value(one, "SHOW transaction_isolation")
        result["read only"] = await outcome(add(one, 6, "six"))
    async with e.connect() as one:
        result["isolation after"] = await value(one, "SHOW transaction_isolation")
        result["end"] = await rows(one, all_)
    await e.dispose()
    return result


async def cursor(s: Smoke) -> Any:
    e = engine(s)
    query = sa.text("SELECT n, repeat('x', n % 50) AS t FROM generate_series(1, CAST(:n AS integer)) AS n")
    result: dict[str, Any] = {}
    async with e.connect() as c:
        # stream() reads through a server-side cursor: with asyncpg a portal of the extended protocol, with psycopg a named one.
        seen = [row.n async for row in await c.stream(query, {"n": 5000})]
        result["iterated"] = [len(seen), sum(seen)]
        parts = await c.stream(query.execution_options(yield_per=100), {"n": 1000})
        result["parts"] = [len(part) async for part in parts.partitions()]
        one, two = await c.stream(query, {"n": 100}), await c.stream(query, {"n": 200})
        result["interleaved"] = [[row.n for row in await r.fetchmany(3)] for r in (one, two, one, two)]
        await one.close()
        result["rest"] = len(await two.all())
        failing = await c.stream(sa.text("SELECT 10 / (200 - n) FROM generate_series(1, 300) AS n").execution_options(yield_per=10))
        result["before the error"] = len(await failing.fetchmany(10))
        result["error inside"] = await outcome(failing.all())
        await c.rollback()
        result["afterwards"] = await value(c, "SELECT 1")
    await e.dispose()
    return result


async def copy(s: Smoke) -> Any:
    # SQLAlchemy has no COPY of its own: it lends the driver's connection.
    e = engine(s)
    digest = f"SELECT count(*), sum(id), count(note), md5(string_agg(note, '' ORDER BY id)) FROM {s.schema}.copied"
    records = [(i, f"note\t{i}") for i in range(10_000)]
    result: dict[str, Any] = {}
    async with e.begin() as c:
        driver = (await c.get_raw_connection()).driver_connection

        async def into(records: Any) -> Any:
            if over_asyncpg(s):
                return await driver.copy_records_to_table("copied", schema_name=s.schema, columns=["id", "note"], records=records)
            async with driver.cursor() as cursor:
                async with cursor.copy(f"COPY {s.schema}.copied (id, note) FROM STDIN") as target:
                    for record in records:
                        await target.write_row(record)
                return cursor.statusmessage

        await value(c, "SELECT 1")  # begins the transaction
        result["in"] = await into(records)
        result["digest"] = await rows(c, digest)
        out: list[bytes] = []
        if over_asyncpg(s):
            async def collect(chunk: bytes) -> None:
                out.append(chunk)
            await driver.copy_from_query(f"SELECT id, note FROM {s.schema}.copied ORDER BY id", output=collect)
        else:
            async with driver.cursor() as cursor, cursor.copy(
                    f"COPY (SELECT id, note FROM {s.schema}.copied ORDER BY id) TO STDOUT") as source:
                out.extend([bytes(chunk) async for chunk in source])
        result["out"] = len(b"".join(out))
        async with c.begin_nested() as savepoint:
            try:
                await into(records[:1])
            except Exception as error:
                result["duplicate"] = getattr(error, "sqlstate", None)
            await savepoint.rollback()
        result["again"] = await rows(c, digest)
    await e.dispose()
    return result


async def running(watch: AsyncConnection, marker: str) -> None:
    """Wait until the query with this marker sleeps on a server: while it is parsed a cancel would find nothing to cancel."""
    while not await value(
        watch, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE :m",
        m=f"%{marker}%",
    ):
        await asyncio.sleep(0.01)


async def cancel(s: Smoke) -> Any:
    # A task that is cancelled: the driver cancels its query, and SQLAlchemy does not take the connection back.
    e = auto(engine(s))
    result: list[Any] = []
    async with e.connect() as neighbour, e.connect() as watch:
        for turn in range(4):
            marker = f"{s.schema} cancel {turn}"

            async def sleeps() -> Any:
                async with e.connect() as one:
                    return await value(one, f"SELECT pg_sleep(600) /* {marker} */")

            beside = asyncio.ensure_future(value(neighbour, "SELECT 7 FROM pg_sleep(0.3)"))
            query = asyncio.ensure_future(sleeps())
            await running(watch, marker)
            query.cancel()
            ended = await asyncio.gather(query, return_exceptions=True)
            async with e.connect() as one:
                result.append([type(ended[0]).__name__, await value(one, "SELECT 1"), await beside])
        async with e.connect() as one:
            marker = f"{s.schema} cancel inside"
            query = asyncio.ensure_future(outcome(rows(one, f"SELECT pg_sleep(600) /* {marker} */")))
            await running(watch, marker)
            await rows(watch, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE :m",
                       m=f"%{marker}%")
            result.append([await query, await value(one, "SELECT 1")])
    await e.dispose()
    return result


async def timeout(s: Smoke) -> Any:
    e = engine(s)
    ledger = f"{s.schema}.ledger"
    result: dict[str, Any] = {}
    async with e.connect() as c:
        await execute(c, f"INSERT INTO {ledger} VALUES (-2, 1)")
        await execute(c, "SET LOCAL statement_timeout = '50ms'")
        result["statement_timeout"] = await outcome(rows(c, "SELECT pg_sleep(600)"))
        await c.rollback()
        result["setting afterwards"] = await value(c, "SHOW statement_timeout")
    try:
        async with e.begin() as c:
            await execute(c, f"INSERT INTO {ledger} VALUES (-2, 2)")
            await asyncio.wait_for(rows(c, "SELECT pg_sleep(600)"), 0.2)
    except BaseException as error:
        result["task's timeout"] = type(error).__name__
    configured = engine(s, connect_args=startup(s, statement_timeout="500"))
    async with configured.connect() as c:
        result["configured"] = await outcome(rows(c, "SELECT pg_sleep(600)"))
    async with e.connect() as c:
        result["committed"] = await value(c, f"SELECT count(*) FROM {ledger} WHERE task = -2")
    await e.dispose()
    await configured.dispose()
    return result


async def notices(s: Smoke) -> Any:
    e = auto(engine(s))
    result: dict[str, Any] = {"one": [], "other": []}
    async with e.connect() as one, e.connect() as other:
        for who, c in (("one", one), ("other", other)):
            driver = (await c.get_raw_connection()).driver_connection
            if over_asyncpg(s):
                driver.add_log_listener(lambda _, m, who=who: result[who].append([m.severity, m.sqlstate, m.message, m.detail]))
            else:
                driver.add_notice_handler(
                    lambda d, who=who: result[who].append([d.severity, d.sqlstate, d.message_primary, d.message_detail]))
        await execute(other, "SET client_min_messages = warning")
        for turn in range(5):
            for c in (one, other):
                await c.exec_driver_sql(RAISES.format(turn))
        await asyncio.sleep(0)  # asyncpg's listeners are called by the event loop
        channel = f"{s.schema}_channel"
        driver = (await one.get_raw_connection()).driver_connection
        told: asyncio.Queue[Any] = asyncio.Queue()
        if over_asyncpg(s):
            await driver.add_listener(channel, lambda _, __, channel, payload: told.put_nowait([channel, payload]))
        else:
            await driver.execute(f"LISTEN {channel}")
        result["told"] = []
        for turn in range(3):
            await execute(other, f"NOTIFY {channel}, 'turn {turn}'")
            if not over_asyncpg(s):
                async for notify in driver.notifies(stop_after=1):
                    told.put_nowait([notify.channel, notify.payload])
            result["told"].append(await told.get())
    await e.dispose()
    return result


async def pipeline(s: Smoke) -> Any:
    # Many rows in one call: a pipeline of the driver's, or an INSERT of many VALUES.
    e = engine(s)
    ledger = sa.table("ledger", sa.column("task"), sa.column("number"), schema=s.schema)
    count = sa.select(sa.func.count(), sa.func.sum(ledger.c.number)).where(ledger.c.task == -3)
    result: dict[str, Any] = {}
    async with e.begin() as c:
        await c.execute(ledger.insert(), [{"task": -3, "number": n} for n in range(2000)])
    async with e.begin() as c:
        await c.execute(sa.text(f"INSERT INTO {s.schema}.ledger VALUES (-3, :n)"), [{"n": n} for n in range(3000, 3500)])
        returned = await c.execute(ledger.insert().returning(ledger.c.number), [{"task": -3, "number": n} for n in range(4000, 4100)])
        result["returned"] = sum(row[0] for row in returned)
    result["many"] = []
    async with e.connect() as c:
        result["many"] = await rows(c, count)
        result["error"] = await outcome(c.execute(
            sa.text(f"INSERT INTO {s.schema}.ledger VALUES (-3, :n)"), [{"n": n} for n in range(6000, 2900, -1)]))
        await c.rollback()
        result["after error"] = await rows(c, count)
    await e.dispose()
    return result


async def settings(s: Smoke) -> Any:
    e = auto(engine(s, pool_reset_on_return=None))
    zones = ["Asia/Tokyo", "Europe/Berlin", "America/New_York"]
    result: list[Any] = []
    connections = [await e.connect() for _ in zones]
    for number, c in enumerate(connections):
        await execute(c, f"SET TimeZone = '{zones[number]}'")
        await execute(c, f"SET work_mem = '{number + 1}MB'")
        await execute(c, f"SET app.tenant = 'tenant {number}'")
    query = ("SELECT CAST(timestamptz '2024-07-01 12:00:00+00' AS text), current_setting('work_mem'), "
             "current_setting('app.tenant'), pg_backend_pid()")
    for turn in range(5):
        for number, c in enumerate(connections):
            if turn == number:  # clients that take turns in step would meet the same server each time
                await rows(c, "SELECT 1")
            [row] = await rows(c, query)
            s.saw(number, row[3])
            result.append(row[:3])
    for c in connections:
        await execute(c, "RESET ALL")
        result.append([await value(c, "SHOW TimeZone"), await value(c, "SHOW work_mem")])
        await c.close()
    plain = engine(s)
    async with plain.connect() as c:
        await execute(c, "SET TimeZone = 'Asia/Kolkata'")
        await c.rollback()
        result.append(await value(c, "SHOW TimeZone"))
        await execute(c, "SET LOCAL TimeZone = 'Asia/Kolkata'")
        await c.commit()
        result.append(await value(c, "SHOW TimeZone"))
    await plain.dispose()
    await e.dispose()
    return result


async def concurrent(s: Smoke) -> Any:
    deadline = time.monotonic() + s.seconds
    wrong: list[Any] = []
    ledger = f"{s.schema}.ledger"
    insert, count = f"INSERT INTO {ledger} VALUES (:task, :n)", f"SELECT count(*) FROM {ledger} WHERE task = :task"
    url, size = address(s), s.tasks
    # apps: engine
    e = create_async_engine(url, pool_size=size, max_overflow=0, pool_timeout=30)
    # apps: end

    async def task(number: int) -> None:
        zone = f"Etc/GMT+{number % 12}"
        committed = turn = 0

        def check(what: str, got: Any, want: Any) -> None:
            if got != want:
                wrong.append([what, number, got, want])

        async with e.connect() as c:
            await execute(c, f"SET TimeZone = '{zone}'")
            await c.commit()
            while turn < 30 or time.monotonic() < deadline:
                turn += 1
                kind = (turn + number) % 6
                if kind == 0:
                    [row] = await rows(c, "SELECT CAST(:n AS integer) * 2, CAST(:t AS text), pg_backend_pid()", n=number, t=f"t{turn}")
                    s.saw(number, row[2])
                    check("select", row[:2], [number * 2, f"t{turn}"])
                elif kind in (1, 2):
                    await execute(c, insert, task=number, n=turn)
                    if kind == 1:
                        committed += 1
                        check("own rows", await value(c, count, task=number), committed)
                        await c.commit()
                elif kind == 3:
                    got = await outcome(value(c, "SELECT 1 / (CAST(:n AS integer) - CAST(:n AS integer))", n=number))
                    got.pop("class")
                    check("error", got, DIVISION)
                elif kind == 4:
                    check("settings", await value(c, "SELECT current_setting('TimeZone')"), zone)
                else:
                    found = await rows(c, "SELECT n * CAST(:n AS integer) FROM generate_series(1, 200) AS n", n=number)
                    check("series", sum(row[0] for row in found), number * 20100)
                await c.rollback()
            check("at the end", await value(c, count, task=number), committed)

    await asyncio.gather(*(task(number) for number in range(s.tasks)))
    await e.dispose()
    return {"tasks": s.tasks, "wrong": wrong[:10]}


if __name__ == "__main__":
    sys.exit(main({
        "connect": connect, "types": types, "prepared": prepared, "ddl": ddl, "transaction": transaction,
        "cursor": cursor, "copy": copy, "cancel": cancel, "timeout": timeout, "notices": notices, "pipeline": pipeline,
        "settings": settings, "concurrent": concurrent,
    }))

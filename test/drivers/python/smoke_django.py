"""Django over psycopg 3: the scenarios of test/drivers/scenarios_test.go.

Server-side cursors are on, as they are by default: what .iterator() reads
outside of a transaction comes from a cursor WITH HOLD.
"""

from __future__ import annotations

import datetime
import decimal
import sys
import threading
import time
import uuid
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings as configuration

from smoke import DIVISION, RAISES, Smoke, Task, attempt, in_threads, kind, main

ALIASES = ("default", "other", "watch")
UTC = datetime.timezone.utc


def address() -> dict[str, Any]:
    dsn = sys.argv[sys.argv.index("--dsn") + 1]
    parts = urlsplit(dsn)
    # apps: database
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.hostname,
        "PORT": parts.port,
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    }
    # apps: end


schema = sys.argv[sys.argv.index("--schema") + 1]
configuration.configure(
    DATABASES={
        **{alias: {**address(), "OPTIONS": {"options": f"-c search_path={schema}"}} for alias in ALIASES},
        "bound": {**address(), "OPTIONS": {"server_side_binding": True, "prepare_threshold": 0}},
        "given": {**address(), "TIME_ZONE": "Asia/Tokyo", "OPTIONS": {
            "application_name": "smoke django", "options": f"-c statement_timeout=12345 -c DateStyle=ISO,DMY -c search_path={schema}"}},
        "hurried": {**address(), "OPTIONS": {"options": "-c statement_timeout=500"}},
        "pooled": {**address(), "CONN_MAX_AGE": 0, "OPTIONS": {"isolation_level": 4}},
        **{what: {**address(), **change} for what, change in {
            "wrong password": {"PASSWORD": "not the password"},
            "unknown user": {"USER": "nobody_of_that_name"},
            "unknown database": {"NAME": "no_database_of_that_name"},
        }.items()},
    },
    INSTALLED_APPS=["django.contrib.postgres"],
    USE_TZ=True,
    TIME_ZONE="UTC",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.contrib.postgres.fields import ArrayField, IntegerRangeField  # noqa: E402
from django.db import DatabaseError, IntegrityError, connection, connections, models, transaction as atomic_  # noqa: E402

atomic = atomic_.atomic


class Item(models.Model):
    id = models.IntegerField(primary_key=True)
    note = models.TextField(unique=True)
    parent = models.ForeignKey("self", models.DO_NOTHING, null=True, db_column="parent")

    class Meta:
        app_label, db_table, managed = "smoke", "items", False


class Copied(models.Model):
    id = models.IntegerField(primary_key=True)
    note = models.TextField(null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=2, null=True)
    at = models.DateTimeField(null=True)

    class Meta:
        app_label, db_table, managed = "smoke", "copied", False


class Everything(models.Model):
    """A row with a column of each kind."""

    small = models.SmallIntegerField()
    big = models.BigIntegerField()
    amount = models.DecimalField(max_digits=60, decimal_places=9)
    real = models.FloatField()
    yes = models.BooleanField()
    note = models.TextField()
    missing = models.CharField(max_length=5, null=True)
    blob = models.BinaryField()
    key = models.UUIDField()
    day = models.DateField()
    clock = models.TimeField()
    at = models.DateTimeField()
    span = models.DurationField()
    document = models.JSONField()
    numbers = ArrayField(ArrayField(models.IntegerField()))
    words = ArrayField(models.TextField(null=True))
    range = IntegerRangeField()
    host = models.GenericIPAddressField()

    class Meta:
        app_label = "smoke"


class Changed(models.Model):
    a = models.IntegerField()

    class Meta:
        app_label = "smoke"


def rows(alias: str, query: str, arguments: Any = None) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(query, arguments)
        return [list(row) for row in cursor.fetchall()] if cursor.description else cursor.statusmessage


def value(alias: str, query: str, arguments: Any = None) -> Any:
    return rows(alias, query, arguments)[0][0]


def django_scenario(scenario: Callable[[Smoke], Any]) -> Callable[[Smoke], Any]:
    """Close what the scenario's thread opened: Django's connections belong to threads."""

    def run(s: Smoke) -> Any:
        try:
            return scenario(s)
        finally:
            connections.close_all()

    return run


def connect(s: Smoke) -> Any:
    result: dict[str, Any] = {"shown": [
        [value(alias, f"SHOW {name}") for name in ("application_name", "TimeZone", "DateStyle", "statement_timeout", "search_path")]
        for _ in range(4) for alias in ("given", "default")
    ]}
    result["version"] = connection.pg_version
    result["isolation"] = value("pooled", "SHOW transaction_isolation")
    for what in ("wrong password", "unknown user", "unknown database"):
        try:
            connections[what].ensure_connection()
            result[what] = "connected"
        except DatabaseError as error:
            result[what] = "FATAL" if "FATAL" in str(error) else "other"
    # A connection per request, as CONN_MAX_AGE = 0 has it.
    result["again"] = []
    for i in range(20):
        result["again"].append(value("pooled", "SELECT %s::int", [i]))
        connections["pooled"].close()
    return result


def types(s: Smoke) -> Any:
    with connection.schema_editor() as editor:
        editor.create_model(Everything)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
    sent = {
        "small": -32768, "big": -(2**63), "amount": decimal.Decimal("123456789012345678901234567890.123456789"), "real": 1e-300,
        "yes": True, "note": "Größe 舵 ⚓ O'ring \\ % %s" + "x" * 100_000, "missing": None, "blob": bytes(range(256)) * 40,
        "key": uuid.UUID(int=7), "day": datetime.date(1, 1, 1), "clock": datetime.time(12, 30), "at": moment,
        "span": datetime.timedelta(days=3, seconds=4), "document": {"a": [1, None]}, "numbers": [[1, 2], [3, 4]],
        "words": ["a", None, 'q"'], "range": (1, 10), "host": "2001:db8::1",
    }
    made = Everything.objects.create(**sent)
    found = Everything.objects.get(pk=made.pk, document__a__0=1, words__contains=["a"], range__contains=5)
    result: list[Any] = []
    for name in sent:
        back = getattr(found, name)
        back = repr(bytes(back) if isinstance(back, memoryview) else back)
        result.append([name, len(back), back[:100]])
    result.append(attempt(lambda: value("default", "SELECT %s::int4", ["not a number"])))
    result.append(connection.introspection.table_names())
    with connection.schema_editor() as editor:
        editor.delete_model(Everything)
    return result


def prepared(s: Smoke) -> Any:
    # "bound" has psycopg bind parameters on the server and prepare each statement; "default" is what Django does by itself.
    wrong, answers = [], 0
    for turn in range(2):
        for i in range(s.statements):
            if i % 7 == 0:  # clients that take turns in step would meet the same server each time
                rows("default", "SELECT 1")
            for alias in ("default", "bound"):
                row = rows(alias, f"SELECT %s::int + {i}, '{alias}{i}', pg_backend_pid()", [turn])[0]
                s.saw(alias, row[2])
                answers += 1
                if row[:2] != [turn + i, f"{alias}{i}"]:
                    wrong.append([alias, i, turn, row])
    result: dict[str, Any] = {"answers": answers, "wrong": wrong[:5]}
    for alias in ("default", "bound"):
        with atomic(using=alias):
            result[alias] = sum(value(alias, "SELECT %s::int * 2", [i]) for i in range(50))
        result[f"{alias} bad"] = [attempt(lambda: rows(alias, "SELECT nothing_like_this")), value(alias, "SELECT 5")]
    return result


def ddl(s: Smoke) -> Any:
    with connection.schema_editor() as editor:
        editor.create_model(Changed)
    Changed.objects.create(a=1)
    query = f"SELECT * FROM {s.schema}.smoke_changed"
    result: dict[str, Any] = {"before": [rows(alias, query) for alias in ("other", "bound") for _ in range(3)]}
    field = models.IntegerField(default=2)
    field.set_attributes_from_name("b")
    with connection.schema_editor() as editor:
        editor.add_field(Changed, field)
    result["after"] = [attempt(lambda: rows(alias, query)) for alias in ("other", "bound") for _ in range(2)]
    with connection.schema_editor() as editor:
        editor.delete_model(Changed)
    result["dropped"] = [attempt(lambda: rows(alias, query)) for alias in ("other", "bound")]
    return result


def transaction(s: Smoke) -> Any:
    result: dict[str, Any] = {}
    happened: list[str] = []
    with atomic():
        one = Item.objects.create(id=1, note="one")
        try:
            with atomic():
                Item.objects.create(id=2, note="one")
        except IntegrityError as error:
            result["duplicate"] = kind(error)
        with atomic():
            Item.objects.create(id=3, note="three", parent=one)
        result["locked"] = [i.note for i in Item.objects.select_for_update().order_by("id")]
        result["seen"] = [Item.objects.count(), Item.objects.using("other").count()]
        atomic_.on_commit(lambda: happened.append("committed"))
    result["happened"] = happened
    result["after commit"] = list(Item.objects.using("other").order_by("id").values_list())
    try:
        with atomic():
            Item.objects.create(id=4, note="four")
            rows("default", "SELECT 1 / 0")
    except DatabaseError as error:
        result["division"] = kind(error)
    result["after rollback"] = Item.objects.using("other").count()

    def dangling() -> None:
        with atomic():
            Item.objects.create(id=5, note="five", parent_id=999)

    result["deferred constraint"] = attempt(dangling)

    def ignored() -> Any:
        with atomic():
            try:
                Item.objects.create(id=6, note="one")
            except IntegrityError:
                pass
            return Item.objects.count()

    try:
        ignored()
    except Exception as error:
        result["broken block"] = type(error).__name__
    result["read only"] = attempt(lambda: rows(
        "default", f"BEGIN READ ONLY; INSERT INTO {s.schema}.items VALUES (8, 'eight', NULL)"))
    rows("default", "ROLLBACK")
    result["made"] = [Item.objects.get_or_create(id=7, defaults={"note": "seven"})[1] for _ in range(2)]
    result["updated"] = Item.objects.filter(id=7).update(note=models.functions.Upper("note"))
    result["end"] = list(Item.objects.order_by("id").values_list())
    return result


def cursor(s: Smoke) -> Any:
    Copied.objects.bulk_create([Copied(id=i, note=f"note {i}") for i in range(5000)])
    everything = Copied.objects.order_by("id")
    result: dict[str, Any] = {}
    # apps: iterator
    seen = [row.id for row in everything.iterator(chunk_size=100)]
    # apps: end
    result["iterated"] = [len(seen), sum(seen)]
    one, two = everything.iterator(chunk_size=10), everything.reverse().iterator(chunk_size=10)
    result["interleaved"] = [[next(one).id, next(two).id] for _ in range(25)]
    result["between"] = [value("other", "SELECT 1"), value("default", "SELECT 2")]
    one.close()
    result["rest"] = sum(row.id for row in two)
    with atomic():
        inside = everything.iterator(chunk_size=100)
        result["inside"] = [next(inside).id for _ in range(250)][-1]
        Copied.objects.filter(id=300).update(note="changed")
        result["as it was"] = [row.note for row in inside][50]
    result["error"] = attempt(failing_cursor)
    result["error inside"] = attempt(lambda: failing_cursor_in(result))
    result["afterwards"] = Copied.objects.count()
    return result


def failing_cursor() -> Any:
    with connection.chunked_cursor() as c:  # WITH HOLD: all of it runs at once
        c.execute("SELECT 10 / (200 - n) FROM generate_series(1, 300) AS n")


def failing_cursor_in(result: dict[str, Any]) -> Any:
    with atomic(), connection.chunked_cursor() as c:
        c.execute("SELECT 10 / (200 - n) FROM generate_series(1, 300) AS n")
        result["before the error"] = len(c.fetchmany(10))
        return c.fetchall()


def copy(s: Smoke) -> Any:
    digest = f"SELECT count(*), sum(id), count(note), md5(string_agg(note, '' ORDER BY id)) FROM {s.schema}.copied"

    def into(records: Any) -> Any:
        with connection.cursor() as c:
            with c.copy(f"COPY {s.schema}.copied (id, note) FROM STDIN") as target:
                for record in records:
                    target.write_row(record)
            return c.rowcount

    result: dict[str, Any] = {"in": into((i, f"note\t{i}") for i in range(10_000, 20_000)), "digest": rows("default", digest)}
    with connection.cursor() as c, c.copy(f"COPY (SELECT id, note FROM {s.schema}.copied ORDER BY id) TO STDOUT") as source:
        result["out"] = sum(len(chunk) for chunk in source)
    result["duplicate"] = attempt(lambda: into([(10_001, "x")]))

    def gives_up() -> Any:
        yield (100_001, "x")
        raise ValueError("no more")

    result["source fails"] = attempt(lambda: into(gives_up()))
    with atomic():
        into([(100_004, "in transaction")])
        result["inside"] = value("default", f"SELECT note FROM {s.schema}.copied WHERE id = 100004")
        atomic_.set_rollback(True)
    result["end"] = rows("default", digest)
    return result


def running(marker: str) -> None:
    """Wait until the query with this marker sleeps on a server: while it is parsed a cancel would find nothing to cancel."""
    while not value(
        "watch", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE %s",
        [f"%{marker}%"],
    ):
        time.sleep(0.01)


def cancel(s: Smoke) -> Any:
    result: list[Any] = []
    for turn in range(5):
        marker = f"{s.schema} cancel {turn}"
        answers: dict[str, Any] = {}
        opened = threading.Event()

        def sleeps() -> None:
            connection.ensure_connection()
            answers["connection"] = connection.connection
            opened.set()
            answers["query"] = [attempt(lambda: rows("default", f"SELECT pg_sleep(600) /* {marker} */")), value("default", "SELECT 1")]
            connections.close_all()

        def beside() -> None:
            answers["beside"] = value("other", "SELECT 7 FROM pg_sleep(0.3)")
            connections.close_all()

        threads = [threading.Thread(target=work, daemon=True) for work in (sleeps, beside)]
        for thread in threads:
            thread.start()
        opened.wait()
        running(marker)
        answers["connection"].cancel_safe()
        for thread in threads:
            thread.join()
        result.append([answers["query"], answers["beside"]])
    return result


def timeout(s: Smoke) -> Any:
    result: dict[str, Any] = {"configured": [attempt(lambda: rows("hurried", "SELECT pg_sleep(600)")) for _ in range(3)]}

    def local() -> None:
        with atomic():
            Copied.objects.create(id=200_000)
            rows("default", "SET LOCAL statement_timeout = '50ms'")
            rows("default", "SELECT pg_sleep(600)")

    result["statement_timeout"] = attempt(local)
    result["setting afterwards"] = value("default", "SHOW statement_timeout")
    with atomic(using="other"):
        Item.objects.using("other").create(id=50, note="fifty")

        def locked() -> None:
            with atomic():
                rows("default", "SET LOCAL lock_timeout = '50ms'")
                rows("default", f"LOCK TABLE {s.schema}.items")

        result["lock_timeout"] = attempt(locked)
    result["committed"] = Copied.objects.filter(id=200_000).count()
    return result


def notices(s: Smoke) -> Any:
    heard: dict[str, list[Any]] = {"default": [], "other": []}
    for alias in heard:
        connections[alias].ensure_connection()
        connections[alias].connection.add_notice_handler(
            lambda d, alias=alias: heard[alias].append([d.severity, d.sqlstate, d.message_primary, d.message_detail, d.message_hint]))
    rows("other", "SET client_min_messages = warning")
    for turn in range(5):
        for alias in heard:
            rows(alias, RAISES.format(turn))
    channel = f"{s.schema}_channel"
    rows("default", f"LISTEN {channel}")
    told = []
    for turn in range(3):
        rows("other", f"NOTIFY {channel}, 'turn {turn}'")
        told += [[n.channel, n.payload] for n in connection.connection.notifies(stop_after=1)]
    rows("default", "UNLISTEN *")
    return [heard, told, value("default", "SELECT 1")]


def pipeline(s: Smoke) -> Any:
    # Django's bulk_create is one INSERT for each batch; its cursors' executemany is a pipeline of psycopg's.
    result: dict[str, Any] = {"bulk": len(Copied.objects.bulk_create(
        [Copied(id=i, note=f"note {i}") for i in range(300_000, 302_000)], batch_size=200))}
    insert = f"INSERT INTO {s.schema}.ledger VALUES (-3, %s)"
    count = f"SELECT count(*), sum(number) FROM {s.schema}.ledger WHERE task = -3"
    for alias in ("default", "bound"):
        with connections[alias].cursor() as c:
            start = {"default": 0, "bound": 5000}[alias]
            c.executemany(insert, [(n,) for n in range(start, start + 1000)])
            result[alias] = [c.rowcount, rows(alias, count)]
            result[f"{alias} error"] = attempt(lambda: c.executemany(insert, [(n,) for n in range(start + 1500, start + 900, -1)]))
        result[f"{alias} after error"] = rows(alias, count)
    result["updated"] = Copied.objects.bulk_update(
        [Copied(id=i, note=f"changed {i}") for i in range(300_000, 300_100)], ["note"], batch_size=50)
    return result


def settings(s: Smoke) -> Any:
    zones = {"default": "Asia/Tokyo", "other": "Europe/Berlin", "watch": "America/New_York"}
    result: list[Any] = []
    for number, (alias, zone) in enumerate(zones.items()):
        rows(alias, "SET TIME ZONE %s", [zone])
        rows(alias, f"SET work_mem = '{number + 1}MB'")
        rows(alias, "SELECT set_config('app.tenant', %s, false)", [f"tenant {number}"])
    query = ("SELECT timestamptz '2024-07-01 12:00:00+00'::text, current_setting('work_mem'), "
             "current_setting('app.tenant'), pg_backend_pid()")
    for turn in range(5):
        for number, alias in enumerate(zones):
            if turn == number:  # clients that take turns in step would meet the same server each time
                rows(alias, "SELECT 1")
            [row] = rows(alias, query)
            s.saw(alias, row[3])
            result.append(row[:3])
    with atomic():
        rows("default", "SET LOCAL TimeZone = 'Asia/Kolkata'")
        result.append(value("default", "SHOW TimeZone"))
    result.append(value("default", "SHOW TimeZone"))
    rows("default", "RESET TimeZone")
    result.append([value("default", "SHOW TimeZone"), value("given", "SHOW TimeZone")])
    return result


def concurrent(s: Smoke) -> Any:
    ledger = f"{s.schema}.ledger"

    def opens(task: Task) -> Any:
        rows("default", "SET application_name = %s", [task.name])

        def count() -> int:
            return value("default", f"SELECT count(*) FROM {ledger} WHERE task = %s", [task.number])

        def step(kind_: int, turn: int) -> None:
            if kind_ == 0:
                [row] = rows("default", "SELECT %s::int * 2, %s, pg_backend_pid()", [task.number, f"t{turn}"])
                s.saw(task.number, row[2])
                task.check("select", row[:2], [task.number * 2, f"t{turn}"])
            elif kind_ in (1, 2):
                with atomic():
                    rows("default", f"INSERT INTO {ledger} VALUES (%s, %s)", [task.number, turn])
                    if kind_ == 1:
                        task.committed += 1
                        task.check("own rows", count(), task.committed)
                    else:
                        atomic_.set_rollback(True)
            elif kind_ == 3:
                task.check("error", attempt(lambda: rows("default", "SELECT 1 / 0")), DIVISION)
            elif kind_ == 4:
                task.check("settings", value("default", "SELECT current_setting('application_name')"), task.name)
            else:
                found = rows("default", "SELECT n * %s FROM generate_series(1, 200) AS n", [task.number])
                task.check("series", sum(row[0] for row in found), task.number * 20100)

        def end() -> None:
            task.check("at the end", count(), task.committed)
            connections.close_all()

        return step, end

    return in_threads(s, opens)


if __name__ == "__main__":
    sys.exit(main({
        name: django_scenario(scenario) for name, scenario in {
            "connect": connect, "types": types, "prepared": prepared, "ddl": ddl, "transaction": transaction,
            "cursor": cursor, "copy": copy, "cancel": cancel, "timeout": timeout, "notices": notices, "pipeline": pipeline,
            "settings": settings, "concurrent": concurrent,
        }.items()
    }))

"""Run N user requests from M processes with P pool connections each.

Every process has one pool (connection_manager) and one executor
(capability_executor). Which yacht a request is about and what it looks for
follows from its number alone, so two runs against the same rows must write the
same lines, whatever stands between the executor and PostgreSQL:

    python run_requests.py --requests 200 --output direct.jsonl
    SUPABASE_POSTGRES_DSN=postgres://...:6432/... python run_requests.py --requests 200 --output pooled.jsonl
    cmp direct.jsonl pooled.jsonl

The output has, ordered by request and capability, one line with the number of
rows and then one line per row (or one line with the error). The last line on
standard output is a summary in JSON. Exit status: 0 all requests answered,
1 a connection or a capability failed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import datetime
import decimal
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import uuid
from typing import Any, Iterator

import asyncpg

from capability_executor import CAPABILITIES, Answer, CapabilityError, CapabilityExecutor, Request
from connection_manager import MAX_SIZE, MIN_SIZE, close_pool, get_pool

YACHTS = 12
TERMS = (
    "filter", "impeller", "belt", "PUMP", "bearing", "anchor", "exchanger", "größe",
    "舵", "O'ring", "no such thing", "replace%winch", "manual: fuel", "1", "e",
)


def request(number: int) -> Request:
    """The request with this number."""
    yacht = hashlib.md5(f"yacht {number % YACHTS}".encode()).hexdigest()
    return Request(number, uuid.UUID(yacht), TERMS[number // YACHTS % len(TERMS)])


def lines(answer: Answer) -> Iterator[str]:
    """The output lines of one answer."""
    for name in CAPABILITIES:
        head = {"request": answer.request.request_id, "capability": name}
        if name in answer.errors:
            error = answer.errors[name]
            yield encode({**head, "sqlstate": error.sqlstate, "error": error.message})
            continue
        rows = answer.rows[name]
        yield encode({**head, "rows": len(rows)})
        for number, row in enumerate(rows):
            yield encode({**head, "row": number, "values": row})


def encode(value: Any) -> str:
    return json.dumps(value, default=plain, ensure_ascii=False)


def plain(value: Any) -> Any:
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, uuid.UUID, datetime.timedelta)):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no plain form for {type(value).__name__}")


async def serve(
    arguments: argparse.Namespace, process: int, path: str, barrier: Any
) -> dict[str, Any]:
    """One process's share: every ``processes``-th request, into the file ``path``."""
    loop = asyncio.get_running_loop()
    errors: collections.Counter[str] = collections.Counter()
    rows = 0
    try:
        pool = await get_pool(
            min_size=arguments.min_size, max_size=arguments.max_size, timeout=arguments.connect_timeout
        )
    except (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        barrier.abort()
        return {"refused": vars(CapabilityError.of(error))}
    try:
        opened = pool.get_size()
        # All processes hold their connections before the first of them asks.
        await loop.run_in_executor(None, barrier.wait, arguments.connect_timeout)
        executor = CapabilityExecutor(pool, timeout=arguments.timeout)
        numbers = iter(range(process, arguments.requests, arguments.processes))
        answers: list[Answer] = []

        async def user() -> None:
            for number in numbers:
                answers.append(await executor.run(request(number)))

        await asyncio.gather(*(user() for _ in range(arguments.users)))
        answers.sort(key=lambda answer: answer.request.request_id)
        with open(path, "w", encoding="utf-8") as file:
            for answer in answers:
                for error in answer.errors.values():
                    errors[error.sqlstate or error.message] += 1
                rows += sum(map(len, answer.rows.values()))
                # The whole answer on one line, so that the parent can merge by request.
                file.write("\t".join(lines(answer)) + "\n")
        return {"opened": opened, "answered": len(answers), "rows": rows, "errors": dict(errors)}
    except threading.BrokenBarrierError:
        return {"opened": opened}
    finally:
        await close_pool()


def worker(
    arguments: argparse.Namespace, process: int, path: str, barrier: Any, results: Any
) -> None:
    try:
        results.put((process, asyncio.run(serve(arguments, process, path, barrier))))
    except BaseException as error:
        barrier.abort()
        results.put((process, {"failed": f"{type(error).__name__}: {error}"}))
        raise


def merge(paths: list[str], requests: int, output: str) -> None:
    """Put the processes' files together in the order of the requests."""
    files = [open(path, encoding="utf-8") for path in paths]
    try:
        with sys.stdout if output == "-" else open(output, "w", encoding="utf-8") as out:
            for number in range(requests):
                for line in files[number % len(files)].readline().rstrip("\n").split("\t"):
                    out.write(line + "\n")
    finally:
        for file in files:
            file.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--min-size", type=int, default=MIN_SIZE, help="connections opened at start, per process")
    parser.add_argument("--max-size", type=int, default=MAX_SIZE, help="connections at most, per process")
    parser.add_argument("--users", type=int, default=0, help="concurrent requests per process; 0: as many as keep every connection busy")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds per query")
    parser.add_argument("--connect-timeout", type=float, default=60.0, help="seconds per connection")
    parser.add_argument("--output", default="rows.jsonl", help="file for the rows")
    arguments = parser.parse_args()
    arguments.users = arguments.users or -(-arguments.max_size // len(CAPABILITIES))

    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(arguments.processes)
    results = context.SimpleQueue()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(n)) for n in range(arguments.processes)]
        workers = [
            context.Process(target=worker, args=(arguments, n, paths[n], barrier, results))
            for n in range(arguments.processes)
        ]
        for process in workers:
            process.start()
        for process in workers:
            process.join()
        reports = {}
        while not results.empty():
            number, report = results.get()
            reports[number] = report
        for number, process in enumerate(workers):
            reports.setdefault(number, {"failed": f"ended with status {process.exitcode}"})

        refused = [report["refused"] for report in reports.values() if "refused" in report]
        failed = [report["failed"] for report in reports.values() if "failed" in report]
        errors: collections.Counter[str] = collections.Counter()
        for report in reports.values():
            errors.update(report.get("errors", {}))
        if not refused and not failed:
            merge(paths, arguments.requests, arguments.output)
    print(
        encode(
            {
                "processes": arguments.processes,
                "connections": sum(report.get("opened", 0) for report in reports.values()),
                "requests": sum(report.get("answered", 0) for report in reports.values()),
                "rows": sum(report.get("rows", 0) for report in reports.values()),
                "errors": dict(errors),
                "refused": refused,
                "failed": failed,
                "seconds": round(time.monotonic() - started, 3),
            }
        )
    )
    return 1 if refused or failed or errors else 0


if __name__ == "__main__":
    sys.exit(main())

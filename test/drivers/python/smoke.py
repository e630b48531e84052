"""What the Python driver programs share: arguments, output, and the running of scenarios.

A program prints one JSON object per scenario: its name, its result, how many
clients noted which backend answered them ("clients"), and how many of these
were answered by more than one ("moved"). Only the result is compared between a
direct connection and one through pgpoold, so nothing that may differ between
two direct runs belongs in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import traceback
from typing import Any, Awaitable, Callable, Union


class Smoke:
    """One run of a driver program."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.driver: str = arguments.driver
        self.dsn: str = arguments.dsn
        self.schema: str = arguments.schema
        self.tasks: int = arguments.tasks
        self.seconds: float = arguments.seconds
        self.statements: int = arguments.statements
        self.backends: dict[Any, set[int]] = {}

    def saw(self, client: Any, pid: int) -> None:
        """Note the backend that answered this client."""
        self.backends.setdefault(client, set()).add(pid)


# What a driver that knows no event loop does is a plain function.
Scenario = Callable[[Smoke], Union[Awaitable[Any], Any]]


def main(scenarios: "dict[str, Scenario]") -> int:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--driver", help="which of the program's drivers")
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--schema", required=True, help="schema that holds the tables of setup.sql")
    parser.add_argument("--tasks", type=int, default=50, help="concurrent connections")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the concurrent scenario")
    parser.add_argument("--statements", type=int, default=300, help="prepared statements")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a scenario is given up")
    parser.add_argument("--only", action="append", help="scenario to run; default all")
    arguments = parser.parse_args()
    for name, scenario in scenarios.items():
        if arguments.only and name not in arguments.only:
            continue
        smoke = Smoke(arguments)
        try:
            if asyncio.iscoroutinefunction(scenario):
                result = asyncio.run(limited(scenario(smoke), arguments.limit))
            else:
                result = in_thread(scenario, smoke, arguments.limit)
        except Exception as error:
            traceback.print_exc()
            result = {"exception": type(error).__name__, "message": str(error)}
        line = {
            "scenario": name,
            "result": result,
            "clients": len(smoke.backends),
            "moved": sum(len(pids) > 1 for pids in smoke.backends.values()),
        }
        print(json.dumps(line, default=str, ensure_ascii=False), flush=True)
    return 0


def in_thread(scenario: Scenario, smoke: Smoke, seconds: float) -> Any:
    """What a plain function returns, or an error where it hangs."""
    done: list[Any] = []

    def work() -> None:
        try:
            done.append((scenario(smoke), None))
        except Exception as error:
            done.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not done:
        raise TimeoutError("hangs")
    result, error = done[0]
    if error is not None:
        raise error
    return result


async def limited(work: Awaitable[Any], seconds: float) -> Any:
    """``work``, or an error where it hangs."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if done:
        return task.result()
    stack = task.get_stack()
    line = stack[-1].f_lineno if stack else 0
    # What it waits for may not let itself be cancelled: the program goes on without it.
    task.cancel()
    await asyncio.wait([task], timeout=5.0)
    raise TimeoutError(f"hangs at line {line}")


async def outcome(work: Awaitable[Any]) -> Any:
    """The value of ``work``, or the error PostgreSQL gave for it."""
    try:
        return await work
    except Exception as error:
        return failure(error)


def failure(error: BaseException) -> Any:
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is None:
        return {"error": type(error).__name__}
    diagnostic = getattr(error, "diag", None)
    message = diagnostic.message_primary if diagnostic is not None else getattr(error, "message", str(error))
    return {"sqlstate": sqlstate, "message": message}


# Raises a notice and a warning that carry a number.
RAISES = """DO $$ BEGIN RAISE NOTICE 'first {0}';
    RAISE WARNING 'second {0}' USING DETAIL = 'detail', HINT = 'hint', ERRCODE = '01P99'; END $$"""


def kind(error: BaseException) -> Any:
    """The part of a synchronous driver's error that does not depend on the connection."""
    error = getattr(error, "orig", None) or error.__cause__ or error
    sqlstate = getattr(error, "pgcode", None)
    if sqlstate is not None:
        return {"sqlstate": sqlstate, "message": error.diag.message_primary}
    return failure(error)


def attempt(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or the error PostgreSQL gave for it."""
    try:
        return work()
    except Exception as error:
        return kind(error)


class Task:
    """One of the threads of the concurrent scenario."""

    def __init__(self, number: int, wrong: list[Any]) -> None:
        self.number, self.wrong = number, wrong
        self.zone, self.name = f"Etc/GMT+{number % 12}", f"task {number}"
        self.committed = 0

    def check(self, what: str, got: Any, want: Any) -> None:
        if got != want:
            self.wrong.append([what, self.number, got, want])


def in_threads(s: Smoke, opens: Callable[[Task], "tuple[Callable[[int, int], None], Callable[[], None]]"]) -> Any:
    """Run the tasks, each in a thread: ``opens`` returns what one does turn by turn, and what it does at its end."""
    import time

    deadline = time.monotonic() + s.seconds
    wrong: list[Any] = []

    def run(number: int) -> None:
        try:
            step, end = opens(Task(number, wrong))
            turn = 0
            while turn < 30 or time.monotonic() < deadline:
                turn += 1
                step((turn + number) % 6, turn)
            end()
        except Exception as error:
            traceback.print_exc()
            wrong.append([number, repr(error)])

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(s.tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"tasks": len(threads), "wrong": wrong[:10]}


DIVISION = {"sqlstate": "22012", "message": "division by zero"}

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
import traceback
from typing import Any, Awaitable, Callable


class Smoke:
    """One run of a driver program."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.dsn: str = arguments.dsn
        self.schema: str = arguments.schema
        self.tasks: int = arguments.tasks
        self.seconds: float = arguments.seconds
        self.statements: int = arguments.statements
        self.backends: dict[Any, set[int]] = {}

    def saw(self, client: Any, pid: int) -> None:
        """Note the backend that answered this client."""
        self.backends.setdefault(client, set()).add(pid)


Scenario = Callable[[Smoke], Awaitable[Any]]


def main(scenarios: "dict[str, Scenario]") -> int:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
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
            result = asyncio.run(limited(scenario(smoke), arguments.limit))
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


STALE = {"sqlstate": "0A000", "message": "cached plan must not change result type"}


def either(got: Any, *allowed: Any) -> Any:
    """"as allowed" where ``got`` is one of several answers that a pooler may rightly give."""
    return "as allowed" if got in allowed else got

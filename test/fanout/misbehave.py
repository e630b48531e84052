"""An executor that leaves a transaction in a bad way.

    misbehave.py raise | timeout | idle | busy

It uses the example's own modules (PYTHONPATH names their folder). Each way
writes a row inside a transaction first. "raise" and "timeout" then fail and
show that the process goes on; "idle" and "busy" wait inside the transaction
until they are killed. One line of JSON says what happened.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

import asyncpg

from capability_executor import RECORD_SEARCH, CapabilityExecutor, Request
from connection_manager import close_pool, get_pool

YACHT = uuid.UUID(int=1)


class Mishap(Exception):
    """What this executor raises inside a transaction."""


async def write(connection: asyncpg.Connection) -> None:
    await connection.execute(RECORD_SEARCH, -1, YACHT, "mishap", "none", 0)


async def raises(connection: asyncpg.Connection) -> None:
    await write(connection)
    raise Mishap


async def times_out(connection: asyncpg.Connection) -> None:
    await write(connection)
    await connection.fetch("SELECT pg_sleep(600) /* misbehave */", timeout=0.3)


async def stays_idle(connection: asyncpg.Connection) -> None:
    await write(connection)
    await asyncio.Event().wait()


async def stays_busy(connection: asyncpg.Connection) -> None:
    await write(connection)
    await connection.fetch("SELECT pg_sleep(600) /* misbehave */")


WAYS = {"raise": raises, "timeout": times_out, "idle": stays_idle, "busy": stays_busy}


async def main(way: str) -> dict[str, Any]:
    pool = await get_pool(min_size=1, max_size=5)
    if await get_pool() is not pool:
        raise AssertionError("two pools in one process")
    executor = CapabilityExecutor(pool)
    try:
        await executor.in_transaction(WAYS[way])
        ended = "committed"
    except (Mishap, asyncio.TimeoutError) as error:
        ended = type(error).__name__
    answer = await executor.run(Request(-2, YACHT, "pump"))
    await close_pool()
    return {"ended": ended, "answered": sorted(answer.rows), "errors": {k: vars(e) for k, e in answer.errors.items()}}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))

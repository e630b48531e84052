"""One pool of PostgreSQL connections per process.

``get_pool`` opens the pool on first use and returns the same one ever after;
``close_pool`` gives its connections back. The address comes from
``SUPABASE_POSTGRES_DSN``: it may name PostgreSQL itself or pgpoold, and nothing
else in this program changes between the two.

asyncpg's statement cache stays on: every connection prepares a statement once
and then runs it by name.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Optional

import asyncpg

MIN_SIZE = 5
MAX_SIZE = 20
CLOSE_TIMEOUT = 10.0

# The task that opens the pool, and whose result the pool is. It belongs to one
# process (a forked child must not use its parent's sockets) and to one event
# loop (asyncpg binds its connections to the loop that opened them). Reading and
# setting these happens without an await in between, so that any number of tasks
# may ask first.
_opening: Optional["asyncio.Task[asyncpg.Pool]"] = None
_loop: Optional[asyncio.AbstractEventLoop] = None
_pid: Optional[int] = None


def dsn() -> str:
    """The address of the database, from the environment."""
    value = os.environ.get("SUPABASE_POSTGRES_DSN", "")
    if not value:
        raise RuntimeError(
            "SUPABASE_POSTGRES_DSN is not set: it names the database, "
            "directly (postgres://user:password@db.example:5432/postgres) "
            "or through pgpoold (the same with 127.0.0.1:6432)"
        )
    return value


async def get_pool(
    min_size: int = MIN_SIZE, max_size: int = MAX_SIZE, **options: Any
) -> asyncpg.Pool:
    """Return this process's pool, opening it on first use.

    The sizes and options of the first call hold; later calls get the pool that
    is there. Callers that arrive while it is being opened wait for it. When
    opening fails all of them see the error, and the next call tries again. A
    caller that is cancelled takes nothing from the others.
    """
    global _opening, _loop, _pid
    loop = asyncio.get_running_loop()
    if _opening is not None and _pid == os.getpid() and _loop is not loop:
        if _loop is not None and not _loop.is_closed():
            raise RuntimeError("the pool belongs to another event loop of this process")
        _opening = None
    if _opening is None or _pid != os.getpid():
        _opening = loop.create_task(_open(dsn(), min_size, max_size, options))
        _opening.add_done_callback(_forget_failure)
        _loop, _pid = loop, os.getpid()
    return await asyncio.shield(_opening)


async def close_pool(timeout: float = CLOSE_TIMEOUT) -> None:
    """Close this process's pool, if there is one.

    Connections in use get ``timeout`` seconds to finish; after that they are cut.
    """
    global _opening
    opening, _opening = _opening, None
    if opening is None or _pid != os.getpid() or _loop is not asyncio.get_running_loop():
        return
    try:
        pool = await opening
    except Exception:
        return  # get_pool has told its callers
    try:
        await asyncio.wait_for(pool.close(), timeout)
    except asyncio.TimeoutError:
        pool.terminate()


async def _open(
    address: str, min_size: int, max_size: int, options: dict[str, Any]
) -> asyncpg.Pool:
    pool = asyncpg.create_pool(address, min_size=min_size, max_size=max_size, **options)
    try:
        await pool
    except BaseException:
        # Some of the connections may be open; the server should have them back now.
        pool.terminate()
        raise
    return pool


def _forget_failure(opening: "asyncio.Task[asyncpg.Pool]") -> None:
    global _opening
    failed = opening.cancelled() or opening.exception() is not None
    if failed and _opening is opening:
        _opening = None

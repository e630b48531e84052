"""The executor: one user request fans out into concurrent queries and fans in.

A request asks what is known about a yacht under a search term. Each capability
(parts, inventory, documents, work orders, faults) is one parameterized query in
a transaction of its own on a connection of its own, so a request uses as many
connections as it has capabilities, for as long as its slowest query takes.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Mapping, Optional, Sequence, TypeVar

import asyncpg

T = TypeVar("T")

# Every query takes the yacht and an ILIKE pattern. Each has an order that is
# complete, so that two runs over the same rows give the same answer.
CAPABILITIES: Mapping[str, str] = {
    "parts": """
        SELECT * FROM parts
        WHERE yacht_id = $1 AND name ILIKE $2
        ORDER BY part_id
    """,
    "inventory": """
        SELECT i.item_id, i.part_id, p.name, p.part_number, i.location,
               i.quantity, i.minimum_quantity,
               i.quantity < i.minimum_quantity AS reorder,
               i.quantity * p.unit_price AS stock_value,
               i.counted_at
        FROM inventory_items i
        JOIN parts p USING (part_id)
        WHERE i.yacht_id = $1 AND p.name ILIKE $2
        ORDER BY i.item_id
    """,
    "documents": """
        SELECT document_id, title, kind, pages, attributes, revised_on,
               left(body, 120) AS excerpt
        FROM documents
        WHERE yacht_id = $1 AND (title ILIKE $2 OR body ILIKE $2)
        ORDER BY document_id
    """,
    "work_orders": """
        SELECT w.work_order_id, w.title, w.status, w.due_on, w.estimated_hours,
               count(p.part_id) AS parts, sum(p.unit_price) AS parts_cost
        FROM work_orders w
        LEFT JOIN work_order_parts wp USING (work_order_id)
        LEFT JOIN parts p USING (part_id)
        WHERE w.yacht_id = $1 AND w.title ILIKE $2
        GROUP BY w.work_order_id
        ORDER BY w.work_order_id
    """,
    "faults": """
        SELECT fault_id, code, symptom, severity, resolved, reported_at, signature
        FROM faults
        WHERE yacht_id = $1 AND symptom ILIKE $2
        ORDER BY severity DESC, fault_id
    """,
}

RECORD_SEARCH = """
    INSERT INTO search_history (request_id, yacht_id, term, capability, hits)
    VALUES ($1, $2, $3, $4, $5)
"""


@dataclass(frozen=True)
class Request:
    """What one user asks."""

    request_id: int
    yacht_id: uuid.UUID
    term: str


@dataclass
class Answer:
    """What came back: rows per capability, and errors for those that failed."""

    request: Request
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    errors: dict[str, "CapabilityError"] = field(default_factory=dict)


@dataclass(frozen=True)
class CapabilityError:
    """Why a capability has no rows. ``sqlstate`` is "" when PostgreSQL was not the one to say no."""

    sqlstate: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> "CapabilityError":
        if isinstance(error, asyncpg.PostgresError):
            return cls(error.sqlstate or "", str(error))
        if isinstance(error, asyncio.TimeoutError):
            return cls("", "timeout")
        return cls("", f"{type(error).__name__}: {error}")


class CapabilityExecutor:
    """Runs requests on a pool. Safe for any number of concurrent requests of one event loop."""

    def __init__(self, pool: asyncpg.Pool, *, timeout: Optional[float] = 60.0) -> None:
        self._pool = pool
        self._timeout = timeout

    async def run(
        self, request: Request, capabilities: Optional[Sequence[str]] = None
    ) -> Answer:
        """Fan out, wait for all, fan in.

        A capability that fails leaves its error in the answer and the others
        their rows; only cancellation of the request itself ends it early, and
        then every query of it is cancelled before this returns.
        """
        names = list(CAPABILITIES) if capabilities is None else list(capabilities)
        results = await asyncio.gather(
            *(self.capability(name, request) for name in names), return_exceptions=True
        )
        answer = Answer(request)
        for name, result in zip(names, results):
            if isinstance(result, Exception):
                answer.errors[name] = CapabilityError.of(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                answer.rows[name] = result
        return answer

    async def capability(self, name: str, request: Request) -> list[dict[str, Any]]:
        """One query of the request, in a transaction, and a note of what it found."""
        query = CAPABILITIES[name]
        pattern = f"%{request.term}%"

        async def work(connection: asyncpg.Connection) -> list[dict[str, Any]]:
            records = await connection.fetch(
                query, request.yacht_id, pattern, timeout=self._timeout
            )
            await connection.execute(
                RECORD_SEARCH,
                request.request_id,
                request.yacht_id,
                request.term,
                name,
                len(records),
                timeout=self._timeout,
            )
            return [dict(record) for record in records]

        return await self.in_transaction(work)

    async def in_transaction(
        self, work: Callable[[asyncpg.Connection], Awaitable[T]]
    ) -> T:
        """Run ``work`` in a transaction: committed when it returns, rolled back when it raises."""
        async with self._pool.acquire() as connection:
            async with connection.transaction():
                return await work(connection)

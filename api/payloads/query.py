"""Query parameters: known names only, each at most once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import BadQueryParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web


def read_query(request: web.Request, *valid: str) -> dict[str, str]:
    """The query's parameters. Raises BadQueryParameterError for one that is not in `valid` or stands twice."""
    unknown = sorted(set(request.query) - set(valid))
    if unknown:
        known = f" Valid parameters are: {quoted(valid)}" if valid else ""
        raise BadQueryParameterError(f"Unknown query parameter(s): {quoted(unknown)}.{known}")
    for name in request.query:
        if len(request.query.getall(name)) > 1:
            raise BadQueryParameterError(f"'{name}' is given more than once")
    return dict(request.query)


def quoted(names: Iterable[str]) -> str:
    """Names as error texts have them: 'a', 'b'."""
    return ", ".join(f"'{name}'" for name in names)


def read_limit(value: str | None, *, default: int, maximum: int) -> int:
    """The number of resources asked for. Raises BadQueryParameterError unless it is from 1 to `maximum`."""
    if value is None:
        return default
    # isascii: other scripts' digits are digits to Python, and nobody means them.
    number = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(maximum)) else 0
    if not 1 <= number <= maximum:
        raise BadQueryParameterError(f"Limit must be between 1 and {maximum}")
    return number

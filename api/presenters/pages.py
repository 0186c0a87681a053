"""The envelope of Cloud Foundry's lists: where this page is among the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from pydantic import Field
from typing_extensions import TypedDict

from api.presenters.common import LinkJson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.payloads.pages import PageQuery


class PaginationJson(TypedDict):
    """Where this page is."""

    total_results: Annotated[int, Field(ge=0)]
    total_pages: Annotated[int, Field(ge=1)]
    first: LinkJson
    last: LinkJson
    next: LinkJson | None
    previous: LinkJson | None


def present_pagination(total: int, page: PageQuery, *, url: str, query: Mapping[str, str]) -> PaginationJson:
    """The envelope for the page of `total` resources. `url` is the list's own, `query` what was asked, to be kept."""
    last = max(1, -(-total // page.per_page))
    kept = {name: value for name, value in query.items() if name not in {"page", "per_page"}}

    def link(number: int) -> LinkJson:
        return {"href": f"{url}?{urlencode(kept | {'page': number, 'per_page': page.per_page})}"}

    return {
        "total_results": total,
        "total_pages": last,
        "first": link(1),
        "last": link(last),
        "next": link(page.page + 1) if page.page < last else None,
        "previous": link(page.page - 1) if page.page > 1 else None,
    }

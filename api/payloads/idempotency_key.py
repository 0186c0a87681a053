"""The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a POST that can be sent again."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from shared.errors import BadRequestError
from shared.records import IdempotencyKey

if TYPE_CHECKING:
    from aiohttp import web

NAME: Final = "Idempotency-Key"
#: A string of RFC 8941, as the draft has it, or the same without quotes, as most clients send it.
PATTERN: Final = r'^(?:"[ !#-\[\]-~]{1,255}"|[!#-\[\]-~]{1,255})$'
_FORM: Final = re.compile(PATTERN)


async def read_key(request: web.Request) -> IdempotencyKey | None:
    """The request's key, if it has one, and the fingerprint of the request. Raises BadRequestError for a bad key."""
    sent = request.headers.getall(NAME, [])
    if not sent:
        return None
    if len(sent) > 1 or not _FORM.fullmatch(sent[0]):
        raise BadRequestError(f"{NAME} must be one text of 1 to 255 printable ASCII characters")
    fingerprint = hashlib.sha256()
    for part in (request.method.encode(), request.path.encode("utf-8", "replace"), await request.read()):
        fingerprint.update(len(part).to_bytes(8) + part)
    return IdempotencyKey(sent[0].strip('"'), fingerprint.hexdigest())

"""Sealing secrets that rest in PostgreSQL: authenticated encryption (Fernet), several keys, the first one seals."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.errors import SecretsError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_BYTES = 32


def generate_key() -> str:
    """A new key in the form that SAFEKEEP_SECRET_KEYS takes: base64 of 32 random bytes."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Sealer:
    """Seals and opens short texts. `keys` are base64 of 32 bytes each; the first seals, every one is tried to open.

    Raises SettingsError when there is no key, or one has the wrong form.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise SettingsError("SAFEKEEP_SECRET_KEYS: is not set (make a key with: openssl rand -base64 32)")
        self._fernet = MultiFernet([Fernet(_decode(number, key)) for number, key in enumerate(keys, start=1)])

    def seal(self, text: str) -> str:
        """`text`, encrypted and authenticated, as printable ASCII."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def open(self, sealed: str) -> str:
        """The text that was sealed. Raises SecretsError when no configured key opens it."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except (InvalidToken, ValueError):
            raise SecretsError("a sealed secret does not open with any key of SAFEKEEP_SECRET_KEYS") from None


def _decode(number: int, key: str) -> bytes:
    """Key `number` as Fernet wants it; standard and URL-safe base64 are both taken, since openssl writes the former."""
    try:
        raw = base64.b64decode(key.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise SettingsError(f"SAFEKEEP_SECRET_KEYS: key {number} is not base64 of {KEY_BYTES} bytes")
    return base64.urlsafe_b64encode(raw)

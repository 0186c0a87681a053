"""Signed tokens (RFC 7515, RFC 7519) down to their claims: form, signature, JSON. PyJWT does the cryptography.

Which algorithms and keys are right is said by the caller, from configuration and never from a token's header: that is
what keeps a public RSA key from being used as an HMAC secret. What the claims mean is decided in `tokens.py`.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import HMACAlgorithm
from jwt.utils import base64url_decode

from shared.errors import InvalidAuthTokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

Key: TypeAlias = str | RSAPublicKey

HMAC_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512")
SECRET_LENGTH_MIN: Final = 32  # RFC 7518 3.2: an HS256 key has at least 256 bits
LENGTH_MAX: Final = 16 * 1024  # characters; those of UAA have a few thousand, with very many scopes

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 7518 3.2 and 3.3: a secret that is shorter than the hash, or a small RSA key, signs nothing.
_JWS = jwt.PyJWS(options={"verify_signature": True, "enforce_minimum_key_length": True})


def is_secret(secret: str) -> bool:
    """Whether `secret` can be one: long enough, and not an asymmetric key, whose public part is no secret."""
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError:
        return False
    return len(secret.encode()) >= SECRET_LENGTH_MIN


def check_form(token: str, algorithms: Sequence[str]) -> None:
    """Refuse cheaply, before any key is needed, what cannot be a token signed with one of `algorithms`.

    Raises InvalidAuthTokenError.
    """
    match = _FORM.fullmatch(token) if len(token) <= LENGTH_MAX else None
    if match is None:
        raise InvalidAuthTokenError
    try:
        header = json.loads(base64url_decode(match[1]))
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidAuthTokenError from None
    # Nothing that a header may declare as critical is known here, and UAA declares nothing.
    if not isinstance(header, dict) or header.get("alg") not in algorithms or "crit" in header:
        raise InvalidAuthTokenError


def open_token(token: str, keys: Sequence[Key], algorithms: Sequence[str]) -> bytes | None:
    """The payload of a token that one of `keys` has signed, every one being tried; None when none of them has.

    Raises InvalidAuthTokenError for a token that no key could ever fit.
    """
    for key in keys:
        try:
            payload: bytes = _JWS.decode_complete(token, key, algorithms)["payload"]
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
            continue
        except jwt.PyJWTError:
            raise InvalidAuthTokenError from None
        return payload
    return None


def read_claims(payload: bytes) -> dict[str, Any]:  # Any: whatever JSON the signer put there
    """The claims in a payload. Raises InvalidAuthTokenError when it is not a JSON object."""
    try:
        claims = json.loads(payload.decode())
    except (ValueError, RecursionError):
        raise InvalidAuthTokenError from None
    if not isinstance(claims, dict):
        raise InvalidAuthTokenError
    return claims

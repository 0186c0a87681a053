"""Tokens that need not be verified again, and when they must be all the same."""

from __future__ import annotations

import time

import pytest

from shared.security.callers import Caller
from shared.security.verified import ENTRIES_MAX, VerifiedTokens


def caller(*, lifetime_s: float = 60) -> Caller:
    return Caller("u-1", "ann", frozenset({"cloud_controller.read"}), time.time() + lifetime_s)


def test_it_knows_a_token_that_was_verified_with_the_same_keys_and_issuer() -> None:
    tokens, ann = VerifiedTokens(), caller()
    tokens.keep("token", ann, 3, 7)
    assert tokens.find("token", 3, 7) is ann
    assert tokens.find("toke", 3, 7) is None


@pytest.mark.parametrize("versions", [(4, 7), (3, 8)], ids=["other keys", "another issuer"])
def test_it_has_a_token_verified_again_once_something_else_decides(versions: tuple[int, int]) -> None:
    tokens = VerifiedTokens()
    tokens.keep("token", caller(), 3, 7)
    assert tokens.find("token", *versions) is None
    assert not tokens.has("token")


def test_it_forgets_a_token_that_has_ended() -> None:
    tokens = VerifiedTokens()
    tokens.keep("token", caller(lifetime_s=0), 0, 0)
    assert tokens.find("token", 0, 0) is None


def test_it_keeps_a_bounded_number_and_lets_the_oldest_go() -> None:
    tokens, ann = VerifiedTokens(), caller()
    for number in range(ENTRIES_MAX + 1):
        tokens.keep(str(number), ann)
    assert not tokens.has("0")
    assert tokens.has("1")
    assert tokens.find(str(ENTRIES_MAX)) is ann

"""The broker's refusals, in the form that OSB API 2.17 ("Service Broker Errors") gives them."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault
    """An answer that is not a success: `status`, a word for programs, a sentence for people."""

    def __init__(
        self, status: int, description: str, word: str | None = None, retry_after_s: int | None = None
    ) -> None:
        self.status = status
        self.description = description
        self.word = word
        self.retry_after_s = retry_after_s
        super().__init__(description)

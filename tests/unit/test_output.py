"""What commands print: it fits a terminal, a program can read it, and nothing in it is obeyed."""

from __future__ import annotations

import io
import os
import pty
import sys
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from deploy.cli.clean_ups import _LAYOUT
from deploy.cli.output import build_table, clean, plural, show_rows, span

if TYPE_CHECKING:
    from collections.abc import Mapping

GUID = "0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e06"
HOSTILE = "\x1b[2J\x1b]0;gone\x07 [bold]no[/bold]\r\n\tend \u202e\x00" + "long " * 50

ROW: Mapping[str, str] = {
    "guid": GUID,
    "resource": f"restore {GUID}",
    "instance": f"instance {GUID}",
    "state": "at work, the broker removes it; next look in 59 min",
    "broker": "the-postgres-broker-of-the-second-data-center",
    "attempts": "20",
    "last_words": HOSTILE,
}


def test_it_fits_120_columns_without_breaking_a_guid() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(build_table(_LAYOUT, [ROW]))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 120
    assert [line.split("  ")[0].strip() for line in lines[1:4]] == [GUID, f"restore {GUID}", f"instance {GUID}"]


def test_it_is_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        show_rows(_LAYOUT, [{**ROW, "last_words": "no"}])
        terminal.flush()
        shown = os.read(master, 65536).decode()
    os.close(master)
    assert shown.split()[:3] == ["CLEAN-UP,", "OF", "WHAT"]
    assert max(map(len, shown.splitlines())) <= 120


def test_it_is_a_line_for_each_row_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(_LAYOUT, [ROW, {**ROW, "last_words": ""}])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split("\t")[:3] == second.split("\t")[:3] == [GUID, f"restore {GUID}", f"instance {GUID}"]
    assert (len(first.split("\t")), len(second.split("\t"))) == (7, 7)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        (" a\tb\r\nc\u2028d ", "a b c d"),
        ("\x1b[31mred", "[31mred"),
        ("a\u202eb\u200b\ud800c", "a b c"),
        ("größe 漢字 🙂", "größe 漢字 🙂"),
    ],
)
def test_it_prints_nothing_that_a_terminal_obeys(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "59 min"), (3600, "1 h"), (200000, "2 d")],
)
def test_it_says_times_in_words(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 things"), (1, "1 thing"), (2, "2 things")])
def test_it_counts(count: int, words: str) -> None:
    assert plural(count, "thing") == words


def test_it_takes_markup_for_text() -> None:
    out = io.StringIO()
    rows: list[dict[str, Any]] = [{**ROW, "last_words": "[bold]no[/bold]", "state": "", "broker": ""}]
    Console(file=out, width=120).print(build_table(_LAYOUT, rows))
    assert "[bold]no[/bold]" in out.getvalue()

"""The benchmark as a program: that it measures, and says what is to be reached. What it measures is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.bench.__main__ import main
from tests.bench.measurement import Measurement, spread
from tests.bench.report import from_json
from tests.bench.targets import judge
from tests.bench.usage import Sampler

if TYPE_CHECKING:
    from pathlib import Path

CELLS = ("accept.bare", "accept.pgbench", "read.safekeep-304", "work-0.no-queue", "work-0.safekeep-1")


def test_it_measures_and_shows_targets_beside_what_was_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    options = ["--quick", "--without-peers", "--json", str(file), "--only", *CELLS]
    assert main(options) == 0
    printed = capsys.readouterr().out
    for words in ("limit: bare aiohttp handler", "Safekeep, 1 worker", "saturated", "accepts / bare", "not measured"):
        assert words in printed
    document = json.loads(file.read_text(encoding="utf-8"))
    assert {"accepts / naive", "jobs / no-queue limit, broker 500 ms"} <= {each["what"] for each in document["targets"]}
    report = from_json(file)
    assert sorted(report.rounds) == sorted(CELLS)
    for rounds in report.rounds.values():
        assert [each.count > 0 for each in rounds] == [True]
        assert {"postgres", "queue", "stub"} <= set(rounds[0].cores)
        assert rounds[0].rate > 0


def test_it_refuses_a_cell_that_it_does_not_have() -> None:
    with pytest.raises(SystemExit, match=r"there is no cell accept\.nobody"):
        main(["--only", "accept.nobody"])


def test_it_takes_the_middle_of_the_rounds_and_says_by_how_much_a_target_is_missed() -> None:
    rounds = {
        "accept.bare": [Measurement(count=count, seconds=1, p99_ms=5) for count in (900, 1000, 4000)],
        "accept.safekeep": [Measurement(count=300, seconds=1, p99_ms=15)],
    }
    assert spread(rounds["accept.bare"], "rate") == (1000, 900, 4000)
    verdicts = {each.what: each for each in judge(rounds)}
    assert verdicts["accepts / bare handler"].judgement == "missed by 25%"
    assert verdicts["accepts: p99 / bare handler's"].judgement == "reached"
    assert verdicts["accepts / naive"].judgement == "not measured"


@pytest.mark.parametrize(
    ("busiest", "saturated"), [({"api": 0.85, "postgres": 0.2}, ["api"]), ({"api": 0.84, "worker": 0.5}, [])]
)
def test_it_calls_a_part_saturated_whose_busiest_process_has_no_core_left(
    busiest: dict[str, float], saturated: list[str]
) -> None:
    assert Measurement(count=1, seconds=1, busiest=busiest).saturated == saturated


def test_it_counts_the_cpu_of_processes_that_have_ended_to_the_tree_that_they_were_in() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        with Sampler({"tree": [parent.pid]}) as sampler:
            began_s = time.time()
            parent.stdout.readline()
        parent.stdin.close()
    usage = sampler.usage(began_s, time.time())
    assert usage.cpu_s["tree"] > 0.25
    assert usage.busiest["tree"] < usage.cores["tree"]
    assert usage.rss_mib["tree"] >= usage.largest_mib["tree"] > 1

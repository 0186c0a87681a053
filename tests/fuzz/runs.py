"""Runs schemathesis against a running system: all of its checks and one of ours, as two callers, within a budget."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.contract import DOCUMENT

if TYPE_CHECKING:
    from tests.fuzz.system import System

ROOT: Final = Path(__file__).parents[2]
#: How often a path parameter is the guid of something that there is.
KNOWN: Final = 0.5

#: What is told apart from schemathesis' own opinion, and why.
CHECKS: Final[dict[str, dict[str, Any]]] = {
    # Cloud Foundry answers 404 to a method that a path does not have, and knows neither 405 nor Allow. What it answers
    # instead is asked for every path and method in tests/integration/test_hostile_requests.py.
    "unsupported_method": {"enabled": False},
    "allow_header_conformance": {"enabled": False},
    # Valid by the document is not possible by the state: another operation is in progress, the plan cannot do that.
    "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 401, 403, 404, 409, 422]},
    "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 409, 422]},
}


@dataclass(frozen=True)
class Budget:
    """How much is tried."""

    examples: int  #: for each operation and way of generating
    seconds: int | None = None  #: for each caller; None: until all examples are done
    seed: int | None = None  #: None: the same every time
    phases: tuple[str, ...] = ("examples", "coverage", "fuzzing", "stateful")
    paths: tuple[str, ...] = ()  #: only these, if any are named


@dataclass(frozen=True)
class Outcome:
    """What schemathesis says of one run."""

    caller: str
    returncode: int
    output: str


async def fuzz(system: System, budget: Budget, *, caller: str, is_shown: bool = False) -> Outcome:
    """Fuzz as `caller`. With `is_shown`, what schemathesis says goes to the terminal as it comes."""
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory) / "schemathesis.toml"
        configuration.write_text(_toml(_configuration(system, budget, system.tokens[caller])), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "schemathesis.cli", f"--config-file={configuration}", "run", f"{system.url}/openapi.json"),
            f"--phases={','.join(budget.phases)}",
            *(f"--include-path={path}" for path in budget.paths),
            cwd=ROOT,
            env=os.environ | {"FUZZ_RICH": system.rich, "FUZZ_BACKUPS": ",".join(system.known["backups"])},
            stdout=None if is_shown else asyncio.subprocess.PIPE,
            stderr=None if is_shown else asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return Outcome(caller, process.returncode or 0, (output or b"").decode(errors="replace"))


def _configuration(system: System, budget: Budget, token: str) -> dict[str, Any]:
    return {
        "color": False,
        "hooks": "tests.fuzz.hooks",
        # They judge how easily data is generated, which says nothing of the API.
        "suppress-health-check": ["all"],
        "cache": {"enabled": False},
        "continue-on-failure": True,
        "request-timeout": 20.0,
        "headers": {"Authorization": token},
        "generation": {
            "max-examples": budget.examples,
            "database": "none",
            "deterministic": budget.seed is None,
            "with-security-parameters": False,
        },
        "checks": CHECKS,
        "dictionaries": {name: {"values": list(guids)} for name, guids in system.known.items()}
        | {"rich": {"values": [system.rich]}},
        "operations": list(_operations(system)),
        **({"max-time": budget.seconds} if budget.seconds else {}),
        **({"seed": budget.seed} if budget.seed is not None else {}),
    }


def _operations(system: System) -> list[dict[str, Any]]:
    """For each path with guids in it, where to find some that there are."""
    found = []
    for path in DOCUMENT["paths"]:
        parts = path.split("/")
        bindings = {}
        for place, part in enumerate(parts):
            name = part.strip("{}")
            if name != part and system.known.get(parts[place - 1]):
                dictionary = "rich" if "{backup_id}" in parts[place:] and name != "backup_id" else parts[place - 1]
                bindings[name] = {"dictionary": dictionary, "probability": KNOWN}
        if bindings:
            found.append({"include-path": path, "parameters": bindings})
    # A page may be too far, which page and per_page decide together; the document has words for it, and no schema.
    reach = CHECKS["positive_data_acceptance"]["expected-statuses"]
    checks = {"positive_data_acceptance": {"expected-statuses": [*reach, 400]}}
    found.append({"include-path": "/v3/jobs", "include-method": "GET", "checks": checks})
    return found


def _toml(value: dict[str, Any]) -> str:
    """The settings as TOML, whose texts and numbers are written as in JSON."""
    plain = [f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()]
    return "\n".join(plain) + "\n"


def _inline(value: Any) -> str:  # Any: what settings are made of
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)

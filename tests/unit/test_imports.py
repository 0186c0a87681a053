"""What a process loads before it does anything: what only others need stays out of its start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: For each module that a process begins with: packages that it has no use for, or not before its settings ask for them.
FOREIGN = {
    "api.app": {"celery", "cryptography", "flask", "jwt", "kombu", "pytest", "redis", "swagger_ui", "typer", "yaml"},
    "deploy.cli.api": {"flask", "openbrokerapi", "pytest", "swagger_ui", "typer", "waitress"},
    "deploy.cli.worker": {"api", "flask", "jwt", "openbrokerapi", "pytest", "swagger_ui", "typer", "waitress"},
    "deploy.cli.main": {"aiohttp", "api", "celery", "cryptography", "flask", "jwt", "pydantic", "redis", "worker"},
    "deploy.local.demo": {"aiohttp", "api", "celery", "flask", "jwt", "pydantic", "redis", "typer", "worker"},
    "deploy.postgres_broker.__main__": {"aiohttp", "api", "celery", "jwt", "redis", "shared", "typer", "worker"},
}


def loaded_by(module: str) -> set[str]:
    """The packages, without their modules, that a fresh interpreter has after importing `module`."""
    code = f"import {module}, json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(shown.stdout))


@pytest.mark.parametrize("module", FOREIGN)
def test_it_loads_nothing_that_it_has_no_use_for(module: str) -> None:
    assert loaded_by(module) & FOREIGN[module] == set()

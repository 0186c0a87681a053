"""Who may import whom: from a file's path one can say what it knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "shared", "deploy")
MAY_KNOW = {"api": {"shared"}, "worker": {"shared"}, "shared": set(), "deploy": {"api", "worker", "shared"}}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINES_MAX = 400


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_knows_only_its_own_room(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    foreign = {name for name in imports(path) if name.split(".")[0] in set(PACKAGES) - {own} - MAY_KNOW[own]}
    assert not foreign


def test_it_imports_celery_in_one_module() -> None:
    users = {str(path.relative_to(ROOT)) for path in MODULES if any(n.split(".")[0] == "celery" for n in imports(path))}
    assert users == {"worker/celery_app.py"}


def test_it_has_no_sql_in_python_outside_the_reference_broker() -> None:
    words = ("select ", "insert into ", "update ", "delete from ")
    for path in MODULES:
        if path.is_relative_to(ROOT / "deploy"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.lower().startswith(words), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_stays_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("layer", ["payloads", "presenters"])
def test_it_keeps_http_and_storage_out_of_the_layers_below_the_handlers(layer: str) -> None:
    for path in (ROOT / "api" / layer).rglob("*.py"):
        assert not {name for name in imports(path) if name.startswith(("shared.store", "api.handlers"))}, path

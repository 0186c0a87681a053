"""The file in which a stack that is up leaves its settings, for the other commands of the same checkout.

Every command looks for it, so this loads nothing of the stack.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

ENVIRONMENT_FILE: Final = "environment.json"


def adopt_environment() -> None:
    """Take over the settings of the stack that is up in SAFEKEEP_LOCAL_DIRECTORY, where the environment has none."""
    home = os.environ.get("SAFEKEEP_LOCAL_DIRECTORY")
    file = Path(home or ".", ENVIRONMENT_FILE)
    if home and file.exists():
        for name, value in json.loads(file.read_text(encoding="utf-8")).items():
            os.environ.setdefault(name, value)


def write_whole(file: Path, text: str) -> None:
    """Write a file that only its owner can read, so that nobody ever sees half of it."""
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    aside.touch(mode=0o600)
    aside.write_text(text, encoding="utf-8")
    aside.replace(file)

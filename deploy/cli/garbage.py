"""Keeping Python's garbage collector from looking at what stays anyway, while requests and jobs wait for it."""

from __future__ import annotations

import gc
from typing import Final

#: Objects made before the youngest are looked through: the default, 700, is a fraction of what one batch of steps makes.
YOUNG_MAX: Final = 10_000


def settle() -> None:
    """Leave all that is there out of later collections, which went through a hundred thousand objects of modules again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])

"""Keeping Python's garbage collector from looking at what stays anyway, while requests and jobs wait for it."""

from __future__ import annotations

import gc
from typing import Final

#: Objects made before the youngest are looked through; one batch of steps makes many times the default of 700.
YOUNG_MAX: Final = 10_000


def settle() -> None:
    """Leave all that is there by now, which stays, out of later collections: they took 50 ms and more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])

"""What the names of our environment variables begin with; apart, for what looks at them without reading settings."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "SAFEKEEP_"

"""`python -m tests.chaos`: the same as `safekeep chaos`."""

from __future__ import annotations

import sys

from deploy.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "chaos")
    main()

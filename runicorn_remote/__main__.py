"""`python -m runicorn_remote` is `runicorn-remote`."""

import sys

from runicorn_remote.cli import main

sys.exit(main())

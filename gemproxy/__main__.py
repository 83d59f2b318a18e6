"""``python -m gemproxy`` is ``gemproxy``."""

import sys

from gemproxy.cli import main

sys.exit(main())

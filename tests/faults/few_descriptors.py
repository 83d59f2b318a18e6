"""``gemproxy`` with a hard limit of open files: ``python -m tests.faults.few_descriptors serve …``."""

from __future__ import annotations

import os
import resource
import sys

from gemproxy.cli import main

most = int(os.environ["FEW_DESCRIPTORS"])
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
sys.exit(main())

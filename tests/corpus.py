"""Where recorded traffic and the published schemas lie: beside the repository, or where the variable WIRE says.

They are not part of it. Tests that need them are skipped without them, and the summary of a run says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

WIRE = Path(os.environ.get("WIRE") or Path(__file__).parents[2] / "shared" / "wire")
CORPUS = WIRE / "corpus"
needs_wire = pytest.mark.skipif(not CORPUS.is_dir(), reason="the recorded corpus is not here (tests/corpus.py)")

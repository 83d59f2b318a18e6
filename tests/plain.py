"""What a test needs that asserts what only the private parts of aiohttp give (docs/aiohttp.md)."""

from __future__ import annotations

import pytest

from gemproxy.aiohttp_parts import PLAIN

REASON = "without aiohttp's private parts: {} (docs/aiohttp.md)"


def needs_parts(what: str) -> pytest.MarkDecorator:
    """Skip a test where aiohttp's private parts are missing; ``what`` is so without them."""
    return pytest.mark.skipif(bool(PLAIN), reason=REASON.format(what))


KEPT = needs_parts("no connection is kept")

"""(edge) ``models.discover``: asks AI Studio which models there are, now and then, and adds them to the catalogue.

Spends no quota. Any key that answers will do; a failure changes nothing and is tried again later.
"""

from __future__ import annotations

import logging
import re

import aiohttp

from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.credentials.tokens import Tokens
from gemproxy.models import MAX_NAME, Catalogue
from gemproxy.pool.slot import SlotView
from gemproxy.transport.client import ask
from gemproxy.transport.reaching import why
from gemproxy.upstream.ai_studio import AiStudio, read_models
from gemproxy.wire import UNREADABLE

log = logging.getLogger("gemproxy")
INTERVAL = 3600.0  # seconds between two discoveries
PAGE_TIMEOUT = 30.0  # seconds for one page
MOST_PAGES = 10
MOST_MODELS = 2_000  # models; Google lists some dozens, and each is a label of the metrics once it was asked for
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Discovery:
    """Finds the models that the configured keys may use."""

    def __init__(self, session: aiohttp.ClientSession, dialect: AiStudio, tokens: Tokens) -> None:
        self._session = session
        self._dialect = dialect
        self._tokens = tokens

    async def find(self, views: list[SlotView]) -> list[str]:
        """Return the ids of all models that chat, from the first key that tells; [] if none does."""
        for view in views:
            if view.kind == "api_key" and view.state != "parked":
                try:
                    return await self._pages(view.name)
                except (aiohttp.ClientError, OSError, TokenRefused, *UNREADABLE) as fault:
                    log.warning("models.discover: credential %s tells no models (%s)", view.name, why(fault))
        return []

    async def _pages(self, slot: str) -> list[str]:
        token = await self._tokens.get(slot)
        found: list[str] = []
        page = ""
        for _ in range(MOST_PAGES):
            reply = await ask(self._session, self._dialect.models_request(token, page), PAGE_TIMEOUT)
            if reply.status != 200:
                raise aiohttp.ClientError(f"status {reply.status}")
            listed = read_models(reply.body)
            chatting = (model.id for model in listed.models if model.chats)
            found += [name for name in chatting if len(name) <= MAX_NAME and _NAME.fullmatch(name)]
            page = listed.next_page
            if not page or len(found) >= MOST_MODELS:
                break
        return found[:MOST_MODELS]


def add(catalogue: Catalogue, found: list[str]) -> None:
    """Add what was found; says so once it is more than before."""
    before = len(catalogue.listed())
    catalogue.add_discovered(found)
    more = len(catalogue.listed()) - before
    if more:
        log.info("models.discover: %d more models are listed", more)

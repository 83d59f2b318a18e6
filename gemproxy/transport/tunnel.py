"""(edge) Requests that go through the environment's proxy, as aiohttp opens tunnels (CONNECT).

In: a ``Proxies``. Out: a kind of request that knows its way. aiohttp's own look at the environment (``trust_env``)
would also read netrc, whose passwords are for others, and knows no networks in ``NO_PROXY``.
"""

from __future__ import annotations

from typing import Any

import aiohttp

from gemproxy.proxies import Proxies


def request_class(known: Proxies) -> type[aiohttp.ClientRequest]:
    """Return the class of requests that go the right way (``ClientSession(request_class=...)``)."""
    if known.proxy is None:
        return aiohttp.ClientRequest

    class Request(aiohttp.ClientRequest):
        def update_proxy(self, proxy: Any, proxy_auth: Any, proxy_headers: Any) -> None:
            if known.through(self.url):
                # with its Host from the start: aiohttp would add it later, and then know the connection no more
                proxy, proxy_headers = known.proxy, known.headers and {"Host": self.headers["Host"], **known.headers}
            super().update_proxy(proxy, proxy_auth, proxy_headers)

    return Request

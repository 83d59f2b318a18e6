"""(edge) Which private parts of aiohttp are used, and whether it has them. docs/aiohttp.md says what each saves.

What is private may go with any version. So they are asked for once, at the start; where one is missing, or if
``GEMPROXY_PLAIN_AIOHTTP=1`` stands in the environment, the rooms that use them take the way that aiohttp documents.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from types import FunctionType

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler

VARIABLE = "GEMPROXY_PLAIN_AIOHTTP"
Parts = Mapping[type, Collection[str]]
PARTS: Parts = {
    # transport/
    ResponseHandler: ("_parser",),
    aiohttp.TCPConnector: ("_create_connection", "_create_direct_connection", "_factory", "_get", "_release"),
    aiohttp.ClientSession: ("_request_class",),
    # server/outlet
    web.StreamResponse: ("_send_headers_immediately",),
    # process/connections
    web.RequestHandler: (
        *("_current_request", "_max_msg_queue_size", "_msg_queue_resume_size"),
        *("_parser", "_task_handler"),
    ),
}


def missing(parts: Parts = PARTS, environ: Mapping[str, str] = os.environ) -> str:
    """Return why the documented way is to be taken: which part is not there, or that it is asked for; "" if need not.

    ``parts`` are names by the class that has them.
    """
    if environ.get(VARIABLE, "") not in ("", "0"):
        return f"{VARIABLE} is set"
    gone = [f"{kind.__name__}.{name}" for kind, names in parts.items() for name in names if name not in names_of(kind)]
    return f"aiohttp has no {gone[0]}" if gone else ""


def names_of(kind: type) -> Collection[str]:
    """Return the names of a class, and those that its objects get when they are made."""
    made = [vars(each).get("__init__") for each in kind.__mro__]
    return {*dir(kind), *(name for each in made if isinstance(each, FunctionType) for name in each.__code__.co_names)}


PLAIN = missing()  # why the documented way is taken, "" if it is not


def caution(why: str = PLAIN) -> str:
    """Return what to tell operators at the start of what is done without; "" if nothing is."""
    if not why:
        return ""
    return (
        f"{why}: connections to upstreams are not kept, and those of clients are watched from outside; "
        "requests take more time (docs/aiohttp.md)"
    )

"""(edge) The access log: one line a request, of what its context gathered."""

from __future__ import annotations

import logging
import math
import time

from gemproxy.server.context import LONGEST_WORD, Context

log = logging.getLogger("gemproxy.access")
_LEVEL_NAMES = {level: logging.getLevelName(level) for level in (logging.DEBUG, logging.INFO)}
wall_clock = time.time  # noqa: TID251 - as the standard library stamps its records


def line(context: Context, ended: float) -> str:
    """Return the log line; its names and order are those of ``fields``, which costs three times as much."""
    usage, first = context.usage, context.first_byte
    return (
        f"id={context.id} client={context.client} method={context.method} path={context.path} status={context.status} "
        f"model={context.model} stream={'true' if context.stream else 'false'} credential={context.credential} "
        f"attempts={context.attempts} first_ms={'-' if first is None else math.ceil((first - context.started) * 1000)} "
        f"total_ms={math.ceil((ended - context.started) * 1000)} tokens_in={'-' if usage is None else usage.prompt} "
        f"tokens_out={'-' if usage is None else usage.completion} finish={context.finish} error={context.error or '-'}"
    )


def fields(context: Context, ended: float) -> dict[str, str | int]:
    """Return what the log line tells."""
    usage, first = context.usage, context.first_byte
    return {
        "id": context.id,
        "client": context.client,
        "method": context.method,
        "path": context.path,
        "status": context.status,
        "model": context.model,
        "stream": "true" if context.stream else "false",
        "credential": context.credential,
        "attempts": context.attempts,
        "first_ms": "-" if first is None else math.ceil((first - context.started) * 1000),
        "total_ms": math.ceil((ended - context.started) * 1000),
        "tokens_in": "-" if usage is None else usage.prompt,
        "tokens_out": "-" if usage is None else usage.completion,
        "finish": context.finish,
        "error": context.error or "-",
    }


def write(context: Context, ended: float) -> None:
    """Write the line; quiet probes (``/health``, ``/ready``) only at level debug."""
    level = logging.DEBUG if context.path in ("/health", "/ready") and context.status < 400 else logging.INFO
    if log.isEnabledFor(level):
        # handed over ready-made: Logger.log would look for its caller in the stack, at twice the cost of the rest
        log.callHandlers(Access(level, context, ended))


class Access(logging.LogRecord):
    """A record of one request, for handlers that know it by its ``fields`` and for those that want a message."""

    def __init__(self, level: int, context: Context, ended: float) -> None:
        # LogRecord's own would look for threads, processes and file names: 6 us for what no line shows
        self.name, self.filename, self.lineno = log.name, "", 0  # where other formatters look for them
        self.levelno, self.levelname, self.created = level, _LEVEL_NAMES[level], wall_clock()
        self.context, self.ended = context, ended

    @property
    def fields(self) -> dict[str, str | int]:
        """Return names and values, for lines that are no text."""
        return fields(self.context, self.ended)

    def getMessage(self) -> str:  # noqa: N802 - the standard library's name
        """Return ``key=value`` pairs on one line, whatever a client put into a path or a model's name."""
        text = line(self.context, self.ended)
        if text.isprintable() and text.count(" ") == _BLANKS and '"' not in text:
            return text
        return " ".join([f"{key}={_plain(value)}" for key, value in self.fields.items()])


for _name, _value in vars(logging.LogRecord(log.name, logging.INFO, "", 0, "", None, None)).items():
    setattr(Access, _name, _value)  # what else a record has stands in the class: in each it would be a kilobyte


def _plain(value: str | int) -> str:
    text = str(value)
    # one line stays one line, whatever a client put into a path or model name
    return (
        text
        if text.isprintable() and " " not in text and '"' not in text
        else ascii(text[:LONGEST_WORD]).replace(" ", "\\x20")
    )


_BLANKS = len(fields(Context("", float, 0.0, "", ""), 0.0)) - 1  # between the fields of a harmless line

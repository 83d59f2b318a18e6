"""Which parameter of the client's request a refused Gemini field came from.

In: a ``Refusal``. Out: the name that goes into ``param`` of the client's error, or None when nothing tells. The way
from parameters to fields is PROTOCOL 4.1; this is the way back, as far as Google's messages show it.
"""

from __future__ import annotations

import re
from typing import Final

from gemproxy.upstream.refusal import Refusal

# Where Google names a field: details (read by ``refusal``), "at 'contents[0].role'", "GenerateContentRequest.tools: …".
_NAMED: Final = re.compile(r"(?i)(?:\bat '|generatecontentrequest\.)([a-z_][\w.\[\]]*)")

# Looked for in the path (without underscores, lower case), the most telling first.
_PARAMETERS: Final = (
    ("functioncallingconfig", "tool_choice"),
    ("toolconfig", "tool_choice"),
    ("tools", "tools"),
    ("contents", "messages"),
    ("systeminstruction", "messages"),
    ("temperature", "temperature"),
    ("topp", "top_p"),
    ("topk", "top_k"),
    ("maxoutputtokens", "max_tokens"),
    ("stopsequences", "stop"),
    ("candidatecount", "n"),
    ("seed", "seed"),
    ("presencepenalty", "presence_penalty"),
    ("frequencypenalty", "frequency_penalty"),
    ("logprobs", "logprobs"),
    ("responsemimetype", "response_format"),
    ("responseschema", "response_format"),
    ("responsejsonschema", "response_format"),
    ("responsemodalities", "modalities"),
    ("thinking", "reasoning_effort"),
    ("safetysettings", "safety_settings"),
    ("cachedcontent", "cached_content"),
    ("servicetier", "service_tier"),
)

PENALTY: Final = r"penalty is not|penalties are not"
LOGPROBS: Final = r"logprobs (?:is|are) not"

# Sentences without a path (PROTOCOL 3.2).
_SENTENCES: Final = (
    (
        re.compile(r"function (?:call|response) (?:turn|parts)|model turn|input image|inline ?data|valid role"),
        "messages",
    ),
    (re.compile(r"thinking (?:level|budget|mode|is not)"), "reasoning_effort"),
    (re.compile(PENALTY), "presence_penalty"),
    (re.compile(LOGPROBS), "logprobs"),
    (re.compile(r"response[_ ]schema|response mime type"), "response_format"),
)


def blamed(refused: Refusal) -> str | None:
    """Return the client's parameter that Google complains about; None if the answer does not tell."""
    for path in (*refused.fields, *_NAMED.findall(refused.message)):
        plain = path.lower().replace("_", "")
        for sign, parameter in _PARAMETERS:
            if sign in plain:
                return parameter
    return next((parameter for sign, parameter in _SENTENCES if sign.search(refused.text)), None)

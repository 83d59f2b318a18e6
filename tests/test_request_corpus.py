"""Recorded requests, both ways: a Gemini body becomes the OpenAI request behind it, gemproxy makes a Gemini body of that,
and the two must say the same; OpenAI's own recorded requests are asked for real, and their answers give the form of ours.

``WITHOUT_COUNTERPART`` lists all that is lost, file by file. ``pytest tests/test_request_corpus.py -rP -k table`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemproxy.converter.media import remote_images
from gemproxy.converter.request import Options, decode, to_call
from gemproxy.models import Catalogue
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.code_assist import CodeAssist
from gemproxy.upstream.dialect import Dialect, Token
from gemproxy.upstream.vertex import Vertex
from gemproxy.wire.gemini import Blob
from tests.gemini_schema import WIRE, check_body, needs_wire
from tests.normal_form import normal
from tests.reversing import camel, request
from tests.simulator.asking import google, post

pytestmark = needs_wire

FILES = sorted((WIRE / "corpus" / "requests").glob("*.json"))
DUMMY = "skip_thought_signature_validator"
DUMMIES = (DUMMY, "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv", "context_engineering_is_the_way_to_go")
PNG = "iVBORw0KGgoAAAANSUhEUg=="  # what fetching an image gives here
NOW = 1_800_000_000.0

# A field of Gemini's for which chat completions have no words: how it is taken out, why, and in how many files it stands.
Cut = Callable[[Any], Any]

"""(edge) Looks after the credentials on demand: ``/v1/token-test``, ``/v1/test`` and ``check --online``.

In: the wired rooms. Out: one row a credential and step, without anything secret. Authenticating spends no model tokens;
only ``full`` asks each credential for one word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import aiohttp
from msgspec import Struct

from gemproxy.converter.events import Event, Finish, Meta, Text
from gemproxy.converter.gemini.reader import AnswerReader
from gemproxy.converter.transcoder import Transcoder
from gemproxy.converter.transcript import Usage
from gemproxy.credentials.onboarding import Onboarding, account_link
from gemproxy.credentials.token_errors import TokenRefused
from gemproxy.credentials.tokens import Tokens
from gemproxy.dispatch.dispatcher import Dispatcher, Listen
from gemproxy.errors import Failure, Overload
from gemproxy.load.burden import Load
from gemproxy.pool.cooldown import ALL_MODELS
from gemproxy.pool.slot import SlotView
from gemproxy.redaction import redact
from gemproxy.transport.client import ask
from gemproxy.transport.reaching import obstacle_of, why
from gemproxy.upstream.ai_studio import AiStudio
from gemproxy.upstream.dialect import OK, Action, Call, Dialect, HttpRequest, Method, Token, Verdict
from gemproxy.wire.gemini import Content, GenerateRequest, GenerationConfig, Part

STEP_TIMEOUT = 20.0  # seconds for one step
CREDENTIALS_AT_ONCE = 8  # credentials looked at together
OWNER = " checkup"  # of its burdens: no client has a name with a blank
RETRY_AFTER = 5.0  # seconds after which another checkup may be tried
ONE_WORD = GenerateRequest(
    [Content([Part(text="Say OK.")], "user")], generation_config=GenerationConfig(max_output_tokens=64)
)


class Row(Struct, frozen=True):
    """How one step went; ``link`` is a page Google asks a person to open: for the operator's terminal alone."""

    credential: str
    kind: str
    step: str
    ok: bool
    ms: int
    detail: str
    link: str = ""


class Checkup:
    """Tries credentials one by one, past the rotation; one checkup at a time, since each asks for all of them."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        dispatcher: Dispatcher,
        tokens: Tokens,
        dialects: Mapping[str, Dialect],
        onboarding: Onboarding,
        load: Load,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._dispatcher = dispatcher
        self._tokens = tokens
        self._dialects = dialects
        self._onboarding = onboarding
        self._load = load
        self._clock = clock
        self._running = False

    async def tokens(self) -> list[Row]:
        """Authenticate every credential; one that is well again is not parked any more.

        Raises ``Overload`` (429) while another checkup runs.
        """
        with self._alone():
            return await self._tokens_of_all()

    async def full(self, model: str, allowed: frozenset[str] | None = None) -> list[Row]:
        """Authenticate every credential, then ask each for one word: unary, and the first of each kind as a stream.

        ``allowed`` are the models that may be asked (None: all). Raises ``Overload`` (429) while another checkup runs.
        """
        with self._alone():
            rows = [Row("-", "-", "config", True, 0, f"{len(self._views())} credentials"), *await self._tokens_of_all()]
            await self._words(rows, model, allowed)
            return rows

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._running:
            raise Overload(
                "A checkup of the credentials runs already; only one does.", status=429, retry_after=RETRY_AFTER
            )
        self._running = True
        try:
            yield
        finally:
            self._running = False

    async def _tokens_of_all(self) -> list[Row]:
        places = asyncio.Semaphore(CREDENTIALS_AT_ONCE)

        async def one(view: SlotView) -> Row:
            async with places:
                return await self._authenticate(view)

        return list(await asyncio.gather(*map(one, self._views())))

    async def _words(self, rows: list[Row], model: str, allowed: frozenset[str] | None) -> None:
        """Add what became of the word that each credential was asked for, if its row says that it is well."""
        well = {row.credential for row in rows if row.ok}
        streams = {view.kind: view.name for view in reversed(self._views()) if view.name in well}
        for view in [view for view in self._views() if view.name in well]:
            if view.kind == "oauth":  # its token came with a project, or not at all
                rows.append(Row(view.name, view.kind, "project", True, 0, "discovered or configured"))
            asked = self._model(view, model, allowed)
            if asked is None:
                rows.append(Row(view.name, view.kind, "generate", True, 0, "not asked: it has no model of this key's"))
                continue
            rows.append(await self._generate(view, asked, "generateContent"))
            if streams[view.kind] == view.name:
                rows.append(await self._generate(view, asked, "streamGenerateContent"))

    def _model(self, view: SlotView, model: str, allowed: frozenset[str] | None) -> str | None:
        """Return the model to ask a credential for: the one named, or the first that it is held to and that may be."""
        offered = self._dispatcher.queue.rotator.offered(view.name)
        if offered is None or model in offered:
            return model
        return min(offered if allowed is None else offered & allowed, default=None)

    def _views(self) -> list[SlotView]:
        return self._dispatcher.queue.rotator.snapshot()

    async def _authenticate(self, view: SlotView) -> Row:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                token = await self._tokens.check(view.name)
                verdict, link = await self._probe(view, token)
            detail = verdict.message
        except TokenRefused as refused:
            verdict, detail, link = refused.verdict, refused.detail, refused.link
        except TimeoutError:
            verdict, detail, link = Verdict(Action.RETRY, reason="timeout"), f"no answer within {STEP_TIMEOUT:g} s", ""
        if verdict.action is Action.OK:
            self._dispatcher.queue.rotator.unpark(view.name)
            return _row(view, "token", began, True, "well")
        return _row(view, "token", began, False, f"{verdict.reason}: {detail}", link)

    async def _probe(self, view: SlotView, token: Token) -> tuple[Verdict, str]:
        """Ask something that costs nothing; where there is no such thing, the token itself is the proof."""
        dialect = self._dialects[view.dialect]
        if isinstance(dialect, AiStudio):
            return await self._ask(dialect, dialect.models_request(token))
        if view.dialect == "code_assist":
            return await self._ask(dialect, self._onboarding.quota_request(token))
        return OK, ""

    async def _ask(self, dialect: Dialect, request: HttpRequest) -> tuple[Verdict, str]:
        try:
            reply = await ask(self._session, request, STEP_TIMEOUT)
        except (aiohttp.ClientError, OSError) as fault:
            obstacle = obstacle_of(fault)
            reason = obstacle.reason if obstacle else "no_answer"
            return Verdict(Action.RETRY, reason=reason, message=why(fault)), ""
        if reply.status == 200:
            return OK, ""
        return dialect.judge(reply.status, reply.headers, reply.body, self._clock()), account_link(reply.body)

    async def _generate(self, view: SlotView, model: str, method: Method) -> Row:
        began = asyncio.get_running_loop().time()
        cooldowns = [cooldown for cooldown in view.cooling if cooldown.model in (model, ALL_MODELS)]
        if cooldowns:
            return _row(view, _STEPS[method], began, False, f"rests for {model} ({cooldowns[0].reason}): not asked")
        others = [other.name for other in self._views() if other.name != view.name]
        call = Call(method, model, ONE_WORD)
        burden = self._load.burden(OWNER)
        try:
            answer = await self._dispatcher.open(call, _listener(method), burden, avoid=others)
            try:
                said = [answer.head]
                await answer.pour(said.append)
            finally:
                answer.close()
        except Failure as failure:
            return _row(view, _STEPS[method], began, False, failure.message)
        finally:
            burden.close()
        return _row(view, _STEPS[method], began, True, f"{sum(map(len, said))} bytes")


_STEPS = {"generateContent": "generate", "streamGenerateContent": "stream"}


class _Ear:
    """Hears whether a model says anything, whatever it is; a whole answer is told of at its end."""

    kept = 0  # nothing waits here but a count

    def __init__(self, method: Method) -> None:
        self._stream = method == "streamGenerateContent"
        self._said = b""

    def write(self, event: Event) -> bytes:
        """Return the words that are said; one byte stands for anything else that is."""
        if isinstance(event, Meta | Usage | Finish):
            return b""
        told = event.text.encode() if isinstance(event, Text) else b"."
        self._said += told
        return told if self._stream else b""

    def finish(self) -> bytes:
        """Return what was not told yet."""
        return b"" if self._stream else self._said


def _listener(method: Method) -> Listen:
    def listen(dialect: Dialect) -> Transcoder:
        return Transcoder(dialect.decode, AnswerReader(lambda: "call"), _Ear(method))

    return listen


def _row(view: SlotView, step: str, began: float, ok: bool, detail: str, link: str = "") -> Row:
    took = asyncio.get_running_loop().time() - began
    return Row(view.name, view.kind, step, ok, round(took * 1000), redact(detail), link)

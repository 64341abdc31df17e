"""The API key: masked wherever it is held, asked for one question at a time."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

from .errors import ConfigurationError, TransportError

__all__ = ["Secret", "TokenProvider", "TokenSource", "masked", "without_tracebacks"]

TokenProvider: TypeAlias = Callable[[], str | Awaitable[str]]


LEAST_SCRUBBED: Final = 8


class Secret:
    """A text that shows itself only when asked by name: repr, str and format are masked, and it does not pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: use it in place, never bind it to a name that a traceback could show."""
        return self._text

    def scrub(self, text: str) -> str:
        """``text`` with every occurrence of the secret masked."""
        # A short one, as in tests, would be found in ordinary words.
        return text.replace(self._text, "***") if len(self._text) >= LEAST_SCRUBBED else text

    def checked(self, name: str) -> Secret:
        """The secret itself; raises :class:`ConfigurationError` if it cannot stand in a header."""
        if not self._text:
            raise ConfigurationError(
                "no API key: pass token=... or set DEEPNOTE_TOKEN (Settings & members > Security > API keys)"
            )
        if not self._text.isascii() or not self._text.isprintable() or " " in self._text:
            raise ConfigurationError(f"{name} holds a space, a control character or a character outside ASCII")
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class TokenSource:
    """Gives the key for the next request: a fixed one at once, a provider's by asking it.

    A provider is asked for every request but never twice at a time. Who has to wait for the question of another
    takes its answer if that question began after they came, so a burst of requests asks at most twice.
    """

    __slots__ = ("_answered", "_asked", "_latest", "_lock", "_provider", "fixed")

    def __init__(self, token: Secret | TokenProvider | None) -> None:
        self._provider: TokenProvider | None = None
        #: The key that stays; None where a provider is asked, which may give another after a 401.
        self.fixed: Secret | None = None
        if token is None:
            token = Secret(os.environ.get("DEEPNOTE_TOKEN", ""))
        if isinstance(token, Secret):
            self.fixed = token.checked("the token")
        elif callable(token):
            self._provider = token
        else:
            raise ConfigurationError(f"token is text or a function that gives it, not {type(token).__name__}")
        self._lock = asyncio.Lock()
        self._asked = 0
        self._answered = 0
        self._latest: Secret | None = None

    @property
    def current(self) -> Secret | None:
        """The key last used."""
        return self.fixed or self._latest

    async def get(self) -> Secret:
        """The key for one request; raises :class:`TransportError` when the provider fails, for nothing was sent."""
        if self.fixed is not None:
            return self.fixed
        arrived = self._asked
        async with self._lock:
            if self._answered <= arrived or self._latest is None:
                self._asked += 1
                self._latest = await self._ask()
                self._answered = self._asked
            return self._latest

    async def _ask(self) -> Secret:
        provider = self._provider
        if provider is None:
            raise ConfigurationError("no token provider")
        try:
            answer = masked(provider())
            if inspect.isawaitable(answer):
                answer = masked(await answer)
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises
            failure = f"the token provider failed: {type(error).__name__}"
            raise TransportError(failure, sent=False, retryable=False) from without_tracebacks(error)
        if not isinstance(answer, Secret):
            failure = f"the token provider gave {type(answer).__name__}, not text"
            raise TransportError(failure, sent=False, retryable=False)
        try:
            return answer.checked("the token provider's answer")
        except ConfigurationError as error:
            # Not the client's configuration: the next answer may be good, so waits go on.
            raise TransportError(str(error), sent=False, retryable=False) from None


def masked(token: Any) -> Any:
    """``token`` wrapped if it is text: called in place, so that no frame of ours holds it in the clear."""
    return Secret(token) if isinstance(token, str) else token


def without_tracebacks(error: BaseException) -> BaseException:
    """The error with its whole chain, less the tracebacks, whose frames may hold the key or a signed link."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error

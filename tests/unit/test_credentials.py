"""The key: asked for one question at a time, and shown to nobody."""

from __future__ import annotations

import asyncio
import copy
import pickle
import traceback
from collections.abc import Awaitable
from typing import Any

import pytest

from deepnote_async.credentials import Secret, TokenSource, masked, without_tracebacks
from deepnote_async.errors import ConfigurationError, TransportError

KEY = "dn-hush-hush"


class Provider:
    """Gives a new key for each question, after a while, and counts how many questions are open at once."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.asked = 0
        self.open = 0
        self.most = 0

    async def __call__(self) -> str:
        self.asked += 1
        mine = self.asked
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.open -= 1
        return f"key-{mine}"


# A secret.


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    secret = Secret(KEY)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", f"{secret!s}", repr([secret]), "%s" % secret]  # noqa: UP031
    assert not any("hush" in text for text in shown)
    assert secret.reveal() == KEY
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_does_not_pickle(protocol: int) -> None:
    with pytest.raises(TypeError) as caught:
        pickle.dumps({"token": Secret(KEY)}, protocol)
    assert "hush" not in str(caught.value)


def test_a_secret_does_not_copy_into_the_open() -> None:
    for duplicate in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            duplicate(Secret(KEY))


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY


def test_a_secret_strikes_itself_out_of_texts() -> None:
    assert Secret(KEY).scrub(f"Bearer {KEY}, {KEY}") == "Bearer ***, ***"
    assert Secret(KEY).scrub("nothing here") == "nothing here"


def test_masking_wraps_text_alone() -> None:
    assert masked(KEY) == Secret(KEY)
    assert masked(None) is None
    assert masked(masked) is masked


def test_causes_are_kept_without_their_frames() -> None:
    def deep() -> None:
        key = KEY
        raise KeyError(len(key))

    try:
        try:
            deep()
        except KeyError as inner:
            raise OSError("outer") from inner
    except OSError as caught:
        error = without_tracebacks(caught)
    assert isinstance(error.__cause__, KeyError)
    assert error.__traceback__ is None
    assert error.__cause__.__traceback__ is None
    error.__cause__.__cause__ = error
    assert without_tracebacks(error) is error


# A source.


async def test_a_fixed_key() -> None:
    source = TokenSource(Secret(KEY))
    assert await source.get() == Secret(KEY) == source.fixed == source.current


async def test_a_provider_is_asked_for_every_request() -> None:
    source = TokenSource(Provider(0.0))
    assert [(await source.get()).reveal() for _ in range(3)] == ["key-1", "key-2", "key-3"]
    assert source.fixed is None
    assert source.current == Secret("key-3")


async def test_a_provider_may_be_plain_or_give_any_awaitable() -> None:
    assert (await TokenSource(lambda: KEY).get()).reveal() == KEY

    def future() -> Awaitable[str]:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        answer.set_result(KEY)
        return answer

    assert (await TokenSource(future).get()).reveal() == KEY


@pytest.mark.looptime
async def test_never_two_questions_at_once_and_a_burst_asks_twice_at_most() -> None:
    provider = Provider()
    source = TokenSource(provider)
    keys = await asyncio.gather(*(source.get() for _ in range(50)))
    assert provider.most == 1
    assert provider.asked <= 2
    assert {key.reveal() for key in keys} <= {"key-1", "key-2"}


@pytest.mark.looptime
async def test_who_comes_later_never_gets_an_answer_to_an_earlier_question() -> None:
    provider = Provider()
    source = TokenSource(provider)
    first = asyncio.create_task(source.get())
    await asyncio.sleep(0.5)
    second = asyncio.create_task(source.get())
    assert (await first).reveal() == "key-1"
    assert (await second).reveal() == "key-2"


@pytest.mark.looptime
async def test_one_who_leaves_breaks_nothing_for_the_others() -> None:
    provider = Provider()
    source = TokenSource(provider)
    asking, waiting = asyncio.create_task(source.get()), asyncio.create_task(source.get())
    await asyncio.sleep(0.5)
    asking.cancel()
    assert (await waiting).reveal().startswith("key-")
    assert asking.cancelled()
    assert provider.most == 1


async def test_a_provider_that_fails_sent_nothing_and_the_next_question_is_a_new_one() -> None:
    answers: list[Any] = [RuntimeError(f"vault is shut to {KEY}"), KEY]

    async def provider() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    source = TokenSource(provider)
    with pytest.raises(TransportError, match="RuntimeError") as caught:
        await source.get()
    assert caught.value.sent is False
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.__cause__.__traceback__ is None
    assert "hush" not in str(caught.value)
    assert (await source.get()).reveal() == KEY


@pytest.mark.looptime
async def test_a_failure_is_not_handed_to_who_came_later() -> None:
    asked = 0

    async def provider() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(1)
        if asked == 1:
            raise OSError("for a moment")
        return KEY

    source = TokenSource(provider)
    first, second = await asyncio.gather(source.get(), source.get(), return_exceptions=True)
    assert isinstance(first, TransportError)
    assert second == Secret(KEY)


@pytest.mark.parametrize("answer", [None, 7, b"key", ["key"]])
async def test_a_provider_gives_text(answer: Any) -> None:
    with pytest.raises(TransportError, match=type(answer).__name__):
        await TokenSource(lambda: answer).get()


@pytest.mark.parametrize("answer", ["", "hush hush", "hush\r\nX: y", "hüsh"])
async def test_a_providers_key_fits_into_a_header(answer: str) -> None:
    with pytest.raises(TransportError) as caught:
        await TokenSource(lambda: answer).get()
    assert not caught.value.sent
    assert not answer or answer not in "".join(traceback.format_exception(caught.value))


def test_a_source_needs_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPNOTE_TOKEN", KEY)
    assert TokenSource(None).fixed == Secret(KEY)
    monkeypatch.delenv("DEEPNOTE_TOKEN")
    with pytest.raises(ConfigurationError, match="DEEPNOTE_TOKEN"):
        TokenSource(None)

"""The model for tests that have no event loop yet: on loopback in a thread, and in memory and virtual time."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from deepnote_async.client import DeepnoteClient

from .memory import EPOCH, MemoryTransport
from .model import Service
from .scripting import Scripting
from .server import FakeDeepnote
from .virtual import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Unpack

    from .model import ServiceOptions

__all__ = ["ThreadedDeepnote", "VirtualDeepnote"]

T = TypeVar("T")


class ThreadedDeepnote(Scripting):
    """:class:`FakeDeepnote` in a thread of its own: ``with ThreadedDeepnote() as fake``.

    For tests that are not async, or whose loop is somebody else's. Takes the options of :class:`FakeDeepnote`.
    Script it from the test's own thread: what is scripted holds for the requests that come afterwards.
    """

    def __init__(self, **options: Any) -> None:
        self.fake: FakeDeepnote = FakeDeepnote(**options)
        self.service: Service = self.fake.service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends: asyncio.Event | None = None
        self._ready = threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="fake deepnote", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens: the ``base_url`` for a client."""
        return self.fake.url

    def client(self, **options: Any) -> DeepnoteClient:
        """A client for it, not yet entered, with the options of :class:`~deepnote_async.DeepnoteClient`."""
        return DeepnoteClient(self.token, base_url=self.url, **options)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._broken is not None:
            self._thread.join()
            raise self._broken
        return self

    def __exit__(self, *exc: object) -> None:
        if self._loop is not None and self._ends is not None:
            self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    def _serve(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._until_told())
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for it
            self._broken = error
        finally:
            self._ready.set()

    async def _until_told(self) -> None:
        self._loop, self._ends = asyncio.get_running_loop(), asyncio.Event()
        async with self.fake:
            self._ready.set()
            await self._ends.wait()


class VirtualDeepnote(Scripting):
    """The model in memory and in virtual time: ``with VirtualDeepnote() as fake``, then ``fake.run(main)``.

    ``main(client)`` runs in a loop whose clock jumps to whatever is due next, so a wait of ten minutes takes
    milliseconds; :attr:`seconds` tells how much time has passed in it. Nothing in it may use real sockets or await
    threads. Not for use within a running loop: the test that calls it is a plain function.
    """

    def __init__(self, *, latency: float = 0.0, **options: Unpack[ServiceOptions]) -> None:
        self._runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.service: Service = Service(clock=lambda: EPOCH + self.seconds, **options)
        self.transport: MemoryTransport = MemoryTransport(self.service, latency=latency)

    @property
    def seconds(self) -> float:
        """How much virtual time has passed."""
        return 0.0 if self._loop is None else self._loop.time()

    def client(self, **options: Any) -> DeepnoteClient:
        """A client for it, not yet entered, with the options of :class:`~deepnote_async.DeepnoteClient`."""
        return DeepnoteClient(self.token, transport=self.transport, **options)

    def run(self, main: Callable[[DeepnoteClient], Awaitable[T]], **options: Any) -> T:
        """Run ``main(client)`` to its end in virtual time, with an entered client that has these ``options``."""

        async def entered() -> T:
            async with self.client(**options) as client:
                return await main(client)

        self._loop = self._runner.get_loop()
        return self._runner.run(entered())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.close()

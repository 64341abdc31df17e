"""A model of the Deepnote API for tests, simulations and demos, with two faces.

:class:`FakeDeepnote` serves it on loopback, :class:`MemoryTransport` carries a client's requests to it in memory and
in virtual time. Both are driven by one :class:`Service`, which does no I/O and takes its clock as an argument.
"""

from __future__ import annotations

from . import outputs
from .faults import Fault, Outage
from .kit import ThreadedDeepnote, VirtualDeepnote
from .limiter import FixedWindow, Limit, SlidingLimit, Verdict
from .memory import MemoryTransport, virtual_service
from .model import Access, Service, ServiceOptions
from .process import FakeProcess
from .record import Call, StorageCall
from .replies import Reply
from .server import FakeDeepnote
from .state import Block, Input, Lognormal, NotebookState, ProjectState, RunState
from .virtual import VirtualTimeLoop, run_virtual

__all__ = [
    "Access",
    "Block",
    "Call",
    "FakeDeepnote",
    "FakeProcess",
    "Fault",
    "FixedWindow",
    "Input",
    "Limit",
    "Lognormal",
    "MemoryTransport",
    "NotebookState",
    "Outage",
    "ProjectState",
    "Reply",
    "RunState",
    "Service",
    "ServiceOptions",
    "SlidingLimit",
    "StorageCall",
    "ThreadedDeepnote",
    "Verdict",
    "VirtualDeepnote",
    "VirtualTimeLoop",
    "outputs",
    "run_virtual",
    "virtual_service",
]

"""What a run's blocks put out: text, images, tables, errors, in the shape of Jupyter's outputs.

Source: https://nbformat.readthedocs.io/en/latest/format_description.html#code-cell-outputs
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from .dataframes import DATAFRAME_MIME, DataFrameOutput, read_dataframe
from .errors import DecodeError

__all__ = ["DataFrameOutput", "Output", "RunFailure", "failure_of", "joined_text", "read_outputs"]

_OWN_KEYS: Final = frozenset({"output_type", "metadata"})
_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_EXCEPTION: Final = re.compile(r"([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)): ?(.*)", re.DOTALL)


def _keys(value: Mapping[str, Any]) -> str:
    return f"<{', '.join(map(str, value))}>"


@attrs.frozen(kw_only=True)
class Output:
    """One output of one block.

    ``data`` maps MIME types to what was shown; for a stream or an error it holds the output's own fields, such as
    ``text`` or ``traceback``. ``metadata`` is the output's, with what else it says (``execution_count``).
    """

    block_id: str = ""
    block_type: str | None = None
    output_type: str = ""
    data: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=_keys)
    metadata: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=_keys)

    def text(self, mime: str = "text/plain") -> str:
        """What was shown as ``mime``, empty if nothing was; a stream counts as plain text, JSON is written out."""
        if self.output_type == "stream":
            return _text(self.data.get("text")) if mime == "text/plain" else ""
        value = self.data.get(mime)
        if value is None or isinstance(value, str):
            return value or ""
        return _json(value) if mime.endswith("json") else _text(value)

    def image(self, mime: str = "image/png") -> bytes | None:
        """The bytes of what was shown as ``mime``; None if nothing was, or nothing that can be read."""
        value = self.data.get(mime)
        if value is None:
            return None
        if mime == "image/svg+xml":
            return _text(value).encode(errors="replace")
        text = _text(value)
        try:
            return base64.b64decode("".join(text.rpartition("base64,")[2].split()), validate=True) or None
        except ValueError:
            return None

    @property
    def dataframe(self) -> DataFrameOutput | None:
        """The table that was shown, None if none was."""
        return read_dataframe(self.data.get(DATAFRAME_MIME))


@attrs.frozen(kw_only=True)
class RunFailure:
    """Why a run failed: the exception's ``name``, ``message`` and ``traceback`` (text without colours).

    ``name`` is None and ``traceback`` empty where only the run's own error tells of it; ``block_id`` is where it was.
    """

    name: str | None = None
    message: str = ""
    traceback: str = attrs.field(default="", repr=False)
    block_id: str | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.name, self.message) if part)


def read_outputs(blocks: object) -> tuple[Output, ...]:
    """The outputs of blocks, in their order; what is no block or no output is passed over.

    Raises :class:`DecodeError` for anything but a list.
    """
    if not isinstance(blocks, list | tuple):
        raise DecodeError(f"the snapshot's blocks cannot be read: {type(blocks).__name__} where a list belongs")
    return tuple(
        _output(block, raw)
        for block in blocks
        if isinstance(block, Mapping)
        for raw in _items(block.get("outputs"))
        if isinstance(raw, Mapping)
    )


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


def _output(block: Mapping[str, Any], raw: Mapping[str, Any]) -> Output:
    rest = {key: value for key, value in raw.items() if key not in _OWN_KEYS}
    metadata = raw.get("metadata")
    own = metadata if isinstance(metadata, Mapping) else {} if metadata is None else {"metadata": metadata}
    data = rest.get("data")
    if isinstance(data, Mapping):
        own, rest = {**rest, **own}, {**data}
        del own["data"]
    block_id, block_type = block.get("id"), block.get("type")
    output_type = raw.get("output_type")
    return Output(
        block_id="" if block_id is None else str(block_id),
        block_type=block_type if isinstance(block_type, str) else None,
        output_type=output_type if isinstance(output_type, str) else "",
        data=rest,
        metadata=own,
    )


def _text(value: Any) -> str:
    """Text, which Jupyter also writes as a list of its lines."""
    if isinstance(value, list | tuple):
        return "".join(map(_text, value))
    return value if isinstance(value, str) else "" if value is None else str(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def joined_text(outputs: Iterable[Output], mime: str) -> str:
    """The text of all outputs, each on a line of its own but for pieces of one block's streams."""
    pieces: list[str] = []
    flowing = None
    for output in outputs:
        text = output.text(mime)
        if not text:
            continue
        stream = output.block_id if output.output_type == "stream" else None
        if pieces and not pieces[-1].endswith("\n") and (stream is None or stream != flowing):
            pieces.append("\n")
        pieces.append(text)
        flowing = stream
    return "".join(pieces).strip("\n")


def failure_of(outputs: Iterable[Output], error: str | None) -> RunFailure | None:
    """The last error among the outputs, else the run's own; None where neither tells."""
    for output in reversed([*outputs]):
        if output.output_type == "error" and (failure := _failure(output)) is not None:
            return failure
    if not error:
        return None
    named = _EXCEPTION.fullmatch(error)
    return RunFailure(name=named[1], message=named[2]) if named else RunFailure(message=error)


def _failure(output: Output) -> RunFailure | None:
    name, message = _text(output.data.get("ename")), _text(output.data.get("evalue"))
    lines = output.data.get("traceback")
    text = "\n".join(map(_text, lines)) if isinstance(lines, list | tuple) else _text(lines)
    traceback = _ANSI.sub("", text)
    if not name and not message:
        message = traceback.strip().rpartition("\n")[2]
    if not name and not message:
        return None
    return RunFailure(name=name or None, message=message, traceback=traceback, block_id=output.block_id or None)

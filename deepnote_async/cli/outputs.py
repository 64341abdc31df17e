"""What a run has put out, printed and saved."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import DeepnoteError
from .exits import OK, PROGRAM, UNWRITTEN, say
from .render import harmless, jsonable, print_json, print_table, run_record

if TYPE_CHECKING:
    from ..dataframes import DataFrameOutput
    from ..models import Run
    from ..outputs import Output
    from .common import Common

__all__ = ["Save", "made_ready", "print_run", "reason_of", "text_of"]

Save = Annotated[
    Path | None, typer.Option("--save", metavar="DIR", help="Put the images into this folder.", show_default=False)
]
SUFFIXES: Final = {"jpeg": "jpg", "svg": "svg"}  # of the part after the slash, where it is not the suffix itself


def text_of(run: Run) -> str | None:
    """All that is text, for one line of JSON; None for outputs that cannot be read, which must not end a batch."""
    try:
        return run.text()
    except DeepnoteError:
        return None


def reason_of(run: Run) -> str | None:
    """Why a run failed, as far as what was read of it tells."""
    try:
        return str(run.failure) if run.failure is not None else run.error
    except DeepnoteError:
        return run.error


def made_ready(folder: Path | None) -> None:
    """Make the folder for the images, if one is given; raises :class:`OSError` where nothing can be written.

    A command that starts a run asks for this before, for it would be paid for in vain.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def print_run(common: Common, run: Run, save: Path | None) -> int:
    """Print what a run put out, in the order of its blocks, and save its images if a folder is given.

    Returns the exit status of that: an image that cannot be saved is named, and the rest is printed all the same.
    """
    shown = [_Shown(number, output, save) for number, output in enumerate(run.outputs, 1)]
    failure = run.failure
    status = UNWRITTEN if any(each.unwritten for each in shown) else OK
    if common.json:
        why = None if failure is None else jsonable(failure)
        print_json(run_record(run) | {"text": run.text(), "outputs": [each.record() for each in shown], "failure": why})
        return status
    for each in shown:
        each.print()
    sys.stdout.flush()
    if failure is not None and failure.traceback:
        say(failure.traceback.rstrip("\n"))
    return status


class _Shown:
    """One output, and where its images are."""

    def __init__(self, number: int, output: Output, folder: Path | None) -> None:
        self._output = output
        self._mimes = [mime for mime in output.data if "/" in mime]  # a stream's own fields are no types
        self._images: list[dict[str, Any]] = []
        self.unwritten = False
        for mime in self._mimes:
            image = output.image(mime) if mime.startswith("image/") else None
            if image is None:
                continue
            found: dict[str, Any] = {"mime": mime, "bytes": len(image)}
            if folder is not None:
                # A block's id and a type come from the service: they name no path.
                kind = re.sub("[^a-z0-9]", "", mime[6:].lower().partition("+")[0])[:16] or "image"
                name = f"{number:02}-{re.sub('[^A-Za-z0-9_-]', '_', output.block_id)[:64]}"
                found |= self._written(image, folder / f"{name}.{SUFFIXES.get(kind, kind)}")
            self._images.append(found)

    def _written(self, image: bytes, path: Path) -> dict[str, str]:
        try:
            path.write_bytes(image)
        except OSError as error:
            self.unwritten = True
            say(f"{PROGRAM}: {path} was not written: {error.strerror}")
            return {}
        return {"file": str(path)}

    def _others(self) -> dict[str, Any]:
        """What was shown in types that are neither drawn nor saved here, where nothing else was shown."""
        if self._images or self._output.dataframe is not None or self._output.text():
            return {}
        return {mime: self._output.data[mime] for mime in self._mimes}

    def record(self) -> dict[str, Any]:
        """For a line of JSON; the bytes of images are left out."""
        output, table = self._output, self._output.dataframe
        found: dict[str, Any] = {"block_id": output.block_id, "output_type": output.output_type}
        found |= {"text": output.text() or None, "mimes": self._mimes}
        if table is not None:
            columns = [{"name": column.get("name"), "dtype": column.get("dtype")} for column in table.columns]
            found["dataframe"] = {"row_count": table.row_count, "columns": jsonable(columns)}
            found["dataframe"]["rows"] = jsonable(table.records())
        if others := self._others():
            found["data"] = jsonable(others)
        return found | ({"images": self._images} if self._images else {})

    def print(self) -> None:
        """For people."""
        table = self._output.dataframe
        if table is not None:
            _print_dataframe(table)
            return
        for image in self._images:
            _write(f"[{image['mime']}, {image['bytes'] / 1000:.1f} kB{_where(image.get('file'))}]")
        for mime in self._others():
            size = len(self._output.text(mime).encode(errors="replace"))
            _write(f"[{mime}, {size / 1000:.1f} kB; --json tells]")
        text = "" if self._images else self._output.text()
        if text:
            _write(text)


def _write(text: str) -> None:
    # Into a file or a pipe goes what the notebook wrote; a terminal would obey it.
    told = harmless(text) if sys.stdout.isatty() else text
    sys.stdout.write(told if told.endswith("\n") else told + "\n")


def _where(file: str | None) -> str:
    return "; --save DIR keeps it" if file is None else f", in {file}"


def _print_dataframe(table: DataFrameOutput) -> None:
    if not table.rows:
        rest = f"{table.row_count} rows, none of them shown" if table.row_count else "no rows"
        _write(f"({rest}; columns: {', '.join(table.column_names) or 'none'})")
        return
    rows = [{name: _value(value) for name, value in row.items()} for row in table.records()]
    print_table(table.column_names, rows, verbatim=True)
    if table.is_truncated:
        sys.stdout.write(f"({len(rows)} of {table.row_count} rows)\n")


def _value(value: Any) -> Any:
    return value if value is None or isinstance(value, str | list | dict) else str(value)

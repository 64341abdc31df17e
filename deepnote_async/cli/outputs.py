"""What a run has put out, printed and saved."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import DeepnoteError
from .exits import say
from .render import jsonable, print_json, print_table, run_record

if TYPE_CHECKING:
    from ..dataframes import DataFrameOutput
    from ..models import Run
    from ..outputs import Output
    from .common import Common

__all__ = ["Save", "print_run", "reason_of", "text_of"]

Save = Annotated[
    Path | None, typer.Option("--save", metavar="DIR", help="Put the images into this folder.", show_default=False)
]
SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg", "image/gif": "gif"}


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


def print_run(common: Common, run: Run, save: Path | None) -> None:
    """Print what a run put out, in the order of its blocks, and save its images if a folder is given."""
    shown = [_Shown(number, output, save) for number, output in enumerate(run.outputs, 1)]
    failure = run.failure
    if common.json:
        why = None if failure is None else jsonable(failure)
        print_json(run_record(run) | {"text": run.text(), "outputs": [each.record() for each in shown], "failure": why})
        return
    for each in shown:
        each.print()
    sys.stdout.flush()
    if failure is not None and failure.traceback:
        say(failure.traceback.rstrip("\n"))


class _Shown:
    """One output, and where its images are."""

    def __init__(self, number: int, output: Output, folder: Path | None) -> None:
        self._output = output
        self._images: list[dict[str, Any]] = []
        for mime, suffix in SUFFIXES.items():
            image = output.image(mime)
            if image is None:
                continue
            found: dict[str, Any] = {"mime": mime, "bytes": len(image)}
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                # A block's id comes from the service: it names no path.
                path = folder / f"{number:02}-{re.sub('[^A-Za-z0-9_-]', '_', output.block_id)[:64]}.{suffix}"
                path.write_bytes(image)
                found["file"] = str(path)
            self._images.append(found)

    def record(self) -> dict[str, Any]:
        """For a line of JSON; the bytes of images are left out."""
        output, table = self._output, self._output.dataframe
        found: dict[str, Any] = {"block_id": output.block_id, "output_type": output.output_type}
        found["text"] = output.text() or None
        if table is not None:
            found["dataframe"] = {"row_count": table.row_count, "rows": jsonable(table.records())}
        return found | ({"images": self._images} if self._images else {})

    def print(self) -> None:
        """For people."""
        table = self._output.dataframe
        if table is not None:
            _print_dataframe(table)
            return
        for image in self._images:
            sys.stdout.write(f"[{image['mime']}, {image['bytes'] / 1000:.1f} kB{_where(image.get('file'))}]\n")
        text = "" if self._images else self._output.text()
        if text:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")


def _where(file: str | None) -> str:
    return "; --save DIR keeps it" if file is None else f", in {file}"


def _print_dataframe(table: DataFrameOutput) -> None:
    rows = [{name: _value(value) for name, value in row.items()} for row in table.records()]
    print_table(table.column_names, rows, verbatim=True)
    if table.is_truncated:
        sys.stdout.write(f"({len(rows)} of {table.row_count} rows)\n")


def _value(value: Any) -> Any:
    return value if value is None or isinstance(value, str | list | dict) else str(value)

"""Files that are whole whenever they are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Lets a file be written under another name, which becomes `path` once all is written.

    Until then, whatever ends the process or, with `flush`, the machine, `path` is what it was.

    Args:
        path: the file to be.
        flush: whether to wait until the disk has it, which takes milliseconds: too long for each of
            thousands of small files that are made again as easily.

    Yields:
        The file to write; it is removed where an exception leaves the block.

    Raises:
        OSError: the file cannot be flushed or renamed.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        yield unfinished
        if flush:
            _flush(unfinished)
        unfinished.replace(path)
        if flush:
            _flush(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that could not be used: named, counted, and passed over."""

from __future__ import annotations

import warnings

from hpvod.data.clip import DataError


class SkippedWarning(UserWarning):
    """A file of a data set was skipped; the message names it and says why."""


class Skipped:
    """What was skipped in this process; each problem counts once, however often it is met.

    Attributes:
        messages: One a problem, in the order in which they were met.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._met: set[str] = set()

    def __len__(self) -> int:
        """Number of files skipped."""
        return len(self.messages)

    def add(self, error: DataError) -> None:
        """Count the file that `error` names, and warn of it the first time."""
        message = str(error)
        if message not in self._met:
            self._met.add(message)
            self.messages.append(message)
            warnings.warn(f"skipped {message}", SkippedWarning, stacklevel=2)

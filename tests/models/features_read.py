"""What a detector's detection network is given."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

from hpvod.detector import VideoDetector


@contextmanager
def features_read():
    """A list to which copies of the features are added, turn by turn, while it lasts."""
    read = []
    detect = VideoDetector._detect

    def spy(detector, network, feature):
        read.append(feature.clone())
        return detect(detector, network, feature)

    with patch.object(VideoDetector, "_detect", spy):
        yield read

from __future__ import annotations

import sys
from pathlib import Path

# Last, so that an installed hpvod goes before the sources.
sys.path.append(str(Path(__file__).parents[2]))

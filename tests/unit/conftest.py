"""Modules of functions that unit tests import, as the host does: from the function's own directory."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "functions" / "agent-invoke"))

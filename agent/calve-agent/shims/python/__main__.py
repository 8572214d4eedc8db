"""Calve's Python runtime: loads one handler and calls it for each event the agent sends."""

import os
import sys

# This folder leads sys.path because the interpreter runs it. The function's code takes that place; ours comes last, so
# that a module the function brings (a vendored snapshot_restore_py) wins over ours.
_ours = sys.path.pop(0)
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
sys.path.append(_ours)

from calve_runtime import serve  # noqa: E402

serve()

"""AWS's runtime client for Python, unchanged, as a `bootstrap` in the zip file.

`bootstrap` wins over a runtime's own loader whatever the runtime is called, and the image of `python3.11` is the one
that has a Python: that of `provided.al2023` has none.
"""

import os
import pathlib

from host import call, client, create, failed, package, step

NAME = "ric"
PARTS = ("awslambdaric", "simplejson", "snapshot_restore_py.py", "runtime_client*.so")
BOOTSTRAP = """#!/bin/sh
export PYTHONPATH="$LAMBDA_TASK_ROOT"
exec python3.11 -m awslambdaric "$_HANDLER"
"""
APP = """
import sys
from snapshot_restore_py import register_after_restore, register_before_snapshot

hooks = []
register_before_snapshot(hooks.append, "before")
register_after_restore(hooks.append, "after")

def handler(event, context):
    return {
        "sum": sum(event["numbers"]),
        "request": context.aws_request_id,
        "client": "awslambdaric" in sys.modules,
        "hooks": hooks,
    }
"""


def vendored():
    """The client's files as the zip file has them."""
    folder = pathlib.Path(os.environ["CALVE_TEST_CLIENTS"])
    files = {}
    for part in PARTS:
        found = list(folder.glob(part))
        assert found, f"no {part} in {folder}"
        for top in found:
            for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
                if path.is_file() and "__pycache__" not in path.parts:
                    files[str(path.relative_to(folder))] = path.read_bytes()
    return files


def main():
    host = client()
    files = {**vendored(), "app.py": APP, "bootstrap": BOOTSTRAP}
    create(host, NAME, package(files, executable=["bootstrap"]), MemorySize=512)
    step("CreateFunction with awslambdaric as its bootstrap")
    for n in range(5):
        result = call(host, NAME, {"numbers": [n, 2, 40]})
        assert result["sum"] == n + 42 and result["client"] is True, result
        assert result["hooks"] == ["before", "after"], "each clone was frozen and thawed once"
    _, error = failed(host, NAME, {})
    assert error["errorType"] == "KeyError", error
    assert any("app.py" in line for line in error["stackTrace"]), error
    step("calls that succeed, and one that fails")
    host.delete_function(FunctionName=NAME)
    print("passed")


if __name__ == "__main__":
    main()

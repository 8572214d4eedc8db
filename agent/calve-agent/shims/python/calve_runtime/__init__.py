"""The loop: one request of the agent, one answer.

The frames are described in the agent's source, `runtime/shim.rs`.
"""

import importlib
import json
import os
import sys

from . import context, freeze, loader
from .link import Link

# AWS Lambda's bound for a response, in bytes.
MAX_RESULT = 6 << 20


def serve():
    """Loads the handler, then serves until the agent closes the socket."""
    sys.stdout.reconfigure(line_buffering=True)
    link = Link(3)
    context.set_up_logging()
    # Started before its function is known, this process becomes that function's later.
    preloaded = os.environ.pop("CALVE_PRELOAD", None)
    handler = None if preloaded else load(link)
    link.send(b"R")
    while True:
        kind, payload = link.receive()
        if kind == b"I":
            answer(link, handler, payload)
        elif kind == b"L":
            become_function(json.loads(payload))
            handler = load(link)
            link.send(b"R")
        elif kind == b"F":
            run_before_snapshot(link)
        elif kind == b"S":
            freeze.settle()
            if freeze.has_threads():
                freeze.stand_still(link)
            else:
                link.send(b"S")
        elif kind == b"T":
            become_clone(link)


def load(link):
    """The handler; without one, this process ends."""
    try:
        return loader.load(os.environ["_HANDLER"])
    except loader.InitError as error:
        fail_init(link, error.as_json())
    except Exception as error:
        fail_init(link, loader.describe(error))


def become_function(env):
    """Takes a function's environment, and looks anew for what there is to import."""
    os.environ.clear()
    os.environ.update(env)
    # The code has been mounted over the folder that this process was started in.
    os.chdir(os.environ["LAMBDA_TASK_ROOT"])
    # As a new process would: layers come behind the function's own folder and before all else. A function that sets this
    # by itself has a process of its own.
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in folders if folder]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def fail_init(link, error):
    """Reports why there is no handler, and ends."""
    sys.stdout.flush()
    link.send_json(b"E", error)
    # Threads that the module has started must not keep the process.
    os._exit(1)


def answer(link, handler, payload):
    """Calls the handler for one event."""
    header, _, event = payload.partition(b"\n")
    request = context.begin(json.loads(header))
    try:
        event = json.loads(event)
    except (ValueError, RecursionError, MemoryError) as error:
        message = f"Unable to unmarshal input: {error}"
        link.send_json(b"X", {"errorType": "Runtime.UnmarshalError", "errorMessage": message, "stackTrace": []})
        return
    # SystemExit and KeyboardInterrupt are not for us: they end the process, and the agent tells how.
    try:
        value = handler(event, request)
    except Exception as error:
        flush()
        link.send_json(b"X", loader.describe(error))
        return
    flush()
    try:
        result = encode(value)
    except Exception as error:
        message = f"Unable to marshal response: {error}"
        link.send_json(b"X", {"errorType": "Runtime.MarshalError", "errorMessage": message, "stackTrace": []})
        return
    if len(result) > MAX_RESULT:
        message = f"Response payload size exceeded maximum allowed payload size ({MAX_RESULT} bytes)."
        error = {"kind": "result-too-large", "errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
        link.send_json(b"X", error)
        return
    link.send(b"V", result)


def encode(value):
    """The value as JSON. NaN and the infinities are refused: they are no JSON, whatever Python's default says."""
    return json.dumps(value, allow_nan=False, default=encode_decimal).encode("utf-8", "surrogatepass")


def encode_decimal(value):
    """Decimals as numbers, as AWS's runtime writes them (DynamoDB returns every number as one)."""
    # Whoever returns one has imported its module.
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def run_before_snapshot(link):
    try:
        count = freeze.before_snapshot()
    except Exception as error:
        flush()
        link.send_json(b"H", loader.describe(error))
        return
    flush()
    link.send(b"F", str(count).encode())


def become_clone(link):
    freeze.reseed()
    if not freeze.has_after_restore():
        # The agent knows and does not wait.
        return
    try:
        freeze.after_restore()
    except Exception as error:
        flush()
        link.send_json(b"H", loader.describe(error))
        return
    flush()
    link.send(b"T")


def flush():
    """What was printed leaves before the answer does."""
    for stream in (sys.stdout, sys.stderr):
        # User code may have closed or replaced them.
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass

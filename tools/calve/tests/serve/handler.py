"""The function of `lifecycle.py`: the event says what it does. CODE is replaced before it is packed."""

import os
import sys
import time

CODE = "one"


def handler(event, context):
    do = event.get("do")
    if do == "raise":
        raise ValueError("raised as asked")
    if do == "exit":
        sys.exit(3)
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "flood":
        print("x" * 10_000)
    print("saw", event.get("n"))
    return {
        "n": event.get("n"),
        "code": CODE,
        "version": context.function_version,
        "request": context.aws_request_id,
        "memory": context.memory_limit_in_mb,
        "stage": os.environ.get("STAGE"),
    }

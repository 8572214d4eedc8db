"""One function for every test: the event says what it does."""

import os
import random
import sys
import time
import uuid

CALLS = 0


def handler(event, context):
    global CALLS
    CALLS += 1
    do = event.get("do", "echo") if isinstance(event, dict) else "echo"
    return ACTIONS[do](event, context)


def echo(event, context):
    return event


def about(event, context):
    return {
        "calls": CALLS,
        "random": random.random(),
        "uuid": str(uuid.uuid4()),
        "time": time.time(),
        "stage": os.environ.get("STAGE"),
        "memory": context.memory_limit_in_mb,
        "remaining_ms": context.get_remaining_time_in_millis(),
    }


def say(event, context):
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    return "said"


def fail(event, context):
    raise KeyError("width")


def loop(event, context):
    while True:
        pass


def leave(event, context):
    os._exit(7)


def eat(event, context):
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(4096)) * 1024)


def flood(event, context):
    line = "x" * 1023 + "\n"
    for _ in range(50 * 1024):
        sys.stdout.write(line)
    return "flooded"


def largest(event, context):
    return "y" * (6 * 1024 * 1024 - 2)


def too_large(event, context):
    return "y" * (6 * 1024 * 1024)


def no_json(event, context):
    return object()


ACTIONS = {
    "echo": echo,
    "about": about,
    "say": say,
    "fail": fail,
    "loop": loop,
    "leave": leave,
    "eat": eat,
    "flood": flood,
    "largest": largest,
    "too_large": too_large,
    "no_json": no_json,
}

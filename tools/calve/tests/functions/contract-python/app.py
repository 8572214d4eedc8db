"""What a clone has been promised, told from inside. Nothing here knows of Calve but by the hooks' package."""

import os
import random
import secrets
import ssl
import threading
import time
import uuid

import numpy
from snapshot_restore_py import register_after_restore, register_before_snapshot

# Generators that were there before the freeze, and have been used.
random.seed(1)
numpy.random.seed(1)
ssl.RAND_bytes(16)
uuid.uuid1()

TRAIL = []
FIRST = {}
DRAWN = []
CALLS = 0


@register_before_snapshot
def before_first():
    TRAIL.append("before 1")
    FIRST.update(frozen_at=time.monotonic())


@register_before_snapshot
def before_second():
    TRAIL.append("before 2")


@register_after_restore
def after_first():
    # The first code of the function's in a clone: this early all must be as promised.
    TRAIL.append("after 1")
    FIRST.update(now=time.time(), monotonic=time.monotonic(), draws=draws())
    DRAWN.clear()


@register_after_restore
def after_second():
    TRAIL.append("after 2")


def draws():
    return {
        "random": random.getrandbits(64),
        "secrets": secrets.token_hex(8),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "urandom": os.urandom(8).hex(),
        "openssl": ssl.RAND_bytes(8).hex(),
        "numpy": int(numpy.random.randint(1 << 62)),
        "default_rng": int(numpy.random.default_rng().integers(1 << 62)),
    }


def draw_for_ever():
    """Keeps the first few draws since it was last told to begin anew."""
    while True:
        drawn = random.getrandbits(64)
        if len(DRAWN) < 50:
            DRAWN.append(drawn)


threading.Thread(target=draw_for_ever, daemon=True).start()


def handler(event, context):
    global CALLS
    CALLS += 1
    while len(DRAWN) < 50:
        time.sleep(0.001)
    with open("/run/calve/machine-id") as file:
        machine_id = file.read().strip()
    marks = [path for path in ("/tmp/mark", "/var/tmp/mark") if os.path.exists(path)]
    # Not in the call before the freeze, whose files every clone has.
    for path in ("/tmp/mark", "/var/tmp/mark") if CALLS > 1 else ():
        with open(path, "w") as file:
            file.write("a clone was here")
    return {
        "trail": TRAIL,
        "calls": CALLS,
        "first": FIRST,
        "draws": draws(),
        "thread": DRAWN[:50],
        "now": time.time(),
        "machine": machine_id,
        "marks": marks,
        "kernel": kernel_says() if CALLS > 1 else [],
    }


def kernel_says():
    """What the guest's kernel has said since the freeze that matters: lockups, stalls, clocks."""
    words = ("lockup", "stall", "hung", "unstable", "backwards", "Call Trace", "BUG")
    lines = []
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return [str(error)]
    while True:
        try:
            record = os.read(log, 8192).decode(errors="replace")
        except BlockingIOError:
            break
        # Priority, number and microseconds since boot come first.
        at = int(record.split(",", 3)[2]) / 1e6
        if at >= FIRST["frozen_at"] and any(word in record for word in words):
            lines.append(record)
    os.close(log)
    return lines

"""What the tests in the lab ask of a guest."""

import os
import random
import socket
import time
import uuid

calls = 0


def handler(event, context):
    global calls
    calls += 1
    return globals()["do_" + event.get("do", "echo")](event)


def do_echo(event):
    print("an echo")
    return {"echo": event, "calls": calls}


def do_identity(event):
    with open("/run/calve/machine-id") as file:
        machine = file.read().strip()
    return {
        "machine": machine,
        "random": random.random(),
        "uuid": str(uuid.uuid4()),
        "urandom": os.urandom(16).hex(),
        "time": time.time(),
    }


def do_fail(event):
    raise KeyError("missing")


def do_loop(event):
    while True:
        pass


def do_exit(event):
    os._exit(7)


def do_large(event):
    return "x" * event["bytes"]


def do_dial(event):
    stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        stream.connect((socket.VMADDR_CID_HOST, event["port"]))
    except OSError as error:
        return {"refused": error.errno}
    stream.sendall(b"from the guest")
    stream.shutdown(socket.SHUT_WR)
    return {"answer": stream.makefile().read()}

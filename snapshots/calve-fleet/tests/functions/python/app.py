"""What the tests in the lab ask of a guest."""

import os
import random
import secrets
import socket
import ssl
import threading
import time
import uuid

calls = 0
started = time.monotonic()
kept = []


def handler(event, context):
    global calls
    calls += 1
    return globals()["do_" + event.get("do", "echo")](event)


KEPT = []


def do_keep(event):
    """Memory that is written and stays."""
    KEPT.append(random.randbytes(1 << 20) * event["mib"])
    return len(KEPT[-1])


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
        "secrets": secrets.token_hex(8),
        "openssl": ssl.RAND_bytes(8).hex(),
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


def do_mess(event):
    """Leaves behind what a reset must undo."""
    folder = "/tmp/mess"
    found = len(os.listdir(folder)) if os.path.isdir(folder) else 0
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/file", "w") as file:
        file.write("x" * 100_000)
    kept.append(bytearray(os.urandom(1024)) * 8192)
    kept.append(open("/etc/passwd"))
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    stream = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    stream.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
    stream.listen()
    kept.append(stream)
    return {"found": found, "calls": calls}


def do_grow(event):
    """Uses memory for a moment."""
    return len(bytearray(b"x") * (event["mib"] << 20))


def do_clocks(event):
    return {"since_start": time.monotonic() - started, "wall": time.time()}


def do_disks(event):
    """Tries to write to the images: the code's files, and the root's disk below its overlay."""
    refused = []
    for path, mode in (("/var/task/calve-was-here", "w"), ("/dev/vda", "r+b")):
        try:
            open(path, mode).close()
        except OSError:
            refused.append(path)
    return refused


def do_flush(event):
    """Writes to a disk of its own, and waits until the host has it."""
    with open(event["disk"], "r+b", buffering=0) as disk:
        disk.write(b"flushed" * 1024)
        os.fsync(disk)
        disk.seek(0)
        return disk.read(7).decode()


def do_beyond(event):
    """Reads from the beginning of a disk past the end of what is on it."""
    with open(event["disk"], "rb") as disk:
        data = disk.read(1 << 20)
    return {"bytes": len(data), "zeros": not any(data[-4096:])}

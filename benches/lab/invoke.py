#!/usr/bin/env python3
"""A call through `calve serve` against `calve run`, both to the first output of one function, in turns.

    cargo xtask lab up
    cargo xtask lab exec -- python3 benches/lab/invoke.py
    cargo xtask lab down

`calve run` is timed as it says itself (`first_output_us`: shell given content -> first byte of the answer), a call from
the request's first byte to the answer's last, over HTTP. Neither waits for a shell: between two calls there is time for
the birth of the next. The calls from which the host learns what a version touches come before the first turn. `calve run`
has two snapshots: one built as the host builds its own, from a function alone, and one that was warmed up with the
event, which nobody brings along who creates a function by AWS Lambda's API.
"""

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

TURNS, CALLS = 6, 10
# Calls before the first that counts.
FIRST = 4
PAUSE_S = 0.8
EVENT = json.dumps({"name": "floe"})
CODE = 'def handler(event, context):\n    return {"hello": event.get("name")}\n'


def calve(*arguments):
    done = subprocess.run(["calve", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"calve {arguments[0]}: {done.stderr}")
    return done.stdout


def run(snapshot):
    """Milliseconds to the first output, of each call."""
    lines = calve("run", snapshot, "--event", EVENT, "--count", str(CALLS), "--json").splitlines()
    return [json.loads(line)["first_output_us"] / 1000 for line in lines]


def invoke(address, key, failures, calls=CALLS):
    """Milliseconds to the whole answer, of each call."""
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"Authorization": f"Bearer {key}"}
    took = []
    for _ in range(calls):
        time.sleep(PAUSE_S)
        began = time.monotonic()
        try:
            connection.request("POST", "/2015-03-31/functions/hello/invocations", EVENT, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            # The host may have closed a connection on which nothing was said for a while.
            failures.append(repr(error))
            connection.close()
            continue
        if response.status != 200 or json.loads(answer) != {"hello": "floe"}:
            failures.append(f"{response.status} {answer[:200]}")
            continue
        took.append((time.monotonic() - began) * 1000)
    return took


def wait_until_ready(address):
    for _ in range(600):
        try:
            return urllib.request.urlopen(f"http://{address}/healthz").read()
        except OSError:
            time.sleep(0.1)
    sys.exit("calve serve does not get ready")


def show(name, took):
    p99 = statistics.quantiles(took, n=100)[98] if len(took) > 1 else took[0]
    print(f"{name:10} p50 {statistics.median(took):7.1f} ms   p99 {p99:7.1f} ms   n {len(took)}")


def main():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.chdir(folder)
        os.mkdir("hello")
        with open("hello/app.py", "w") as file:
            file.write(CODE)
        address = "127.0.0.1:9470"
        os.environ.update(CALVE_DATA=f"{folder}/data", CALVE_STORE=f"{folder}/store")
        key = json.loads(calve("key", "create", "--tenant", "bench", "--json"))
        key = f"{key['access_key_id']}:{key['secret_access_key']}"
        os.environ["CALVE_KEY"] = key
        what = ["--code", "hello", "--runtime", "python3.11", "--handler", "app.handler", "--memory", "128"]
        calve("snapshot", "build", *what, "plain")
        calve("snapshot", "build", *what, "--warm", EVENT, "warm")
        with open("log", "w") as log:
            host = subprocess.Popen(["calve", "serve", "--listen", address], stdout=log, stderr=log)
        try:
            wait_until_ready(address)
            calve("function", "create", "hello", *what)
            failures, calls = [], []
            runs = {"plain": [], "warm": []}
            invoke(address, key, failures, FIRST)
            for _ in range(TURNS):
                for snapshot, took in runs.items():
                    took += run(snapshot)
                calls += invoke(address, key, failures)
        finally:
            host.send_signal(signal.SIGTERM)
            host.wait()
    show("invoke", calls)
    for snapshot, took in runs.items():
        show(f"run {snapshot}", took)
        ratio = statistics.median(calls) / statistics.median(took)
        print(f"invoke is {ratio:.2f} times that")
    print(f"{len(failures)} failures {failures[:3]}")


if __name__ == "__main__":
    main()

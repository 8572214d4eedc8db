"""What the programs share: a client of the function host, zip files, steps, and what must be refused.

The environment says where: CALVE_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
"""

import io
import json
import os
import time
import urllib.request
import zipfile

import boto3
from botocore.config import Config

ENDPOINT = os.environ["CALVE_ENDPOINT"]
KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]
ROLE = "arn:aws:iam::123456789012:role/any"
# Seconds in which whatever is waited for must come true: an emulated host is some 20 times slower than others.
LIMIT = 300


def client(key=KEY, secret=SECRET):
    """A client that tries once: a second try would hide what the first one met."""
    return boto3.client(
        "lambda",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            retries={"total_max_attempts": 1}, read_timeout=LIMIT, max_pool_connections=16
        ),
    )


def package(files, executable=()):
    """A zip file of {path: str or bytes}; some may be executed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if path in executable else 0o644) << 16
            archive.writestr(entry, content)
    return out.getvalue()


def step(text):
    """Tells that everything up to here was as it must be."""
    print(f"ok: {text}", flush=True)


def create(host, name, code, **more):
    """Creates a function and waits until it can be called. Returns the answer to CreateFunction."""
    settings = {"Runtime": "python3.11", "Handler": "app.handler", "Role": ROLE, "Timeout": 60}
    settings.update(more)
    created = host.create_function(FunctionName=name, Code={"ZipFile": code}, **settings)
    host.get_waiter("function_active_v2").wait(FunctionName=name)
    return created


def call(host, name, event, **more):
    """Calls a function and asserts that it did not fail. Returns its result."""
    answer = host.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    result = json.load(answer["Payload"])
    assert "FunctionError" not in answer, (event, answer, result)
    assert answer["StatusCode"] == 200, answer
    return result


def failed(host, name, event, **more):
    """Calls a function and asserts that it failed. Returns kind and error object."""
    answer = host.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    error = json.load(answer["Payload"])
    assert answer["StatusCode"] == 200, answer
    assert answer.get("FunctionError") in ("Handled", "Unhandled"), (event, answer, error)
    return answer["FunctionError"], error


def refused(host, exception, action, **arguments):
    """Asserts that an action is refused with exactly this exception. Returns the error's response."""
    kind = getattr(host.exceptions, exception)
    try:
        answer = getattr(host, action)(**arguments)
    except kind as error:
        assert error.response["Error"]["Code"] == exception, error.response
        assert error.response["Error"]["Message"], error.response
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 400, error.response
        return error.response
    raise AssertionError(f"{action} was not refused with {exception}: {answer}")


def until(what, holds):
    """Looks again and again until `holds` returns something true, which it returns."""
    deadline = time.monotonic() + LIMIT
    while True:
        seen = holds()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.2)


def queue(name):
    """What is known of a function's asynchronous calls: {"waiting", "dead", "done"}."""
    request = urllib.request.Request(f"{ENDPOINT}/calve/v1/functions/{name}/queue")
    request.add_header("Authorization", f"Bearer {KEY}:{SECRET}")
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        return json.load(answer)

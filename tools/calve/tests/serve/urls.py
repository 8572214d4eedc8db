"""Steps of `lifecycle.py`: a streamed response, and calls by URL.

One function is a `bootstrap` of its own that speaks the Runtime API, since AWS's client for Python does not stream: see
BOOTSTRAP. The other one is a handler of Node. What their event has in `say` they post in chunks, and fail after them if there
is an `error`.
"""

import json
import urllib.error
import urllib.parse
import urllib.request

from host import ENDPOINT, KEY, LIMIT, SECRET, call, create, package, refused, step

NAME = "streams"
NODE = "streams-node"
BOOTSTRAP = """#!/bin/sh
exec python3.11 "$LAMBDA_TASK_ROOT/stream.py"
"""
STREAM = r'''
import base64
import http.client
import json
import os

HOST = os.environ["AWS_LAMBDA_RUNTIME_API"]
BASE = "/2018-06-01/runtime/invocation/"
HEAD = "application/vnd.awslambda.http-integration-response"


def ask(method, path, **more):
    connection = http.client.HTTPConnection(HOST)
    connection.request(method, BASE + path, **more)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def stream(request, parts, kind, error):
    connection = http.client.HTTPConnection(HOST)
    connection.putrequest("POST", BASE + request + "/response")
    connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", kind)
    connection.putheader("Trailer", "Lambda-Runtime-Function-Error-Type")
    connection.putheader("Trailer", "Lambda-Runtime-Function-Error-Body")
    connection.endheaders()
    for part in parts:
        connection.send(b"%x\r\n%s\r\n" % (len(part), part))
    connection.send(b"0\r\n")
    if error:
        body = json.dumps({"errorType": "Late", "errorMessage": error})
        body = base64.b64encode(body.encode())
        connection.send(b"Lambda-Runtime-Function-Error-Type: Late\r\n")
        connection.send(b"Lambda-Runtime-Function-Error-Body: " + body + b"\r\n")
    connection.send(b"\r\n")
    connection.getresponse().read()
    connection.close()


while True:
    answer, event = ask("GET", "next")
    request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(event)
    print("told", flush=True)
    context = event.get("requestContext", {})
    if "authorizer" in context:
        whole = {"statusCode": 202, "body": event["rawPath"] + event["rawQueryString"]}
        ask("POST", request + "/response", body=json.dumps(whole))
    elif event.get("version") == "2.0":
        prelude = {"statusCode": 201, "headers": {"x-path": event["rawPath"]}, "cookies": ["a=1"]}
        text = event.get("body", "").encode()
        parts = [json.dumps(prelude).encode(), bytes(8), b"said: ", text]
        stream(request, [part for part in parts if part], HEAD, None)
    elif "say" in event:
        stream(request, [part.encode() for part in event["say"]], "text/plain", event.get("error"))
    else:
        ask("POST", request + "/response", body=json.dumps({"whole": event}))
'''


HANDLER = r"""
const { once } = require('events');
exports.handler = awslambda.streamifyResponse(async (event, out) => {
  console.log('told');
  if (event.version === '2.0') {
    const head = { statusCode: 201, headers: { 'x-path': event.rawPath }, cookies: ['a=1'] };
    out = awslambda.HttpResponseStream.from(out, head);
    out.write('said: ');
    out.end(event.body);
    return;
  }
  out.setContentType('text/plain');
  if (!('say' in event)) return void out.end(JSON.stringify({ whole: event }));
  for (const part of event.say) if (!out.write(part)) await once(out, 'drain');
  if (event.error) throw Object.assign(new Error(event.error), { name: 'Late' });
  out.end();
});
"""


def streamed(host, name, event, **more):
    """Calls a function. Returns its payload and the last event."""
    answer = host.invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(event), **more
    )
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST"), answer
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream", answer
    events = list(answer["EventStream"])
    assert all("PayloadChunk" in event for event in events[:-1]), events
    payload = b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1])
    return payload, events[-1]["InvokeComplete"]


def streams(host, name):
    payload, complete = streamed(host, name, {"say": ["one ", "two ", "three"]}, LogType="Tail")
    assert payload == b"one two three", payload
    assert "ErrorCode" not in complete and complete["LogResult"], complete
    long = ["x" * 50_000] * 30
    payload, complete = streamed(host, name, {"say": long})
    assert payload == "".join(long).encode(), len(payload)
    payload, complete = streamed(host, name, {"say": ["half"], "error": "too late"})
    assert (payload, complete["ErrorCode"]) == (b"half", "Late"), (payload, complete)
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "too late", complete
    payload, complete = streamed(host, name, {"n": 1})
    assert json.loads(payload) == {"whole": {"n": 1}} and "ErrorCode" not in complete, complete
    refused(
        host,
        "ResourceNotFoundException",
        "invoke_with_response_stream",
        FunctionName="nobody",
        Payload="{}",
    )
    step(f"InvokeWithResponseStream of {name}, to its end and to an error in its middle")


def ask(url, body, headers=None):
    """A request to the address of a function, whatever this machine's resolver says of `localhost`."""
    host = urllib.parse.urlsplit(url).netloc
    path = urllib.parse.urlsplit(url).path
    request = urllib.request.Request(ENDPOINT + path, data=body.encode(), headers=headers or {})
    request.add_unredirected_header("Host", host)
    request.add_header("Content-Type", "text/plain")
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def addresses(host):
    of = {"FunctionName": NAME}
    refused(host, "ResourceNotFoundException", "get_function_url_config", **of)
    made = host.create_function_url_config(
        **of, AuthType="NONE", InvokeMode="RESPONSE_STREAM", Cors={"AllowOrigins": ["*"]}
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201, made
    assert made["FunctionArn"].endswith(f":function:{NAME}"), made
    assert (made["AuthType"], made["InvokeMode"]) == ("NONE", "RESPONSE_STREAM"), made
    url = made["FunctionUrl"]
    refused(host, "ResourceConflictException", "create_function_url_config", **of, AuthType="NONE")
    status, headers, body = ask(url + "some/path", "hello", {"Origin": "https://a.example"})
    assert (status, body) == (201, b"said: hello"), (status, body)
    assert (headers["x-path"], headers["set-cookie"]) == ("/some/path", "a=1"), headers
    assert headers["access-control-allow-origin"] == "*", headers
    step("CreateFunctionUrlConfig, and a streamed response of everybody's")

    changed = host.update_function_url_config(**of, AuthType="AWS_IAM", InvokeMode="BUFFERED")
    assert (changed["FunctionUrl"], changed["AuthType"]) == (url, "AWS_IAM"), changed
    assert host.get_function_url_config(**of)["Cors"] == {"AllowOrigins": ["*"]}
    assert ask(url, "hello")[0] == 403, "it has no key"
    signed(url)
    listed = host.list_function_url_configs(**of)["FunctionUrlConfigs"]
    assert [config["FunctionUrl"] for config in listed] == [url], listed
    host.delete_function_url_config(**of)
    refused(host, "ResourceNotFoundException", "get_function_url_config", **of)
    assert ask(url, "hello")[0] == 403
    step("UpdateFunctionUrlConfig, a signed request, DeleteFunctionUrlConfig")


def signed(url):
    """A request that botocore signs gets to the function."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest("POST", url + "a%20b?x=1&y=2", data="hello")
    request.headers["Content-Type"] = "text/plain"
    SigV4Auth(Credentials(KEY, SECRET), "lambda", "us-east-1").add_auth(request)
    split = urllib.parse.urlsplit(url)
    sent = urllib.request.Request(ENDPOINT + "/a%20b?x=1&y=2", data=b"hello")
    for name, value in request.headers.items():
        sent.add_header(name, value)
    sent.add_unredirected_header("Host", split.netloc)
    with urllib.request.urlopen(sent, timeout=LIMIT) as answer:
        body = answer.read()
        assert (answer.status, body) == (202, b"/a%20bx=1&y=2"), (answer.status, body)


def of_node(host):
    """The same of a handler that our shim calls."""
    create(host, NODE, package({"app.js": HANDLER}), Runtime="nodejs20.x")
    streams(host, NODE)
    assert call(host, NODE, {"n": 2}) == {"whole": {"n": 2}}, "a plain call gets it whole"
    of = {"FunctionName": NODE}
    made = host.create_function_url_config(**of, AuthType="NONE", InvokeMode="RESPONSE_STREAM")
    status, headers, body = ask(made["FunctionUrl"] + "some/path", "hello")
    assert (status, body) == (201, b"said: hello"), (status, body)
    assert (headers["x-path"], headers["set-cookie"]) == ("/some/path", "a=1"), headers
    host.delete_function(FunctionName=NODE)
    step("a streamed response of a handler of Node by its URL")


def main(host):
    files = {"bootstrap": BOOTSTRAP, "stream.py": STREAM}
    create(host, NAME, package(files, executable=["bootstrap"]))
    streams(host, NAME)
    addresses(host)
    host.delete_function(FunctionName=NAME)
    of_node(host)

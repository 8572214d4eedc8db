"""The life of a function as boto3 sees it, from CreateFunction to DeleteFunction."""

import base64
import hashlib
import json
import pathlib
import re

import settings
import urls
from botocore.exceptions import ClientError
from host import call, client, create, failed, package, queue, refused, step, until

NAME = "lifecycle"
CALLS = 100
HANDLER = pathlib.Path(__file__).with_name("handler.py").read_text()


def code(word):
    """The function's zip file, with a word that its results name."""
    return package({"app.py": HANDLER.replace('CODE = "one"', f'CODE = "{word}"')})


def made(host):
    created = create(host, NAME, code("one"), Description="a life", MemorySize=128)
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 201, created
    assert created["State"] in ("Pending", "Active"), created
    arn = created["FunctionArn"]
    assert re.fullmatch(rf"arn:aws:lambda:us-east-1:\d{{12}}:function:{NAME}", arn), arn
    got = host.get_function(FunctionName=NAME)["Configuration"]
    assert (got["State"], got["LastUpdateStatus"], got["Version"]) == (
        "Active",
        "Successful",
        "$LATEST",
    ), got
    assert got["CodeSha256"] == base64.b64encode(hashlib.sha256(code("one")).digest()).decode(), got
    assert (got["CodeSize"], got["Description"]) == (len(code("one")), "a life"), got
    assert (got["Runtime"], got["Handler"], got["Timeout"]) == ("python3.11", "app.handler", 60), got
    step("CreateFunction, function_active_v2, GetFunction")

    again = {"Runtime": "python3.11", "Handler": "a.b", "Role": created["Role"]}
    again["Code"] = {"ZipFile": code("one")}
    refused(host, "ResourceConflictException", "create_function", FunctionName=NAME, **again)
    again["Runtime"] = "cobol85"
    refused(
        host, "InvalidParameterValueException", "create_function", FunctionName="other", **again
    )
    again.update(Runtime="python3.11", Code={"ZipFile": b"no zip"})
    refused(
        host, "InvalidParameterValueException", "create_function", FunctionName="other", **again
    )
    for stranger in (client(secret="x" * 40), client(key="AKIAAAAAAAAAAAAAAAAA")):
        try:
            stranger.list_functions()
            raise AssertionError("a stranger was let in")
        except ClientError as error:
            known = ("InvalidSignatureException", "UnrecognizedClientException")
            assert error.response["Error"]["Code"] in known, error.response
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403, error.response
    step("what cannot be created, and who is unknown, is refused")


def synchronous(host):
    requests = set()
    for n in range(CALLS):
        answer = host.invoke(FunctionName=NAME, Payload=json.dumps({"n": n}), LogType="Tail")
        result = json.load(answer["Payload"])
        assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST"), answer
        assert (result["n"], result["code"], result["memory"]) == (n, "one", "128"), result
        assert result["request"] == answer["ResponseMetadata"]["RequestId"], answer
        requests.add(result["request"])
        logs = base64.b64decode(answer["LogResult"]).decode()
        assert f"saw {n}\n" in logs, logs
    assert len(requests) == CALLS
    step(f"Invoke, {CALLS} times, each with its own logs")

    flood = host.invoke(
        FunctionName=NAME, Payload=json.dumps({"do": "flood", "n": 7}), LogType="Tail"
    )
    logs = base64.b64decode(flood["LogResult"])
    assert len(logs) <= 4096 and b"saw 7\n" in logs, logs
    assert "LogResult" not in host.invoke(FunctionName=NAME, Payload="{}", LogType="None")
    refused(host, "InvalidRequestContentException", "invoke", FunctionName=NAME, Payload="{no json")
    large = json.dumps({"n": "x" * (7 << 20)})
    refused(host, "RequestTooLargeException", "invoke", FunctionName=NAME, Payload=large)
    refused(host, "ResourceNotFoundException", "invoke", FunctionName="nobody", Payload="{}")
    refused(host, "ResourceNotFoundException", "invoke", FunctionName=NAME, Qualifier="9")
    step("the tail of long logs; events that cannot be taken")


def asynchronous(host):
    before = queue(NAME)
    assert (before["waiting"], before["dead"]) == (0, 0), before
    for n in range(CALLS):
        answer = host.invoke(
            FunctionName=NAME, InvocationType="Event", Payload=json.dumps({"n": n})
        )
        assert (answer["StatusCode"], answer["Payload"].read()) == (202, b""), answer

    def ran():
        now = queue(NAME)
        assert now["dead"] == 0, now
        return now["waiting"] == 0 and now["done"] - before["done"] >= CALLS and now

    after = until("all events ran", ran)
    assert after["done"] - before["done"] == CALLS, (before, after)
    step(f"Invoke as Event, {CALLS} times, and all of them ran")

    answer = host.invoke(FunctionName=NAME, InvocationType="DryRun", Payload="{}")
    assert answer["StatusCode"] == 204, answer
    refused(
        host,
        "ResourceNotFoundException",
        "invoke",
        FunctionName="nobody",
        InvocationType="DryRun",
    )
    assert queue(NAME)["done"] == after["done"]
    step("Invoke as DryRun")


def update(host, word):
    """Replaces the code and waits until calls meet it."""
    updated = host.update_function_code(FunctionName=NAME, ZipFile=code(word))
    assert updated["LastUpdateStatus"] in ("InProgress", "Successful"), updated
    host.get_waiter("function_updated_v2").wait(FunctionName=NAME)
    assert call(host, NAME, {"n": 1})["code"] == word
    return updated


def publish(host, number, **more):
    published = host.publish_version(FunctionName=NAME, **more)
    assert published["Version"] == number, published
    assert published["FunctionArn"].endswith(f":{NAME}:{number}"), published
    host.get_waiter("published_version_active").wait(FunctionName=NAME, Qualifier=number)
    return published


def versions(host):
    update(host, "two")
    first = publish(host, "1", Description="the first")
    assert publish(host, "1")["CodeSha256"] == first["CodeSha256"], "nothing had changed"
    stale = host.get_function_configuration(FunctionName=NAME)["RevisionId"]
    update(host, "three")
    arguments = {"FunctionName": NAME, "ZipFile": code("four"), "RevisionId": stale}
    refused(host, "PreconditionFailedException", "update_function_code", **arguments)
    refused(
        host,
        "InvalidParameterValueException",
        "publish_version",
        FunctionName=NAME,
        CodeSha256=first["CodeSha256"],
    )
    publish(host, "2")
    for qualifier, word in (("1", "two"), ("2", "three"), ("$LATEST", "three")):
        result = call(host, NAME, {"n": 1}, Qualifier=qualifier)
        assert (result["code"], result["version"]) == (word, qualifier), result
    got = host.get_function_configuration(FunctionName=f"{NAME}:1")
    assert (got["Version"], got["Description"]) == ("1", "the first"), got
    step("UpdateFunctionCode, function_updated_v2, PublishVersion, published_version_active")


def executed(host, times):
    """Which versions answer at the alias."""
    seen = set()
    for n in range(times):
        answer = host.invoke(FunctionName=NAME, Qualifier="live", Payload=json.dumps({"n": n}))
        result = json.load(answer["Payload"])
        assert (result["n"], result["version"]) == (n, answer["ExecutedVersion"]), result
        seen.add(answer["ExecutedVersion"])
    return seen


def aliases(host):
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    alias = {"FunctionName": NAME, "Name": "live"}
    made = host.create_alias(**alias, FunctionVersion="1", RoutingConfig=weights)
    assert made["AliasArn"].endswith(f":function:{NAME}:live"), made
    assert (made["FunctionVersion"], made["RoutingConfig"]) == ("1", weights), made
    # Thirty calls that all go one way: once in 500 million runs.
    assert executed(host, 30) == {"1", "2"}
    shifted = host.update_alias(
        **alias, FunctionVersion="2", RoutingConfig={"AdditionalVersionWeights": {}}
    )
    assert shifted["FunctionVersion"] == "2" and not shifted.get("RoutingConfig"), shifted
    assert executed(host, 5) == {"2"}
    for name in (f"{NAME}:live", made["AliasArn"], made["AliasArn"].split(":", 4)[4]):
        assert call(host, name, {"n": 1})["version"] == "2", name
    assert host.get_alias(**alias)["RevisionId"] == shifted["RevisionId"]
    step("CreateAlias with weights, Invoke by it, UpdateAlias")

    refused(host, "ResourceConflictException", "create_alias", **alias, FunctionVersion="1")
    refused(
        host,
        "PreconditionFailedException",
        "update_alias",
        **alias,
        FunctionVersion="1",
        RevisionId=made["RevisionId"],
    )
    other = {"FunctionName": NAME, "Name": "other"}
    refused(host, "ResourceNotFoundException", "create_alias", **other, FunctionVersion="9")
    refused(host, "ResourceNotFoundException", "get_alias", **other)
    refused(host, "ResourceNotFoundException", "update_alias", **other, FunctionVersion="1")
    refused(
        host, "ResourceConflictException", "delete_function", FunctionName=NAME, Qualifier="2"
    )
    step("what aliases refuse")


def failures(host):
    _, error = failed(host, NAME, {"do": "raise"})
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "raised as asked"), error
    assert any("app.py" in line for line in error["stackTrace"]), error
    kind, error = failed(host, NAME, {"do": "exit"})
    assert (kind, error["errorType"]) == ("Unhandled", "Runtime.ExitError"), (kind, error)
    assert "exit status 3" in error["errorMessage"], error
    assert call(host, NAME, {"n": 5})["n"] == 5, "it answers as ever"
    step("a handler that raises, and one that exits")


def gone(host):
    host.delete_alias(FunctionName=NAME, Name="live")
    refused(host, "ResourceNotFoundException", "get_alias", FunctionName=NAME, Name="live")
    refused(host, "ResourceNotFoundException", "invoke", FunctionName=NAME, Qualifier="live")
    host.delete_function(FunctionName=NAME, Qualifier="1")
    refused(
        host, "ResourceNotFoundException", "get_function", FunctionName=NAME, Qualifier="1"
    )
    assert call(host, NAME, {"n": 6}, Qualifier="2")["version"] == "2", "only one version went"
    host.delete_function(FunctionName=NAME)
    for action in (
        "get_function",
        "get_function_configuration",
        "invoke",
        "publish_version",
        "list_aliases",
        "list_versions_by_function",
        "get_function_concurrency",
        "delete_function",
    ):
        refused(host, "ResourceNotFoundException", action, FunctionName=NAME)
    refused(
        host,
        "ResourceNotFoundException",
        "update_function_code",
        FunctionName=NAME,
        ZipFile=code("one"),
    )
    assert NAME not in [f["FunctionName"] for f in host.list_functions()["Functions"]]
    step("DeleteAlias, DeleteFunction, and nothing is there any more")


def main():
    host = client()
    made(host)
    synchronous(host)
    asynchronous(host)
    versions(host)
    aliases(host)
    failures(host)
    settings.configuration(host, NAME)
    settings.lists(host, NAME, code("other"))
    settings.concurrency(host, NAME)
    settings.provisioned(host, NAME)
    settings.event_invoke(host, NAME)
    urls.main(host)
    gone(host)
    print("passed")


if __name__ == "__main__":
    main()

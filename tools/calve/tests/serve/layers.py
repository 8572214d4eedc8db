"""Layers by boto3: published, listed, given to a function that imports from them, deleted."""

import base64
import hashlib
import re
import urllib.request

from host import KEY, SECRET, call, client, create, package, refused, step

CODE = """
import shared, lower, upper

def handler(event, context):
    return [shared.IS, lower.IS, upper.IS, open("/opt/note").read()]
"""


def layer(word):
    module = f"IS = '{word}'\n"
    return package({"python/shared.py": module, f"python/{word}.py": module, "note": word})


def published(host):
    first = host.publish_layer_version(
        LayerName="first",
        Description="below",
        Content={"ZipFile": layer("lower")},
        CompatibleRuntimes=["python3.11"],
        CompatibleArchitectures=["x86_64"],
        LicenseInfo="MIT",
    )
    assert first["ResponseMetadata"]["HTTPStatusCode"] == 201, first
    arn = first["LayerArn"]
    assert re.fullmatch(r"arn:aws:lambda:us-east-1:\d{12}:layer:first", arn), arn
    assert (first["LayerVersionArn"], first["Version"]) == (f"{arn}:1", 1), first
    assert (first["Description"], first["LicenseInfo"]) == ("below", "MIT"), first
    zip_file = layer("lower")
    digest = base64.b64encode(hashlib.sha256(zip_file).digest()).decode()
    assert first["Content"]["CodeSha256"] == digest, first
    assert first["Content"]["CodeSize"] == len(zip_file), first
    second = host.publish_layer_version(LayerName="second", Content={"ZipFile": layer("upper")})

    got = host.get_layer_version(LayerName="first", VersionNumber=1)
    by_arn = host.get_layer_version_by_arn(Arn=first["LayerVersionArn"])
    for one in (got, by_arn):
        del one["ResponseMetadata"]
    assert got == by_arn and got["CompatibleRuntimes"] == ["python3.11"], (got, by_arn)
    request = urllib.request.Request(got["Content"]["Location"])
    request.add_header("Authorization", f"Bearer {KEY}:{SECRET}")
    assert urllib.request.urlopen(request).read() == zip_file
    listed = host.list_layers()["Layers"]
    assert [one["LayerName"] for one in listed] == ["first", "second"], listed
    assert listed[0]["LatestMatchingVersion"]["LayerVersionArn"] == first["LayerVersionArn"], listed
    assert len(host.list_layers(CompatibleRuntime="python3.11")["Layers"]) == 1
    versions = host.list_layer_versions(LayerName="first")["LayerVersions"]
    assert [one["Version"] for one in versions] == [1], versions
    step("PublishLayerVersion, GetLayerVersion, GetLayerVersionByArn, ListLayers, ListLayerVersions")
    return first["LayerVersionArn"], second["LayerVersionArn"]


def used(host, lower, upper):
    created = create(host, "layered", package({"app.py": CODE}), Layers=[lower, upper])
    assert [one["Arn"] for one in created["Layers"]] == [lower, upper], created
    assert call(host, "layered", {}) == ["upper", "lower", "upper", "upper"]
    step("a function imports from its layers, of which the later one wins")

    updated = host.update_function_configuration(FunctionName="layered", Layers=[upper, lower])
    assert updated["LastUpdateStatus"] == "InProgress", updated
    host.get_waiter("function_updated_v2").wait(FunctionName="layered")
    assert call(host, "layered", {}) == ["lower", "lower", "upper", "lower"]
    step("UpdateFunctionConfiguration changes their order")


def deleted(host, lower, upper):
    host.delete_layer_version(LayerName="first", VersionNumber=1)
    gone = {"LayerName": "first", "VersionNumber": 1}
    refused(host, "ResourceNotFoundException", "get_layer_version", **gone)
    assert call(host, "layered", {}) == ["lower", "lower", "upper", "lower"]
    # A new build needs it once more.
    host.update_function_code(FunctionName="layered", ZipFile=package({"app.py": CODE + "\n"}))
    host.get_waiter("function_updated_v2").wait(FunctionName="layered")
    assert call(host, "layered", {}) == ["lower", "lower", "upper", "lower"]
    invalid = "InvalidParameterValueException"
    of = {"FunctionName": "other", "Runtime": "python3.11", "Handler": "app.handler"}
    of.update(Role="arn:aws:iam::123456789012:role/any", Code={"ZipFile": package({"app.py": CODE})})
    refused(host, invalid, "create_function", **of, Layers=[lower])
    again = host.publish_layer_version(LayerName="first", Content={"ZipFile": layer("lower")})
    assert again["Version"] == 2, again
    host.delete_function(FunctionName="layered")
    for name, number in (("first", 2), ("second", 1)):
        host.delete_layer_version(LayerName=name, VersionNumber=number)
    assert host.list_layers()["Layers"] == []
    step("DeleteLayerVersion leaves functions what they have")


def main():
    host = client()
    arns = published(host)
    used(host, *arns)
    deleted(host, *arns)
    print("passed")


if __name__ == "__main__":
    main()

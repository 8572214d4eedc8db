"""Steps of `lifecycle.py`: what can be set of a function that has versions 1 and 2 and an alias `live` on 2."""

import json

from host import call, create, failed, queue, refused, step, until


def configuration(host, name):
    environment = {"Variables": {"STAGE": "test"}}
    updated = host.update_function_configuration(
        FunctionName=name, Timeout=3, Description="set", Environment=environment
    )
    assert updated["LastUpdateStatus"] in ("InProgress", "Successful"), updated
    host.get_waiter("function_updated_v2").wait(FunctionName=name)
    got = host.get_function_configuration(FunctionName=name)
    assert (got["Timeout"], got["Description"]) == (3, "set"), got
    assert got["Environment"] == environment, got
    assert got["Handler"] == "app.handler", "what is not named stays"
    assert call(host, name, {"n": 1})["stage"] == "test"
    assert call(host, name, {"n": 1}, Qualifier="2")["stage"] is None, "versions stay as they are"
    assert host.get_function_configuration(FunctionName=name, Qualifier="2")["Timeout"] == 60
    kind, error = failed(host, name, {"do": "sleep", "seconds": 30})
    assert kind == "Unhandled", (kind, error)
    assert "Task timed out after 3.00 seconds" in error["errorMessage"], error
    assert call(host, name, {"n": 2})["n"] == 2, "it answers as ever"
    arguments = {"FunctionName": name, "Timeout": 901}
    refused(host, "InvalidParameterValueException", "update_function_configuration", **arguments)
    stale = {"FunctionName": name, "Timeout": 4, "RevisionId": "0"}
    refused(host, "PreconditionFailedException", "update_function_configuration", **stale)
    step("UpdateFunctionConfiguration, and a handler that takes too long")


def pages(host, action, key, field, **arguments):
    """Names of all entries, in pages of one."""
    names = []
    paginator = host.get_paginator(action)
    for page in paginator.paginate(PaginationConfig={"PageSize": 1}, **arguments):
        assert len(page[key]) <= 1, page
        names.extend(entry[field] for entry in page[key])
    return names


def lists(host, name, code):
    create(host, "second", code)
    assert sorted(pages(host, "list_functions", "Functions", "FunctionName")) == [name, "second"]
    every = [f["Version"] for f in host.list_functions(FunctionVersion="ALL")["Functions"]]
    assert sorted(every) == ["$LATEST", "$LATEST", "1", "2"], every
    host.delete_function(FunctionName="second")
    of = {"FunctionName": name}
    versions = pages(host, "list_versions_by_function", "Versions", "Version", **of)
    assert versions == ["$LATEST", "1", "2"], versions
    host.create_alias(**of, Name="also", FunctionVersion="1")
    assert sorted(pages(host, "list_aliases", "Aliases", "Name", **of)) == ["also", "live"]
    only = host.list_aliases(**of, FunctionVersion="1")["Aliases"]
    assert [alias["Name"] for alias in only] == ["also"], only
    host.delete_alias(**of, Name="also")
    step("ListFunctions, ListVersionsByFunction, ListAliases, page by page")


def concurrency(host, name):
    of = {"FunctionName": name}
    assert "ReservedConcurrentExecutions" not in host.get_function_concurrency(**of)
    put = host.put_function_concurrency(**of, ReservedConcurrentExecutions=5)
    assert put["ReservedConcurrentExecutions"] == 5, put
    assert host.get_function_concurrency(**of)["ReservedConcurrentExecutions"] == 5
    assert host.get_function(**of)["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    assert call(host, name, {"n": 1})["n"] == 1
    host.put_function_concurrency(**of, ReservedConcurrentExecutions=0)
    throttled = refused(host, "TooManyRequestsException", "invoke", **of, Payload="{}")
    assert throttled["ResponseMetadata"]["HTTPStatusCode"] == 429, throttled
    host.delete_function_concurrency(**of)
    assert "ReservedConcurrentExecutions" not in host.get_function_concurrency(**of)
    assert call(host, name, {"n": 1})["n"] == 1
    step("PutFunctionConcurrency, calls that it refuses, DeleteFunctionConcurrency")


def provisioned(host, name):
    of = {"FunctionName": name, "Qualifier": "live"}
    missing = "ProvisionedConcurrencyConfigNotFoundException"
    refused(host, missing, "get_provisioned_concurrency_config", **of)
    put = host.put_provisioned_concurrency_config(**of, ProvisionedConcurrentExecutions=1)
    assert put["RequestedProvisionedConcurrentExecutions"] == 1, put
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202, put

    def ready():
        got = host.get_provisioned_concurrency_config(**of)
        assert got["Status"] in ("IN_PROGRESS", "READY"), got
        return got["Status"] == "READY" and got

    got = until("a machine is kept ready", ready)
    assert got["AvailableProvisionedConcurrentExecutions"] == 1, got
    assert call(host, name, {"n": 1}, Qualifier="live")["version"] == "2"
    action = "list_provisioned_concurrency_configs"
    arns = pages(
        host, action, "ProvisionedConcurrencyConfigs", "FunctionArn", FunctionName=name
    )
    assert len(arns) == 1 and arns[0].endswith(f":{name}:live"), arns
    refused(
        host,
        "InvalidParameterValueException",
        "put_provisioned_concurrency_config",
        FunctionName=name,
        Qualifier="$LATEST",
        ProvisionedConcurrentExecutions=1,
    )
    host.delete_provisioned_concurrency_config(**of)
    refused(host, missing, "get_provisioned_concurrency_config", **of)
    step("PutProvisionedConcurrencyConfig, until it is ready, and without it again")


def event_invoke(host, name):
    of = {"FunctionName": name}
    refused(host, "ResourceNotFoundException", "get_function_event_invoke_config", **of)
    host.put_function_event_invoke_config(
        **of, MaximumRetryAttempts=1, MaximumEventAgeInSeconds=120
    )
    host.update_function_event_invoke_config(**of, MaximumRetryAttempts=0)
    got = host.get_function_event_invoke_config(**of)
    assert (got["MaximumRetryAttempts"], got["MaximumEventAgeInSeconds"]) == (0, 120), got
    action = "list_function_event_invoke_configs"
    arns = pages(host, action, "FunctionEventInvokeConfigs", "FunctionArn", **of)
    assert len(arns) == 1, arns
    refused(
        host,
        "InvalidParameterValueException",
        "put_function_event_invoke_config",
        **of,
        MaximumEventAgeInSeconds=21_601,
    )
    before = queue(name)["dead"]
    host.invoke(**of, InvocationType="Event", Payload=json.dumps({"do": "raise"}))
    until("an event that fails is given up", lambda: queue(name)["dead"] == before + 1)
    host.delete_function_event_invoke_config(**of)
    refused(host, "ResourceNotFoundException", "get_function_event_invoke_config", **of)
    step("PutFunctionEventInvokeConfig, and an event that is given up")

"""A function on AWS's Rust client, CALVE_TEST_BOOTSTRAP, on `provided.al2023`: see `tools/fixtures/bootstrap`."""

import os
import pathlib

from host import call, client, create, failed, package, step

NAME = "rust"


def main():
    host = client()
    program = pathlib.Path(os.environ["CALVE_TEST_BOOTSTRAP"]).read_bytes()
    code = package({"bootstrap": program}, executable=["bootstrap"])
    create(host, NAME, code, Runtime="provided.al2023", Handler="any")
    step(f"CreateFunction with {len(program) >> 10} KiB of Rust")
    calls = set()
    for n in range(5):
        result = call(host, NAME, {"n": n})
        assert result["echo"] == {"n": n} and result["request"], result
        calls.add(result["calls"])
    assert calls == {1}, "each call has a fresh clone"
    step("calls, each in a clone of its own")
    _, error = failed(host, NAME, {"do": "fail"})
    assert error["errorMessage"] == "failed as asked", error
    _, error = failed(host, NAME, {"do": "panic"})
    assert "panicked as asked" in error["errorMessage"], error
    kind, error = failed(host, NAME, {"do": "exit"})
    assert (kind, error["errorType"]) == ("Unhandled", "Runtime.ExitError"), (kind, error)
    assert call(host, NAME, {"n": 9})["echo"] == {"n": 9}
    step("an error, a panic, an exit, and it answers as ever")
    host.delete_function(FunctionName=NAME)
    print("passed")


if __name__ == "__main__":
    main()

"""Finds the handler, and tells of errors as AWS Lambda's Python runtime does."""

import importlib
import os
import sys
import traceback

OURS = os.path.dirname(os.path.abspath(__file__))


class InitError(Exception):
    """The handler cannot be loaded, for one of the reasons that AWS Lambda has names for."""

    def __init__(self, error_type, message, stack=()):
        super().__init__(message)
        self._json = {"errorType": error_type, "errorMessage": message, "stackTrace": list(stack)}

    def as_json(self):
        return self._json


def load(name):
    """The function that `module.function` names."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot or not module_name or not function_name:
        message = f"Bad handler '{name}': not of the form module.function"
        raise InitError("Runtime.MalformedHandlerName", message)
    if module_name.split(".")[0] in sys.builtin_module_names:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise InitError("Runtime.BuiltInModuleConflict", message)
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{module_name}': {error}"
        raise InitError("Runtime.ImportModuleError", message, stack_of(error)) from error
    except SyntaxError as error:
        message = f"Syntax error in module '{module_name}': {error}"
        stack = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        raise InitError("Runtime.UserCodeSyntaxError", message, stack) from error
    try:
        return getattr(module, function_name)
    except AttributeError as error:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise InitError("Runtime.HandlerNotFound", message) from error


def describe(error):
    """Type, message and stack of an exception. Never raises, whatever the exception's own methods do."""
    try:
        message = str(error)
    except Exception:
        message = "<exception whose str() failed>"
    return {"errorType": type(error).__name__, "errorMessage": message, "stackTrace": stack_of(error)}


def stack_of(error):
    """The formatted frames of user code: from the first one that is neither ours nor the import system's."""
    frames = traceback.extract_tb(error.__traceback__)
    for at, frame in enumerate(frames):
        if not frame.filename.startswith((OURS, "<frozen importlib")) and frame.filename != importlib.__file__:
            return traceback.format_list(frames[at:])
    return []

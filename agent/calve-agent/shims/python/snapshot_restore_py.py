"""Hooks around a snapshot, under the names of the PyPI package `snapshot-restore-py`.

Only found if the function does not bring that package. Both registries hold (function, args, kwargs).
"""

__all__ = ["register_before_snapshot", "register_after_restore"]

_before_snapshot = []
_after_restore = []


def register_before_snapshot(func, *args, **kwargs):
    """Runs `func` before the snapshot; the last one registered runs first. Works as a decorator, too."""
    _before_snapshot.append((func, args, kwargs))
    return func


def register_after_restore(func, *args, **kwargs):
    """Runs `func` in each clone before its first event, in the order of registration. Works as a decorator, too."""
    _after_restore.append((func, args, kwargs))
    return func


def get_before_snapshot():
    return _before_snapshot


def get_after_restore():
    return _after_restore

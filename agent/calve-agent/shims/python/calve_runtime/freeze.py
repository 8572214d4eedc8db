"""Before the snapshot and after the restore: hooks, garbage, and randomness that clones must not share.

The kernel's generator is fresh in a clone before this code runs, so `os.urandom`, `secrets` and `random.SystemRandom` are.
Generators in this process are not: those of the standard library and numpy's global one are reseeded here. A generator
that the function itself made (`random.Random(...)`, `numpy.random.default_rng()`) is its own; it reseeds that in an
after_restore hook.
"""

import gc
import os
import sys


def before_snapshot():
    """Runs the hooks, last one first, and collects garbage. Returns the number of after_restore hooks."""
    hooks = sys.modules.get("snapshot_restore_py")
    if hooks is not None:
        # Kept: a machine that is forked goes on, and may be forked or frozen again.
        for func, args, kwargs in reversed(list(hooks.get_before_snapshot())):
            func(*args, **kwargs)
    # What an earlier freeze has set aside may be garbage by now.
    gc.unfreeze()
    gc.collect()
    # What lives now is not looked at again by the collector: a clone does not write to it just to count references.
    gc.freeze()
    trim()
    return len(hooks.get_after_restore()) if hooks is not None else 0


def trim():
    """Returns free memory inside the C allocator to the kernel, where that allocator is glibc's."""
    try:
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, OSError, AttributeError):
        pass


def settle():
    """Binds OpenSSL's generators to the backdated clock (see `agent/freeze.rs`): in every copy of it in this process."""
    libraries = set()
    with open("/proc/self/maps") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[5:]
            if path and "libcrypto" in os.path.basename(path[0]):
                libraries.add(path[0].rstrip("\n"))
    if not libraries:
        return
    import ctypes

    for library in libraries:
        try:
            crypto = ctypes.CDLL(library)
            byte = ctypes.create_string_buffer(1)
            crypto.RAND_bytes(byte, 1)
            # Keys come from a second generator, which exists since OpenSSL 1.1.1.
            crypto.RAND_priv_bytes(byte, 1)
        except (OSError, AttributeError):
            pass


def reseed():
    """Gives the generators of this process a fresh start. Only touches what is loaded."""
    modules = sys.modules
    random = modules.get("random")
    if random is not None:
        random.seed(int.from_bytes(os.urandom(32), "little"))
    numpy_random = modules.get("numpy.random")
    if numpy_random is not None:
        # The whole state of a Mersenne twister: 624 words, all of them used up.
        state = modules["numpy"].frombuffer(os.urandom(4 * 624), dtype="uint32")
        numpy_random.set_state(("MT19937", state, 624))
    uuid = modules.get("uuid")
    if uuid is not None:
        # libuuid keeps its node and clock sequence in C; Python's own uuid1 takes them from here.
        uuid._generate_time_safe = None
        # A random node has the multicast bit (RFC 9562, section 6.10).
        uuid._node = int.from_bytes(os.urandom(6), "big") | 1 << 40
        uuid._last_timestamp = None
    tempfile = modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None


def has_after_restore():
    hooks = sys.modules.get("snapshot_restore_py")
    return hooks is not None and bool(hooks.get_after_restore())


def after_restore():
    """Runs the hooks in the order of their registration."""
    for func, args, kwargs in sys.modules["snapshot_restore_py"].get_after_restore():
        func(*args, **kwargs)

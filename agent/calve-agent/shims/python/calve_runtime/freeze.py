"""Before the snapshot and after the restore: hooks, garbage, and randomness that clones must not share.

The kernel's generator is fresh in a clone before this code runs, so `os.urandom`, `secrets` and `random.SystemRandom` are.
Generators in this process are not: those of the standard library and numpy's global one are reseeded here. A generator
that the function itself made (`random.Random(...)`, `numpy.random.default_rng()`) is its own; it reseeds that in an
after_restore hook. Where there are other threads they wait for the reseeding; a thread that is in the middle of one long draw
in C, as numpy makes them, goes on with that draw.
"""

import gc
import os
import sys

from .link import FIRST_READ, HEADER, frame

# State of a Mersenne twister, in 32-bit words.
MT19937_WORDS = 624


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


def has_threads():
    """Whether another thread of this process may run Python code."""
    return sys.modules["_thread"]._count() > 0


def stand_still(link):
    """Says that all is settled, and waits for what comes next, while no other thread runs Python code: neither before the
    freeze nor, in a clone, before the generators that threads share are fresh. A thread that draws from them without a pause
    would draw the same in every clone otherwise.

    Each step is one call of the interpreter's own C code, made by other C code that goes through a list of them: between
    two instructions of Python the interpreter would let a thread that has waited for long enough go first, and so it would
    in a call that may block, but for those of `ctypes.PyDLL`.
    """
    import collections
    import ctypes
    import itertools
    import operator

    libc = ctypes.PyDLL(None)
    said = ctypes.create_string_buffer(frame(b"S"), HEADER)
    heard = ctypes.create_string_buffer(FIRST_READ)
    calls = [
        (libc.send, link.fileno(), said, HEADER, 0),
        # Until the machine is thawed, or goes on after a fork.
        (libc.recv, link.fileno(), heard, FIRST_READ, 0),
    ]
    shared = []
    random = sys.modules.get("random")
    if random is not None:
        seed = ctypes.create_string_buffer(32)
        calls.append((libc.getrandom, seed, 32, 0, 0))
        # That of `random.Random` is written in Python, around the one of its base.
        base = super(random.Random, random._inst).seed
        shared.append(map(base, map(int.from_bytes, [seed], ["little"])))
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        words = ctypes.create_string_buffer(4 * MT19937_WORDS)
        calls.append((libc.getrandom, words, len(words), 0, 0))
        # A view: of what will be there by then.
        state = sys.modules["numpy"].frombuffer(words, dtype="uint32")
        shared.append(map(numpy_random.set_state, [("MT19937", state, MT19937_WORDS)]))
    results = []
    steps = itertools.chain(map(results.append, map(operator.call, *zip(*calls))), *shared)
    collections.deque(steps, maxlen=0)
    link.heard(heard.raw[: max(results[1], 0)])


def reseed():
    """Gives the generators of this process a fresh start. Only touches what is loaded."""
    modules = sys.modules
    random = modules.get("random")
    if random is not None:
        random.seed(int.from_bytes(os.urandom(32), "little"))
    numpy_random = modules.get("numpy.random")
    if numpy_random is not None:
        # The whole state of a Mersenne twister, all of it used up.
        state = modules["numpy"].frombuffer(os.urandom(4 * MT19937_WORDS), dtype="uint32")
        numpy_random.set_state(("MT19937", state, MT19937_WORDS))
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

"""The socket to the agent: frames of a type byte, a 4-byte little-endian length, and that many bytes."""

import json
import os
import socket

HEADER = 5
FIRST_READ = 64 << 10


def frame(kind, payload=b""):
    """The bytes of a frame; of a large one, without its payload."""
    header = kind + len(payload).to_bytes(4, "little")
    return header + payload if len(payload) < FIRST_READ else header


class Link:
    """One end of the socket, blocking."""

    def __init__(self, fd):
        # Programs that the function starts have no business here.
        os.set_inheritable(fd, False)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        self._input = b""

    def send(self, kind, payload=b""):
        self._socket.sendall(frame(kind, payload))
        if len(payload) >= FIRST_READ:
            self._socket.sendall(payload)

    def send_json(self, kind, value):
        self.send(kind, json.dumps(value).encode())

    def fileno(self):
        return self._socket.fileno()

    def heard(self, data):
        """Takes bytes that somebody else has read from the socket."""
        self._input += data

    def receive(self):
        """The next frame, as (kind, payload). Ends the process when the agent is gone."""
        while len(self._input) < HEADER:
            self._input += self._read(FIRST_READ)
        kind, length = self._input[:1], int.from_bytes(self._input[1:HEADER], "little")
        end = HEADER + length
        if len(self._input) < end:
            rest = bytearray(end - len(self._input))
            view, at = memoryview(rest), 0
            while at < len(rest):
                got = self._socket.recv_into(view[at:])
                if got == 0:
                    os._exit(1)
                at += got
            payload, self._input = self._input[HEADER:] + rest, b""
        else:
            payload, self._input = self._input[HEADER:end], self._input[end:]
        return kind, payload

    def _read(self, size):
        data = self._socket.recv(size)
        if not data:
            os._exit(1)
        return data

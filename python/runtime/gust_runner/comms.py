"""Frames between this process and the Go worker.

A frame is a 4-byte big-endian length and that many bytes of JSON. Requests
carry an id and are answered in order of arrival; log records and the result
carry none. Only one thread reads at a time, so that user threads may ask too.
"""
import json
import os
import socket
import struct
import threading


class CommsError(RuntimeError):
    """The worker refused a request or went away."""


class RemoteError(Exception):
    """An error answer of the worker; kind is its class."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Channel:
    """One end of the socket to the worker."""

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self._sock = socket.socket(fileno=fd)
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._next = 0

    def _recv_exact(self, n):
        parts = []
        while n:
            b = self._sock.recv(min(n, 1 << 20))
            if not b:
                raise CommsError("the worker closed the connection")
            parts.append(b)
            n -= len(b)
        return b"".join(parts)

    def read(self):
        """Return the next frame."""
        (n,) = struct.unpack(">I", self._recv_exact(4))
        return json.loads(self._recv_exact(n))

    def send(self, msg):
        """Send one frame."""
        body = json.dumps(msg, separators=(",", ":"), allow_nan=False).encode()
        with self._send_lock:
            self._sock.sendall(struct.pack(">I", len(body)) + body)

    def request(self, kind, **fields):
        """Ask the worker and return its answer."""
        with self._lock:
            self._next += 1
            fields["type"] = kind
            fields["id"] = self._next
            self.send(fields)
            while True:
                answer = self.read()
                if answer.get("id") == self._next:
                    break
        err = answer.get("error")
        if err:
            raise RemoteError(err.get("class", ""), err.get("message", ""))
        return answer.get("result")


_channel = None


def channel():
    """The channel of this process; an error outside a task."""
    if _channel is None:
        raise CommsError("this needs a running task: there is no connection to a worker here")
    return _channel


def set_channel(ch):
    global _channel
    _channel = ch

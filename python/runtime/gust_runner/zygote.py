"""A process with everything imported that forks one child per job.

It serves one DAG bundle only: children share what it has loaded, never user
code. Each request brings three descriptors: the job's socket, stdout, stderr.
"""
import array
import atexit
import gc
import json
import os
import select
import signal
import socket
import struct
import sys

from . import runner


def _recv(sock):
    """Return (message, fds) or None at the end."""
    fds = array.array("i")
    head = b""
    while len(head) < 4:
        b, anc, _, _ = sock.recvmsg(4 - len(head), socket.CMSG_SPACE(16))
        if not b:
            return None
        for level, kind, data in anc:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        head += b
    (n,) = struct.unpack(">I", head)
    body = b""
    while len(body) < n:
        b = sock.recv(n - len(body))
        if not b:
            return None
        body += b
    return json.loads(body), list(fds)


def _send(sock, msg):
    b = json.dumps(msg).encode()
    sock.sendall(struct.pack(">I", len(b)) + b)


def _dumpable(yes):
    """Let processes of the same user read and trace this one, or not (Linux)."""
    import ctypes

    ctypes.CDLL(None).prctl(4, int(yes), 0, 0, 0)


def _child(control, msg, fds, protect):
    if protect:
        _dumpable(True)  # its own /proc/self is the task's to use
    os.setsid()
    control.close()
    job, out, err = fds
    os.dup2(out, 1)
    os.dup2(err, 2)
    for fd in (out, err):
        if fd > 2:
            os.close(fd)
    os.environ.clear()
    os.environ.update(msg["env"])
    if msg.get("dir"):
        os.chdir(msg["dir"])
    signal.set_wakeup_fd(-1)
    for s in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(s, signal.SIG_DFL)
    gc.enable()
    if "random" in sys.modules:
        sys.modules["random"].seed()
    return runner.main(job)


def main(fd):
    protect = os.environ.get("GUST_PROTECT") == "1"
    if protect:
        _dumpable(False)  # or a job could make it run code of its own in later jobs
    os.set_inheritable(fd, False)
    control = socket.socket(fileno=fd)
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w)
    signal.signal(signal.SIGCHLD, lambda *a: None)
    stop = []
    signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs = {}
    gc.disable()
    gc.freeze()
    while not stop:
        ready, _, _ = select.select([control, wake_r], [], [])
        if wake_r in ready:
            os.read(wake_r, 512)
            while jobs:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == 0:
                    break
                if pid in jobs:
                    try:
                        _send(control, {"id": jobs.pop(pid), "exit": status})
                    except OSError:
                        stop.append(1)
        if control in ready:
            got = _recv(control)
            if got is None:
                break
            msg, fds = got
            try:
                pid = os.fork()
            except OSError as e:
                _send(control, {"id": msg["id"], "error": str(e)})
                pid = -1
            if pid == 0:
                code = 70
                try:
                    code = _child(control, msg, fds, protect)
                    atexit._run_exitfuncs()
                finally:
                    os._exit(code)
            for f in fds:
                os.close(f)
            if pid > 0:
                jobs[pid] = msg["id"]
                _send(control, {"id": msg["id"], "pid": pid})
    for pid in jobs:  # the worker is gone: nobody would end them
        try:
            os.killpg(pid, signal.SIGKILL)
        except OSError:
            pass

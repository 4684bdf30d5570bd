"""Lambda execution environments as plain child processes of LocalStack.

One instance of ProcessRuntimeExecutor is one execution environment: a Runtime API on a loopback port
and one process (``bootstrap`` for OS-only runtimes, a small Python loop for python3.x). LocalStack
decides when to create, reuse and stop environments; this module runs them.
"""

import fcntl
import json
import logging
import math
import os
import queue
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import (
    LambdaRuntimeException,
    RuntimeExecutor,
)

from localstack_hostkit import logs
from localstack_hostkit.runtime_api import RuntimeApi

LOG = logging.getLogger(__name__)
MAX_LOG_BYTES = 4 * 1024 * 1024  # kept per invocation
SHIP_SECONDS = 1  # how long a line of a running invocation takes to CloudWatch Logs
PYTHON_LOOP = Path(__file__).with_name("python_runtime.py")
MANAGED_PYTHON = os.environ.get("HOSTKIT_PYTHON") or sys.executable  # either has boto3, as on AWS


class ProcessRuntimeExecutor(RuntimeExecutor):
    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id, function_version)
        self.config = function_version.config
        self.home = Path(tempfile.gettempdir(), "lambda-env", id)
        self.api: RuntimeApi | None = None
        self.process: subprocess.Popen | None = None
        self.env: dict[str, str] = {}
        self.stopped = False
        self.request_id: str | None = None
        self.init_started = 0.0
        self.init_ms: float | None = None  # reported once, with the first invocation
        self._log = bytearray()
        self._shipped = 0  # bytes of it that CloudWatch Logs has
        self._next_ship = 0.0
        self._log_lock = threading.Lock()

    # -- life cycle ---------------------------------------------------------------------------

    def start(self, env_vars: dict[str, str]) -> None:
        if self.config.code is None:
            raise LambdaRuntimeException("container image functions cannot run as a process")
        self.config.code.prepare_for_execution()
        (self.home / "tmp").mkdir(parents=True, exist_ok=True)
        self._lay_out_layers()
        self.api = RuntimeApi()
        self.env = self._environment(env_vars)
        self._spawn()
        try:
            self._await_ready(deadline=None)  # LocalStack calls stop() when start-up takes too long
        except Exception:
            self._drain()
            self.ship_logs(whole=True)  # say why it did not start
            raise

    def stop(self) -> None:
        self.stopped = True
        self._kill()
        if self.api:
            self.api.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def _spawn(self) -> None:
        self.api.reset()
        self.init_started, self.init_ms = time.monotonic(), None
        try:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.task_root,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a kill reaches the children, too
            )
        except OSError as e:
            self._fail("Runtime.InvalidEntrypoint", f"fork/exec {e.filename}: {e.strerror}")
        threading.Thread(target=self._collect, args=(self.process,), daemon=True).start()

    def _kill(self) -> None:
        if self.process and self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()

    def _await_ready(self, deadline: float | None) -> None:
        """Wait until the process asks for its first event."""
        while True:
            kind, _, body = self._next_event(deadline)
            if kind == "ready":
                self.init_ms = (time.monotonic() - self.init_started) * 1000
                return
            if kind == "init-error":
                self._kill()
                raise StatusErrorException("init error", payload=body)
            if kind == "exit":
                if self.stopped:
                    raise LambdaRuntimeException("environment stopped during start-up")
                self._fail("Runtime.ExitError", f"Runtime exited with error: {self._exit_text()}")
            if kind == "timeout":
                self._kill()
                self._fail("Sandbox.Timedout", f"Task timed out after {self.config.timeout}.00 seconds")

    # -- one invocation -----------------------------------------------------------------------

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        self.request_id = request_id = payload["invoke-id"]
        started = time.monotonic()
        deadline = started + self.config.timeout
        if self.process.poll() is not None:  # the previous invocation ended the process
            self._spawn()
            self._await_ready(deadline)
        self._note(f"START RequestId: {request_id} Version: {self.function_version.id.qualifier}\n")
        self.api.offer(
            {
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + deadline - time.monotonic()) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": payload["invoked-function-arn"],
                "Lambda-Runtime-Trace-Id": payload["trace-id"],
            },
            payload["payload"].encode(),
        )
        is_error, body, status = True, b"", ""
        answered = False
        while True:
            kind, answered_id, data = self._next_event(deadline)
            if kind in ("response", "error") and answered_id == request_id:
                answered, is_error, body = True, kind == "error", data
            elif kind == "ready" and answered:
                break  # idle again
            elif kind in ("exit", "timeout"):
                if kind == "timeout":
                    status = "timeout"
                    text = f"Task timed out after {self.config.timeout}.00 seconds"
                    error_type = "Sandbox.Timedout"
                    self._kill()
                else:
                    error_type = status = "Runtime.ExitError"
                    text = f"Runtime exited with error: {self._exit_text()}"
                self._note(f"{time.strftime('%FT%TZ', time.gmtime())} {request_id} {text}\n")
                if not answered:
                    body = self._error_body(error_type, text)
                break
        self._drain()
        elapsed = (time.monotonic() - started) * 1000
        report = f"REPORT RequestId: {request_id}\tDuration: {elapsed:.2f} ms\tBilled Duration: {math.ceil(elapsed)} ms"
        report += f"\tMemory Size: {self.config.memory_size} MB"
        if self.init_ms is not None:
            report += f"\tInit Duration: {self.init_ms:.2f} ms"
            self.init_ms = None
        if status:
            report += f"\tStatus: {status}"
        self._note(f"END RequestId: {request_id}\n{report}\n")
        self.request_id = None
        with self._log_lock:
            text = bytes(self._log).decode(errors="replace")
        return InvocationResult(request_id=request_id, payload=body, is_error=is_error, logs=text)

    def _next_event(self, deadline: float | None):
        """The next thing that happens: an API call of the process, its exit, or the deadline."""
        while True:
            now = time.monotonic()
            if now >= self._next_ship:
                self._next_ship = now + SHIP_SECONDS
                self.ship_logs()
            left = math.inf if deadline is None else deadline - now
            if left <= 0:
                return "timeout", None, b""
            try:
                return self.api.events.get(timeout=min(left, 0.25))
            except queue.Empty:
                if self.stopped or (self.process.poll() is not None and self.api.events.empty()):
                    return "exit", None, b""

    # -- what runs, and with what --------------------------------------------------------------

    @property
    def task_root(self) -> str:
        return str(self.config.code.get_unzipped_code_location())

    def _command(self) -> list[str]:
        runtime = self.config.runtime
        if runtime.startswith("provided"):
            for path in (Path(self.task_root, "bootstrap"), self.home / "opt" / "bootstrap"):
                if path.exists():
                    return [str(path)]
            self._fail("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
        if runtime.startswith("python"):
            command = [MANAGED_PYTHON, str(PYTHON_LOOP)]
            if wrapper := self.env.get("AWS_LAMBDA_EXEC_WRAPPER"):
                command.insert(0, wrapper)
            return command
        raise LambdaRuntimeException(f"runtime {runtime} cannot run as a process (provided.* and python3.* can)")

    def _environment(self, env_vars: dict[str, str]) -> dict[str, str]:
        """The function's variables; nothing of LocalStack's own environment except PATH and TLS trust."""
        opt, task = str(self.home / "opt"), self.task_root
        env = {k: str(v) for k, v in env_vars.items() if not k.startswith("LOCALSTACK_RUNTIME")}
        env.update(
            AWS_LAMBDA_RUNTIME_API=self.api.address,
            AWS_EXECUTION_ENV=f"AWS_Lambda_{self.config.runtime}",
            LAMBDA_TASK_ROOT=task,
            LAMBDA_RUNTIME_DIR=str(PYTHON_LOOP.parent),
            TMPDIR=str(self.home / "tmp"),
        )
        env.setdefault("LANG", "en_US.UTF-8")
        if endpoint := os.environ.get("HOSTKIT_FUNCTION_ENDPOINT"):  # a proxy in front of LocalStack
            env["AWS_ENDPOINT_URL"] = endpoint.replace("{function}", self.function_version.id.function_name)
        path = [f"{opt}/bin", env.get("PATH") or os.environ["PATH"]]
        if self.config.runtime.startswith("python"):
            path.insert(0, os.path.dirname(MANAGED_PYTHON))  # as /var/lang/bin: python3 is the runtime's own
        env["PATH"] = ":".join(path)
        env["LD_LIBRARY_PATH"] = ":".join(filter(None, [f"{task}/lib", f"{opt}/lib", env.get("LD_LIBRARY_PATH")]))
        if self.config.runtime.startswith("python"):
            env["PYTHONPATH"] = ":".join(filter(None, [env.get("PYTHONPATH"), f"{opt}/python"]))
            env["PYTHONUNBUFFERED"] = "1"
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            if name in os.environ:
                env.setdefault(name, os.environ[name])
        # the two absolute paths a deployment knows, where they really are on this host
        if wrapper := env.get("AWS_LAMBDA_EXEC_WRAPPER"):
            for public, real in (("/opt/", f"{opt}/"), ("/var/task/", f"{task}/")):
                if wrapper.startswith(public):
                    env["AWS_LAMBDA_EXEC_WRAPPER"] = real + wrapper.removeprefix(public)
        return env

    def _lay_out_layers(self) -> None:
        opt = self.home / "opt"
        opt.mkdir(exist_ok=True)
        for layer in self.config.layers:
            layer.code.prepare_for_execution()
            shutil.copytree(layer.code.get_unzipped_code_location(), opt, symlinks=True, dirs_exist_ok=True)

    # -- errors and logs -----------------------------------------------------------------------

    def _error_body(self, error_type: str, text: str) -> bytes:
        prefix = f"RequestId: {self.request_id} Error: " if self.request_id else ""
        return json.dumps({"errorType": error_type, "errorMessage": prefix + text}).encode()

    def _fail(self, error_type: str, text: str):
        raise StatusErrorException(text, payload=self._error_body(error_type, text))

    def _exit_text(self) -> str:
        code = self.process.poll()
        return f"signal: {signal.Signals(-code).name}" if (code or 0) < 0 else f"exit status {code}"

    def _note(self, text: str) -> None:
        with self._log_lock:
            self._log += text.encode()

    def _collect(self, process: subprocess.Popen) -> None:
        pipe = process.stdout.fileno()
        readable = select.poll()
        readable.register(pipe, select.POLLIN)
        while True:
            readable.poll()
            with self._log_lock:  # read and kept in one step: when the pipe is empty, nothing is on its way
                chunk = os.read(pipe, 65536)
                if len(self._log) < MAX_LOG_BYTES:
                    self._log += chunk
            if not chunk:
                return

    def ship_logs(self, whole: bool = False) -> None:
        """Send complete lines to CloudWatch Logs; with ``whole`` all there is, and begin anew."""
        version = self.function_version
        if not whole and logs.busy(version):
            return
        with self._log_lock:
            end = len(self._log) if whole else self._log.rfind(b"\n", self._shipped) + 1
            text = bytes(self._log[self._shipped : end]).decode(errors="replace")
            self._shipped = max(end, self._shipped)
            if whole:
                self._log, self._shipped = bytearray(), 0
        logs.ship(version, self.env["AWS_LAMBDA_LOG_GROUP_NAME"], self.env["AWS_LAMBDA_LOG_STREAM_NAME"], text)

    def _drain(self) -> None:
        """Let the collector take what the process has written so far."""
        for _ in range(50):
            with self._log_lock:
                try:
                    waiting = struct.unpack("i", fcntl.ioctl(self.process.stdout, termios.FIONREAD, b"\0" * 4))[0]
                except (OSError, ValueError):
                    return
            if not waiting:
                return
            time.sleep(0.002)

    def get_logs(self) -> str:
        with self._log_lock:
            return bytes(self._log).decode(errors="replace")

    # -- addresses LocalStack asks for -----------------------------------------------------------

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        pass

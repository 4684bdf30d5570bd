"""Run one job: a task's callable, a sensor's poke, a callback, a check."""
import importlib
import importlib.util
import io
import logging
import os
import signal
import sys
import traceback
import types

from . import comms, context, dt, exceptions, light, serde
from .assets import AssetAlias, Metadata

LEVELS = {"CRITICAL": "critical", "ERROR": "error", "WARNING": "warning", "INFO": "info", "DEBUG": "debug"}


class _Handler(logging.Handler):
    """Sends log records to the worker."""

    def emit(self, record):
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
            comms.channel().send({"type": "log", "level": LEVELS.get(record.levelname, "info"), "logger": record.name, "event": text})
        except Exception:
            self.handleError(record)


class _Stream(io.TextIOBase):
    """print() goes to the log line by line, in order with other records."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, fd, level, logger):
        self._fd, self._level, self._logger, self._buf = fd, level, logger, ""

    def writable(self):
        return True

    @property
    def buffer(self):
        self.flush()
        return io.FileIO(self._fd, "wb", closefd=False)

    def fileno(self):
        return self._fd

    def write(self, s):
        if not isinstance(s, str):
            raise TypeError(f"write() argument must be str, not {type(s).__name__}")
        self._buf += s
        if "\n" in self._buf:
            *lines, self._buf = self._buf.split("\n")
            for line in lines:
                self._send(line)
        return len(s)

    def _send(self, line):
        comms.channel().send({"type": "log", "level": self._level, "logger": self._logger, "event": line})

    def finish(self):
        if self._buf:
            self._send(self._buf)
            self._buf = ""


def _plain_streams():
    """In a process that the task forks: the socket belongs to its parent."""
    comms.set_channel(None)
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    root = logging.getLogger()
    for h in list(root.handlers):
        root.removeHandler(h)
    root.addHandler(logging.StreamHandler(sys.stderr))


def _setup_logging(level):
    root = logging.getLogger()
    for h in list(root.handlers):
        root.removeHandler(h)
    root.addHandler(_Handler())
    os.register_at_fork(after_in_child=_plain_streams)
    root.setLevel(getattr(logging, (level or "INFO").upper(), logging.INFO))
    logging.captureWarnings(True)
    sys.stdout = _Stream(1, "info", "task.stdout")
    sys.stderr = _Stream(2, "error", "task.stderr")


def _module_from_file(path):
    if not os.path.isfile(path):
        raise ImportError(f"the file {path} does not exist in the DAG bundle")
    folder, base = os.path.split(os.path.abspath(path))
    name = os.path.splitext(base)[0]
    if folder not in sys.path:
        sys.path.append(folder)
    known = sys.modules.get(name)
    if known is not None and os.path.abspath(getattr(known, "__file__", "") or "") == os.path.abspath(path):
        return known
    if known is not None:
        name = "gust_file_" + name  # the plain name is taken by another module
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_callable(spec):
    """Import what spec names: {"path": "pkg.mod.fn"}, {"file": …, "name": …} or {"lambda": source}."""
    if "lambda" in spec:
        return eval(compile(spec["lambda"].strip(), "<lambda of the DAG file>", "eval"), {"__builtins__": __builtins__})
    if "file" in spec:
        module, parts = _module_from_file(spec["file"]), spec["name"].split(".")
        where = spec["file"]
    else:
        path = spec["path"]
        parts = path.split(".")
        module, n = None, len(parts) - 1
        while n > 0:
            name = ".".join(parts[:n])
            try:
                module = importlib.import_module(name)
                break
            except ModuleNotFoundError as e:
                # Only "this prefix is no module" may be tried again shorter.
                if e.name is None or not (name == e.name or name.startswith(e.name + ".")) or n == 1:
                    raise
                n -= 1
        if module is None:
            raise ImportError(f"{path!r} is no import path: expected module.function")
        parts, where = parts[n:], ".".join(parts[:n])
    obj = module
    for p in parts:
        try:
            obj = getattr(obj, p)
        except AttributeError:
            raise ImportError(f"{where} has no {'.'.join(parts)!r}: the callable does not exist") from None
    if isinstance(obj, light.Decorated):
        obj = obj.function
    if not callable(obj):
        raise TypeError(f"{'.'.join(parts)!r} of {where} is a {type(obj).__name__}, not a callable")
    return obj


def load_isolated(spec):
    """Return the function made from its source alone, as the virtualenv operators do."""
    if "file" in spec:
        path, name = spec["file"], spec["name"]
    else:
        module, _, name = spec["path"].rpartition(".")
        found = importlib.util.find_spec(module)
        if found is None or not found.origin:
            raise ImportError(f"the source of {spec['path']!r} was not found")
        path = found.origin
    with open(path, encoding="utf-8") as f:
        source = f.read()
    import ast

    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            node.decorator_list = []
            # Annotations may name things that only the module knows.
            node.returns = None
            for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg):
                if a is not None:
                    a.annotation = None
            space = {"__name__": "__main__"}
            exec(compile(ast.Module([node], []), path, "exec"), space)
            return space[name]
    raise ImportError(f"{path} defines no function {name!r}")


POS_ONLY, POS_OR_KW, VAR_POS, KW_ONLY, VAR_KW = range(5)


def _params(func):
    """The parameters of func as (name, kind); inspect, which is slow to load, only where needed."""
    code = getattr(func, "__code__", None)
    if type(func) is not types.FunctionType or hasattr(func, "__wrapped__") or hasattr(func, "__signature__"):
        import inspect

        return [(p.name, int(p.kind)) for p in inspect.signature(func).parameters.values()]
    names, n, k = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    out = [(v, POS_ONLY if i < code.co_posonlyargcount else POS_OR_KW) for i, v in enumerate(names[:n])]
    at = n + k
    if code.co_flags & 0x04:
        out.append((names[at], VAR_POS))
        at += 1
    out += [(v, KW_ONLY) for v in names[n : n + k]]
    if code.co_flags & 0x08:
        out.append((names[at], VAR_KW))
    return out


def _is(func, flag):
    while isinstance(func, types.MethodType):
        func = func.__func__
    return bool(getattr(getattr(func, "__code__", None), "co_flags", 0) & flag)


def bind_context(func, args, kwargs, ctx):
    """Return the keywords for func: kwargs and what it accepts of the context."""
    try:
        params = _params(func)
    except (TypeError, ValueError):
        return kwargs
    positional = [p for p in params if p[1] in (POS_ONLY, POS_OR_KW)]
    for (name, kind), _ in zip(positional, args):
        if name in ctx and kind != POS_ONLY:
            raise ValueError(f"The key {name!r} in args is a part of kwargs and therefore reserved.")
    out = dict(kwargs)
    if any(kind == VAR_KW for _, kind in params):
        for k in ctx.keys():
            if k not in out:
                out[k] = ctx[k]
        return out
    taken = {name for name, _ in positional[: len(args)]}
    for name, kind in params:
        if kind in (POS_OR_KW, KW_ONLY) and name not in out and name in ctx and name not in taken:
            out[name] = ctx[name]
    return out


def _accepted(func, kwargs):
    """Drop keywords that func does not take (op_kwargs merged into the context)."""
    params = _params(func)
    if any(kind == VAR_KW for _, kind in params):
        return kwargs
    names = {name for name, _ in params}
    return {k: v for k, v in kwargs.items() if k in names}


def call(func, args, kwargs, ctx):
    """Call func; generators may yield asset metadata, coroutines are awaited."""
    if _is(func, 0x80):  # async def
        import asyncio

        return asyncio.run(func(*args, **kwargs))
    if not _is(func, 0x20):  # not a generator function
        return func(*args, **kwargs)
    result = None

    def body():
        nonlocal result
        result = yield from func(*args, **kwargs)

    for m in body():
        if not isinstance(m, Metadata):
            logging.getLogger("airflow.task").warning("Ignoring unknown data of %r received from task", type(m))
            continue
        ctx["outlet_events"][m.asset].extra.update(m.extra)
        if m.alias:
            alias = m.alias if isinstance(m.alias, AssetAlias) else AssetAlias(m.alias)
            ctx["outlet_events"][alias].add(m.asset, m.extra)
    return result


class Response:
    """An HTTP answer with the attributes of requests.Response."""

    def __init__(self, d):
        import base64

        self.status_code, self.reason, self.url = d["status_code"], d.get("reason", ""), d.get("url", "")
        self.content = base64.b64decode(d.get("content", ""))
        self.headers = _Headers(d.get("headers") or {})
        self.ok, self.encoding = self.status_code < 400, d.get("encoding") or "utf-8"

    @property
    def text(self):
        return self.content.decode(self.encoding, "replace")

    def json(self):
        import json

        return json.loads(self.content)

    def raise_for_status(self):
        if not self.ok:
            raise exceptions.AirflowException(f"{self.status_code}:{self.reason}")

    def __repr__(self):
        return f"<Response [{self.status_code}]>"


class Cursor:
    """What an SQL statement has given, with the reading side of a DB-API cursor."""

    def __init__(self, d):
        rows = serde.decode(d["rows"]) if d.get("rows") is not None else []
        columns = d.get("columns")
        self.description = None if columns is None else tuple((c, None, None, None, None, None, None) for c in columns)
        self.rowcount, self.lastrowid, self.arraysize = len(rows) if columns is not None else -1, None, 1
        self._rows = iter(rows)

    def _result(self):
        if self.description is None:
            raise exceptions.AirflowException("the statement has no result to fetch")
        return self._rows

    def fetchall(self):
        return list(self._result())

    def fetchone(self):
        return next(self._result(), None)

    def fetchmany(self, size=None):
        import itertools

        return list(itertools.islice(self._result(), size or self.arraysize))

    def __iter__(self):
        return self._result()

    def __next__(self):
        return next(self._result())

    def close(self):
        pass


class _Headers(dict):
    def __init__(self, d):
        super().__init__(d)
        self._lower = {k.lower(): v for k, v in d.items()}

    def __getitem__(self, k):
        return self._lower[k.lower()]

    def get(self, k, default=None):
        return self._lower.get(k.lower(), default)

    def __contains__(self, k):
        return k.lower() in self._lower


def _run_callback(job, ctx):
    """A callback is a function of the context, or a notifier class."""
    func, kwargs = load_callable(job["callable"]), serde.decode(job.get("op_kwargs") or {})
    if job.get("keyword_context") is not None:
        return _deadline_callback(func, kwargs, job["keyword_context"], ctx)
    if isinstance(func, type) and hasattr(func, "notify"):
        notifier = func(**kwargs)
        for field in getattr(notifier, "template_fields", ()):
            v = getattr(notifier, field, None)
            if v:
                setattr(notifier, field, _render(v))
        return notifier.notify(ctx)
    return call(func, [ctx], kwargs, ctx)


def _deadline_callback(func, kwargs, small, ctx):
    """A deadline's callback takes its context, the run and the deadline as dicts, by keyword."""
    if isinstance(func, type) and (hasattr(func, "notify") or hasattr(func, "async_notify")):
        notifier = func(**kwargs)
        for field in getattr(notifier, "template_fields", ()):
            v = getattr(notifier, field, None)
            if v:
                setattr(notifier, field, _render(v))
        own = getattr(type(notifier), "notify", None)
        if hasattr(notifier, "async_notify") and own in (None, light.BaseNotifier.notify):
            return call(notifier.async_notify.__func__, [notifier, small], {}, ctx)
        return notifier.notify(small)
    if any(name == "context" or kind == VAR_KW for name, kind in _params(func)):
        kwargs = {**kwargs, "context": small}
    result = call(func, [], kwargs, ctx)
    if hasattr(result, "__await__"):
        import asyncio

        async def wait():
            return await result

        return asyncio.run(wait())
    return result


def _render(v):
    if isinstance(v, str):
        if "{{" not in v and "{%" not in v and "{#" not in v:
            return v
        return comms.channel().request("render", template=v)
    if isinstance(v, dict):
        return {k: _render(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return type(v)(_render(x) for x in v)
    return v


def _run_job(job, ctx):
    kind = job["kind"]
    if kind == "callback":
        return _run_callback(job, ctx)
    func = (load_isolated if job.get("isolated") else load_callable)(job["callable"])
    args = serde.decode(job.get("op_args") or [])
    kwargs = serde.decode(job.get("op_kwargs") or {})
    if job.get("response") is not None:
        args = [Response(job["response"]), *args]
    if job.get("responses") is not None:
        args = [[Response(r) for r in job["responses"]], *args]
    if job.get("cursor") is not None:
        args = [Cursor(job["cursor"]), *args]
    if job.get("templates_dict") is not None:
        ctx["templates_dict"] = serde.decode(job["templates_dict"])
    if job.get("inject"):
        kwargs = bind_context(func, args, kwargs, ctx)
    elif job.get("accepted_only"):
        kwargs = _accepted(func, kwargs)
    if kind == "date_fn":  # execution_date_fn(logical_date[, context])
        args = [ctx["logical_date"] if "logical_date" in ctx else dt.as_pendulum(ctx["dag_run"].run_after)]
        n = len([p for p in _params(func) if p[1] in (POS_ONLY, POS_OR_KW)])
        kwargs = {}
        if n > 1:
            args.append(ctx)
    value = call(func, args, kwargs, ctx)
    if kind == "sensor":
        done = bool(value)
        return {"done": done, "value": serde.encode(value.xcom_value) if hasattr(value, "xcom_value") else None}
    if kind == "bool":
        return bool(value)
    if job.get("log_value") and kind == "python":
        logging.getLogger("airflow.task.operators").info("Done. Returned value was: %s", value)
    if kind == "short_circuit":
        return {"truthy": bool(value), "value": serde.encode(value)}
    return serde.encode(value)


def _trim(tb):
    """The traceback without this package's own frames."""
    here = os.path.dirname(os.path.abspath(__file__))
    while tb is not None and os.path.abspath(tb.tb_frame.f_code.co_filename).startswith(here):
        tb = tb.tb_next
    return tb


def _failure(e):
    cls = type(e)
    if isinstance(e, exceptions.AirflowSkipException):
        return {"outcome": "skipped", "message": str(e)}
    if isinstance(e, exceptions.AirflowRescheduleException):
        d = e.reschedule_date
        if d.tzinfo is None:
            d = d.replace(tzinfo=dt.UTC)
        return {"outcome": "up_for_reschedule", "at": d.isoformat()}
    if isinstance(e, SystemExit):
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        return {"outcome": "exit", "code": code, "message": str(e.code or "")}
    final = isinstance(e, (exceptions.AirflowFailException, exceptions.AirflowSensorTimeout))
    text = "".join(traceback.format_exception(cls, e, _trim(e.__traceback__))).rstrip()
    if isinstance(e, (KeyError, NameError)) and e.args and e.args[0] in context.GONE:
        text += f"\n{e.args[0]!r} was removed from the context in Airflow 3: use {context.GONE[e.args[0]]!r}"
    names = [c.__name__ for c in cls.__mro__]
    return {"outcome": "failed_final" if final else "failed", "class": cls.__name__, "bases": names, "message": str(e), "traceback": text}


def _on_alarm(signum, frame):
    raise exceptions.AirflowTaskTimeout("Timeout")


def _on_term(signum, frame):
    raise exceptions.AirflowTaskTerminated("Task received SIGTERM signal")


def main(fd):
    """Serve the one job that arrives on fd; return the exit code."""
    ch = comms.Channel(fd)
    comms.set_channel(ch)
    job = ch.read()
    _setup_logging(job.get("log_level"))
    # After the standard library, as Airflow does: a file types.py beside the
    # DAG must not replace the module of that name.
    own = job.get("own_airflow")
    for i, p in enumerate(job.get("sys_path") or []):
        if p not in sys.path:
            sys.path.insert(0, p) if own and i == 0 else sys.path.append(p)
    if not job.get("own_airflow"):
        light.install()
    result = None
    try:
        signal.signal(signal.SIGTERM, _on_term)
        if job.get("timeout"):
            signal.signal(signal.SIGALRM, _on_alarm)
            signal.setitimer(signal.ITIMER_REAL, max(job["timeout"], 0.001))
        ctx = context.build(job["context"])
        value = _run_job(job, ctx)
        signal.setitimer(signal.ITIMER_REAL, 0)
        result = {"outcome": "success", "value": value}
    except BaseException as e:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # report, whatever comes
        result = _failure(e)
    try:
        ctx = context.get_current_context()
        result["outlet_events"] = ctx["outlet_events"].dump(serde.encode)
        if ctx.get("map_index_template"):  # it may use names that the callable added
            added = {k: v for k, v in ctx.added().items() if isinstance(v, (str, int, float, bool, list, dict, type(None)))}
            result["context_added"] = serde.encode(added)
    except Exception:  # no context was made: nothing was added either
        pass
    for s in (sys.stdout, sys.stderr):
        if isinstance(s, _Stream):
            s.finish()
    try:
        ch.send({"type": "result", **result})
    except OSError:
        return 70
    return 0

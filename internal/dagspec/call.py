"""Calls one function for Gust's DAG loader and prints its result as JSON.

Runs in a child process of its own, with limits. Airflow need not be
installed: its modules are replaced by permissive stand-ins, enough for the
functions a DAG file asks to be called at load (documentation, constants).
"""
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import types


class Meta(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return make(name)


class Stand(metaclass=Meta):
    def __init__(self, *a, **k):
        pass

    def __init_subclass__(cls, **k):
        pass

    def __call__(self, *a, **k):
        return a[0] if a and callable(a[0]) else self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return make(name)()

    def __rshift__(self, o):
        return o

    __lshift__ = __rrshift__ = __rlshift__ = __or__ = __and__ = __rshift__

    def __enter__(self):
        return self

    def __exit__(self, *a):
        return False


def make(name):
    if name[:1].isupper():
        return Meta(name, (Stand,), {})
    return Stand()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "airflow" or name.startswith("airflow."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        m = types.ModuleType(spec.name)
        m.__path__ = []
        m.__getattr__ = lambda n: make(n) if not n.startswith("__") else (_ for _ in ()).throw(AttributeError(n))
        return m

    def exec_module(self, module):
        pass


def limit():
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except Exception:
        pass


def main():
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the user's code prints is not the result
    limit()
    req = json.load(sys.stdin)
    sys.path[:0] = req["path"]
    sys.meta_path.append(Finder())
    try:
        if req.get("file"):
            spec = importlib.util.spec_from_file_location(req["module"], req["file"])
            mod = importlib.util.module_from_spec(spec)
            sys.modules[req["module"]] = mod
            spec.loader.exec_module(mod)
        else:
            mod = importlib.import_module(req["module"])
        v = getattr(mod, req["name"])(*(req.get("args") or []), **(req.get("kwargs") or {}))
        try:
            res = {"value": json.loads(json.dumps(v))}
        except (TypeError, ValueError):
            t = type(v)
            res = {"class": t.__module__ + "." + t.__qualname__}
    except BaseException as e:
        res = {"error": type(e).__name__, "message": str(e)}
    out.write(json.dumps(res))
    out.flush()


main()

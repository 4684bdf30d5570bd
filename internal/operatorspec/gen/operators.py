"""Writes operators.jsonl: the constructor facts of Airflow's operators.

Run in an environment that has Airflow 3.3 and the providers to describe:

    python operators.py ../operators.jsonl

Each line is one class or decorator. Only facts of the public interface are
recorded (names, defaults, template fields, flags), never code.
"""
import ast
import importlib
import inspect
import json
import logging
import os
import pkgutil
import sys
import textwrap
import warnings

os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")

from airflow.sdk import BaseOperator, BaseSensorOperator  # noqa: E402
from airflow.sdk.bases.skipmixin import SkipMixin  # noqa: E402
from airflow.providers.standard.operators.empty import EmptyOperator  # noqa: E402

PROVIDERS = sys.argv[2:] or [
    "standard", "http", "common.sql", "common.io", "smtp", "cncf.kubernetes", "amazon", "docker", "ssh", "slack",
    "postgres", "sqlite", "sftp", "ftp",
]
UNSET = object()


def some_callable():
    return 1



def encode(v):
    """JSON with tags for what JSON lacks; UNSET when it cannot be told."""
    import datetime
    if v is None or isinstance(v, (bool, int, float, str)):
        return v
    if isinstance(v, tuple):
        items = [encode(x) for x in v]
        return UNSET if UNSET in items else {"$tuple": items}
    if isinstance(v, (set, frozenset)):
        items = [encode(x) for x in sorted(v, key=str)]
        return UNSET if UNSET in items else {"$set": items}
    if isinstance(v, list):
        items = [encode(x) for x in v]
        return UNSET if UNSET in items else items
    if isinstance(v, dict):
        out = {str(k): encode(x) for k, x in v.items()}
        return UNSET if UNSET in out.values() else out
    if isinstance(v, datetime.timedelta):
        return {"$timedelta": v.total_seconds()}
    if hasattr(v, "value") and isinstance(getattr(v, "value"), (str, int)):
        return encode(v.value)
    return UNSET


def super_keywords(init):
    """Keywords that an __init__ passes to super().__init__, and what it sets by setdefault."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(init))))
    except Exception:
        return set()
    out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "__init__":
            out |= {k.arg for k in node.keywords if k.arg}
        if (
            isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
            and isinstance(node.targets[0].value, ast.Name) and node.targets[0].value.id == "kwargs"
            and isinstance(node.targets[0].slice, ast.Constant)
        ):
            out.add(node.targets[0].slice.value)
    return out


def inits(cls):
    for k in cls.__mro__:
        if k is BaseOperator:
            return
        if "__init__" in k.__dict__ and k is not object:
            yield k


def describe(cls):
    levels, seen, passed = [], {}, set()
    open_kwargs = True
    for k in inits(cls):
        init = inspect.unwrap(k.__dict__["__init__"])
        try:
            sig = inspect.signature(init)
        except (TypeError, ValueError):
            continue
        required = []
        own_kwargs = False
        for name, p in list(sig.parameters.items())[1:]:
            if p.kind is p.VAR_KEYWORD:
                own_kwargs = True
                continue
            if p.kind is p.VAR_POSITIONAL:
                continue
            if name in ("dag", "task_group", "_airflow_from_mapped", "default_args", "task_id"):
                continue
            if p.default is p.empty:
                if name not in passed and name not in seen and name != "task_id":
                    required.append(name)
                if name not in passed:
                    seen.setdefault(name, {"name": name, "required": True})
            elif name not in passed:
                d = encode(p.default)
                entry = {"name": name}
                if d is not UNSET and d is not None:
                    entry["default"] = d
                seen.setdefault(name, entry)
        if open_kwargs and required:
            levels.append(sorted(required))
        passed |= super_keywords(init) - set()
        open_kwargs = open_kwargs and own_kwargs
        if not own_kwargs:
            break
    base_params = {n for n in inspect.signature(BaseOperator.__init__).parameters}
    base_over = {n: e["default"] for n, e in seen.items() if n in base_params and "default" in e}
    fields = cls.template_fields
    if isinstance(fields, property):
        fields = ()
    out = {
        "class": cls.__module__ + "." + cls.__qualname__,
        "bases": [b.__module__ + "." + b.__qualname__ for b in cls.__mro__[1:] if b.__module__.startswith("airflow.providers") and issubclass(b, BaseOperator)],
        "params": [e for n, e in seen.items() if n not in base_params or e.get("required") or n in base_over],
        "template_fields": list(fields),
        "template_ext": list(cls.template_ext),
        "ui_color": cls.ui_color,
        "ui_fgcolor": cls.ui_fgcolor,
    }
    if levels:
        out["required"] = levels
    if cls.template_fields_renderers and not isinstance(cls.template_fields_renderers, property):
        out["renderers"] = dict(cls.template_fields_renderers)
    if getattr(cls, "custom_operator_name", None):
        out["operator_name"] = cls.custom_operator_name
    if issubclass(cls, BaseSensorOperator):
        out["sensor"] = True
    if issubclass(cls, EmptyOperator):
        out["empty"] = True
    if getattr(cls, "_can_skip_downstream", False) or issubclass(cls, SkipMixin):
        out["can_skip_downstream"] = True
    links = {}
    for link in getattr(cls, "operator_extra_links", ()) or ():
        try:
            links[link.name] = link.xcom_key
        except Exception:
            pass
    if links:
        out["extra_links"] = links
    instance_facts(cls, out, base_params)
    return out


def build(cls, out, **extra):
    kwargs = {"task_id": "t"}
    for level in out.get("required", []):
        for name in level:
            kwargs[name] = dummy(cls, name)
    kwargs.update(extra)
    return cls(**kwargs)


def dummy(cls, name):
    import datetime
    if "callable" in name or name.endswith("_fn"):
        return some_callable
    if name in ("delta", "execution_delta"):
        return datetime.timedelta(1)
    if name == "target_time":
        return datetime.time(1) if "TimeSensor" == cls.__name__ or cls.__name__ == "TimeSensorAsync" else datetime.datetime(2024, 1, 1)
    if name.startswith("target_") and "Date" in cls.__name__:
        return datetime.datetime(2024, 1, 1)
    if name in ("options", "follow_task_ids_if_true", "week_day", "tasks"):
        return ["Monday"] if name == "week_day" else ["a"]
    if name in ("params",):
        return {"a": 1}
    return name


def instance_facts(cls, out, base_params):
    """Values of template fields when their argument is not given, and what becomes of a given one."""
    if cls.__name__.startswith("_"):
        return
    try:
        t = build(cls, out)
    except Exception:
        out["abstract"] = bool(inspect.isabstract(cls)) or None
        if not out["abstract"]:
            out.pop("abstract")
        return
    required = {n for level in out.get("required", []) for n in level}
    names = {p["name"] for p in out["params"]}
    values, falsy, changed = {}, [], []
    for f in out["template_fields"]:
        if f in required:
            continue
        v = getattr(t, f, UNSET)
        e = encode(v) if v is not UNSET else UNSET
        if e is not UNSET and e is not None:
            values[f] = e
    for f in sorted(names & set(out["template_fields"])):
        try:
            got = getattr(build(cls, out, **{f: "sentinel"}), f)
            if got != "sentinel":
                changed.append(f)
                continue
        except Exception:
            pass
        if f in required:
            continue
        try:
            if encode(getattr(build(cls, out, **{f: []}), f)) != [] and encode(getattr(build(cls, out, **{f: []}), f)) == values.get(f):
                falsy.append(f)
        except Exception:
            pass
    if values:
        out["field_values"] = values
    if falsy:
        out["falsy_default"] = falsy
    if changed:
        out["converted"] = changed
    if issubclass(cls, BaseSensorOperator):
        s = {}
        for a in ("poke_interval", "timeout", "mode", "soft_fail", "deferrable"):
            v = encode(getattr(t, a, None))
            if v is not UNSET:
                s[a] = v
        out["sensor_values"] = s
    if getattr(t, "start_from_trigger", False):
        out["start_from_trigger"] = True
    over = {}
    import datetime
    for n in ("retries", "do_xcom_push", "trigger_rule", "queue", "depends_on_past"):
        base = inspect.signature(BaseOperator.__init__).parameters[n].default
        v = getattr(t, n)
        if n == "trigger_rule":
            v = v.value
            base = getattr(base, "value", base)
        if v != base:
            over[n] = encode(v)
    if over:
        out["attr_values"] = over


def main(path):
    rows, modules = {}, set()
    for provider in PROVIDERS:
        root = importlib.import_module("airflow.providers." + provider)
        for info in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
            if ".example_dags" in info.name or ".tests" in info.name:
                continue
            short = info.name[len(root.__name__) + 1:]
            modules.add(info.name)
            parts = short.split(".")
            if not set(parts) & {"operators", "sensors", "transfers", "decorators", "aws"}:
                continue
            if "aws" in parts and not set(parts) & {"operators", "sensors", "transfers", "decorators"}:
                continue
            try:
                mod = importlib.import_module(info.name)
            except Exception:
                continue
            for name, cls in vars(mod).items():
                if inspect.isclass(cls) and issubclass(cls, BaseOperator) and cls.__module__ == info.name:
                    rows[cls.__module__ + "." + cls.__qualname__] = describe(cls)
                elif (
                    inspect.isfunction(cls) and cls.__module__ == info.name and ".decorators" in info.name
                    and name.endswith("_task")
                ):
                    op = next((c for n, c in vars(mod).items() if inspect.isclass(c) and issubclass(c, BaseOperator) and c.__module__ == info.name), None)
                    if op is not None:
                        sig = inspect.signature(cls)
                        rows[info.name + "." + name] = {"decorator": info.name + "." + name, "operator": op.__module__ + "." + op.__qualname__,
                                                         "named": [p for p in sig.parameters if p not in ("python_callable", "multiple_outputs", "kwargs")]}
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
    for name, info in ProvidersManagerTaskRuntime().taskflow_decorators.items():
        fn = info if inspect.isfunction(info) else getattr(info, "__wrapped__", info)
        try:
            key = fn.__module__ + "." + fn.__name__
        except Exception:
            continue
        if key in rows:
            rows[key]["name"] = name
    with open(path, "w") as f:
        for key in sorted(rows):
            f.write(json.dumps(rows[key], separators=(",", ":")) + "\n")
    with open(os.path.join(os.path.dirname(path), "modules.txt"), "w") as f:
        for pkg in ("airflow.sdk", "airflow.timetables"):
            root = importlib.import_module(pkg)
            modules.add(pkg)
            for info in pkgutil.walk_packages(root.__path__, pkg + ".", onerror=lambda _: None):
                if "._" not in info.name:
                    modules.add(info.name)
        for m in sorted(modules):
            if ".example_dags" not in m and ".tests" not in m and "._" not in m:
                f.write(m + "\n")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))

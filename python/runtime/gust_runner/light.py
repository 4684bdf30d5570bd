"""The airflow names that a file of callables may import, without Airflow.

Anything not listed is an ImportError that names it. The names belong to
Airflow 3 and, where the same thing still exists, to Airflow 2.
"""
import enum
import importlib.machinery
import logging
import os
import sys
import types

from . import assets, context, dt, exceptions

VERSION = "3.3.2"


def _needs_full(name):
    return ImportError(
        f"{name} is not part of Gust's light Python runtime: it needs the full runtime (a worker image with apache-airflow "
        "and its providers). Run this task there (queue or executor of the task), or remove the import.", name=name)


class TriggerRule(str, enum.Enum):
    """When a task runs, by the states of its upstream tasks."""

    ALL_SUCCESS = "all_success"
    ALL_FAILED = "all_failed"
    ALL_DONE = "all_done"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ALL_DONE_SETUP_SUCCESS = "all_done_setup_success"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_SKIPPED = "none_skipped"
    ALWAYS = "always"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    ALL_SKIPPED = "all_skipped"

    def __str__(self):
        return self.value


class TaskInstanceState(str, enum.Enum):
    """States of a task instance."""

    REMOVED = "removed"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    RESTARTING = "restarting"
    FAILED = "failed"
    UP_FOR_RETRY = "up_for_retry"
    UP_FOR_RESCHEDULE = "up_for_reschedule"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"
    DEFERRED = "deferred"

    def __str__(self):
        return self.value


class DagRunState(str, enum.Enum):
    """States of a DAG run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"

    def __str__(self):
        return self.value


class State:
    """Names of states as class attributes."""


for _s in (*TaskInstanceState, *DagRunState):
    setattr(State, _s.name, _s)
State.NONE = None


class PokeReturnValue:
    """What a sensor's poke may return: done or not, and an XCom value."""

    def __init__(self, is_done, xcom_value=None):
        self.is_done, self.xcom_value = is_done, xcom_value

    def __bool__(self):
        return self.is_done


class LoggingMixin:
    """self.log."""

    @property
    def log(self):
        return logging.getLogger(f"{type(self).__module__}.{type(self).__name__}")


class BaseNotifier(LoggingMixin):
    """Base of notifiers: template_fields are rendered, then notify(context) runs."""

    template_fields = ()
    template_ext = ()

    def __init__(self, **kwargs):
        pass

    def notify(self, context):
        raise NotImplementedError()

    def __call__(self, *args):
        ctx = args[0] if args else {}
        self.notify(ctx)


class _Decorator:
    """@task and its forms: the function, callable as it is."""

    def __init__(self, kind="task"):
        self._kind = kind

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and callable(args[0]) and not kwargs:
            return Decorated(args[0], self._kind, {})
        return lambda f: Decorated(f, self._kind, kwargs)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return _Decorator(f"{self._kind}.{name}")


class Decorated:
    """A function under @task. Calling it calls the function."""

    def __init__(self, function, kind, kwargs):
        import functools

        functools.update_wrapper(self, function)
        self.function, self.kind, self.kwargs = function, kind, kwargs

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def override(self, **kwargs):
        return Decorated(self.function, self.kind, {**self.kwargs, **kwargs})


class Conf:
    """airflow.configuration.conf: AIRFLOW__SECTION__KEY, else the fallback."""

    _missing = object()

    def get(self, section, key, fallback=_missing, **kwargs):
        v = os.environ.get(f"AIRFLOW__{section.upper().replace('.', '_')}__{key.upper()}")
        if v is not None:
            return v
        if fallback is Conf._missing:
            raise exceptions.AirflowConfigException(f"section/key [{section}/{key}] not found in config: set AIRFLOW__{section.upper()}__{key.upper()}")
        return fallback

    def getboolean(self, section, key, fallback=_missing, **kwargs):
        v = self.get(section, key, fallback)
        return v if isinstance(v, bool) else str(v).strip().lower() in ("t", "true", "1")

    def getint(self, section, key, fallback=_missing, **kwargs):
        return int(self.get(section, key, fallback))

    def getfloat(self, section, key, fallback=_missing, **kwargs):
        return float(self.get(section, key, fallback))

    def has_option(self, section, option, **kwargs):
        return self.get(section, option, None) is not None


def mask_secret(secret, name=None):
    """Have the worker replace secret by *** in the log."""
    from . import comms

    values = secret.values() if isinstance(secret, dict) else secret if isinstance(secret, (list, tuple, set)) else [secret]
    for v in values:
        if isinstance(v, str) and v:
            comms.channel().request("mask_secret", value=v)


def days_ago(n, hour=0, minute=0, second=0, microsecond=0):
    return dt.now().replace(hour=hour, minute=minute, second=second, microsecond=microsecond).subtract(days=n)


def _timezone():
    return {
        "utc": dt.UTC, "utcnow": lambda: dt.now(), "datetime": lambda *a, **k: dt.DateTime(*a, **{"tzinfo": dt.UTC, **k}),
        "parse": lambda s, timezone=None: dt.as_pendulum(dt.parse(s)), "is_localized": lambda d: d.utcoffset() is not None,
        "make_aware": lambda d, timezone=None: d.replace(tzinfo=timezone or dt.UTC), "convert_to_utc": lambda d: d.astimezone(dt.UTC),
        "is_naive": lambda d: d.utcoffset() is None, "make_naive": lambda d, timezone=None: d.astimezone(timezone or dt.UTC).replace(tzinfo=None),
    }


_EXC = None  # airflow.exceptions answers by itself
_TASK = _Decorator()
_NAMES = {
    "airflow": {"__version__": VERSION, "AirflowException": exceptions.AirflowException, "Asset": assets.Asset, "Dataset": assets.Asset},
    "airflow.sdk": {
        "get_current_context": context.get_current_context, "Variable": context.Variable, "Connection": context.Connection, "task": _TASK,
        "BaseHook": context.BaseHook, "BaseNotifier": BaseNotifier, "PokeReturnValue": PokeReturnValue, "Asset": assets.Asset,
        "AssetAlias": assets.AssetAlias, "Metadata": assets.Metadata, "TriggerRule": TriggerRule, "Context": context.Context,
        "TaskInstanceState": TaskInstanceState, "DagRunState": DagRunState, "AirflowException": exceptions.AirflowException,
        "setup": _Decorator("setup"), "teardown": _Decorator("teardown"),
    },
    "airflow.sdk.definitions": {},
    "airflow.sdk.definitions.context": {"Context": context.Context, "get_current_context": context.get_current_context},
    "airflow.sdk.definitions.decorators": {"task": _TASK},
    "airflow.sdk.definitions.asset": {"Asset": assets.Asset, "AssetAlias": assets.AssetAlias},
    "airflow.sdk.definitions.asset.metadata": {"Metadata": assets.Metadata},
    "airflow.sdk.types": {"Context": context.Context, "RuntimeTaskInstanceProtocol": context.TaskInstance},
    "airflow.sdk.bases": {},
    "airflow.sdk.bases.hook": {"BaseHook": context.BaseHook},
    "airflow.sdk.bases.notifier": {"BaseNotifier": BaseNotifier},
    "airflow.sdk.bases.sensor": {"PokeReturnValue": PokeReturnValue},
    "airflow.sdk.log": {"mask_secret": mask_secret},
    "airflow.sdk.execution_time": {},
    "airflow.sdk.execution_time.secrets_masker": {"mask_secret": mask_secret},
    "airflow.sdk.timezone": _timezone(),
    "airflow.sdk.exceptions": _EXC,
    "airflow.exceptions": _EXC,
    "airflow.decorators": {"task": _TASK, "setup": _Decorator("setup"), "teardown": _Decorator("teardown")},
    "airflow.models": {"Variable": context.Variable, "Connection": context.Connection, "TaskInstance": context.TaskInstance, "DagRun": context.Record},
    "airflow.models.variable": {"Variable": context.Variable},
    "airflow.models.connection": {"Connection": context.Connection},
    "airflow.models.taskinstance": {"TaskInstance": context.TaskInstance},
    "airflow.models.dagrun": {"DagRun": context.Record},
    "airflow.models.xcom": {"XCOM_RETURN_KEY": context.XCOM_RETURN_KEY},
    "airflow.hooks": {},
    "airflow.hooks.base": {"BaseHook": context.BaseHook},
    "airflow.notifications": {},
    "airflow.notifications.basenotifier": {"BaseNotifier": BaseNotifier},
    "airflow.sensors": {},
    "airflow.sensors.base": {"PokeReturnValue": PokeReturnValue},
    "airflow.operators": {},
    "airflow.operators.python": {"get_current_context": context.get_current_context},
    "airflow.providers": {},
    "airflow.providers.standard": {},
    "airflow.providers.standard.operators": {},
    "airflow.providers.standard.operators.python": {"get_current_context": context.get_current_context},
    "airflow.datasets": {"Dataset": assets.Asset},
    "airflow.assets": {"Asset": assets.Asset},
    "airflow.configuration": {"conf": Conf()},
    "airflow.utils": {},
    "airflow.utils.context": {"Context": context.Context},
    "airflow.utils.dates": {"days_ago": days_ago},
    "airflow.utils.timezone": _timezone(),
    "airflow.utils.state": {"State": State, "TaskInstanceState": TaskInstanceState, "DagRunState": DagRunState},
    "airflow.utils.trigger_rule": {"TriggerRule": TriggerRule},
    "airflow.utils.log": {},
    "airflow.utils.log.logging_mixin": {"LoggingMixin": LoggingMixin},
    "airflow.utils.log.secrets_masker": {"mask_secret": mask_secret},
    "airflow.settings": {"AIRFLOW_HOME": os.environ.get("AIRFLOW_HOME", os.path.expanduser("~/airflow"))},
}


class Finder:
    """Answers import airflow… from the table above."""

    def find_spec(self, name, path=None, target=None):
        if name != "airflow" and not name.startswith("airflow."):
            return None
        if name not in _NAMES:
            raise _needs_full(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        name = module.__name__
        module.__path__ = []
        names = _NAMES[name]
        if names is _EXC:
            module.__getattr__ = lambda attr: getattr(exceptions, attr)
            return
        module.__dict__.update(names)

        def missing(attr):
            sub = f"{name}.{attr}"
            if attr.startswith("__"):
                raise AttributeError(attr)
            if sub in _NAMES:
                return __import__(sub, fromlist=["_"])
            raise _needs_full(sub)

        module.__getattr__ = missing


def install():
    """Answer airflow imports from here."""
    if not any(isinstance(f, Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, Finder())

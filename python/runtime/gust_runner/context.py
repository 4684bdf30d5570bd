"""The context of a running task: Airflow's names over what the worker sent."""
import contextvars
import json
import types

from . import comms, dt, serde
from .assets import Asset, AssetAlias, InletEvents, OutletEvents
from .exceptions import AirflowNotFoundException, AirflowRuntimeError, XComNotFound

XCOM_RETURN_KEY = "return_value"
_current = contextvars.ContextVar("gust_context")
_process_context = None
_UNSET = object()

GONE = {
    "execution_date": "logical_date", "next_ds": "data_interval_end", "next_ds_nodash": "data_interval_end",
    "prev_ds": "data_interval_start", "prev_ds_nodash": "data_interval_start", "tomorrow_ds": "data_interval_end",
    "yesterday_ds": "data_interval_start", "next_execution_date": "data_interval_end", "conf": "airflow.configuration.conf",
    "prev_execution_date": "prev_data_interval_start_success", "triggering_dataset_events": "triggering_asset_events",
}


def get_current_context():
    """Return the context of the running task; RuntimeError outside one."""
    ctx = _current.get(None) or _process_context  # threads of the user see the process's
    if ctx is None:
        raise RuntimeError("Current context was requested but no context was found! Are you running within an Airflow task?")
    return ctx


class Record(types.SimpleNamespace):
    """Attributes of a DAG, task or run; unknown names say so."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"{self.__dict__.get('_what', 'object')} has no attribute {name!r} in Gust's task runner")


def decode_value(v):
    return serde.decode(v, _allowed)


_allowed = ()


class TaskInstance(Record):
    """ti: facts of the instance, and its XComs."""

    _what = "TaskInstance"

    def xcom_push(self, key, value):
        """Store a value under key for other tasks."""
        if not isinstance(key, str) or not key:
            raise ValueError("xcom_push: key must be a non-empty string")
        comms.channel().request("set_xcom", key=key, value=serde.encode(value))

    def xcom_pull(self, task_ids=None, dag_id=None, key=XCOM_RETURN_KEY, include_prior_dates=False, *,
                  map_indexes=_UNSET, default=None, run_id=None):
        """Return values other tasks stored, as Airflow 3 does."""
        single = task_ids is None or isinstance(task_ids, str)
        ids = [self.task_id] if task_ids is None else [task_ids] if single else list(task_ids)
        q = {"dag_id": dag_id or self.dag_id, "run_id": run_id or self.run_id, "key": key, "include_prior_dates": bool(include_prior_dates)}
        out = []
        if map_indexes is _UNSET:  # all map indexes of every task; default plays no part
            for t in ids:
                vals = comms.channel().request("list_xcom", task_id=t, **q) or []
                out.extend([decode_value(v["value"]) for v in vals] if vals else [None])
            return out[0] if single and len(out) == 1 else out
        one = map_indexes is None or isinstance(map_indexes, int)
        for t in ids:
            for i in [map_indexes] if one else map_indexes:
                v = comms.channel().request("get_xcom", task_id=t, map_index=-1 if i is None else i, **q)
                out.append(default if v is None else decode_value(v["value"]))
        return out[0] if single and one else out

    def get_template_context(self):
        return get_current_context()

    def get_previous_dagrun(self, state=None):
        r = comms.channel().request("previous_dag_run", state=str(getattr(state, "value", state) or ""))
        return dag_run_of(r) if r else None

    def get_first_reschedule_date(self, context=None):
        return self.first_reschedule_date

    @staticmethod
    def get_ti_count(dag_id, map_index=None, task_ids=None, task_group_id=None, logical_dates=None, run_ids=None, states=None):
        found = TaskInstance.get_task_states(dag_id, map_index, task_ids, task_group_id, logical_dates, run_ids)
        wanted = None if states is None else {str(getattr(s, "value", s)) for s in states}
        return sum(1 for ts in found.values() for s in ts.values() if wanted is None or s in wanted)

    @staticmethod
    def get_task_states(dag_id, map_index=None, task_ids=None, task_group_id=None, logical_dates=None, run_ids=None):
        if task_group_id:
            raise NotImplementedError("get_task_states(task_group_id=) is not supported by Gust: name the task_ids")
        return comms.channel().request("task_states", dag_id=dag_id, task_ids=list(task_ids or []), run_ids=list(run_ids or []),
                                       logical_dates=[d.isoformat() for d in logical_dates or []]) or {}

    @staticmethod
    def get_dagrun_state(dag_id, run_id):
        r = comms.channel().request("get_dag_run", dag_id=dag_id, run_id=run_id)
        if r is None:
            raise AirflowNotFoundException(f"DAG run {run_id!r} of DAG {dag_id!r} does not exist")
        return r["state"]

    @property
    def key(self):
        return (self.dag_id, self.task_id, self.run_id, self.try_number, self.map_index)

    def __repr__(self):
        return f"<TaskInstance: {self.dag_id}.{self.task_id} {self.run_id} [running]>"


def dag_run_of(d):
    """A DagRun from its JSON; dates are plain datetimes, as in Airflow."""
    dates = ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date", "end_date", "queued_at")
    r = {k: dt.parse(d.get(k)) for k in dates}
    return Record(_what="DagRun", dag_id=d.get("dag_id"), run_id=d.get("dag_run_id"), run_type=d.get("run_type"), state=d.get("state"),
                  conf=d.get("conf") or {}, clear_number=d.get("clear_number", 0), triggering_user_name=d.get("triggering_user_name"),
                  consumed_asset_events=[], note=d.get("note"), external_trigger=d.get("run_type") == "manual", **r)


class _Variables:
    """var.value and var.json."""

    def __init__(self, as_json):
        self._json = as_json

    def get(self, key, default=_UNSET):
        return Variable.get(key, default=default, deserialize_json=self._json)

    __getitem__ = get

    def __getattr__(self, key):
        if key.startswith("__"):
            raise AttributeError(key)
        return self.get(key)


class _Connections:
    """conn.my_id."""

    def get(self, conn_id, default=None):
        try:
            return Connection.get(conn_id)
        except AirflowNotFoundException:
            return default

    def __getattr__(self, conn_id):
        if conn_id.startswith("__"):
            raise AttributeError(conn_id)
        return Connection.get(conn_id)


class Variable:
    """Airflow Variables, looked up through the worker."""

    @staticmethod
    def get(key, default=_UNSET, deserialize_json=False, default_var=_UNSET):
        if default is _UNSET:
            default = default_var
        v = comms.channel().request("get_variable", key=key)
        if v is None:
            if default is _UNSET:
                raise AirflowRuntimeError(f"VARIABLE_NOT_FOUND: {{'key': {key!r}}}")
            return default
        return json.loads(v["value"]) if deserialize_json else v["value"]

    @staticmethod
    def set(key, value, description=None, serialize_json=False):
        text = json.dumps(value, indent=2) if serialize_json else str(value)
        comms.channel().request("set_variable", key=key, value=text, description=description or "")

    @staticmethod
    def delete(key):
        comms.channel().request("delete_variable", key=key)


class Connection:
    """A connection; get() looks it up through the worker."""

    def __init__(self, conn_id=None, conn_type=None, description=None, host=None, login=None, password=None, schema=None,
                 port=None, extra=None, uri=None):
        self.conn_id, self.conn_type, self.description, self.host = conn_id, conn_type, description, host
        self.login, self.password, self.schema, self.port = login, password, schema, port
        self.extra = json.dumps(extra) if isinstance(extra, dict) else extra
        if uri:
            raise ValueError("Connection(uri=…) is not supported by Gust's task runner: give the parts")

    @classmethod
    def get(cls, conn_id):
        c = comms.channel().request("get_connection", conn_id=conn_id)
        if c is None:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return cls(conn_id=c["connection_id"], conn_type=c["conn_type"], description=c.get("description") or None, host=c.get("host") or None,
                   login=c.get("login") or None, password=c.get("password") or None, schema=c.get("schema") or None,
                   port=c.get("port") or None, extra=c.get("extra") or None)

    @property
    def extra_dejson(self):
        try:
            return json.loads(self.extra) if self.extra else {}
        except ValueError:
            return {}

    def get_password(self):
        return self.password

    def get_extra(self):
        return self.extra

    def get_uri(self):
        from urllib.parse import quote, urlencode

        uri = f"{(self.conn_type or '').lower().replace('_', '-')}://"
        host = self.host or ""
        if "://" in host:
            scheme, host = host.split("://", 1)
            uri += f"{scheme}://"
        if self.login or self.password:
            uri += quote(self.login or "", safe="") + (":" + quote(self.password, safe="") if self.password else "") + "@"
        uri += quote(host, safe="")
        if self.port:
            uri += f":{self.port}"
        if self.schema:
            uri += "/" + quote(self.schema, safe="")
        extra = self.extra_dejson
        if extra:
            flat = all(isinstance(v, str) for v in extra.values())
            uri += ("?" if self.schema else "/?") + (urlencode(extra) if flat else urlencode({"__extra__": self.extra}))
        return uri

    def __repr__(self):
        return f"Connection(conn_id={self.conn_id!r}, conn_type={self.conn_type!r})"


class BaseHook:
    """The part of BaseHook that needs no provider."""

    def __init__(self, logger_name=None):
        import logging

        self.log = logging.getLogger(logger_name or f"{type(self).__module__}.{type(self).__qualname__}")

    @classmethod
    def get_connection(cls, conn_id):
        return Connection.get(conn_id)

    def get_conn(self):
        raise NotImplementedError()


class Context(dict):
    """The context; costly values are made when first read."""

    def __init__(self, data, lazy):
        super().__init__(data)
        self._lazy = lazy
        self._given = set(data)

    def added(self):
        """Names that the task added."""
        return {k: v for k, v in dict.items(self) if k not in self._given and k not in self._lazy}

    def __missing__(self, key):
        f = self._lazy.get(key)
        if f is None:
            if key in GONE:
                raise KeyError(f"{key!r} was removed in Airflow 3: use {GONE[key]!r}")
            raise KeyError(key)
        v = self[key] = f()
        return v

    def keys(self):
        return list(dict.keys(self)) + [k for k in self._lazy if not dict.__contains__(self, k)]

    def __iter__(self):
        return iter(self.keys())

    def __contains__(self, key):
        return dict.__contains__(self, key) or key in self._lazy

    def __len__(self):
        return len(self.keys())

    def get(self, key, default=None):
        return self[key] if key in self else default

    def items(self):
        return [(k, self[k]) for k in self.keys()]

    def values(self):
        return [self[k] for k in self.keys()]

    def copy(self):
        return Context(dict(self.items()), {})


def _asset(d):
    if d.get("__type") == "asset_alias":
        return AssetAlias(d.get("name", ""))
    return Asset(name=d.get("name") or None, uri=d.get("uri") or None, group=d.get("group") or "asset", extra=d.get("extra"))


def build(c):
    """Make the context from the worker's data and make it current."""
    global _allowed, _process_context
    _allowed = tuple(c.get("allowed_classes") or ())
    run, t, d = c.get("dag_run") or {}, c.get("task") or {}, c.get("dag") or {}
    outlets = c.get("outlets") or []
    dag = Record(_what="DAG", dag_id=c["dag_id"], tags=d.get("tags") or [], description=d.get("description"), timezone=d.get("timezone"),
                 folder=c.get("dag_dir"), fileloc=d.get("fileloc"), params=c.get("params") or {}, dag_display_name=d.get("dag_display_name"))
    task = Record(_what="Task", task_id=c.get("task_id"), dag=dag, dag_id=c["dag_id"], owner=t.get("owner"), retries=t.get("retries", 0),
                  task_type=t.get("task_type"), operator_name=t.get("operator_name"), trigger_rule=t.get("trigger_rule"), pool=t.get("pool"),
                  queue=t.get("queue"), upstream_task_ids=set(t.get("upstream_task_ids") or ()), downstream_task_ids=set(t.get("downstream_task_ids") or ()),
                  params=c.get("params") or {}, doc_md=t.get("doc_md"), outlets=[_asset(a) for a in outlets], inlets=[_asset(a) for a in c.get("inlets") or []])
    ti = TaskInstance(dag_id=c["dag_id"], run_id=c["run_id"], task_id=c.get("task_id"), map_index=c.get("map_index", -1),
                      try_number=c.get("try_number", 1), max_tries=c.get("max_tries", 0), hostname=c.get("hostname"), operator=t.get("task_type"),
                      start_date=dt.parse(c.get("start_date")), end_date=None, state=c.get("state") or "running", queue=t.get("queue"),
                      pool=t.get("pool"), log_url=c.get("log_url") or "", task=task, rendered_map_index=None, duration=None,
                      first_reschedule_date=dt.parse(c.get("first_reschedule_date")), is_mapped=c.get("map_index", -1) >= 0)
    data = {
        "dag": dag, "task": task, "ti": ti, "task_instance": ti, "run_id": c["run_id"], "params": c.get("params") or {},
        "var": Record(_what="var", value=_Variables(False), json=_Variables(True)), "conn": _Connections(),
        "outlets": task.outlets, "inlets": task.inlets, "outlet_events": OutletEvents(outlets),
        "task_reschedule_count": c.get("reschedule_count", 0), "expanded_ti_count": c.get("expanded_ti_count"),
        "map_index_template": c.get("map_index_template"), "task_instance_key_str": c.get("task_instance_key_str"),
        "test_mode": False, "templates_dict": None,
    }
    for k in ("exception", "reason"):
        if c.get(k):
            data[k] = _exception(c) if k == "exception" else c[k]
    lazy = {
        "dag_run": lambda: dag_run_of(run),
        "inlet_events": lambda: InletEvents(c.get("inlet_events") or []),
        "triggering_asset_events": lambda: InletEvents(c.get("triggering_asset_events") or [], True),
        "macros": _macros, "start_date": lambda: dt.as_pendulum(ti.start_date),
    }
    prev = {}

    def prev_success(field):
        def get():
            if "run" not in prev:
                prev["run"] = comms.channel().request("previous_dag_run", state="success")
            return dt.as_pendulum(dt.parse((prev["run"] or {}).get(field)))

        return get

    for name, field in (("prev_start_date_success", "start_date"), ("prev_end_date_success", "end_date")):
        lazy[name] = prev_success(field)
    if run.get("logical_date"):
        ld = dt.parse(run["logical_date"]).astimezone(dt.UTC)
        data.update(ds=ld.strftime("%Y-%m-%d"), ds_nodash=ld.strftime("%Y%m%d"), ts=ld.isoformat(), ts_nodash=ld.strftime("%Y%m%dT%H%M%S"),
                    ts_nodash_with_tz=ld.isoformat().replace("-", "").replace(":", ""))
        for k in ("logical_date", "data_interval_start", "data_interval_end"):
            lazy[k] = (lambda v: lambda: dt.as_pendulum(dt.parse(v)))(run.get(k))
        for name, field in (("prev_data_interval_start_success", "data_interval_start"), ("prev_data_interval_end_success", "data_interval_end")):
            lazy[name] = prev_success(field)
    ctx = Context(data, lazy)
    _process_context = ctx
    _current.set(ctx)
    return ctx


def _exception(c):
    from . import exceptions

    e = c["exception"]
    cls = getattr(exceptions, e.get("class", ""), None) if e.get("class", "").startswith("Airflow") else None
    import builtins

    cls = cls or getattr(builtins, e.get("class", ""), None)
    if not (isinstance(cls, type) and issubclass(cls, BaseException)):
        cls = exceptions.AirflowException
    try:
        return cls(e.get("message", ""))
    except TypeError:
        return exceptions.AirflowException(e.get("message", ""))


def _macros():
    import datetime
    import random
    import time
    import uuid

    def ds_add(ds, days):
        return ds if not days else (datetime.datetime.strptime(str(ds), "%Y-%m-%d") + datetime.timedelta(days)).strftime("%Y-%m-%d")

    def ds_format(ds, input_format, output_format):
        return datetime.datetime.strptime(str(ds), input_format).strftime(output_format)

    return Record(_what="macros", datetime=datetime.datetime, timedelta=datetime.timedelta, time=time, uuid=uuid, random=random.random, json=json,
                  ds_add=ds_add, ds_format=ds_format)


__all__ = ["BaseHook", "Connection", "Context", "TaskInstance", "Variable", "XComNotFound", "build", "get_current_context"]

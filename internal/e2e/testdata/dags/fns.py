"""Callables of the acceptance tests."""
import datetime
import json
import os
import pathlib
import signal
import sys
import time


def hello(name, *, greeting="hello", **context):
    print("to stderr", file=sys.stderr)
    return f"{greeting} {name} {context['ds']} {context['ti'].try_number}"


def record():
    return {"a": 1, "b": [1, 2, {"c": None}], "when": datetime.datetime(2025, 1, 2, tzinfo=datetime.timezone.utc)}


def typed() -> dict:
    return {"x": 1, "y": "two"}


def add(x, y=0):
    return x + y


def numbers(n=3):
    return list(range(n))


def table():
    return {"k1": 1, "k2": 2}


def total(values):
    return sum(values)


def fail(message="broken on purpose"):
    raise ValueError(message)


def fail_final():
    from airflow.exceptions import AirflowFailException
    raise AirflowFailException("never again")


def skip():
    from airflow.exceptions import AirflowSkipException
    raise AirflowSkipException("nothing to do")


def flaky(until, **context):
    if context["ti"].try_number < until:
        raise RuntimeError(f"try {context['ti'].try_number} of {until}")
    return context["ti"].try_number


def choose(*ids):
    return list(ids)


def choose_nothing():
    return None


def truth(value):
    return value


def push(ti):
    ti.xcom_push(key="mine", value={"k": "v"})
    return None


def pull(ti):
    return [ti.xcom_pull(task_ids="push", key="mine"), ti.xcom_pull(task_ids="nothing", key="mine")]


def templated(templates_dict):
    return templates_dict


def secrets_seen():
    from airflow.models import Variable
    from airflow.hooks.base import BaseHook
    key = Variable.get("api_key")
    c = BaseHook.get_connection("env_conn")
    print("the key is", key, "and the password", c.password)
    print("token", BaseHook.get_connection("stored").extra_dejson["token"])
    return [Variable.get("from_env"), Variable.get("missing", default_var="fallback"), Variable.get("doc", deserialize_json=True)["deep"]["er"], c.login, c.host, c.port, c.schema]


def waits_for(path):
    return os.path.exists(path)


def note(path, text):
    with open(path, "a") as f:
        f.write(text + "\n")


def on_event(context, label="plain"):
    ti = context.get("ti") or context.get("task_instance")
    with open(os.path.join(os.environ["E2E_DIR"], "callbacks.txt"), "a") as f:
        f.write(json.dumps([label, context["dag"].dag_id, ti.task_id if ti else None, context.get("run_id"), str(context.get("exception", ""))[:200]]) + "\n")


def on_dag_event(context):
    with open(os.path.join(os.environ["E2E_DIR"], "callbacks.txt"), "a") as f:
        f.write(json.dumps(["dag", context["dag"].dag_id, None, context["run_id"], context.get("reason")]) + "\n")


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ignoring the signal", flush=True)
    while True:
        time.sleep(1)


def sleep(seconds):
    time.sleep(seconds)


def binary():
    sys.stdout.buffer.write(bytes(range(256)) * 4 + b"\n")
    sys.stdout.flush()
    return "done"


def killed():
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def in_venv(x):
    import sys
    return [x, sys.prefix != sys.base_prefix]


def grow():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def asset_extra(outlet_events):
    from airflow.sdk import Asset
    outlet_events[Asset(name="e2e_a", uri="x-e2e://a")].extra = {"rows": 7}


def read_events(triggering_asset_events):
    return sorted((a.name, len(es)) for a, es in triggering_asset_events.items())


def on_deadline(**kwargs):
    ctx = kwargs.pop("context")
    with open(os.path.join(os.environ["E2E_DIR"], "callbacks.txt"), "a") as f:
        f.write(json.dumps(["deadline", ctx["dag_run"]["dag_id"], ctx["dag_run"]["dag_run_id"], ctx["dag_run"]["state"], {k: str(v) for k, v in kwargs.items()}]) + "\n")


async def on_deadline_async(context, label):
    on_deadline(context=context, label=label)


def rows():
    return [{"x": 1, "y": 2}, {"x": 3}]


def pair(p):
    return list(p)


def whoami():
    import getpass
    return f"{getpass.getuser()} {int(os.getuid() == 0)}"

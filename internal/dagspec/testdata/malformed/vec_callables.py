"""Callables the YAML vectors name."""
from airflow.sdk import BaseNotifier, task


def hello(name="world", **context):
    return f"hello {name}"


def numbers():
    return [1, 2, 3]


def pair():
    return {"a": 1, "b": 2}


def add(x, y):
    return x + y


def double(x):
    return x * 2


def choose(**context):
    return "left"


def is_ready():
    return True


def on_fail(context):
    pass


def on_ok(context, channel="none", level=1):
    pass


def docs(title="t", **kw):
    return f"# {title}"


def check(response):
    return True


class VecNotifier(BaseNotifier):
    template_fields = ("message",)

    def __init__(self, message, level=0):
        super().__init__()
        self.message = message
        self.level = level

    def notify(self, context):
        pass


MACRO_CONST = 7


def typed(a: int = 1) -> int:
    return a


def typed_dict() -> dict[str, int]:
    return {"a": 1}


def kwonly(a, *, b=2):
    return a


def ctx(a, ti=None, ds=None):
    return a


def documented():
    """A docstring.

    More."""
    return 1

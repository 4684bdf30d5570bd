"""Airflow's exceptions, by what they do to a task."""


class AirflowException(Exception):
    """Base of Airflow's exceptions; the task fails and may be retried."""

    status_code = 500


class AirflowSkipException(AirflowException):
    """The task ends as skipped."""


class AirflowFailException(AirflowException):
    """The task fails without a retry."""


class AirflowSensorTimeout(AirflowException):
    """A sensor waited too long; the task fails without a retry."""


class AirflowTaskTimeout(BaseException):
    """execution_timeout passed; like any failure, but not caught by "except Exception"."""


class AirflowTaskTerminated(BaseException):
    """The task was told to stop."""


class AirflowRescheduleException(AirflowException):
    """Run the same try again at reschedule_date."""

    def __init__(self, reschedule_date):
        super().__init__()
        self.reschedule_date = reschedule_date


class AirflowNotFoundException(AirflowException):
    """A connection or another named thing does not exist."""

    status_code = 404


class AirflowRuntimeError(Exception):
    """The control plane answered with an error."""


class AirflowConfigException(AirflowException):
    """A configuration option is missing or wrong."""


class AirflowBadRequest(AirflowException):
    """The request was malformed."""

    status_code = 400


class ParamValidationError(AirflowException):
    """A param does not fit its schema."""


class XComNotFound(AirflowException):
    """An XCom that an argument refers to does not exist."""


class DuplicateTaskIdFound(AirflowException):
    """Two tasks of a DAG share an id."""


class AirflowOptionalProviderFeatureException(AirflowException):
    """A feature needs a provider that is not installed."""


class TaskDeferred(BaseException):
    """Raised by defer(); needs the full runtime's triggers."""

    def __init__(self, *, trigger, method_name, kwargs=None, timeout=None):
        super().__init__()
        self.trigger, self.method_name, self.kwargs, self.timeout = trigger, method_name, kwargs, timeout


for _c in list(globals().values()):
    if isinstance(_c, type) and _c.__module__ == __name__:
        _c.__module__ = "airflow.exceptions"  # the name users know, also in tracebacks


def __getattr__(name):
    # Code may catch exceptions that nothing here raises.
    if name.startswith("_") or not name[0].isupper():
        raise AttributeError(name)
    cls = type(name, (AirflowException,), {"__module__": "airflow.exceptions", "__doc__": "An exception of Airflow that Gust does not raise."})
    globals()[name] = cls
    return cls

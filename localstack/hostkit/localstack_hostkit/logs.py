"""Function logs as on AWS: lines appear while an invocation runs, and in the log group the function names.

Stock LocalStack stores the output of an invocation when it ends, and always in ``/aws/lambda/NAME``.
"""

from datetime import date

_handlers: dict[str, object] = {}  # qualified ARN -> the LogHandler of that version


def ship(function_version, group: str, stream: str, text: str) -> None:
    """Hand whole lines to CloudWatch Logs, in order, without waiting."""
    from localstack.services.lambda_.invocation.logs import LogItem

    handler = _handlers.get(function_version.qualified_arn)
    if handler and text:
        handler.add_logs(LogItem(group, stream, text))


def busy(function_version) -> bool:
    """Whether lines of the version still wait to be stored: then lines of running invocations can wait, too."""
    handler = _handlers.get(function_version.qualified_arn)
    return handler is not None and not handler.log_queue.empty()


def install() -> None:
    from localstack.services.lambda_.invocation.execution_environment import ExecutionEnvironment
    from localstack.services.lambda_.invocation.version_manager import LambdaVersionManager

    stock_start = LambdaVersionManager.start

    def start(self):
        _handlers[self.function_version.qualified_arn] = self.log_handler
        return stock_start(self)

    def store_logs(self, invocation_result, execution_env):
        execution_env.runtime_executor.ship_logs(whole=True)  # what was not shipped while it ran

    def group_name(self):
        configured = (self.function_version.config.logging_config or {}).get("LogGroup")
        return configured or f"/aws/lambda/{self.function_version.id.function_name}"

    def stream_name(self):
        if not hasattr(self, "_stream_name"):  # one name for the life of the environment, midnight or not
            self._stream_name = f"{date.today():%Y/%m/%d}/[{self.function_version.id.qualifier}]{self.id}"
        return self._stream_name

    LambdaVersionManager.start, LambdaVersionManager.store_logs = start, store_logs
    ExecutionEnvironment.get_log_group_name, ExecutionEnvironment.get_log_stream_name = group_name, stream_name

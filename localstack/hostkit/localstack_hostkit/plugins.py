"""What LocalStack loads: the executor plugin and hooks that run before the runtime is created."""

import os

from localstack.runtime import hooks
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    name = "process"

    def load(self, *args, **kwargs):
        from localstack_hostkit.executor import ProcessRuntimeExecutor

        return ProcessRuntimeExecutor


@hooks.on_runtime_create(should_load=lambda: bool(os.environ.get("DYNAMODB_LOCAL_DIR")))
def use_host_dynamodb():
    from localstack_hostkit import dynamodb

    dynamodb.install(os.environ["DYNAMODB_LOCAL_DIR"])


@hooks.on_runtime_create()
def listen_where_told():
    """Stock LocalStack binds all IPv4 addresses whatever GATEWAY_LISTEN says; whoever reaches it runs code here."""
    from functools import partial
    from types import SimpleNamespace

    from localstack.runtime.server import twisted as server

    stock_register, stock = server.TwistedRuntimeServer.register, server.endpoints

    def register(self, gateway, listen, ssl_creds=None):
        for address in listen:
            ipv4 = partial(stock.TCP4ServerEndpoint, interface=address.host)
            server.endpoints = SimpleNamespace(TCP4ServerEndpoint=ipv4, TCP6ServerEndpoint=stock.TCP6ServerEndpoint)
            stock_register(self, gateway, [address], ssl_creds)

    server.TwistedRuntimeServer.register = register


@hooks.on_runtime_create()
def use_aws_like_concurrency():
    from localstack_hostkit import concurrency

    concurrency.widen_sqs_mappings(int(os.environ.get("HOSTKIT_SQS_CONCURRENCY") or 10))
    concurrency.widen_async_invocations(int(os.environ.get("HOSTKIT_ASYNC_CONCURRENCY") or 200))
    concurrency.align_schedules()


@hooks.on_runtime_create()
def ship_logs_while_running():
    from localstack_hostkit import logs

    logs.install()

"""Runs the auth_type of an HttpOperator: a class of the author's, as requests calls it."""
import base64
import importlib


class Prepared:
    """The part of requests.PreparedRequest that an AuthBase changes."""

    def __init__(self, method, url, headers, body):
        self.method, self.url, self.headers, self.body = method, url, headers, body

    @property
    def path_url(self):
        from urllib.parse import urlsplit

        u = urlsplit(self.url)
        return (u.path or "/") + ("?" + u.query if u.query else "")

    def register_hook(self, event, hook):
        raise NotImplementedError("auth_type: hooks on the answer need PythonOperator with requests itself")


def apply(path, login, method, url, headers, body):
    module, _, name = path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    r = Prepared(method, url, dict(headers), base64.b64decode(body))
    r = cls(*login)(r) or r
    body = r.body.encode() if isinstance(r.body, str) else r.body or b""
    return {"url": r.url, "headers": {str(k): str(v) for k, v in r.headers.items()}, "body": base64.b64encode(body).decode()}

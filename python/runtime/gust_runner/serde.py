"""XCom values as JSON, in the form of Airflow's serializers.

What JSON lacks is {"__classname__", "__version__", "__data__"}, so that tasks
of Gust and of Airflow read each other's values.
"""
import datetime
import math

CLASSNAME, VERSION, DATA = "__classname__", "__version__", "__data__"
MAX_DEPTH = 200


def _wrap(name, version, data):
    return {CLASSNAME: name, VERSION: version, DATA: data}


def qualname(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def _encode_tz(tz):
    if tz is None:
        return None
    key = getattr(tz, "key", None)
    if key:
        kind = qualname(type(tz))
        if kind not in ("zoneinfo.ZoneInfo", "pendulum.tz.timezone.Timezone"):
            kind = "zoneinfo.ZoneInfo"
        body = [key, kind, 1, True]
    else:
        off = int(tz.utcoffset(None).total_seconds())
        body = ["UTC" if off == 0 else off, "pendulum.tz.timezone.FixedTimezone", 1, True]
    return _wrap("builtins.tuple", 1, body)


def encode(o, depth=0):
    """Return o as plain JSON data; TypeError names what cannot be stored."""
    if depth > MAX_DEPTH:
        raise RecursionError("the value is nested too deeply for an XCom (is it recursive?)")
    if o is None or isinstance(o, (bool, str)):
        return o if type(o) in (str, bool) or o is None else str.__str__(o)
    if isinstance(o, int):
        return int(o)
    if isinstance(o, float):
        if math.isnan(o) or math.isinf(o):
            raise TypeError(f"{o!r} cannot be stored as an XCom: JSON has no such number; return None or a string instead")
        return float(o)
    depth += 1
    if isinstance(o, dict):
        if CLASSNAME in o:
            raise AttributeError(f"the key {CLASSNAME!r} is reserved and cannot be in an XCom")
        return {str(k): encode(v, depth) for k, v in o.items()}
    if isinstance(o, list):
        return [encode(v, depth) for v in o]
    if isinstance(o, tuple):
        return _wrap("builtins.tuple", 1, [encode(v, depth) for v in o])
    if isinstance(o, (set, frozenset)):
        try:
            items = sorted(o)
        except TypeError:
            items = list(o)
        name = "builtins.frozenset" if isinstance(o, frozenset) else "builtins.set"
        return _wrap(name, 1, [encode(v, depth) for v in items])
    if isinstance(o, datetime.datetime):
        name = "pendulum.datetime.DateTime" if type(o).__module__.startswith(("pendulum", "gust_runner")) else "datetime.datetime"
        return _wrap(name, 2, {"timestamp": o.timestamp(), "tz": _encode_tz(o.tzinfo)})
    if isinstance(o, datetime.date):
        return _wrap("datetime.date", 2, o.isoformat())
    if isinstance(o, datetime.timedelta):
        return _wrap("datetime.timedelta", 2, o.total_seconds())
    cls = type(o)
    if qualname(cls) == "decimal.Decimal":
        return _wrap("decimal.Decimal", 1, int(o) if o.as_tuple().exponent >= 0 else float(o))
    if qualname(cls) == "uuid.UUID":
        return _wrap("uuid.UUID", 1, str(o))
    if cls.__module__ == "numpy" and hasattr(o, "item") and getattr(o, "ndim", 0) == 0:
        return _wrap(qualname(cls), 1, encode(o.item(), depth))
    if hasattr(o, "__gust_xcom__"):
        return _wrap("airflow.sdk.definitions.asset.Asset", 1, encode(o.__gust_xcom__(), depth))
    if hasattr(o, "model_dump") and hasattr(cls, "model_fields"):
        return _wrap(qualname(cls), 1, encode(o.model_dump(mode="json"), depth))
    if hasattr(cls, "__dataclass_fields__"):
        data = {f: encode(getattr(o, f), depth) for f in cls.__dataclass_fields__}
        return _wrap(qualname(cls), getattr(cls, "__version__", 0), data)
    if hasattr(cls, "__attrs_attrs__"):
        data = {a.name: encode(getattr(o, a.name), depth) for a in cls.__attrs_attrs__}
        return _wrap(qualname(cls), getattr(cls, "__version__", 0), data)
    if hasattr(o, "serialize") and callable(o.serialize):
        return _wrap(qualname(cls), getattr(cls, "__version__", 0), encode(o.serialize(), depth))
    hint = "return JSON-like data, or write it to storage and return its address"
    if isinstance(o, (bytes, bytearray)):
        hint = "decode it to text, or return base64 text (base64.b64encode(value).decode())"
    raise TypeError(f"a value of type {qualname(cls)} cannot be stored as an XCom: {hint}")


def _decode_tz(tz):
    if tz is None:
        return None
    if isinstance(tz, (tuple, list)):
        tz = tz[0]
    if isinstance(tz, (int, float)) and not isinstance(tz, bool):
        return datetime.timezone(datetime.timedelta(seconds=tz))
    if tz in ("UTC", "utc", "Z", ""):
        return datetime.timezone.utc
    import zoneinfo

    return zoneinfo.ZoneInfo(tz)


def _decode_datetime(data, pendulum):
    tz = _decode_tz(data.get("tz")) if isinstance(data, dict) else None
    if not isinstance(data, dict):
        return datetime.datetime.fromisoformat(data)
    value = datetime.datetime.fromtimestamp(data["timestamp"], tz=datetime.timezone.utc)
    value = value.astimezone(tz) if tz is not None else value.replace(tzinfo=None)
    if pendulum:
        from .dt import as_pendulum

        return as_pendulum(value)
    return value


def _load(name):
    import importlib

    module, _, cls = name.rpartition(".")
    return getattr(importlib.import_module(module), cls)


def decode(o, allowed=()):
    """Return the Python value of what encode (or Airflow) wrote."""
    if isinstance(o, list):
        return [decode(v, allowed) for v in o]
    if not isinstance(o, dict):
        return o
    if CLASSNAME not in o:
        return {k: decode(v, allowed) for k, v in o.items()}
    name, data = o[CLASSNAME], decode(o.get(DATA), allowed)
    if name in ("builtins.tuple", "builtins.set", "builtins.frozenset"):
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[name[9:]](data)
    if name == "datetime.datetime":
        return _decode_datetime(data, False)
    if name == "pendulum.datetime.DateTime":
        return _decode_datetime(data, True)
    if name == "datetime.date":
        return datetime.date.fromisoformat(data)
    if name == "datetime.timedelta":
        return datetime.timedelta(seconds=data)
    if name == "decimal.Decimal":
        import decimal

        return decimal.Decimal(str(data))
    if name == "uuid.UUID":
        import uuid

        return uuid.UUID(data)
    if name.startswith("numpy."):
        try:
            return _load(name)(data)
        except ImportError:
            return data
    if name in ("airflow.sdk.definitions.asset.Asset", "airflow.sdk.Asset"):
        from .assets import Asset

        return Asset(**{k: v for k, v in data.items() if k in ("name", "uri", "group", "extra")})
    if any(name == a or name.startswith(a.rstrip("*")) and a.endswith("*") for a in allowed):
        cls = _load(name)
        if hasattr(cls, "model_validate"):
            return cls.model_validate(data)
        if hasattr(cls, "deserialize"):
            return cls.deserialize(data, o.get(VERSION, 0))
        return cls(**data)
    raise ImportError(
        f"{name} was not found in the allow list for deserialization of XComs: add it to "
        "[core] allowed_deserialization_classes, or push plain data"
    )

"""Assets as tasks see them: outlets, inlets and their events."""


class Asset:
    """An asset; name and uri default to each other."""

    def __init__(self, name=None, uri=None, *, group="asset", extra=None, watchers=None):
        if not name and not uri:
            raise TypeError("Asset() requires either 'name' or 'uri'")
        self.name, self.uri = name or uri, uri or name
        self.group, self.extra = group, extra or {}

    def __gust_xcom__(self):
        return {"name": self.name, "uri": self.uri, "group": self.group, "extra": self.extra}

    def __repr__(self):
        return f"Asset(name={self.name!r}, uri={self.uri!r})"

    def __hash__(self):
        return hash((self.name, self.uri))

    def __eq__(self, other):
        return isinstance(other, Asset) and (self.name, self.uri) == (other.name, other.uri)


class AssetAlias:
    """A name under which assets are added at run time."""

    def __init__(self, name, group="asset"):
        self.name, self.group = name, group

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return isinstance(other, AssetAlias) and self.name == other.name

    def __repr__(self):
        return f"AssetAlias(name={self.name!r})"


class Metadata:
    """Extra of an asset event, yielded by a task."""

    def __init__(self, asset, extra=None, alias=None):
        self.asset, self.extra, self.alias = asset, extra or {}, alias


class AssetEvent:
    """One event of an asset that the task may read."""

    def __init__(self, data):
        from .dt import as_pendulum, parse

        self.asset = Asset(name=data.get("asset_name"), uri=data.get("asset_uri"))
        self.uri = self.asset.uri
        self.extra = data.get("extra") or {}
        self.timestamp = as_pendulum(parse(data.get("timestamp")))
        self.source_dag_id = data.get("source_dag_id")
        self.source_run_id = data.get("source_run_id")
        self.source_task_id = data.get("source_task_id")
        self.source_map_index = data.get("source_map_index", -1)

    def __repr__(self):
        return f"AssetEvent(uri={self.uri!r}, extra={self.extra!r}, timestamp={self.timestamp})"


def _key(asset):
    if isinstance(asset, AssetAlias):
        return ("alias", asset.name)
    if isinstance(asset, str):
        return ("asset", asset)
    return ("asset", asset.name)


class InletEvents:
    """Events by asset: inlet_events[asset][-1]."""

    def __init__(self, events, uri_keys=False):
        self._by = {}
        for e in events:
            ev = AssetEvent(e)
            self._by.setdefault(ev.asset, []).append(ev)
        self._uri_keys = uri_keys

    def _find(self, asset):
        for a, evs in self._by.items():
            if asset == a or isinstance(asset, str) and asset in (a.name, a.uri) or getattr(asset, "name", None) == a.name:
                return evs
        return None

    def __getitem__(self, asset):
        evs = self._find(asset)
        if evs is None:
            if self._uri_keys:
                raise KeyError(asset)
            return []
        return evs

    def get(self, asset, default=None):
        return self._find(asset) or default

    def __iter__(self):
        return iter(self._by)

    def __len__(self):
        return len(self._by)

    def __contains__(self, asset):
        return self._find(asset) is not None

    def keys(self):
        return self._by.keys()

    def values(self):
        return self._by.values()

    def items(self):
        return self._by.items()


class OutletEvent:
    """What the task adds to the event of one outlet."""

    def __init__(self, key):
        self.key, self.extra, self.added = key, {}, []

    def add(self, asset, extra=None):
        if self.key[0] != "alias":
            return
        if isinstance(asset, str):
            asset = Asset(uri=asset)
        self.added.append({"name": asset.name, "uri": asset.uri, "extra": extra or {}})


class OutletEvents:
    """outlet_events[asset].extra = {…}; outlet_events[alias].add(asset)."""

    def __init__(self, outlets):
        self._outlets = outlets
        self._by = {}

    def __getitem__(self, asset):
        if isinstance(asset, int):
            o = self._outlets[asset]
            asset = AssetAlias(o["name"]) if o.get("__type") == "asset_alias" else Asset(name=o.get("name"), uri=o.get("uri"))
        k = _key(asset)
        for o in self._outlets:
            if k[0] == "asset" and k[1] in (o.get("name"), o.get("uri")) and o.get("__type") != "asset_alias":
                k = ("asset", o.get("name") or o.get("uri"))
                break
        return self._by.setdefault(k, OutletEvent(k))

    def __iter__(self):
        return iter(self._by)

    def __len__(self):
        return len(self._outlets)

    def dump(self, encode):
        return [{"kind": k[0], "name": k[1], "extra": encode(e.extra), "added": encode(e.added)} for k, e in self._by.items()]

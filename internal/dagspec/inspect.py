"""Describes Python sources for Gust's DAG loader, one JSON request a line.

Reads sources with the ast module; imports nothing of the user's. A request is
{"op": "module", "name": …}, {"op": "file", "path": …} or {"op": "path", "path": […]}.
"""
import ast
import importlib.machinery
import json
import os
import sys

MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict", "TypedDict"}
SEARCH = []
CACHE = {}


def literal(node):
    try:
        v = ast.literal_eval(node)
    except Exception:
        return None
    return tag(v)


def tag(v):
    if v is None or isinstance(v, (bool, int, str)):
        return v
    if isinstance(v, float):
        return v if v == v and abs(v) != float("inf") else None
    if isinstance(v, (list, tuple)):
        return [tag(x) for x in v]
    if isinstance(v, dict):
        return {str(k): tag(x) for k, x in v.items()}
    return None


def dotted(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return head + "." + node.attr if head else None
    return None


def is_mapping(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except SyntaxError:
            return False
    if isinstance(node, ast.Subscript):
        node = node.value
    name = dotted(node)
    return bool(name) and name.rsplit(".", 1)[-1] in MAPPINGS


def arguments(args, skip_first):
    out = []
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    for i, (a, d) in enumerate(zip(positional, defaults)):
        if i == 0 and skip_first:
            continue
        e = {"name": a.arg}
        if i < len(args.posonlyargs):
            e["pos_only"] = True
        if d is not None:
            e["has_default"] = True
            v = literal(d)
            if v is not None:
                e["default"] = v
        out.append(e)
    for a, d in zip(args.kwonlyargs, args.kw_defaults):
        e = {"name": a.arg, "kw_only": True}
        if d is not None:
            e["has_default"] = True
            v = literal(d)
            if v is not None:
                e["default"] = v
        out.append(e)
    return out


def function(node, method=False):
    f = {"kind": "function", "line": node.lineno, "args": arguments(node.args, method)}
    if isinstance(node, ast.AsyncFunctionDef):
        f["async"] = True
    if node.args.vararg:
        f["var_args"] = True
    if node.args.kwarg:
        f["kw_args"] = True
    if node.returns is not None and is_mapping(node.returns):
        f["mapping"] = True
    doc = ast.get_docstring(node, clean=False)
    if doc:
        f["doc"] = doc
    return f


def klass(node, imports, module):
    c = {"kind": "class", "line": node.lineno, "bases": [], "methods": [], "attrs": {}}
    for b in node.bases:
        name = dotted(b)
        if not name:
            continue
        head, _, rest = name.partition(".")
        target = imports.get(head)
        if target:
            name = target + ("." + rest if rest else "")
        elif not rest:
            name = module + "." + name
        c["bases"].append(name)
    doc = ast.get_docstring(node, clean=False)
    if doc:
        c["doc"] = doc
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            c["methods"].append(item.name)
            if item.name == "__init__":
                f = function(item, True)
                c["has_init"] = True
                c["args"] = f["args"]
                for k in ("var_args", "kw_args"):
                    if k in f:
                        c[k] = True
                names = {a["name"] for a in f["args"]}
                keys, selfs = set(), {}
                for sub in ast.walk(item):
                    if isinstance(sub, ast.Call) and isinstance(sub.func, ast.Attribute) and sub.func.attr == "__init__":
                        keys |= {k.arg for k in sub.keywords if k.arg}
                    if isinstance(sub, ast.Assign) and len(sub.targets) == 1:
                        t = sub.targets[0]
                        if (
                            isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name) and t.value.id == "self"
                            and isinstance(sub.value, ast.Name) and sub.value.id in names
                        ):
                            selfs[t.attr] = sub.value.id
                if keys:
                    c["super_keys"] = sorted(keys)
                if selfs:
                    c["self_attrs"] = selfs
        else:
            target, val = None, None
            if isinstance(item, ast.Assign) and len(item.targets) == 1 and isinstance(item.targets[0], ast.Name):
                target, val = item.targets[0].id, item.value
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
                target, val = item.target.id, item.value
            if target:
                v = literal(val)
                c["attrs"][target] = v
    return c


def describe(path, name):
    try:
        st = os.stat(path)
        key = (path, name, st.st_mtime_ns, st.st_size)
    except OSError:
        return {"name": name, "found": False, "missing": name}
    if key in CACHE:
        return CACHE[key]
    m = {"name": name, "found": True, "file": path, "symbols": {}, "imports": []}
    CACHE[key] = m
    try:
        with open(path, "rb") as f:
            tree = ast.parse(f.read(), path)
    except SyntaxError as e:
        m["error"], m["line"] = e.msg or "invalid syntax", e.lineno or 0
        return m
    except (ValueError, RecursionError, MemoryError) as e:
        m["error"], m["line"] = str(e), 0
        return m
    package = name if os.path.basename(path) == "__init__.py" else name.rpartition(".")[0]
    imports, symbols = {}, m["symbols"]

    def walk(body):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                symbols[node.name] = function(node)
                if node.name == "__getattr__":
                    m["star"] = True
            elif isinstance(node, ast.ClassDef):
                symbols[node.name] = klass(node, imports, name)
            elif isinstance(node, ast.Import):
                for a in node.names:
                    bound = a.asname or a.name.partition(".")[0]
                    imports[bound] = a.name if a.asname else bound
                    symbols.setdefault(bound, {"kind": "value"})
                    m["imports"].append(a.name)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = package.split(".") if package else []
                    parts = parts[: len(parts) - node.level + 1]
                    base = ".".join(parts + ([base] if base else []))
                m["imports"].append(base)
                for a in node.names:
                    if a.name == "*":
                        m["star"] = True
                        continue
                    bound = a.asname or a.name
                    imports[bound] = base + "." + a.name
                    symbols[bound] = {"kind": "import", "from": base + "." + a.name}
                    m["imports"].append(base + "." + a.name)
            elif isinstance(node, ast.Assign):
                for t in node.targets:
                    for n in ast.walk(t):
                        if isinstance(n, ast.Name):
                            alias = dotted(node.value)
                            if isinstance(t, ast.Name) and alias in symbols:
                                symbols[n.id] = symbols[alias]
                                continue
                            s = {"kind": "value", "line": node.lineno}
                            v = literal(node.value)
                            if v is not None or isinstance(node.value, ast.Constant):
                                s["value"] = v
                            if isinstance(node.value, ast.Lambda):
                                s = {"kind": "function", "line": node.lineno, "args": arguments(node.value.args, False)}
                                if node.value.args.kwarg:
                                    s["kw_args"] = True
                                if node.value.args.vararg:
                                    s["var_args"] = True
                            symbols[n.id] = s
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                symbols[node.target.id] = {"kind": "value", "line": node.lineno}
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                walk(node.body)
                for h in getattr(node, "handlers", []):
                    walk(h.body)
                walk(getattr(node, "orelse", []))
                walk(getattr(node, "finalbody", []))

    walk(tree.body)
    return m


def find(name):
    parts = name.split(".")
    places = SEARCH + [p or "." for p in sys.path]
    for i, part in enumerate(parts):
        sofar = ".".join(parts[: i + 1])
        last = i == len(parts) - 1
        nxt, hit = [], None
        for place in places:
            d = os.path.join(place, part)
            init = os.path.join(d, "__init__.py")
            if os.path.isfile(init):
                nxt, hit = [d], init
                break
            if os.path.isfile(d + ".py"):
                hit = d + ".py"
                break
            if any(os.path.isfile(d + s) for s in importlib.machinery.EXTENSION_SUFFIXES):
                return {"name": name, "found": True, "opaque": True}
            if os.path.isdir(d):
                nxt.append(d)
        if hit is None and not nxt:
            if i == 0 and part in sys.builtin_module_names:
                return {"name": name, "found": True, "opaque": True}
            return {"name": name, "found": False, "missing": sofar}
        if last:
            if hit is None:
                return {"name": name, "found": True, "opaque": True}
            return describe(hit, name)
        if not nxt:
            return {"name": name, "found": False, "missing": ".".join(parts[: i + 2]), "parent": sofar}
        places = nxt
    return {"name": name, "found": False, "missing": name}


def main():
    for line in sys.stdin:
        try:
            req = json.loads(line)
            op = req["op"]
            if op == "path":
                SEARCH[:] = req["path"]
                res = {}
            elif op == "module":
                res = find(req["name"])
            else:
                stem = os.path.splitext(os.path.basename(req["path"]))[0]
                res = describe(req["path"], stem)
        except Exception as e:
            res = {"found": False, "error": type(e).__name__ + ": " + str(e)}
        sys.stdout.write(json.dumps(res) + "\n")
        sys.stdout.flush()


main()

package dagspec

import (
	"fmt"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/operatorspec"
	"github.com/gustflow/gust/internal/pyrepr"
)

// cast builds the __type__ objects of a tree bottom-up, as dag-factory's
// cast_with_type: containers are rebuilt per occurrence.
func (l *loader) cast(v value, field string) (value, error) {
	if l.nodes++; l.nodes > l.limits.Nodes {
		return nil, pyErr("MemoryError", "anchors and aliases expand to more than %d values", l.limits.Nodes).hint("use fewer aliases or split the file")
	}
	switch v := v.(type) {
	case *dict:
		return l.castDict(v, field)
	case *list:
		out := &list{items: make([]item, len(v.items))}
		for i, it := range v.items {
			x, err := l.cast(it.val, fmt.Sprintf("%s[%d]", field, i))
			if err != nil {
				return nil, located(err, fmt.Sprintf("%s[%d]", field, i), it.pos)
			}
			out.items[i] = item{x, it.pos}
		}
		return out, nil
	}
	return v, nil
}

// located adds a place to an error that has none.
func located(err error, field string, at pos) error {
	if e, ok := err.(*pyError); ok {
		return e.in(field, at)
	}
	return err
}

func join(field, key string) string {
	switch "" {
	case field:
		return key
	case key:
		return field
	}
	return field + "." + key
}

func (l *loader) castDict(d *dict, field string) (value, error) {
	typ, typed := d.lookup("__type__")
	if typ == "builtins.list" {
		if items, ok := d.lookup("items"); ok {
			src, ok := items.(*list)
			if !ok {
				return nil, pyErr("TypeError", "'%s' object is not iterable", typeName(items)).hint("items expects a list").in(join(field, "items"), d.at("items"))
			}
			return l.cast(src, join(field, "items"))
		}
	}
	out := &dict{entries: make([]entry, 0, len(d.entries))}
	for _, e := range d.entries {
		if e.key == "__type__" || e.key == "__args__" {
			continue
		}
		name := join(field, pyStr(e.key))
		x, err := l.cast(e.val, name)
		if err != nil {
			return nil, located(err, name, e.vpos)
		}
		e.val = x
		out.set(e)
	}
	var args []value
	if raw := d.get("__args__"); raw != nil {
		x, err := l.cast(raw, join(field, "__args__"))
		if err != nil {
			return nil, located(err, join(field, "__args__"), d.at("__args__"))
		}
		list, ok := x.(*list)
		if !ok {
			return nil, pyErr("ValueError", "'args' must resolve to a list, got %s", classRepr(x)).in(join(field, "__args__"), d.at("__args__"))
		}
		for _, it := range list.items {
			args = append(args, it.val)
		}
	}
	if !typed {
		return out, nil
	}
	v, err := l.construct(typ, args, out)
	if err != nil {
		return nil, located(err, join(field, "__type__"), d.at("__type__"))
	}
	return v, nil
}

type maker func(l *loader, args []value, kw *dict) (value, error)

// makers build the objects of known classes, by every path that leads to them.
var makers = map[string]maker{}

// movedTypes are paths that Airflow 3 still imports with a warning.
var movedTypes = map[string]string{
	"airflow.models.param.Param": "airflow.sdk.Param", "airflow.models.Param": "airflow.sdk.Param",
}

func init() {
	reg := func(m maker, paths ...string) {
		for _, p := range paths {
			makers[p] = m
		}
	}
	reg(makeTimedelta, "datetime.timedelta")
	reg(makeDatetime, "datetime.datetime")
	reg(makePendulum, "pendulum.datetime", "pendulum.create", "pendulum.DateTime", "pendulum.datetime.DateTime")
	reg(makeDate, "datetime.date", "pendulum.date", "pendulum.Date")
	reg(makeTime, "datetime.time", "pendulum.time", "pendulum.Time")
	reg(makeTimedelta, "pendulum.duration", "pendulum.Duration")
	reg(makeZone, "pendulum.timezone", "zoneinfo.ZoneInfo", "pendulum.Timezone", "pendulum.tz.timezone.Timezone")
	reg(makeRelativedelta, "dateutil.relativedelta.relativedelta")
	for i, n := range weekdayShort {
		reg(makeWeekday(i), "dateutil.relativedelta."+n)
	}
	asset := func(c *class, group string) maker {
		return func(l *loader, args []value, kw *dict) (value, error) { return l.newAsset(c, group, args, kw) }
	}
	reg(asset(classAsset, "asset"), "airflow.sdk.Asset", classAsset.path)
	reg(asset(classDataset, "dataset"), classDataset.path)
	reg(asset(classModel, "model"), classModel.path)
	reg(func(_ *loader, a []value, kw *dict) (value, error) { return newAlias(a, kw) }, "airflow.sdk.AssetAlias", classAlias.path)
	reg(func(_ *loader, a []value, kw *dict) (value, error) {
		return newCondition(classAll, kindAssetAll, a, kw)
	}, "airflow.sdk.AssetAll", classAll.path)
	reg(func(_ *loader, a []value, kw *dict) (value, error) {
		return newCondition(classAny, kindAssetAny, a, kw)
	}, "airflow.sdk.AssetAny", classAny.path)
	ref := func(c *class, field string) maker {
		s := &signature{name: c.name() + ".__init__", pos: []string{field}, minPos: 1}
		return func(_ *loader, args []value, kw *dict) (value, error) {
			a, _, err := s.bind(args, kw)
			if err != nil {
				return nil, err
			}
			return &object{class: c, kind: kindAssetRef, attrs: []attr{{field, a[field]}}}, nil
		}
	}
	reg(ref(classNameRef, "name"), classNameRef.path)
	reg(ref(classURIRef, "uri"), classURIRef.path)
	reg(makeWatcher, "airflow.sdk.AssetWatcher", classWatcher.path)
	reg(makeAccess, "airflow.sdk.AssetAccessControl", classAccess.path)
	reg(makeParam, "airflow.sdk.Param", "airflow.sdk.definitions.param.Param")
	for path, m := range timetableMakers {
		m := m
		mk := func(l *loader, args []value, kw *dict) (value, error) {
			a, extra, err := m.sig.bind(args, kw)
			if err != nil {
				return nil, err
			}
			o, err := m.make(l, &class{m.path}, strings.HasPrefix(m.path, coreTT), a, extra)
			if err != nil {
				return nil, err
			}
			return o, nil
		}
		reg(mk, path)
		if rest, ok := strings.CutPrefix(path, sdkTT); ok {
			n := attrPart(rest)
			switch n {
			case "NullTimetable", "OnceTimetable", "ContinuousTimetable", "AssetTriggeredTimetable":
			default:
				reg(mk, "airflow.sdk."+n)
			}
		}
	}
	builtin := func(name string, f func(args []value, kw *dict) (value, error)) {
		reg(func(_ *loader, a []value, kw *dict) (value, error) { return f(a, kw) }, "builtins."+name)
	}
	builtin("dict", func(args []value, kw *dict) (value, error) {
		d := &dict{}
		if len(args) > 0 {
			src, ok := args[0].(*dict)
			if !ok {
				return nil, pyErr("TypeError", "'%s' object is not iterable", typeName(args[0]))
			}
			d = src.clone()
		}
		for _, e := range kw.entries {
			d.set(e)
		}
		return d, nil
	})
	builtin("str", func(args []value, _ *dict) (value, error) {
		if len(args) == 0 {
			return "", nil
		}
		return pyStr(args[0]), nil
	})
	builtin("int", func(args []value, _ *dict) (value, error) {
		if len(args) == 0 {
			return int64(0), nil
		}
		return toInt(args[0])
	})
	builtin("float", func(args []value, _ *dict) (value, error) {
		if len(args) == 0 {
			return 0.0, nil
		}
		switch v := args[0].(type) {
		case string:
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				return nil, pyErr("ValueError", "could not convert string to float: %s", pyRepr(v))
			}
			return f, nil
		}
		if f, ok := number(args[0]); ok {
			return f, nil
		}
		return nil, pyErr("TypeError", "float() argument must be a string or a real number, not '%s'", typeName(args[0]))
	})
	builtin("bool", func(args []value, _ *dict) (value, error) { return len(args) > 0 && truthy(args[0]), nil })
	seq := func(wrap func([]value) value) func([]value, *dict) (value, error) {
		return func(args []value, kw *dict) (value, error) {
			if len(kw.entries) > 0 {
				return nil, pyErr("TypeError", "list() takes no keyword arguments").hint("put the elements under items:")
			}
			if len(args) == 0 {
				return wrap(nil), nil
			}
			switch v := args[0].(type) {
			case *list:
				out := make([]value, len(v.items))
				for i := range v.items {
					out[i] = v.items[i].val
				}
				return wrap(out), nil
			case *tuple:
				return wrap(append([]value(nil), v.items...)), nil
			}
			return nil, pyErr("TypeError", "'%s' object is not iterable", typeName(args[0]))
		}
	}
	builtin("list", seq(func(v []value) value { return newList(v...) }))
	builtin("tuple", seq(func(v []value) value { return &tuple{v} }))
	builtin("set", seq(func(v []value) value { return &set{v} }))
}

// construct imports a class or function by path and calls it.
func (l *loader) construct(typ value, args []value, kw *dict) (value, error) {
	path, ok := typ.(string)
	if !ok {
		return nil, pyErr("AttributeError", "'%s' object has no attribute 'rsplit'", typeName(typ)).hint("__type__ expects an import path")
	}
	if now, ok := movedTypes[path]; ok {
		l.warn("airflow.utils.deprecation_tools.DeprecatedImportWarning", "", pos{}, "The `%s` attribute is deprecated. Please use `'%s'`.", path, now)
		path = now
	}
	if m, ok := makers[path]; ok {
		return m(l, args, kw)
	}
	if !l.opt.Strict {
		switch path { // Airflow 2 spellings, converted
		case "airflow.datasets.Dataset", "airflow.Dataset":
			return l.newAsset(classAsset, "asset", args, kw)
		}
	}
	module, name := modulePart(path), attrPart(path)
	if module == "" {
		return nil, pyErr("ImportError", "%s doesn't look like a module path", path).hint("__type__ expects module and class, such as datetime.timedelta")
	}
	if known := builtinModules[module]; known != nil {
		return nil, pyErr("ImportError", "Module \"%s\" does not define a \"%s\" attribute/class", module, name).
			hint("%s", suggestType(path))
	}
	if strings.HasPrefix(path, "airflow.") {
		return l.airflowObject(path, args, kw)
	}
	if strings.HasPrefix(path, "kubernetes.client.") && module != "kubernetes.client.rest" {
		return l.kubernetesModel(name, args, kw)
	}
	if strings.HasPrefix(path, "tenacity.") {
		return l.tenacityObject(path, args, kw), nil
	}
	c, err := l.importPath(path)
	if err != nil {
		return nil, err
	}
	return l.callSymbol(c, path, args, kw)
}

// kubernetesPath is where a model of the Kubernetes client is defined.
func kubernetesPath(name string) string {
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return "kubernetes.client.models." + b.String() + "." + name
}

// builtinModules are the modules whose classes are known one by one.
var builtinModules = map[string]*struct{}{"datetime": {}, "builtins": {}, "dateutil.relativedelta": {}, "zoneinfo": {}, "pendulum": {}}

func suggestType(path string) string {
	var known []string
	for p := range makers {
		known = append(known, p)
	}
	sort.Strings(known)
	best, score := "", 4
	for _, p := range known {
		if d := operatorspec.Distance(path, p); d < score {
			best, score = p, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known types are datetime.timedelta, dateutil.relativedelta.relativedelta, airflow.sdk.Asset, airflow.sdk.Param and Airflow's timetables"
}

// airflowObject handles classes of Airflow that Gust has no constructor for: a
// trigger of a watcher, an operator's helper object. They are kept as they are
// written, for the Python worker.
func (l *loader) airflowObject(path string, args []value, kw *dict) (value, error) {
	module, name := modulePart(path), attrPart(path)
	if module == "airflow.sdk" || strings.HasPrefix(module, "airflow.timetables") || strings.HasPrefix(module, "airflow.sdk.definitions.asset") {
		if !operatorspec.KnownModule(module) {
			return nil, noModule(module).hint("%s", suggestType(path))
		}
		if !sdkNames[name] {
			return nil, pyErr("ImportError", "Module \"%s\" does not define a \"%s\" attribute/class", module, name).hint("%s", suggestType(path))
		}
	}
	if !operatorspec.KnownModule(module) && !unknownProvider(module) {
		return nil, noModule(module).hint("%s", suggestType(path))
	}
	l.warn("", "", pos{}, "%s is built by the Python worker, not at load: its arguments are not checked", path)
	return newInstance(&class{path}, args, kw), nil
}

func newInstance(c *class, args []value, kw *dict) *object {
	o := &object{class: c, kind: kindInstance, args: args, kw: kw}
	for _, e := range kw.entries {
		o.attrs = append(o.attrs, attr{pyStr(e.key), e.val})
	}
	return o
}

// sdkNames are names of airflow.sdk that are not constructed here but exist.
var sdkNames = map[string]bool{"AllowedKeyMapper": true, "ChainMapper": true,
	"DeadlineReference": true, "ExceptionRetryPolicy": true, "FanOutMapper": true, "FixedKeyMapper": true, "IdentityMapper": true, "Label": true,
	"Metadata": true, "ObjectStoragePath": true, "ParamsDict": true, "PartitionedAtRuntime": true, "PartitionedAssetTimetable": true, "PartitionMapper": true,
	"ProductMapper": true, "RetryPolicy": true, "RetryRule": true, "RollupMapper": true, "StartOfDayMapper": true, "StartOfHourMapper": true,
	"StartOfMonthMapper": true, "StartOfQuarterMapper": true, "StartOfWeekMapper": true, "StartOfYearMapper": true, "Connection": true}

func noModule(module string) *pyError {
	// Python names the first part of the path that does not exist.
	parts := strings.Split(module, ".")
	for i := range parts {
		p := strings.Join(parts[:i+1], ".")
		if !operatorspec.KnownModule(p) {
			return pyErr("ModuleNotFoundError", "No module named '%s'", p)
		}
	}
	return pyErr("ModuleNotFoundError", "No module named '%s'", module)
}

// unknownProvider reports whether module belongs to a provider package that the
// operator table does not describe.
func unknownProvider(module string) bool {
	rest, ok := strings.CutPrefix(module, "airflow.providers.")
	if !ok {
		return false
	}
	parts := strings.Split(rest, ".")
	if len(parts) < 2 {
		return false
	}
	for i := 1; i < len(parts); i++ {
		if operatorspec.KnownModule("airflow.providers." + strings.Join(parts[:i], ".")) {
			group := parts[0] == "common" || parts[0] == "cncf"
			if !(group && i == 1) {
				return false
			}
		}
	}
	return true
}

func number(v value) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	}
	return 0, false
}

func toInt(v value) (value, error) {
	switch v := v.(type) {
	case int64, *big.Int:
		return v, nil
	case bool:
		f, _ := number(v)
		return int64(f), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, pyErr("ValueError", "cannot convert float %s to integer", pyrepr.Float(v))
		}
		return int64(math.Trunc(v)), nil
	case string:
		s := strings.ReplaceAll(strings.TrimSpace(v), "_", "")
		if n, ok := new(big.Int).SetString(s, 10); ok {
			if n.IsInt64() {
				return n.Int64(), nil
			}
			return n, nil
		}
		return nil, pyErr("ValueError", "invalid literal for int() with base 10: %s", pyRepr(v))
	}
	return nil, pyErr("TypeError", "int() argument must be a string, a bytes-like object or a real number, not '%s'", typeName(v))
}

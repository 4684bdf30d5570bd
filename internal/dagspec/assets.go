package dagspec

import (
	"net/url"
	"sort"
	"strings"
)

const assetModule = "airflow.sdk.definitions.asset."

var (
	classAsset    = &class{assetModule + "Asset"}
	classAlias    = &class{assetModule + "AssetAlias"}
	classAll      = &class{assetModule + "AssetAll"}
	classAny      = &class{assetModule + "AssetAny"}
	classNameRef  = &class{assetModule + "AssetNameRef"}
	classURIRef   = &class{assetModule + "AssetUriRef"}
	classWatcher  = &class{assetModule + "AssetWatcher"}
	classAccess   = &class{assetModule + "access_control.AssetAccessControl"}
	classDataset  = &class{assetModule + "Dataset"}
	classModel    = &class{assetModule + "Model"}
	assetNameSig  = &signature{name: "Asset.__init__", pos: []string{"name", "uri"}, kwOnly: []string{"group", "extra", "watchers", "access_control"}}
	aliasSig      = &signature{name: "AssetAlias.__init__", pos: []string{"name"}, minPos: 1, kwOnly: []string{"group"}}
	watcherSig    = &signature{name: "AssetWatcher.__init__", pos: []string{"name", "trigger"}, minPos: 2}
	accessSig     = &signature{name: "AssetAccessControl.__init__", kwOnly: []string{"producer_teams", "consumer_teams", "allow_global"}}
	objectsSig    = &signature{name: "AssetBooleanCondition.__init__", varArgs: true}
	assetURIBytes = 1500
)

// newAsset is Asset(...), Dataset(...) or Model(...).
func (l *loader) newAsset(c *class, group string, args []value, kw *dict) (value, error) {
	sig := *assetNameSig
	sig.name = c.name() + ".__init__"
	a, _, err := sig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	name, uri := a["name"], a["uri"]
	switch {
	case name == nil && uri == nil:
		return nil, pyErr("TypeError", "Asset() requires either 'name' or 'uri'")
	case name == nil:
		name = pyStr(uri)
	case uri == nil:
		uri = name
	}
	if err := checkIdentifier(c.name(), "name", name, true); err != nil {
		return nil, err
	}
	if name == "self" || name == "context" {
		return nil, pyErr("ValueError", "prohibited name for asset: %s", name)
	}
	clean, err := sanitizeURI(pyStr(uri))
	if err != nil {
		return nil, err
	}
	if err := checkIdentifier(c.name(), "uri", clean, true); err != nil {
		return nil, err
	}
	var g value = group
	if a["group"] != nil {
		g = a["group"]
		if err := checkIdentifier(c.name(), "group", g, false); err != nil {
			return nil, err
		}
	}
	extra, watchers, access := a["extra"], a["watchers"], a["access_control"]
	if extra == nil {
		extra = &dict{}
	}
	if watchers == nil {
		watchers = &list{}
	}
	if access == nil {
		access = newAccessControl()
	}
	return &object{class: c, kind: kindAsset, attrs: []attr{{"name", name}, {"uri", clean}, {"group", g}, {"extra", extra}, {"watchers", watchers},
		{"access_control", access}}}, nil
}

func newAccessControl() *object {
	return &object{class: classAccess, kind: kindOther, attrs: []attr{{"producer_teams", &list{}}, {"consumer_teams", nil}, {"allow_global", true}}}
}

func checkIdentifier(class, field string, v value, required bool) error {
	s, ok := v.(string)
	switch {
	case !ok:
		return pyErr("ValueError", "%s %s must be a string", class, field)
	case len([]rune(s)) > assetURIBytes:
		return pyErr("ValueError", "%s %s cannot exceed 1500 characters", class, field)
	case s != "" && strings.TrimSpace(s) == "":
		return pyErr("ValueError", "%s %s cannot be just whitespace", class, field)
	case s == "" && required:
		return pyErr("ValueError", "%s %s cannot be empty", class, field)
	}
	return nil
}

// sanitizeURI normalises an asset's URI as Airflow does; text that is no URI stays.
func sanitizeURI(s string) (string, error) {
	i := strings.Index(s, ":")
	if i <= 0 {
		return s, nil
	}
	scheme := strings.ToLower(s[:i])
	for j, c := range []byte(scheme) {
		if !(c >= 'a' && c <= 'z' || j > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return s, nil
		}
	}
	rest, fragment := s[i+1:], ""
	if strings.HasPrefix(scheme, "x-") {
		return s, nil
	}
	if scheme == "airflow" {
		return "", pyErr("ValueError", "Asset scheme 'airflow' is reserved")
	}
	if j := strings.IndexByte(rest, '#'); j >= 0 {
		rest, fragment = rest[:j], rest[j+1:]
	}
	_ = fragment // dropped
	query := ""
	if j := strings.IndexByte(rest, '?'); j >= 0 {
		rest, query = rest[:j], rest[j+1:]
	}
	netloc, path, hasNetloc := "", rest, strings.HasPrefix(rest, "//")
	if hasNetloc {
		netloc, path = rest[2:], ""
		if j := strings.IndexByte(netloc, '/'); j >= 0 {
			netloc, path = netloc[:j], netloc[j:]
		}
	}
	if j := strings.LastIndexByte(netloc, '@'); j >= 0 && strings.Contains(netloc[:j], ":") {
		netloc = netloc[j+1:]
	}
	if path = strings.TrimRight(path, "/"); path == "" {
		path = "/"
	}
	if query != "" {
		query = sortedQuery(query)
	}
	if scheme == "s3" && netloc == "" {
		return "", pyErr("ValueError", "URI format s3:// must contain a bucket name")
	}
	out := scheme + ":"
	if netloc != "" || hasNetloc && netloc == "" || scheme == "file" || scheme == "s3" {
		out += "//" + netloc
	}
	out += path
	if query != "" {
		out += "?" + query
	}
	return out, nil
}

func sortedQuery(q string) string {
	type pair struct{ k, v string }
	var pairs []pair
	for _, part := range strings.Split(q, "&") {
		k, v, ok := strings.Cut(part, "=")
		if !ok || v == "" {
			continue // parse_qsl drops blanks
		}
		unescape := func(s string) string {
			if u, err := url.QueryUnescape(s); err == nil {
				return u
			}
			return s
		}
		pairs = append(pairs, pair{unescape(k), unescape(v)})
	}
	sort.Slice(pairs, func(i, j int) bool {
		if pairs[i].k != pairs[j].k {
			return pairs[i].k < pairs[j].k
		}
		return pairs[i].v < pairs[j].v
	})
	parts := make([]string, len(pairs))
	for i, p := range pairs {
		parts[i] = url.QueryEscape(p.k) + "=" + url.QueryEscape(p.v)
	}
	return strings.Join(parts, "&")
}

func newAlias(args []value, kw *dict) (value, error) {
	a, _, err := aliasSig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	if err := checkIdentifier("AssetAlias", "name", a["name"], true); err != nil {
		return nil, err
	}
	var g value = "asset"
	if x, ok := a["group"]; ok {
		g = x
		if err := checkIdentifier("AssetAlias", "group", g, false); err != nil {
			return nil, err
		}
	}
	return &object{class: classAlias, kind: kindAssetAlias, attrs: []attr{{"name", a["name"]}, {"group", g}}}, nil
}

func newCondition(c *class, kind objectKind, args []value, kw *dict) (value, error) {
	_, objs, err := objectsSig.bind(args, kw)
	if err != nil {
		return nil, err
	}
	for _, o := range objs {
		if !isAsset(o) {
			return nil, pyErr("TypeError", "expect asset expressions in condition").hint("found %s", typeName(o))
		}
	}
	return &object{class: c, kind: kind, attrs: []attr{{"objects", &tuple{objs}}}}, nil
}

// combine is a & b (all) or a | b (any) on assets; operands of the same kind flatten.
func combine(c *class, kind objectKind, a, b *object) *object {
	var objs []value
	if a.kind == kind {
		objs = append(objs, a.get("objects").(*tuple).items...)
	} else {
		objs = append(objs, a)
	}
	return &object{class: c, kind: kind, attrs: []attr{{"objects", &tuple{append(objs, b)}}}}
}

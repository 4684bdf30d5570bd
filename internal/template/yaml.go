package template

import (
	"math"
	"regexp"
	"sort"
	"strings"

	yaml "go.yaml.in/yaml/v3"

	"github.com/gustflow/gust/internal/jinja"
)

var (
	yamlInt   = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yamlFloat = regexp.MustCompile(`^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	yamlDate  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	yamlTime  = regexp.MustCompile(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?$`)
)

// yamlLoad is yaml.safe_load: YAML 1.1 as PyYAML reads it.
func yamlLoad(b jinja.Bound) (jinja.Value, error) {
	v, err := jinja.Unwrap(b.V(0))
	if err != nil {
		return nil, err
	}
	text, ok := v.(string)
	if !ok {
		if text, err = jinja.Str(v); err != nil {
			return nil, err
		}
	}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return nil, &jinja.Error{Class: "ParserError", Message: err.Error(), Cause: err}
	}
	if len(n.Content) == 0 {
		return nil, nil
	}
	budget := 1_000_000
	return yamlValue(n.Content[0], 0, &budget)
}

func yamlValue(n *yaml.Node, depth int, budget *int) (jinja.Value, error) {
	*budget--
	if depth > 200 || *budget < 0 {
		return nil, jinja.Errorf(jinja.ClassLimit, "the YAML document is too deep or too large")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return yamlValue(n.Alias, depth+1, budget)
	case yaml.SequenceNode:
		l := jinja.NewList()
		for _, c := range n.Content {
			v, err := yamlValue(c, depth+1, budget)
			if err != nil {
				return nil, err
			}
			l.Items = append(l.Items, v)
		}
		return l, nil
	case yaml.MappingNode:
		d := jinja.NewDict()
		merged := jinja.NewDict()
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := yamlValue(n.Content[i+1], depth+1, budget)
			if err != nil {
				return nil, err
			}
			if n.Content[i].Value == "<<" && n.Content[i].Style == 0 {
				for _, m := range append([]jinja.Value{v}, listItems(v)...) {
					if x, ok := m.(*jinja.Dict); ok {
						x.Each(func(k, e jinja.Value) bool {
							if _, has := merged.Get(k); !has {
								merged.Set(k, e)
							}
							return true
						})
					}
				}
				continue
			}
			k, err := yamlValue(n.Content[i], depth+1, budget)
			if err != nil {
				return nil, err
			}
			switch k.(type) {
			case *jinja.List, *jinja.Dict:
				return nil, jinja.Errorf("ConstructorError", "found unhashable key")
			}
			d.Set(k, v)
		}
		if merged.Len() > 0 {
			d.Each(func(k, v jinja.Value) bool { merged.Set(k, v); return true })
			return merged, nil
		}
		return d, nil
	}
	return yamlScalar(n)
}

func listItems(v jinja.Value) []jinja.Value {
	if l, ok := v.(*jinja.List); ok {
		return l.Items
	}
	return nil
}

func yamlScalar(n *yaml.Node) (jinja.Value, error) {
	s := n.Value
	quoted := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	if quoted || n.Style&yaml.TaggedStyle != 0 && n.Tag == "!!str" {
		return s, nil
	}
	if n.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(n.Tag, "!!") {
		return nil, jinja.Errorf("ConstructorError", "could not determine a constructor for the tag '%s'", n.Tag)
	}
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil, nil
	}
	switch strings.ToLower(s) {
	case "yes", "true", "on":
		if s == strings.ToLower(s) || s == strings.ToUpper(s) || s == strings.Title(strings.ToLower(s)) { //nolint:staticcheck // ASCII words
			return true, nil
		}
	case "no", "false", "off":
		if s == strings.ToLower(s) || s == strings.ToUpper(s) || s == strings.Title(strings.ToLower(s)) { //nolint:staticcheck // ASCII words
			return false, nil
		}
	}
	switch {
	case yamlInt.MatchString(s):
		return yamlNumber(s)
	case yamlFloat.MatchString(s):
		t := strings.ToLower(strings.ReplaceAll(s, "_", ""))
		switch strings.TrimLeft(t, "+-") {
		case ".inf":
			if t[0] == '-' {
				return math.Inf(-1), nil
			}
			return math.Inf(1), nil
		case ".nan":
			return math.NaN(), nil
		}
		if strings.Contains(t, ":") {
			return s, nil
		}
		v, err := jinja.ParseJSON(normalFloat(t))
		if err != nil {
			return s, nil
		}
		if i, ok := v.(int64); ok {
			return float64(i), nil
		}
		return v, nil
	case yamlDate.MatchString(s):
		d, err := jinja.ParseDateTime(s)
		if err != nil {
			return nil, err
		}
		return d.DatePart(), nil
	case yamlTime.MatchString(s):
		if d, err := jinja.ParseDateTime(strings.Replace(s, "t", "T", 1)); err == nil {
			return d, nil
		}
	}
	return s, nil
}

// normalFloat writes a YAML float as JSON does.
func normalFloat(t string) string {
	sign := ""
	if t[0] == '+' || t[0] == '-' {
		sign, t = strings.TrimPrefix(t[:1], "+"), t[1:]
	}
	m, e, hasE := strings.Cut(t, "e")
	i, f, _ := strings.Cut(m, ".")
	i = strings.TrimLeft(i, "0")
	if i == "" {
		i = "0"
	}
	if f == "" {
		f = "0"
	}
	out := sign + i + "." + f
	if hasE {
		out += "e" + e
	}
	return out
}

func yamlNumber(s string) (jinja.Value, error) {
	t := strings.ReplaceAll(s, "_", "")
	sign := ""
	if t[0] == '-' || t[0] == '+' {
		sign, t = strings.TrimPrefix(t[:1], "+"), t[1:]
	}
	switch {
	case t == "0":
		return int64(0), nil
	case strings.Contains(t, ":"):
		n := int64(0)
		for _, p := range strings.Split(t, ":") {
			v, _ := jinja.ParseJSON(strings.TrimLeft(p[:len(p)-1], "0") + p[len(p)-1:])
			i, _ := v.(int64)
			n = n*60 + i
		}
		if sign == "-" {
			n = -n
		}
		return n, nil
	case len(t) > 1 && t[0] == '0' && t[1] >= '0' && t[1] <= '7':
		t = "0o" + t[1:]
	}
	v, ok := jinja.LiteralEval(sign + t)
	if !ok {
		return s, nil
	}
	return v, nil
}

// yamlDump is yaml.dump for plain data in block style.
func yamlDump(b jinja.Bound) (jinja.Value, error) {
	sortKeys, flow := true, false
	for _, k := range b.Kw() {
		on, err := jinja.IsTrue(k.Value)
		if err != nil {
			return nil, err
		}
		switch k.Name {
		case "sort_keys":
			sortKeys = on
		case "default_flow_style":
			flow = on
		}
	}
	n, err := yamlNode(b.V(0), sortKeys, flow, 0)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(n); err != nil {
		return nil, &jinja.Error{Class: "YAMLError", Message: err.Error(), Cause: err}
	}
	s := out.String()
	if n.Kind == yaml.ScalarNode && !strings.HasSuffix(s, "...\n") && n.Style == 0 {
		s += "...\n"
	}
	return s, nil
}

func yamlNode(v jinja.Value, sortKeys, flow bool, depth int) (*yaml.Node, error) {
	if depth > 200 {
		return nil, jinja.Errorf("RecursionError", "maximum recursion depth exceeded")
	}
	v, err := jinja.Unwrap(v)
	if err != nil {
		return nil, err
	}
	style := yaml.Style(0)
	if flow {
		style = yaml.FlowStyle
	}
	var items []jinja.Value
	switch x := v.(type) {
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	case bool:
		s := "false"
		if x {
			s = "true"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: s}, nil
	case string:
		n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: x}
		plain, err := yamlScalar(&yaml.Node{Kind: yaml.ScalarNode, Value: x})
		if _, isText := plain.(string); !isText || err != nil {
			n.Style = yaml.SingleQuotedStyle
		}
		return n, nil
	case *jinja.Dict:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: style}
		keys := x.Keys()
		if sortKeys {
			sort.SliceStable(keys, func(i, j int) bool {
				a, _ := jinja.Str(keys[i])
				c, _ := jinja.Str(keys[j])
				return a < c
			})
		}
		for _, k := range keys {
			e, _ := x.Get(k)
			kn, err := yamlNode(k, sortKeys, flow, depth+1)
			if err != nil {
				return nil, err
			}
			vn, err := yamlNode(e, sortKeys, flow, depth+1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, kn, vn)
		}
		if x.Len() == 0 {
			n.Style = yaml.FlowStyle
		}
		return n, nil
	case *jinja.List:
		items = x.Items
	case *jinja.Tuple:
		items = x.Items
	case *jinja.DateTime, *jinja.Date, float64:
		s, err := jinja.Str(x)
		return &yaml.Node{Kind: yaml.ScalarNode, Value: s}, err
	default:
		switch jinja.TypeName(v) {
		case "int":
			s, err := jinja.Str(v)
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: s}, err
		}
		return nil, jinja.Errorf("RepresenterError", "cannot represent an object of type %s", jinja.TypeName(v))
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: style}
	if len(items) == 0 {
		n.Style = yaml.FlowStyle
	}
	for _, it := range items {
		c, err := yamlNode(it, sortKeys, flow, depth+1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, c)
	}
	return n, nil
}

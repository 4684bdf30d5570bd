package connection

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/gustflow/gust/internal/airflow"
)

// MaxIDLength is the longest conn_id that can be stored, in characters.
const MaxIDLength = 200

// CheckID reports why s cannot be the id of a stored connection.
func CheckID(s string) error {
	ok := s != "" && utf8.RuneCountInString(s) <= MaxIDLength
	for _, r := range s {
		ok = ok && (r == '_' || r == '-' || r == '.' || 'a' <= r|0x20 && r|0x20 <= 'z' || '0' <= r && r <= '9')
	}
	if !ok {
		return fmt.Errorf("conn_id %q: expected 1 to %d characters of A-Z a-z 0-9 - . _", s, MaxIDLength)
	}
	return nil
}

// Format is a file format of import and export.
type Format string

// The formats of `connections import` and `connections export`.
const (
	FormatJSON Format = "json"
	FormatYAML Format = "yaml"
	FormatEnv  Format = "env"
)

// FormatOf returns the format of a file by its extension.
func FormatOf(path string) (Format, error) {
	switch ext := strings.ToLower(path[strings.LastIndexByte(path, '.')+1:]); ext {
	case "json":
		return FormatJSON, nil
	case "yaml", "yml":
		return FormatYAML, nil
	case "env":
		return FormatEnv, nil
	}
	return "", fmt.Errorf("%s: unsupported file format: expected a name that ends in .json, .yaml, .yml or .env", path)
}

// Import reads a file of connections: an object from conn_id to a URI, a JSON
// text or the parts, or lines conn_id=URI. They are sorted by id; all problems
// are reported.
func Import(content []byte, f Format) ([]airflow.Connection, error) {
	entries, err := entries(content, f)
	if err != nil {
		return nil, err
	}
	var out []airflow.Connection
	var problems []airflow.Problem
	for _, e := range entries {
		if list, ok := e.value.([]any); ok {
			if len(list) != 1 {
				problems = append(problems, airflow.Problem{Field: e.key, Message: fmt.Sprintf("has %d values: expected one connection for each conn_id", len(list))})
				continue
			}
			e.value = list[0]
		}
		var c airflow.Connection
		var err error
		switch v := e.value.(type) {
		case string:
			c, err = Parse(e.key, v)
		case []field:
			c, err = fromFields(e.key, v)
		default:
			err = errors.New("expected a URI, or an object with conn_type, host, login, password, port, schema, extra, description")
		}
		if err != nil {
			var invalid *airflow.InvalidError
			if errors.As(err, &invalid) {
				problems = append(problems, invalid.Problems...)
			} else {
				problems = append(problems, airflow.Problem{Field: e.key, Message: err.Error()})
			}
			continue
		}
		out = append(out, c)
	}
	if len(problems) > 0 {
		return nil, &airflow.InvalidError{Problems: problems}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ConnID < out[j].ConnID })
	return out, nil
}

func entries(content []byte, f Format) ([]field, error) {
	text := strings.TrimPrefix(string(content), "\uFEFF")
	switch f {
	case FormatJSON:
		v, err := decodeValue(text)
		if err != nil {
			return nil, fmt.Errorf("the file is not JSON: %w", err)
		}
		fields, ok := v.([]field)
		if !ok {
			return nil, errors.New("the file is JSON but not an object: expected {\"conn_id\": connection}")
		}
		return fields, nil
	case FormatYAML:
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			return nil, fmt.Errorf("the file is not YAML: %w", err)
		}
		if n.Kind == 0 {
			return nil, nil
		}
		v, err := yamlValue(n.Content[0], 0)
		if err != nil {
			return nil, err
		}
		fields, ok := v.([]field)
		if !ok {
			return nil, errors.New("the file is YAML but not a mapping: expected conn_id: connection")
		}
		return fields, nil
	}
	var out []field
	var problems []airflow.Problem
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok || k == "" {
			problems = append(problems, airflow.Problem{Line: i + 1, Message: "expected conn_id=URI"})
			continue
		}
		out = append(out, field{strings.TrimSpace(k), strings.TrimSpace(v)})
	}
	if len(problems) > 0 {
		return nil, &airflow.InvalidError{Problems: problems}
	}
	return out, nil
}

const maxYAMLDepth = 100

func yamlValue(n *yaml.Node, depth int) (any, error) {
	if depth > maxYAMLDepth {
		return nil, fmt.Errorf("line %d: nested more than %d levels deep", n.Line, maxYAMLDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return nil, fmt.Errorf("line %d: aliases are not allowed in a file of connections", n.Line)
	case yaml.MappingNode:
		fields := []field{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			v, err := yamlValue(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			fields = append(fields, field{n.Content[i].Value, v})
		}
		return fields, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			v, err := yamlValue(c, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, err
	case "!!int":
		var i int
		err := n.Decode(&i)
		return i, err
	case "!!float":
		var f float64
		err := n.Decode(&f)
		return f, err
	}
	return n.Value, nil
}

// Export writes connections, passwords included, so that Import reads them
// back. For FormatEnv each value is a URI, or with asJSON its JSON form.
func Export(cs []airflow.Connection, f Format, asJSON bool) ([]byte, error) {
	cs = append([]airflow.Connection(nil), cs...)
	sort.Slice(cs, func(i, j int) bool { return cs[i].ConnID < cs[j].ConnID })
	if f == FormatEnv {
		var b strings.Builder
		for _, c := range cs {
			value := URI(c)
			if asJSON {
				value = dumps(exportFields(c))
			}
			b.WriteString(c.ConnID + "=" + value + "\n")
		}
		return []byte(b.String()), nil
	}
	all := make([]field, len(cs))
	for i, c := range cs {
		all[i] = field{c.ConnID, exportFields(c)}
	}
	if f == FormatYAML {
		m := map[string]map[string]any{}
		for _, c := range cs {
			m[c.ConnID] = map[string]any{}
			for _, e := range exportFields(c) {
				m[c.ConnID][e.key] = e.value
			}
		}
		return yaml.Marshal(m)
	}
	var out []byte
	var err error
	if out, err = json.MarshalIndent(json.RawMessage(dumps(all)), "", "  "); err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}

// exportFields are a connection's fields as Airflow's export has them, the
// extra as text, null for what is not set.
func exportFields(c airflow.Connection) []field {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var port any
	if c.Port != 0 {
		port = c.Port
	}
	return []field{
		{"conn_type", null(c.ConnType)}, {"description", null(c.Description)}, {"login", null(c.Login)}, {"password", null(c.Password)},
		{"host", null(c.Host)}, {"port", port}, {"schema", null(c.Schema)}, {"extra", null(c.Extra)},
	}
}

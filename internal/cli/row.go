package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// pair is one field of a row.
type pair struct {
	key   string
	value any
}

// row is a record with ordered fields, for output with Airflow's names.
type row []pair

// MarshalJSON keeps the order of the fields.
func (r row) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, p := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(p.key); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(p.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (r row) get(key string) (any, bool) {
	for _, p := range r {
		if p.key == key {
			return p.value, true
		}
	}
	return nil, false
}

// only returns the fields of the given keys, in their order.
func (r row) only(keys []string) row {
	var out row
	for _, k := range keys {
		if v, ok := r.get(k); ok {
			out = append(out, pair{k, v})
		}
	}
	return out
}

// cell renders a value for a table.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return boolText(v)
	case *time.Time:
		return iso(v)
	case time.Time:
		return iso(&v)
	case airflow.TIState:
		return stateText(v)
	case json.RawMessage:
		return string(v)
	case []string:
		return strings.Join(v, ",")
	case fmt.Stringer:
		return v.String()
	case float64:
		return fmt.Sprintf("%g", v)
	}
	if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer {
		if p.IsNil() {
			return ""
		}
		return cell(p.Elem().Interface())
	}
	if b, err := json.Marshal(v); err == nil && len(b) > 0 && (b[0] == '[' || b[0] == '{') {
		return string(b)
	}
	return fmt.Sprint(v)
}

// rows prints records: all fields as JSON or YAML, the fields of the given keys
// (all if there are none) as a table.
func (c *command) rows(rs []row, keys ...string) error {
	var cols []col[row]
	if len(keys) == 0 && len(rs) > 0 {
		for _, p := range rs[0] {
			keys = append(keys, p.key)
		}
	}
	for _, k := range keys {
		cols = append(cols, col[row]{k, func(r row) string {
			v, _ := r.get(k)
			return cell(v)
		}})
	}
	return render(c, rs, cols)
}

// details prints one record: property by property in a table.
func (c *command) details(r row) error {
	var cols []col[row]
	for _, p := range r {
		cols = append(cols, col[row]{p.key, func(row) string { return cell(p.value) }})
	}
	return one(c, r, cols)
}

// columns checks the names given to --columns.
func columns(given []string, known []string) error {
	for _, k := range given {
		if !slices.Contains(known, k) {
			return usagef("column %q is unknown: expected some of %s", k, strings.Join(known, ", "))
		}
	}
	return nil
}

// parseDate reads a date given on the command line.
func (c *command) parseDate(flag, s string) (*time.Time, error) {
	if s == "" {
		return nil, nil
	}
	t, err := taskrunner.ParseTime(s)
	if err != nil {
		return nil, usagef("%s: %w", flag, err)
	}
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	if loc, lerr := time.LoadLocation(cfg.Core.DefaultTimezone); lerr == nil && loc != time.UTC && !hasZone(s) {
		t = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc).UTC()
	}
	return &t, nil
}

// hasZone reports whether ISO 8601 text names its offset.
func hasZone(s string) bool {
	s = strings.TrimSpace(s)
	if strings.HasSuffix(s, "Z") || strings.HasSuffix(s, "z") {
		return true
	}
	i := strings.IndexAny(s, "T ")
	return i > 0 && strings.ContainsAny(s[i:], "+-")
}

// parseConf checks a conf given on the command line: a JSON object, or nothing.
func parseConf(flag, s string) (json.RawMessage, error) {
	if s == "" {
		return nil, nil
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil || m == nil {
		return nil, usagef("%s is not a JSON object: expected one such as '{\"key\": \"value\"}'", flag)
	}
	return json.RawMessage(s), nil
}

func readAll(r io.Reader) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	return io.ReadAll(r)
}

package connection

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/pyrepr"
)

// field is one member of a JSON object, in order.
type field struct {
	key   string
	value any // string, json.Number, bool, nil, []any, []field
}

// decodeValue reads a JSON value and keeps the order of members. Of members
// with the same key the last value counts, at the first one's place.
func decodeValue(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	v, err := decodeNext(dec)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is text after the value")
	}
	return v, nil
}

func decodeNext(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		fields := []field{}
		at := map[string]int{}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeNext(dec)
			if err != nil {
				return nil, err
			}
			key := k.(string)
			if i, ok := at[key]; ok {
				fields[i].value = v
				continue
			}
			at[key] = len(fields)
			fields = append(fields, field{key, v})
		}
		_, err := dec.Token()
		return fields, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeNext(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	return t, nil
}

func objectFields(text string) ([]field, error) {
	v, err := decodeValue(text)
	if err != nil {
		return nil, err
	}
	fields, ok := v.([]field)
	if !ok {
		return nil, errors.New("it is not an object")
	}
	return fields, nil
}

// dumps writes a value as Python's json.dumps does: ", " and ": ", ASCII only.
func dumps(v any) string {
	var b strings.Builder
	dump(&b, v)
	return b.String()
}

func dump(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case json.Number:
		b.WriteString(v.String())
	case int:
		b.WriteString(strconv.Itoa(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b.WriteString("null") // JSON has no such number
			return
		}
		b.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	case string:
		pyrepr.WriteJSON(b, v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			dump(b, e)
		}
		b.WriteByte(']')
	case []field:
		b.WriteByte('{')
		for i, f := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			pyrepr.WriteJSON(b, f.key)
			b.WriteString(": ")
			dump(b, f.value)
		}
		b.WriteByte('}')
	case map[string]any: // of YAML, which has lost the order
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		fields := make([]field, len(keys))
		for i, k := range keys {
			fields[i] = field{k, v[k]}
		}
		dump(b, fields)
	default:
		pyrepr.WriteJSON(b, fmt.Sprint(v)) // dates and the like of YAML
	}
}

// CheckExtra reports an extra that is neither empty nor a JSON object.
func CheckExtra(connID, extra string) error {
	if extra == "" {
		return nil
	}
	v, err := decodeValue(extra)
	if err != nil {
		return fmt.Errorf("the extra of connection %q is not JSON: expected an object such as {\"key\": \"value\"}", connID)
	}
	if _, ok := v.([]field); !ok {
		return fmt.Errorf("the extra of connection %q is JSON but not an object: expected one such as {\"key\": \"value\"}", connID)
	}
	return nil
}

// ParseJSON reads a connection's JSON form: an object with conn_type, host,
// login, password, port, schema, extra (an object, or a text that holds one)
// and description, or with uri alone.
func ParseJSON(connID, text string) (airflow.Connection, error) {
	v, err := decodeValue(text)
	if err != nil {
		return airflow.Connection{}, fmt.Errorf("connection %q is not JSON: expected an object with conn_type, host, login, password, port, schema, extra, description", connID)
	}
	fields, ok := v.([]field)
	if !ok {
		return airflow.Connection{}, fmt.Errorf("connection %q is JSON but not an object: expected one with conn_type, host, login, password, port, schema, extra, description", connID)
	}
	return fromFields(connID, fields)
}

// fromFields builds a connection; every problem is reported.
func fromFields(connID string, fields []field) (airflow.Connection, error) {
	c := airflow.Connection{ConnID: connID}
	var problems []airflow.Problem
	bad := func(key, format string, args ...any) {
		problems = append(problems, airflow.Problem{Field: connID + "." + key, Message: fmt.Sprintf(format, args...)})
	}
	text := func(dst *string, f field) {
		switch v := f.value.(type) {
		case nil:
		case string:
			*dst = v
		default:
			bad(f.key, "expected a text or null")
		}
	}
	var uri string
	parts := false
	for _, f := range fields {
		switch f.key {
		case "conn_id", "connection_id":
			var id string
			if text(&id, f); id != connID && id != "" {
				bad(f.key, "says %q: expected the key it is filed under, or nothing", id)
			}
		case "uri":
			text(&uri, f)
			continue
		case "conn_type":
			text(&c.ConnType, f)
			c.ConnType = NormalizeType(c.ConnType)
		case "description":
			text(&c.Description, f)
			continue
		case "host":
			text(&c.Host, f)
		case "login":
			text(&c.Login, f)
		case "password":
			text(&c.Password, f)
		case "schema":
			text(&c.Schema, f)
		case "port":
			port, err := portOf(f.value)
			if err != nil {
				bad(f.key, "%v", err)
			}
			c.Port = port
		case "extra", "extra_dejson":
			if c.Extra != "" {
				bad(f.key, "extra and extra_dejson cannot both be given")
				continue
			}
			if c.Extra = ExtraText(f.value); c.Extra != "" && CheckExtra(connID, c.Extra) != nil {
				bad(f.key, "expected an object, or a text that holds one as JSON")
			}
		case "id", "is_encrypted", "is_extra_encrypted", "get_uri":
			continue // of `connections list -o json`
		default:
			bad(f.key, "is not a key of a connection: expected conn_type, host, login, password, port, schema, extra, description or uri")
		}
		parts = parts || f.value != nil && f.value != ""
	}
	if uri != "" && len(problems) == 0 {
		if parts {
			bad("uri", "a connection is given either by uri or by its parts, not by both")
		} else {
			description := c.Description
			var err error
			if c, err = ParseURI(connID, uri); err != nil {
				return airflow.Connection{}, err
			}
			c.Description = description
		}
	}
	if len(problems) > 0 {
		return airflow.Connection{}, &airflow.InvalidError{Problems: problems}
	}
	return c, nil
}

func portOf(v any) (int, error) {
	var text string
	switch v := v.(type) {
	case nil:
		return 0, nil
	case string:
		text = strings.TrimSpace(v)
	case json.Number:
		text = strings.TrimSuffix(v.String(), ".0")
	case int:
		text = strconv.Itoa(v)
	default:
		return 0, errors.New("expected a port number")
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 65535 {
		return 0, errors.New("expected a port number from 0 to 65535")
	}
	return n, nil
}

// ExtraText returns a decoded extra as the text a connection stores: a text
// stays, an object becomes JSON, nothing and empty values become "".
func ExtraText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []field:
		if len(v) == 0 {
			return ""
		}
	case map[string]any:
		if len(v) == 0 {
			return ""
		}
	case []any:
		if len(v) == 0 {
			return ""
		}
	case bool:
		if !v {
			return ""
		}
	}
	return dumps(v)
}

// ExtraObject returns the extra as a JSON object, "{}" if there is none.
func ExtraObject(c airflow.Connection) json.RawMessage {
	if c.Extra == "" || CheckExtra(c.ConnID, c.Extra) != nil {
		return json.RawMessage("{}")
	}
	return json.RawMessage(c.Extra)
}

// JSON returns the connection's JSON form without conn_id and without empty
// fields, the extra as an object; ParseJSON reads it back. It contains the password.
func JSON(c airflow.Connection) string {
	var fields []field
	add := func(key string, v any) {
		if v != "" && v != 0 {
			fields = append(fields, field{key, v})
		}
	}
	add("conn_type", c.ConnType)
	add("description", c.Description)
	add("host", c.Host)
	add("login", c.Login)
	add("password", c.Password)
	add("schema", c.Schema)
	add("port", c.Port)
	if extra, err := objectFields(c.Extra); err == nil && len(extra) > 0 {
		fields = append(fields, field{"extra", extra})
	}
	return dumps(fields)
}

// Parse reads a connection given as a URI, or as JSON if it starts with "{".
func Parse(connID, text string) (airflow.Connection, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		return ParseJSON(connID, text)
	}
	return ParseURI(connID, text)
}

package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxBody bounds a request's body.
const maxBody = 10 << 20

// maxDepth bounds the nesting of a body.
const maxDepth = 200

// readBody reads a body of JSON; nil if there is none.
func readBody(w http.ResponseWriter, r *http.Request) (json.RawMessage, *Error) {
	if r.Body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, Errorf(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes", large.Limit)
		}
		return nil, BadRequest("There was an error reading the body")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, nil
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		t, _, err := mime.ParseMediaType(ct)
		if err != nil || t != "application/json" && !strings.HasSuffix(t, "+json") {
			return nil, Invalid(FieldError{Type: "model_attributes_type", Loc: []any{"body"}, Msg: "Input should be a valid dictionary or object to extract fields from", Input: textJSON(string(b[:min(len(b), 200)]))})
		}
	}
	if err := checkJSON(b); err != nil {
		return nil, err
	}
	return b, nil
}

func checkJSON(b []byte) *Error {
	bad := func(pos int64, why string) *Error {
		return Invalid(FieldError{Type: "json_invalid", Loc: []any{"body", pos}, Msg: "JSON decode error", Input: json.RawMessage("{}"), Ctx: map[string]any{"error": why}})
	}
	depth, inText, escaped := 0, false, false
	for _, c := range b {
		switch {
		case inText:
			inText = escaped || c != '"'
			escaped = !escaped && c == '\\'
		case c == '"':
			inText = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return bad(0, fmt.Sprintf("nested deeper than %d", maxDepth))
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	var v json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return bad(max(0, syntax.Offset-1), syntax.Error())
		}
		return bad(0, err.Error())
	}
	return nil
}

// objectFields reads an object's members in their order; a later one of the same
// name replaces an earlier.
func objectFields(raw json.RawMessage) (keys []string, vals map[string]json.RawMessage, ok bool) {
	if !isKind(raw, '{') {
		return nil, nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, nil, false
	}
	vals = map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, nil, false
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, nil, false
		}
		k := t.(string)
		if _, dup := vals[k]; !dup {
			keys = append(keys, k)
		}
		vals[k] = v
	}
	return keys, vals, true
}

// isKind reports whether a JSON value begins with a byte.
func isKind(raw json.RawMessage, first byte) bool {
	t := bytes.TrimLeft(raw, " \t\r\n")
	return len(t) > 0 && t[0] == first
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

var bodyPlans sync.Map // reflect.Type -> *plan

func bodyPlan(t reflect.Type) *plan {
	if p, ok := bodyPlans.Load(t); ok {
		return p.(*plan)
	}
	p, _ := bodyPlans.LoadOrStore(t, planOf(t, true))
	return p.(*plan)
}

// bindObject fills a struct from an object, checking every member.
func bindObject(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	keys, vals, ok := objectFields(raw)
	if !ok {
		ps.add("model_attributes_type", loc, raw, nil, "Input should be a valid dictionary or object to extract fields from")
		return false
	}
	p := bodyPlan(v.Type())
	before := len(*ps)
	known := map[string]bool{}
	for i := range p.fields {
		f := &p.fields[i]
		known[f.name] = true
		here := append(append([]any(nil), loc...), f.name)
		m, there := vals[f.name]
		if !there {
			if f.required {
				ps.add("missing", here, raw, nil, "Field required")
			} else if f.hasDef {
				f.setJSON(v.FieldByIndex(f.index), defaultJSON(f), here, ps)
			}
			continue
		}
		f.setJSON(v.FieldByIndex(f.index), m, here, ps)
	}
	if p.closed {
		for _, k := range keys {
			if !known[k] {
				ps.add("extra_forbidden", append(append([]any(nil), loc...), k), vals[k], nil, "Extra inputs are not permitted")
			}
		}
	}
	return len(*ps) == before
}

// defaultJSON is a default as JSON: a text for texts, else as written.
func defaultJSON(f *field) json.RawMessage {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.String && t != timeType {
		return textJSON(f.def)
	}
	return json.RawMessage(f.def)
}

// setJSON reads one member.
func (f *field) setJSON(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	null := isNull(raw)
	if o, ok := v.Addr().Interface().(opt); ok {
		o.mark(null)
		if null {
			return true
		}
		return f.setJSON(reflect.ValueOf(o.value()).Elem(), raw, loc, ps)
	}
	if v.Kind() == reflect.Pointer {
		if null {
			return true
		}
		e := reflect.New(v.Type().Elem())
		if !f.setJSON(e.Elem(), raw, loc, ps) {
			return false
		}
		v.Set(e)
		return true
	}
	if null && f.nullable {
		return true
	}
	before := len(*ps)
	switch {
	case v.Type() == rawType:
		v.SetBytes(append([]byte(nil), raw...))
	case v.Type() == timeType:
		return setTime(v, raw, loc, ps)
	case v.Kind() == reflect.String:
		var s string
		if json.Unmarshal(raw, &s) != nil || null {
			ps.add("string_type", loc, raw, nil, "Input should be a valid string")
			return false
		}
		v.SetString(s)
		f.checkText(s, loc, raw, ps)
	case v.Kind() == reflect.Bool:
		return setBool(v, raw, loc, ps)
	case v.CanInt():
		return f.setInt(v, raw, loc, ps)
	case v.CanFloat():
		return f.setFloat(v, raw, loc, ps)
	case v.Kind() == reflect.Map:
		if _, _, ok := objectFields(raw); !ok || json.Unmarshal(raw, v.Addr().Interface()) != nil {
			ps.add("dict_type", loc, raw, nil, "Input should be a valid dictionary")
			return false
		}
	case v.Kind() == reflect.Slice:
		return f.setList(v, raw, loc, ps)
	case v.Kind() == reflect.Struct:
		if c, ok := v.Addr().Interface().(bodyChoice); ok {
			return c.bind(raw, loc, ps)
		}
		return bindObject(v, raw, loc, ps)
	default:
		panic(fmt.Sprintf("restapi: a body member of type %s cannot be bound", v.Type()))
	}
	return len(*ps) == before
}

// bodyChoice is a body member that may have several forms.
type bodyChoice interface {
	bind(raw json.RawMessage, loc []any, ps *problems) bool
}

func setTime(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	var s string
	if json.Unmarshal(raw, &s) == nil && isKind(raw, '"') {
		if x, err := strconv.ParseFloat(s, 64); err == nil {
			v.Set(reflect.ValueOf(unixTime(x)))
			return true
		}
		t, ok := timeOf(s, loc, raw, true, ps)
		if ok {
			v.Set(reflect.ValueOf(t))
		}
		return ok
	}
	var x float64
	if json.Unmarshal(raw, &x) == nil && !isNull(raw) && math.Abs(x) < 1e15 {
		v.Set(reflect.ValueOf(unixTime(x)))
		return true
	}
	ps.add("datetime_type", loc, raw, nil, "Input should be a valid datetime")
	return false
}

// unixTime is a date given as a number: seconds, or milliseconds where that
// would be too far away.
func unixTime(x float64) Time {
	if math.Abs(x) > 2e10 {
		x /= 1000
	}
	return Time{time.UnixMicro(int64(math.Round(x * 1e6))).UTC()}
}

func setBool(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	var b bool
	if json.Unmarshal(raw, &b) == nil && !isNull(raw) {
		v.SetBool(b)
		return true
	}
	text := strings.Trim(string(raw), `"`)
	if b, ok := boolOf(text); ok && (isKind(raw, '"') || text == "0" || text == "1") {
		v.SetBool(b)
		return true
	}
	if isKind(raw, '"') || isNumber(raw) {
		ps.add("bool_parsing", loc, raw, nil, "Input should be a valid boolean, unable to interpret input")
		return false
	}
	ps.add("bool_type", loc, raw, nil, "Input should be a valid boolean")
	return false
}

func isNumber(raw json.RawMessage) bool {
	t := bytes.TrimSpace(raw)
	return len(t) > 0 && (t[0] == '-' || t[0] >= '0' && t[0] <= '9')
}

func (f *field) setInt(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	before := len(*ps)
	text := strings.TrimSpace(string(raw))
	switch {
	case isNumber(raw):
		x, err := strconv.ParseFloat(text, 64)
		if err == nil && x != math.Trunc(x) {
			ps.add("int_from_float", loc, raw, nil, "Input should be a valid integer, got a number with a fractional part")
			return false
		}
		n, ok := intOf(text)
		if !ok && err == nil && math.Abs(x) < 1e15 {
			n, ok = int64(x), true
		}
		if !ok || v.OverflowInt(n) {
			ps.add("int_parsing_size", loc, raw, nil, "Unable to parse input string as an integer, exceeded maximum size")
			return false
		}
		v.SetInt(n)
	case isKind(raw, '"'):
		var s string
		n, ok := int64(0), json.Unmarshal(raw, &s) == nil
		if ok {
			n, ok = intOf(s)
		}
		if !ok || v.OverflowInt(n) {
			ps.add("int_parsing", loc, raw, nil, "Input should be a valid integer, unable to parse string as an integer")
			return false
		}
		v.SetInt(n)
	case text == "true" || text == "false":
		v.SetInt(0)
		if text == "true" {
			v.SetInt(1)
		}
	default:
		ps.add("int_type", loc, raw, nil, "Input should be a valid integer")
		return false
	}
	f.checkNumber(float64(v.Int()), loc, raw, true, ps)
	return len(*ps) == before
}

func (f *field) setFloat(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	before := len(*ps)
	text := strings.Trim(strings.TrimSpace(string(raw)), `"`)
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !isNumber(raw) && !isKind(raw, '"') {
		if isKind(raw, '"') {
			ps.add("float_parsing", loc, raw, nil, "Input should be a valid number, unable to parse string as a number")
		} else {
			ps.add("float_type", loc, raw, nil, "Input should be a valid number")
		}
		return false
	}
	v.SetFloat(x)
	f.checkNumber(x, loc, raw, false, ps)
	return len(*ps) == before
}

func (f *field) setList(v reflect.Value, raw json.RawMessage, loc []any, ps *problems) bool {
	var items []json.RawMessage
	if !isKind(raw, '[') || json.Unmarshal(raw, &items) != nil {
		ps.add("list_type", loc, raw, nil, "Input should be a valid list")
		return false
	}
	before := len(*ps)
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, it := range items {
		f.setJSON(v.Index(i), it, append(append([]any(nil), loc...), i), ps)
	}
	if f.minItems != nil && len(items) < *f.minItems {
		ps.add("too_short", loc, raw, map[string]any{"field_type": "List", "min_length": *f.minItems, "actual_length": len(items)}, "List should have at least %d item after validation, not %d", *f.minItems, len(items))
	}
	return len(*ps) == before
}

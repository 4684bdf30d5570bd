package restapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Closed, embedded in a body type, refuses members that it does not name.
type Closed struct{}

// field is one bound field of an input or body type.
type field struct {
	index    []int
	name     string // as in the request
	in       string // path, query, header; "" for members of bodies
	typ      reflect.Type
	required bool
	omit     bool   // of answers: not always there
	def      string // default, as text (query) or JSON (body)
	hasDef   bool
	checks
	doc string
}

// checks limit a value.
type checks struct {
	min, max, gt     *float64
	minLen, maxLen   *int
	pattern          *regexp.Regexp
	enum             []string
	allowed          []string // as enum, but answered as a value_error (Python's list in the text)
	literal          bool     // enum's values are literals, which the error's type tells
	patternText      string
	minItems         *int
	nullable, closed bool
}

// plan is how a type is bound.
type plan struct {
	fields []field
	closed bool
}

var (
	closedType = reflect.TypeFor[Closed]()
	rawType    = reflect.TypeFor[json.RawMessage]()
	timeType   = reflect.TypeFor[Time]()
	optType    = reflect.TypeFor[opt]()
)

// planOf reads the tags of a type: json of a body's, path, query and header of an
// input's. It panics on what cannot be bound: that is a mistake in this program.
func planOf(t reflect.Type, body bool) *plan {
	p := &plan{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == closedType {
			p.closed = true
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			sub := planOf(f.Type, body)
			for _, inner := range sub.fields {
				inner.index = append([]int{i}, inner.index...)
				p.fields = append(p.fields, inner)
			}
			p.closed = p.closed || sub.closed
			continue
		}
		if f.Name == "Body" && !body || !f.IsExported() {
			continue
		}
		fd := field{index: []int{i}, typ: f.Type, doc: f.Tag.Get("doc")}
		for _, in := range []string{"path", "query", "header"} {
			if name, ok := f.Tag.Lookup(in); ok && !body {
				fd.in, fd.name = in, name
			}
		}
		if fd.in == "" {
			name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
			fd.omit = strings.Contains(opts, "omit")
			if name == "-" && body {
				continue
			}
			if name == "" || name == "-" {
				panic(fmt.Sprintf("restapi: field %s.%s has neither path, query, header nor json tag", t, f.Name))
			}
			fd.name = name
		}
		fd.def, fd.hasDef = f.Tag.Lookup("default")
		fd.checks = checksOf(f.Tag)
		isOpt := reflect.PointerTo(f.Type).Implements(optType)
		isList := f.Type.Kind() == reflect.Slice && f.Type != rawType
		fd.nullable = fd.nullable || isOpt || f.Type.Kind() == reflect.Pointer
		fd.required = f.Tag.Get("required") == "true" || fd.in == "path" ||
			!fd.hasDef && !isOpt && f.Type.Kind() != reflect.Pointer && (fd.in == "" || !isList) && fd.in != "header" && f.Tag.Get("required") != "false"
		p.fields = append(p.fields, fd)
	}
	return p
}

func checksOf(tag reflect.StructTag) (c checks) {
	num := func(key string) *float64 {
		if s, ok := tag.Lookup(key); ok {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				panic("restapi: tag " + key + ": " + err.Error())
			}
			return &v
		}
		return nil
	}
	length := func(key string) *int {
		if v := num(key); v != nil {
			return ptrTo(int(*v))
		}
		return nil
	}
	c.min, c.max, c.gt = num("min"), num("max"), num("gt")
	c.minLen, c.maxLen, c.minItems = length("minlen"), length("maxlen"), length("minitems")
	if s, ok := tag.Lookup("pattern"); ok {
		c.pattern, c.patternText = regexp.MustCompile(s), s
	}
	if s, ok := tag.Lookup("enum"); ok {
		c.enum = strings.Split(s, ",")
	}
	if s, ok := tag.Lookup("literal"); ok {
		c.enum, c.literal = strings.Split(s, ","), true
	}
	if s, ok := tag.Lookup("oneof"); ok {
		c.allowed = strings.Split(s, ",")
	}
	c.nullable = tag.Get("nullable") == "true"
	return c
}

// problems collects what is wrong with a request.
type problems []FieldError

func (ps *problems) add(typ string, loc []any, input json.RawMessage, ctx map[string]any, format string, args ...any) {
	if input == nil {
		input = json.RawMessage("null")
	}
	*ps = append(*ps, FieldError{Type: typ, Loc: append([]any(nil), loc...), Msg: fmt.Sprintf(format, args...), Input: input, Ctx: ctx})
}

// bindParams fills the fields of dst that come from path, query and headers.
func (p *plan) bindParams(dst reflect.Value, path map[string]string, query url.Values, header http.Header, ps *problems) {
	for i := range p.fields {
		f := &p.fields[i]
		var texts []string
		switch f.in {
		case "path":
			texts = []string{path[f.name]}
		case "query":
			texts = query[f.name]
		case "header":
			texts = header.Values(f.name)
		default:
			continue
		}
		loc := []any{f.in, f.name}
		v := dst.FieldByIndex(f.index)
		if len(texts) == 0 {
			if f.required {
				ps.add("missing", loc, nil, nil, "Field required")
				continue
			}
			if !f.hasDef {
				continue
			}
			texts = []string{f.def}
		}
		if v.Kind() == reflect.Slice && v.Type() != rawType {
			for k, s := range texts {
				e := reflect.New(v.Type().Elem()).Elem()
				if f.setText(e, s, append(loc, k), ps) {
					v.Set(reflect.Append(v, e))
				}
			}
			continue
		}
		f.setText(v, texts[len(texts)-1], loc, ps)
	}
}

// setText reads one value of a query, path or header.
func (f *field) setText(v reflect.Value, s string, loc []any, ps *problems) bool {
	if v.Kind() == reflect.Pointer {
		e := reflect.New(v.Type().Elem())
		if !f.setText(e.Elem(), s, loc, ps) {
			return false
		}
		v.Set(e)
		return true
	}
	input := textJSON(s)
	before := len(*ps)
	switch {
	case v.Type() == timeType:
		t, ok := timeOf(s, loc, input, false, ps)
		if !ok {
			return false
		}
		v.Set(reflect.ValueOf(t))
	case v.Kind() == reflect.String:
		v.SetString(s)
		f.checkText(s, loc, input, ps)
	case v.Kind() == reflect.Bool:
		b, ok := boolOf(s)
		if !ok {
			ps.add("bool_parsing", loc, input, nil, "Input should be a valid boolean, unable to interpret input")
			return false
		}
		v.SetBool(b)
	case v.CanInt():
		n, ok := intOf(s)
		if !ok {
			ps.add("int_parsing", loc, input, nil, "Input should be a valid integer, unable to parse string as an integer")
			return false
		}
		if v.OverflowInt(n) {
			ps.add("int_parsing_size", loc, input, nil, "Unable to parse input string as an integer, exceeded maximum size")
			return false
		}
		v.SetInt(n)
		f.checkNumber(float64(n), loc, input, true, ps)
	case v.CanFloat():
		x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil {
			ps.add("float_parsing", loc, input, nil, "Input should be a valid number, unable to parse string as a number")
			return false
		}
		v.SetFloat(x)
		f.checkNumber(x, loc, input, false, ps)
	default:
		panic(fmt.Sprintf("restapi: %s of type %s cannot come from a %s", f.name, v.Type(), f.in))
	}
	return len(*ps) == before
}

func boolOf(s string) (v, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "t", "y", "yes", "on":
		return true, true
	case "false", "0", "f", "n", "no", "off":
		return false, true
	}
	return false, false
}

// intOf reads an integer as pydantic does: also 5.0 and 1_000.
func intOf(s string) (int64, bool) {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '.'); i > 0 && strings.Trim(s[i+1:], "0") == "" {
		s = s[:i]
	}
	s = strings.ReplaceAll(s, "_", "")
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 10, 64)
	return n, err == nil
}

// timeOf reads a date. With strict a date without zone is refused; else it is
// taken as UTC.
func timeOf(s string, loc []any, input json.RawMessage, strict bool, ps *problems) (Time, bool) {
	t, aware, err := parseTime(s)
	if err != nil {
		ps.add("datetime_from_date_parsing", loc, input, map[string]any{"error": err.Error()}, "Input should be a valid datetime or date, %v", err)
		return Time{}, false
	}
	if strict && !aware {
		ps.add("timezone_aware", loc, input, nil, "Input should have timezone info")
		return Time{}, false
	}
	return Time{t}, true
}

func (c *checks) checkNumber(x float64, loc []any, input json.RawMessage, whole bool, ps *problems) {
	show := func(v float64) any {
		if whole {
			return int64(v)
		}
		return v
	}
	switch {
	case c.min != nil && x < *c.min:
		ps.add("greater_than_equal", loc, input, map[string]any{"ge": show(*c.min)}, "Input should be greater than or equal to %v", show(*c.min))
	case c.gt != nil && x <= *c.gt:
		ps.add("greater_than", loc, input, map[string]any{"gt": show(*c.gt)}, "Input should be greater than %v", show(*c.gt))
	case c.max != nil && x > *c.max:
		ps.add("less_than_equal", loc, input, map[string]any{"le": show(*c.max)}, "Input should be less than or equal to %v", show(*c.max))
	}
}

func (c *checks) checkText(s string, loc []any, input json.RawMessage, ps *problems) {
	n := utf8.RuneCountInString(s)
	plural := func(k int) string {
		if k == 1 {
			return ""
		}
		return "s"
	}
	switch {
	case c.minLen != nil && n < *c.minLen:
		ps.add("string_too_short", loc, input, map[string]any{"min_length": *c.minLen}, "String should have at least %d character%s", *c.minLen, plural(*c.minLen))
	case c.maxLen != nil && n > *c.maxLen:
		ps.add("string_too_long", loc, input, map[string]any{"max_length": *c.maxLen}, "String should have at most %d character%s", *c.maxLen, plural(*c.maxLen))
	case c.pattern != nil && !c.pattern.MatchString(s):
		ps.add("string_pattern_mismatch", loc, input, map[string]any{"pattern": c.patternText}, "String should match pattern '%s'", c.patternText)
	case c.enum != nil && !contains(c.enum, s):
		want := oneOf(c.enum)
		typ := "enum"
		if c.literal {
			typ = "literal_error"
		}
		ps.add(typ, loc, input, map[string]any{"expected": want}, "Input should be %s", want)
	case c.allowed != nil && !contains(c.allowed, s):
		ps.add("value_error", loc, input, map[string]any{"error": map[string]any{}}, "Value error, '%s' is not one of ['%s']", s, strings.Join(c.allowed, "', '"))
	}
}

func contains(l []string, s string) bool {
	for _, x := range l {
		if x == s {
			return true
		}
	}
	return false
}

// oneOf is 'a', 'b' or 'c'.
func oneOf(l []string) string {
	q := make([]string, len(l))
	for i, s := range l {
		q[i] = "'" + s + "'"
	}
	if len(q) == 1 {
		return q[0]
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}

// textJSON is a text as JSON, without the escapes that are for HTML.
func textJSON(s string) json.RawMessage {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(strings.ToValidUTF8(s, "\uFFFD")); err != nil {
		return json.RawMessage(`""`) // unreachable: a text always encodes
	}
	return json.RawMessage(strings.TrimSuffix(b.String(), "\n"))
}

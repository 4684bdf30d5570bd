package restapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/version"
)

type obj = map[string]any

// describer makes the OpenAPI description from the registered operations.
type describer struct{ schemas map[string]any }

// OpenAPI returns the description of what is served, as JSON.
func (a *API) OpenAPI() []byte { return a.doc() }

func (a *API) openAPI() []byte {
	d := &describer{schemas: map[string]any{}}
	paths := map[string]any{}
	for _, op := range a.ops {
		p := strings.ReplaceAll(op.Path, "...}", "}")
		item, _ := paths[p].(obj)
		if item == nil {
			item = obj{}
			paths[p] = item
		}
		item[strings.ToLower(op.Method)] = d.operation(op)
	}
	d.schemas["ValidationError"] = obj{"type": "object", "required": []string{"loc", "msg", "type"}, "properties": obj{
		"loc": obj{"type": "array", "items": obj{"anyOf": []any{obj{"type": "string"}, obj{"type": "integer"}}}}, "msg": obj{"type": "string"}, "type": obj{"type": "string"}, "input": obj{}, "ctx": obj{"type": "object"}}}
	d.schemas["HTTPValidationError"] = obj{"type": "object", "properties": obj{"detail": obj{"anyOf": []any{obj{"type": "string"}, obj{"type": "array", "items": ref("ValidationError")}}}}}
	d.schemas["HTTPExceptionResponse"] = obj{"type": "object", "required": []string{"detail"}, "properties": obj{"detail": obj{"anyOf": []any{obj{"type": "string"}, obj{"type": "object"}}}}}
	doc := obj{
		"openapi":    "3.1.0",
		"info":       obj{"title": "Gust API", "version": "2", "description": "Airflow " + version.AirflowVersion + "'s REST API v2 as Gust " + version.String() + " serves it."},
		"paths":      paths,
		"components": obj{"schemas": d.schemas, "securitySchemes": obj{"HTTPBearer": obj{"type": "http", "scheme": "bearer"}}},
	}
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		panic("restapi: description: " + err.Error()) // plain values
	}
	return b
}

func ref(name string) obj { return obj{"$ref": "#/components/schemas/" + name} }

func (d *describer) operation(op *operation) obj {
	out := obj{"operationId": op.ID, "summary": op.Summary}
	if op.Tag != "" {
		out["tags"] = []string{op.Tag}
	}
	if len(op.Indexed) > 0 {
		out["x-gust-indexed"] = op.Indexed
	}
	var params []any
	p := op.binding()
	for i := range p.fields {
		f := &p.fields[i]
		s := d.schema(f.typ, &f.checks, f)
		q := obj{"name": f.name, "in": f.in, "required": f.required, "schema": s}
		if f.doc != "" {
			q["description"] = f.doc
		}
		params = append(params, q)
	}
	if params != nil {
		out["parameters"] = params
	}
	if op.hasBody {
		t := op.body.Type
		required := t.Kind() != reflect.Pointer
		if !required {
			t = t.Elem()
		}
		out["requestBody"] = obj{"required": required, "content": obj{"application/json": obj{"schema": d.bodySchema(t)}}}
	}
	responses := obj{}
	success := obj{"description": "Successful Response"}
	content := obj{}
	switch {
	case op.output == reflect.TypeFor[Empty]():
	case op.output == reflect.TypeFor[Raw](), op.output.Kind() == reflect.Interface:
		content["application/json"] = obj{"schema": d.anyOf(op.Answers)}
	default:
		content["application/json"] = obj{"schema": d.schema(op.output, nil, nil)}
	}
	for _, ct := range op.ContentTypes {
		content[ct] = obj{"schema": obj{"type": "string"}}
	}
	if len(content) > 0 {
		success["content"] = content
	}
	responses[fmt.Sprint(op.Status)] = success
	fail := func(status int, schema string) {
		responses[fmt.Sprint(status)] = obj{"description": http.StatusText(status), "content": obj{"application/json": obj{"schema": ref(schema)}}}
	}
	if !op.Open {
		fail(401, "HTTPExceptionResponse")
		fail(403, "HTTPExceptionResponse")
		out["security"] = []any{obj{"HTTPBearer": []string{}}}
	}
	if len(op.params) > 0 || op.hasBody {
		fail(404, "HTTPExceptionResponse")
	}
	if op.hasBody || len(p.fields) > 0 {
		fail(400, "HTTPExceptionResponse")
		fail(422, "HTTPValidationError")
	}
	if op.Method != http.MethodGet {
		fail(409, "HTTPExceptionResponse")
	}
	if len(op.ContentTypes) > 0 {
		fail(406, "HTTPExceptionResponse")
	}
	out["responses"] = responses
	return out
}

func (d *describer) anyOf(vs []any) any {
	var l []any
	for _, v := range vs {
		l = append(l, d.schema(reflect.TypeOf(v), nil, nil))
	}
	switch len(l) {
	case 0:
		return obj{}
	case 1:
		return l[0]
	}
	return obj{"anyOf": l}
}

// schema describes a type; f is the parameter or member it is the type of, or nil.
func (d *describer) schema(t reflect.Type, c *checks, f *field) any {
	nullable := false
	if reflect.PointerTo(t).Implements(optType) {
		v := reflect.New(t).Elem()
		t = v.FieldByName("V").Type()
		nullable = true
	}
	if t.Kind() == reflect.Pointer {
		t, nullable = t.Elem(), true
	}
	if c != nil && c.nullable {
		nullable = true
	}
	s := d.plain(t, c)
	if f != nil && f.hasDef {
		if m, ok := s.(obj); ok && m["$ref"] == nil {
			var v any
			if json.Unmarshal(defaultJSON(f), &v) == nil {
				m["default"] = v
			} else {
				m["default"] = f.def
			}
		}
	}
	if nullable {
		return obj{"anyOf": []any{s, obj{"type": "null"}}}
	}
	return s
}

func (d *describer) plain(t reflect.Type, c *checks) any {
	var s obj
	switch {
	case t == timeType:
		return obj{"type": "string", "format": "date-time"}
	case t == rawType, t.Kind() == reflect.Interface:
		return obj{}
	case t.Kind() == reflect.String:
		s = obj{"type": "string"}
	case t.Kind() == reflect.Bool:
		s = obj{"type": "boolean"}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		s = obj{"type": "integer"}
	case t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32:
		s = obj{"type": "number"}
	case t.Kind() == reflect.Map:
		s = obj{"type": "object"}
		if e := d.schema(t.Elem(), nil, nil); len(e.(obj)) > 0 {
			s["additionalProperties"] = e
		} else {
			s["additionalProperties"] = true
		}
	case t.Kind() == reflect.Slice:
		s = obj{"type": "array", "items": d.schema(t.Elem(), c, nil)}
		if c != nil && c.minItems != nil {
			s["minItems"] = *c.minItems
		}
		return s
	case t.Kind() == reflect.Struct:
		if v, ok := reflect.New(t).Interface().(interface{ schema(*describer) any }); ok {
			return v.schema(d)
		}
		return d.object(t)
	default:
		panic("restapi: no schema for " + t.String())
	}
	if c != nil {
		for k, v := range map[string]*float64{"minimum": c.min, "maximum": c.max, "exclusiveMinimum": c.gt} {
			if v != nil {
				s[k] = *v
			}
		}
		for k, v := range map[string]*int{"minLength": c.minLen, "maxLength": c.maxLen} {
			if v != nil {
				s[k] = *v
			}
		}
		if c.pattern != nil {
			s["pattern"] = c.patternText
		}
		if c.enum != nil {
			s["enum"] = c.enum
		}
		if c.allowed != nil {
			s["enum"] = c.allowed
		}
	}
	return s
}

// bodySchema describes a request's body: members may be missing.
func (d *describer) bodySchema(t reflect.Type) any {
	if t == rawType {
		return obj{}
	}
	return d.object(t)
}

// object describes a struct under its name. Of answers every member is there; of
// bodies those that the plan says.
func (d *describer) object(t reflect.Type) any {
	name := strings.NewReplacer("[", "_", "]", "_", "github.com/gustflow/gust/internal/", "", "/", "_", ".", "_", "*", "").Replace(t.Name())
	if name == "" {
		panic("restapi: a struct in an answer or a body needs a name: " + t.String())
	}
	name = strings.ToUpper(name[:1]) + name[1:]
	if _, done := d.schemas[name]; done {
		return ref(name)
	}
	d.schemas[name] = obj{} // for types that contain themselves
	p := bodyPlan(t)
	props := obj{}
	var required []string
	for i := range p.fields {
		f := &p.fields[i]
		props[f.name] = d.schema(f.typ, &f.checks, f)
		if f.required || isAnswer(t) && !f.hasDef && !f.omit {
			required = append(required, f.name)
		}
	}
	sort.Strings(required)
	s := obj{"type": "object", "title": name, "properties": props}
	if required != nil {
		s["required"] = required
	}
	if p.closed {
		s["additionalProperties"] = false
	}
	d.schemas[name] = s
	return ref(name)
}

// isAnswer tells the types of answers by their names, which are Airflow's.
func isAnswer(t reflect.Type) bool {
	n := t.Name()
	return !strings.HasSuffix(n, "Body") && !strings.HasSuffix(n, "Payload") && !strings.Contains(n, "Bulk")
}

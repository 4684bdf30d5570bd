package dagspec

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// param is one entry of params.
type param struct {
	name   string
	key    value
	def    value // notSet if absent
	desc   value
	schema value
	source string
	at     pos
}

// paramsOf reads a params mapping; plain values are params without a schema.
func paramsOf(m *dict) ([]param, error) {
	var out []param
	for _, e := range m.entries {
		p := param{name: pyStr(e.key), key: e.key, at: e.vpos}
		if o, ok := e.val.(*object); ok && o.kind == kindParam {
			p.def, p.desc, p.schema = o.get("value"), o.get("description"), o.get("schema")
			if s, ok := o.get("source").(string); ok {
				p.source = s
			}
		} else {
			if err := checkJSON(e.val); err != nil {
				return nil, located(err, "", e.vpos)
			}
			p.def, p.schema = e.val, &dict{}
		}
		out = append(out, p)
	}
	return out, nil
}

// makeParams merges the DAG's params with those of default_args.
func (d *dagBuild) makeParams() {
	v := d.cfg.get("params")
	merged := &dict{}
	if truthy(v) {
		m, ok := v.(*dict)
		if !ok {
			d.fail(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(v)).hint("params expects a mapping"), "params")
			return
		}
		merged = m.clone()
	}
	if x, ok := d.defaultArgs.lookup("params"); ok {
		m, ok := x.(*dict)
		if !ok {
			d.fail(pyErr("TypeError", "'%s' object is not iterable", typeName(x)).hint("params expects a mapping"), "default_args")
			return
		}
		for _, e := range m.entries {
			merged.set(e)
		}
		d.defaultArgs.del("params")
	}
	ps, err := paramsOf(merged)
	if err != nil {
		d.fail(err, "params")
		return
	}
	d.params = ps
}

// checkParams demands of a DAG that is scheduled that its params are valid
// without a conf.
func (d *dagBuild) checkParams() {
	if d.tt == nil || !d.tt.canBeScheduled() {
		return
	}
	for _, p := range d.params {
		err := p.check()
		if err == nil {
			continue
		}
		var e *pyError
		if errors.As(err, &e) && e.class == "SchemaError" {
			d.report(e, d.field+".params."+p.name, p.at)
			continue
		}
		d.report(pyErr("ValueError", "Dag %s is not allowed to define a Schedule, as there are required params without default values, or the default values are not valid.",
			pyRepr(d.id)).hint("param %s: %v", p.name, err), d.field+".params."+p.name, p.at)
	}
}

// check validates the default against the schema (draft 2020-12, formats asserted).
func (p *param) check() error {
	if p.def == value(notSet) {
		return errors.New("No value passed and Param has no default value") //nolint:staticcheck // Airflow's words
	}
	m, ok := p.schema.(*dict)
	if ok && len(m.entries) == 0 {
		return nil
	}
	w := &jsonWriter{}
	w.plain(p.schema)
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(string(w.raw())))
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.UseLoader(jsonschema.SchemeURLLoader{}) // a schema may not read files or the network
	if err := c.AddResource("param.json", schema); err != nil {
		return pyErr("SchemaError", "%v", err)
	}
	s, err := c.Compile("param.json")
	if err != nil {
		return schemaError(err)
	}
	v := &jsonWriter{}
	v.plain(p.def)
	inst, err := jsonschema.UnmarshalJSON(strings.NewReader(string(v.raw())))
	if err != nil {
		return err
	}
	if err := s.Validate(inst); err != nil {
		var ve *jsonschema.ValidationError
		if errors.As(err, &ve) {
			for len(ve.Causes) > 0 {
				ve = ve.Causes[0]
			}
			lines := strings.Split(ve.Error(), "\n")
			return errors.New(strings.TrimSpace(strings.TrimPrefix(lines[len(lines)-1], "- at ''")))
		}
		return err
	}
	return nil
}

// schemaError gives jsonschema's Python wording for the most common mistake.
func schemaError(err error) error {
	var se *jsonschema.SchemaValidationError
	if errors.As(err, &se) {
		var ve *jsonschema.ValidationError
		if errors.As(se.Err, &ve) {
			if v := badType(ve); v != "" {
				return pyErr("SchemaError", "'%s' is not valid under any of the given schemas", v).hint("type expects one of array, boolean, integer, null, number, object, string")
			}
		}
	}
	return pyErr("SchemaError", "%s", strings.ReplaceAll(err.Error(), "\n", " "))
}

func badType(e *jsonschema.ValidationError) string {
	if n := len(e.InstanceLocation); n > 0 && e.InstanceLocation[n-1] == "type" {
		b, err := json.Marshal(e.ErrorKind)
		if err == nil {
			var k struct{ Got string }
			if json.Unmarshal(b, &k) == nil && k.Got != "" {
				return k.Got
			}
		}
	}
	for _, c := range e.Causes {
		if v := badType(c); v != "" {
			return v
		}
	}
	return ""
}

package template

import (
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/pyrepr"
)

// Connection is a connection's fields; nil is None.
type Connection struct {
	ConnID, ConnType                                  string
	Description, Host, Schema, Login, Password, Extra *string
	Port                                              *int
}

// argNotSet is Airflow's NOTSET.
type argNotSet struct{}

// PyType is the class.
func (*argNotSet) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.definitions._internal.types", Name: "ArgNotSet"}
}

// PyRepr is NOTSET.
func (*argNotSet) PyRepr() string { return "NOTSET" }

// Attr fails.
func (*argNotSet) Attr(string) (jinja.Value, bool, error) { return nil, false, nil }

var notSet = &argNotSet{}

// variableAccessor is var.value or var.json.
type variableAccessor struct {
	get  func(key string) (string, bool, error)
	json bool
}

// PyType is the class.
func (a *variableAccessor) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.execution_time.context", Name: "VariableAccessor"}
}

// PyRepr is repr().
func (a *variableAccessor) PyRepr() string { return "<VariableAccessor (dynamic access)>" }

// lookup returns a variable; a text that is no JSON counts as not found.
func (a *variableAccessor) lookup(key string) (jinja.Value, bool, error) {
	if a.get == nil {
		return nil, false, nil
	}
	text, ok, err := a.get(key)
	if err != nil || !ok {
		return nil, false, err
	}
	if !a.json {
		return text, true, nil
	}
	v, err := jinja.ParseJSON(text)
	if err != nil {
		return nil, false, nil
	}
	return v, true, nil
}

func variableNotFound(key string) error {
	return jinja.Errorf("AirflowRuntimeError", "VARIABLE_NOT_FOUND: {'message': 'Variable %s not found'}", key)
}

// Attr looks a variable up.
func (a *variableAccessor) Attr(name string) (jinja.Value, bool, error) {
	if name == "get" {
		return jinja.NewFunc("VariableAccessor.get", "key default=", func(b jinja.Bound) (jinja.Value, error) {
			key, err := jinja.Str(b.V(0))
			if err != nil {
				return nil, err
			}
			v, ok, err := a.lookup(key)
			if err != nil {
				return nil, err
			}
			if !ok {
				return b.Or(1, notSet), nil
			}
			return v, nil
		}), true, nil
	}
	if strings.HasPrefix(name, "__") {
		return nil, false, nil
	}
	v, ok, err := a.lookup(name)
	if err != nil {
		return nil, false, err
	}
	if !ok {
		return nil, false, variableNotFound(name)
	}
	return v, true, nil
}

// connectionAccessor is conn.
type connectionAccessor struct {
	get func(id string) (*Connection, error)
}

// PyType is the class.
func (a *connectionAccessor) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.execution_time.context", Name: "ConnectionAccessor"}
}

// PyRepr is repr().
func (a *connectionAccessor) PyRepr() string { return "<ConnectionAccessor (dynamic access)>" }

func (a *connectionAccessor) lookup(id string) (*Connection, error) {
	if a.get == nil {
		return nil, nil
	}
	return a.get(id)
}

// Attr looks a connection up.
func (a *connectionAccessor) Attr(name string) (jinja.Value, bool, error) {
	if name == "get" {
		return jinja.NewFunc("ConnectionAccessor.get", "conn_id default_conn=", func(b jinja.Bound) (jinja.Value, error) {
			id, err := jinja.Str(b.V(0))
			if err != nil {
				return nil, err
			}
			c, err := a.lookup(id)
			if err != nil {
				return nil, err
			}
			if c == nil {
				return b.V(1), nil
			}
			return &connection{c}, nil
		}), true, nil
	}
	if strings.HasPrefix(name, "__") {
		return nil, false, nil
	}
	c, err := a.lookup(name)
	if err != nil {
		return nil, false, err
	}
	if c == nil {
		return nil, false, jinja.Errorf("AirflowNotFoundException", "The conn_id `%s` isn't defined", name)
	}
	return &connection{c}, true, nil
}

// connection is a Connection in a template.
type connection struct{ c *Connection }

// PyType is the class.
func (c *connection) PyType() *jinja.Type {
	return &jinja.Type{Module: "airflow.sdk.definitions.connection", Name: "Connection"}
}

// PyRepr is repr(); the secrets stay out.
func (c *connection) PyRepr() string {
	f := func(s *string) string {
		if s == nil {
			return "None"
		}
		return pyrepr.Str(*s)
	}
	secret := func(s *string) string {
		if s == nil {
			return "None"
		}
		return "'***'"
	}
	port := "None"
	if c.c.Port != nil {
		port = fmt.Sprint(*c.c.Port)
	}
	return fmt.Sprintf("Connection(conn_id=%s, conn_type=%s, description=%s, host=%s, schema=%s, login=%s, password=%s, port=%s, extra=%s)",
		pyrepr.Str(c.c.ConnID), pyrepr.Str(c.c.ConnType), f(c.c.Description), f(c.c.Host), f(c.c.Schema), f(c.c.Login), secret(c.c.Password), port, secret(c.c.Extra))
}

// Attr gives the fields and methods.
func (c *connection) Attr(name string) (jinja.Value, bool, error) {
	switch name {
	case "conn_id":
		return c.c.ConnID, true, nil
	case "conn_type":
		return c.c.ConnType, true, nil
	case "description":
		return optText(c.c.Description), true, nil
	case "host":
		return optText(c.c.Host), true, nil
	case "schema":
		return optText(c.c.Schema), true, nil
	case "login":
		return optText(c.c.Login), true, nil
	case "password":
		return optText(c.c.Password), true, nil
	case "extra":
		return optText(c.c.Extra), true, nil
	case "port":
		if c.c.Port == nil {
			return nil, true, nil
		}
		return int64(*c.c.Port), true, nil
	case "extra_dejson":
		return c.extra(), true, nil
	case "EXTRA_KEY":
		return "__extra__", true, nil
	case "get_uri":
		return jinja.NewFunc("Connection.get_uri", "", func(jinja.Bound) (jinja.Value, error) { return c.uri() }), true, nil
	case "get_extra_dejson":
		return jinja.NewFunc("Connection.get_extra_dejson", "nested=", func(jinja.Bound) (jinja.Value, error) { return c.extra(), nil }), true, nil
	}
	return nil, false, nil
}

// extra is the parsed extra, {} when it is empty or no JSON.
func (c *connection) extra() jinja.Value {
	if c.c.Extra != nil && *c.c.Extra != "" {
		if v, err := jinja.ParseJSON(*c.c.Extra); err == nil {
			return v
		}
	}
	return jinja.NewDict()
}

// quote is urllib.parse.quote(s, safe="").
func quote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.IndexByte("_.-~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func quotePlus(s string) string { return strings.ReplaceAll(quote(s), "%20", "+") }

// uri is Connection.get_uri().
func (c *connection) uri() (jinja.Value, error) {
	var b strings.Builder
	if c.c.ConnType != "" {
		b.WriteString(strings.ReplaceAll(strings.ToLower(c.c.ConnType), "_", "-") + "://")
	} else {
		b.WriteString("//")
	}
	host := ""
	if c.c.Host != nil {
		host = *c.c.Host
		if p, h, ok := strings.Cut(host, "://"); ok {
			b.WriteString(p + "://")
			host = h
		}
	}
	authority := ""
	if c.c.Login != nil {
		authority += quote(*c.c.Login)
	}
	if c.c.Password != nil {
		authority += ":" + quote(*c.c.Password)
	}
	if authority != "" {
		authority += "@"
	}
	b.WriteString(authority)
	block := quote(host)
	if c.c.Port != nil && *c.c.Port != 0 {
		if block == "" && authority == "" {
			block = "@"
		}
		block += fmt.Sprintf(":%d", *c.c.Port)
	}
	hasSchema := c.c.Schema != nil && *c.c.Schema != ""
	if hasSchema {
		block += "/" + quote(*c.c.Schema)
	}
	b.WriteString(block)
	if c.c.Extra == nil || *c.c.Extra == "" {
		return b.String(), nil
	}
	sep := "/?"
	if hasSchema {
		sep = "?"
	}
	b.WriteString(sep)
	// A flat object of texts becomes the query; anything else would not come
	// back the same and goes into one key.
	if d, ok := c.extra().(*jinja.Dict); ok && d.Len() > 0 {
		flat := true
		var parts []string
		d.Each(func(k, v jinja.Value) bool {
			ks, ok1 := k.(string)
			vs, ok2 := v.(string)
			flat = ok1 && ok2
			parts = append(parts, quotePlus(ks)+"="+quotePlus(vs))
			return flat
		})
		if flat {
			b.WriteString(strings.Join(parts, "&"))
			return b.String(), nil
		}
	}
	b.WriteString("__extra__=" + quotePlus(*c.c.Extra))
	return b.String(), nil
}

// --- the task instance ----------------------------------------------------

// newTaskInstance makes the ti object.
func newTaskInstance(in Input, task *entity) (*entity, error) {
	t := in.TaskInstance
	e, err := newEntity(&jinja.Type{Module: "airflow.sdk.execution_time.task_runner", Name: "RuntimeTaskInstance"}, "", t.Attrs)
	if err != nil {
		return nil, fmt.Errorf("task instance attributes: %w", err)
	}
	a := e.attrs
	a["id"], a["task_id"], a["dag_id"], a["run_id"] = t.ID, t.TaskID, t.DagID, in.DagRun.RunID
	a["map_index"], a["try_number"], a["max_tries"] = int64(t.MapIndex), int64(t.TryNumber), int64(t.MaxTries)
	a["start_date"] = datePlain(t.StartDate)
	a["task"] = task
	if t.Hostname != "" {
		a["hostname"] = t.Hostname
	}
	if t.State != "" {
		a["state"] = &enum{"TaskInstanceState", t.State}
	}
	if _, ok := a["end_date"]; !ok {
		a["end_date"] = nil
	}
	a["is_mapped"] = t.MapIndex >= 0
	a["_cached_template_context"] = &opaque{&jinja.Type{Module: "builtins", Name: "dict"}}
	a["xcom_pull"] = in.Lookups.xcomPull(t.DagID, in.DagRun.RunID, t.TaskID)
	e.repr = fmt.Sprintf("RuntimeTaskInstance(id=%s, task_id=%s, dag_id=%s, run_id=%s, try_number=%d, map_index=%d)",
		pyrepr.Str(t.ID), pyrepr.Str(t.TaskID), pyrepr.Str(t.DagID), pyrepr.Str(in.DagRun.RunID), t.TryNumber, t.MapIndex)
	return e, nil
}

// xcomPull is ti.xcom_pull.
func (l Lookups) xcomPull(ownDag, ownRun, ownTask string) *jinja.Func {
	return jinja.NewFunc("RuntimeTaskInstance.xcom_pull", "task_ids= dag_id= key= include_prior_dates= * map_indexes= default= run_id=", func(b jinja.Bound) (jinja.Value, error) {
		text := func(i int, def string) (string, error) {
			v, err := jinja.Unwrap(b.V(i))
			if err != nil || v == nil {
				return def, err
			}
			return jinja.Str(v)
		}
		q := XComQuery{}
		var err error
		if q.DagID, err = text(1, ownDag); err != nil {
			return nil, err
		}
		if q.RunID, err = text(6, ownRun); err != nil {
			return nil, err
		}
		if q.Key, err = text(2, "return_value"); err != nil {
			return nil, err
		}
		if q.IncludePriorDates, err = jinja.IsTrue(b.Or(3, false)); err != nil {
			return nil, err
		}
		arg, err := jinja.Unwrap(b.V(0))
		if err != nil {
			return nil, err
		}
		single := true
		var tasks []string
		switch x := arg.(type) {
		case nil:
			tasks = []string{ownTask}
		case string:
			tasks = []string{x}
		default:
			single = false
			items, err := jinja.Iterate(x)
			if err != nil {
				return nil, err
			}
			for _, it := range items {
				s, err := jinja.Str(it)
				if err != nil {
					return nil, err
				}
				tasks = append(tasks, s)
			}
		}
		out := jinja.NewList()
		if !b.Has(4) {
			// All map indexes of every task; default= plays no part.
			for _, t := range tasks {
				q.TaskID = t
				var vals []jinja.Value
				ok := false
				if l.XComAll != nil {
					if vals, ok, err = l.XComAll(q); err != nil {
						return nil, err
					}
				}
				if !ok {
					out.Items = append(out.Items, nil)
					continue
				}
				out.Items = append(out.Items, vals...)
			}
			if single && len(out.Items) == 1 {
				return out.Items[0], nil
			}
			return out, nil
		}
		oneIndex := true
		var indexes []int
		mi, err := jinja.Unwrap(b.V(4))
		if err != nil {
			return nil, err
		}
		switch x := mi.(type) {
		case nil:
			indexes = []int{-1}
		case int64:
			indexes = []int{int(x)}
		default:
			oneIndex = false
			items, err := jinja.Iterate(x)
			if err != nil {
				return nil, jinja.Errorf("TypeError", "Invalid type for map_indexes: expected int, iterable of ints, or None, got <class '%s'>", jinja.TypeName(x))
			}
			for _, it := range items {
				n, ok := it.(int64)
				if !ok {
					return nil, jinja.Errorf("TypeError", "map_indexes: expected int, got %s", jinja.TypeName(it))
				}
				indexes = append(indexes, int(n))
			}
		}
		for _, t := range tasks {
			for _, i := range indexes {
				q.TaskID, q.MapIndex = t, i
				var v jinja.Value
				if l.XComOne != nil {
					if v, err = l.XComOne(q); err != nil {
						return nil, err
					}
				}
				if v == nil {
					v = b.V(5)
				}
				out.Items = append(out.Items, v)
			}
		}
		if single && oneIndex {
			if len(out.Items) == 0 {
				return nil, nil
			}
			return out.Items[0], nil
		}
		return out, nil
	})
}

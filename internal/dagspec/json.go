package dagspec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/gustflow/gust/internal/pyrepr"
)

// jsonWriter writes JSON in the order it is told.
type jsonWriter struct {
	b      bytes.Buffer
	python bool // json.dumps' separators and ASCII escapes
	rel    func(string) string
	dagID  string
}

func (w *jsonWriter) raw() json.RawMessage { return json.RawMessage(w.b.Bytes()) }

func (w *jsonWriter) str(s string) {
	if w.python {
		w.pythonString(s)
		return
	}
	if plainJSON(s) {
		w.b.WriteByte('"')
		w.b.WriteString(s)
		w.b.WriteByte('"')
		return
	}
	enc := json.NewEncoder(&w.b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	w.b.Truncate(w.b.Len() - 1)
}

func plainJSON(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}

func (w *jsonWriter) pythonString(s string) {
	w.b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(r)
		case r == '\n':
			w.b.WriteString(`\n`)
		case r == '\r':
			w.b.WriteString(`\r`)
		case r == '\t':
			w.b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f:
			q := strconv.QuoteToASCII(string(r))
			if r > 0xffff {
				r -= 0x10000
				w.b.WriteString(`\u` + hex4(0xd800+r>>10) + `\u` + hex4(0xdc00+r&0x3ff))
			} else {
				w.b.WriteString(`\u` + hex4(r))
			}
			_ = q
		default:
			w.b.WriteRune(r)
		}
	}
	w.b.WriteByte('"')
}

func hex4(r rune) string {
	s := strconv.FormatInt(int64(r), 16)
	return "0000"[:4-len(s)] + s
}

func (w *jsonWriter) num(f float64) {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		w.b.WriteString("null")
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		w.b.WriteString(strconv.FormatFloat(f, 'f', 1, 64))
	default:
		w.b.WriteString(strconv.FormatFloat(f, 'g', -1, 64))
	}
}

// obj writes an object; f writes its members through m.
func (w *jsonWriter) obj(f func(m *members)) {
	w.b.WriteByte('{')
	f(&members{w: w})
	w.b.WriteByte('}')
}

// members writes the members of one object.
type members struct {
	w *jsonWriter
	n int
}

func (m *members) key(k string) *jsonWriter {
	if m.n > 0 {
		m.w.b.WriteByte(',')
		if m.w.python {
			m.w.b.WriteByte(' ')
		}
	}
	m.n++
	m.w.str(k)
	m.w.b.WriteByte(':')
	if m.w.python {
		m.w.b.WriteByte(' ')
	}
	return m.w
}

func (m *members) str(k, v string)          { m.key(k).str(v) }
func (m *members) num(k string, v float64)  { m.key(k).num(v) }
func (m *members) boolean(k string, v bool) { m.key(k).b.WriteString(strconv.FormatBool(v)) }
func (m *members) free(k string, v value)   { m.key(k).free(v) }
func (m *members) strings(k string, v []string) {
	m.key(k).strings(v)
}

func (w *jsonWriter) strings(v []string) {
	w.b.WriteByte('[')
	for i, s := range v {
		if i > 0 {
			w.b.WriteByte(',')
		}
		w.str(s)
	}
	w.b.WriteByte(']')
}

func (w *jsonWriter) seq(n int, f func(i int)) {
	w.b.WriteByte('[')
	for i := 0; i < n; i++ {
		if i > 0 {
			w.b.WriteByte(',')
			if w.python {
				w.b.WriteByte(' ')
			}
		}
		f(i)
	}
	w.b.WriteByte(']')
}

// tag writes {"__type": typ, "__var": …}.
func (w *jsonWriter) tag(typ string, f func()) {
	w.b.WriteString(`{"__type":`)
	w.str(typ)
	w.b.WriteString(`,"__var":`)
	f()
	w.b.WriteByte('}')
}

func (w *jsonWriter) scalar(v value) bool {
	switch v := v.(type) {
	case nil:
		w.b.WriteString("null")
	case bool:
		w.b.WriteString(strconv.FormatBool(v))
	case int64:
		w.b.WriteString(strconv.FormatInt(v, 10))
	case *big.Int:
		w.b.WriteString(v.String())
	case float64:
		if w.python {
			switch {
			case math.IsNaN(v):
				w.b.WriteString("NaN")
			case math.IsInf(v, 1):
				w.b.WriteString("Infinity")
			case math.IsInf(v, -1):
				w.b.WriteString("-Infinity")
			default:
				w.b.WriteString(pyrepr.Float(v))
			}
			break
		}
		w.num(v)
	case string:
		w.str(v)
	default:
		return false
	}
	return true
}

// plain writes v as JSON without type tags; what JSON lacks becomes text.
func (w *jsonWriter) plain(v value) {
	if w.scalar(v) {
		return
	}
	switch v := v.(type) {
	case *list:
		w.seq(len(v.items), func(i int) { w.plain(v.items[i].val) })
	case *tuple:
		w.seq(len(v.items), func(i int) { w.plain(v.items[i]) })
	case *set:
		w.seq(len(v.items), func(i int) { w.plain(v.items[i]) })
	case *dict:
		w.plainDict(v)
	case *xcomArg:
		w.str("{{ task_instance.xcom_pull(task_ids='" + v.task.id + "', dag_id='" + w.dagID + "', key='" + v.key + "') }}")
	case *object:
		if v.kind == kindAsset {
			w.asset(v)
			return
		}
		w.str(pyStr(v))
	case *mappedArg:
		w.str("MappedArgument(" + v.group.id + ", '" + v.key + "')")
	default:
		w.str(pyStr(v))
	}
}

func jsonKey(k value) string {
	switch k := k.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(k)
	}
	return pyStr(k)
}

func (w *jsonWriter) plainDict(d *dict) {
	w.obj(func(m *members) {
		for _, e := range d.entries {
			m.key(jsonKey(e.key)).plain(e.val)
		}
	})
}

// free writes v with Airflow's type tags.
func (w *jsonWriter) free(v value) {
	if w.scalar(v) {
		return
	}
	switch v := v.(type) {
	case *list:
		w.seq(len(v.items), func(i int) { w.free(v.items[i].val) })
	case *tuple:
		w.tag("tuple", func() { w.seq(len(v.items), func(i int) { w.free(v.items[i]) }) })
	case *set:
		w.tag("set", func() { w.seq(len(v.items), func(i int) { w.free(v.items[i]) }) })
	case *dict:
		w.tag("dict", func() { w.freeDict(v) })
	case *datetime:
		w.tag("datetime", func() { w.num(epoch(v.utc())) })
	case *date:
		w.tag("date", func() { w.str(v.String()) })
	case *timeOfDay:
		w.tag("time", func() { w.str(v.String()) })
	case *timedelta:
		w.tag("timedelta", func() { w.num(v.total()) })
	case *relativedelta:
		w.tag("relativedelta", func() { w.relativedelta(v) })
	case *timezone:
		w.tag("timezone", func() {
			if v.loc == nil {
				w.b.WriteString(strconv.Itoa(v.offset))
				return
			}
			w.str(v.name)
		})
	case *pyBytes:
		w.tag("bytes", func() { w.str(base64.StdEncoding.EncodeToString(v.b)) })
	case *xcomArg, *xcomOp:
		w.tag("xcomref", func() { w.xcomBody(v) })
	case *mappedArg:
		w.tag("mapped_arg", func() {
			w.obj(func(m *members) { m.str("group", v.group.id); m.str("key", v.key) })
		})
	case *operatorArg:
		w.tag("task", func() { w.str(v.task.id) })
	case *callable:
		typ := "callable"
		if v.class {
			typ = "class"
		}
		w.tag(typ, func() { w.callable(v) })
	case *macroValue:
		w.free(v.val)
	case *partial:
		w.tag("partial", func() {
			w.obj(func(m *members) {
				w := m.key("callable")
				w.callable(v.fn)
				m.key("kwargs").freeDict(v.kw)
			})
		})
	case *object:
		w.object(v)
	default:
		w.str(pyStr(v))
	}
}

// xcomBody writes what an xcomref tag holds, or a literal operand of one.
func (w *jsonWriter) xcomBody(v value) {
	switch v := v.(type) {
	case *xcomArg:
		w.obj(func(m *members) { m.str("task_id", v.task.id); m.str("key", v.key) })
	case *xcomOp:
		w.obj(func(m *members) {
			m.str("type", v.kind)
			m.key("args").seq(len(v.args), func(i int) { w.xcomBody(v.args[i]) })
			if v.pads {
				m.free("fillvalue", v.fill)
			}
		})
	default:
		w.free(v)
	}
}

func (w *jsonWriter) freeDict(d *dict) {
	w.obj(func(m *members) {
		for _, e := range d.entries {
			m.free(jsonKey(e.key), e.val)
		}
	})
}

func (w *jsonWriter) callable(c *callable) {
	one := func(k, v string) { w.obj(func(m *members) { m.str(k, v) }) }
	switch {
	case c.lambda != "":
		one("lambda", c.lambda)
	case c.json != "":
		one("json", c.json)
	case c.file != "":
		file := c.file
		if w.rel != nil {
			file = w.rel(file)
		}
		w.obj(func(m *members) { m.str("file", file); m.str("name", c.attr) })
	default:
		w.str(c.name())
	}
}

// object writes an asset, or an object that the Python worker builds.
func (w *jsonWriter) object(o *object) {
	switch {
	case o.isAsset():
		w.tag(o.assetType(), func() { w.assetBody(o) })
	case o == notSet:
		w.b.WriteString("null")
	default:
		w.tag("object", func() {
			w.obj(func(m *members) {
				m.str("class", o.class.path)
				if len(o.args) > 0 {
					m.key("args").seq(len(o.args), func(i int) { w.free(o.args[i]) })
				}
				m.key("kwargs")
				if o.kw != nil {
					w.freeDict(o.kw)
					return
				}
				w.obj(func(m *members) {
					for _, a := range o.attrs {
						m.free(a.name, a.val)
					}
				})
			})
		})
	}
}

func (o *object) assetType() string {
	switch o.kind {
	case kindAssetAlias:
		return "asset_alias"
	case kindAssetRef:
		return "asset_ref"
	case kindAssetAll:
		return "asset_all"
	case kindAssetAny:
		return "asset_any"
	}
	return "asset"
}

// asset writes {"name", "uri", "group", "extra"}.
func (w *jsonWriter) asset(o *object) { w.assetBody(o) }

func (w *jsonWriter) assetBody(o *object) { w.obj(func(m *members) { m.assetMembers(o) }) }

func (m *members) assetMembers(o *object) {
	switch o.kind {
	case kindAsset:
		for _, k := range []string{"name", "uri", "group"} {
			m.str(k, pyStr(o.get(k)))
		}
		m.key("extra").plain(o.get("extra"))
		if ws, ok := o.get("watchers").(*list); ok && len(ws.items) > 0 {
			w := m.key("watchers")
			w.seq(len(ws.items), func(i int) { w.watcher(ws.items[i].val) })
		}
	case kindAssetAll, kindAssetAny:
		objs := o.get("objects").(*tuple).items
		w := m.key("objects")
		w.seq(len(objs), func(i int) { w.condition(objs[i].(*object)) })
	default:
		for _, a := range o.attrs {
			m.key(a.name).plain(a.val)
		}
	}
}

func (w *jsonWriter) watcher(v value) {
	o, ok := v.(*object)
	if !ok {
		w.b.WriteString("null")
		return
	}
	w.obj(func(m *members) {
		m.key("name").plain(o.get("name"))
		m.key("trigger").obj(func(m *members) {
			t, _ := o.get("trigger").(*object)
			if t == nil {
				return
			}
			m.str("classpath", t.class.path)
			m.key("kwargs")
			if t.kw != nil {
				w.plainDict(t.kw)
			} else {
				w.b.WriteString("{}")
			}
		})
	})
}

// condition writes an asset expression of a schedule: the type beside the fields.
func (w *jsonWriter) condition(o *object) {
	w.obj(func(m *members) {
		m.str("__type", o.assetType())
		m.assetMembers(o)
	})
}

func (w *jsonWriter) relativedelta(r *relativedelta) {
	w.obj(func(m *members) {
		for _, p := range r.relatives() {
			if p.v != 0 {
				m.key(p.name).scalar(p.v)
			}
		}
		for i, v := range r.abs {
			if v != nil {
				m.key(relativeAbs[i]).plain(v)
			}
		}
		if wd, ok := r.weekday.(*weekday); ok {
			l := newList(wd.day)
			if wd.n != nil {
				l.items = append(l.items, item{val: wd.n})
			}
			m.key("weekday").plain(l)
		}
	})
}

func epoch(t time.Time) float64 { return float64(t.Unix()) + float64(t.Nanosecond())/1e9 }

// fromJSON reads JSON into values.
func fromJSON(raw json.RawMessage) (value, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return decodeValue(dec)
}

func decodeValue(dec *json.Decoder) (value, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		if t == '[' {
			l := &list{}
			for dec.More() {
				v, err := decodeValue(dec)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, item{val: v})
			}
			_, err := dec.Token()
			return l, err
		}
		d := &dict{}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeValue(dec)
			if err != nil {
				return nil, err
			}
			d.set(entry{key: k.(string), val: v})
		}
		_, err := dec.Token()
		return d, err
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		if n, ok := new(big.Int).SetString(t.String(), 10); ok {
			return n, nil
		}
		f, err := t.Float64()
		return f, err
	case string:
		return t, nil
	case bool:
		return t, nil
	}
	return nil, nil
}

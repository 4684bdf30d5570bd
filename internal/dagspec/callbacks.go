package dagspec

import "strings"

// callbackNames in the order dag-factory resolves them.
var callbackNames = []string{"on_execute_callback", "on_success_callback", "on_failure_callback", "on_retry_callback", "on_skipped_callback"}

// resolveCallback replaces m[name], or the pair name_name and name_file, by
// what it imports.
func (d *dagBuild) resolveCallback(m *dict, name, field, _ string) {
	if m.has(name) {
		v, err := d.callback(m.get(name), name)
		if err != nil {
			d.report(err, field+"."+name, m.at(name))
		} else {
			m.entry(name).val = v
		}
	}
	if m.has(name+"_name") && m.has(name+"_file") {
		c, err := d.importFile(m.get(name+"_name"), m.get(name+"_file"))
		if err != nil {
			key := name + "_file"
			if strings.HasPrefix(err.Error(), "AttributeError") {
				key = name + "_name"
			}
			d.report(err, field+"."+key, m.at(key))
			return
		}
		m.del(name + "_name")
		m.del(name + "_file")
		m.put(name, c)
	}
}

// callback is dag-factory's set_callback for text and mappings.
func (d *dagBuild) callback(v value, name string) (value, error) {
	invalid := func() error {
		return pyErr("DagFactoryConfigException", "Invalid type passed to %s", name).
			hint("expected an import path, {callback: path, argument: value} or Gust's {type: command | webhook | slack | email, …}, found %s", typeName(v))
	}
	switch x := v.(type) {
	case string:
		return d.importPath(x)
	case *callable, *partial:
		return v, nil // resolved before: default_args merged into a task
	case *object:
		if x.kind == kindInstance {
			return v, nil
		}
	case *list:
		if d.opt.Strict {
			return nil, invalid()
		}
		out := &list{}
		for _, it := range x.items {
			c, err := d.callback(it.val, name)
			if err != nil {
				return nil, located(err, "", it.pos)
			}
			out.items = append(out.items, item{c, it.pos})
		}
		return out, nil
	case *dict:
		if kind, ok := x.get("type").(string); ok && !d.opt.Strict && !x.has("callback") {
			return x, builtinCallback(kind, x)
		}
		path, ok := x.get("callback").(string)
		if !ok {
			return nil, invalid()
		}
		c, err := d.importPath(path)
		if err != nil {
			return nil, located(err, "", x.at("callback"))
		}
		kw := x.clone()
		kw.del("callback")
		if d.isNotifier(c) {
			if err := d.checkInit(c, nil, kw); err != nil {
				return nil, err
			}
			return newInstance(&class{notifierClass(path)}, nil, kw), nil
		}
		return &partial{c, kw}, nil
	}
	return nil, invalid()
}

// builtinCallback checks a callback that Gust runs itself (see package callback).
// dag-factory has none; their arguments are templates.
func builtinCallback(kind string, x *dict) error {
	need := map[string][]string{"command": {"command", "bash_command"}, "bash": {"bash_command", "command"}, "webhook": {"url"}, "http": {"url"}, "slack": nil, "email": {"to"}, "smtp": {"to"}}
	keys, known := need[kind]
	if !known {
		return located(pyErr("ValueError", "callback type %s is unknown", pyRepr(kind)).hint("expected command, webhook, slack or email"), "type", x.at("type"))
	}
	for _, k := range keys {
		if truthy(x.get(k)) {
			return nil
		}
	}
	if len(keys) > 0 {
		return pyErr("ValueError", "a callback of type %s needs %s", kind, keys[0]).hint("add %s:", keys[0])
	}
	return nil
}

// notifierClass resolves the function-like names of providers' notifiers:
// send_slack_notification is SlackNotifier.
func notifierClass(path string) string {
	words, ok := strings.CutPrefix(attrPart(path), "send_")
	if !ok || !strings.HasPrefix(path, "airflow.providers.") {
		return path
	}
	var b strings.Builder
	for _, w := range strings.Split(strings.TrimSuffix(words, "_notification"), "_") {
		if w != "" {
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
	}
	return modulePart(path) + "." + b.String() + "Notifier"
}

// isNotifier reports whether the class has, or inherits, a notify method.
func (l *loader) isNotifier(c *callable) bool {
	if c.sym == nil || c.sym.Kind != PyClass {
		return strings.HasPrefix(c.module, "airflow.providers.") && (strings.HasSuffix(c.attr, "Notifier") ||
			strings.Contains(c.module, ".notifications.") && strings.HasPrefix(c.attr, "send_"))
	}
	return l.hasMethod(c.sym, "notify", 0)
}

func (l *loader) hasMethod(s *PySymbol, name string, depth int) bool {
	if contains(s.Methods, name) {
		return true
	}
	if depth > 8 || l.py == nil {
		return false
	}
	for _, b := range s.Bases {
		if strings.HasPrefix(b, "airflow.") {
			if strings.HasSuffix(b, "Notifier") && name == "notify" {
				return true
			}
			continue
		}
		m, err := l.py.Module(modulePart(b))
		if err != nil || !m.Found {
			continue
		}
		if t, err := l.symbol(m, attrPart(b), 0); err == nil && t != nil && l.hasMethod(t, name, depth+1) {
			return true
		}
	}
	return false
}

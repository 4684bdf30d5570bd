package jinja

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

// This file holds what connects templates: macros, blocks, extends, include
// and import.

// macro is a callable macro.
type macro struct {
	def        *macroDef
	name       string
	scope      *scope
	ctx        *tctx
	autoescape bool
}

// PyType is the macro's class.
func (m *macro) PyType() *Type { return &Type{Module: "jinja2.runtime", Name: "Macro"} }

// PyRepr shows the macro's name.
func (m *macro) PyRepr() string {
	if m.name == "" {
		return "<Macro anonymous>"
	}
	return "<Macro " + pyrepr.Str(m.name) + ">"
}

// Attr gives the documented attributes of macros.
func (m *macro) Attr(name string) (Value, bool, error) {
	switch name {
	case "name":
		if m.name == "" {
			return nil, true, nil
		}
		return m.name, true, nil
	case "arguments":
		t := &Tuple{}
		for _, a := range m.def.args {
			t.Items = append(t.Items, a)
		}
		return t, true, nil
	case "catch_kwargs":
		return m.def.kwargs, true, nil
	case "catch_varargs":
		return m.def.varargs, true, nil
	case "caller":
		return m.def.caller, true, nil
	}
	return nil, false, nil
}

func (m *macro) callEv(ev *Eval, a *Args) Value {
	d := m.def
	shown := pyrepr.Str(m.name)
	if m.name == "" {
		shown = "None"
	}
	vals := map[string]Value{}
	pos := a.Pos
	if len(pos) > len(d.args) {
		if !d.varargs {
			typeError("macro %s takes not more than %d argument(s)", shown, len(d.args))
		}
		pos = pos[:len(d.args)]
	}
	for i, v := range pos {
		vals[d.args[i]] = v
	}
	kwargs := NewDict()
	var caller Value
	hasCaller := false
	for _, k := range a.Kw {
		switch {
		case contains(d.args, k.Name):
			if _, dup := vals[k.Name]; dup {
				typeError("macro %s got multiple values for argument %s", shown, pyrepr.Str(k.Name))
			}
			vals[k.Name] = k.Value
			if k.Name == "caller" {
				hasCaller = true
			}
		case k.Name == "caller" && d.caller:
			caller, hasCaller = k.Value, true
		case d.kwargs:
			kwargs.Set(k.Name, k.Value)
		case k.Name == "caller":
			typeError("macro %s was invoked with two values for the special caller argument. This is most likely a bug.", shown)
		default:
			typeError("macro %s takes no keyword argument %s", shown, pyrepr.Str(k.Name))
		}
	}
	oldCtx, oldScope, oldCheck, oldAuto, oldLine := ev.ctx, ev.scope, ev.checkOutput, ev.autoescape, ev.line
	oldCtl := ev.ctl
	ev.ctl = ctlNone
	ev.ctx, ev.checkOutput, ev.autoescape = m.ctx, false, m.autoescape
	ev.scope = &scope{vars: map[string]Value{}, parent: m.scope}
	for i, name := range d.args {
		v, ok := vals[name]
		if !ok {
			if di := i - (len(d.args) - len(d.defaults)); di >= 0 {
				v = d.defaults[di].eval(ev)
			} else {
				v = &Undefined{kind: ev.env.Undefined, hint: "parameter " + pyrepr.Str(name) + " was not provided", name: name, exc: "UndefinedError"}
			}
		}
		ev.scope.vars[name] = v
	}
	if d.caller && !d.callerArg {
		if !hasCaller {
			caller = &Undefined{kind: ev.env.Undefined, hint: "No caller defined", name: "caller", exc: "UndefinedError"}
		}
		ev.scope.vars["caller"] = caller
	}
	if d.kwargs {
		ev.scope.vars["kwargs"] = kwargs
	}
	if d.varargs {
		rest := &Tuple{}
		if len(a.Pos) > len(d.args) {
			rest.Items = a.Pos[len(d.args):]
		}
		ev.scope.vars["varargs"] = rest
	}
	v := ev.capture(func() { ev.stmts(d.body) })
	v = ev.markup(v)
	ev.ctl = oldCtl
	ev.ctx, ev.scope, ev.checkOutput, ev.autoescape, ev.line = oldCtx, oldScope, oldCheck, oldAuto, oldLine
	return v
}

func (s *macroStmt) exec(ev *Eval) {
	m := &macro{def: s.def, name: s.name, scope: ev.scope, ctx: ev.ctx, autoescape: ev.autoescape}
	ev.set(s.name, m)
}

func (s *callStmt) exec(ev *Eval) {
	if ev.checkOutput && ev.ctx.extends != nil {
		return
	}
	ev.line = s.line
	caller := &macro{def: s.def, name: "caller", scope: ev.scope, ctx: ev.ctx, autoescape: ev.autoescape}
	f := s.call.e.eval(ev)
	a := s.call.args.eval(ev)
	a.Kw = append(a.Kw, KwArg{"caller", caller})
	ev.write(ev.call(f, a))
}

// --- blocks and inheritance ----------------------------------------------

func (s *blockStmt) exec(ev *Eval) {
	if ev.checkOutput && ev.ctx.extends != nil {
		return
	}
	refs := ev.ctx.blocks[s.name]
	if len(refs) == 0 {
		return
	}
	if s.required && len(refs) > 0 && refs[0].b.required {
		raise("TemplateRuntimeError", "Required block '%s' not found", s.name)
	}
	ev.runBlock(s.name, 0, s.scoped)
}

// runBlock renders a block's n-th definition into the current buffer.
func (ev *Eval) runBlock(name string, n int, scoped bool) {
	ev.push()
	oldScope, oldCheck := ev.scope, ev.checkOutput
	ref := ev.ctx.blocks[name][n]
	var parent *scope
	if scoped {
		parent = ev.scope
	}
	ev.scope = &scope{vars: map[string]Value{"super": ev.superRef(name, n+1)}, parent: parent}
	ev.checkOutput = false
	ev.stmts(ref.b.body)
	ev.scope, ev.checkOutput = oldScope, oldCheck
	ev.pop()
}

func (ev *Eval) superRef(name string, n int) Value {
	if n >= len(ev.ctx.blocks[name]) {
		return &Undefined{kind: ev.env.Undefined, hint: "there is no parent block called " + pyrepr.Str(name) + ".", name: "super", exc: "UndefinedError"}
	}
	return &blockReference{ev, ev.ctx, name, n}
}

// blockReference is super and self.name.
type blockReference struct {
	ev   *Eval
	ctx  *tctx
	name string
	n    int
}

// PyType is the reference's class.
func (b *blockReference) PyType() *Type {
	return &Type{Module: "jinja2.runtime", Name: "BlockReference"}
}

// Attr gives the next definition of the block.
func (b *blockReference) Attr(name string) (Value, bool, error) {
	if name == "super" {
		if b.n+1 >= len(b.ctx.blocks[b.name]) {
			return b.ev.undefinedHint("there is no parent block called " + pyrepr.Str(b.name) + "."), true, nil
		}
		return &blockReference{b.ev, b.ctx, b.name, b.n + 1}, true, nil
	}
	return nil, false, nil
}

func (b *blockReference) callEv(ev *Eval, a *Args) Value {
	if len(a.Pos)+len(a.Kw) > 0 {
		typeError("BlockReference.__call__() takes 1 positional argument but %d were given", len(a.Pos)+1)
	}
	old := ev.ctx
	ev.ctx = b.ctx
	v := ev.capture(func() { ev.runBlock(b.name, b.n, false) })
	ev.ctx = old
	return ev.markup(v)
}

// selfRef is the "self" variable.
type selfRef struct {
	ev  *Eval
	ctx *tctx
}

// PyType is the reference's class.
func (s *selfRef) PyType() *Type { return &Type{Module: "jinja2.runtime", Name: "TemplateReference"} }

// PyRepr names the template.
func (s *selfRef) PyRepr() string {
	if s.ctx.tmpl.Name == "" {
		return "<TemplateReference None>"
	}
	return "<TemplateReference " + pyrepr.Str(s.ctx.tmpl.Name) + ">"
}

// Attr fails: blocks are items.
func (s *selfRef) Attr(string) (Value, bool, error) { return nil, false, nil }

// PyItem gives a block.
func (s *selfRef) PyItem(key Value) (Value, bool, error) {
	name, ok := strOf(key)
	if !ok || len(s.ctx.blocks[name]) == 0 {
		return nil, false, nil
	}
	return &blockReference{s.ev, s.ctx, name, 0}, true, nil
}

// loadTemplate resolves the argument of extends, include and import: a name, a
// list of names (with many true) or a template.
func (ev *Eval) loadTemplate(v Value, many bool) *Template {
	ev.push()
	defer ev.pop()
	if ev.env.Loader == nil {
		typeError("no loader for this environment specified")
	}
	get := func(name string) *Template {
		t, err := ev.env.Get(name)
		if err != nil {
			var e *Error
			if errors.As(err, &e) {
				panic(e)
			}
			raiseErr(err)
		}
		return t
	}
	v = unwrap(v)
	if s, ok := strOf(v); ok {
		return get(s)
	}
	if u, ok := v.(*Undefined); ok {
		u.fail()
	}
	if !many {
		typeError("template name must be a string, not %s", typeName(v))
	}
	var names []string
	var found *Template
	for _, it := range ev.toSlice(v) {
		name := str(it)
		names = append(names, name)
		if catch(func() { found = get(name) }, "TemplateNotFound") == nil {
			return found
		}
	}
	if len(names) == 0 {
		raise("TemplatesNotFound", "Tried to select from an empty list of templates.")
	}
	raise("TemplatesNotFound", "none of the templates given were found: %s", strings.Join(names, ", "))
	return nil
}

func (s *extendsStmt) exec(ev *Eval) {
	ev.line = s.line
	if ev.ctx.extends != nil {
		raise("TemplateRuntimeError", "extended multiple times")
	}
	t := ev.loadTemplate(s.template.eval(ev), false)
	for name, b := range t.blocks {
		ev.ctx.blocks[name] = append(ev.ctx.blocks[name], blockRef{b, t})
	}
	ev.ctx.extends = t
}

func (s *includeStmt) exec(ev *Eval) {
	if ev.checkOutput && ev.ctx.extends != nil {
		return
	}
	ev.line = s.line
	name := s.template.eval(ev)
	var t *Template
	load := func() { t = ev.loadTemplate(name, true) }
	if s.ignoreMissing {
		if catch(load, "TemplateNotFound") != nil {
			return
		}
	} else {
		load()
	}
	ctx := &tctx{tmpl: t}
	if s.withContext {
		ctx.parent, ctx.parentScope = ev.ctx, ev.scope
	}
	line := ev.line
	ev.run(t, ctx)
	ev.line = line
}

// module is an imported template.
type module struct {
	ctx  *tctx
	body Value
}

// PyType is the module's class.
func (m *module) PyType() *Type { return &Type{Module: "jinja2.environment", Name: "TemplateModule"} }

// PyRepr names the template.
func (m *module) PyRepr() string {
	return fmt.Sprintf("<TemplateModule %s>", pyrepr.Str(m.ctx.tmpl.Name))
}

// PyStr is the template's text.
func (m *module) PyStr() string {
	if m.body == nil {
		return ""
	}
	return str(m.body)
}

// Attr gives the template's exported names.
func (m *module) Attr(name string) (Value, bool, error) {
	if m.ctx.exported[name] {
		return m.ctx.top[name], true, nil
	}
	return nil, false, nil
}

func (ev *Eval) importTemplate(e expr, withContext bool) *module {
	t := ev.loadTemplate(e.eval(ev), false)
	ctx := &tctx{tmpl: t}
	if withContext {
		ctx.parent, ctx.parentScope = ev.ctx, ev.scope
	}
	m := &module{ctx: ctx}
	line := ev.line
	m.body = ev.capture(func() { ev.run(t, ctx) })
	ev.line = line
	return m
}

func (s *importStmt) exec(ev *Eval) {
	ev.line = s.line
	m := ev.importTemplate(s.template, s.withContext)
	ev.set(s.name, m)
	if ev.scope == nil {
		delete(ev.ctx.exported, s.name)
	}
}

func (s *fromStmt) exec(ev *Eval) {
	ev.line = s.line
	m := ev.importTemplate(s.template, s.withContext)
	for _, n := range s.names {
		v, ok, _ := m.Attr(n[0])
		if !ok {
			v = ev.undefinedHint(fmt.Sprintf("the template %s (imported on line %d in %s) does not export the requested name %s",
				pyrepr.Str(m.ctx.tmpl.Name), s.line, pyrepr.Str(ev.ctx.tmpl.Name), pyrepr.Str(n[0])))
		}
		ev.set(n[1], v)
		if ev.scope == nil {
			delete(ev.ctx.exported, n[1])
		}
	}
}

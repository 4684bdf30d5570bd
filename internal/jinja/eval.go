package jinja

import (
	"strings"
	"time"
)

// scope is one level of local variables.
type scope struct {
	vars   map[string]Value
	parent *scope
}

// tctx is the context of one template: what its blocks see.
type tctx struct {
	tmpl *Template
	// vars are the variables given to the render; parent and parentScope
	// stand in for them in an included template.
	vars        map[string]Value
	parent      *tctx
	parentScope *scope
	top         map[string]Value
	exported    map[string]bool
	blocks      map[string][]blockRef
	extends     *Template
}

type blockRef struct {
	b    *blockStmt
	tmpl *Template
}

// Eval is one evaluation of a template. Functions receive it to call back.
type Eval struct {
	env        *Environment
	limits     Limits
	ctx        *tctx
	scope      *scope
	out        *buffer
	autoescape bool
	// checkOutput is set outside of blocks and macros: there an active
	// extends swallows the output.
	checkOutput bool
	line        int
	steps       int
	bytes       int
	depth       int
	deadline    time.Time
	ctl         control
	recurseFn   *Func
}

type control int

const (
	ctlNone control = iota
	ctlBreak
	ctlContinue
)

// Env is the environment of the evaluation.
func (ev *Eval) Env() *Environment { return ev.env }

func (ev *Eval) step(n int) {
	before := ev.steps
	ev.steps += n
	if ev.steps > ev.limits.MaxSteps {
		raise(ClassLimit, "the template takes more than %d steps", ev.limits.MaxSteps)
	}
	if before>>12 != ev.steps>>12 && ev.now().After(ev.deadline) {
		raise(ClassLimit, "the template runs longer than %s", ev.limits.MaxTime)
	}
}

func (ev *Eval) now() time.Time {
	if ev.env.Clock != nil {
		return ev.env.Clock()
	}
	return time.Now()
}

// alloc accounts for n bytes of a new value.
func (ev *Eval) alloc(n int) {
	ev.bytes += n
	if ev.bytes > ev.limits.MaxAlloc || n > ev.limits.MaxValueBytes {
		raise(ClassLimit, "the template builds values of more than %d bytes", min(ev.limits.MaxAlloc, ev.limits.MaxValueBytes))
	}
}

func (ev *Eval) push() {
	ev.depth++
	if ev.depth > ev.limits.MaxDepth {
		raise("RecursionError", "maximum recursion depth exceeded")
	}
}

func (ev *Eval) pop() { ev.depth-- }

// buffer collects output: text, or in the native environment the parts.
type buffer struct {
	native bool
	sb     strings.Builder
	parts  []Value
}

func (b *buffer) text(ev *Eval, s string) {
	if b.native {
		b.parts = append(b.parts, s)
		ev.alloc(len(s))
		return
	}
	if b.sb.Len()+len(s) > ev.limits.MaxOutput {
		raise(ClassLimit, "the output is larger than %d bytes", ev.limits.MaxOutput)
	}
	b.sb.WriteString(s)
}

func (b *buffer) result() Value {
	if b.native {
		return nativeConcat(b.parts)
	}
	return b.sb.String()
}

// newEval prepares an evaluation.
func (env *Environment) newEval() *Eval {
	ev := &Eval{env: env, limits: env.Limits.filled(), autoescape: env.Autoescape}
	ev.out = &buffer{native: env.Native}
	ev.deadline = ev.now().Add(ev.limits.MaxTime)
	return ev
}

// Render evaluates the template with the variables. The result is a string, or
// any Value in a native environment.
func (t *Template) Render(vars map[string]Value) (out Value, err error) {
	ev := t.env.newEval()
	defer func() {
		if e, ok := err.(*Error); ok {
			if e.Line == 0 {
				e.Line = ev.line
			}
			if e.Template == "" && ev.ctx != nil {
				e.Template = ev.ctx.tmpl.Name
			}
		}
	}()
	defer guard(&err)
	ev.run(t, &tctx{tmpl: t, vars: vars})
	return ev.out.result(), nil
}

// run renders a template into the current buffer with a fresh scope.
func (ev *Eval) run(t *Template, ctx *tctx) {
	ev.push()
	defer ev.pop()
	oldCtx, oldScope, oldCheck, oldAuto := ev.ctx, ev.scope, ev.checkOutput, ev.autoescape
	ev.ctx, ev.scope, ev.checkOutput, ev.autoescape = ctx, nil, true, ev.env.Autoescape
	if ctx.top == nil {
		ctx.top = map[string]Value{}
		ctx.exported = map[string]bool{}
		ctx.blocks = map[string][]blockRef{}
	}
	for name, b := range t.blocks {
		ctx.blocks[name] = append(ctx.blocks[name], blockRef{b, t})
	}
	for cur := t; ; {
		ctx.extends = nil
		ev.stmts(cur.body)
		if ctx.extends == nil {
			break
		}
		cur = ctx.extends
		ev.push() // a chain of extends that never ends
		defer ev.pop()
		ev.scope = nil
	}
	ev.ctx, ev.scope, ev.checkOutput, ev.autoescape = oldCtx, oldScope, oldCheck, oldAuto
}

func (ev *Eval) stmts(ss []stmt) {
	for _, s := range ss {
		ev.step(1)
		s.exec(ev)
		if ev.ctl != ctlNone {
			return
		}
	}
}

// lookup finds a variable.
func (ev *Eval) lookup(name string) (Value, bool) {
	for s := ev.scope; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return ev.ctx.resolve(ev.env, name)
}

func (c *tctx) resolve(env *Environment, name string) (Value, bool) {
	for ; c != nil; c = c.parent {
		if v, ok := c.top[name]; ok {
			return v, true
		}
		if v, ok := c.vars[name]; ok {
			return v, true
		}
		for s := c.parentScope; s != nil; s = s.parent {
			if v, ok := s.vars[name]; ok {
				return v, true
			}
		}
	}
	if v, ok := env.Globals[name]; ok {
		return v, true
	}
	v, ok := builtinGlobals[name]
	return v, ok
}

func (ev *Eval) set(name string, v Value) {
	if ev.scope != nil {
		ev.scope.vars[name] = v
		return
	}
	ev.ctx.top[name] = v
	if !strings.HasPrefix(name, "_") {
		ev.ctx.exported[name] = true
	}
}

func (ev *Eval) pushScope() *scope {
	old := ev.scope
	ev.scope = &scope{vars: map[string]Value{}, parent: old}
	return old
}

// capture renders statements into a value.
func (ev *Eval) capture(f func()) Value {
	old := ev.out
	ev.out = &buffer{native: ev.env.Native}
	f()
	b := ev.out
	ev.out = old
	v := b.result()
	if s, ok := v.(string); ok {
		ev.alloc(len(s))
	}
	return v
}

func (ev *Eval) markup(v Value) Value {
	if ev.autoescape {
		if s, ok := v.(string); ok {
			return Markup(s)
		}
	}
	return v
}

// --- statements ----------------------------------------------------------

func (s *outputStmt) exec(ev *Eval) {
	if ev.checkOutput && ev.ctx.extends != nil {
		return
	}
	pending, has := "", false
	for i, e := range s.items {
		if d, ok := e.(*dataExpr); ok {
			if ev.out.native {
				pending, has = pending+d.text, true
			} else {
				ev.out.text(ev, d.text)
			}
			continue
		}
		ev.line = s.lines[i]
		v := e.eval(ev)
		if !ev.out.native {
			if ev.autoescape {
				ev.out.text(ev, string(escape(v)))
			} else {
				ev.out.text(ev, str(v))
			}
			continue
		}
		if isConst(e) && hasSafeRepr(v) {
			pending, has = pending+str(v), true
			continue
		}
		if has {
			ev.out.parts = append(ev.out.parts, pending)
			pending, has = "", false
		}
		ev.out.parts = append(ev.out.parts, v)
	}
	if has {
		ev.out.parts = append(ev.out.parts, pending)
	}
}

func hasSafeRepr(v Value) bool {
	switch x := v.(type) {
	case *Undefined, *Generator, *Func, *dictView, *Type:
		return false
	case *List:
		for _, it := range x.Items {
			if !hasSafeRepr(it) {
				return false
			}
		}
	case *Tuple:
		for _, it := range x.Items {
			if !hasSafeRepr(it) {
				return false
			}
		}
	case *Dict:
		for _, k := range x.Keys() {
			w, _ := x.Get(k)
			if !hasSafeRepr(w) {
				return false
			}
		}
	}
	return true
}

func (s *ifStmt) exec(ev *Eval) {
	for i, t := range s.tests {
		ev.line = s.line
		if isTrue(t.eval(ev)) {
			ev.stmts(s.bodies[i])
			return
		}
	}
	ev.stmts(s.other)
}

func (s *withStmt) exec(ev *Eval) {
	ev.line = s.line
	vals := make([]Value, len(s.values))
	for i, e := range s.values {
		vals[i] = e.eval(ev)
	}
	old := ev.pushScope()
	for i, t := range s.targets {
		t.assign(ev, vals[i])
	}
	ev.stmts(s.body)
	ev.scope = old
}

func (s *setStmt) exec(ev *Eval) {
	ev.line = s.line
	s.target.assign(ev, s.e.eval(ev))
}

func (s *setBlockStmt) exec(ev *Eval) {
	ev.line = s.line
	oldCheck := ev.checkOutput
	ev.checkOutput = false
	v := ev.capture(func() {
		old := ev.pushScope()
		ev.stmts(s.body)
		ev.scope = old
	})
	ev.checkOutput = oldCheck
	if s.filter != nil {
		v = ev.applyBlockFilter(s.filter, v)
	}
	s.target.assign(ev, ev.markup(v))
}

func (s *filterStmt) exec(ev *Eval) {
	if ev.checkOutput && ev.ctx.extends != nil {
		return
	}
	ev.line = s.line
	v := ev.capture(func() {
		old := ev.pushScope()
		ev.stmts(s.body)
		ev.scope = old
	})
	ev.write(ev.applyBlockFilter(s.filter, ev.markup(v)))
}

// write outputs a value as a print statement does.
func (ev *Eval) write(v Value) {
	if ev.out.native {
		ev.out.parts = append(ev.out.parts, v)
	} else if ev.autoescape {
		ev.out.text(ev, string(escape(v)))
	} else {
		ev.out.text(ev, str(v))
	}
}

// applyBlockFilter evaluates a filter chain whose innermost value is v.
func (ev *Eval) applyBlockFilter(e expr, v Value) Value {
	f, ok := e.(*filterExpr)
	if !ok {
		return v
	}
	in := v
	if f.target != nil {
		in = ev.applyBlockFilter(f.target, v)
	}
	return ev.callFilter(f, in)
}

func (s *autoescapeStmt) exec(ev *Eval) {
	ev.line = s.line
	old := ev.autoescape
	on := isTrue(s.e.eval(ev))
	oldScope := ev.pushScope()
	ev.autoescape = on
	ev.stmts(s.body)
	ev.autoescape = old
	ev.scope = oldScope
}

func (s *doStmt) exec(ev *Eval) {
	ev.line = s.line
	s.e.eval(ev)
}

func (s *loopControl) exec(ev *Eval) {
	ev.ctl = ctlContinue
	if s.brk {
		ev.ctl = ctlBreak
	}
}

func (t *nameTargetT) assign(ev *Eval, v Value) { ev.set(t.name, v) }

func (t *tupleTarget) assign(ev *Eval, v Value) {
	it := tryIter(v)
	if it == nil {
		typeError("cannot unpack non-iterable %s object", typeName(v))
	}
	for i, sub := range t.items {
		x, ok := it()
		if !ok {
			valueError("not enough values to unpack (expected %d, got %d)", len(t.items), i)
		}
		sub.assign(ev, x)
	}
	if _, more := it(); more {
		valueError("too many values to unpack (expected %d)", len(t.items))
	}
}

func (t *nsTarget) assign(ev *Eval, v Value) {
	ns, ok := ev.lookup(t.name)
	if !ok {
		ns = ev.undefinedName(t.name)
	}
	n, ok := ns.(*namespace)
	if !ok {
		raise("TemplateRuntimeError", "cannot assign attribute on non-namespace object")
	}
	n.attrs.Set(t.attr, v)
}

func (s *forStmt) exec(ev *Eval) {
	ev.line = s.line
	seq := s.iter.eval(ev)
	if !s.recursive {
		s.loop(ev, seq, nil, 0)
		return
	}
	def := ev.scope
	var rec *Func
	depth := 0
	rec = &Func{Name: "loop", call: func(ev *Eval, a *Args) Value {
		if len(a.Pos) != 1 {
			typeError("loop() takes 1 positional argument but %d were given", len(a.Pos))
		}
		ev.push()
		depth++
		old := ev.scope
		ev.scope = def
		v := ev.capture(func() { s.loop(ev, a.Pos[0], rec, depth) })
		ev.scope = old
		depth--
		ev.pop()
		return ev.markup(v)
	}}
	s.loop(ev, seq, rec, 0)
}

func (s *forStmt) loop(ev *Eval, seq Value, rec *Func, depth int) {
	if u, ok := seq.(*Undefined); ok && u.kind == StrictUndefined {
		u.fail()
	}
	it := iterate(seq)
	if s.test != nil {
		inner := it
		it = func() (Value, bool) {
			for {
				v, ok := inner()
				if !ok {
					return nil, false
				}
				ev.step(1)
				old := ev.pushScope()
				s.target.assign(ev, v)
				keep := isTrue(s.test.eval(ev))
				ev.scope = old
				if keep {
					return v, true
				}
			}
		}
	}
	lc := &loopContext{ev: ev, it: it, rec: rec, depth0: depth, index0: -1, length: -1}
	if s.test == nil {
		if n, ok := tryLength(seq); ok {
			lc.length = n
		}
	}
	any := false
	oldScope := ev.scope
	for {
		v, ok := lc.next()
		if !ok {
			break
		}
		any = true
		ev.step(1)
		ev.scope = &scope{vars: make(map[string]Value, 2), parent: oldScope}
		if s.usesLoop {
			ev.scope.vars["loop"] = lc
		}
		s.target.assign(ev, v)
		ev.stmts(s.body)
		if ev.ctl == ctlBreak {
			ev.ctl = ctlNone
			break
		}
		ev.ctl = ctlNone
	}
	ev.scope = oldScope
	if !any {
		ev.pushScope()
		ev.stmts(s.other)
		ev.scope = oldScope
	}
}

// loopContext is the "loop" variable.
type loopContext struct {
	ev         *Eval
	it         func() (Value, bool)
	rec        *Func
	depth0     int
	index0     int64
	length     int64
	prev, cur  Value
	hasPrev    bool
	ahead      []Value
	done       bool
	changedVal []Value
	hasChanged bool
}

func (l *loopContext) peek() (Value, bool) {
	if len(l.ahead) == 0 && !l.done {
		v, ok := l.it()
		if !ok {
			l.done = true
		} else {
			l.ahead = append(l.ahead, v)
		}
	}
	if len(l.ahead) > 0 {
		return l.ahead[0], true
	}
	return nil, false
}

func (l *loopContext) next() (Value, bool) {
	v, ok := l.peek()
	if !ok {
		return nil, false
	}
	l.ahead = l.ahead[1:]
	if l.index0 >= 0 {
		l.prev, l.hasPrev = l.cur, true
	}
	l.cur = v
	l.index0++
	return v, true
}

func (l *loopContext) len() int64 {
	if l.length >= 0 {
		return l.length
	}
	for !l.done {
		l.ev.step(1)
		v, ok := l.it()
		if !ok {
			l.done = true
			break
		}
		l.ahead = append(l.ahead, v)
	}
	l.length = int64(len(l.ahead)) + l.index0 + 1
	return l.length
}

// PyType is the loop's class.
func (l *loopContext) PyType() *Type { return &Type{Module: "jinja2.runtime", Name: "LoopContext"} }

// PyRepr shows the position.
func (l *loopContext) PyRepr() string {
	return "<LoopContext " + str(l.index0+1) + "/" + str(l.len()) + ">"
}

// PyLen is the number of iterations.
func (l *loopContext) PyLen() int { return int(l.len()) }

// PyCall is loop(...) of a recursive loop.
func (l *loopContext) PyCall(a *Args) (Value, error) {
	if l.rec == nil {
		typeError("The loop must have the 'recursive' marker to be called recursively.")
	}
	return l.rec.call(l.ev, a), nil
}

// Attr gives the loop's attributes.
func (l *loopContext) Attr(name string) (Value, bool, error) {
	switch name {
	case "index":
		return l.index0 + 1, true, nil
	case "index0":
		return l.index0, true, nil
	case "revindex":
		return l.len() - l.index0, true, nil
	case "revindex0":
		return l.len() - l.index0 - 1, true, nil
	case "first":
		return l.index0 == 0, true, nil
	case "last":
		_, more := l.peek()
		return !more, true, nil
	case "length":
		return l.len(), true, nil
	case "depth":
		return int64(l.depth0 + 1), true, nil
	case "depth0":
		return int64(l.depth0), true, nil
	case "previtem":
		if !l.hasPrev {
			return l.ev.undefinedHint("there is no previous item"), true, nil
		}
		return l.prev, true, nil
	case "nextitem":
		v, ok := l.peek()
		if !ok {
			return l.ev.undefinedHint("there is no next item"), true, nil
		}
		return v, true, nil
	case "cycle":
		return &Func{Name: "cycle", QualName: "LoopContext.cycle", Self: l, call: func(_ *Eval, a *Args) Value {
			if len(a.Pos) == 0 {
				typeError("no items for cycling given")
			}
			return a.Pos[l.index0%int64(len(a.Pos))]
		}}, true, nil
	case "changed":
		return &Func{Name: "changed", QualName: "LoopContext.changed", Self: l, call: func(_ *Eval, a *Args) Value {
			if l.hasChanged && new(comparer).seq(l.changedVal, a.Pos) {
				return false
			}
			l.changedVal, l.hasChanged = a.Pos, true
			return true
		}}, true, nil
	}
	return nil, false, nil
}

package jinja

import "strings"

// statement parses one statement; the stream is on its tag name.
func (p *parser) statement() []stmt {
	t := p.cur()
	if t.kind != tokName {
		p.fail(t.line, "tag name expected")
	}
	parse := p.tag(t.text)
	if parse == nil {
		p.unknownTag(t.text, t.line)
	}
	p.tags = append(p.tags, t.text)
	defer func() { p.tags = p.tags[:len(p.tags)-1] }()
	p.next()
	return parse(t.line)
}

func (p *parser) tag(name string) func(line int) []stmt {
	one := func(f func(line int) stmt) func(int) []stmt {
		return func(line int) []stmt { return []stmt{f(line)} }
	}
	switch name {
	case "for":
		return one(p.forStmt)
	case "if":
		return one(p.ifStmt)
	case "block":
		return one(p.blockStmt)
	case "extends":
		return one(func(line int) stmt { return &extendsStmt{line, p.expression()} })
	case "print":
		return one(p.printStmt)
	case "macro":
		return one(p.macroStmt)
	case "include":
		return one(p.includeStmt)
	case "from":
		return one(p.fromStmt)
	case "import":
		return one(p.importStmt)
	case "set":
		return one(p.setStmt)
	case "with":
		return one(p.withStmt)
	case "autoescape":
		return one(func(line int) stmt {
			e := p.expression()
			return &autoescapeStmt{line, e, p.statements(true, "endautoescape")}
		})
	case "call":
		return one(p.callStmt)
	case "filter":
		return one(func(line int) stmt {
			f := p.filter(nil, true)
			return &filterStmt{line, f, p.statements(true, "endfilter")}
		})
	case "do":
		if p.env.Extensions["do"] {
			return one(func(line int) stmt { return &doStmt{line, p.parseTuple(true, nil, false, false)} })
		}
	case "break", "continue":
		if p.env.Extensions["loopcontrols"] {
			return one(func(line int) stmt {
				if !p.inLoop() && p.loopErr == nil {
					p.loopErr = &Error{Class: "SyntaxError", Message: "'" + name + "' outside loop", Line: line}
				}
				return &loopControl{name == "break"}
			})
		}
	}
	return nil
}

// inLoop tells whether the innermost function-like statement is in a loop.
func (p *parser) inLoop() bool {
	for i := len(p.tags) - 2; i >= 0; i-- {
		switch p.tags[i] {
		case "for":
			return true
		case "macro", "block", "call":
			return false
		}
	}
	return false
}

// assignTarget parses what a value can be bound to.
func (p *parser) assignTarget(withTuple, namespace bool, ends []string) target {
	t := p.cur()
	if namespace && t.kind == tokName && p.look().kind == "dot" {
		p.next()
		p.next()
		return &nsTarget{t.line, t.text, p.expect(tokName).text}
	}
	var e expr
	if withTuple {
		e = p.parseTuple(true, ends, false, true)
	} else {
		e = p.primary()
	}
	return p.toTarget(e, t.line)
}

func (p *parser) nameTarget() string {
	t := p.expect(tokName)
	switch t.text {
	case "true", "false", "none", "True", "False", "None":
		p.fail(t.line, "can't assign to 'name'")
	}
	return t.text
}

func (p *parser) toTarget(e expr, line int) target {
	switch x := e.(type) {
	case *nameExpr:
		return &nameTargetT{x.name}
	case *tupleExpr:
		t := &tupleTarget{}
		for _, it := range x.items {
			t.items = append(t.items, p.toTarget(it, line))
		}
		return t
	}
	kind := "expression"
	switch e.(type) {
	case *constExpr:
		kind = "const"
	case *listExpr:
		kind = "list"
	case *dictExpr:
		kind = "dict"
	}
	p.fail(line, "can't assign to '%s'", kind)
	return nil
}

func (p *parser) forStmt(line int) stmt {
	f := &forStmt{line: line}
	f.target = p.assignTarget(true, false, []string{"in"})
	p.expectName("in")
	f.iter = p.parseTuple(false, []string{"recursive"}, false, false)
	if p.skipName("if") {
		f.test = p.expression()
	}
	f.recursive = p.skipName("recursive")
	f.body = p.statements(false, "endfor", "else")
	f.usesLoop = f.recursive
	visitStmts(func(n any) {
		switch x := n.(type) {
		case *nameExpr:
			f.usesLoop = f.usesLoop || x.name == "loop"
		case *blockStmt:
			f.usesLoop = f.usesLoop || x.scoped
		}
	}, f.body)
	if p.next().text == "else" {
		f.other = p.statements(true, "endfor")
	}
	return f
}

func (p *parser) ifStmt(line int) stmt {
	s := &ifStmt{line: line}
	for {
		test := p.parseTuple(false, nil, false, false)
		body := p.statements(false, "elif", "else", "endif")
		s.tests = append(s.tests, test)
		s.bodies = append(s.bodies, body)
		t := p.next()
		switch t.text {
		case "elif":
			continue
		case "else":
			s.other = p.statements(true, "endif")
		}
		return s
	}
}

func (p *parser) withStmt(line int) stmt {
	w := &withStmt{line: line}
	for !p.is(tokBlockEnd) {
		if len(w.targets) > 0 {
			p.expect("comma")
		}
		t := p.assignTarget(true, false, nil)
		p.expect("assign")
		w.targets = append(w.targets, t)
		w.values = append(w.values, p.expression())
	}
	w.body = p.statements(true, "endwith")
	return w
}

func (p *parser) blockStmt(line int) stmt {
	b := &blockStmt{line: line, name: p.expect(tokName).text}
	b.scoped = p.skipName("scoped")
	b.required = p.skipName("required")
	if p.is("sub") {
		p.fail(p.cur().line, "Block names in Jinja have to be valid Python identifiers and may not contain hyphens, use an underscore instead.")
	}
	b.body = p.statements(true, "endblock")
	if b.required {
		for _, s := range b.body {
			ok := false
			if o, isOut := s.(*outputStmt); isOut {
				ok = true
				for _, e := range o.items {
					d, isData := e.(*dataExpr)
					ok = ok && isData && strings.TrimFunc(d.text, isSpace) == ""
				}
			}
			if !ok {
				p.fail(line, "Required blocks can only contain comments or whitespace")
			}
		}
	}
	p.skipName(b.name)
	if _, dup := p.blocks[b.name]; dup {
		panic(&Error{Class: "TemplateAssertionError", Message: "block '" + b.name + "' defined twice", Line: line})
	}
	p.blocks[b.name] = b
	p.order = append(p.order, b.name)
	return b
}

func (p *parser) printStmt(line int) stmt {
	o := &outputStmt{line: line}
	for !p.is(tokBlockEnd) {
		if len(o.items) > 0 {
			p.expect("comma")
		}
		o.lines = append(o.lines, p.cur().line)
		o.items = append(o.items, p.expression())
	}
	return o
}

func (p *parser) contextFlag(def bool) bool {
	if p.isName("with", "without") && p.look().kind == tokName && p.look().text == "context" {
		with := p.next().text == "with"
		p.next()
		return with
	}
	return def
}

func (p *parser) includeStmt(line int) stmt {
	s := &includeStmt{line: line, template: p.expression()}
	if p.isName("ignore") && p.look().kind == tokName && p.look().text == "missing" {
		p.next()
		p.next()
		s.ignoreMissing = true
	}
	s.withContext = p.contextFlag(true)
	return s
}

func (p *parser) importStmt(line int) stmt {
	s := &importStmt{line: line, template: p.expression()}
	p.expectName("as")
	s.name = p.nameTarget()
	s.withContext = p.contextFlag(false)
	return s
}

func (p *parser) fromStmt(line int) stmt {
	s := &fromStmt{line: line, template: p.expression()}
	p.expectName("import")
	parseContext := func() bool {
		if p.isName("with", "without") && p.look().kind == tokName && p.look().text == "context" {
			s.withContext = p.next().text == "with"
			p.next()
			return true
		}
		return false
	}
	for {
		if len(s.names) > 0 {
			p.expect("comma")
		}
		if !p.is(tokName) {
			p.expect(tokName)
		}
		if parseContext() {
			break
		}
		t := p.cur()
		name := p.nameTarget()
		if strings.HasPrefix(name, "_") {
			panic(&Error{Class: "TemplateAssertionError", Message: "names starting with an underline can not be imported", Line: t.line})
		}
		alias := name
		if p.skipName("as") {
			alias = p.nameTarget()
		}
		s.names = append(s.names, [2]string{name, alias})
		if parseContext() || !p.is("comma") {
			break
		}
	}
	return s
}

func (p *parser) signature() (names []string, defaults []expr) {
	p.expect("lparen")
	for !p.is("rparen") {
		if len(names) > 0 {
			p.expect("comma")
		}
		names = append(names, p.nameTarget())
		if p.skipIf("assign") {
			defaults = append(defaults, p.expression())
		} else if len(defaults) > 0 {
			p.fail(p.cur().line, "non-default argument follows default argument")
		}
	}
	p.expect("rparen")
	return names, defaults
}

func (p *parser) macroStmt(line int) stmt {
	m := &macroStmt{line: line, def: &macroDef{}}
	m.name = p.nameTarget()
	m.def.name = m.name
	m.def.args, m.def.defaults = p.signature()
	m.def.body = p.statements(true, "endmacro")
	m.def.analyse(p)
	return m
}

func (p *parser) callStmt(line int) stmt {
	c := &callStmt{line: line, def: &macroDef{name: ""}}
	if p.is("lparen") {
		c.def.args, c.def.defaults = p.signature()
	}
	e := p.expression()
	call, ok := e.(*callExpr)
	if !ok {
		p.fail(line, "expected call")
	}
	c.call = call
	c.def.body = p.statements(true, "endcall")
	c.def.analyse(p)
	return c
}

func (p *parser) setStmt(line int) stmt {
	t := p.assignTarget(true, true, nil)
	if p.skipIf("assign") {
		return &setStmt{line, t, p.parseTuple(true, nil, false, false)}
	}
	f := p.filter(nil, false)
	return &setBlockStmt{line, t, f, p.statements(true, "endset")}
}

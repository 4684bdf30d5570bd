package jinja

import (
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/pyrepr"
)

type parser struct {
	env    *Environment
	toks   []token
	pos    int
	depth  int
	tags   []string   // open statements, innermost last
	ends   [][]string // what closes them
	blocks map[string]*blockStmt
	order  []string
	// loopErr is a break outside of a loop: Python's compiler finds it, after
	// Jinja's parser.
	loopErr *Error
}

// maxNesting bounds the nesting of expressions and statements.
const maxNesting = 200

func (p *parser) cur() token { return p.toks[p.pos] }

func (p *parser) fail(line int, format string, args ...any) {
	panic(&Error{Class: "TemplateSyntaxError", Message: fmt.Sprintf(format, args...), Line: line})
}

func (p *parser) check() {
	if t := p.cur(); t.kind == tokError {
		p.fail(t.line, "%s", t.text)
	}
}

func (p *parser) next() token {
	t := p.cur()
	if t.kind != tokEOF {
		p.pos++
		p.check()
	}
	return t
}

func (p *parser) is(k tokenKind) bool { return p.cur().kind == k }

func (p *parser) isName(names ...string) bool {
	t := p.cur()
	if t.kind != tokName {
		return false
	}
	for _, n := range names {
		if t.text == n {
			return true
		}
	}
	return false
}

func (p *parser) look() token {
	if p.pos+1 < len(p.toks) {
		return p.toks[p.pos+1]
	}
	return p.cur()
}

func (p *parser) skipIf(k tokenKind) bool {
	if p.is(k) {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(k tokenKind) token {
	t := p.cur()
	if t.kind != k {
		if t.kind == tokEOF {
			p.fail(t.line, "unexpected end of template, expected %s.", pyrepr.Str(describeKind(k)))
		}
		p.fail(t.line, "expected token %s, got %s", pyrepr.Str(describeKind(k)), pyrepr.Str(t.describe()))
	}
	return p.next()
}

func (p *parser) expectName(name string) {
	t := p.cur()
	if t.kind != tokName || t.text != name {
		if t.kind == tokEOF {
			p.fail(t.line, "unexpected end of template, expected %s.", pyrepr.Str(name))
		}
		p.fail(t.line, "expected token %s, got %s", pyrepr.Str(name), pyrepr.Str(t.describe()))
	}
	p.next()
}

func (p *parser) enter() {
	p.depth++
	if p.depth > maxNesting {
		p.fail(p.cur().line, "the template is nested more than %d levels deep", maxNesting)
	}
}

func (p *parser) leave() { p.depth-- }

func parseTemplate(env *Environment, source, name string) (t *Template, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			if e.Template == "" {
				e.Template = name
			}
			err = e
		}
	}()
	p := &parser{env: env, toks: lex(env, source), blocks: map[string]*blockStmt{}}
	p.check()
	body := p.subparse(nil)
	if p.loopErr != nil {
		panic(p.loopErr)
	}
	checker := &nameChecker{env: env}
	checker.stmts(body, false)
	for _, b := range p.order {
		checker.stmts(p.blocks[b].body, false)
	}
	return &Template{env: env, Name: name, body: body, blocks: p.blocks}, nil
}

// unknownTag raises the error for a tag that does not belong here.
func (p *parser) unknownTag(name string, line int) {
	var b strings.Builder
	if name == "" {
		b.WriteString("Unexpected end of template.")
	} else {
		fmt.Fprintf(&b, "Encountered unknown tag '%s'.", name)
	}
	var ends []string
	for _, e := range p.ends {
		ends = append(ends, e...)
	}
	if len(p.ends) > 0 {
		var list []string
		for _, e := range p.ends[len(p.ends)-1] {
			list = append(list, "'"+e+"'")
		}
		cur := strings.Join(list, " or ")
		switch {
		case name != "" && contains(ends, name):
			fmt.Fprintf(&b, " You probably made a nesting mistake. Jinja is expecting this tag, but currently looking for %s.", cur)
		default:
			fmt.Fprintf(&b, " Jinja was looking for the following tags: %s.", cur)
		}
	}
	if len(p.tags) > 0 {
		fmt.Fprintf(&b, " The innermost block that needs to be closed is '%s'.", p.tags[len(p.tags)-1])
	}
	p.fail(line, "%s", b.String())
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// subparse parses data and statements up to one of the end tags; the stream is
// then on the end tag's name.
func (p *parser) subparse(ends []string) []stmt {
	p.enter()
	defer p.leave()
	if ends != nil {
		p.ends = append(p.ends, ends)
		defer func() { p.ends = p.ends[:len(p.ends)-1] }()
	}
	var body []stmt
	var out *outputStmt
	emit := func(line int, e expr) {
		if out == nil {
			out = &outputStmt{line: line}
			body = append(body, out)
		}
		out.items = append(out.items, e)
		out.lines = append(out.lines, line)
	}
	for {
		t := p.cur()
		switch t.kind {
		case tokEOF:
			if ends != nil {
				p.unknownTag("", t.line)
			}
			return body
		case tokData:
			p.next()
			emit(t.line, &dataExpr{t.text})
		case tokVariableBegin:
			p.next()
			emit(t.line, p.parseTuple(true, nil, false, false))
			p.expect(tokVariableEnd)
		case tokBlockBegin:
			p.next()
			out = nil
			if ends != nil && p.isName(ends...) {
				return body
			}
			if s := p.statement(); s != nil {
				body = append(body, s...)
			}
			p.expect(tokBlockEnd)
		default:
			p.fail(t.line, "internal parsing error")
		}
	}
}

// statements parses a statement's body: past the block end, up to an end tag.
// With drop, the end tag's name is consumed.
func (p *parser) statements(drop bool, ends ...string) []stmt {
	p.skipIf("colon")
	p.expect(tokBlockEnd)
	body := p.subparse(ends)
	if p.is(tokEOF) {
		p.unknownTag("", p.cur().line)
	}
	if drop {
		p.next()
	}
	return body
}

// --- expressions ---------------------------------------------------------

func (p *parser) expression() expr { return p.condExpr(true) }

func (p *parser) condExpr(withCond bool) expr {
	p.enter()
	defer p.leave()
	if !withCond {
		return p.or()
	}
	line := p.cur().line
	e := p.or()
	for p.skipName("if") {
		test := p.or()
		var other expr
		if p.skipName("else") {
			other = p.condExpr(true)
		}
		e = &condExpr{line, test, e, other}
		line = p.cur().line
	}
	return e
}

func (p *parser) or() expr {
	line := p.cur().line
	left := p.and()
	for p.skipName("or") {
		left = &boolExpr{line, true, left, p.and()}
	}
	return left
}

func (p *parser) and() expr {
	line := p.cur().line
	left := p.not()
	for p.skipName("and") {
		left = &boolExpr{line, false, left, p.not()}
	}
	return left
}

func (p *parser) not() expr {
	if p.isName("not") {
		line := p.next().line
		p.enter()
		defer p.leave()
		return &notExpr{line, p.not()}
	}
	return p.compare()
}

func (p *parser) compare() expr {
	line := p.cur().line
	e := p.math1()
	var ops []compareOp
	for {
		t := p.cur()
		switch {
		case t.kind == "eq" || t.kind == "ne" || t.kind == "lt" || t.kind == "lteq" || t.kind == "gt" || t.kind == "gteq":
			p.next()
			ops = append(ops, compareOp{string(t.kind), p.math1()})
		case p.isName("in"):
			p.next()
			ops = append(ops, compareOp{"in", p.math1()})
		case p.isName("not") && p.look().kind == tokName && p.look().text == "in":
			p.next()
			p.next()
			ops = append(ops, compareOp{"notin", p.math1()})
		default:
			if ops == nil {
				return e
			}
			return &compareExpr{line, e, ops}
		}
	}
}

func (p *parser) math1() expr {
	line := p.cur().line
	left := p.concat()
	for p.is("add") || p.is("sub") {
		op := kindSymbols[p.next().kind]
		left = &binExpr{line, op, left, p.concat()}
		line = p.cur().line
	}
	return left
}

func (p *parser) concat() expr {
	line := p.cur().line
	args := []expr{p.math2()}
	for p.skipIf("tilde") {
		args = append(args, p.math2())
	}
	if len(args) == 1 {
		return args[0]
	}
	return &concatExpr{line, args}
}

func (p *parser) math2() expr {
	line := p.cur().line
	left := p.pow()
	for p.is("mul") || p.is("div") || p.is("floordiv") || p.is("mod") {
		op := kindSymbols[p.next().kind]
		left = &binExpr{line, op, left, p.pow()}
		line = p.cur().line
	}
	return left
}

func (p *parser) pow() expr {
	line := p.cur().line
	left := p.unary(true)
	for p.skipIf("pow") {
		left = &binExpr{line, "**", left, p.unary(true)}
		line = p.cur().line
	}
	return left
}

func (p *parser) unary(withFilter bool) expr {
	p.enter()
	defer p.leave()
	t := p.cur()
	var e expr
	switch t.kind {
	case "sub":
		p.next()
		e = &unaryExpr{t.line, "-", p.unary(false)}
	case "add":
		p.next()
		e = &unaryExpr{t.line, "+", p.unary(false)}
	default:
		e = p.primary()
	}
	e = p.postfix(e)
	if withFilter {
		e = p.filterExpr(e)
	}
	return e
}

func (p *parser) primary() expr {
	t := p.cur()
	switch t.kind {
	case tokName:
		p.next()
		switch t.text {
		case "true", "True":
			return &constExpr{true}
		case "false", "False":
			return &constExpr{false}
		case "none", "None":
			return &constExpr{nil}
		}
		return &nameExpr{t.line, t.text}
	case tokString:
		p.next()
		s := t.text
		for p.is(tokString) {
			s += p.next().text
		}
		return &constExpr{s}
	case tokInteger, tokFloat:
		p.next()
		return &constExpr{t.num}
	case "lparen":
		p.next()
		e := p.parseTuple(true, nil, true, false)
		p.expect("rparen")
		return e
	case "lbracket":
		p.next()
		e := &listExpr{line: t.line}
		for !p.is("rbracket") {
			if len(e.items) > 0 {
				p.expect("comma")
			}
			if p.is("rbracket") {
				break
			}
			e.items = append(e.items, p.expression())
		}
		p.expect("rbracket")
		return e
	case "lbrace":
		p.next()
		e := &dictExpr{line: t.line}
		for !p.is("rbrace") {
			if len(e.keys) > 0 {
				p.expect("comma")
			}
			if p.is("rbrace") {
				break
			}
			k := p.expression()
			p.expect("colon")
			e.keys = append(e.keys, k)
			e.vals = append(e.vals, p.expression())
		}
		p.expect("rbrace")
		return e
	}
	p.fail(t.line, "unexpected %s", pyrepr.Str(t.describe()))
	return nil
}

// parseTuple parses an expression or, with commas, a tuple.
func (p *parser) parseTuple(withCond bool, ends []string, parens, simple bool) expr {
	p.enter()
	defer p.leave()
	line := p.cur().line
	one := func() expr {
		if simple {
			return p.primary()
		}
		return p.condExpr(withCond)
	}
	isEnd := func() bool {
		switch p.cur().kind {
		case tokVariableEnd, tokBlockEnd, "rparen":
			return true
		}
		return p.isName(ends...)
	}
	var items []expr
	isTuple := false
	for {
		if len(items) > 0 {
			p.expect("comma")
		}
		if isEnd() {
			break
		}
		items = append(items, one())
		if !p.is("comma") {
			break
		}
		isTuple = true
		line = p.cur().line
	}
	if !isTuple {
		if len(items) > 0 {
			return items[0]
		}
		if !parens {
			p.fail(p.cur().line, "Expected an expression, got %s", pyrepr.Str(p.cur().describe()))
		}
	}
	return &tupleExpr{line, items}
}

func (p *parser) postfix(e expr) expr {
	for {
		switch {
		case p.is("dot") || p.is("lbracket"):
			e = p.subscript(e)
		case p.is("lparen"):
			line := p.cur().line
			e = &callExpr{line, e, p.callArgs()}
		default:
			return e
		}
	}
}

func (p *parser) subscript(e expr) expr {
	t := p.next()
	if t.kind == "dot" {
		a := p.next()
		switch a.kind {
		case tokName:
			return &attrExpr{t.line, e, a.text}
		case tokInteger:
			return &itemExpr{t.line, e, &constExpr{a.num}}
		}
		p.fail(a.line, "expected name or number")
	}
	var args []expr
	for !p.is("rbracket") {
		if len(args) > 0 {
			p.expect("comma")
		}
		args = append(args, p.subscribed())
	}
	p.expect("rbracket")
	if len(args) == 1 {
		return &itemExpr{t.line, e, args[0]}
	}
	return &itemExpr{t.line, e, &tupleExpr{t.line, args}}
}

func (p *parser) subscribed() expr {
	line := p.cur().line
	var parts [3]expr
	if p.skipIf("colon") {
	} else {
		e := p.expression()
		if !p.skipIf("colon") {
			return e
		}
		parts[0] = e
	}
	end := func() bool { return p.is("rbracket") || p.is("comma") }
	if !p.is("colon") && !end() {
		parts[1] = p.expression()
	}
	if p.skipIf("colon") {
		if !end() {
			parts[2] = p.expression()
		}
	}
	return &sliceExpr{line, parts[0], parts[1], parts[2]}
}

func (p *parser) callArgs() *callArgs {
	t := p.expect("lparen")
	a := &callArgs{}
	comma := false
	ensure := func(ok bool) {
		if !ok {
			p.fail(t.line, "invalid syntax for function call expression")
		}
	}
	for !p.is("rparen") {
		if comma {
			p.expect("comma")
			if p.is("rparen") {
				break
			}
		}
		switch {
		case p.is("mul"):
			ensure(a.star == nil && a.starStar == nil)
			p.next()
			a.star = p.expression()
		case p.is("pow"):
			ensure(a.starStar == nil)
			p.next()
			a.starStar = p.expression()
		case p.is(tokName) && p.look().kind == "assign":
			ensure(a.starStar == nil)
			name := p.next().text
			p.next()
			a.kwNames = append(a.kwNames, name)
			a.kw = append(a.kw, p.expression())
		default:
			ensure(a.star == nil && a.starStar == nil && len(a.kw) == 0)
			a.pos = append(a.pos, p.expression())
		}
		comma = true
	}
	p.expect("rparen")
	return a
}

func (p *parser) filterExpr(e expr) expr {
	for {
		switch {
		case p.is("pipe"):
			e = p.filter(e, false)
		case p.isName("is"):
			e = p.test(e)
		case p.is("lparen"):
			line := p.cur().line
			e = &callExpr{line, e, p.callArgs()}
		default:
			return e
		}
	}
}

func (p *parser) dottedName() string {
	name := p.expect(tokName).text
	for p.is("dot") {
		p.next()
		name += "." + p.expect(tokName).text
	}
	return name
}

func (p *parser) filter(e expr, startInline bool) expr {
	for p.is("pipe") || startInline {
		line := p.cur().line
		if !startInline {
			p.next()
		}
		f := &filterExpr{line: line, target: e, name: p.dottedName(), args: &callArgs{}}
		if p.is("lparen") {
			f.args = p.callArgs()
		}
		e = f
		startInline = false
	}
	return e
}

func (p *parser) test(e expr) expr {
	line := p.next().line
	neg := p.skipName("not")
	t := &testExpr{line: line, target: e, name: p.dottedName(), args: &callArgs{}}
	switch k := p.cur().kind; {
	case k == "lparen":
		t.args = p.callArgs()
	case (k == tokName || k == tokString || k == tokInteger || k == tokFloat || k == "lbracket" || k == "lbrace") && !p.isName("else", "or", "and"):
		if p.isName("is") {
			p.fail(p.cur().line, "You cannot chain multiple tests with is")
		}
		arg := p.primary()
		t.args = &callArgs{pos: []expr{p.postfix(arg)}}
	}
	if neg {
		return &notExpr{line, t}
	}
	return t
}

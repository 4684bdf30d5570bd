package jinja

// expr is an expression; names lists the variables it reads.
type expr interface {
	eval(ev *Eval) Value
	// visit calls f for the node and its children.
	visit(f func(any))
}

// stmt is a statement.
type stmt interface {
	exec(ev *Eval)
	visit(f func(any))
}

// target is what a value is bound to.
type target interface{ assign(ev *Eval, v Value) }

type (
	dataExpr  struct{ text string }
	constExpr struct{ v Value }
	nameExpr  struct {
		line int
		name string
	}
	listExpr struct {
		line  int
		items []expr
	}
	tupleExpr struct {
		line  int
		items []expr
	}
	dictExpr struct {
		line       int
		keys, vals []expr
	}
	condExpr struct {
		line              int
		test, then, other expr
	}
	boolExpr struct {
		line        int
		or          bool
		left, right expr
	}
	notExpr struct {
		line int
		e    expr
	}
	unaryExpr struct {
		line int
		op   string
		e    expr
	}
	binExpr struct {
		line        int
		op          string
		left, right expr
	}
	concatExpr struct {
		line  int
		items []expr
	}
	compareOp struct {
		op string
		e  expr
	}
	compareExpr struct {
		line int
		e    expr
		ops  []compareOp
	}
	attrExpr struct {
		line int
		e    expr
		name string
	}
	itemExpr struct {
		line   int
		e, key expr
	}
	sliceExpr struct {
		line              int
		start, stop, step expr
	}
	callArgs struct {
		pos            []expr
		kwNames        []string
		kw             []expr
		star, starStar expr
	}
	callExpr struct {
		line int
		e    expr
		args *callArgs
	}
	filterExpr struct {
		line   int
		target expr // nil in filter blocks: the body
		name   string
		args   *callArgs
	}
	testExpr struct {
		line   int
		target expr
		name   string
		args   *callArgs
	}
)

type (
	outputStmt struct {
		line  int
		items []expr
		lines []int // of the items
	}
	forStmt struct {
		line        int
		target      target
		iter, test  expr
		recursive   bool
		usesLoop    bool // the body sees the loop variable
		body, other []stmt
	}
	ifStmt struct {
		line   int
		tests  []expr
		bodies [][]stmt
		other  []stmt
	}
	withStmt struct {
		line    int
		targets []target
		values  []expr
		body    []stmt
	}
	blockStmt struct {
		line             int
		name             string
		scoped, required bool
		body             []stmt
	}
	extendsStmt struct {
		line     int
		template expr
	}
	macroDef struct {
		name                    string
		args                    []string
		defaults                []expr
		body                    []stmt
		varargs, kwargs, caller bool
		callerArg               bool
	}
	macroStmt struct {
		line int
		name string
		def  *macroDef
	}
	callStmt struct {
		line int
		call *callExpr
		def  *macroDef
	}
	includeStmt struct {
		line          int
		template      expr
		ignoreMissing bool
		withContext   bool
	}
	importStmt struct {
		line        int
		template    expr
		name        string
		withContext bool
	}
	fromStmt struct {
		line        int
		template    expr
		names       [][2]string
		withContext bool
	}
	setStmt struct {
		line   int
		target target
		e      expr
	}
	setBlockStmt struct {
		line   int
		target target
		filter expr
		body   []stmt
	}
	autoescapeStmt struct {
		line int
		e    expr
		body []stmt
	}
	filterStmt struct {
		line   int
		filter expr
		body   []stmt
	}
	doStmt struct {
		line int
		e    expr
	}
	loopControl struct{ brk bool }
)

type (
	nameTargetT struct{ name string }
	tupleTarget struct{ items []target }
	nsTarget    struct {
		line       int
		name, attr string
	}
)

func visitExprs(f func(any), es ...expr) {
	for _, e := range es {
		if e != nil {
			e.visit(f)
		}
	}
}

func visitStmts(f func(any), ss []stmt) {
	for _, s := range ss {
		s.visit(f)
	}
}

func (a *callArgs) visit(f func(any)) {
	visitExprs(f, a.pos...)
	visitExprs(f, a.kw...)
	visitExprs(f, a.star, a.starStar)
}

func (e *dataExpr) visit(f func(any))   { f(e) }
func (e *constExpr) visit(f func(any))  { f(e) }
func (e *nameExpr) visit(f func(any))   { f(e) }
func (e *listExpr) visit(f func(any))   { f(e); visitExprs(f, e.items...) }
func (e *tupleExpr) visit(f func(any))  { f(e); visitExprs(f, e.items...) }
func (e *dictExpr) visit(f func(any))   { f(e); visitExprs(f, e.keys...); visitExprs(f, e.vals...) }
func (e *condExpr) visit(f func(any))   { f(e); visitExprs(f, e.test, e.then, e.other) }
func (e *boolExpr) visit(f func(any))   { f(e); visitExprs(f, e.left, e.right) }
func (e *notExpr) visit(f func(any))    { f(e); visitExprs(f, e.e) }
func (e *unaryExpr) visit(f func(any))  { f(e); visitExprs(f, e.e) }
func (e *binExpr) visit(f func(any))    { f(e); visitExprs(f, e.left, e.right) }
func (e *concatExpr) visit(f func(any)) { f(e); visitExprs(f, e.items...) }
func (e *compareExpr) visit(f func(any)) {
	f(e)
	visitExprs(f, e.e)
	for _, o := range e.ops {
		visitExprs(f, o.e)
	}
}
func (e *attrExpr) visit(f func(any))   { f(e); visitExprs(f, e.e) }
func (e *itemExpr) visit(f func(any))   { f(e); visitExprs(f, e.e, e.key) }
func (e *sliceExpr) visit(f func(any))  { f(e); visitExprs(f, e.start, e.stop, e.step) }
func (e *callExpr) visit(f func(any))   { f(e); visitExprs(f, e.e); e.args.visit(f) }
func (e *filterExpr) visit(f func(any)) { f(e); visitExprs(f, e.target); e.args.visit(f) }
func (e *testExpr) visit(f func(any))   { f(e); visitExprs(f, e.target); e.args.visit(f) }

func (s *outputStmt) visit(f func(any)) { f(s); visitExprs(f, s.items...) }
func (s *forStmt) visit(f func(any)) {
	f(s)
	visitExprs(f, s.iter, s.test)
	visitStmts(f, s.body)
	visitStmts(f, s.other)
}
func (s *ifStmt) visit(f func(any)) {
	f(s)
	visitExprs(f, s.tests...)
	for _, b := range s.bodies {
		visitStmts(f, b)
	}
	visitStmts(f, s.other)
}
func (s *withStmt) visit(f func(any))    { f(s); visitExprs(f, s.values...); visitStmts(f, s.body) }
func (s *blockStmt) visit(f func(any))   { f(s); visitStmts(f, s.body) }
func (s *extendsStmt) visit(f func(any)) { f(s); visitExprs(f, s.template) }
func (s *macroStmt) visit(f func(any)) {
	f(s)
	visitExprs(f, s.def.defaults...)
	visitStmts(f, s.def.body)
}
func (s *callStmt) visit(f func(any)) {
	f(s)
	visitExprs(f, s.call)
	visitExprs(f, s.def.defaults...)
	visitStmts(f, s.def.body)
}
func (s *includeStmt) visit(f func(any))    { f(s); visitExprs(f, s.template) }
func (s *importStmt) visit(f func(any))     { f(s); visitExprs(f, s.template) }
func (s *fromStmt) visit(f func(any))       { f(s); visitExprs(f, s.template) }
func (s *setStmt) visit(f func(any))        { f(s); visitExprs(f, s.e) }
func (s *setBlockStmt) visit(f func(any))   { f(s); visitExprs(f, s.filter); visitStmts(f, s.body) }
func (s *autoescapeStmt) visit(f func(any)) { f(s); visitExprs(f, s.e); visitStmts(f, s.body) }
func (s *filterStmt) visit(f func(any))     { f(s); visitExprs(f, s.filter); visitStmts(f, s.body) }
func (s *doStmt) visit(f func(any))         { f(s); visitExprs(f, s.e) }
func (s *loopControl) visit(f func(any))    { f(s) }

// analyse finds which of the special variables the macro's body reads.
func (m *macroDef) analyse(p *parser) {
	declared := func(n string) bool { return contains(m.args, n) }
	mark := func(n any) {
		if x, ok := n.(*nameExpr); ok {
			switch x.name {
			case "varargs":
				m.varargs = true
			case "kwargs":
				m.kwargs = true
			case "caller":
				m.caller = true
			}
		}
	}
	visitStmts(mark, m.body)
	visitExprs(mark, m.defaults...)
	m.varargs = m.varargs && !declared("varargs")
	m.kwargs = m.kwargs && !declared("kwargs")
	if declared("caller") {
		m.callerArg = true
		i := len(m.args)
		for j, a := range m.args {
			if a == "caller" {
				i = j
			}
		}
		if i < len(m.args)-len(m.defaults) {
			p.fail(p.cur().line, "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.")
		}
	}
}

// nameChecker rejects unknown filters and tests when the template is compiled,
// except under a condition, where they fail only when reached.
type nameChecker struct{ env *Environment }

func (c *nameChecker) stmts(ss []stmt, soft bool) {
	for _, s := range ss {
		switch x := s.(type) {
		case *outputStmt:
			c.exprs(soft, x.items...)
		case *forStmt:
			c.exprs(soft, x.iter)
			c.exprs(false, x.test)
			c.stmts(x.body, false)
			c.stmts(x.other, false)
		case *ifStmt:
			c.exprs(true, x.tests...)
			for _, b := range x.bodies {
				c.stmts(b, true)
			}
			c.stmts(x.other, true)
		case *withStmt:
			c.exprs(soft, x.values...)
			c.stmts(x.body, false)
		case *blockStmt: // checked once per template
		case *extendsStmt:
			c.exprs(soft, x.template)
		case *macroStmt:
			c.exprs(false, x.def.defaults...)
			c.stmts(x.def.body, false)
		case *callStmt:
			c.exprs(soft, x.call)
			c.exprs(false, x.def.defaults...)
			c.stmts(x.def.body, false)
		case *includeStmt:
			c.exprs(soft, x.template)
		case *importStmt:
			c.exprs(soft, x.template)
		case *fromStmt:
			c.exprs(soft, x.template)
		case *setStmt:
			c.exprs(soft, x.e)
		case *setBlockStmt:
			c.exprs(false, x.filter)
			c.stmts(x.body, false)
		case *autoescapeStmt:
			c.exprs(soft, x.e)
			c.stmts(x.body, false)
		case *filterStmt:
			c.exprs(false, x.filter)
			c.stmts(x.body, false)
		case *doStmt:
			c.exprs(soft, x.e)
		}
	}
}

func (c *nameChecker) exprs(soft bool, es ...expr) {
	for _, e := range es {
		if e == nil {
			continue
		}
		if soft {
			return
		}
		// A conditional expression makes its parts soft; everything else
		// is checked where it stands.
		hidden := map[any]bool{}
		e.visit(func(n any) {
			if x, ok := n.(*condExpr); ok {
				visitExprs(func(m any) { hidden[m] = true }, x.test, x.then, x.other)
			}
			if hidden[n] {
				return
			}
			switch x := n.(type) {
			case *filterExpr:
				if c.env.filter(x.name) == nil {
					panic(&Error{Class: "TemplateAssertionError", Message: "No filter named '" + x.name + "'.", Line: x.line})
				}
			case *testExpr:
				if c.env.test(x.name) == nil {
					panic(&Error{Class: "TemplateAssertionError", Message: "No test named '" + x.name + "'.", Line: x.line})
				}
			}
		})
	}
}

// isConst tells whether Jinja's optimizer computes the expression when the
// template is compiled; only the native environment shows the difference.
func isConst(e expr) bool {
	ok := true
	e.visit(func(n any) {
		switch x := n.(type) {
		case *dataExpr, *constExpr, *listExpr, *tupleExpr, *dictExpr, *condExpr, *boolExpr, *notExpr, *unaryExpr, *binExpr, *concatExpr, *compareExpr, *itemExpr, *sliceExpr, *testExpr:
		case *filterExpr:
			switch x.name {
			case "map", "select", "reject", "selectattr", "rejectattr", "random":
				ok = false
			}
		default:
			ok = false
		}
	})
	return ok
}

package sqlop

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Class is the class path of SQLExecuteQueryOperator.
const Class = "airflow.providers.common.sql.operators.sql.SQLExecuteQueryOperator"

// registrar is operator.Registry.
type registrar interface {
	Register(class string, op taskrunner.Operator)
}

// Register adds the SQL operators to a registry: SQLExecuteQueryOperator and
// the older operators of single databases, which are the same.
func Register(r registrar) {
	r.Register(Class, taskrunner.OperatorFunc(execute(Class, "")))
	for class, conn := range map[string]string{
		"airflow.providers.postgres.operators.postgres.PostgresOperator": "postgres_conn_id",
		"airflow.providers.mysql.operators.mysql.MySqlOperator":          "mysql_conn_id",
		"airflow.providers.sqlite.operators.sqlite.SqliteOperator":       "sqlite_conn_id",
	} {
		r.Register(class, taskrunner.OperatorFunc(execute(class, conn)))
	}
}

// handling says what becomes of the rows of a statement.
type handling int

const (
	fetchAll handling = iota
	fetchOne
	fetchNone
	fetchPython // a function of the author's makes something of the cursor
)

// handler turns the rows of a statement into its result.
type handler struct {
	handling
	python *serde.Callable
}

func readHandler(a *taskrunner.Args, given bool) handler {
	if !given {
		return handler{}
	}
	c := a.Callable("handler")
	if c == nil {
		return handler{handling: fetchNone}
	}
	switch name := c.String(); {
	case strings.HasPrefix(name, "airflow.providers.common.sql.hooks.") && strings.HasSuffix(name, ".fetch_all_handler"):
		return handler{}
	case strings.HasPrefix(name, "airflow.providers.common.sql.hooks.") && strings.HasSuffix(name, ".fetch_one_handler"):
		return handler{handling: fetchOne}
	}
	return handler{fetchPython, c}
}

// single is DbApiHook's return_single_query_results: one result, not a list of them.
func single(isText bool, split *bool, last bool) bool {
	if split != nil && !*split {
		return isText
	}
	return isText && last
}

func execute(class, connArg string) taskrunner.OperatorFunc {
	return func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		a := t.Args
		_, given := t.Spec.Kwargs["handler"]
		q := query{handler: readHandler(a, given), parameters: a.Get("parameters")}
		var split *bool
		if a.Has("split_statements") {
			b := a.Bool("split_statements", false)
			split = &b
		}
		isText := q.read(a, "sql", split != nil && *split)
		q.connect(a, connArg)
		last := a.Bool("return_last", true)
		processor := a.Callable("output_processor")
		q.autocommit = a.Bool("autocommit", false)
		if err := a.Err(); err != nil {
			return nil, err
		}
		// Without a push nobody reads the rows, unless the class asks for them.
		if !t.Task.DoXComPush && !a.Bool("requires_result_fetch", false) {
			q.handler = handler{handling: fetchNone}
		}
		results, err := q.run(ctx, t)
		if err != nil {
			return nil, err
		}
		if q.handler.handling == fetchNone {
			return &taskrunner.Result{}, nil
		}
		one := single(isText, split, last)
		if one {
			results = results[len(results)-1:]
		}
		values, descriptions := jinja.NewList(), jinja.NewList()
		for _, r := range results {
			values.Items = append(values.Items, r.value)
			descriptions.Items = append(descriptions.Items, r.description())
		}
		if a.Bool("show_return_value_in_logs", false) {
			text, err := jinja.Repr(values)
			if err != nil {
				return nil, err
			}
			t.Log.Info("Operator output is: " + text)
		}
		if processor != nil { // it takes and returns a list, also of a single result
			res, err := t.Python(ctx, taskrunner.PythonCall{Kind: "python", Callable: processor, Args: jinja.NewList(values, descriptions)})
			if err != nil {
				return nil, err
			}
			if !one {
				return &taskrunner.Result{Value: res.Value}, nil
			}
			var list []json.RawMessage
			if err := json.Unmarshal(res.Value, &list); err != nil || len(list) == 0 {
				return nil, fmt.Errorf("output_processor %s must return a list with one element per statement, got %s", processor, res.Value)
			}
			return &taskrunner.Result{Value: list[len(list)-1]}, nil
		}
		var out jinja.Value = values
		if one {
			out = values.Items[len(values.Items)-1]
		}
		value, err := serde.EncodeXCom(out)
		return &taskrunner.Result{Value: value}, err
	}
}

// query is what an operator asks of a database.
type query struct {
	connID, database string
	statements       []string
	parameters       jinja.Value
	autocommit       bool
	handler          handler
}

// read takes the statements of an argument, text or a list of texts.
func (q *query) read(a *taskrunner.Args, name string, split bool) (isText bool) {
	script, isText := a.Get(name).(string)
	switch {
	case !a.Has(name):
		a.Reject(name, "is missing: give a statement or a list of them")
	case !isText:
		q.statements = a.Strings(name)
	case split:
		q.statements = splitSQL(script)
	case strings.TrimSpace(script) != "":
		q.statements = []string{script}
	}
	return isText
}

// connect takes the connection's id from conn_id, or from the name that an older
// operator has for it.
func (q *query) connect(a *taskrunner.Args, older string) {
	q.connID, q.database = a.String("conn_id", ""), a.String("database", "")
	if older != "" && a.Has(older) {
		q.connID = a.String(older, "")
	}
	if q.connID == "" {
		a.Reject("conn_id", "is missing: give the id of a connection")
	}
}

// run executes the statements and returns a result for each.
func (q *query) run(ctx context.Context, t *taskrunner.Task) ([]result, error) {
	conn, err := t.Connection(ctx, q.connID)
	if err != nil {
		return nil, err
	}
	db, d, err := open(conn, q.database)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if len(q.statements) == 0 {
		return nil, errors.New("List of SQL statements is empty")
	}
	results, err := run(ctx, t, db, d, q.statements, q.parameters, q.autocommit, q.handler)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return results, nil
}

// result is what a handler made of a statement.
type result struct {
	value   jinja.Value
	columns []string // nil for a statement without rows
}

// description is the cursor's: a tuple of seven per column, None without a result.
func (r result) description() jinja.Value {
	if r.columns == nil {
		return nil
	}
	out := jinja.NewList()
	for _, c := range r.columns {
		out.Items = append(out.Items, jinja.NewTuple(c, nil, nil, nil, nil, nil, nil))
	}
	return out
}

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// run executes the statements on one connection: each committed by itself with
// autocommit, else all together at the end.
func run(ctx context.Context, t *taskrunner.Task, db *sql.DB, d dialect, statements []string, params jinja.Value, autocommit bool, h handler) ([]result, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer c.Close()
	var q querier = c
	var tx *sql.Tx
	if !autocommit {
		if tx, err = c.BeginTx(ctx, nil); err != nil {
			return nil, err
		}
		defer tx.Rollback() // after a commit it does nothing
		q = tx
	}
	var results []result
	for _, s := range statements {
		query, args, err := d.bind(s, params)
		if err != nil {
			return nil, err
		}
		text := "Running statement: " + s
		if params != nil {
			p, err := jinja.Repr(params)
			if err != nil {
				return nil, err
			}
			text += ", parameters: " + p
		}
		t.Log.Info(text)
		rows, err := q.QueryContext(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		r, n, err := fetch(rows, h.handling)
		if err != nil {
			return nil, err
		}
		t.Log.Info("Rows fetched: " + strconv.Itoa(n))
		if h.handling == fetchPython {
			if r.value, err = handle(ctx, t, h.python, r); err != nil {
				return nil, err
			}
		}
		results = append(results, r)
	}
	if tx != nil {
		return results, tx.Commit()
	}
	return results, nil
}

// handle lets a function of the author's make something of a cursor, while the
// transaction is open: if it fails, nothing is committed.
func handle(ctx context.Context, t *taskrunner.Task, c *serde.Callable, r result) (jinja.Value, error) {
	cur := &pyproc.Cursor{Columns: r.columns}
	if r.columns != nil {
		rows, err := serde.EncodeXCom(r.value)
		if err != nil {
			return nil, err
		}
		cur.Rows = rows
	}
	res, err := t.Python(ctx, taskrunner.PythonCall{Kind: "python", Callable: c, Cursor: cur})
	if err != nil {
		return nil, err
	}
	return serde.Encoded(res.Value), nil
}

// fetch reads a result: nil for a statement without one, a list of tuples, or
// with fetchOne the first tuple. It also returns how many rows there were.
func fetch(rows *sql.Rows, h handling) (result, int, error) {
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return result{}, 0, err
	}
	var r result
	for _, c := range types {
		r.columns = append(r.columns, c.Name())
	}
	list := jinja.NewList()
	n := 0
	for rows.Next() {
		n++
		if h == fetchNone || len(types) == 0 {
			continue
		}
		cells := make([]any, len(types))
		ptrs := make([]any, len(types))
		for i := range cells {
			ptrs[i] = &cells[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			return r, n, err
		}
		row := jinja.NewTuple()
		for i, c := range cells {
			v, err := cell(c, types[i].DatabaseTypeName())
			if err != nil {
				return r, n, fmt.Errorf("column %q: %w", types[i].Name(), err)
			}
			row.Items = append(row.Items, v)
		}
		list.Items = append(list.Items, row)
		if h == fetchOne {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return r, n, err
	}
	switch {
	case len(types) == 0 || h == fetchNone:
	case h == fetchOne:
		if len(list.Items) > 0 {
			r.value = list.Items[0]
		}
	default:
		r.value = list
	}
	return r, n, rows.Close()
}

// cell converts a column to what Python's drivers give.
func cell(c any, typ string) (jinja.Value, error) {
	typ = strings.ToUpper(typ)
	switch x := c.(type) {
	case []byte:
		return textCell(string(x), typ, true)
	case string:
		return textCell(x, typ, false)
	case time.Time:
		v, err := jinja.FromGo(x)
		if d, ok := v.(*jinja.DateTime); ok && typ == "DATE" {
			return d.DatePart(), err
		}
		return v, err
	}
	return jinja.FromGo(c)
}

// textCell reads numbers that drivers send as text.
func textCell(s, typ string, raw bool) (jinja.Value, error) {
	switch {
	case strings.HasPrefix(typ, "NUMERIC"), strings.HasPrefix(typ, "DECIMAL"):
		return serde.Decimal(s), nil
	case raw && (strings.HasSuffix(typ, "INT") || typ == "YEAR" || strings.HasPrefix(typ, "UNSIGNED")):
		if v, err := jinja.FromGo(json.Number(s)); err == nil {
			return v, nil
		}
	case raw && (typ == "FLOAT" || typ == "DOUBLE"):
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f, nil
		}
	case typ == "JSON" || typ == "JSONB":
		if v, err := jinja.ParseJSON(s); err == nil {
			return v, nil
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD"), nil
}

// splitSQL cuts a script at semicolons outside of texts, comments and
// dollar-quoted bodies.
func splitSQL(script string) []string {
	var out []string
	start := 0
	end := func(i int) {
		s := strings.TrimSpace(script[start:i])
		if stripComments(s) != "" {
			out = append(out, s)
		}
		start = i + 1
	}
	for i := 0; i < len(script); i++ {
		if n := skipQuoted(script, i); n > i {
			i = n - 1
			continue
		}
		if script[i] == ';' {
			end(i)
		}
	}
	if start < len(script) {
		end(len(script))
	}
	return out
}

// skipQuoted returns the end of the text, comment or quoted body at i, or i.
func skipQuoted(s string, i int) int {
	upTo := func(from int, closing string) int {
		if j := strings.Index(s[from:], closing); j >= 0 {
			return from + j + len(closing)
		}
		return len(s)
	}
	switch c := s[i]; {
	case c == '\'' || c == '"' || c == '`':
		for j := i + 1; j < len(s); j++ {
			if s[j] == '\\' && c == '\'' {
				j++
			} else if s[j] == c {
				return j + 1 // a doubled quote begins the next text at once
			}
		}
		return len(s)
	case strings.HasPrefix(s[i:], "--"):
		return upTo(i, "\n")
	case strings.HasPrefix(s[i:], "/*"):
		return upTo(i+2, "*/")
	case c == '$':
		j := i + 1
		for j < len(s) && (s[j] == '_' || s[j] >= 'a' && s[j] <= 'z' || s[j] >= 'A' && s[j] <= 'Z' || j > i+1 && s[j] >= '0' && s[j] <= '9') {
			j++
		}
		if j < len(s) && s[j] == '$' {
			return upTo(j+1, s[i:j+1])
		}
	}
	return i
}

func stripComments(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], "--") || strings.HasPrefix(s[i:], "/*") {
			i = skipQuoted(s, i) - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return strings.TrimSpace(b.String())
}

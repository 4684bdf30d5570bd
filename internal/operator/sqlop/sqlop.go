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

// handler turns the rows of a statement into its result.
type handler int

const (
	fetchAll handler = iota
	fetchOne
	fetchNone
)

func readHandler(a *taskrunner.Args, given bool) handler {
	if !given {
		return fetchAll
	}
	c := a.Callable("handler")
	if c == nil {
		return fetchNone
	}
	switch name := c.String(); {
	case strings.HasSuffix(name, "fetch_all_handler"):
		return fetchAll
	case strings.HasSuffix(name, "fetch_one_handler"):
		return fetchOne
	}
	a.Reject("handler", "expected fetch_all_handler, fetch_one_handler or None, got %s: process the rows in a downstream task", c)
	return fetchNone
}

func execute(class, connArg string) taskrunner.OperatorFunc {
	return func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		a := t.Args
		_, given := t.Spec.Kwargs["handler"]
		h := readHandler(a, given)
		var statements []string
		script, isText := a.Get("sql").(string)
		if !isText {
			statements = a.Strings("sql")
		}
		if !a.Has("sql") {
			a.Reject("sql", "is missing: give a statement or a list of them")
		}
		connID := a.String("conn_id", "")
		if connArg != "" && a.Has(connArg) {
			connID = a.String(connArg, "")
		}
		if connID == "" {
			a.Reject("conn_id", "is missing: give the id of a connection")
		}
		autocommit, split, last := a.Bool("autocommit", false), a.Bool("split_statements", false), a.Bool("return_last", true)
		processor := a.Callable("output_processor")
		if err := a.Err(); err != nil {
			return nil, err
		}
		// Without a push nobody reads the rows, unless the class asks for them.
		if !t.Task.DoXComPush && !a.Bool("requires_result_fetch", false) {
			h = fetchNone
		}
		conn, err := t.Connection(ctx, connID)
		if err != nil {
			return nil, err
		}
		db, d, err := open(conn, a.String("database", ""))
		if err != nil {
			return nil, err
		}
		defer db.Close()
		if isText {
			statements = []string{script}
			if split {
				statements = splitSQL(script)
			}
		}
		if len(statements) == 0 {
			return nil, errors.New("List of SQL statements is empty")
		}
		results, err := run(ctx, t, db, d, statements, a.Get("parameters"), autocommit, h)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return nil, cause
			}
			return nil, err
		}
		if h == fetchNone {
			return &taskrunner.Result{}, nil
		}
		var out jinja.Value = jinja.NewList(results...)
		if isText && last || isText && !split {
			out = results[len(results)-1]
		}
		value, err := serde.EncodeXCom(out)
		if err != nil {
			return nil, err
		}
		if processor != nil {
			res, err := t.Python(ctx, taskrunner.PythonCall{Kind: "python", Callable: processor, Args: jinja.NewList(out, nil)})
			if err != nil {
				return nil, err
			}
			value = res.Value
		}
		if a.Bool("show_return_value_in_logs", false) {
			t.Log.Info("Done. Returned value was: " + string(value))
		}
		return &taskrunner.Result{Value: value}, nil
	}
}

// querier is a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// run executes the statements on one connection: each committed by itself with
// autocommit, else all together at the end.
func run(ctx context.Context, t *taskrunner.Task, db *sql.DB, d dialect, statements []string, params jinja.Value, autocommit bool, h handler) ([]jinja.Value, error) {
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
	var results []jinja.Value
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
		v, n, err := fetch(rows, h)
		if err != nil {
			return nil, err
		}
		t.Log.Info("Rows fetched: " + strconv.Itoa(n))
		results = append(results, v)
	}
	if tx != nil {
		return results, tx.Commit()
	}
	return results, nil
}

// fetch reads a result: nil for a statement without one, a list of tuples, or
// with fetchOne the first tuple.
func fetch(rows *sql.Rows, h handler) (jinja.Value, int, error) {
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, 0, err
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
			return nil, n, err
		}
		row := jinja.NewTuple()
		for i, c := range cells {
			v, err := cell(c, types[i].DatabaseTypeName())
			if err != nil {
				return nil, n, fmt.Errorf("column %q: %w", types[i].Name(), err)
			}
			row.Items = append(row.Items, v)
		}
		list.Items = append(list.Items, row)
		if h == fetchOne {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return nil, n, err
	}
	switch {
	case len(types) == 0 || h == fetchNone:
		return nil, n, rows.Close()
	case h == fetchOne:
		if len(list.Items) == 0 {
			return nil, n, rows.Close()
		}
		return list.Items[0], n, rows.Close()
	}
	return list, n, rows.Close()
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

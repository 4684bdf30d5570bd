package sqlop

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
)

// dialect is how a database's Python driver takes parameters.
type dialect int

const (
	sqlite   dialect = iota // ? and :name
	postgres                // %s and %(name)s
	mysql                   // the same
)

// open connects to the database of an Airflow connection.
func open(c airflow.Connection, database string) (*sql.DB, dialect, error) {
	schema := c.Schema
	if database != "" {
		schema = database
	}
	var driver, dsn string
	var d dialect
	extra := map[string]any{}
	if strings.TrimSpace(c.Extra) != "" {
		if err := json.Unmarshal([]byte(c.Extra), &extra); err != nil {
			return nil, 0, fmt.Errorf("extra of connection %q is no JSON object: %w", c.ConnID, err)
		}
	}
	text := func(v any) string {
		if s, ok := v.(string); ok {
			return s
		}
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(b)
	}
	switch c.ConnType {
	case "sqlite":
		driver, d, dsn = "sqlite", sqlite, c.Host
		if dsn == "" {
			dsn = schema
		}
		if dsn == "" {
			return nil, 0, fmt.Errorf("connection %q: host must be the path of the SQLite file (or :memory:)", c.ConnID)
		}
	case "postgres", "postgresql":
		driver, d = "pgx", postgres
		u := url.URL{Scheme: "postgres", Host: hostPort(c, 5432), Path: "/" + schema}
		if c.Login != "" {
			u.User = url.UserPassword(c.Login, c.Password)
		}
		q := url.Values{}
		for _, k := range []string{"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name", "options", "search_path"} {
			if v, ok := extra[k]; ok {
				q.Set(k, text(v))
			}
		}
		u.RawQuery = q.Encode()
		dsn = u.String()
	case "mysql":
		driver, d = "mysql", mysql
		q := url.Values{"parseTime": {"true"}}
		if v, ok := extra["charset"]; ok {
			q.Set("charset", text(v))
		}
		if _, ok := extra["ssl"]; ok {
			q.Set("tls", "true")
		}
		at := "tcp(" + hostPort(c, 3306) + ")"
		if s, ok := extra["unix_socket"]; ok {
			at = "unix(" + text(s) + ")"
		}
		login := c.Login
		if c.Password != "" {
			login += ":" + c.Password
		}
		dsn = login + "@" + at + "/" + url.PathEscape(schema) + "?" + q.Encode()
	default:
		return nil, 0, fmt.Errorf("connection %q has type %q: this worker runs SQL on sqlite, postgres and mysql; use BashOperator with the database's client, or the full Python runtime", c.ConnID, c.ConnType)
	}
	if !slices.Contains(sql.Drivers(), driver) {
		return nil, 0, fmt.Errorf("this worker was built without the driver for %s: send the task to a worker that has it (its queue)", c.ConnType)
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, 0, fmt.Errorf("connection %q: %w", c.ConnID, err)
	}
	db.SetMaxOpenConns(1)
	return db, d, nil
}

func hostPort(c airflow.Connection, port int) string {
	host := c.Host
	if host == "" {
		host = "localhost"
	}
	if c.Port != 0 {
		port = c.Port
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// bind returns the statement and arguments for database/sql. Without
// parameters a statement is sent as it is.
func (d dialect) bind(stmt string, params jinja.Value) (string, []any, error) {
	var list []jinja.Value
	var named *jinja.Dict
	switch p := params.(type) {
	case nil:
		return stmt, nil, nil
	case *jinja.List:
		list = p.Items
	case *jinja.Tuple:
		list = p.Items
	case *jinja.Dict:
		named = p
	default:
		return "", nil, fmt.Errorf("parameters: expected a list, a tuple or a dict, got %s", jinja.TypeOf(params).QualName())
	}
	if d == sqlite {
		return bindSQLite(stmt, list, named)
	}
	var b strings.Builder
	var args []any
	seen := map[string]int{}
	next := 0
	mark := func(v jinja.Value) error {
		a, err := argument(v)
		if err != nil {
			return err
		}
		args = append(args, a)
		if d == postgres {
			b.WriteString("$" + strconv.Itoa(len(args)))
		} else {
			b.WriteByte('?')
		}
		return nil
	}
	for i := 0; i < len(stmt); i++ {
		if stmt[i] != '%' {
			b.WriteByte(stmt[i])
			continue
		}
		rest := stmt[i+1:]
		switch {
		case strings.HasPrefix(rest, "%"):
			b.WriteByte('%')
			i++
		case strings.HasPrefix(rest, "s"):
			if next >= len(list) {
				return "", nil, fmt.Errorf("the statement has more %%s than parameters (%d)", len(list))
			}
			if err := mark(list[next]); err != nil {
				return "", nil, err
			}
			next++
			i++
		case strings.HasPrefix(rest, "(") && strings.Contains(rest, ")s"):
			name := rest[1:strings.Index(rest, ")s")]
			i += len(name) + 3
			if named == nil {
				return "", nil, fmt.Errorf("the statement names parameter %q, but parameters is no dict", name)
			}
			v, ok := named.Get(name)
			if !ok {
				return "", nil, fmt.Errorf("parameter %q is missing", name)
			}
			if n, again := seen[name]; again && d == postgres {
				b.WriteString("$" + strconv.Itoa(n))
				continue
			}
			if err := mark(v); err != nil {
				return "", nil, err
			}
			seen[name] = len(args)
		default:
			return "", nil, fmt.Errorf("unexpected %% in a statement with parameters: write %%%% for a percent sign")
		}
	}
	if named == nil && next < len(list) {
		return "", nil, fmt.Errorf("not all parameters are used: %d of %d", next, len(list))
	}
	return b.String(), args, nil
}

func bindSQLite(stmt string, list []jinja.Value, named *jinja.Dict) (string, []any, error) {
	var args []any
	if named == nil {
		for _, v := range list {
			a, err := argument(v)
			if err != nil {
				return "", nil, err
			}
			args = append(args, a)
		}
		return stmt, args, nil
	}
	for _, k := range named.Keys() {
		name, ok := k.(string)
		if !ok {
			return "", nil, fmt.Errorf("parameters: names must be texts")
		}
		if !strings.Contains(stmt, ":"+name) && !strings.Contains(stmt, "@"+name) && !strings.Contains(stmt, "$"+name) {
			continue // sqlite3 ignores names that the statement does not use
		}
		v, _ := named.Get(name)
		a, err := argument(v)
		if err != nil {
			return "", nil, err
		}
		args = append(args, sql.Named(name, a))
	}
	return stmt, args, nil
}

// argument converts a value for database/sql.
func argument(v jinja.Value) (any, error) {
	switch x := v.(type) {
	case nil, bool, int64, float64, string:
		return x, nil
	case *big.Int:
		return x.String(), nil
	case jinja.Bytes:
		return []byte(x), nil
	case *jinja.DateTime:
		return x.Time(), nil
	case *jinja.Date:
		return x.ISO(), nil
	}
	return nil, fmt.Errorf("a parameter of type %s cannot be sent to the database: expected text, a number, a bool, None or a date", jinja.TypeOf(v).QualName())
}

package sqlitekv

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"modernc.org/sqlite"
)

// conn is one SQLite connection with its prepared statements, used by one goroutine at a time. It talks to the driver
// below database/sql, whose pool, conversions and per-call contexts cost several times what SQLite takes for a row.
type conn struct {
	c     driver.Conn
	stmts map[string]*stmt
}

type stmt struct {
	sql  string
	exec driver.StmtExecContext
	qry  driver.StmtQueryContext
	args []driver.NamedValue
	row  []driver.Value
}

// dial opens path. Mode is SQLite's: "ro", "rw" or "rwc".
func dial(path, mode string, pragmas ...string) (*conn, error) {
	// Defensive mode refuses the pragmas that could damage the file; the URI form is needed for mode.
	uri := url.URL{Scheme: "file", Path: path, RawQuery: "mode=" + mode + "&_defensive=1"}
	c, err := (&sqlite.Driver{}).Open(uri.String())
	if err != nil {
		return nil, err
	}
	cn := &conn{c: c, stmts: map[string]*stmt{}}
	for _, p := range pragmas {
		if err := cn.run(p); err != nil {
			return nil, errors.Join(err, cn.close())
		}
	}
	return cn, nil
}

func (c *conn) close() error {
	var err error
	for _, s := range c.stmts {
		err = errors.Join(err, s.exec.(driver.Stmt).Close())
	}
	return errors.Join(err, c.c.Close())
}

// run executes one statement without arguments, not keeping it prepared.
func (c *conn) run(sql string) error {
	_, err := c.c.(driver.ExecerContext).ExecContext(context.Background(), sql, nil)
	return err
}

// scalar returns the first column of the only row of a query that is not kept prepared.
func (c *conn) scalar(sql string) (driver.Value, error) {
	rows, err := c.c.(driver.QueryerContext).QueryContext(context.Background(), sql, nil)
	if err != nil {
		return nil, err
	}
	dest := make([]driver.Value, len(rows.Columns()))
	err = rows.Next(dest)
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return dest[0], nil
}

func (c *conn) number(sql string) (int64, error) {
	v, err := c.scalar(sql)
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok {
		return 0, fmt.Errorf("%s: %v is not a number", sql, v)
	}
	return n, nil
}

// prepare returns the statement for sql, prepared once per connection.
func (c *conn) prepare(sql string) (*stmt, error) {
	if s, ok := c.stmts[sql]; ok {
		return s, nil
	}
	ds, err := c.c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	s := &stmt{sql: sql, exec: ds.(driver.StmtExecContext), qry: ds.(driver.StmtQueryContext)}
	c.stmts[sql] = s
	return s, nil
}

func (s *stmt) bind(args []any) []driver.NamedValue {
	if s.args == nil {
		s.args = make([]driver.NamedValue, len(args))
	}
	for i, a := range args {
		s.args[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return s.args
}

func (c *conn) exec(sql string, args ...any) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	_, err = s.exec.ExecContext(context.Background(), s.bind(args))
	return err
}

// query calls row for each row until it returns false. The values are only valid during the call, but the bytes of a
// blob are the caller's to keep.
func (c *conn) query(sql string, row func([]driver.Value) (bool, error), args ...any) error {
	s, err := c.prepare(sql)
	if err != nil {
		return err
	}
	rows, err := s.qry.QueryContext(context.Background(), s.bind(args))
	if err != nil {
		return err
	}
	if s.row == nil {
		s.row = make([]driver.Value, len(rows.Columns()))
	}
	for more := true; more; {
		if err = rows.Next(s.row); err != nil {
			if err == io.EOF {
				err = nil
			}
			break
		}
		if more, err = row(s.row); err != nil {
			break
		}
	}
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	return err
}

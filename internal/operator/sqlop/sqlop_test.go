package sqlop_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operator"
	_ "github.com/gustflow/gust/internal/operator/sqldrivers"
	"github.com/gustflow/gust/internal/operator/sqlop"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/workertest"
)

func TestDriversAreLinked(t *testing.T) {
	have := strings.Join(sql.Drivers(), " ")
	for _, d := range []string{"sqlite", "pgx", "mysql"} {
		if !strings.Contains(have, d) {
			t.Errorf("driver %s is not linked: %s", d, have)
		}
	}
}

const handlers = `
def dicts(cursor):
    names = [c[0] for c in cursor.description]
    return [dict(zip(names, row)) for row in cursor]
def parts(cursor): return [cursor.fetchone(), cursor.fetchmany(5), cursor.fetchall(), cursor.fetchone()]
def count(cursor): return len(cursor.fetchall()) if cursor.description else cursor.rowcount
def shape(results, descriptions):
    return [{"rows": r, "names": [c[0] for c in d]} for r, d in zip(results, descriptions)]
def boom(cursor):
    if cursor.description: raise ValueError("boom")
`

var (
	seq    uint32
	bundle string
	python *pyproc.Host
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gust-sqlop")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "handlers.py"), []byte(handlers), 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bundle, python = dir, pyproc.NewHost("", filepath.Join(dir, ".cache"), "test", 1)
	code := m.Run()
	python.Close()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func query(t *testing.T, b *workertest.Backend, kwargs string) (*worker.Report, string) {
	t.Helper()
	reg := operator.Default()
	sqlop.Register(reg)
	seq++
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: sqlop.Class, Kwargs: kwargs})
	run := workertest.Run{Backend: b, DAG: d, Task: "t", Seq: seq, Change: func(tc *worker.TaskContext) { tc.BundleDir = bundle }}
	run.Options.Python = python
	r, log, err := run.Do(t, reg)
	if err != nil || r == nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return r, log
}

func tup(items string) string {
	return `{"__classname__":"builtins.tuple","__version__":1,"__data__":[` + items + `]}`
}

// expectations run on every database; %s are parameter marks of the dialect.
func suite(t *testing.T, b *workertest.Backend, mark func(i int) string, named func(string) string, number func(string) string) {
	check := func(kwargs string, outcome worker.Outcome, want string) {
		t.Helper()
		r, log := query(t, b, kwargs)
		if got := workertest.XCom(r, "return_value"); r.Outcome != outcome || got != want {
			t.Errorf("%s\n got %v %s\nwant %v %s\n%s", kwargs, r.Outcome, got, outcome, want, log)
		}
	}
	check(`{"conn_id":"db","sql":"create table x (id integer, name varchar(20), v numeric(8,2))"}`, worker.OutcomeSuccess, "")
	check(fmt.Sprintf(`{"conn_id":"db","sql":"insert into x values (%s, %s, 1.5)","parameters":[1,"{{ ds }}"]}`, mark(1), mark(2)), worker.OutcomeSuccess, "")
	check(fmt.Sprintf(`{"conn_id":"db","sql":"insert into x values (%s, %s, 2)","parameters":{"id":2,"name":null}}`, named("id"), named("name")), worker.OutcomeSuccess, "")
	check(`{"conn_id":"db","sql":"select id, name, v from x order by id"}`, worker.OutcomeSuccess, `[`+tup(`1,"2026-03-01",`+number("1.5"))+`,`+tup(`2,null,`+number("2"))+`]`)
	check(`{"conn_id":"db","sql":"select id from x order by id","handler":{"__type":"callable","__var":"airflow.providers.common.sql.hooks.handlers.fetch_one_handler"}}`, worker.OutcomeSuccess, tup("1"))
	check(`{"conn_id":"db","sql":"select id from x","handler":null}`, worker.OutcomeSuccess, "")
	check(`{"conn_id":"db","sql":["select 1","select 2"]}`, worker.OutcomeSuccess, `[[`+tup("1")+`],[`+tup("2")+`]]`)
	check(`{"conn_id":"db","sql":"select 1; -- c;\nselect ';' ;","split_statements":true}`, worker.OutcomeSuccess, `[`+tup(`";"`)+`]`)
	check(`{"conn_id":"db","sql":"select 1; select 2","split_statements":true,"return_last":false}`, worker.OutcomeSuccess, `[[`+tup("1")+`],[`+tup("2")+`]]`)
	check(`{"conn_id":"db","sql":"select 1","split_statements":false,"return_last":false}`, worker.OutcomeSuccess, `[`+tup("1")+`]`)
	check(`{"conn_id":"db","sql":"select 1","return_last":false}`, worker.OutcomeSuccess, `[[`+tup("1")+`]]`)
	check(`{"conn_id":"db","sql":"  "}`, worker.OutcomeFailed, "")
	// Functions of the author's make something of the cursor, and of the results.
	handler := func(name string) string { return `"handler":{"__type":"callable","__var":"handlers.` + name + `"}` }
	processor := func(name string) string {
		return `"output_processor":{"__type":"callable","__var":"handlers.` + name + `"}`
	}
	check(`{"conn_id":"db","sql":"select id, v from x order by id",`+handler("dicts")+`}`, worker.OutcomeSuccess, `[{"id":1,"v":`+number("1.5")+`},{"id":2,"v":`+number("2")+`}]`)
	check(`{"conn_id":"db","sql":"select id from x order by id",`+handler("parts")+`}`, worker.OutcomeSuccess, `[`+tup("1")+`,[`+tup("2")+`],[],null]`)
	check(`{"conn_id":"db","sql":["select id from x where id = 1","update x set id = 1 where id = 1"],`+handler("count")+`}`, worker.OutcomeSuccess, `[1,-1]`)
	check(`{"conn_id":"db","sql":"select id, name from x where id = 2",`+processor("shape")+`}`, worker.OutcomeSuccess, `{"rows":[`+tup("2,null")+`],"names":["id","name"]}`)
	check(`{"conn_id":"db","sql":["select 1 as a","select 2 as b"],`+processor("shape")+`,"show_return_value_in_logs":true}`, worker.OutcomeSuccess,
		`[{"rows":[`+tup("1")+`],"names":["a"]},{"rows":[`+tup("2")+`],"names":["b"]}]`)
	if _, log := query(t, b, `{"conn_id":"db","sql":"select 1","show_return_value_in_logs":true}`); !strings.Contains(log, "Operator output is: [[(1,)]]") {
		t.Errorf("the output is not logged:\n%s", log)
	}
	check(`{"conn_id":"db","sql":["insert into x (id) values (6)","select 1"],`+handler("boom")+`}`, worker.OutcomeFailed, "")
	check(`{"conn_id":"db","sql":"select count(*) from x where id = 6"}`, worker.OutcomeSuccess, `[`+tup("0")+`]`)
	// A failure rolls everything back, unless each statement commits itself.
	check(`{"conn_id":"db","sql":["insert into x (id) values (7)","select * from nowhere"]}`, worker.OutcomeFailed, "")
	check(`{"conn_id":"db","sql":"select count(*) from x where id = 7"}`, worker.OutcomeSuccess, `[`+tup("0")+`]`)
	check(`{"conn_id":"db","sql":["insert into x (id) values (7)","select * from nowhere"],"autocommit":true}`, worker.OutcomeFailed, "")
	check(`{"conn_id":"db","sql":"select count(*) from x where id = 7"}`, worker.OutcomeSuccess, `[`+tup("1")+`]`)
	check(`{"conn_id":"nope","sql":"select 1"}`, worker.OutcomeFailed, "")
	check(`{"conn_id":"db"}`, worker.OutcomeFailed, "")
}

// decimal is a NUMERIC as psycopg2 and MySQLdb return it: two decimals here.
func decimal(n string) string {
	if !strings.Contains(n, ".") {
		n += ".0"
	}
	return `{"__classname__":"decimal.Decimal","__version__":1,"__data__":` + n + `}`
}

func TestSQLite(t *testing.T) {
	b := workertest.NewBackend()
	b.Connections["db"] = airflow.Connection{ConnType: "sqlite", Host: filepath.Join(t.TempDir(), "x.db")}
	suite(t, b, func(int) string { return "?" }, func(n string) string { return ":" + n }, func(n string) string { return n })
	b.Connections["odd"] = airflow.Connection{ConnType: "oracle"}
	if r, _ := query(t, b, `{"conn_id":"odd","sql":"select 1"}`); !strings.Contains(r.Error, "sqlite, postgres and mysql") {
		t.Errorf("%q", r.Error)
	}
}

// TestPostgres starts a server of its own, or uses that of GUST_TEST_POSTGRES
// (host:port, user postgres, database postgres, trust).
func TestPostgres(t *testing.T) {
	b := workertest.NewBackend()
	if c, ok := named(t, "GUST_TEST_POSTGRES"); ok {
		b.Connections["db"] = airflow.Connection{ConnType: "postgres", Host: c.Host, Port: c.Port, Login: "postgres", Schema: "postgres", Extra: `{"sslmode":"disable"}`}
		query(t, b, `{"conn_id":"db","sql":"drop table if exists x"}`)
	} else {
		b.Connections["db"] = startPostgres(t)
	}
	suite(t, b, func(int) string { return "%s" }, func(n string) string { return "%(" + n + ")s" }, decimal)
	types(t, b, map[string]string{
		"select 1::int2, 2::int4, 3::int8, 1.5::float8, 0.25::numeric(6,2), true, 'x'::text, null": tup(`1,2,3,1.5,` + decimal("0.25") + `,true,"x",null`),
		"select date '2026-03-01'":                        tup(`{"__classname__":"datetime.date","__version__":2,"__data__":"2026-03-01"}`),
		`select '{"a": [1, null]}'::jsonb`:                tup(`{"a":[1,null]}`),
		"select $$it''s; %s$$":                            tup(`"it''s; %s"`),
		"select count(*) from generate_series(1, 100000)": tup("100000"),
	})
}

// TestMySQL starts a MariaDB server of its own, or uses the server of
// GUST_TEST_MYSQL (host:port, user root, no password, database test).
func TestMySQL(t *testing.T) {
	b := workertest.NewBackend()
	if c, ok := named(t, "GUST_TEST_MYSQL"); ok {
		b.Connections["db"] = airflow.Connection{ConnType: "mysql", Host: c.Host, Port: c.Port, Login: "root", Schema: "test"}
		query(t, b, `{"conn_id":"db","sql":"drop table if exists x"}`)
	} else {
		b.Connections["db"] = startMySQL(t)
	}
	suite(t, b, func(int) string { return "%s" }, func(n string) string { return "%(" + n + ")s" }, decimal)
	types(t, b, map[string]string{
		"select 1, 1.5e0, cast(0.25 as decimal(6,2)), 'x', null":      tup(`1,1.5,` + decimal("0.25") + `,"x",null`),
		"select cast('2026-03-01' as date)":                           tup(`{"__classname__":"datetime.date","__version__":2,"__data__":"2026-03-01"}`),
		"select 18446744073709551615":                                 tup("18446744073709551615"),
		"select 'it''s; %s'":                                          tup(`"it's; %s"`),
		"select count(*) from seq_1_to_1000 as s where s.seq % 2 = 0": tup("500"),
	})
}

// types selects one row of values of the database's own types.
func types(t *testing.T, b *workertest.Backend, rows map[string]string) {
	t.Helper()
	for sql, want := range rows {
		kwargs, err := json.Marshal(map[string]any{"conn_id": "db", "sql": sql})
		if err != nil {
			t.Fatal(err)
		}
		r, log := query(t, b, string(kwargs))
		if got := workertest.XCom(r, "return_value"); got != "["+want+"]" {
			t.Errorf("%s\n got %v %s\nwant [%s]\n%s", sql, r.Outcome, got, want, log)
		}
	}
}

// named returns the server that an environment variable names.
func named(t *testing.T, env string) (c airflow.Connection, ok bool) {
	t.Helper()
	host, port, ok := strings.Cut(os.Getenv(env), ":")
	if ok {
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatalf("%s: expected host:port, got %q", env, os.Getenv(env))
		}
		c.Host, c.Port = host, n
	}
	return c, ok
}

func TestSplit(t *testing.T) {
	got := sqlop.Split("a; 'x;''y' ;\n-- only a comment\n; create function f() as $b$ x; y $b$; /* ; */ select \"a;b\"")
	want := []string{"a", "'x;''y'", "create function f() as $b$ x; y $b$", "/* ; */ select \"a;b\""}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

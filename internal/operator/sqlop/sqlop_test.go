package sqlop_test

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/operator"
	_ "github.com/gustflow/gust/internal/operator/sqldrivers"
	"github.com/gustflow/gust/internal/operator/sqlop"
	"github.com/gustflow/gust/internal/worker"
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

var seq uint32

func query(t *testing.T, b *workertest.Backend, kwargs string) (*worker.Report, string) {
	t.Helper()
	reg := operator.Default()
	sqlop.Register(reg)
	seq++
	d := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: sqlop.Class, Kwargs: kwargs})
	r, log, err := workertest.Run{Backend: b, DAG: d, Task: "t", Seq: seq}.Do(t, reg)
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
	host, port := os.Getenv("GUST_TEST_POSTGRES"), 0
	if h, p, ok := strings.Cut(host, ":"); ok {
		host = h
		fmt.Sscan(p, &port)
	} else {
		t.Skip("no PostgreSQL: name one in GUST_TEST_POSTGRES=host:port")
	}
	b.Connections["db"] = airflow.Connection{ConnType: "postgres", Host: host, Port: port, Login: "postgres", Schema: "postgres", Extra: `{"sslmode":"disable"}`}
	query(t, b, `{"conn_id":"db","sql":"drop table if exists x"}`)
	suite(t, b, func(int) string { return "%s" }, func(n string) string { return "%(" + n + ")s" }, decimal)
}

func TestMySQL(t *testing.T) {
	addr := os.Getenv("GUST_TEST_MYSQL")
	host, p, ok := strings.Cut(addr, ":")
	if !ok {
		if _, err := exec.LookPath("mysqld"); err != nil {
			t.Skip("no MySQL server on this machine: name one in GUST_TEST_MYSQL=host:port (user root, no password, database test)")
		}
		t.Skip("name the running MySQL server in GUST_TEST_MYSQL=host:port")
	}
	port := 0
	fmt.Sscan(p, &port)
	b := workertest.NewBackend()
	b.Connections["db"] = airflow.Connection{ConnType: "mysql", Host: host, Port: port, Login: "root", Schema: "test"}
	query(t, b, `{"conn_id":"db","sql":"drop table if exists x"}`)
	suite(t, b, func(int) string { return "%s" }, func(n string) string { return "%(" + n + ")s" }, decimal)
}

func TestSplit(t *testing.T) {
	got := sqlop.Split("a; 'x;''y' ;\n-- only a comment\n; create function f() as $b$ x; y $b$; /* ; */ select \"a;b\"")
	want := []string{"a", "'x;''y'", "create function f() as $b$ x; y $b$", "/* ; */ select \"a;b\""}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

package secretsbackend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/connection"
)

// table is a source in memory that counts its requests.
type table struct {
	mu     sync.Mutex
	values map[string]string
	errs   map[string]error
	asked  []string
}

func (s *table) Get(_ context.Context, name string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, name)
	if err := s.errs[name]; err != nil {
		return "", false, err
	}
	v, ok := s.values[name]
	return v, ok, nil
}

func parse(t *testing.T, class, kwargs string) Naming {
	t.Helper()
	n, _, err := Parse(class, kwargs)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNames: names as Airflow 3's providers build them.
func TestNames(t *testing.T) {
	for _, c := range []struct{ class, kwargs, conn, variable string }{
		{SecretsManager, ``, "airflow/connections/a", "airflow/variables/a"},
		{SecretsManager, `{"connections_prefix":"x/y/","variables_prefix":"","sep":"/"}`, "x/y/a", "a"},
		{SecretsManager, `{"connections_prefix":"x--","sep":"-"}`, "x-a", "airflow/variables-a"},
		{SecretsManager, `{"connections_prefix":null}`, "", "airflow/variables/a"},
		{SecretsManager, `{"variables_lookup_pattern":"B"}`, "airflow/connections/a", ""},
		{SecretsManager, `{"variables_lookup_pattern":"A"}`, "airflow/connections/a", "airflow/variables/a"},
		{ParameterStore, ``, "/airflow/connections/a", "/airflow/variables/a"},
		{ParameterStore, `{"connections_prefix":"airflow/connections","variables_prefix":""}`, "/airflow/connections/a", "/a"},
		{ParameterStore, `{"connections_prefix":null,"profile_name":null,"variables_lookup_pattern":"^x"}`, "", ""},
	} {
		s := &table{}
		b := New(parse(t, c.class, c.kwargs), s, Options{})
		for kind, want := range map[string]string{"connection": c.conn, "variable": c.variable} {
			s.asked = nil
			if kind == "connection" {
				_, _, _ = b.Connection(t.Context(), "a")
			} else {
				_, _, _ = b.Variable(t.Context(), "a")
			}
			if got := strings.Join(s.asked, " "); got != want {
				t.Errorf("%s %s: %s asked for %q, want %q", c.class, c.kwargs, kind, got, want)
			}
		}
	}
}

func TestParseProblems(t *testing.T) {
	_, _, err := Parse("my.own.Backend", "")
	if err == nil || !strings.Contains(err.Error(), SecretsManager) {
		t.Errorf("unknown class: %v", err)
	}
	_, _, err = Parse(SecretsManager, `{"sep":1,"connections_lookup_pattern":"(?=x)","nonsense":"hunter2","extra_conn_words":{"who":["x"]},"aws_access_key_id":"AKIA"}`)
	var invalid *airflow.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Problems) != 5 {
		t.Errorf("want five problems, got %v", err)
	}
	if strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Errorf("the error quotes a value: %v", err)
	}
	if _, _, err = Parse(ParameterStore, `{"sep":"-"}`); err == nil {
		t.Error("sep is no argument of the parameter store")
	}
	_, c, err := Parse(ParameterStore, `{"region_name":"eu-west-1","endpoint_url":"http://x","role_arn":"arn:r","profile_name":"p","use_ssl":true,"verify":false,"aws_access_key_id":"AKIA","aws_secret_access_key":"hunter2"}`)
	if err != nil || c.Region != "eu-west-1" || c.Endpoint != "http://x" || c.RoleARN != "arn:r" || c.Profile != "p" || c.SecretAccessKey != "hunter2" {
		t.Errorf("client %v, %v", c, err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v %s", c, c, c, c), "hunter2") {
		t.Error("the client prints its credentials")
	}
}

func TestConnections(t *testing.T) {
	for name, c := range map[string]struct {
		class, kwargs, stored string
		want                  airflow.Connection
	}{
		"uri": {SecretsManager, "", "postgres://u:p%40ss@h:5432/db?k=v", airflow.Connection{ConnType: "postgres", Host: "h", Login: "u", Password: "p@ss", Schema: "db", Port: 5432, Extra: `{"k": "v"}`}},
		"json": {SecretsManager, "", ` {"conn_type": "mysql", "login": "u", "password": "p", "host": "h", "port": 3306, "schema": "s", "extra": {"a": [1]}}`,
			airflow.Connection{ConnType: "mysql", Host: "h", Login: "u", Password: "p", Schema: "s", Port: 3306, Extra: `{"a": [1]}`}},
		"rds": {SecretsManager, "", `{"username": "u", "password": "p", "engine": "postgres", "host": "h", "port": "5432", "database": "d", "dbInstanceIdentifier": "x"}`,
			airflow.Connection{ConnType: "postgres", Host: "h", Login: "u", Password: "p", Schema: "d", Port: 5432}},
		"first word counts": {SecretsManager, "", `{"user": "first", "login": "second", "engine": "http"}`, airflow.Connection{ConnType: "http", Login: "first"}},
		"extra words":       {SecretsManager, `{"extra_conn_words":{"user":["who"],"conn_type":["kind"]}}`, `{"who": "u", "kind": "http"}`, airflow.Connection{ConnType: "http", Login: "u"}},
		"urlencoded":        {SecretsManager, `{"are_secret_values_urlencoded":true}`, `{"conn_type": "http", "password": "a%2Fb%", "extra": {"x": "%2F"}}`, airflow.Connection{ConnType: "http", Password: "a/b%", Extra: `{"x": "%2F"}`}},
		"parameter":         {ParameterStore, "", `{"conn_type": "http", "login": "u"}`, airflow.Connection{ConnType: "http", Login: "u"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := parse(t, c.class, c.kwargs)
			b := New(n, &table{values: map[string]string{n.Connections.name("/", "c"): c.stored}}, Options{})
			got, ok, err := b.Connection(t.Context(), "c")
			if err != nil || !ok {
				t.Fatalf("%v, %v", ok, err)
			}
			c.want.ConnID = "c"
			if connection.JSON(got) != connection.JSON(c.want) {
				t.Errorf("got %s\nwant %s", connection.JSON(got), connection.JSON(c.want))
			}
		})
	}
}

func TestBadConnectionsAreNotQuoted(t *testing.T) {
	for _, stored := range []string{"hunter2", "postgres://u:hunter2@h:port/x", `{"password": "hunter2"`, `{"conn_type": "x", "port": "hunter2"}`, `{"conn_type": "x", "extra": "hunter2"}`, `{"conn_type": "x"} hunter2`} {
		for _, class := range Classes() {
			n := parse(t, class, "")
			b := New(n, &table{values: map[string]string{n.Connections.name("/", "c"): stored}}, Options{})
			_, _, err := b.Connection(t.Context(), "c")
			if err != nil && (strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "connections/c")) {
				t.Errorf("%s %q: %v", class, stored, err)
			}
			if err == nil && strings.HasPrefix(stored, `{"password`) {
				t.Errorf("%q was read", stored)
			}
		}
	}
}

func TestCache(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &table{values: map[string]string{"airflow/variables/a": "1"}, errs: map[string]error{}}
	b := New(parse(t, SecretsManager, ""), s, Options{Now: func() time.Time { return now }})
	look := func(key string) (string, bool, error) {
		v, ok, err := b.Variable(t.Context(), key)
		return v.Value, ok, err
	}
	for range 3 {
		if v, ok, err := look("a"); v != "1" || !ok || err != nil {
			t.Fatal(v, ok, err)
		}
		if _, ok, err := look("none"); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if len(s.asked) != 2 {
		t.Errorf("%d requests, want 2: %q", len(s.asked), s.asked)
	}
	s.values["airflow/variables/a"], s.values["airflow/variables/none"] = "2", "now there"
	now = now.Add(5 * time.Minute)
	if v, _, _ := look("a"); v != "2" {
		t.Errorf("after the TTL: %q", v)
	}
	if v, ok, _ := look("none"); v != "now there" || !ok {
		t.Errorf("after the TTL: %q, %v", v, ok)
	}
	// An error is not remembered, and never "not found".
	s.errs["airflow/variables/b"] = airflow.ErrThrottled
	if _, ok, err := look("b"); ok || !errors.Is(err, airflow.ErrThrottled) {
		t.Errorf("throttled: %v, %v", ok, err)
	}
	delete(s.errs, "airflow/variables/b")
	s.values["airflow/variables/b"] = "3"
	if v, ok, err := look("b"); v != "3" || !ok || err != nil {
		t.Errorf("after the trouble: %q, %v, %v", v, ok, err)
	}
	// Many names do not fill the memory.
	for i := range maxEntries + 10 {
		_, _, _ = look(fmt.Sprint("n", i))
	}
	if len(b.entries) > maxEntries {
		t.Errorf("%d entries", len(b.entries))
	}
}

func TestOneRequestForMany(t *testing.T) {
	s := &table{values: map[string]string{"airflow/variables/a": "1"}}
	b := New(parse(t, SecretsManager, ""), s, Options{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if v, ok, err := b.Variable(t.Context(), "a"); v.Value != "1" || !ok || err != nil {
				t.Error(v, ok, err)
			}
		})
	}
	wg.Wait()
	if len(s.asked) != 1 {
		t.Errorf("%d requests", len(s.asked))
	}
}

func TestDeniedIsLookedForElsewhere(t *testing.T) {
	s := &table{errs: map[string]error{"airflow/variables/a": fmt.Errorf("%w: role x", airflow.ErrNotAllowed), "airflow/variables/b": airflow.ErrUnavailable}}
	var log bytes.Buffer
	env := connection.Env{Lookup: func(name string) (string, bool) { return "of " + name, true }}
	c := Chain{New(parse(t, SecretsManager, ""), s, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}), env}
	if v, ok, err := c.Variable(t.Context(), "a"); v.Value != "of AIRFLOW_VAR_A" || !ok || err != nil {
		t.Errorf("denied: %v, %v, %v", v, ok, err)
	}
	if !strings.Contains(log.String(), "denies access") {
		t.Errorf("nothing was logged: %q", log.String())
	}
	if _, ok, err := c.Variable(t.Context(), "b"); ok || !errors.Is(err, airflow.ErrUnavailable) {
		t.Errorf("unavailable: %v, %v", ok, err)
	}
	if v, ok, err := c.Variable(t.Context(), "c"); v.Value != "of AIRFLOW_VAR_C" || !ok || err != nil {
		t.Errorf("absent: %v, %v, %v", v, ok, err)
	}
}

func TestValuesAreNotPrinted(t *testing.T) {
	b := New(parse(t, SecretsManager, ""), &table{values: map[string]string{"airflow/variables/a": "hunter2"}}, Options{})
	if v, _, _ := b.Variable(t.Context(), "a"); v.Value != "hunter2" {
		t.Fatal(v)
	}
	if got := fmt.Sprintf("%v %+v %#v %s", b, b, b, b); strings.Contains(got, "hunter2") {
		t.Errorf("printed %s", got)
	}
}

package sqlop_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// required says that the databases must be there: CI installs them.
const required = "GUST_REQUIRE_DATABASES"

// server is a throw-away database server.
type server struct {
	t    *testing.T
	dir  string // of its data; short, since a socket is in it
	port int
	cred *syscall.Credential // servers refuse to run as root
}

// newServer prepares a folder and a port, or skips the test if a program is missing.
func newServer(t *testing.T, programs map[string]string) *server {
	t.Helper()
	for name, path := range programs {
		if path != "" {
			continue
		}
		text := fmt.Sprintf("%s is not installed (.ci/deps installs it), or name a running server, see the test's comment", name)
		if os.Getenv(required) != "" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	dir, err := os.MkdirTemp("", "gust-db-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{t: t, dir: dir}
	if os.Getuid() == 0 {
		s.cred = &syscall.Credential{Uid: 65534, Gid: 65534} // nobody
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	return s
}

func (s *server) command(out *bytes.Buffer, name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Dir, c.Env, c.Stdout, c.Stderr = s.dir, []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "TMPDIR=" + s.dir}, out, out
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	return c
}

// run runs a program to its end.
func (s *server) run(name string, args ...string) {
	s.t.Helper()
	var out bytes.Buffer
	if err := s.command(&out, name, args...).Run(); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, out.String())
	}
}

// serve starts a server, waits until it answers, and ends it with the test.
func (s *server) serve(driver, dsn, name string, args ...string) *sql.DB {
	s.t.Helper()
	var out bytes.Buffer
	c := s.command(&out, name, args...)
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	s.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGINT) // both stop fast on it
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	})
	db, err := sql.Open(driver, dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		err := db.PingContext(ctx)
		cancel()
		if err == nil {
			return db
		}
		select {
		case werr := <-ended:
			ended <- werr
			s.t.Fatalf("%s ended: %v\n%s", name, werr, out.String())
		default:
		}
		if time.Since(begin) > time.Minute {
			s.t.Fatalf("%s does not answer: %v", name, err)
		}
	}
}

// program finds a program in PATH or in folders that Debian keeps it in.
func program(name string, patterns ...string) string {
	for _, p := range patterns {
		if found, _ := filepath.Glob(filepath.Join(p, name)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

// startPostgres starts a PostgreSQL server with a user of its own.
func startPostgres(t *testing.T) airflow.Connection {
	const bin = "/usr/lib/postgresql/*/bin"
	initdb, postgres := program("initdb", bin), program("postgres", bin)
	s := newServer(t, map[string]string{"initdb of PostgreSQL": initdb, "PostgreSQL": postgres})
	data := filepath.Join(s.dir, "data")
	s.run(initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	dsn := fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.port)
	db := s.serve("pgx", dsn, postgres, "-D", data, "-k", s.dir, "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")
	for _, q := range []string{`create role "me@x" login password 'p:w/ d'`, `create database "my db" owner "me@x"`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return airflow.Connection{ConnType: "postgres", Host: "127.0.0.1", Port: s.port, Login: "me@x", Password: "p:w/ d", Schema: "my db", Extra: `{"sslmode":"disable"}`}
}

// startMySQL starts a MariaDB or MySQL server with a user of its own.
func startMySQL(t *testing.T) airflow.Connection {
	const sbin = "/usr/sbin"
	install, mariadbd := program("mariadb-install-db", "/usr/bin"), program("mariadbd", sbin)
	s := newServer(t, map[string]string{"mariadb-install-db": install, "MariaDB": mariadbd})
	data, socket := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "sock")
	s.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin")
	db := s.serve("mysql", "root@unix("+socket+")/", mariadbd, "--no-defaults", "--datadir="+data, "--socket="+socket, "--port="+strconv.Itoa(s.port),
		"--bind-address=127.0.0.1", "--pid-file="+filepath.Join(s.dir, "pid"), "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--skip-name-resolve")
	for _, q := range []string{"create database `my db`", "create user 'me@x'@'%' identified by 'p:w/ d'", "grant all on `my db`.* to 'me@x'@'%'"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	return airflow.Connection{ConnType: "mysql", Host: "127.0.0.1", Port: s.port, Login: "me@x", Password: "p:w/ d", Schema: "my db"}
}

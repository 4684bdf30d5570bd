// Package e2e holds the acceptance tests: they point a real server at folders of
// YAML DAG files and check what an Airflow user would see of the runs: states,
// tries, XComs, logs and reasons.
package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/connection"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/store"
)

// site is a server with the tool beside it through which the tests look at it.
type site struct {
	home, dags string
	tool       *localapp.App
	stop       func() error
	first      dagprocessor.Summary
}

// shared is the server of all tests that do not harm theirs.
var shared *site

// scratch is the folder that DAG files know as $E2E_DIR.
var scratch string

// hooks are the bodies that the tests' HTTP server received on /hook/<name>.
var hooks struct {
	sync.Mutex
	got map[string][]string
}

func hook(name string) []string {
	hooks.Lock()
	defer hooks.Unlock()
	return append([]string(nil), hooks.got[name]...)
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if n := flag.Lookup("test.count").Value.String(); n != "1" {
		fmt.Printf("-count=%s: the tests share one server and expect it fresh; run them with -count=1, several times\n", n)
		return 1
	}
	dir, err := os.MkdirTemp("", "gust-e2e-")
	check(err)
	defer os.RemoveAll(dir)
	scratch = filepath.Join(dir, "scratch")
	check(os.Mkdir(scratch, 0o755))
	// What tasks with run_as_user write, they write as somebody else.
	check(os.Chmod(dir, 0o711))
	f, err := os.Create(filepath.Join(scratch, "callbacks.txt"))
	check(err)
	check(f.Chmod(0o666))
	check(f.Close())
	web := httptest.NewServer(webServer())
	defer web.Close()
	for k, v := range map[string]string{
		"E2E_DIR": scratch, "E2E_URL": web.URL,
		"AIRFLOW_VAR_FROM_ENV": "value of the environment", "AIRFLOW_VAR_ENV_PASSWORD": "env-pass-4711",
		"AIRFLOW_CONN_ENV_CONN": "postgresql://ada:env-conn-secret@db.example:5433/sales?sslmode=off",
		"AIRFLOW_CONN_WEB":      strings.Replace(web.URL, "http://", "http://user:web-secret-9@", 1),
		"AIRFLOW_CONN_LITE":     `{"conn_type": "sqlite", "host": "` + filepath.Join(scratch, "lite.db") + `"}`,
	} {
		check(os.Setenv(k, v))
	}
	mail = startMailbox()
	defer mail.l.Close()
	dags := filepath.Join(dir, "dags")
	python, err := exec.LookPath("python3")
	check(err)
	check(os.Setenv("E2E_DAGS", dags))
	check(os.Setenv("E2E_PYTHON", python))
	check(os.CopyFS(dags, os.DirFS("testdata/dags")))
	shared, err = start(filepath.Join(dir, "h"), dags, nil)
	check(err)
	defer func() { check(shared.stop()) }()
	ctx := context.Background()
	bad, err := shared.tool.Store.ListImportErrors(ctx)
	check(err)
	for _, e := range bad {
		fmt.Printf("import error: %+v\n", e)
	}
	for _, v := range []airflow.Variable{{Key: "plain", Value: "of the store"}, {Key: "api_key", Value: "store-secret-123"}, {Key: "doc", Value: `{"deep": {"er": [1, 2]}}`}, {Key: "from_env", Value: "never seen"}} {
		check(shared.tool.Store.PutVariable(ctx, v))
	}
	check(shared.tool.Store.PutConnection(ctx, airflow.Connection{ConnID: "stored", ConnType: "http", Host: "stored.example", Login: "bob", Password: "stored-conn-secret", Port: 81, Extra: `{"token": "extra-token-77", "zone": "eu"}`}))
	check(shared.tool.Store.PutPool(ctx, airflow.Pool{Name: "single", Slots: 1}))
	check(shared.tool.Store.PutPool(ctx, airflow.Pool{Name: "pair", Slots: 2}))
	return m.Run()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func webServer() http.Handler {
	var ready atomic.Int32
	hooks.got = map[string][]string{}
	mux := http.NewServeMux()
	mux.HandleFunc("/hook/{name}", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		hooks.Lock()
		defer hooks.Unlock()
		hooks.got[r.PathValue("name")] = append(hooks.got[r.PathValue("name")], string(b))
	})
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if ready.Add(1) < 3 {
			http.NotFound(w, nil)
			return
		}
		fmt.Fprint(w, "yes")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		user, pass, _ := r.BasicAuth()
		fmt.Fprintf(w, "%s %s %s auth=%t", r.Method, b, r.URL.RawQuery, user == "user" && pass == "web-secret-9")
	})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "it is gone", http.StatusInternalServerError)
	})
	return mux
}

// options are those of the CLI, with short times.
func options(home, dags string) (localapp.Options, func()) {
	py := dagspec.NewInterpreter(dags)
	return localapp.Options{
		Home: home, DagsFolder: dags, KilledTaskCleanupTime: time.Second, HeartbeatInterval: 500 * time.Millisecond, MaxMapLength: 40,
		Engine: engine.Config{MaxMapLength: 40}, SMTP: mail.config(), Masker: mask.New(mask.Options{}), Secrets: connection.Env{Lookup: os.LookupEnv},
		Loader: yamlloader.New(yamlloader.Config{Options: dagspec.Options{Python: py}}),
	}, func() { _ = py.Close() }
}

// start starts a server and opens a tool beside it.
func start(home, dags string, change func(*localapp.Options)) (*site, error) {
	o, closePython := options(home, dags)
	if change != nil {
		change(&o)
	}
	s := &site{home: home, dags: dags}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan dagprocessor.Summary, 1), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, o, localapp.ServeOptions{Addr: "127.0.0.1:0", Ready: func(_ string, first dagprocessor.Summary) { ready <- first }})
	}()
	select {
	case s.first = <-ready:
	case err := <-done:
		cancel()
		closePython()
		return nil, err
	case <-time.After(20 * time.Second):
		cancel()
		return nil, fmt.Errorf("server not up after 20 s")
	}
	var err error
	if s.tool, err = localapp.Open(ctx, localapp.Options{Home: home, DagsFolder: dags, Engine: o.Engine}); err != nil {
		cancel()
		return nil, err
	}
	var once sync.Once
	s.stop = func() (err error) {
		once.Do(func() {
			s.tool.Close()
			cancel()
			err = <-done
			closePython()
		})
		return err
	}
	return s, nil
}

// serve starts a server for one test, with DAG files given by name.
func serve(t *testing.T, files map[string]string, change func(*localapp.Options)) *site {
	t.Helper()
	dags := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dags, name), text)
	}
	s, err := start(t.TempDir(), dags, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return s
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// oneRun is a run under test.
type oneRun struct {
	*testing.T
	s   *site
	key store.RunKey
}

var days atomic.Int32

// trigger starts a run on a logical date of its own.
func (s *site) trigger(t *testing.T, dag string, change func(*engine.TriggerOptions)) *oneRun {
	t.Helper()
	ld := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(days.Add(1)))
	o := engine.TriggerOptions{DagID: airflow.DagID(dag), LogicalDate: &ld, TriggeredBy: airflow.TriggeredByCLI}
	if change != nil {
		change(&o)
	}
	info, err := s.tool.Engine.Trigger(t.Context(), o)
	if err != nil {
		t.Fatalf("trigger %s: %v", dag, err)
	}
	s.notify(t, localapp.Notice{Discover: true})
	return &oneRun{t, s, store.RunKey{DagID: info.DagID, RunID: info.RunID}}
}

func (s *site) notify(t *testing.T, n localapp.Notice) {
	t.Helper()
	if told, err := s.tool.Home.Notify(t.Context(), n); !told || err != nil {
		t.Fatalf("server not told: %t %v", told, err)
	}
}

// eventually waits until ok, for at most 25 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(25 * time.Second); !ok(); <-time.After(15 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 25 s: %s", what)
		}
	}
}

// run makes a run that a schedule created the one under test.
func (s *site) run(t *testing.T, dag, run string) *oneRun {
	return &oneRun{t, s, store.RunKey{DagID: airflow.DagID(dag), RunID: airflow.RunID(run)}}
}

// runs lists a DAG's runs, oldest first.
func (s *site) runs(t *testing.T, dag string) []airflow.DagRun {
	t.Helper()
	rs, _, err := s.tool.Store.ListRuns(t.Context(), airflow.DagID(dag), store.ListOptions{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(rs, func(i, j int) bool { return rs[i].RunAfter.Before(rs[j].RunAfter) })
	return rs
}

func (r *oneRun) info() airflow.DagRun {
	r.Helper()
	i, err := r.s.tool.Store.GetRun(r.Context(), r.key)
	if err != nil {
		r.Fatal(err)
	}
	return i
}

// tis returns the instances by name, "task" or "task[2]".
func (r *oneRun) tis() map[string]airflow.TaskInstance {
	r.Helper()
	out := map[string]airflow.TaskInstance{}
	l, err := r.s.tool.Engine.TaskInstances(r.Context(), r.key)
	if err != nil {
		r.Fatal(err)
	}
	for _, ti := range l {
		out[airflow.TIName(ti.TaskID, ti.MapIndex)] = ti
	}
	return out
}

func (r *oneRun) ti(name string) airflow.TaskInstance {
	r.Helper()
	ti, ok := r.tis()[name]
	if !ok {
		r.Fatalf("no instance %s in %v", name, r.key)
	}
	return ti
}

// until waits until an instance is in a state.
func (r *oneRun) until(name string, state airflow.TIState) {
	r.Helper()
	eventually(r.T, fmt.Sprintf("%s of %s %s", name, r.key, state), func() bool { return r.tis()[name].State == state })
}

func (r *oneRun) rawLog(name string, try int) string {
	r.Helper()
	b, err := os.ReadFile(r.s.tool.TaskLogPath(r.ti(name).TaskInstanceKey, try))
	if err != nil && !os.IsNotExist(err) {
		r.Fatal(err)
	}
	return string(b)
}

// log returns the events of a try's log, by lines.
func (r *oneRun) log(name string, try int) string {
	var out []string
	for _, l := range strings.Split(r.rawLog(name, try), "\n") {
		var e struct{ Event string }
		if json.Unmarshal([]byte(l), &e) == nil {
			out = append(out, e.Event)
		} else if l != "" {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func (r *oneRun) xcom(name, key string) string {
	r.Helper()
	x, err := r.s.tool.Store.GetXCom(r.Context(), r.ti(name).TaskInstanceKey, key)
	if err != nil {
		return err.Error()
	}
	return string(x.Value)
}

// ends waits for the end of the run and compares its state and those of its
// instances, given as "task=state" or "task=state/try", separated by blanks.
// With "*" at the end other instances may exist.
func (r *oneRun) ends(state airflow.DagRunState, tasks string) *oneRun {
	r.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !r.info().State.Finished() && time.Now().Before(deadline) {
		<-time.After(15 * time.Millisecond)
	}
	got := r.info().State
	tis, bad := r.tis(), got != state
	if bad {
		r.Errorf("run %s is %s, want %s", r.key, got, state)
	}
	seen := map[string]bool{}
	for _, w := range strings.Fields(tasks) {
		name, want, _ := strings.Cut(w, "=")
		if name == "*" {
			seen["*"] = true
			continue
		}
		seen[name] = true
		ti, ok := tis[name]
		have := ti.State.String()
		if strings.Contains(want, "/") {
			have = fmt.Sprintf("%s/%d", ti.State, ti.TryNumber)
		}
		if !ok || have != want {
			bad = true
			r.Errorf("%s of %s: %s, want %s", name, r.key, have, want)
		}
	}
	for name, ti := range tis {
		if !seen[name] && !seen["*"] {
			bad = true
			r.Errorf("unexpected instance %s of %s: %s", name, r.key, ti.State)
		}
	}
	if bad {
		r.dump()
	}
	return r
}

// dump shows where the run stands.
func (r *oneRun) dump() {
	r.Helper()
	for name, ti := range r.tis() {
		r.Logf("%s %s try %d\n%.3000s", name, ti.State, ti.TryNumber, r.log(name, max(1, ti.TryNumber)))
	}
	rs, err := r.s.tool.Engine.Explain(r.Context(), r.key)
	r.Logf("explain: %+v %v", rs, err)
}

// has compares an XCom.
func (r *oneRun) has(name, want string) *oneRun {
	r.Helper()
	if got := r.xcom(name, airflow.XComReturnKey); got != want {
		r.Errorf("XCom of %s of %s: %.200s, want %s\n%.1500s", name, r.key, got, want, r.log(name, 1))
	}
	return r
}

// logs demands texts in the log of the instance's current try.
func (r *oneRun) logs(name string, want ...string) *oneRun {
	r.Helper()
	l := r.log(name, max(1, r.ti(name).TryNumber))
	for _, w := range want {
		if !strings.Contains(l, w) {
			r.Errorf("log of %s of %s has no %q:\n%.1500s\n…\n%s", name, r.key, w, l, l[max(0, len(l)-500):])
		}
	}
	return r
}

// hides demands that a text is in no log, XCom or rendered field of the run.
func (r *oneRun) hides(secrets ...string) *oneRun {
	r.Helper()
	for name, ti := range r.tis() {
		l := r.rawLog(name, max(1, ti.TryNumber))
		a, err := r.s.tool.Store.GetAttempt(r.Context(), ti.TaskInstanceKey)
		if err != nil {
			continue
		}
		f, _ := json.Marshal(a.RenderedFields)
		for _, s := range secrets {
			if strings.Contains(l, s) || strings.Contains(string(f), s) || strings.Contains(a.Error, s) {
				r.Errorf("%s shows %q: error %s, fields %s\n%s", name, s, a.Error, f, l)
			}
		}
	}
	return r
}

func (r *oneRun) rendered(name, field string) string {
	r.Helper()
	a, err := r.s.tool.Store.GetAttempt(r.Context(), r.ti(name).TaskInstanceKey)
	if err != nil {
		r.Fatal(err)
	}
	return string(a.RenderedFields[field])
}

type storeKey = store.RunKey

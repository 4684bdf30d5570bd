package uiapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/uiapi"
)

const dagFiles = `
steps:
  description: Some Steps
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: false
  tags: [blue, small]
  task_groups:
    - group_name: grp
      tooltip: the middle
  tasks:
    - task_id: last
      operator: airflow.providers.standard.operators.empty.EmptyOperator
      dependencies: [middle]
    - task_id: middle
      operator: airflow.providers.standard.operators.empty.EmptyOperator
      task_group_name: grp
      dependencies: [first]
    - task_id: first
      operator: airflow.providers.standard.operators.empty.EmptyOperator
breaks:
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: false
  tags: [blue]
  tasks:
    - task_id: boom
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "echo so far so good; exit 3"
    - task_id: never
      operator: airflow.providers.standard.operators.empty.EmptyOperator
      dependencies: [boom]
fans:
  schedule: null
  start_date: 2025-01-01
  is_paused_upon_creation: true
  tasks:
    - task_id: fan
      operator: airflow.providers.standard.operators.bash.BashOperator
      expand:
        bash_command: ["echo one", "exit 1", "echo three"]
`

type site struct {
	*testing.T
	app *localapp.App
	ui  http.Handler
}

// start starts a server over the DAGs above.
func start(t *testing.T, may func(*http.Request, string, *airflow.DagModel) bool) *site {
	folder := filepath.Join(t.TempDir(), "dags")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "dags.yml"), []byte(dagFiles), 0o600); err != nil {
		t.Fatal(err)
	}
	py := dagspec.NewInterpreter(folder)
	s := &site{T: t}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- localapp.Serve(ctx, localapp.Options{
			Home: t.TempDir(), DagsFolder: folder, KilledTaskCleanupTime: time.Second, HeartbeatInterval: 500 * time.Millisecond, Masker: mask.New(mask.Options{}),
			Loader: yamlloader.New(yamlloader.Config{Options: dagspec.Options{Python: py}}),
		}, localapp.ServeOptions{Opened: func(a *localapp.App) { s.app = a }, Ready: func(string, dagprocessor.Summary) { close(ready) }})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
		if err := py.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("server not up: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("server not up")
	}
	if may == nil {
		may = func(*http.Request, string, *airflow.DagModel) bool { return true }
	}
	s.ui = uiapi.Handler(uiapi.Options{Store: s.app.Store, Engine: s.app.Engine, Now: time.Now, MayRead: may})
	return s
}

func (s *site) ask(path string, status int, header ...string) (map[string]any, http.Header) {
	s.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ui.ServeHTTP(w, r)
	if w.Code != status {
		s.Fatalf("GET %s: %d %s, want %d", path, w.Code, w.Body, status)
	}
	out := map[string]any{}
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			s.Fatalf("GET %s: %v", path, err)
		}
	}
	return out, w.Header()
}

func (s *site) get(path string) map[string]any {
	s.Helper()
	v, _ := s.ask(path, http.StatusOK)
	return v
}

// run triggers a run and waits for its end.
func (s *site) run(dag airflow.DagID, id airflow.RunID) {
	s.Helper()
	if _, err := s.app.Engine.SetPaused(s.Context(), dag, false, "test"); err != nil {
		s.Fatal(err)
	}
	if _, err := s.app.Engine.Trigger(s.Context(), engine.TriggerOptions{DagID: dag, RunID: id}); err != nil {
		s.Fatal(err)
	}
	for range 600 {
		r, err := s.app.Store.GetRun(s.Context(), store.RunKey{DagID: dag, RunID: id})
		if err != nil {
			s.Fatal(err)
		}
		if r.State.Finished() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.Fatalf("%s/%s does not end", dag, id)
}

func ids(v any, key string) []string {
	var out []string
	for _, x := range v.([]any) {
		out = append(out, fmt.Sprint(x.(map[string]any)[key]))
	}
	return out
}

func TestLists(t *testing.T) {
	s := start(t, nil)
	s.run("steps", "r1")
	s.run("breaks", "b1")
	for _, c := range []struct {
		query string
		want  []string
	}{
		{"", []string{"breaks", "fans", "steps"}},
		{"?name=STEP", []string{"steps"}},
		{"?name=some%20steps", []string{"steps"}},
		{"?tags=blue", []string{"breaks", "steps"}},
		{"?tags=blue&tags=small&tags_match_mode=all", []string{"steps"}},
		{"?paused=true", []string{"fans"}},
		{"?paused=false&limit=1&offset=1", []string{"steps"}},
		{"?last_dag_run_state=failed", []string{"breaks"}},
		{"?last_dag_run_state=failed&last_dag_run_state=success", []string{"breaks", "steps"}},
		{"?order_by=-dag_id", []string{"steps", "fans", "breaks"}},
		{"?order_by=-last_run", []string{"breaks", "steps", "fans"}},
		{"?owners=nobody", nil},
	} {
		if got := ids(s.get("/ui/dags" + c.query)["dags"], "dag_id"); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.query, got, c.want)
		}
	}
	list := s.get("/ui/dags?name=steps")
	if runs := list["dags"].([]any)[0].(map[string]any)["recent_runs"]; !slices.Equal(ids(runs, "run_id"), []string{"r1"}) {
		t.Errorf("recent runs %v", runs)
	}
	if tags := fmt.Sprint(list["tags"]); !strings.Contains(tags, "blue dagfactory small") {
		t.Errorf("tags %s", tags)
	}
	for _, q := range []string{"limit=x", "limit=-1", "paused=maybe", "order_by=nope", "tags_match_mode=some"} {
		if v, _ := s.ask("/ui/dags?"+q, http.StatusUnprocessableEntity); v["detail"] == "" {
			t.Errorf("%s: no detail", q)
		}
	}
	s.ask("/ui/dags/absent/structure", http.StatusNotFound)
	s.ask("/ui/nope", http.StatusNotFound)

	// What has not changed is not sent again.
	_, h := s.ask("/ui/dags", http.StatusOK)
	s.ask("/ui/dags", http.StatusNotModified, "If-None-Match", h.Get("ETag"))

	home := s.get("/ui/home")
	failures := home["failures"].([]any)
	if len(failures) != 1 {
		t.Fatalf("failures %v", failures)
	}
	if f := failures[0].(map[string]any); f["task_id"] != "boom" || !strings.Contains(fmt.Sprint(f["error"]), "exit code 3") {
		t.Errorf("failure %v", f)
	}
	if home["failed_runs"] != 1.0 || home["runs"].(map[string]any)["success"] != 1.0 || home["dags"].(map[string]any)["all"] != 3.0 {
		t.Errorf("home %v", home)
	}
	now := time.Now().UTC()
	q := url.Values{"from": {now.Add(-48 * time.Hour).Format(time.RFC3339)}, "to": {now.Add(time.Hour).Format(time.RFC3339)}}
	days := s.get("/ui/dags/breaks/days?" + q.Encode())["days"].([]any)
	if len(days) != 1 || days[0].(map[string]any)["counts"].(map[string]any)["failed"] != 1.0 {
		t.Errorf("days %v", days)
	}
}

func TestGrid(t *testing.T) {
	s := start(t, nil)
	s.run("steps", "r1")
	s.run("steps", "r2")
	s.run("fans", "m1")
	st := s.get("/ui/dags/steps/structure")
	if got := ids(st["nodes"], "id"); !slices.Equal(got, []string{"first", "grp", "grp.middle", "last"}) {
		t.Errorf("rows %v: want topological order, members after their group", got)
	}
	if n := st["nodes"].([]any)[0].(map[string]any); fmt.Sprint(n["downstream"]) != "[2]" {
		t.Errorf("edges of %v", n)
	}
	all := s.get("/ui/dags/steps/states")
	if got := fmt.Sprint(all["order"]); got != "[r2 r1]" {
		t.Errorf("order %s", got)
	}
	for _, r := range all["runs"].([]any) {
		if c := r.(map[string]any)["cells"]; c != "sss" {
			t.Errorf("cells %v", r)
		}
	}
	cursor := "?cursor=" + fmt.Sprint(all["cursor"])
	if again := s.get("/ui/dags/steps/states" + cursor); len(again["runs"].([]any)) != 0 {
		t.Errorf("nothing changed, sent %v", again["runs"])
	}
	if _, err := s.app.Engine.MarkTask(s.Context(), store.RunKey{DagID: "steps", RunID: "r1"}, scheduler.MarkOptions{Selection: scheduler.Selection{Tasks: []scheduler.TaskSelection{{TaskID: "last"}}}, State: airflow.TIFailed}, "test"); err != nil {
		t.Fatal(err)
	}
	next := s.get("/ui/dags/steps/states" + cursor + "&fresh=true")
	runs := next["runs"].([]any)
	if len(runs) != 1 {
		t.Fatalf("sent %v, want the changed run", runs)
	}
	if r := runs[0].(map[string]any); r["run_id"] != "r1" || r["cells"] != nil || fmt.Sprint(r["diff"]) != "[2 f]" {
		t.Errorf("sent %v, want the changed cell", r)
	}
	// A process that does not know what the client has sends all cells of what changed.
	other := &site{T: t, app: s.app, ui: uiapi.Handler(uiapi.Options{Store: s.app.Store, Engine: s.app.Engine, Now: time.Now, MayRead: func(*http.Request, string, *airflow.DagModel) bool { return true }})}
	if r := other.get("/ui/dags/steps/states" + cursor)["runs"].([]any); len(r) != 1 || r[0].(map[string]any)["cells"] != "ssf" {
		t.Errorf("sent %v", r)
	}

	fan := s.get("/ui/dags/fans/states")["runs"].([]any)[0].(map[string]any)
	if fan["cells"] != "f" || fmt.Sprint(fan["mapped"]) != "map[fan:map[failed:1 success:2]]" {
		t.Errorf("mapped %v", fan)
	}
	tis := s.get("/ui/dags/fans/runs/m1/instances")
	if len(tis["instances"].([]any)) != 3 || fmt.Sprint(tis["counts"]) != "map[failed:1 success:2]" {
		t.Errorf("instances %v", tis)
	}
	s.ask("/ui/dags/fans/runs/absent/instances", http.StatusNotFound)
}

// Who may not read a DAG does not learn that it exists, in no answer.
func TestUnreadable(t *testing.T) {
	s := start(t, func(_ *http.Request, resource string, m *airflow.DagModel) bool {
		return m != nil && m.DagID == "steps" && resource != "task_instance"
	})
	s.run("steps", "r1")
	s.run("breaks", "b1")
	if got := ids(s.get("/ui/dags")["dags"], "dag_id"); !slices.Equal(got, []string{"steps"}) {
		t.Errorf("list %v", got)
	}
	for _, p := range []string{"structure", "states", "runs/b1/instances", "days"} {
		s.ask("/ui/dags/breaks/"+p, http.StatusNotFound)
	}
	s.ask("/ui/dags/steps/states", http.StatusForbidden)
	home, _ := json.Marshal(s.get("/ui/home"))
	if strings.Contains(string(home), "breaks") || strings.Contains(string(home), "default_pool") {
		t.Errorf("home tells of what may not be seen: %s", home)
	}
}

func TestSite(t *testing.T) {
	var base string
	h := func(baseURL string) http.Handler {
		return uiapi.Site{
			API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				base = r.URL.Path
				if strings.HasSuffix(r.URL.Path, "/pools") {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.WriteHeader(http.StatusNotFound)
			}),
			Auth: func(next http.Handler, open func(*http.Request) bool) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") == "" {
						w.WriteHeader(http.StatusUnauthorized)
						return
					}
					next.ServeHTTP(w, r.WithContext(auth.With(r.Context(), auth.Identity{Name: "eve"})))
				})
			},
			BaseURL: baseURL,
		}.Handler()
	}
	do := func(h http.Handler, path string, signedIn bool) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if signedIn {
			r.Header.Set("Authorization", "Bearer x")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	plain, below := h(""), h("https://example.org/gust/")
	if w := do(plain, "/dags", false); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Errorf("page: %d %s", w.Code, w.Header())
	}
	if w := do(plain, "/ui/session", false); w.Code != http.StatusUnauthorized {
		t.Errorf("anonymous /ui: %d", w.Code)
	}
	// An identity without a role may nothing, but hears who it is and what is served.
	if w := do(plain, "/ui/session", true); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"serves":["pools"]`) || !strings.Contains(w.Body.String(), `"name":"eve"`) {
		t.Errorf("session: %d %s", w.Code, w.Body)
	}
	for _, p := range []string{"/gust/api/v2/pools", "/api/v2/pools"} {
		base = ""
		if w := do(below, p, false); w.Code != http.StatusUnauthorized || base != "/api/v2/pools" {
			t.Errorf("%s: %d, the API saw %q", p, w.Code, base)
		}
	}
	if w := do(below, "/gust", false); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/gust/" {
		t.Errorf("/gust: %d %s", w.Code, w.Header())
	}
	if w := do(below, "/gust/ui/session", false); w.Code != http.StatusUnauthorized {
		t.Errorf("/gust/ui: %d", w.Code)
	}
}

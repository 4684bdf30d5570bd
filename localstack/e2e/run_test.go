package e2e

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awskeys"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
	"github.com/gustflow/gust/internal/tasklog/cwlogs"
)

const (
	success = airflow.RunSuccess
	failed  = airflow.RunFailed
)

// wire opens the installation as a tool does: its engine commits interventions and tells the schedulers.
func (s *site) wire() error {
	c, err := awsapp.FromLookup(func(name string) (string, bool) { v, ok := s.env[name]; return v, ok }, awsenv.Table, awsenv.EventsQueueURL, awsenv.DataBucket)
	if err != nil {
		return err
	}
	app, err := awsapp.Open(context.Background(), c, awsapp.Options{AWS: &aws.Config{
		Region: region, BaseEndpoint: &s.endpoint, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	}})
	if err != nil {
		return err
	}
	awskeys.Enable(app)
	if s.store, err = app.Store(); err != nil {
		return err
	}
	out, err := app.Outbox()
	if err != nil {
		return err
	}
	s.engine = engine.New(engine.Options{Store: s.store, Passive: true, Outbox: out})
	return nil
}

// oneRun is a run under test.
type oneRun struct {
	*testing.T
	s   *site
	key store.RunKey
}

// known waits until DAGs are registered, from files that were just uploaded.
func (s *site) known(t *testing.T, dags ...string) {
	t.Helper()
	defer func() {
		for _, e := range s.importErrors(t) {
			if t.Failed() && strings.Contains(e.Filename, s.tag) {
				t.Logf("import error: %+v", e)
			}
		}
	}()
	for _, dag := range dags {
		eventually(t, 90*time.Second, "registered DAG "+s.fill(dag), func() bool {
			m, err := s.store.GetDag(t.Context(), airflow.DagID(s.fill(dag)))
			if err != nil && !errors.Is(err, airflow.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil && !m.IsStale
		})
	}
}

func (s *site) importErrors(t *testing.T) []airflow.ImportError {
	t.Helper()
	es, err := s.store.ListImportErrors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return es
}

// trigger starts a run on a logical date of its own.
func (s *site) trigger(t *testing.T, dag string) *oneRun {
	t.Helper()
	ld := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(s.runs.Add(1)))
	info, err := s.engine.Trigger(t.Context(), engine.TriggerOptions{DagID: airflow.DagID(s.fill(dag)), LogicalDate: &ld, TriggeredBy: airflow.TriggeredByCLI})
	if err != nil {
		t.Fatalf("trigger %s: %v", s.fill(dag), err)
	}
	return &oneRun{t, s, store.RunKey{DagID: info.DagID, RunID: info.RunID}}
}

// deploy uploads one DAG file, NAME.yml, waits for the DAG of that name and starts a run of it.
func (s *site) deploy(t *testing.T, dag, text string) *oneRun {
	t.Helper()
	s.upload(t, map[string]string{dag + ".yml": text})
	s.known(t, dag)
	return s.trigger(t, dag)
}

// run makes a run that Gust created the one under test.
func (s *site) run(t *testing.T, dag string, id airflow.RunID) *oneRun {
	return &oneRun{t, s, store.RunKey{DagID: airflow.DagID(s.fill(dag)), RunID: id}}
}

// list lists a DAG's runs, oldest first.
func (s *site) list(t *testing.T, dag string) []airflow.DagRun {
	t.Helper()
	rs, _, err := s.store.ListRuns(t.Context(), airflow.DagID(s.fill(dag)), store.ListOptions{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	sort.Slice(rs, func(i, j int) bool { return rs[i].RunAfter.Before(rs[j].RunAfter) })
	return rs
}

func (r *oneRun) info() airflow.DagRun {
	r.Helper()
	i, err := r.s.store.GetRun(r.Context(), r.key)
	if err != nil {
		r.Fatal(err)
	}
	return i
}

// tis returns the instances by name, "task" or "task[2]".
func (r *oneRun) tis() map[string]airflow.TaskInstance {
	r.Helper()
	out := map[string]airflow.TaskInstance{}
	l, err := r.s.engine.TaskInstances(r.Context(), r.key)
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

// until waits until an instance is in a state and returns how long that took.
func (r *oneRun) until(within time.Duration, name string, state airflow.TIState) time.Duration {
	r.Helper()
	defer func() {
		if r.Failed() {
			r.dump()
		}
	}()
	return eventually(r.T, within, fmt.Sprintf("%s of %s %s", name, r.key, state), func() bool { return r.tis()[name].State == state })
}

// log returns the text of a try's log in CloudWatch Logs, "" while there is none.
func (r *oneRun) log(name string, try int) string {
	r.Helper()
	ti := r.ti(name)
	t := tasklog.Try{Key: ti.TaskInstanceKey, Number: try, Hostname: ti.Hostname}
	if try != ti.TryNumber {
		tries, err := r.s.store.ListTries(r.Context(), ti.TaskInstanceKey)
		if err != nil {
			r.Fatal(err)
		}
		for _, a := range tries {
			if a.TryNumber == try {
				t.Hostname = a.Hostname
			}
		}
	}
	var out []string
	_, err := cwlogs.New(r.s.logs).ReadTry(r.Context(), t, "", func(e tasklog.Entry) error {
		out = append(out, e.Event)
		return nil
	})
	if err != nil && !errors.Is(err, airflow.ErrNotFound) {
		r.Fatal(err)
	}
	return strings.Join(out, "\n")
}

func (r *oneRun) xcom(name string) string {
	r.Helper()
	x, err := r.s.store.GetXCom(r.Context(), r.ti(name).TaskInstanceKey, airflow.XComReturnKey)
	if err != nil {
		return err.Error()
	}
	return string(x.Value)
}

// endWithin bounds ends for runs that have nothing to wait for.
const endWithin = 90 * time.Second

// ends waits for the end of the run and compares its state and those of its instances, given as "task=state" or
// "task=state/try", separated by blanks. With "*" at the end other instances may exist.
func (r *oneRun) ends(within time.Duration, state airflow.DagRunState, tasks string) *oneRun {
	r.Helper()
	for end := time.Now().Add(within); !r.info().State.Finished() && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
	}
	got := r.info().State
	tis, bad := r.tis(), got != state
	if bad {
		r.Errorf("run %s is %s, want %s", r.key, got, state)
	}
	seen := map[string]bool{}
	for _, w := range strings.Fields(tasks) {
		name, want, _ := strings.Cut(w, "=")
		seen[name] = true
		if name == "*" {
			continue
		}
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
	r.startedOnce()
	return r
}

// once begins the command of a task whose tries must each start once.
const once = `echo "{{ dag.dag_id }} {{ run_id }} {{ ti.task_id }} {{ ti.map_index }} {{ ti.try_number }}" >> SCRATCH/starts; `

// startedOnce checks that no try of this run whose command begins with once started twice.
func (r *oneRun) startedOnce() {
	r.Helper()
	seen := map[string]int{}
	for _, line := range strings.Split(r.s.read(r.T, "starts"), "\n") {
		if strings.HasPrefix(line, string(r.key.DagID)+" "+string(r.key.RunID)+" ") {
			seen[line]++
		}
	}
	for line, n := range seen {
		if n > 1 {
			r.Errorf("started %d times: %s", n, line)
		}
	}
}

// dump shows where the run stands.
func (r *oneRun) dump() {
	r.Helper()
	i := r.info()
	r.Logf("run %s: %s, queued %v, started %v", r.key, i.State, i.QueuedAt, i.StartDate)
	for name, ti := range r.tis() {
		r.Logf("%s %s try %d on %s\n%.3000s", name, ti.State, ti.TryNumber, ti.Hostname, r.log(name, max(1, ti.TryNumber)))
	}
	rs, err := r.s.engine.Explain(r.Context(), r.key)
	r.Logf("explain: %+v %v", rs, err)
}

// has compares an XCom.
func (r *oneRun) has(name, want string) *oneRun {
	r.Helper()
	if got := r.xcom(name); got != want {
		r.Errorf("XCom of %s of %s: %.200s, want %s\n%.1500s", name, r.key, got, want, r.log(name, 1))
	}
	return r
}

// logs demands texts in the log of a try, which CloudWatch may take a moment to show.
func (r *oneRun) logs(name string, try int, want ...string) *oneRun {
	r.Helper()
	var l string
	for _, w := range want {
		for end := time.Now().Add(time.Minute); ; time.Sleep(300 * time.Millisecond) {
			if l = r.log(name, try); strings.Contains(l, w) {
				break
			}
			if time.Now().After(end) {
				r.Errorf("log of %s of %s, try %d, has no %q:\n%.3000s", name, r.key, try, w, l)
				break
			}
		}
	}
	return r
}

// pick selects tasks for clear and mark.
func pick(tasks ...airflow.TaskID) scheduler.Selection {
	var s scheduler.Selection
	for _, t := range tasks {
		s.Tasks = append(s.Tasks, scheduler.TaskSelection{TaskID: t})
	}
	return s
}

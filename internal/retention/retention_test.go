package retention_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/retention"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/tasklog"
)

var now = time.Date(2026, 6, 30, 12, 0, 0, 0, time.UTC)

func daysAgo(n int) time.Time { return now.AddDate(0, 0, -n) }

// run is a run that began n days ago and took an hour.
func run(id string, n int, state airflow.DagRunState, kind airflow.DagRunType) airflow.DagRun {
	r := airflow.DagRun{DagID: "d", RunID: airflow.RunID(id), RunType: kind, State: state, RunAfter: daysAgo(n), DagHash: "used", BundleHash: ""}
	if state.Finished() {
		end := r.RunAfter.Add(time.Hour)
		r.StartDate, r.EndDate = &r.RunAfter, &end
	}
	return r
}

func ids(rs []airflow.DagRun) string {
	var out []string
	for _, r := range rs {
		out = append(out, string(r.RunID))
	}
	return strings.Join(out, " ")
}

func TestPlanRuns(t *testing.T) {
	runs := []airflow.DagRun{
		run("old", 90, airflow.RunSuccess, airflow.RunTypeScheduled),
		run("newest", 80, airflow.RunFailed, airflow.RunTypeScheduled),
		run("manual", 70, airflow.RunFailed, airflow.RunTypeManual),
		run("running", 65, airflow.RunRunning, airflow.RunTypeManual),
		run("tasks", 50, airflow.RunSuccess, airflow.RunTypeManual),
		run("xcoms", 20, airflow.RunSuccess, airflow.RunTypeManual),
		run("young", 1, airflow.RunSuccess, airflow.RunTypeManual),
	}
	p := retention.PlanRuns(runs, "newest", retention.Cutoffs{Runs: daysAgo(60), Tasks: daysAgo(30), XComs: daysAgo(10)})
	if got := ids(p.Remove); got != "old manual" {
		t.Errorf("removed: %s", got)
	}
	if got := ids(p.Tasks); got != "newest tasks" {
		t.Errorf("without task instances: %s", got)
	}
	if got := ids(p.XComs); got != "xcoms" {
		t.Errorf("without XComs: %s", got)
	}
	if p := retention.PlanRuns(runs, "", retention.Cutoffs{}); len(p.Remove)+len(p.Tasks)+len(p.XComs) != 0 {
		t.Errorf("without dates: %+v", p)
	}
	// A run that ended exactly at the date is not older than it.
	if p := retention.PlanRuns(runs[:1], "", retention.Cutoffs{Runs: *runs[0].EndDate}); len(p.Remove) != 0 {
		t.Errorf("at the date: %s", ids(p.Remove))
	}
}

func TestPolicy(t *testing.T) {
	p := retention.Policy{Default: retention.Days{DagRuns: 30}, PerDag: map[airflow.DagID]retention.Days{"kept": {}, "short": {Logs: 2}}}
	for _, c := range []struct {
		table retention.Table
		dag   airflow.DagID
		want  time.Time
	}{
		{retention.DagRun, "d", daysAgo(30)}, {retention.TaskLog, "d", time.Time{}}, {retention.DagRun, "kept", time.Time{}},
		{retention.TaskLog, "short", daysAgo(2)}, {retention.Log, "d", time.Time{}},
	} {
		if got := p.Before(c.table, c.dag, now); !got.Equal(c.want) {
			t.Errorf("%s of %s: %s, want %s", c.table, c.dag, got, c.want)
		}
	}
	if p.Off() || !(retention.Policy{PerDag: map[airflow.DagID]retention.Days{"a": {}}}).Off() {
		t.Error("Off")
	}
}

func TestPlanDocuments(t *testing.T) {
	seen := map[string]retention.Garbage{"old": {1, daysAgo(1)}, "again": {1, daysAgo(1)}, "recent": {1, now.Add(-time.Minute)}, "referred": {1, daysAgo(1)}}
	remove, remember := retention.PlanDocuments(map[string]int64{"old": 1, "again": 2, "recent": 1, "new": 1}, seen, now, time.Hour)
	if !slices.Equal(remove, []string{"old"}) {
		t.Errorf("removed %v", remove)
	}
	if len(remember) != 3 || !remember["again"].Since.Equal(now) || !remember["recent"].Since.Equal(now.Add(-time.Minute)) || !remember["new"].Since.Equal(now) {
		t.Errorf("remembered %v", remember)
	}
}

// engine stands for the engine: every run has the one task t.
type engine struct {
	s    *store.Store
	fail error
	only airflow.RunID // fails for this run only; "" = for all
}

func (e engine) TaskInstances(_ context.Context, k store.RunKey) ([]airflow.TaskInstance, error) {
	start := now
	return []airflow.TaskInstance{{TaskInstanceKey: airflow.TaskInstanceKey{DagID: k.DagID, RunID: k.RunID, TaskID: "t", MapIndex: -1}, StartDate: &start}}, nil
}

func (e engine) DeleteRun(ctx context.Context, k store.RunKey) error {
	if e.fail != nil && (e.only == "" || e.only == k.RunID) {
		return e.fail
	}
	r, err := e.s.GetRun(ctx, k)
	if err != nil {
		return err
	}
	if err := e.s.DeleteTaskInstance(ctx, airflow.TaskInstanceKey{DagID: k.DagID, RunID: k.RunID, TaskID: "t", MapIndex: -1}); err != nil {
		return err
	}
	return e.s.DeleteRun(ctx, r)
}

type home struct {
	t     *testing.T
	dir   string
	s     *store.Store
	c     *retention.Cleaner
	clock time.Time
}

func newHome(t *testing.T, runs ...airflow.DagRun) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), s: store.New(memkv.New(memkv.Options{}), nil), clock: now}
	h.c = &retention.Cleaner{Store: h.s, Runs: engine{s: h.s}, Logs: tasklog.New(filepath.Join(h.dir, "logs"), tasklog.Options{}),
		State: retention.StateFile(filepath.Join(h.dir, "retention.json")), Now: func() time.Time { return h.clock }}
	ctx := t.Context()
	h.must(h.s.CreateDag(ctx, airflow.DagModel{DagID: "d", LatestHash: "latest"}))
	h.must(h.s.PutDagVersion(ctx, airflow.DagVersion{DagID: "d", Number: 1, Hash: "version"}))
	for _, r := range runs {
		h.must(h.s.CreateRun(ctx, r))
		k := airflow.TaskInstanceKey{DagID: r.DagID, RunID: r.RunID, TaskID: "t", MapIndex: -1}
		doc := store.AttemptDoc{}
		h.must(h.s.Claim(ctx, k, 1, 1, "me", r.RunAfter, doc))
		if r.State.Finished() {
			doc.XComs = map[string]json.RawMessage{"return_value": json.RawMessage(`1`)}
			h.must(h.s.PutXCom(ctx, k, 1, "large", json.RawMessage(`"x"`), r.RunAfter))
			h.must(h.s.Finish(ctx, k, 1, "me", doc))
		}
		h.must(h.c.Logs.Append(k, 1, "info", "x", "y"))
		h.must(os.Chtimes(h.c.Logs.Path(k, 1), r.RunAfter, r.RunAfter))
	}
	return h
}

func (h *home) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) clean(q retention.Request) map[retention.Table]retention.Result {
	h.t.Helper()
	rs, err := h.c.Clean(h.t.Context(), q)
	h.must(err)
	out := map[retention.Table]retention.Result{}
	for _, r := range rs {
		out[r.Table] = r
	}
	return out
}

func (h *home) runs() string {
	h.t.Helper()
	rs, _, err := h.s.ListRuns(h.t.Context(), "d", store.ListOptions{})
	h.must(err)
	return ids(rs)
}

func (h *home) xcoms(id airflow.RunID) int {
	h.t.Helper()
	xs, err := h.s.ListXComs(h.t.Context(), airflow.TaskInstanceKey{DagID: "d", RunID: id, TaskID: "t", MapIndex: -1})
	h.must(err)
	return len(xs)
}

// before is a request for everything older than a date.
func before(at time.Time) retention.Request {
	return retention.Request{Before: func(retention.Table, airflow.DagID) time.Time { return at }, BatchSize: 2}
}

func TestCleanRuns(t *testing.T) {
	h := newHome(t,
		run("a", 90, airflow.RunSuccess, airflow.RunTypeScheduled), run("b", 85, airflow.RunFailed, airflow.RunTypeManual), run("c", 84, airflow.RunSuccess, airflow.RunTypeManual),
		run("running", 83, airflow.RunRunning, airflow.RunTypeManual), run("newest", 80, airflow.RunSuccess, airflow.RunTypeScheduled), run("young", 1, airflow.RunSuccess, airflow.RunTypeManual))
	q := before(daysAgo(30))
	q.DryRun = true
	dry := h.clean(q)
	if h.runs() != "a b c running newest young" || h.xcoms("a") != 2 {
		t.Fatalf("a dry run removed: %s", h.runs())
	}
	q.DryRun, q.Archive = false, filepath.Join(h.dir, "archive")
	got := h.clean(q)
	if h.runs() != "running newest young" {
		t.Errorf("left: %s", h.runs())
	}
	for table, want := range map[retention.Table]int{retention.DagRun: 3, retention.TaskInstance: 4, retention.XCom: 8, retention.TaskLog: 4} {
		if got[table].Rows != want || dry[table].Rows != want {
			t.Errorf("%s: %d, in the dry run %d, want %d", table, got[table].Rows, dry[table].Rows, want)
		}
	}
	// The newest run stays without its task instances; the young and the running one are whole.
	if h.xcoms("newest") != 0 || h.xcoms("young") != 2 {
		t.Errorf("XComs: newest %d, young %d", h.xcoms("newest"), h.xcoms("young"))
	}
	for id, want := range map[string]bool{"a": false, "newest": false, "running": true, "young": true} {
		_, err := os.Stat(h.c.Logs.Path(airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(id), TaskID: "t", MapIndex: -1}, 1))
		if (err == nil) != want {
			t.Errorf("log of %s is there: %v", id, err == nil)
		}
	}
	b, err := os.ReadFile(got[retention.DagRun].Archive)
	h.must(err)
	if lines := strings.Split(strings.TrimSpace(string(b)), "\n"); len(lines) != 3 || !strings.Contains(lines[0], `"dag_run_id":"a"`) {
		t.Errorf("archive: %s", b)
	}
	as, err := retention.ListArchives(q.Archive)
	if err != nil || len(as) != 3 {
		t.Errorf("archives: %v %v", as, err)
	}
	if again := h.clean(q); again[retention.DagRun].Rows != 0 {
		t.Errorf("again: %+v", again)
	}
}

func TestCleanXComsOfNewRunsOnlyOnce(t *testing.T) {
	h := newHome(t, run("a", 90, airflow.RunSuccess, airflow.RunTypeManual), run("b", 20, airflow.RunSuccess, airflow.RunTypeManual))
	p := retention.Policy{Default: retention.Days{XComs: 30}}
	q := retention.Request{Tables: []retention.Table{retention.XCom}, Before: func(tb retention.Table, d airflow.DagID) time.Time { return p.Before(tb, d, h.clock) }}
	if got := h.clean(q)[retention.XCom].Rows; got != 2 || h.xcoms("a") != 0 || h.xcoms("b") != 2 || h.runs() != "a b" {
		t.Errorf("first: %d, a %d, b %d", got, h.xcoms("a"), h.xcoms("b"))
	}
	h.clock = h.clock.AddDate(0, 0, 15)
	if got := h.clean(q)[retention.XCom].Rows; got != 2 || h.xcoms("b") != 0 {
		t.Errorf("later: %d, b %d", got, h.xcoms("b"))
	}
}

func TestNothingIsRemovedThatCannotBeArchived(t *testing.T) {
	h := newHome(t, run("a", 90, airflow.RunSuccess, airflow.RunTypeManual))
	q := before(daysAgo(30))
	q.Archive = filepath.Join(h.dir, "file")
	h.must(os.WriteFile(q.Archive, nil, 0o600))
	if _, err := h.c.Clean(t.Context(), q); err == nil || !strings.Contains(err.Error(), "nothing more is removed") {
		t.Errorf("error: %v", err)
	}
	if h.runs() != "a" || h.xcoms("a") != 2 {
		t.Errorf("left: %q", h.runs())
	}
}

func TestCleanStopsAndGoesOn(t *testing.T) {
	h := newHome(t, run("a", 90, airflow.RunSuccess, airflow.RunTypeManual))
	h.c.Runs = engine{s: h.s, fail: errors.New("no store")}
	if _, err := h.c.Clean(t.Context(), before(daysAgo(30))); err == nil {
		t.Error("an error was lost")
	}
	h.c.Runs = engine{s: h.s}
	h.clean(before(daysAgo(30)))
	if h.runs() != "" {
		t.Errorf("left: %s", h.runs())
	}
}

// TestCleanGoesOnPastRunsThatMayNotGo: an instance may outlive its run.
func TestCleanGoesOnPastRunsThatMayNotGo(t *testing.T) {
	h := newHome(t, run("a", 90, airflow.RunSuccess, airflow.RunTypeManual), run("b", 89, airflow.RunSuccess, airflow.RunTypeManual))
	h.c.Runs = engine{s: h.s, fail: airflow.ErrNotAllowed, only: "a"}
	h.clean(before(daysAgo(30)))
	if h.runs() != "a" {
		t.Errorf("left: %s", h.runs())
	}
	h.c.Runs = engine{s: h.s}
	h.clean(before(daysAgo(30)))
	if h.runs() != "" {
		t.Errorf("left: %s", h.runs())
	}
}

func TestCleanOnlySomeDags(t *testing.T) {
	h := newHome(t, run("a", 90, airflow.RunSuccess, airflow.RunTypeManual))
	q := before(daysAgo(30))
	q.Dags = []airflow.DagID{"other"}
	h.clean(q)
	q.Dags, q.Except = nil, []airflow.DagID{"d"}
	h.clean(q)
	if h.runs() != "a" || h.xcoms("a") != 2 {
		t.Errorf("another DAG's data were removed: %q", h.runs())
	}
	q.Except = nil
	q.Tables = []retention.Table{retention.TaskLog}
	if got := h.clean(q); got[retention.TaskLog].Rows != 1 || h.runs() != "a" || len(got) != 1 {
		t.Errorf("only logs: %+v", got)
	}
}

func TestCleanEvents(t *testing.T) {
	h := newHome(t)
	ctx := t.Context()
	event := func(id, asset string, n int) airflow.AssetEvent {
		return airflow.AssetEvent{ID: id, AssetName: asset, AssetURI: asset, Timestamp: daysAgo(n)}
	}
	record := func(e airflow.AssetEvent, q ...store.QueuedAsset) {
		_, err := h.s.RecordAssetEvent(ctx, e, q)
		h.must(err)
	}
	record(event("gone", "a", 90))
	record(event("before", "b", 90))
	record(event("waits", "b", 80), store.QueuedAsset{DagID: "d", AssetName: "b", AssetURI: "b", CreatedAt: daysAgo(80), EventID: "waits"})
	record(event("consumed", "a", 70))
	record(event("young", "a", 1))
	r := run("running", 60, airflow.RunRunning, airflow.RunTypeAssetTriggered)
	r.ConsumedAssetEvents = []string{"consumed"}
	h.must(h.s.CreateRun(ctx, r))
	for i, n := range []int{90, 1} {
		h.must(h.s.PutAudit(ctx, store.AuditEvent{ID: fmt.Sprint(i), When: daysAgo(n), Event: "x"}))
	}
	got := h.clean(before(daysAgo(30)))
	if got[retention.AssetEvent].Rows != 2 || got[retention.Log].Rows != 1 {
		t.Errorf("removed: %+v", got)
	}
	es, _, err := h.s.ListAllAssetEvents(ctx, store.ListOptions{})
	h.must(err)
	var left []string
	for _, e := range es {
		left = append(left, e.ID)
	}
	if !slices.Equal(left, []string{"waits", "consumed", "young"}) {
		t.Errorf("left: %v", left)
	}
	if as, _, err := h.s.ListAudit(ctx, store.ListOptions{}); err != nil || len(as) != 1 {
		t.Errorf("audit: %v %v", as, err)
	}
}

func TestCleanDocuments(t *testing.T) {
	h := newHome(t, run("a", 1, airflow.RunSuccess, airflow.RunTypeManual))
	ctx := t.Context()
	for _, hash := range []string{"latest", "version", "used", "overwritten", "reverted"} {
		h.must(h.s.PutDocument(ctx, hash, []byte(hash)))
	}
	q := before(daysAgo(300))
	if got := h.clean(q)[retention.DagVersion].Rows; got != 0 {
		t.Errorf("removed at first sight: %d", got)
	}
	h.clock = h.clock.Add(2 * time.Hour)
	// The DAG processor is about to refer to it again.
	h.must(h.s.PutDocument(ctx, "reverted", []byte("reverted")))
	if got := h.clean(q)[retention.DagVersion].Rows; got != 1 {
		t.Errorf("removed after the grace: %d", got)
	}
	left, err := h.s.ListDocuments(ctx)
	if err != nil || !slices.Equal(left, []string{"latest", "reverted", "used", "version"}) {
		t.Errorf("left: %v %v", left, err)
	}
}

// counting is an engine that counts the runs it is asked about, and ends ctx at one.
type counting struct {
	retention.Runs
	asked []string
	at    string
	end   context.CancelFunc
}

func (c *counting) TaskInstances(ctx context.Context, k store.RunKey) ([]airflow.TaskInstance, error) {
	if string(k.RunID) == c.at {
		c.end()
		return nil, ctx.Err()
	}
	c.asked = append(c.asked, string(k.RunID))
	return c.Runs.TaskInstances(ctx, k)
}

// TestResume: a request with Resume begins where the last one's time was over, so
// that many short ones get to the end.
func TestResume(t *testing.T) {
	h := newHome(t)
	for i, id := range []string{"a", "b", "c", "d", "e"} {
		r := run(id, 90-i, airflow.RunSuccess, airflow.RunTypeManual)
		h.must(h.s.CreateRun(t.Context(), r))
		k := airflow.TaskInstanceKey{DagID: "d", RunID: r.RunID, TaskID: "t", MapIndex: -1}
		h.must(h.s.Claim(t.Context(), k, 1, 1, "me", r.RunAfter, store.AttemptDoc{}))
		h.must(h.s.Finish(t.Context(), k, 1, "me", store.AttemptDoc{XComs: map[string]json.RawMessage{"return_value": json.RawMessage(`1`)}}))
	}
	h.must(h.s.CreateDag(t.Context(), airflow.DagModel{DagID: "z"}))
	q := before(daysAgo(30))
	q.Tables, q.Resume = []retention.Table{retention.XCom}, true
	ctx, end := context.WithCancel(t.Context())
	c := &counting{Runs: h.c.Runs, at: "d", end: end}
	h.c.Runs = c
	if _, err := h.c.Clean(ctx, q); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	c.at = ""
	// A request of another kind begins at the beginning and leaves the place alone.
	other := before(daysAgo(30))
	other.DryRun = true
	c.asked = nil
	h.clean(other)
	if got := strings.Join(c.asked, " "); got != "a b c d e" {
		t.Errorf("a dry run looked at %s", got)
	}
	c.asked = nil
	h.clean(q)
	if got := strings.Join(c.asked, " "); got != "c d e" {
		t.Errorf("went on with %s, want the page that was not done: c d e", got)
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		if n := h.xcoms(airflow.RunID(id)); n != 0 {
			t.Errorf("%s has %d XComs", id, n)
		}
	}
	// Done: the next one begins at the beginning, and knows what needs no second look.
	c.asked = nil
	r := run("0", 95, airflow.RunSuccess, airflow.RunTypeManual)
	late := daysAgo(20) // it was cleared and ended again
	r.EndDate = &late
	h.must(h.s.CreateRun(t.Context(), r))
	q.Before = before(daysAgo(10)).Before
	h.clean(q)
	if got := strings.Join(c.asked, " "); got != "0" {
		t.Errorf("the next request looked at %s, want 0", got)
	}
}

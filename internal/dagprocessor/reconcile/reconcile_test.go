package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/fileblob"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagbucket/buckettest"
	"github.com/gustflow/gust/internal/dagparser"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/reconcile"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// cloud is a bucket, a store and what invocations share.
type cloud struct {
	t      *testing.T
	bucket *buckettest.Bucket
	store  *store.Store
	blobs  blob.Store
	cache  buckettest.Object
	mark   buckettest.Object
	parser *dagparser.Parser
	vars   map[string]string

	mu     sync.Mutex
	now    time.Time
	told   map[airflow.DagID]int
	later  []time.Duration
	tell   error
	during func() // runs in the middle of a parse
	parsed []string
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{t: t, bucket: buckettest.New("b"), store: store.New(memkv.New(memkv.Options{}), nil), vars: map[string]string{}, now: time.Now(), told: map[airflow.DagID]int{}}
	var err error
	if c.blobs, err = fileblob.Open(t.TempDir(), fileblob.Options{}); err != nil {
		t.Fatal(err)
	}
	c.parser = dagparser.NewParser(dagparser.ParserOptions{Open: func(string) dagbucket.Bucket { return c.bucket }, Version: "1", Dir: filepath.Join(t.TempDir(), "p"), Python: "-"})
	return c
}

func (c *cloud) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var req dagparser.Request
	if err := dagparser.Unpack(payload, &req); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.parsed = append(c.parsed, req.Parse...)
	during := c.during
	c.during = nil
	c.mu.Unlock()
	if during != nil {
		during()
	}
	return c.parser.Handle(ctx, payload)
}

func (c *cloud) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// cold returns a reconciler as a new execution environment has it.
func (c *cloud) cold(change ...func(*reconcile.Config)) *reconcile.Reconciler {
	c.t.Helper()
	bundles, err := bundle.New(c.blobs, c.t.TempDir(), bundle.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	folder := dagbucket.NewFolder(c.bucket, "dags")
	cfg := reconcile.Config{
		Folder: folder, Store: c.store, Bundles: bundles, Cache: &buckettest.State{Object: &c.cache}, Mark: &buckettest.State{Object: &c.mark},
		Loader: dagparser.NewClient(dagparser.ClientConfig{Invoker: c, Folder: folder, Bucket: "b", Version: "1", Variable: func(k string) (string, bool) { v, ok := c.vars[k]; return v, ok }}),
		Now:    c.clock,
		Tell: func(_ context.Context, ids []airflow.DagID) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.tell != nil {
				return c.tell
			}
			for _, id := range ids {
				c.told[id]++
			}
			return nil
		},
		Later: func(_ context.Context, d time.Duration) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.later = append(c.later, d)
			return nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	return reconcile.New(cfg)
}

var clockCause = reconcile.Cause{Clock: true}

func (c *cloud) handle(r *reconcile.Reconciler, cause reconcile.Cause) dagprocessor.Summary {
	c.t.Helper()
	sum, err := r.Handle(context.Background(), cause)
	if err != nil {
		c.t.Fatalf("Handle: %v", err)
	}
	return sum
}

func (c *cloud) event(body string) reconcile.Cause {
	c.t.Helper()
	cause, err := reconcile.ParseCause([]byte(body))
	if err != nil {
		c.t.Fatal(err)
	}
	return cause
}

func (c *cloud) wantParsed(want ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.parsed)
	if !slices.Equal(c.parsed, want) {
		c.t.Errorf("parsed %v, want %v", c.parsed, want)
	}
	c.parsed = nil
}

func (c *cloud) dag(id airflow.DagID) airflow.DagModel {
	c.t.Helper()
	m, err := c.store.GetDag(context.Background(), id)
	if err != nil {
		c.t.Fatalf("DAG %s: %v", id, err)
	}
	return m
}

// content returns a file of a DAG's bundle snapshot.
func (c *cloud) content(id airflow.DagID, name string) string {
	c.t.Helper()
	bundles, err := bundle.New(c.blobs, c.t.TempDir(), bundle.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := bundles.Manifest(context.Background(), c.dag(id).BundleHash)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range m.Files {
		if f.Path == name {
			r, err := c.blobs.Get(context.Background(), f.SHA256)
			if err != nil {
				c.t.Fatal(err)
			}
			defer r.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				c.t.Fatal(err)
			}
			return f.Mode + " " + string(b)
		}
	}
	c.t.Fatalf("the snapshot of %s lacks %s: %v", id, name, m.Files)
	return ""
}

func yml(id string, extra ...string) string {
	return id + ":\n  default_args: {start_date: 2024-01-01, owner: o}\n  schedule: '@daily'\n" + strings.Join(extra, "") + "  tasks:\n  - task_id: a\n    operator: airflow.providers.standard.operators.bash.BashOperator\n    bash_command: scripts/run.sh\n"
}

// TestFirstAndWarm: a bucket is registered, the scheduler told, and nothing is done
// again when nothing has changed, warm or cold.
func TestFirstAndWarm(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.bucket.Put("dags/scripts/run.sh", "#!/bin/sh", "echo hi")
	ev := c.event(c.bucket.Put("dags/team x/b.yml", yml("b")))
	r := c.cold()
	sum := c.handle(r, ev)
	if sum.Dags != 2 || len(sum.Changed) != 2 || c.told["a"] != 1 || c.told["b"] != 1 {
		t.Fatalf("first: %+v, told %v", sum, c.told)
	}
	c.wantParsed("a.yml", "team x/b.yml")
	if m := c.dag("b"); m.Fileloc != "s3://b/dags/team x/b.yml" || m.RelativeFileloc != "team x/b.yml" {
		t.Errorf("file of b: %q %q", m.Fileloc, m.RelativeFileloc)
	}
	if got := c.content("a", "scripts/run.sh"); got != "0755 #!/bin/sh\necho hi" {
		t.Errorf("script in the snapshot: %q", got)
	}
	// The same event once more: the warm process knows, without a listing.
	c.bucket.Counts()
	c.handle(r, ev)
	if lists, gets := c.bucket.Counts(); lists != 0 || len(gets) != 0 {
		t.Errorf("a repeated event: %d listings, read %v", lists, gets)
	}
	// By the clock, warm and cold: one listing and no file.
	for _, r := range []*reconcile.Reconciler{r, c.cold()} {
		c.handle(r, clockCause)
		if lists, gets := c.bucket.Counts(); lists != 1 || len(gets) != 0 {
			t.Errorf("nothing changed: %d listings, read %v", lists, gets)
		}
	}
	// A cold one that must scan reads the cache and no file.
	c.handle(c.cold(), ev)
	if lists, gets := c.bucket.Counts(); lists != 1 || len(gets) != 0 {
		t.Errorf("cold scan: %d listings, read %v", lists, gets)
	}
	c.wantParsed()
	if c.told["a"] != 1 {
		t.Errorf("told %v", c.told)
	}
}

// TestLateEvents: an event that comes late says nothing that the listing does not.
func TestLateEvents(t *testing.T) {
	c := newCloud(t)
	first := c.event(c.bucket.Put("dags/a.yml", yml("old")))
	second := c.event(c.bucket.Put("dags/a.yml", yml("new")))
	gone := c.event(c.bucket.Put("dags/b.yml", yml("b")))
	removed := c.event(c.bucket.Delete("dags/b.yml"))
	r := c.cold()
	for _, ev := range []reconcile.Cause{removed, second, first, gone, first, removed} {
		c.handle(r, ev)
		if _, err := c.store.GetDag(context.Background(), "old"); !errors.Is(err, airflow.ErrNotFound) {
			t.Fatalf("the replaced file was registered: %v", err)
		}
	}
	c.dag("new")
	if _, err := c.store.GetDag(context.Background(), "b"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("the removed file was registered: %v", err)
	}
	// An event of the past that a warm process has not listed makes it look, not act.
	c.handle(c.cold(), first)
	if m := c.dag("new"); m.IsStale {
		t.Error("the DAG became stale by a late event")
	}
	for _, body := range []string{`{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}`} {
		if cause := c.event(body); len(cause.Events) != 0 {
			t.Errorf("%s: %+v", body, cause)
		}
	}
	if cause := c.event(`{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"dags/a+b%2Bc.yml"}}}]}`); cause.Events[0].Key != "dags/a b+c.yml" {
		t.Errorf("key %q", cause.Events[0].Key)
	}
}

// TestLostEvent: a change that no event told is found by the clock.
func TestLostEvent(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.handle(c.cold(), clockCause)
	c.bucket.Put("dags/a.yml", yml("a", "  description: changed\n"))
	c.handle(c.cold(), clockCause)
	if m := c.dag("a"); m.Description != "changed" || c.told["a"] != 2 {
		t.Errorf("description %q, told %v", m.Description, c.told)
	}
}

// TestRemoved: a file that is gone leaves its DAG alone for a while, over
// invocations that know nothing of each other.
func TestRemoved(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.bucket.Put("dags/keep.yml", yml("keep"))
	c.handle(c.cold(), clockCause)
	c.handle(c.cold(), c.event(c.bucket.Delete("dags/a.yml")))
	if c.dag("a").IsStale || len(c.later) != 1 || c.later[0] < 40*time.Second || c.later[0] > time.Minute {
		t.Fatalf("stale %v at once; later %v", c.dag("a").IsStale, c.later)
	}
	c.now = c.now.Add(30 * time.Second)
	c.handle(c.cold(), clockCause)
	if c.dag("a").IsStale {
		t.Fatal("stale too soon")
	}
	c.now = c.now.Add(25 * time.Second)
	c.handle(c.cold(), clockCause)
	if !c.dag("a").IsStale || c.told["a"] != 2 {
		t.Fatalf("not stale after the time; told %v", c.told)
	}
	// Back again, and moved.
	c.handle(c.cold(), c.event(c.bucket.Put("dags/moved/a.yml", yml("a"))))
	if m := c.dag("a"); m.IsStale || m.RelativeFileloc != "moved/a.yml" {
		t.Errorf("back: %+v", m)
	}
}

// TestOwned: a dag_id of another file is refused until that file is gone.
func TestOwned(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.handle(c.cold(), clockCause)
	c.handle(c.cold(), c.event(c.bucket.Put("dags/0thief.yml", yml("a", "  description: stolen\n"))))
	if m := c.dag("a"); m.RelativeFileloc != "a.yml" || m.Description == "stolen" {
		t.Fatalf("the DAG was taken over: %+v", m)
	}
	es, err := c.store.ListImportErrors(context.Background())
	if err != nil || len(es) != 1 || es[0].Filename != "0thief.yml" || !strings.Contains(fmt.Sprint(es[0].Problems), "already defined in a.yml") {
		t.Fatalf("import errors %v, %v", es, err)
	}
	c.bucket.Delete("dags/a.yml")
	c.handle(c.cold(), clockCause)
	c.now = c.now.Add(time.Minute)
	c.handle(c.cold(), clockCause)
	if m := c.dag("a"); m.IsStale || m.RelativeFileloc != "0thief.yml" {
		t.Errorf("the DAG was not given over: %+v", m)
	}
	if es, _ := c.store.ListImportErrors(context.Background()); len(es) != 0 {
		t.Errorf("import errors %v", es)
	}
}

// TestTellingFails: what was registered and not told is told later, also by another
// process.
func TestTellingFails(t *testing.T) {
	for _, warm := range []bool{true, false} {
		c := newCloud(t)
		c.bucket.Put("dags/a.yml", yml("a"))
		c.tell = errors.New("queue away")
		r := c.cold()
		if _, err := r.Handle(context.Background(), clockCause); err == nil {
			t.Fatal("the failure is not reported")
		}
		c.dag("a") // it is registered
		c.tell = nil
		if !warm {
			r = c.cold()
		}
		c.handle(r, clockCause)
		if c.told["a"] == 0 {
			t.Errorf("warm %v: never told", warm)
		}
	}
}

// TestCrashAfterRegistering: the process dies before it told and wrote its cache.
func TestCrashAfterRegistering(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.bucket.Put("dags/b.yml", yml("b"))
	c.handle(c.cold(), clockCause)
	c.bucket.Put("dags/a.yml", yml("a", "  description: new\n"))
	c.bucket.Delete("dags/b.yml")
	c.now = c.now.Add(time.Minute)
	dying := c.cold(func(cfg *reconcile.Config) {
		cfg.StaleThreshold = -1
		cfg.Tell = func(context.Context, []airflow.DagID) error { return errors.New("killed") }
	})
	if _, err := dying.Handle(context.Background(), clockCause); err == nil {
		t.Fatal("want the error")
	}
	if !c.dag("b").IsStale || c.dag("a").Description != "new" {
		t.Fatal("the test's process did not register anything")
	}
	c.handle(c.cold(func(cfg *reconcile.Config) { cfg.StaleThreshold = -1 }), clockCause)
	if c.told["a"] != 2 || c.told["b"] != 2 {
		t.Errorf("told %v: want a and b twice", c.told)
	}
}

// TestTwoAtOnce: an invocation with an older listing that ends last does no lasting
// harm.
func TestTwoAtOnce(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.handle(c.cold(), clockCause)
	c.bucket.Put("dags/a.yml", yml("a", "  description: one\n"))
	c.during = func() { // while the first has listed and parses
		c.bucket.Put("dags/a.yml", yml("a", "  description: two\n"))
		c.bucket.Put("dags/b.yml", yml("b"))
		c.handle(c.cold(), clockCause)
		if c.dag("a").Description != "two" {
			t.Error("the second did not register")
		}
	}
	slow := c.cold()
	c.handle(slow, clockCause)
	if len(c.later) != 1 || c.later[0] != 0 {
		t.Fatalf("the first does not ask for another look: %v", c.later)
	}
	c.handle(slow, clockCause)
	if m := c.dag("a"); m.Description != "two" || c.dag("b").IsStale {
		t.Errorf("after the next look: %+v", m)
	}
	c.handle(c.cold(), clockCause)
	if m := c.dag("a"); m.Description != "two" {
		t.Errorf("at the end: %+v", m)
	}
}

// TestChangedWhileRead: a version that vanishes between listing and reading makes
// the bucket be listed again.
func TestChangedWhileRead(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	once := true
	c.bucket.Fail = func(op, key string) error {
		if op == "get" && once {
			once = false
			return fmt.Errorf("%s: %w", key, dagprocessor.ErrChanging)
		}
		return nil
	}
	r := c.cold()
	c.handle(r, clockCause)
	if len(c.later) != 1 || c.later[0] != 0 {
		t.Fatalf("later %v", c.later)
	}
	c.handle(r, clockCause)
	c.dag("a")
}

// TestBucketAway: what cannot be listed or read changes nothing.
func TestBucketAway(t *testing.T) {
	c := newCloud(t)
	c.bucket.Put("dags/a.yml", yml("a"))
	c.handle(c.cold(), clockCause)
	c.bucket.Put("dags/b.yml", yml("b"))
	for _, what := range []string{"list", "get"} {
		c.bucket.Fail = func(op, _ string) error {
			if op == what {
				return airflow.ErrThrottled
			}
			return nil
		}
		c.now = c.now.Add(time.Hour)
		if _, err := c.cold().Handle(context.Background(), clockCause); !errors.Is(err, airflow.ErrThrottled) {
			t.Errorf("%s fails: got %v", what, err)
		}
		if c.dag("a").IsStale {
			t.Fatal("stale although the bucket could not be read")
		}
		if es, _ := c.store.ListImportErrors(context.Background()); len(es) != 0 {
			t.Errorf("import errors %v", es)
		}
	}
	c.bucket.Fail = nil
	c.handle(c.cold(), clockCause)
	c.dag("b")
}

// TestInputsAndMending: a changed variable, a helper that appears, a wish and the
// daily look make files be parsed although the listing says nothing.
func TestInputsAndMending(t *testing.T) {
	c := newCloud(t)
	c.vars["team"] = "blue"
	c.bucket.Put("dags/v.yml", strings.Replace(yml("v"), "    bash_command", "    variables_as_arguments:\n    - {variable: team, attribute: bash_command}\n    bash_command", 1))
	c.bucket.Put("dags/plain.yml", yml("plain"))
	c.handle(c.cold(), clockCause)
	c.parsed = nil
	c.handle(c.cold(), clockCause)
	c.wantParsed()
	hash := c.dag("v").LatestHash
	c.vars["team"] = "green"
	c.handle(c.cold(), clockCause)
	if c.dag("v").LatestHash == hash {
		t.Error("the new value of the variable is not in the DAG")
	}
	c.wantParsed("v.yml", "v.yml") // once more with the variable it asked for
	c.handle(c.cold(), reconcile.Cause{Reparse: []string{"plain.yml"}})
	c.wantParsed("plain.yml")
	c.handle(c.cold(), reconcile.Cause{All: true})
	c.wantParsed("plain.yml", "v.yml", "v.yml")
	// Somebody deleted the DAG behind our back: the daily look restores it.
	if err := c.store.DeleteDag(context.Background(), "plain"); err != nil {
		t.Fatal(err)
	}
	c.handle(c.cold(), clockCause)
	if _, err := c.store.GetDag(context.Background(), "plain"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("the mark did not save the scan: %v", err)
	}
	c.now = c.now.Add(25 * time.Hour)
	c.handle(c.cold(), clockCause)
	c.dag("plain")
}

// TestLongScanGoesOn: a scan that does not fit into an invocation is continued by
// the next ones and loses nothing.
func TestLongScanGoesOn(t *testing.T) {
	c := newCloud(t)
	const files = 700
	for i := range files {
		c.bucket.Put(fmt.Sprintf("dags/f%04d.yml", i), yml(fmt.Sprintf("d%d", i)))
	}
	for i := 0; ; i++ {
		if i == 10 {
			t.Fatal("the scan does not end")
		}
		calls := 0
		r := c.cold(func(cfg *reconcile.Config) {
			cfg.Reserve = time.Millisecond
			cfg.Loader = &slowLoader{Client: cfg.Loader.(*dagparser.Client), c: c, calls: &calls}
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		ctx = context.WithValue(ctx, cancelKey{}, cancel)
		before := len(c.later)
		sum, err := r.Handle(&deadline{Context: ctx}, clockCause)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err == nil && len(c.later) == before {
			if sum.Dags != files {
				t.Errorf("%d DAGs at the end, want %d", sum.Dags, files)
			}
			break
		}
	}
	if len(c.told) != files {
		t.Errorf("told of %d DAGs, want %d", len(c.told), files)
	}
	if n := len(c.parsed); n > files*2 {
		t.Errorf("parsed %d times for %d files: nothing was kept", n, files)
	}
}

type cancelKey struct{}

type deadline struct{ context.Context }

// slowLoader lets 30 s pass with every batch, and ends the invocation with the second.
type slowLoader struct {
	*dagparser.Client
	c     *cloud
	calls *int
}

func (s *slowLoader) LoadAll(ctx context.Context, fs []dagprocessor.LoadRequest) []dagprocessor.LoadResult {
	s.c.mu.Lock()
	s.c.now = s.c.now.Add(30 * time.Second)
	s.c.mu.Unlock()
	if *s.calls++; *s.calls == 2 {
		ctx.Value(cancelKey{}).(context.CancelFunc)()
	}
	return s.Client.LoadAll(ctx, fs)
}

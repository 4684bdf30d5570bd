// Package storetest is the conformance suite of package store: run it on every
// driver. A DynamoDB driver passes it without a change here.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// Open returns an empty driver for one subtest; it is closed by the suite.
type Open func(testing.TB) kv.Driver

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// Run runs the suite.
// The options are those of every store it makes.
func Run(t *testing.T, open Open, options ...store.Option) {
	for _, c := range []struct {
		name string
		f    func(*testing.T, *store.Store)
	}{
		{"Runs", testRuns}, {"RunState", testRunState}, {"DeleteRun", testDeleteRun}, {"WideRunState", testWideRunState}, {"ChangingWidth", testChangingWidth},
		{"Lease", testLease}, {"ChunkVersions", testChunkVersions}, {"HITL", testHITL},
		{"Claims", testClaims}, {"ClaimRace", testClaimRace}, {"Fence", testFence}, {"Tries", testTries}, {"XComs", testXComs},
		{"Dags", testDags}, {"DueDags", testDueDags}, {"Documents", testDocuments}, {"Retention", testRetention}, {"Secrets", testSecrets}, {"Pools", testPools},
		{"Backfills", testBackfills}, {"Assets", testAssets}, {"Keys", testKeys}, {"Requests", testRequests}, {"NewerFormat", testNewerFormat},
		{"Auth", testAuth}, {"SigningKeys", testSigningKeys}, {"SignInCounts", testSignInCounts},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := open(t)
			t.Cleanup(func() { _ = d.Close() })
			c.f(t, store.New(d, sealer{}, options...))
		})
	}
}

// sealer is a sealer that only checks that what it opens was sealed for the item.
type sealer struct{}

func (sealer) Seal(p, ad []byte) ([]byte, error) {
	return append(append([]byte(fmt.Sprintf("%d|", len(ad))), ad...), reverse(p)...), nil
}

func (sealer) Open(c, ad []byte) ([]byte, error) {
	prefix := append([]byte(fmt.Sprintf("%d|", len(ad))), ad...)
	if !bytes.HasPrefix(c, prefix) {
		return nil, errors.New("sealed for another item")
	}
	return reverse(c[len(prefix):]), nil
}

func reverse(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func run(dag, id string, day int) airflow.DagRun {
	ld := epoch.AddDate(0, 0, day)
	return airflow.DagRun{DagID: airflow.DagID(dag), RunID: airflow.RunID(id), State: airflow.RunQueued, LogicalDate: &ld, RunAfter: ld, RunType: airflow.RunTypeManual}
}

func key(dag, id string) store.RunKey {
	return store.RunKey{DagID: airflow.DagID(dag), RunID: airflow.RunID(id)}
}

func testRuns(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for i, id := range []string{"a", "b", "c"} {
		ok(t, s.CreateRun(ctx, run("d", id, i)))
	}
	ok(t, s.CreateRun(ctx, run("d#", "a", 0))) // a key that looks like a prefix of others
	is(t, s.CreateRun(ctx, run("d", "a", 0)), airflow.ErrAlreadyExists)
	is(t, s.CreateRun(ctx, run("d", "other", 1)), airflow.ErrAlreadyExists) // the logical date is taken
	if _, err := s.GetRun(ctx, key("d", "other")); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("a refused run is there: %v", err)
	}
	if id := must[airflow.RunID](t)(s.RunOfLogicalDate(ctx, "d", epoch.AddDate(0, 0, 2))); id != "c" {
		t.Errorf("run of the third day: %q", id)
	}
	runs, cursor, err := s.ListRuns(ctx, "d", store.ListOptions{Descending: true, Limit: 2})
	ok(t, err)
	if len(runs) != 2 || runs[0].RunID != "c" || cursor == "" {
		t.Fatalf("first page %+v, cursor %q", runs, cursor)
	}
	rest, _, err := s.ListRuns(ctx, "d", store.ListOptions{Descending: true, Cursor: cursor})
	ok(t, err)
	if len(rest) != 1 || rest[0].RunID != "a" {
		t.Fatalf("second page %+v", rest)
	}
	got, _, err := s.ListRuns(ctx, "d", store.ListOptions{From: store.RunsFrom(epoch.AddDate(0, 0, 1)), To: store.RunsUntil(epoch.AddDate(0, 0, 1))})
	ok(t, err)
	if len(got) != 1 || got[0].RunID != "b" {
		t.Errorf("runs of one day: %+v", got)
	}
	if active := must[[]airflow.DagRun](t)(s.ListActiveRuns(ctx, "d")); len(active) != 3 {
		t.Errorf("%d unfinished runs of d, want 3", len(active))
	}
	must[airflow.DagRun](t)(s.UpdateRun(ctx, key("d", "b"), func(r *airflow.DagRun) error { r.State = airflow.RunSuccess; return nil }))
	if active := must[[]airflow.DagRun](t)(s.ListActiveRuns(ctx, "")); len(active) != 3 {
		t.Errorf("%d unfinished runs, want 3", len(active))
	}
	must[airflow.DagRun](t)(s.UpdateRun(ctx, key("d", "b"), func(r *airflow.DagRun) error { r.State = airflow.RunQueued; return nil }))
	if active := must[[]airflow.DagRun](t)(s.ListActiveRuns(ctx, "d")); len(active) != 3 {
		t.Errorf("a cleared run is not listed again: %d", len(active))
	}
	ok(t, s.DeleteRun(ctx, run("d", "b", 1)))
	_, err = s.GetRun(ctx, key("d", "b"))
	is(t, err, airflow.ErrNotFound)
	ok(t, s.CreateRun(ctx, run("d", "b2", 1))) // its logical date is free again
}

// testDeleteRun: from the beginning of a deletion on nobody commits a step, those
// who know the run from before least of all; cut short, it can be repeated.
func testDeleteRun(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), key("d", "r")
	ok(t, s.CreateRun(ctx, run("d", "r", 1)))
	chunks := [][]byte{[]byte("c0")}
	v := must[int64](t)(s.CommitRunState(ctx, k, 0, []byte("head"), chunks, []int{0}))
	is(t, s.BeginDeleteRun(ctx, k, 0), airflow.ErrConflict)
	is(t, s.BeginDeleteRun(ctx, k, v+1), airflow.ErrConflict)
	ok(t, s.BeginDeleteRun(ctx, k, v))
	for _, base := range []int64{0, v} {
		_, err := s.CommitRunState(ctx, k, base, []byte("later"), chunks, []int{0})
		is(t, err, airflow.ErrConflict)
	}
	st := must[store.RunState](t)(s.LoadRunState(ctx, k))
	if !st.Deleting || string(st.Header) != "head" || len(st.Chunks) != 1 {
		t.Errorf("state of a run whose deletion was cut short: %+v", st)
	}
	ok(t, s.DeleteRun(ctx, run("d", "r", 1)))
	ok(t, s.CreateRun(ctx, run("d", "r", 1)))
	if st := must[store.RunState](t)(s.LoadRunState(ctx, k)); st.Version != 0 || st.Deleting {
		t.Errorf("a new run of the same id has a state: %+v", st)
	}
	// One that has not started yet.
	ok(t, s.BeginDeleteRun(ctx, k, 0))
	_, err := s.CommitRunState(ctx, k, 0, []byte("start"), chunks, []int{0})
	is(t, err, airflow.ErrConflict)
	if st := must[store.RunState](t)(s.LoadRunState(ctx, k)); !st.Deleting || st.Header != nil {
		t.Errorf("state of a run that never started: %+v", st)
	}
	ok(t, s.DeleteRun(ctx, run("d", "r", 1)))
	_, err = s.GetRun(ctx, k)
	is(t, err, airflow.ErrNotFound)
}

func testRunState(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), key("d", "r")
	if st := must[store.RunState](t)(s.LoadRunState(ctx, k)); st.Version != 0 {
		t.Fatalf("state of a run without one: %+v", st)
	}
	header, chunks := []byte("head"), [][]byte{[]byte("c0"), {}}
	v := must[int64](t)(s.CommitRunState(ctx, k, 0, header, chunks, []int{0, 1}))
	if again := must[int64](t)(s.CommitRunState(ctx, k, 0, header, chunks, []int{0, 1})); again != v {
		t.Errorf("a repeated commit gave version %d, want %d", again, v)
	}
	_, err := s.CommitRunState(ctx, k, 0, []byte("other"), chunks, []int{0, 1})
	is(t, err, airflow.ErrConflict)
	v = must[int64](t)(s.CommitRunState(ctx, k, v, []byte("head2"), chunks, nil))
	st := must[store.RunState](t)(s.LoadRunState(ctx, k))
	if st.Version != v || string(st.Header) != "head2" || len(st.Chunks) != 2 || string(st.Chunks[0]) != "c0" || len(st.Chunks[1]) != 0 {
		t.Errorf("loaded %+v at %d", st, v)
	}
	_, err = s.CommitRunState(ctx, k, v-1, []byte("late"), chunks, nil)
	is(t, err, airflow.ErrConflict)
}

func testWideRunState(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), key("d", "r")
	for _, n := range []int{40, 250} { // one transaction, several
		k.RunID = airflow.RunID(fmt.Sprint("wide", n))
		chunks := make([][]byte, n)
		var all []int
		for i := range chunks {
			chunks[i] = bytes.Repeat([]byte{byte(i)}, 700)
			all = append(all, i)
		}
		v := must[int64](t)(s.CommitRunState(ctx, k, 0, []byte("h"), chunks, all))
		chunks[7] = []byte("changed")
		only := make([][]byte, n) // the others need not be at hand
		only[7] = chunks[7]
		v = must[int64](t)(s.CommitRunState(ctx, k, v, []byte("h"), only, []int{7}))
		_, err := s.CommitRunState(ctx, k, v-1, []byte("h"), chunks, []int{8})
		is(t, err, airflow.ErrConflict)
		st := must[store.RunState](t)(s.LoadRunState(ctx, k))
		if st.Version != v || !reflect.DeepEqual(st.Chunks, chunks) {
			t.Errorf("%d chunks: loaded version %d, want %d; equal chunks: %t", n, st.Version, v, reflect.DeepEqual(st.Chunks, chunks))
		}
	}
}

// testChangingWidth lets a run grow wide by one chunk, shrink again, and grow by
// another: each time the chunk that did not change must be found as it is.
func testChangingWidth(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), key("d", "width")
	small := func(b byte) []byte { return bytes.Repeat([]byte{b}, 10) }
	large := func(b byte) []byte { return bytes.Repeat([]byte{b}, 7000) }
	chunks := [][]byte{small('a'), small('b')}
	v := must[int64](t)(s.CommitRunState(ctx, k, 0, []byte("h"), chunks, []int{0, 1}))
	for i, step := range []struct {
		chunk int
		to    []byte
	}{{1, large('c')}, {0, small('d')}, {1, small('e')}, {0, small('f')}, {1, large('g')}, {1, small('h')}, {0, large('i')}} {
		chunks[step.chunk] = step.to
		v = must[int64](t)(s.CommitRunState(ctx, k, v, []byte("h"), chunks, []int{step.chunk}))
		st := must[store.RunState](t)(s.LoadRunState(ctx, k))
		if st.Version != v || !reflect.DeepEqual(st.Chunks, chunks) {
			t.Errorf("step %d: loaded version %d with other chunks than were committed as %d", i, st.Version, v)
		}
	}
}

func ti(task string, mi int) airflow.TaskInstanceKey {
	return airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: airflow.TaskID(task), MapIndex: mi}
}

func testClaims(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), ti("a", -1)
	_, err := s.GetAttempt(ctx, k)
	is(t, err, airflow.ErrNotFound)
	ok(t, s.Claim(ctx, k, 1, 1, "w1", epoch, store.AttemptDoc{Hostname: "h"}))
	ok(t, s.Claim(ctx, k, 1, 1, "w1", epoch, store.AttemptDoc{Hostname: "h"})) // the answer was lost
	is(t, s.Claim(ctx, k, 1, 1, "w2", epoch, store.AttemptDoc{}), airflow.ErrSuperseded)
	is(t, s.Heartbeat(ctx, k, 2, epoch), airflow.ErrSuperseded)
	ok(t, s.Heartbeat(ctx, k, 1, epoch.Add(time.Minute)))
	a := must[store.Attempt](t)(s.GetAttempt(ctx, k))
	if a.DispatchSeq != 1 || a.Status != store.AttemptRunning || !a.Heartbeat.Equal(epoch.Add(time.Minute)) || a.Hostname != "h" {
		t.Errorf("attempt %+v", a)
	}
	is(t, s.Finish(ctx, k, 1, "w2", store.AttemptDoc{}), airflow.ErrSuperseded)
	ok(t, s.Finish(ctx, k, 1, "w1", store.AttemptDoc{Report: json.RawMessage(`{"x":1}`)}))
	ok(t, s.Finish(ctx, k, 1, "w1", store.AttemptDoc{Report: json.RawMessage(`{"x":1}`)})) // repeated
	is(t, s.Heartbeat(ctx, k, 1, epoch), airflow.ErrSuperseded)
	is(t, s.Claim(ctx, k, 1, 1, "w1", epoch, store.AttemptDoc{}), airflow.ErrSuperseded) // a dispatch starts once
	ok(t, s.Claim(ctx, k, 3, 2, "w1", epoch, store.AttemptDoc{}))
	is(t, s.Claim(ctx, k, 2, 2, "w1", epoch, store.AttemptDoc{}), airflow.ErrSuperseded)
	is(t, s.Finish(ctx, k, 1, "w1", store.AttemptDoc{}), airflow.ErrSuperseded)
}

func testClaimRace(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), ti("a", 3)
	for seq := uint32(1); seq <= 5; seq++ {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for w := 0; w < 16; w++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				err := s.Claim(ctx, k, seq, int(seq), fmt.Sprint("w", w), epoch, store.AttemptDoc{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, airflow.ErrSuperseded) {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if won != 1 {
			t.Fatalf("dispatch %d started %d times", seq, won)
		}
	}
}

func testFence(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), ti("a", -1)
	ok(t, s.Fence(ctx, k, 2)) // before it was ever claimed
	is(t, s.Claim(ctx, k, 1, 1, "w", epoch, store.AttemptDoc{}), airflow.ErrSuperseded)
	ok(t, s.Claim(ctx, k, 2, 1, "w", epoch, store.AttemptDoc{}))
	ok(t, s.Fence(ctx, k, 3))
	ok(t, s.Fence(ctx, k, 2)) // lower: nothing happens
	is(t, s.Heartbeat(ctx, k, 2, epoch), airflow.ErrSuperseded)
	is(t, s.Finish(ctx, k, 2, "w", store.AttemptDoc{}), airflow.ErrSuperseded)
	ok(t, s.Yield(ctx, k, 2, "w"))
	ok(t, s.Yield(ctx, k, 2, "w"))
	if a := must[store.Attempt](t)(s.GetAttempt(ctx, k)); a.Status != store.AttemptYielded || a.MinDispatchSeq != 3 {
		t.Errorf("attempt %+v", a)
	}
	ok(t, s.Claim(ctx, k, 3, 1, "w", epoch, store.AttemptDoc{}))
}

func testTries(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), ti("a", -1)
	ok(t, s.Claim(ctx, k, 1, 1, "w", epoch, store.AttemptDoc{Hostname: "first"}))
	ok(t, s.Finish(ctx, k, 1, "w", store.AttemptDoc{Hostname: "first", Error: "boom"}))
	ok(t, s.Claim(ctx, k, 2, 2, "w", epoch, store.AttemptDoc{Hostname: "second"}))
	ok(t, s.Claim(ctx, k, 3, 2, "w", epoch, store.AttemptDoc{Hostname: "second again"})) // a reschedule: the same try
	tries := must[[]store.Attempt](t)(s.ListTries(ctx, k))
	if len(tries) != 1 || tries[0].TryNumber != 1 || tries[0].Error != "boom" {
		t.Errorf("history %+v", tries)
	}
	rows := must[map[airflow.TaskInstanceKey]store.Attempt](t)(s.GetAttempts(ctx, []airflow.TaskInstanceKey{k, ti("b", -1)}))
	if len(rows) != 1 || rows[k].Hostname != "second again" {
		t.Errorf("rows %+v", rows)
	}
	ok(t, s.DeleteTaskInstance(ctx, k))
	if tries := must[[]store.Attempt](t)(s.ListTries(ctx, k)); len(tries) != 0 {
		t.Errorf("history after deletion %+v", tries)
	}
}

func testXComs(t *testing.T, s *store.Store) {
	ctx, k := t.Context(), ti("a", -1)
	if xs := must[[]airflow.XCom](t)(s.ListXComs(ctx, k)); len(xs) != 0 {
		t.Errorf("XComs of an instance that never ran: %v", xs)
	}
	ok(t, s.Claim(ctx, k, 1, 1, "w", epoch, store.AttemptDoc{}))
	ok(t, s.PutXCom(ctx, k, 1, "big#key", json.RawMessage(`"large"`), epoch))
	ok(t, s.Finish(ctx, k, 1, "w", store.AttemptDoc{XComs: map[string]json.RawMessage{"return_value": json.RawMessage(`[1]`)}}))
	if x := must[airflow.XCom](t)(s.GetXCom(ctx, k, "return_value")); string(x.Value) != "[1]" {
		t.Errorf("inline XCom %+v", x)
	}
	if x := must[airflow.XCom](t)(s.GetXCom(ctx, k, "big#key")); string(x.Value) != `"large"` || x.Key != "big#key" {
		t.Errorf("XCom item %+v", x)
	}
	if xs := must[[]airflow.XCom](t)(s.ListXComs(ctx, k)); len(xs) != 2 || xs[0].Key != "big#key" {
		t.Errorf("list %+v", xs)
	}
	huge := json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`) // more than one item takes
	ok(t, s.PutXCom(ctx, k, 1, "huge", huge, epoch))
	if x := must[airflow.XCom](t)(s.GetXCom(ctx, k, "huge")); string(x.Value) != string(huge) {
		t.Errorf("a value of %d bytes came back with %d", len(huge), len(x.Value))
	}
	if xs := must[[]airflow.XCom](t)(s.ListXComs(ctx, k)); len(xs) != 3 || len(xs[1].Value) != len(huge) {
		t.Errorf("list with a huge value: %d values", len(xs))
	}
	ok(t, s.Claim(ctx, k, 2, 2, "w", epoch, store.AttemptDoc{})) // a new try forgets what the old one pushed
	_, err := s.GetXCom(ctx, k, "big#key")
	is(t, err, airflow.ErrNotFound)
	var keys []airflow.TaskInstanceKey
	for i := 0; i < 230; i++ {
		mk := ti("m", i)
		keys = append(keys, mk)
		if i%3 == 0 {
			continue
		}
		ok(t, s.Claim(ctx, mk, 1, 1, "w", epoch, store.AttemptDoc{}))
		doc := store.AttemptDoc{}
		if i%3 == 1 {
			doc.XComs = map[string]json.RawMessage{"k": json.RawMessage(fmt.Sprint(i))}
		} else {
			ok(t, s.PutXCom(ctx, mk, 1, "k", json.RawMessage(fmt.Sprint(i)), epoch))
		}
		ok(t, s.Finish(ctx, mk, 1, "w", doc))
	}
	vals := must[[]json.RawMessage](t)(s.GetXComs(ctx, keys, "k"))
	for i, v := range vals {
		if want := fmt.Sprint(i); (i%3 == 0) != (v == nil) || v != nil && string(v) != want {
			t.Fatalf("value %d is %s", i, v)
		}
	}
}

func testDags(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, id := range []airflow.DagID{"b", "a"} {
		ok(t, s.CreateDag(ctx, airflow.DagModel{DagID: id}))
	}
	is(t, s.CreateDag(ctx, airflow.DagModel{DagID: "a"}), airflow.ErrAlreadyExists)
	ms, _, err := s.ListDags(ctx, store.ListOptions{})
	ok(t, err)
	if len(ms) != 2 || ms[0].DagID != "a" {
		t.Errorf("DAGs %+v", ms)
	}
	var wg sync.WaitGroup
	for i := 0; i < 8; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := s.UpdateDag(ctx, "a", func(m *airflow.DagModel) error { m.LatestVersion++; return nil })
			if err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if m := must[airflow.DagModel](t)(s.GetDag(ctx, "a")); m.LatestVersion != 8 {
		t.Errorf("8 concurrent updates made %d", m.LatestVersion)
	}
	for n := 1; n <= 11; n++ {
		ok(t, s.PutDagVersion(ctx, airflow.DagVersion{DagID: "a", Number: n}))
	}
	vs := must[[]airflow.DagVersion](t)(s.ListDagVersions(ctx, "a"))
	if len(vs) != 11 || vs[10].Number != 11 {
		t.Errorf("versions %+v", vs)
	}
	ok(t, s.DeleteDag(ctx, "a"))
	_, err = s.GetDag(ctx, "a")
	is(t, err, airflow.ErrNotFound)
	ok(t, s.PutImportError(ctx, airflow.ImportError{Filename: "x.yml"}))
	if es := must[[]airflow.ImportError](t)(s.ListImportErrors(ctx)); len(es) != 1 {
		t.Errorf("import errors %+v", es)
	}
	ok(t, s.DeleteImportError(ctx, "x.yml"))
	ok(t, s.DeleteImportError(ctx, "x.yml"))
}

func testDueDags(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for i := 0; i < 10; i++ {
		at := epoch.Add(time.Duration(i) * time.Hour)
		m := airflow.DagModel{DagID: airflow.DagID(fmt.Sprint("d", i)), NextDagRunCreateAfter: &at, IsPaused: i == 2}
		ok(t, s.CreateDag(ctx, m))
	}
	due := must[[]airflow.DagModel](t)(s.ListDueDags(ctx, epoch.Add(3*time.Hour), 100))
	if len(due) != 3 || due[0].DagID != "d0" || due[2].DagID != "d3" {
		t.Errorf("due %+v", due)
	}
	next, has, err := s.NextDue(ctx)
	ok(t, err)
	if !has || !next.Equal(epoch) {
		t.Errorf("next due %v %t", next, has)
	}
	must[airflow.DagModel](t)(s.UpdateDag(ctx, "d0", func(m *airflow.DagModel) error { m.NextDagRunCreateAfter = nil; return nil }))
	if next, _, _ := s.NextDue(ctx); !next.Equal(epoch.Add(time.Hour)) {
		t.Errorf("next due after an update: %v", next)
	}
}

func testDocuments(t *testing.T, s *store.Store) {
	ctx := t.Context()
	for _, n := range []int{0, 10, 300 << 10, 700<<10 + 3} {
		hash, doc := fmt.Sprint("h", n), bytes.Repeat([]byte{'x'}, n)
		ok(t, s.PutDocument(ctx, hash, doc))
		ok(t, s.PutDocument(ctx, hash, doc))
		if got := must[[]byte](t)(s.GetDocument(ctx, hash)); !bytes.Equal(got, doc) {
			t.Errorf("%d bytes came back as %d", n, len(got))
		}
	}
	_, err := s.GetDocument(ctx, "none")
	is(t, err, airflow.ErrNotFound)
	ok(t, s.DeleteDocument(ctx, "h10"))
	if has := must[bool](t)(s.HasDocument(ctx, "h10")); has {
		t.Error("a deleted document is there")
	}
	if l := must[[]string](t)(s.ListDocuments(ctx)); strings.Join(l, " ") != "h0 h307200 h716803" {
		t.Errorf("documents %v", l)
	}
	// A document that was put again since it was looked at stays, small or large.
	_, err = s.DocumentPuts(ctx, "none")
	is(t, err, airflow.ErrNotFound)
	for _, n := range []int{0, 700<<10 + 3} {
		hash, doc := fmt.Sprint("h", n), bytes.Repeat([]byte{'x'}, n)
		puts := must[int64](t)(s.DocumentPuts(ctx, hash))
		ok(t, s.PutDocument(ctx, hash, doc))
		if gone := must[bool](t)(s.DeleteUnusedDocument(ctx, hash, puts)); gone {
			t.Errorf("%s was removed although it was put again", hash)
		}
		if got := must[[]byte](t)(s.GetDocument(ctx, hash)); !bytes.Equal(got, doc) {
			t.Errorf("%s came back as %d bytes", hash, len(got))
		}
		if gone := must[bool](t)(s.DeleteUnusedDocument(ctx, hash, puts+1)); !gone {
			t.Errorf("%s was not removed", hash)
		}
		_, err := s.GetDocument(ctx, hash)
		is(t, err, airflow.ErrNotFound)
		if gone := must[bool](t)(s.DeleteUnusedDocument(ctx, hash, puts+1)); gone {
			t.Errorf("%s was removed twice", hash)
		}
		ok(t, s.PutDocument(ctx, hash, doc))
		if got := must[[]byte](t)(s.GetDocument(ctx, hash)); !bytes.Equal(got, doc) {
			t.Errorf("%s, put again, came back as %d bytes", hash, len(got))
		}
	}
}

func testSecrets(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.PutVariable(ctx, airflow.Variable{Key: "k#1", Value: "top secret"}))
	ok(t, s.PutConnection(ctx, airflow.Connection{ConnID: "c", Password: "hush"}))
	if v := must[airflow.Variable](t)(s.GetVariable(ctx, "k#1")); v.Value != "top secret" {
		t.Errorf("variable %+v", v)
	}
	if cs := must[[]airflow.Connection](t)(s.ListConnections(ctx)); len(cs) != 1 || cs[0].Password != "hush" {
		t.Errorf("connections %+v", cs)
	}
	for _, kind := range []string{"VARIABLE", "CONNECTION"} { // nothing readable at rest
		page, err := s.Driver().Query(ctx, kv.Query{Index: kv.GSI1, PK: "ALL#" + kind})
		ok(t, err)
		for _, it := range page.Items {
			full := must[kv.Item](t)(s.Driver().Get(ctx, it.Key, true))
			for _, secret := range []string{"top secret", "hush"} {
				if bytes.Contains(full.Bytes("d"), []byte(secret)) {
					t.Errorf("%v holds %q in the clear", it.Key, secret)
				}
			}
		}
	}
	if n := must[int](t)(s.ResealSecrets(ctx)); n != 2 {
		t.Errorf("%d secrets sealed again", n)
	}
	ok(t, s.DeleteVariable(ctx, "k#1"))
	is(t, s.DeleteVariable(ctx, "k#1"), airflow.ErrNotFound)
}

func testPools(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.PutPool(ctx, airflow.Pool{Name: "p", Slots: 2}))
	ok(t, s.PutPool(ctx, airflow.Pool{Name: airflow.DefaultPool, Slots: 128}))
	if p := must[airflow.Pool](t)(s.GetPool(ctx, "p")); p.Slots != 2 {
		t.Errorf("pool %+v", p)
	}
	is(t, s.DeletePool(ctx, airflow.DefaultPool), airflow.ErrNotAllowed)
	ok(t, s.DeletePool(ctx, "p"))
	is(t, s.DeletePool(ctx, "p"), airflow.ErrNotFound)
	if ps := must[[]airflow.Pool](t)(s.ListPools(ctx)); len(ps) != 1 {
		t.Errorf("pools %+v", ps)
	}
}

func testBackfills(t *testing.T, s *store.Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := 0; i < 6; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := s.CreateBackfill(ctx, airflow.Backfill{DagID: "d"}); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	bs := must[[]airflow.Backfill](t)(s.ListBackfills(ctx))
	if len(bs) != 6 || bs[0].ID != 6 || bs[5].ID != 1 {
		t.Fatalf("backfills %+v", bs)
	}
	now := epoch
	must[airflow.Backfill](t)(s.UpdateBackfill(ctx, 3, func(b *airflow.Backfill) error { b.CompletedAt = &now; return nil }))
	if as := must[[]airflow.Backfill](t)(s.ListActiveBackfills(ctx)); len(as) != 5 {
		t.Errorf("%d unfinished backfills", len(as))
	}
}

func testAssets(t *testing.T, s *store.Store) {
	ctx := t.Context()
	a := store.AssetKey{Name: "n", URI: "s3://b/x#y"}
	must[store.AssetRecord](t)(s.UpsertAsset(ctx, airflow.Asset{Name: a.Name, URI: a.URI}, func(r *store.AssetRecord) error {
		r.ScheduledDags = []airflow.DagID{"d"}
		return nil
	}))
	ev := func(id string, sec int) airflow.AssetEvent {
		return airflow.AssetEvent{ID: id, AssetName: a.Name, AssetURI: a.URI, Timestamp: epoch.Add(time.Duration(sec) * time.Second)}
	}
	q := func(dag, id string) store.QueuedAsset {
		return store.QueuedAsset{DagID: airflow.DagID(dag), AssetName: a.Name, AssetURI: a.URI, CreatedAt: epoch, EventID: id}
	}
	if created := must[bool](t)(s.RecordAssetEvent(ctx, ev("e1", 1), []store.QueuedAsset{q("d", "e1"), q("d2", "e1")})); !created {
		t.Error("the first event was not created")
	}
	if created := must[bool](t)(s.RecordAssetEvent(ctx, ev("e1", 1), []store.QueuedAsset{q("d", "e1"), q("d3", "e1")})); created {
		t.Error("the same event was created twice")
	}
	if created := must[bool](t)(s.RecordAssetEvent(ctx, ev("e2", 2), []store.QueuedAsset{q("d", "e2"), q("d4", "e2")})); !created {
		t.Error("a second event was not created")
	}
	qs := must[[]store.QueuedAsset](t)(s.ListQueuedAssets(ctx, "d"))
	if len(qs) != 1 || qs[0].EventID != "e1" {
		t.Fatalf("queue of d: %+v", qs)
	}
	if all := must[[]store.QueuedAsset](t)(s.ListAllQueuedAssets(ctx)); len(all) != 3 {
		t.Errorf("queue: %+v", all)
	}
	if evs := must[[]airflow.AssetEvent](t)(s.ListAssetEvents(ctx, a, epoch.Add(time.Second), epoch.Add(2*time.Second))); len(evs) != 1 || evs[0].ID != "e2" {
		t.Errorf("events in (1s, 2s]: %+v", evs)
	}
	if w := qs[0].Waiting; len(w) != 2 || w[0].ID != "e1" || w[1].ID != "e2" {
		t.Errorf("events that wait for d: %+v", w)
	}
	ok(t, s.UnqueueAssets(ctx, "d", []string{"older"})) // nobody waits for that
	ok(t, s.UnqueueAssets(ctx, "d", []string{"e1"}))
	if qs := must[[]store.QueuedAsset](t)(s.ListQueuedAssets(ctx, "d")); len(qs) != 1 || qs[0].EventID != "e2" || len(qs[0].Waiting) != 1 {
		t.Errorf("queue of d after its first event was taken: %+v", qs)
	}
	ok(t, s.UnqueueAssets(ctx, "d", []string{"e2"}))
	ok(t, s.UnqueueAssets(ctx, "d", []string{"e2"}))
	if qs := must[[]store.QueuedAsset](t)(s.ListQueuedAssets(ctx, "d")); len(qs) != 0 {
		t.Errorf("queue of d after the run: %+v", qs)
	}
}

func testKeys(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ids := []string{"a", "a#", "a##", "%", "%23", "a%23", "ü", "a b", "A", "a/b", "\U0010FFFE"}
	for i, id := range ids {
		r := run("d", id, i)
		r.LogicalDate = nil
		ok(t, s.CreateRun(ctx, r))
		ok(t, s.Claim(ctx, airflow.TaskInstanceKey{DagID: "d", RunID: r.RunID, TaskID: "t", MapIndex: -1}, 1, 1, "w", epoch, store.AttemptDoc{Hostname: id}))
	}
	for _, id := range ids {
		if r := must[airflow.DagRun](t)(s.GetRun(ctx, key("d", id))); string(r.RunID) != id {
			t.Errorf("run %q came back as %q", id, r.RunID)
		}
		a := must[store.Attempt](t)(s.GetAttempt(ctx, airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(id), TaskID: "t", MapIndex: -1}))
		if a.Hostname != id {
			t.Errorf("row of run %q is that of %q", id, a.Hostname)
		}
	}
}

func testRequests(t *testing.T, s *store.Store) {
	ctx := t.Context()
	first := must[airflow.RunID](t)(s.ReserveRequest(ctx, "q", "r1", epoch))
	second := must[airflow.RunID](t)(s.ReserveRequest(ctx, "q", "r2", epoch))
	if first != "r1" || second != "r1" {
		t.Errorf("a repeated request got %q, then %q", first, second)
	}
	ok(t, s.CreateRun(ctx, run("d", "r", 0)))
	k := key("d", "r")
	if done := must[bool](t)(s.DoneEffect(ctx, k, "cb")); done {
		t.Error("an effect that never ran counts as done")
	}
	ok(t, s.MarkEffect(ctx, k, "cb", epoch.AddDate(1, 0, 0)))
	if done := must[bool](t)(s.DoneEffect(ctx, k, "cb")); !done {
		t.Error("an effect that ran does not count as done")
	}
	ok(t, s.DeleteRun(ctx, run("d", "r", 0)))
	if done := must[bool](t)(s.DoneEffect(ctx, k, "cb")); done {
		t.Error("an effect of a deleted run counts as done for the next one of its id")
	}
}

// testNewerFormat: an item of a newer program is refused by name, never misread.
func testNewerFormat(t *testing.T, s *store.Store) {
	ctx := context.WithoutCancel(t.Context())
	ok(t, s.CreateRun(ctx, run("d", "r", 0)))
	ok(t, s.Driver().Write(ctx, kv.Update(kv.Key{PK: "RUN#d#r", SK: "INFO"}, kv.Exists(), kv.Assign("f", kv.Int(store.FormatVersion+1)))))
	_, err := s.GetRun(ctx, key("d", "r"))
	is(t, err, kv.ErrNewerFormat)
}

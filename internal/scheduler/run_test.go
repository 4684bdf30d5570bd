package scheduler

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// world is one run under test and its clock.
type world struct {
	t     *testing.T
	g     *Graph
	rs    *RunState
	now   time.Time
	facts Facts
	last  Decision
}

func dagOf(tasks ...*airflow.Task) *airflow.DAG {
	d := &airflow.DAG{DagID: "d", MaxActiveTasks: 16, MaxActiveRuns: 16, TaskGroup: &airflow.TaskGroup{}}
	for _, t := range tasks {
		if t.TriggerRule == "" {
			t.TriggerRule = airflow.RuleAllSuccess
		}
		t.Pool, t.PoolSlots, t.PriorityWeight = airflow.DefaultPool, 1, 1
		d.Tasks = append(d.Tasks, t)
		d.TaskGroup.Children = append(d.TaskGroup.Children, airflow.GroupChild{TaskID: t.TaskID})
	}
	return d
}

func task(id string, downstream ...airflow.TaskID) *airflow.Task {
	return &airflow.Task{TaskID: airflow.TaskID(id), Downstream: downstream}
}

func newWorld(t *testing.T, d *airflow.DAG) *world {
	t.Helper()
	g, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	ld := vecEpoch
	w := &world{t: t, g: g, now: vecEpoch.Add(time.Hour), facts: Facts{IgnoreFirstDependsOnPast: true}}
	w.rs = NewRun(g, Header{DagID: d.DagID, RunID: "r", RunType: airflow.RunTypeManual, State: airflow.RunQueued, LogicalDate: &ld, RunAfter: ld})
	StartRun(w.rs, w.now)
	return w
}

func (w *world) pos(name string) int {
	w.t.Helper()
	id, index := splitName(name)
	p := w.rs.Find(w.g, id, index)
	if p < 0 {
		w.t.Fatalf("no instance %s", name)
	}
	return p
}

func (w *world) ti(name string) *TI { w.t.Helper(); return w.rs.At(w.pos(name)) }

func (w *world) after(d time.Duration) *world { w.now = w.now.Add(d); return w }

func (w *world) decide() *world {
	w.last = Decide(w.g, w.rs, w.facts, w.now)
	for _, x := range w.last.Transitions {
		if x.From != x.To && !AllowedTransition(x.From, x.To) {
			w.t.Fatalf("%s -> %s is not allowed", x.From, x.To)
		}
	}
	return w
}

func (w *world) dispatch(name string) {
	w.t.Helper()
	if got := Dispatch(w.g, w.rs, []int{w.pos(name)}, 0, w.now); len(got) != 1 {
		w.t.Fatalf("%s is %s: not dispatched", name, w.ti(name).State)
	}
}

func (w *world) report(name string, r Report) ReportResult {
	w.t.Helper()
	t := w.ti(name)
	r.Task, r.MapIndex = w.rs.TaskID(w.g, t), int(t.MapIndex)
	if r.DispatchSeq == 0 {
		r.DispatchSeq = t.DispatchSeq
	}
	if r.XCom == (XComInfo{}) {
		r.XCom.Length = -1
	}
	return Apply(w.g, w.rs, r, ReportLimits{}, w.now)
}

func (w *world) run(name string, kind ReportKind) ReportResult {
	w.t.Helper()
	w.dispatch(name)
	return w.report(name, Report{Kind: kind})
}

// is checks states given as "a:success b:none run:running".
func (w *world) is(want string) *world {
	w.t.Helper()
	for _, x := range strings.Fields(want) {
		name, state, _ := strings.Cut(x, ":")
		got := string(w.rs.Header.State)
		if name != "run" {
			got = w.ti(name).State.String()
		}
		if got != state {
			w.t.Fatalf("%s is %s, want %s", name, got, state)
		}
	}
	return w
}

func (w *world) wakes(at time.Time) *world {
	w.t.Helper()
	if !w.last.Wake.Equal(at) {
		w.t.Fatalf("wake %v, want %v", w.last.Wake, at)
	}
	return w
}

func (w *world) why(name string, code Code) {
	w.t.Helper()
	p := w.pos(name)
	for _, r := range Reasons(w.g, w.rs, w.facts, w.now, nil) {
		if r.Pos == p {
			if r.Code != code {
				w.t.Fatalf("%s: %s (%s), want %s", name, r.Code, r.Text, code)
			}
			return
		}
	}
	w.t.Fatalf("%s: no reason", name)
}

func TestRetryWaitsForItsDelay(t *testing.T) {
	a := task("a", "b")
	a.Retries, a.RetryDelay = 2, 5*time.Minute
	w := newWorld(t, dagOf(a, task("b"))).decide().is("a:scheduled b:none")
	w.run("a", ReportFailed)
	w.is("a:up_for_retry").decide().is("a:up_for_retry run:running").wakes(w.now.Add(5*time.Minute + time.Microsecond))
	w.why("a", CodeRetryDelay)
	w.after(5 * time.Minute).decide().is("a:up_for_retry") // strictly later
	w.after(time.Microsecond).decide().is("a:scheduled").wakes(time.Time{})
	if n := w.ti("a").TryNumber; n != 2 {
		t.Fatalf("try %d", n)
	}
	w.run("a", ReportLost)
	w.is("a:up_for_retry").after(time.Hour).decide().is("a:scheduled")
	w.run("a", ReportFailed)
	w.is("a:failed").decide().is("b:upstream_failed run:failed")
	if n := w.ti("a").TryNumber; n != 3 {
		t.Fatalf("try %d", n)
	}
}

func TestRetryVerdictOfTheWorker(t *testing.T) {
	a := task("a")
	a.Retries = 1
	w := newWorld(t, dagOf(a, task("b"))).decide()
	w.dispatch("a")
	w.report("a", Report{Kind: ReportFailed, TryAgain: -1})
	w.is("a:failed")
	w.dispatch("b")
	w.report("b", Report{Kind: ReportFailed, TryAgain: 1, RetryDelay: time.Minute})
	w.is("b:up_for_retry").decide().wakes(w.now.Add(time.Minute + time.Microsecond))
}

// TestRetryDelay compares with values computed by Python from Airflow's formula.
func TestRetryDelay(t *testing.T) {
	ld := time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
	micro := ld.Add(123456 * time.Microsecond)
	for _, c := range []struct {
		ld     *time.Time
		try    int
		delay  time.Duration
		factor float64
		limit  time.Duration
		want   float64
	}{
		{&ld, 1, 300 * time.Second, 2, 0, 325},
		{&ld, 2, 300 * time.Second, 2, 0, 976},
		{&ld, 3, 300 * time.Second, 2, 0, 2260},
		{nil, 2, 500 * time.Millisecond, 3, 0, 2},
		{&micro, 4, 10 * time.Second, 1.5, 0, 39},
		{nil, 12, 300 * time.Second, 2, 0, 86400},
		{nil, 4000, 300 * time.Second, 2, 0, 86400},
		{nil, 5, 300 * time.Second, 2, 1000 * time.Second, 1000},
		{nil, 5, 300 * time.Second, 1, 100 * time.Second, 300},
		{nil, 5, 300 * time.Second, 0, 0, 300},
	} {
		task := &airflow.Task{TaskID: "t", RetryDelay: c.delay, RetryExponentialFactor: c.factor, MaxRetryDelay: c.limit}
		if got := RetryDelay(task, "d", c.ld, c.try, 0).Seconds(); got != c.want {
			t.Errorf("%+v: %v s", c, got)
		}
	}
	for ceiling, want := range map[time.Duration]float64{time.Minute: 60, time.Hour: 3600, 48 * time.Hour: 172800, -1: 0} {
		task := &airflow.Task{TaskID: "t", RetryDelay: 300 * time.Second, RetryExponentialFactor: 2}
		if got := RetryDelay(task, "d", nil, 12, ceiling).Seconds(); got != want {
			t.Errorf("max_task_retry_delay %v: %v s, want %v", ceiling, got, want)
		}
		task.RetryExponentialFactor = 0
		if got := RetryDelay(task, "d", nil, 12, ceiling).Seconds(); got != 300 {
			t.Errorf("max_task_retry_delay %v bounds a plain delay: %v s", ceiling, got)
		}
	}
}

func TestRescheduleKeepsTheTry(t *testing.T) {
	w := newWorld(t, dagOf(task("a"))).decide()
	started := w.now
	w.dispatch("a")
	w.report("a", Report{Kind: ReportRunning})
	w.after(time.Second)
	if r := w.report("a", Report{Kind: ReportReschedule}); r.Refused != RefusedInvalid {
		t.Fatalf("a reschedule without a date: %+v", r)
	}
	w.report("a", Report{Kind: ReportReschedule, Until: w.now.Add(time.Minute)})
	w.decide().is("a:up_for_reschedule").wakes(w.now.Add(time.Minute))
	w.why("a", CodeReschedule)
	w.after(time.Minute).decide().is("a:scheduled")
	if x := w.ti("a"); x.TryNumber != 1 {
		t.Fatalf("try %d", x.TryNumber)
	}
	w.dispatch("a")
	if x := w.ti("a"); x.DispatchSeq != 2 {
		t.Fatalf("dispatch %d", x.DispatchSeq)
	}
	w.report("a", Report{Kind: ReportReschedule, Until: w.now.Add(time.Minute)})
	if got := w.rs.RescheduleStart(w.pos("a")); !got.Equal(started) {
		t.Fatalf("first started %v, want %v", got, started)
	}
	w.after(time.Minute).decide()
	w.run("a", ReportSuccess)
	if got := w.rs.RescheduleStart(w.pos("a")); !got.IsZero() {
		t.Fatalf("reschedule start is kept: %v", got)
	}
}

func TestDeferral(t *testing.T) {
	w := newWorld(t, dagOf(task("a"))).decide()
	w.dispatch("a")
	w.report("a", Report{Kind: ReportRunning})
	start := w.ti("a").Start
	w.after(time.Second)
	w.report("a", Report{Kind: ReportDeferred, Until: w.now.Add(time.Hour)})
	// Deferred instances forbid the deadlock test.
	w.decide().is("a:deferred run:running").wakes(w.now.Add(time.Hour + time.Microsecond))
	w.report("a", Report{Kind: ReportResume})
	x := w.is("a:scheduled").ti("a")
	if x.Flags&FlagResume == 0 || x.Flags&FlagTimedOut != 0 || x.TryNumber != 1 || x.WakeAt != 0 {
		t.Fatalf("%+v", x)
	}
	w.decide().is("a:scheduled").wakes(time.Time{})
	w.run("a", ReportDeferred)
	if w.ti("a").Start != start {
		t.Fatal("resuming a deferred task changed its start")
	}
	w.run2("a", t)
}

// run2: a deferral without timeout ends by its trigger only.
func (w *world) run2(name string, t *testing.T) {
	w.decide().is(name + ":deferred").wakes(time.Time{})
	w.after(1000 * time.Hour).decide().is(name + ":deferred")
	w.report(name, Report{Kind: ReportResume})
	w.run(name, ReportSuccess)
	w.decide().is("run:success")
}

func TestTriggerTimeoutResumesToFail(t *testing.T) {
	w := newWorld(t, dagOf(task("a"))).decide()
	w.dispatch("a")
	w.report("a", Report{Kind: ReportDeferred, Until: w.now.Add(time.Minute)})
	w.after(time.Minute).decide().is("a:deferred")
	w.after(time.Microsecond).decide().is("a:scheduled")
	if f := w.ti("a").Flags; f&FlagResume == 0 || f&FlagTimedOut == 0 {
		t.Fatalf("flags %b", f)
	}
	w.run("a", ReportFailedHard)
	w.decide().is("a:failed run:failed")
}

func TestStaleReportsAreRefused(t *testing.T) {
	a := task("a")
	a.Retries = 3
	w := newWorld(t, dagOf(a)).decide()
	w.dispatch("a")
	for _, c := range []struct {
		r    Report
		want Refusal
	}{
		{Report{Kind: ReportRunning, DispatchSeq: 7}, RefusedSuperseded},
		{Report{Kind: ReportRunning}, ""},
		{Report{Kind: ReportRunning}, RefusedDuplicate},
		{Report{Kind: ReportNotAccepted}, RefusedState},
		{Report{Kind: ReportResume}, RefusedState},
		{Report{Kind: ReportFailed}, ""},
		{Report{Kind: ReportFailed}, RefusedDuplicate},
		{Report{Kind: ReportSuccess}, RefusedDuplicate},
	} {
		before := *w.ti("a")
		r := w.report("a", c.r)
		if r.Refused != c.want {
			t.Fatalf("%+v: refused %q (%s), want %q", c.r, r.Refused, r.Message, c.want)
		}
		if c.want != "" && (*w.ti("a") != before || r.Message == "") {
			t.Fatalf("%+v was refused but changed something, or says nothing", c.r)
		}
	}
	w.after(time.Second).decide().is("a:scheduled")
	w.dispatch("a")
	if r := w.report("a", Report{Kind: ReportSuccess, DispatchSeq: 1}); r.Refused != RefusedSuperseded {
		t.Fatalf("the first try speaks again: %+v", r)
	}
	if r := Apply(w.g, w.rs, Report{Kind: ReportSuccess, Task: "nope"}, ReportLimits{}, w.now); r.Refused != RefusedUnknown {
		t.Fatalf("%+v", r)
	}
}

func TestQueuedTimeoutRequeuesThenFails(t *testing.T) {
	a := task("a")
	a.Retries = 5
	w := newWorld(t, dagOf(a)).decide()
	for i := range 3 {
		Dispatch(w.g, w.rs, []int{w.pos("a")}, 10*time.Minute, w.now)
		w.decide().is("a:queued").wakes(w.now.Add(10 * time.Minute))
		w.after(10 * time.Minute).decide()
		var cancelled bool
		for _, e := range w.last.Effects {
			c, ok := e.(CancelDispatch)
			cancelled = cancelled || ok && c.DispatchSeq == uint32(i+1)
		}
		if !cancelled {
			t.Fatalf("dispatch %d was not cancelled: %v", i+1, w.last.Effects)
		}
	}
	// Failed outright, whatever the retries.
	w.is("a:failed run:failed")
	if n := w.ti("a").TryNumber; n != 1 {
		t.Fatalf("try %d", n)
	}
}

func TestRestartingIsAlwaysTriedAgain(t *testing.T) {
	w := newWorld(t, dagOf(task("a"))).decide() // no retries
	w.dispatch("a")
	w.report("a", Report{Kind: ReportRunning})
	res, err := Clear(w.g, w.rs, ClearOptions{ResetDagRun: true}, w.now)
	if err != nil || len(res.Effects) != 1 {
		t.Fatalf("%+v %v", res, err)
	}
	w.is("a:restarting").decide().is("a:restarting run:running")
	w.why("a", CodeRestarting)
	w.report("a", Report{Kind: ReportSuccess}) // whatever it says
	w.is("a:up_for_retry").after(time.Second).decide().is("a:scheduled")
	if x := w.ti("a"); x.TryNumber != 2 {
		t.Fatalf("try %d", x.TryNumber)
	}
	w.run("a", ReportFailed)
	w.is("a:failed")
}

func TestDagrunTimeout(t *testing.T) {
	a, b := task("a", "c"), task("b")
	td := task("td")
	td.IsTeardown, td.TriggerRule = true, airflow.RuleAllDoneSetupSuccess
	d := dagOf(a, b, task("c"), td)
	d.DagrunTimeout, d.HasOnFailureCallback = time.Hour, true
	w := newWorld(t, d).decide()
	w.wakes(w.now.Add(time.Hour + time.Microsecond))
	w.run("b", ReportSuccess)
	w.dispatch("a")
	w.report("a", Report{Kind: ReportRunning})
	w.after(time.Hour).decide().is("run:running")
	w.after(time.Microsecond).decide().is("run:failed a:skipped b:success c:skipped td:skipped").wakes(time.Time{})
	want := DagCallback{Reason: "timed_out"}
	found := false
	for _, e := range w.last.Effects {
		found = found || e == want
	}
	if !found || w.last.RunReason != CodeTimedOut {
		t.Fatalf("%+v", w.last)
	}
	if r := w.report("a", Report{Kind: ReportSuccess}); r.Refused == "" {
		t.Fatal("a report after the timeout was taken")
	}
}

func TestDeadlockAndItsExceptions(t *testing.T) {
	build := func(change func(b *airflow.Task)) *world {
		late := vecEpoch.AddDate(1, 0, 0)
		a, b := task("a", "b"), task("b")
		a.StartDate = &late // no instance: b waits for ever
		change(b)
		return newWorld(t, dagOf(a, b)).decide()
	}
	build(func(*airflow.Task) {}).is("b:none run:failed")
	w := build(func(b *airflow.Task) { b.DependsOnPast = true }).is("b:none run:running")
	w.why("b", CodeUpstreamAbsent)
	build(func(b *airflow.Task) { b.MaxActiveTIsPerDag = 1 }).is("run:running")
	build(func(b *airflow.Task) { b.MaxActiveTIsPerDagRun = 1 }).is("run:running")
	if d := build(func(*airflow.Task) {}).last; d.RunReason != CodeDeadlocked {
		t.Fatalf("%+v", d)
	}
}

func TestPausedDagGoesOnWithWhatRuns(t *testing.T) {
	w := newWorld(t, dagOf(task("a", "b"), task("b", "c"), task("c"))).decide()
	w.dispatch("a")
	w.facts.Paused = true
	w.report("a", Report{Kind: ReportSuccess})
	w.decide().is("a:success b:none run:running")
	w.why("b", CodePaused)
	w.decide().is("b:none")
	w.facts.Paused = false
	w.decide().is("b:scheduled")
	w.facts.Paused = true
	w.run("b", ReportSkipped) // finished runs of paused DAGs are still closed
	w.decide().is("c:skipped run:success")
}

func TestFutureLogicalDateWaits(t *testing.T) {
	w := newWorld(t, dagOf(task("a")))
	ld := w.now.Add(time.Hour)
	w.rs.Header.LogicalDate = &ld
	w.decide().is("a:none run:running").wakes(ld)
	w.after(time.Hour).decide().is("a:scheduled")
}

func TestResultsToExpandOver(t *testing.T) {
	for _, c := range []struct {
		x    XComInfo
		want string
	}{
		{XComInfo{Pushed: true, Length: 2}, "success"},
		{XComInfo{Pushed: true, Length: 1024}, "success"},
		{XComInfo{Pushed: true, Length: 1025}, "failed"},
		{XComInfo{Pushed: true, Length: -1}, "failed"},
		{XComInfo{Length: -1}, "failed"},
	} {
		m := task("m")
		m.IsMapped = true
		m.Expand = &airflow.ExpandInput{Args: []airflow.ExpandArg{{XCom: &airflow.XComRef{TaskID: "a"}}}}
		w := newWorld(t, dagOf(task("a", "m"), m)).decide()
		w.dispatch("a")
		r := w.report("a", Report{Kind: ReportSuccess, XCom: c.x})
		if r.State.String() != c.want || (r.Message == "") != (c.want == "success") {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

func TestEmptyOperatorNeedsNoWorker(t *testing.T) {
	build := func(change func(*airflow.Task)) *world {
		a := task("a")
		a.IsEmpty = true
		change(a)
		return newWorld(t, dagOf(a)).decide()
	}
	w := build(func(*airflow.Task) {}).is("a:success run:success")
	if w.ti("a").TryNumber != 1 {
		t.Fatalf("%+v", w.ti("a"))
	}
	build(func(a *airflow.Task) { a.HasOnSuccessCallback = true }).is("a:scheduled")
	build(func(a *airflow.Task) { a.HasOnExecuteCallback = true }).is("a:scheduled")
	build(func(a *airflow.Task) { a.Outlets = []airflow.AssetRef{{Name: "x"}} }).is("a:scheduled")
	build(func(a *airflow.Task) { a.Inlets = []airflow.AssetRef{{Name: "x"}} }).is("a:scheduled")
}

func TestTaskDatesAndBackfill(t *testing.T) {
	late, early := vecEpoch.AddDate(0, 0, 1), vecEpoch.AddDate(0, 0, -1)
	a, b, c := task("a"), task("b"), task("c")
	a.StartDate, b.EndDate = &late, &early
	c.StartDate, c.EndDate = &vecEpoch, &vecEpoch
	g, err := Compile(dagOf(a, b, c))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		h    Header
		want int
	}{
		{Header{LogicalDate: &vecEpoch, RunType: airflow.RunTypeScheduled}, 1},
		{Header{LogicalDate: &vecEpoch, RunType: airflow.RunTypeBackfill, BackfillOrdinal: 2}, 3},
		{Header{RunType: airflow.RunTypeAssetTriggered}, 3},
	} {
		if n := NewRun(g, x.h).Len(); n != x.want {
			t.Errorf("%+v: %d instances", x.h, n)
		}
	}
}

func TestWaitForPastBeforeSkipping(t *testing.T) {
	b := task("b")
	b.DependsOnPast, b.WaitForPastDependsBeforeSkipping = true, true
	w := newWorld(t, dagOf(task("a", "b"), b))
	w.facts.Previous = &PreviousRun{LogicalDate: vecEpoch.AddDate(0, 0, -1), Tasks: map[airflow.TaskID]PreviousTask{"b": {Unsuccessful: 1}}}
	w.decide()
	w.run("a", ReportSkipped)
	w.decide().is("b:none run:running")
	w.facts.Previous.Tasks["b"] = PreviousTask{}
	w.decide().is("b:skipped run:success")
}

func TestFactsNeeded(t *testing.T) {
	a, b := task("a", "b", "c"), task("b")
	a.DependsOnPast, a.WaitForDownstream = true, true
	w := newWorld(t, dagOf(a, b, task("c"), task("x")))
	got := FactsNeeded(w.g, w.rs)
	if want := (FactsWanted{Needed: true, Tasks: []airflow.TaskID{"a", "b", "c"}}); !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
	w.decide()
	w.run("a", ReportSuccess)
	if got := FactsNeeded(w.g, w.rs); got.Needed {
		t.Fatalf("%+v", got)
	}
}

func TestFirstRunOfBackfillDependsOnNothing(t *testing.T) {
	a := task("a")
	a.DependsOnPast = true
	w := newWorld(t, dagOf(a))
	w.facts.Previous = &PreviousRun{LogicalDate: vecEpoch.AddDate(0, 0, -1), Tasks: map[airflow.TaskID]PreviousTask{"a": {Unsuccessful: 1}}}
	w.decide().is("a:none")
	w.rs.Header.BackfillOrdinal = 1
	w.decide().is("a:scheduled")
}

func TestMissedDeadlinesFireOnce(t *testing.T) {
	w := newWorld(t, dagOf(task("a")))
	w.rs.Header.Deadlines = []Deadline{{Index: 1, At: w.now.Add(time.Minute)}, {Index: 0, At: w.now.Add(time.Hour)}}
	w.decide().wakes(w.now.Add(time.Minute + time.Microsecond))
	w.after(2 * time.Minute).decide()
	if len(w.last.Effects) != 1 || w.last.Effects[0].(DeadlineMissed).Deadline.Index != 1 {
		t.Fatalf("%+v", w.last.Effects)
	}
	w.run("a", ReportFailed) // a failed run still misses its deadline
	w.decide().is("run:failed")
	w.after(time.Hour).decide()
	if len(w.last.Effects) != 1 {
		t.Fatalf("%+v", w.last.Effects)
	}
	w.decide().wakes(time.Time{})
	if len(w.last.Effects) != 0 {
		t.Fatalf("%+v", w.last.Effects)
	}
}

func TestLostWorkerLeavesItsCallback(t *testing.T) {
	a := task("a")
	a.Retries, a.HasOnFailureCallback, a.HasOnRetryCallback = 1, true, true
	w := newWorld(t, dagOf(a)).decide()
	for _, retry := range []bool{true, false} {
		w.dispatch("a")
		r := w.report("a", Report{Kind: ReportLost})
		if len(r.Effects) != 1 || r.Effects[0].(TaskCallback).Retry != retry {
			t.Fatalf("%+v", r.Effects)
		}
		w.after(time.Second).decide()
	}
}

func TestStartFromTrigger(t *testing.T) {
	a := task("a")
	a.StartFromTrigger = true
	w := newWorld(t, dagOf(a)).decide().is("a:deferred run:running")
	if len(w.last.Effects) != 1 || w.last.Effects[0].(StartTrigger).Key.TaskID != "a" {
		t.Fatalf("%+v", w.last.Effects)
	}
	w.report("a", Report{Kind: ReportResume})
	w.run("a", ReportSuccess)
	w.decide().is("run:success")
	if w.ti("a").TryNumber != 1 {
		t.Fatalf("%+v", w.ti("a"))
	}
}

func TestClaimAfterTheRunEnded(t *testing.T) {
	w := newWorld(t, dagOf(task("a"))).decide()
	w.dispatch("a")
	w.rs.endRun(airflow.RunFailed, CodeMarked, At(w.now))
	r := w.report("a", Report{Kind: ReportRunning})
	if r.Refused != RefusedState || r.State != airflow.TINone || len(r.Transitions) != 1 {
		t.Fatalf("%+v", r)
	}
	w.is("a:none")
}

// TestEffectsCanBeDerivedAgain compares what decisions and actions ask for with
// what is derived afterwards.
func TestEffectsCanBeDerivedAgain(t *testing.T) {
	tr := task("t")
	tr.StartFromTrigger = true
	d := dagOf(task("a"), task("b"), tr)
	d.FailFast, d.HasOnFailureCallback = true, true
	w := newWorld(t, d).decide()
	has := func(want ...Effect) {
		t.Helper()
		if got := Outstanding(w.g, w.rs); !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	has(w.last.Effects...)
	w.report("t", Report{Kind: ReportResume})
	has()
	for _, name := range []string{"a", "b"} {
		w.dispatch(name)
		w.report(name, Report{Kind: ReportRunning})
	}
	res := w.report("a", Report{Kind: ReportFailed})
	w.is("b:failed")
	has(res.Effects...)
	w.decide().is("run:failed")
	has(append(w.last.Effects, res.Effects...)...)
	if r := w.report("b", Report{Kind: ReportStopped}); r.Refused != "" || r.State != airflow.TIFailed {
		t.Fatalf("%+v", r)
	}
	has(w.last.Effects...)
	if _, err := Clear(w.g, w.rs, ClearOptions{ResetDagRun: true}, w.now); err != nil {
		t.Fatal(err)
	}
	StartRun(w.rs, w.now)
	w.decide()
	w.dispatch("b")
	for _, e := range Outstanding(w.g, w.rs) {
		if c, ok := e.(CancelDispatch); ok {
			t.Fatalf("a new dispatch is cancelled: %+v", c)
		}
	}
}

func TestUnknownFollowFailsTheBranch(t *testing.T) {
	a := task("a", "b")
	a.CanSkipDownstream = true
	w := newWorld(t, dagOf(a, task("b"))).decide()
	w.dispatch("a")
	r := w.report("a", Report{Kind: ReportSuccess, Choice: &SkipChoice{Kind: ChoiceBranch, Follow: []string{"b", "nope", "nope2"}}})
	if r.State != airflow.TIFailed || !strings.Contains(r.Message, "nope2") {
		t.Fatalf("%+v", r)
	}
	w.is("b:none")
}

func TestClearRefusesRunning(t *testing.T) {
	w := newWorld(t, dagOf(task("a"), task("b"))).decide()
	w.dispatch("a")
	w.report("a", Report{Kind: ReportRunning})
	if _, err := Clear(w.g, w.rs, ClearOptions{PreventRunning: true}, w.now); err == nil {
		t.Fatal("cleared a running instance")
	}
	w.is("a:running b:scheduled")
	if _, err := Clear(w.g, w.rs, ClearOptions{Selection: Selection{Tasks: []TaskSelection{{TaskID: "x"}, {TaskID: "y"}}}}, w.now); err == nil || !strings.Contains(err.Error(), `"y"`) {
		t.Fatalf("%v", err)
	}
	if _, err := Clear(w.g, w.rs, ClearOptions{OnlyRunning: true}, w.now); err != nil {
		t.Fatal(err)
	}
	w.is("a:restarting b:scheduled")
}

func TestMarkRefusesOtherStates(t *testing.T) {
	w := newWorld(t, dagOf(task("a"))).decide()
	sel := Selection{Tasks: []TaskSelection{{TaskID: "a"}}}
	if _, err := MarkTask(w.g, w.rs, MarkOptions{Selection: sel, State: airflow.TIRunning}, w.now); err == nil {
		t.Fatal("marked running")
	}
	if _, err := MarkTask(w.g, w.rs, MarkOptions{State: airflow.TISuccess}, w.now); err == nil {
		t.Fatal("marked nothing")
	}
	if _, err := MarkRun(w.g, w.rs, airflow.RunRunning, w.now); err == nil {
		t.Fatal("marked a run running")
	}
	res, err := MarkRun(w.g, w.rs, airflow.RunSuccess, w.now)
	if err != nil || res.Run != airflow.RunSuccess {
		t.Fatalf("%+v %v", res, err)
	}
	res, err = MarkRun(w.g, w.rs, airflow.RunQueued, w.now)
	if err != nil || res.Run != airflow.RunQueued || w.rs.Header.ClearNumber != 1 {
		t.Fatalf("%+v %v", res, err)
	}
}

func TestCompileReportsEveryProblem(t *testing.T) {
	m := task("m")
	m.IsMapped = true
	d := dagOf(task("a", "nope", "nope2"), task("a"), m)
	d.TaskGroup.Children = append(d.TaskGroup.Children, airflow.GroupChild{TaskID: "ghost"})
	_, err := Compile(d)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"nope"`, `"nope2"`, "twice", "ghost"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
	if _, err := Compile(dagOf(task("a", "b"), task("b", "a"))); err == nil || !strings.Contains(err.Error(), "cycle") {
		t.Errorf("%v", err)
	}
	if _, err := Compile(dagOf(m)); err == nil || !strings.Contains(err.Error(), "expand_input") {
		t.Errorf("%v", err)
	}
}

func TestHugeExpansionsAreNotMade(t *testing.T) {
	m := task("m")
	m.IsMapped = true
	m.Expand = &airflow.ExpandInput{Args: []airflow.ExpandArg{{Length: 1 << 20}, {Length: 1 << 20}, {Length: 1 << 20}, {Length: 1 << 20}}}
	w := newWorld(t, dagOf(m)).decide()
	if w.rs.Len() != 1 {
		t.Fatalf("%d instances", w.rs.Len())
	}
	w.is("m:upstream_failed run:failed")
}

// TestCostPerCompletionIsFlat counts examined instances instead of time.
func TestCostPerCompletionIsFlat(t *testing.T) {
	for name, build := range map[string]func(int) *airflow.DAG{"mapped": mappedDAG, "group": mappedGroupDAG} {
		for _, n := range []int{100, 10_000} {
			g, rs := benchRun(build(n))
			now := vecEpoch
			todo := Decide(g, rs, Facts{}, now).Transitions
			most := 0
			for len(todo) > 0 {
				x := todo[0]
				todo = todo[1:]
				if x.To != airflow.TIScheduled {
					continue
				}
				now = now.Add(time.Millisecond)
				d := finish(g, rs, x.Pos, now)
				most = max(most, d.Examined)
				todo = append(todo, d.Transitions...)
			}
			if rs.Header.State != airflow.RunSuccess {
				t.Fatalf("%s %d: %s", name, n, rs.Header.State)
			}
			if most > 8 {
				t.Errorf("%s %d: a completion examined %d instances", name, n, most)
			}
		}
	}
}

func TestTenTaskRunIsSmall(t *testing.T) {
	var tasks []*airflow.Task
	for i := range 10 {
		x := task(fmt.Sprintf("t%d", i))
		if i < 9 {
			x.Downstream = []airflow.TaskID{airflow.TaskID(fmt.Sprintf("t%d", i+1))}
		}
		tasks = append(tasks, x)
	}
	g, rs := benchRun(dagOf(tasks...))
	rs.Header.DagHash = strings.Repeat("0123456789abcdef", 4)
	drain(g, rs)
	if n := len(Encode(rs)) + len(EncodeChunk(rs, 0)); n > 500 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("%d bytes", n)
	}
}

package scheduler

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/timetable"
)

func cron(t *testing.T, expression string) timetable.Timetable {
	t.Helper()
	tt, err := timetable.Parse([]byte(`{"__type":"airflow.timetables.trigger.CronTriggerTimetable","__var":{"expression":"` + expression + `","timezone":"UTC","interval":0.0,"run_immediately":false}}`))
	if err != nil {
		t.Fatal(err)
	}
	return tt
}

func day(n int) time.Time { return vecEpoch.AddDate(0, 0, n) }

func planIDs(p RunPlan) (out []string) {
	for _, r := range p.Create {
		out = append(out, strings.TrimPrefix(string(r.RunID), "scheduled__"))
	}
	return out
}

func TestPlanRunsCatchesUp(t *testing.T) {
	d := dagOf(task("a"))
	start := day(0)
	d.StartDate, d.Catchup, d.MaxActiveRuns = &start, true, 16
	s := ScheduleState{StartDate: &start, Exists: func(ld time.Time) bool { return ld.Equal(day(1)) }}
	plan, err := PlanRuns(d, cron(t, "0 0 * * *"), s, PlanLimits{}, day(3).Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"2025-01-01T00:00:00+00:00", "2025-01-03T00:00:00+00:00", "2025-01-04T00:00:00+00:00"}
	if !reflect.DeepEqual(planIDs(plan), want) || plan.NextCreateAfter == nil || !plan.NextCreateAfter.Equal(day(4)) || plan.More || plan.Blocked {
		t.Fatalf("%v %+v", planIDs(plan), plan)
	}
	if r := plan.Create[0]; !r.LogicalDate.Equal(day(0)) || !r.RunAfter.Equal(day(0)) || r.RunType != airflow.RunTypeScheduled {
		t.Fatalf("%+v", r)
	}
	// In batches it makes the same runs.
	var ids []string
	for range 10 {
		p, err := PlanRuns(d, cron(t, "0 0 * * *"), s, PlanLimits{MaxRuns: 1}, day(3).Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, planIDs(p)...)
		s.LastIntervalStart, s.LastIntervalEnd = p.LastIntervalStart, p.LastIntervalEnd
		s.ActiveRuns += len(p.Create)
		if !p.More {
			break
		}
	}
	if !reflect.DeepEqual(ids, want) {
		t.Fatalf("%v", ids)
	}
}

func TestPlanRunsObeysLimits(t *testing.T) {
	d := dagOf(task("a"))
	start := day(0)
	d.StartDate, d.Catchup, d.MaxActiveRuns = &start, true, 2
	tt := cron(t, "0 0 * * *")
	now := day(5)
	plan, _ := PlanRuns(d, tt, ScheduleState{StartDate: &start}, PlanLimits{}, now)
	if len(plan.Create) != 2 || !plan.Blocked || plan.NextCreateAfter != nil || plan.Reason != CodeMaxActiveRuns || !plan.NextRunAfter.Equal(day(2)) {
		t.Fatalf("%+v", plan)
	}
	plan, _ = PlanRuns(d, tt, ScheduleState{StartDate: &start, ActiveRuns: 2}, PlanLimits{}, now)
	if len(plan.Create) != 0 || !plan.Blocked {
		t.Fatalf("%+v", plan)
	}
	for _, s := range []ScheduleState{{Paused: true}, {Stale: true}, {HasImportErrors: true}} {
		s.StartDate = &start
		if plan, _ := PlanRuns(d, tt, s, PlanLimits{}, now); len(plan.Create) != 0 || plan.Reason == "" || !plan.NextRunAfter.Equal(day(0)) {
			t.Fatalf("%+v: %+v", s, plan)
		}
	}
	d.AllowedRunTypes = []airflow.DagRunType{airflow.RunTypeManual}
	if plan, _ := PlanRuns(d, tt, ScheduleState{StartDate: &start}, PlanLimits{}, now); len(plan.Create) != 0 || plan.Reason != CodeRunTypeNotAllowed {
		t.Fatalf("%+v", plan)
	}
	d.AllowedRunTypes = nil
	end := day(1)
	d.MaxActiveRuns = 16
	if plan, _ := PlanRuns(d, tt, ScheduleState{StartDate: &start, EndDate: &end}, PlanLimits{}, now); len(plan.Create) != 2 || plan.NextRunAfter != nil || plan.NextCreateAfter != nil {
		t.Fatalf("%+v", plan)
	}
	later := day(9)
	if plan, _ := PlanRuns(d, tt, ScheduleState{StartDate: &later}, PlanLimits{}, now); len(plan.Create) != 0 || !plan.NextCreateAfter.Equal(later) {
		t.Fatalf("%+v", plan)
	}
}

func TestPlanRunsWithoutCatchupMakesTheLastOne(t *testing.T) {
	d := dagOf(task("a"))
	start := day(0)
	d.StartDate, d.MaxActiveRuns = &start, 16
	plan, _ := PlanRuns(d, cron(t, "0 0 * * *"), ScheduleState{StartDate: &start}, PlanLimits{}, day(5).Add(time.Hour))
	if got := planIDs(plan); !reflect.DeepEqual(got, []string{"2025-01-06T00:00:00+00:00"}) || !plan.NextCreateAfter.Equal(day(6)) {
		t.Fatalf("%v %+v", got, plan)
	}
}

func TestPlanBounds(t *testing.T) {
	a, b := task("a"), task("b")
	one, two, three := day(1), day(2), day(3)
	a.StartDate, b.StartDate, a.EndDate = &two, &one, &three
	start, end := PlanBounds(dagOf(a, b))
	if start == nil || !start.Equal(one) || end != nil {
		t.Fatalf("%v %v", start, end)
	}
}

func TestStartQueuedOrder(t *testing.T) {
	run := func(id string, after int, ordinal int, backfill int64) QueuedRun {
		return QueuedRun{Key: RunKey{"d", airflow.RunID(id)}, RunAfter: At(day(after)), BackfillOrdinal: ordinal, BackfillID: backfill}
	}
	runs := []QueuedRun{
		run("b2", 0, 2, 7), run("b1", 1, 1, 7), run("own2", 3, 0, 0), run("own1", 2, 0, 0), run("future", 30, 0, 0),
		run("own3", 4, 0, 0), run("b3", 2, 3, 7), run("held", 0, 1, 8),
	}
	runs[7].BackfillPaused = true
	lim := StartLimits{Running: map[RunSlot]int{{"d", 7}: 1}, MaxActiveRuns: map[RunSlot]int{{"d", 0}: 2, {"d", 7}: 3}}
	ids := func(lim StartLimits) (out []string) {
		for _, i := range StartQueued(runs, lim, day(10)) {
			out = append(out, string(runs[i].Key.RunID))
		}
		return out
	}
	if got := ids(lim); !reflect.DeepEqual(got, []string{"own1", "own2", "b1", "b2"}) {
		t.Fatalf("%v", got)
	}
	lim.Max = 3
	if got := ids(lim); len(got) != 3 {
		t.Fatalf("%v", got)
	}
	for i := range runs {
		runs[i].Paused = true
	}
	if got := ids(lim); got != nil {
		t.Fatalf("%v", got)
	}
}

func TestConsecutiveFailures(t *testing.T) {
	d := dagOf(task("a"))
	f, s := airflow.RunFailed, airflow.RunSuccess
	for _, c := range []struct {
		n      int
		recent []airflow.DagRunState
		want   bool
	}{
		{0, []airflow.DagRunState{f, f}, false}, {2, []airflow.DagRunState{f, f, s}, true},
		{2, []airflow.DagRunState{f}, false}, {2, []airflow.DagRunState{f, s, f}, false},
	} {
		d.MaxConsecutiveFailedDagRuns = c.n
		if got := ConsecutiveFailures(d, c.recent); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

func TestAssetConditions(t *testing.T) {
	d := dagOf(task("a"))
	d.Timetable = json.RawMessage(`{"__type":"airflow.timetables.simple.AssetTriggeredTimetable","__var":{"asset_condition":{"__type":"asset_all","objects":[
		{"__type":"asset","name":"x","uri":"s3://x","group":"asset","extra":{}},
		{"__type":"asset_any","objects":[{"__type":"asset_alias","name":"al","group":""},{"__type":"asset_ref","uri":"s3://z"}]}]}}}`)
	c, ok, err := AssetConditionOf(d)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	x := QueuedAsset{Name: "x", URI: "s3://x", CreatedAt: day(1)}
	viaAlias := QueuedAsset{Name: "y", URI: "s3://y", Aliases: []string{"al"}, CreatedAt: day(2)}
	z := QueuedAsset{Name: "z", URI: "s3://z", CreatedAt: day(3)}
	for _, k := range []struct {
		queued []QueuedAsset
		want   bool
	}{
		{nil, false}, {[]QueuedAsset{x}, false}, {[]QueuedAsset{viaAlias, z}, false},
		{[]QueuedAsset{x, viaAlias}, true}, {[]QueuedAsset{x, z}, true}, {[]QueuedAsset{x, viaAlias, z}, true},
	} {
		if got := EvaluateAssets(c, k.queued); got != k.want {
			t.Errorf("%v: %t", k.queued, got)
		}
	}
	plan := PlanAssetRun(c, []QueuedAsset{x}, nil, time.Time{})
	if plan.Create || len(plan.Waiting) != 2 || plan.Waiting[0].Name != "al" {
		t.Fatalf("%+v", plan)
	}
	event := func(id, name string, n int) PendingAssetEvent {
		return PendingAssetEvent{ID: id, Name: name, URI: "s3://" + name, Timestamp: day(n)}
	}
	events := []PendingAssetEvent{event("e5", "y", 2), event("e1", "x", 0), event("e2", "x", 1), event("e3", "x", 3), event("e4", "other", 1), event("e0", "x", -1)}
	plan = PlanAssetRun(c, []QueuedAsset{x, viaAlias}, events, day(-1))
	if !plan.Create || !plan.RunAfter.Equal(day(2)) || !reflect.DeepEqual(plan.Consumed, []string{"e1", "e2", "e5"}) {
		t.Fatalf("%+v", plan)
	}
	d.Timetable = json.RawMessage(`{"__type":"x","__var":{"asset_condition":{"__type":"asset_all","objects":[{"__type":"odd"},{"__type":"odder"}]}}}`)
	if _, _, err := AssetConditionOf(d); err == nil || !strings.Contains(err.Error(), "odder") {
		t.Fatalf("%v", err)
	}
	d.Timetable = json.RawMessage(`{"__type":"airflow.timetables.simple.NullTimetable","__var":{}}`)
	if _, ok, err := AssetConditionOf(d); ok || err != nil {
		t.Fatal(ok, err)
	}
}

func TestDeadlineReferences(t *testing.T) {
	alert := func(reference, interval string) json.RawMessage {
		return json.RawMessage(`{"name":null,"reference":{"reference_type":` + reference + `},"interval":` + interval + `,"callback":{}}`)
	}
	delta := `{"__classname__":"datetime.timedelta","__version__":2,"__data__":300.0}`
	d := dagOf(task("a"))
	d.Deadlines = []json.RawMessage{
		alert(`"DagRunLogicalDateDeadline"`, delta),
		alert(`"DagRunQueuedAtDeadline"`, `-60`),
		alert(`"FixedDatetimeDeadline","datetime":1735689600.0`, delta),
		alert(`"AverageRuntimeDeadline","max_runs":3,"min_runs":2`, delta),
		alert(`"MyOwn"`, delta),
		alert(`"DagRunQueuedAtDeadline"`, `"soon"`),
	}
	ld := day(1)
	h := Header{LogicalDate: &ld, QueuedAt: day(2)}
	now := day(3)
	got, err := Deadlines(d, h, DeadlineFacts{RecentDurations: []time.Duration{time.Hour, 3 * time.Hour}}, now)
	if err == nil || !strings.Contains(err.Error(), "MyOwn") || !strings.Contains(err.Error(), "deadline[5]") {
		t.Fatalf("%v", err)
	}
	want := []Deadline{{2, day(0).Add(5 * time.Minute)}, {0, day(1).Add(5 * time.Minute)}, {1, day(2).Add(-time.Minute)}, {3, now.Add(2*time.Hour + 5*time.Minute)}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%v", got)
	}
	d.Deadlines = d.Deadlines[:4]
	got, err = Deadlines(d, Header{}, DeadlineFacts{RecentDurations: []time.Duration{time.Hour}}, now)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v %v", got, err)
	}
}

func TestRebase(t *testing.T) {
	w := newWorld(t, dagOf(task("a", "b"), task("b", "c"), task("c"))).decide()
	w.run("a", ReportSuccess)
	w.decide()
	w.dispatch("b")
	w.report("b", Report{Kind: ReportRunning})
	next, err := Compile(dagOf(task("n", "a"), task("c"), task("a", "c")))
	if err != nil {
		t.Fatal(err)
	}
	res := Rebase(w.g, next, w.rs, w.now)
	old := w.g
	w.g = next
	w.is("a:success b:removed c:none n:none run:running")
	if len(res.Effects) != 1 || res.Effects[0].(CancelDispatch).Key.TaskID != "b" {
		t.Fatalf("%+v", res.Effects)
	}
	w.decide().is("n:scheduled c:scheduled b:removed")
	if !reflect.DeepEqual(w.rs.Gone, []airflow.TaskID{"b"}) {
		t.Fatalf("%v", w.rs.Gone)
	}
	Rebase(next, old, w.rs, w.now)
	w.g = old
	w.is("a:success b:none c:scheduled n:removed")
	w.decide().is("b:scheduled")
}

func TestAdmitExamples(t *testing.T) {
	cand := func(id string, weight int64, slots int) Candidate {
		return Candidate{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: airflow.TaskID(id), MapIndex: -1}, Pool: "p", PoolSlots: slots, PriorityWeight: weight, MaxActiveTasks: 16}
	}
	c := Capacity{Pools: map[string]PoolUse{"p": {Slots: 3, Occupied: 1}}}
	list := []Candidate{cand("small", 1, 1), cand("big", 9, 5), cand("middle", 5, 2), cand("last", 0, 1)}
	a := Admit(c, list, AdmitLimits{})
	if !reflect.DeepEqual(a.Queued, []int{2}) || a.Blocked[1] != CodePoolTooSmall || a.Blocked[0] != CodePoolFull || a.Blocked[3] != CodePoolFull {
		t.Fatalf("%+v", a)
	}
	if err := checkAdmission(c, list, a); err != nil {
		t.Fatal(err)
	}
	c.Pools["p"] = PoolUse{Slots: airflow.UnlimitedSlots}
	if a := Admit(c, list, AdmitLimits{MaxTIs: 2}); !reflect.DeepEqual(a.Queued, []int{1, 2}) || a.Blocked[0] != CodeNotLookedAt {
		t.Fatalf("%+v", a)
	}
	c.Pools["p"] = PoolUse{Slots: 0}
	if a := Admit(c, list, AdmitLimits{}); a.Queued != nil || len(a.Blocked) != len(list) {
		t.Fatalf("%+v", a)
	}
	if _, ok := c.Pools["p"]; !ok || c.Pools["p"].Occupied != 0 {
		t.Fatal("the capacity was changed")
	}
}

func ExampleReasons() {
	g, rs := benchRun(mappedDAG(3))
	Decide(g, rs, Facts{}, vecEpoch)
	Dispatch(g, rs, []int{0}, 0, vecEpoch)
	for _, r := range Reasons(g, rs, Facts{}, vecEpoch, map[int]Code{1: CodePoolFull}) {
		fmt.Println(airflow.TIName(r.Key.TaskID, r.Key.MapIndex), r.Code, "-", r.Text)
	}
	// Output:
	// m[0] queued - Sent to the executor as dispatch 1; no worker has claimed it yet.
	// m[1] pool_full - It needs 1 free slots of pool "default_pool".
	// m[2] waits_for_slot - Its dependencies are met; it waits for a slot by priority.
	// join upstream_not_done - The rule all_success waits for upstream tasks (0 of 3 done): m[0] is queued, m[1] is scheduled, m[2] is scheduled.
}

package scheduler

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/airflow"
)

// genDAG draws a small DAG with everything that interacts: all rules, retries,
// branches, setups and teardowns, mapping over literals, results and mapped
// results, mapped groups (nested too), limits, past dependence.
func genDAG(t *rapid.T) *airflow.DAG {
	n := rapid.IntRange(1, 8).Draw(t, "tasks")
	d := &airflow.DAG{DagID: "d", MaxActiveTasks: 16, MaxActiveRuns: 16}
	d.FailFast = rapid.IntRange(0, 14).Draw(t, "fail_fast") == 14
	if rapid.IntRange(0, 29).Draw(t, "timeout") == 29 {
		d.DagrunTimeout = time.Minute
	}
	start := vecEpoch
	d.StartDate = &start
	root := &airflow.TaskGroup{}
	d.TaskGroup = root
	ref := func(i int) *airflow.XComRef {
		return &airflow.XComRef{TaskID: taskName(i), Key: airflow.XComReturnKey}
	}
	down := make([]map[int]bool, n)
	for i := range down {
		down[i] = map[int]bool{}
	}
	// expand draws an expansion of something after task i-1; it returns the sources.
	expand := func(i int) (*airflow.ExpandInput, []int) {
		arg := func(k int) (airflow.ExpandArg, []int) {
			name := fmt.Sprintf("x%d", k)
			if i == 0 || rapid.IntRange(0, 2).Draw(t, "literal") == 0 {
				return airflow.ExpandArg{Name: name, Literal: []byte("[]"), Length: rapid.IntRange(0, 3).Draw(t, "length")}, nil
			}
			a := rapid.IntRange(0, i-1).Draw(t, "source")
			b := rapid.IntRange(0, i-1).Draw(t, "source2")
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0:
				return airflow.ExpandArg{Name: name, XCom: &airflow.XComRef{Type: airflow.XComZip, Args: []*airflow.XComRef{ref(a), ref(b)}, HasFill: rapid.Bool().Draw(t, "fill")}}, []int{a, b}
			case 1:
				return airflow.ExpandArg{Name: name, XCom: &airflow.XComRef{Type: airflow.XComConcat, Args: []*airflow.XComRef{ref(a), ref(b)}}}, []int{a, b}
			case 2:
				return airflow.ExpandArg{Name: name, XCom: &airflow.XComRef{Type: airflow.XComMap, Args: []*airflow.XComRef{ref(a)}}}, []int{a}
			}
			return airflow.ExpandArg{Name: name, XCom: ref(a)}, []int{a}
		}
		in := &airflow.ExpandInput{Kind: airflow.ExpandDictOfLists}
		var src []int
		for k := range rapid.IntRange(1, 2).Draw(t, "args") {
			a, s := arg(k)
			in.Args = append(in.Args, a)
			src = append(src, s...)
		}
		return in, src
	}
	// A group takes tasks first..last; perhaps one inside it takes a part of them.
	group := func(id string, parent *airflow.TaskGroup, lo, hi int) (*airflow.TaskGroup, int, int) {
		first := rapid.IntRange(lo, hi-1).Draw(t, id+" first")
		last := rapid.IntRange(first, hi-1).Draw(t, id+" last")
		g := &airflow.TaskGroup{GroupID: airflow.GroupID(id), IsMapped: rapid.Bool().Draw(t, id+" mapped")}
		if g.IsMapped {
			var src []int
			g.Expand, src = expand(first)
			for _, s := range src { // Airflow draws edges to the roots of the group
				for i := first; i <= last; i++ {
					if i == first || rapid.IntRange(0, 2).Draw(t, "from source") == 0 {
						down[s][i] = true
					}
				}
			}
		}
		parent.Children = append(parent.Children, airflow.GroupChild{Group: g})
		return g, first, last
	}
	in := make([]*airflow.TaskGroup, n)
	for i := range in {
		in[i] = root
	}
	if rapid.IntRange(0, 1).Draw(t, "group") == 0 {
		g, first, last := group("G", root, 0, n)
		for i := first; i <= last; i++ {
			in[i] = g
		}
		if rapid.IntRange(0, 2).Draw(t, "nested") == 0 {
			h, a, b := group("H", g, first, last+1)
			for i := a; i <= b; i++ {
				in[i] = h
			}
		}
	}
	for i := range n {
		x := &airflow.Task{
			TaskID: taskName(i), PriorityWeight: 1, Pool: airflow.DefaultPool, PoolSlots: 1, DoXComPush: true,
			Retries: rapid.IntRange(0, 1).Draw(t, "retries"), RetryDelay: time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")) * time.Second,
		}
		x.TriggerRule = rapid.SampledFrom(airflow.TriggerRules).Draw(t, "rule")
		if rapid.IntRange(0, 1).Draw(t, "plain rule") == 0 {
			x.TriggerRule = airflow.RuleAllSuccess
		}
		for u := range i {
			if rapid.IntRange(0, 2).Draw(t, "edge") == 0 {
				down[u][i] = true
			}
		}
		switch rapid.IntRange(0, 11).Draw(t, "kind") {
		case 0:
			x.IsEmpty = true
		case 1, 2:
			x.CanSkipDownstream = true
		case 3, 4:
			x.IsSetup = true
		case 5, 6:
			x.IsTeardown, x.TriggerRule = true, airflow.RuleAllDoneSetupSuccess
			x.OnFailureFailDagrun = rapid.Bool().Draw(t, "fails run")
		case 7, 8, 9:
			var src []int
			x.IsMapped = true
			x.Expand, src = expand(i)
			for _, s := range src {
				down[s][i] = true
			}
		}
		switch rapid.IntRange(0, 19).Draw(t, "special") {
		case 0:
			x.MaxActiveTIsPerDag = 1
		case 1:
			x.DependsOnPast = true
			x.WaitForPastDependsBeforeSkipping = rapid.Bool().Draw(t, "wait before skipping")
		case 2:
			late := vecEpoch.AddDate(1, 0, 0)
			x.StartDate = &late
		}
		d.Tasks = append(d.Tasks, x)
		in[i].Children = append(in[i].Children, airflow.GroupChild{TaskID: x.TaskID})
	}
	for i, m := range down {
		for k := range n {
			if m[k] {
				d.Tasks[i].Downstream = append(d.Tasks[i].Downstream, taskName(k))
			}
		}
	}
	return d
}

func taskName(i int) airflow.TaskID { return airflow.TaskID(string(rune('a' + i))) }

func genRun(t *rapid.T) (*Graph, *RunState) {
	g, err := Compile(genDAG(t))
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	ld := vecEpoch
	h := Header{DagID: "d", RunID: "r", RunType: airflow.RunTypeManual, State: airflow.RunQueued, RunAfter: ld, LogicalDate: &ld, DagHash: "h"}
	rs := NewRun(g, h)
	StartRun(rs, ld)
	return g, rs
}

func roundTrip(t *rapid.T, g *Graph, rs *RunState) *RunState {
	var chunks [][]byte
	for i := range rs.Chunks {
		chunks = append(chunks, EncodeChunk(rs, i))
	}
	out, err := Decode(g, Encode(rs), chunks)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return out
}

// act draws one thing that happens to a run and does it to all copies alike.
func act(t *rapid.T, g *Graph, copies []*RunState, now time.Time) {
	rs := copies[0]
	pick := func(name string, ok func(airflow.TIState) bool) (int, bool) {
		var list []int
		for p := range rs.Len() {
			if ok(rs.At(p).State) {
				list = append(list, p)
			}
		}
		if len(list) == 0 {
			return 0, false
		}
		return rapid.SampledFrom(list).Draw(t, name), true
	}
	is := func(states ...airflow.TIState) func(airflow.TIState) bool {
		return func(s airflow.TIState) bool {
			for _, x := range states {
				if s == x {
					return true
				}
			}
			return false
		}
	}
	some := func(name string) Selection {
		s := Selection{Upstream: rapid.IntRange(0, 4).Draw(t, "up") == 0, Downstream: rapid.IntRange(0, 1).Draw(t, "down") == 0}
		p := rapid.IntRange(0, rs.Len()-1).Draw(t, name)
		x := TaskSelection{TaskID: rs.TaskID(g, rs.At(p))}
		if rapid.IntRange(0, 3).Draw(t, "one index") == 0 {
			x.MapIndexes = []int{int(rs.At(p).MapIndex)}
		}
		s.Tasks = []TaskSelection{x}
		return s
	}
	all := func(f func(*RunState) any) {
		want := f(rs)
		for _, c := range copies[1:] {
			if got := f(c); !reflect.DeepEqual(got, want) {
				t.Fatalf("the same action: %+v and %+v", want, got)
			}
		}
	}
	report := func(p int, r Report) {
		x := rs.At(p)
		r.Task, r.MapIndex, r.DispatchSeq = rs.TaskID(g, x), int(x.MapIndex), x.DispatchSeq
		all(func(c *RunState) any { return Apply(g, c, r, ReportLimits{MaxMapLength: 3}, now) })
	}
	if rs.Len() == 0 {
		return
	}
	switch k := rapid.IntRange(0, 23).Draw(t, "act"); {
	case k > 20:
		// Everything scheduled is queued and claimed at once.
		for p := range rs.Len() {
			if rs.At(p).State == airflow.TIScheduled {
				all(func(c *RunState) any { return Dispatch(g, c, []int{p}, 0, now) })
				report(p, Report{Kind: ReportRunning})
			}
		}
	case k < 6:
		if p, ok := pick("dispatch", is(airflow.TIScheduled)); ok {
			timeout := time.Duration(0)
			if k == 0 {
				timeout = time.Second
			}
			all(func(c *RunState) any { return Dispatch(g, c, []int{p}, timeout, now) })
			if k > 2 {
				report(p, Report{Kind: ReportRunning})
			}
		}
	case k < 17:
		p, ok := pick("report", is(airflow.TIRunning, airflow.TIQueued, airflow.TIRestarting, airflow.TIDeferred))
		if !ok {
			return
		}
		r := Report{XCom: XComInfo{Length: -1}}
		if rs.At(p).State == airflow.TIDeferred {
			r.Kind = ReportResume
			report(p, r)
			return
		}
		switch o := rapid.IntRange(0, 13).Draw(t, "outcome"); {
		case o < 7:
			r.Kind = ReportSuccess
			if rapid.IntRange(0, 6).Draw(t, "push") > 0 {
				r.XCom = XComInfo{Pushed: true, Length: rapid.SampledFrom([]int{2, 1, 3, 0, 2, 3, -1, 4}).Draw(t, "length")}
			}
			n := &g.Tasks[rs.At(p).Task]
			if n.Task.CanSkipDownstream && rapid.IntRange(0, 3).Draw(t, "choice") > 0 {
				r.Choice = &SkipChoice{Kind: ChoiceKind(rapid.IntRange(1, 3).Draw(t, "choice kind")), DirectOnly: rapid.Bool().Draw(t, "direct")}
				for _, x := range n.Downstream {
					if rapid.Bool().Draw(t, "follow") {
						r.Choice.Follow = append(r.Choice.Follow, string(g.Tasks[x].ID))
					}
				}
			}
		case o < 8:
			r.Kind = ReportFailed
		case o == 8:
			r.Kind = ReportFailedHard
		case o == 9:
			r.Kind = ReportSkipped
		case o == 10:
			r.Kind, r.Until = ReportReschedule, now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "until"))*time.Second)
		case o == 11:
			r.Kind, r.Until = ReportDeferred, now.Add(2*time.Second)
		case o == 12:
			r.Kind = ReportLost
		default:
			r.Kind = ReportNotAccepted
		}
		report(p, r)
	case k == 17 || k == 20:
		sel := some("clear")
		o := ClearOptions{Selection: sel, ResetDagRun: true, OnlyFailed: rapid.IntRange(0, 3).Draw(t, "only failed") == 0}
		all(func(c *RunState) any { r, err := Clear(g, c, o, now); return []any{r, err} })
	case k == 18:
		sel := some("mark")
		to := rapid.SampledFrom([]airflow.TIState{airflow.TISuccess, airflow.TIFailed, airflow.TISkipped}).Draw(t, "mark as")
		all(func(c *RunState) any {
			r, err := MarkTask(g, c, MarkOptions{Selection: sel, State: to}, now)
			return []any{r, err}
		})
	case k == 19 && rapid.IntRange(0, 4).Draw(t, "mark run") == 0:
		to := rapid.SampledFrom([]airflow.DagRunState{airflow.RunSuccess, airflow.RunFailed, airflow.RunQueued}).Draw(t, "mark run as")
		all(func(c *RunState) any { r, err := MarkRun(g, c, to, now); return []any{r, err} })
	default:
	}
}

// TestIncrementalEqualsFull drives the same run three times through the same
// events: examining every instance, examining dirty ones only, and the latter
// with a trip through the stored form before every decision. All three must make
// the same transitions in the same order, ask for the same effects and wake at
// the same time. On the way it checks what must hold for every decision:
//
//   - it is allowed by the table of transitions;
//   - deciding again changes nothing (quiescence);
//   - a running run has something that will move it: an instance at work or
//     scheduled, a wake time, or a reason that names what it waits for (liveness);
//   - the derived counters agree with the instances.
func TestIncrementalEqualsFull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, full := genRun(t)
		inc := roundTrip(t, g, full)
		stored := roundTrip(t, g, full)
		now := vecEpoch
		var past *PreviousRun
		if rapid.Bool().Draw(t, "has previous") {
			past = &PreviousRun{LogicalDate: vecEpoch.AddDate(0, 0, -1), Tasks: map[airflow.TaskID]PreviousTask{}}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 500, 3000}).Draw(t, "ms")) * time.Millisecond)
			copies := []*RunState{full, inc, stored}
			for range rapid.IntRange(0, 8).Draw(t, "acts") {
				act(t, g, copies, now)
			}
			if full.Header.State == airflow.RunQueued {
				for _, c := range copies {
					StartRun(c, now)
				}
			}
			stored = roundTrip(t, g, stored)
			f := Facts{IgnoreFirstDependsOnPast: true, Previous: past}
			f.Paused = rapid.IntRange(0, 14).Draw(t, "paused") == 14
			if past != nil {
				for _, x := range g.Tasks {
					past.Tasks[x.ID] = PreviousTask{Unsuccessful: rapid.IntRange(0, 1).Draw(t, "unsuccessful")}
				}
			}
			ff := f
			ff.Full = true
			want := Decide(g, full, ff, now)
			for name, c := range map[string]*RunState{"incremental": inc, "stored": stored} {
				got := Decide(g, c, f, now)
				if got.Examined > want.Examined {
					t.Fatalf("%s examined %d instances, a full pass %d", name, got.Examined, want.Examined)
				}
				got.Examined = want.Examined
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("%s:\n got %+v\nwant %+v", name, got, want)
				}
				if !reflect.DeepEqual(states(g, c), states(g, full)) {
					t.Fatalf("%s: states %v, want %v", name, states(g, c), states(g, full))
				}
			}
			checkDecision(t, g, inc, f, want, now)
		}
	})
}

func checkDecision(t *rapid.T, g *Graph, rs *RunState, f Facts, d Decision, now time.Time) {
	for _, x := range d.Transitions {
		if x.From != x.To && !AllowedTransition(x.From, x.To) {
			t.Fatalf("%s -> %s is not allowed: %+v", x.From, x.To, x)
		}
	}
	if err := checkDerived(g, rs); err != nil {
		t.Fatal(err)
	}
	if again := Decide(g, rs, f, now); len(again.Transitions)+len(again.Effects) > 0 || again.Run != d.Run {
		t.Fatalf("deciding again: %+v", again)
	}
	if d.Wake.Before(now) && !d.Wake.IsZero() {
		t.Fatalf("it wants to wake at %s, now is %s", d.Wake, now)
	}
	reasons := Reasons(g, rs, f, now, nil)
	if rs.Header.State != airflow.RunRunning {
		return
	}
	byPos := map[int]Reason{}
	for _, r := range reasons {
		if r.Code == "" || r.Text == "" || r.WakesBy == "" {
			t.Fatalf("no reason: %+v", r)
		}
		byPos[r.Pos] = r
	}
	for p := range rs.Len() {
		st := rs.At(p).State
		r, ok := byPos[p]
		if ok == st.Finished() {
			t.Fatalf("instance %d is %s: reason %+v", p, st, r)
		}
		if r.Code == CodeDepsMet && !f.Paused {
			t.Fatalf("instance %d: everything is met, but the decision did not schedule it", p)
		}
	}
}

// TestDecideIsPure decides twice from equal input and compares the stored forms.
func TestDecideIsPure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, a := genRun(t)
		b := roundTrip(t, g, a)
		now := vecEpoch.Add(time.Hour)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			da, db := Decide(g, a, Facts{}, now), Decide(g, b, Facts{}, now)
			if !reflect.DeepEqual(da, db) || !bytes.Equal(Encode(a), Encode(b)) {
				t.Fatalf("%+v\n%+v", da, db)
			}
			for i := range a.Chunks {
				if !bytes.Equal(EncodeChunk(a, i), EncodeChunk(b, i)) {
					t.Fatalf("chunk %d differs", i)
				}
			}
			act(t, g, []*RunState{a, b}, now)
		}
	})
}

// TestRebaseKeepsWhatIsKnown moves runs between unrelated versions and back.
func TestRebaseKeepsWhatIsKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, rs := genRun(t)
		h, err := Compile(genDAG(t))
		if err != nil {
			t.Fatal(err)
		}
		now := vecEpoch
		for range rapid.IntRange(0, 10).Draw(t, "steps") {
			act(t, g, []*RunState{rs}, now)
			now = now.Add(time.Second)
			Decide(g, rs, Facts{}, now)
		}
		tries := map[string]uint16{}
		for p := range rs.Len() {
			tries[airflow.TIName(rs.TaskID(g, rs.At(p)), int(rs.At(p).MapIndex))] = rs.At(p).TryNumber
		}
		check := func(g *Graph, res ActionResult) {
			for _, x := range res.Transitions {
				if x.From != x.To && !AllowedTransition(x.From, x.To) {
					t.Fatalf("%s -> %s is not allowed: %+v", x.From, x.To, x)
				}
			}
			if err := checkDerived(g, rs); err != nil {
				t.Fatal(err)
			}
			have := map[string]bool{}
			for p := range rs.Len() {
				x := rs.At(p)
				name := airflow.TIName(rs.TaskID(g, x), int(x.MapIndex))
				have[name] = true
				if n, ok := tries[name]; ok && n != x.TryNumber {
					t.Fatalf("try of %s changed from %d to %d", name, n, x.TryNumber)
				}
				if int(x.Task) >= len(g.Tasks) && x.State != airflow.TIRemoved {
					t.Fatalf("%s is gone but %s", name, x.State)
				}
			}
			for name := range tries {
				if !have[name] {
					t.Fatalf("%s was lost", name)
				}
			}
		}
		check(h, Rebase(g, h, rs, now))
		check(g, Rebase(h, g, rs, now))
		if len(rs.Gone) > 8 {
			t.Fatalf("gone: %v", rs.Gone)
		}
		copyOf := roundTrip(t, g, rs)
		if !reflect.DeepEqual(states(g, copyOf), states(g, rs)) {
			t.Fatal("the stored form differs")
		}
		d := Decide(g, rs, Facts{Full: true}, now)
		checkDecision(t, g, rs, Facts{}, d, now)
	})
}

package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

func benchDAG(tasks ...*airflow.Task) *airflow.DAG {
	d := &airflow.DAG{DagID: "bench", MaxActiveTasks: 1 << 20, TaskGroup: &airflow.TaskGroup{}}
	for _, t := range tasks {
		t.TriggerRule, t.Pool, t.PoolSlots, t.PriorityWeight = airflow.RuleAllSuccess, airflow.DefaultPool, 1, 1
		d.Tasks = append(d.Tasks, t)
		d.TaskGroup.Children = append(d.TaskGroup.Children, airflow.GroupChild{TaskID: t.TaskID})
	}
	return d
}

func over(n int) *airflow.ExpandInput {
	return &airflow.ExpandInput{Kind: airflow.ExpandDictOfLists, Args: []airflow.ExpandArg{{Name: "x", Literal: []byte("[]"), Length: n}}}
}

func benchRun(d *airflow.DAG) (*Graph, *RunState) {
	g, err := Compile(d)
	if err != nil {
		panic(err)
	}
	ld := vecEpoch
	rs := NewRun(g, Header{DagID: d.DagID, RunID: "scheduled__2025-01-01T00:00:00+00:00", RunType: airflow.RunTypeScheduled, State: airflow.RunQueued, RunAfter: ld, LogicalDate: &ld})
	StartRun(rs, ld)
	return g, rs
}

// finish dispatches, claims and ends one scheduled instance, deciding after the end.
func finish(g *Graph, rs *RunState, pos int, now time.Time) Decision {
	Dispatch(g, rs, []int{pos}, 0, now)
	t := rs.At(pos)
	r := Report{Kind: ReportSuccess, Task: rs.TaskID(g, t), MapIndex: int(t.MapIndex), DispatchSeq: t.DispatchSeq, XCom: XComInfo{Pushed: true, Length: -1}}
	Apply(g, rs, r, ReportLimits{}, now)
	return Decide(g, rs, Facts{}, now)
}

// drain runs a run to its end; steps is the number of completions.
func drain(g *Graph, rs *RunState) (steps int) {
	now := vecEpoch
	todo := Decide(g, rs, Facts{}, now).Transitions
	for len(todo) > 0 {
		t := todo[0]
		todo = todo[1:]
		if t.To == airflow.TIScheduled {
			now = now.Add(time.Millisecond)
			todo = append(todo, finish(g, rs, t.Pos, now).Transitions...)
			steps++
		}
	}
	return steps
}

func benchDrain(b *testing.B, d *airflow.DAG) {
	b.ReportAllocs()
	steps := 0
	for b.Loop() {
		g, rs := benchRun(d)
		steps += drain(g, rs)
		if rs.Header.State != airflow.RunSuccess {
			b.Fatal(rs.Header.State)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/completion")
}

// BenchmarkChain: a run of ten tasks, one after the other.
func BenchmarkChain(b *testing.B) {
	var tasks []*airflow.Task
	for i := range 10 {
		t := &airflow.Task{TaskID: airflow.TaskID(fmt.Sprintf("t%d", i))}
		if i > 0 {
			tasks[i-1].Downstream = []airflow.TaskID{t.TaskID}
		}
		tasks = append(tasks, t)
	}
	benchDrain(b, benchDAG(tasks...))
}

// BenchmarkMapped: one mapped task with a join below; the cost of a completion
// must not depend on the width.
func BenchmarkMapped(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchDrain(b, mappedDAG(n)) })
	}
}

func mappedDAG(n int) *airflow.DAG {
	return benchDAG(
		&airflow.Task{TaskID: "m", IsMapped: true, Expand: over(n), Downstream: []airflow.TaskID{"join"}},
		&airflow.Task{TaskID: "join"},
	)
}

// BenchmarkMappedGroup: t1[i] >> t2[i] in a mapped group, and a join.
func BenchmarkMappedGroup(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchDrain(b, mappedGroupDAG(n)) })
	}
}

func mappedGroupDAG(n int) *airflow.DAG {
	d := benchDAG(
		&airflow.Task{TaskID: "t1", Downstream: []airflow.TaskID{"t2"}},
		&airflow.Task{TaskID: "t2", Downstream: []airflow.TaskID{"join"}},
		&airflow.Task{TaskID: "join"},
	)
	d.TaskGroup.Children = []airflow.GroupChild{
		{Group: &airflow.TaskGroup{GroupID: "G", IsMapped: true, Expand: over(n), Children: []airflow.GroupChild{{TaskID: "t1"}, {TaskID: "t2"}}}},
		{TaskID: "join"},
	}
	return d
}

// BenchmarkMappedAgain: a mapped task over a mapped one, both run a second time:
// every instance of the second waits for every instance of the first.
func BenchmarkMappedAgain(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := benchDAG(
				&airflow.Task{TaskID: "m1", IsMapped: true, Expand: over(n), Downstream: []airflow.TaskID{"m2"}},
				&airflow.Task{TaskID: "m2", IsMapped: true, Expand: &airflow.ExpandInput{Kind: airflow.ExpandDictOfLists, Args: []airflow.ExpandArg{{Name: "x", XCom: &airflow.XComRef{TaskID: "m1"}}}}},
			)
			steps := 0
			for b.Loop() {
				g, rs := benchRun(d)
				steps += drain(g, rs)
				if _, err := Clear(g, rs, ClearOptions{ResetDagRun: true}, vecEpoch); err != nil {
					b.Fatal(err)
				}
				StartRun(rs, vecEpoch)
				steps += drain(g, rs)
				if rs.Header.State != airflow.RunSuccess {
					b.Fatal(rs.Header.State)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/completion")
		})
	}
}

// BenchmarkEncode: one chunk of a run whose instances have all run.
func BenchmarkEncode(b *testing.B) {
	g, rs := benchRun(mappedDAG(2 * ChunkSize))
	drain(g, rs)
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = len(EncodeChunk(rs, 1))
	}
	b.ReportMetric(float64(size)/ChunkSize, "bytes/instance")
}

package costreport

import (
	"math"
	"strconv"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/prices"
)

// Facts are what a store remembers of a run, from which its cost on AWS is
// estimated without having counted anything while it ran.
type Facts struct {
	DagID, RunID string
	// Steps is how often the run's state was committed, MetaBytes the size of its
	// item and ChunkBytes those of its chunk items (none unless it is wide).
	Steps      int
	MetaBytes  int
	ChunkBytes []int
	// Dated runs reserved their logical date, Scheduled ones moved their DAG's next
	// run.
	Dated, Scheduled bool
	Tries            []TryFacts
}

// TryFacts are one try of a task instance.
type TryFacts struct {
	TaskID   string
	MapIndex int
	Try      int
	// Dispatches is how often this try was sent to a worker: more than once when it
	// was rescheduled, deferred or requeued.
	Dispatches int
	// RowBytes is the size of the instance's item at the end.
	RowBytes int
	// XComBytes are the sizes of XComs that are items of their own; those above
	// LargeXComBytes are objects.
	XComBytes []int
	Seconds   float64 // it ran
}

// Model says how Gust on AWS runs tasks; Default is measured (bench/awscost).
type Model struct {
	MemoryMB, WorkerMemoryMB int
	Arch                     string
	// StepMillis, DispatchMillis are what the functions are billed beyond the task's
	// own time.
	StepMillis, DispatchMillis float64
	// HeartbeatSeconds is between two heartbeats of a task.
	HeartbeatSeconds float64
	// LogBytes is the log of a task with the worker's own lines.
	LogBytes float64
	// LargeXComBytes is store.LargeXComBytes.
	LargeXComBytes int
}

// DefaultModel is the deployment of stage prod.
func DefaultModel() Model {
	return Model{MemoryMB: 512, WorkerMemoryMB: 512, Arch: "arm64", StepMillis: 35, DispatchMillis: 40, HeartbeatSeconds: 60, LogBytes: 2048, LargeXComBytes: 64 << 10}
}

func kb(n int) float64 { return math.Max(1, math.Ceil(float64(n)/1024)) }

func reads(n int) float64 { return math.Max(1, math.Ceil(float64(n)/4096)) }

// Estimate computes what a run would have cost on AWS. It is an upper bound on
// what batches share: steps are taken as the store counted them, messages as sent
// one by one to the scheduler and ten by ten to workers of a wide run.
func Estimate(f Facts, m Model, table *prices.Table) Report {
	c := Collector{DagID: f.DagID, RunID: f.RunID}
	dispatches := 0
	for _, t := range f.Tries {
		dispatches += t.Dispatches
	}

	// The run: its creation and end (ADR 2), and a write and a read per step.
	run := awsmeter.Usage{DagID: f.DagID, RunID: f.RunID, WriteUnits: 1 + 2 + 1 + 2, ReadUnits: 2}
	if f.Dated {
		run.WriteUnits += 2*2 - 1 // created in a transaction with the reservation
	}
	if f.Scheduled {
		run.WriteUnits += 3
	}
	step := kb(f.MetaBytes)
	state := reads(f.MetaBytes)
	if len(f.ChunkBytes) > 0 {
		// A transaction of META and, mostly, one chunk.
		biggest := 0
		for _, n := range f.ChunkBytes {
			biggest = max(biggest, n)
			state += reads(n)
		}
		step = 2 * (kb(f.MetaBytes) + kb(biggest))
	}
	run.WriteUnits += float64(f.Steps) * step
	run.ReadUnits += float64(f.Steps) * (state + 1)
	run.Invocations, run.Millis = float64(f.Steps), float64(f.Steps)*m.StepMillis
	run.SQS = 2 * float64(f.Steps) // the mapping's receive and delete
	if f.Steps > 0 && dispatches > 0 {
		run.SQS += math.Ceil(float64(dispatches)/10) + math.Max(0, float64(min(f.Steps, dispatches))-math.Ceil(float64(dispatches)/10))
	}
	run.Calls = float64(f.Steps)*3 + 6
	c.Add(awsmeter.Line{MemoryMB: m.MemoryMB, Arch: m.Arch, Usage: []awsmeter.Usage{run}}, 160*f.Steps, table)

	for _, t := range f.Tries {
		index := t.MapIndex
		u := awsmeter.Usage{DagID: f.DagID, RunID: f.RunID, TaskID: t.TaskID, MapIndex: &index}
		n := float64(t.Dispatches)
		row := kb(t.RowBytes)
		u.WriteUnits = n * (1 + row)                                         // claim, finish
		u.WriteUnits += math.Floor(t.Seconds/m.HeartbeatSeconds) * row       // heartbeats
		u.ReadUnits = n*(1+state) + math.Floor(t.Seconds/m.HeartbeatSeconds) // INFO and META at the claim; the cancel flag
		if t.Try > 1 {
			u.WriteUnits += row // the earlier try moves to the history
			u.ReadUnits += reads(t.RowBytes)
		}
		for _, x := range t.XComBytes {
			if x > m.LargeXComBytes {
				u.S3Puts++
				u.WriteUnits++
				continue
			}
			u.WriteUnits += kb(x)
		}
		u.SQS = n * 3 // receive, delete, and the report to the scheduler
		u.Invocations, u.Millis = n, n*m.DispatchMillis+t.Seconds*1000
		u.Calls = u.WriteUnits/row + u.ReadUnits + n
		c.Add(awsmeter.Line{MemoryMB: m.WorkerMemoryMB, Arch: m.Arch, Usage: []awsmeter.Usage{u}}, int(n*(m.LogBytes+160)), table)
	}
	return c.Report("estimated", table,
		"estimated from what the store remembers: what the run would have cost on AWS; nothing was counted while it ran",
		"Lambda's time is that of the tasks as they ran here, on a function of "+strconv.Itoa(m.WorkerMemoryMB)+" MB; without free tiers, storage, and what is billed while nothing runs")
}

package awsemu_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine/enginetest"
)

// fan is a DAG of n tasks that depend on nothing.
func fan(id string, n int) enginetest.DAG {
	d := enginetest.DAG{ID: id, Fields: map[string]any{"max_active_tasks": 100000}}
	for i := range n {
		d.Tasks = append(d.Tasks, enginetest.Task{ID: fmt.Sprintf("t%04d", i)})
	}
	return d
}

// asMeasured charges the scheduler what it computes at the moment, if that is more
// than the median of a small step: steps of wide runs are longer. Elsewhere much
// runs side by side, and only medians say something. While this machine does other
// things too, that is too much rather than too little.
func asMeasured(cpu awsemu.CPU) awsemu.CPU {
	return func(function, operation string, real time.Duration) time.Duration {
		d := cpu(function, operation, real)
		if function == awsenv.Scheduler {
			d = max(d, time.Duration(float64(real)/float64(runtime.GOMAXPROCS(0))/vCPU(function)))
		}
		return d
	}
}

// TestEmulatedParallel125: 125 independent tasks of 10 s.
func TestEmulatedParallel125(t *testing.T) {
	cpu := calibrated(t)
	for _, c := range []struct {
		name   string
		warm   int
		burst  bool
		poller int
		most   time.Duration
	}{
		{"warm, burst", -1, true, 0, 12 * time.Second}, {"cold, burst", 0, true, 0, 15 * time.Second},
		{"warm, provisioned pollers", -1, false, 13, 12 * time.Second},
		{"warm, default mapping", -1, false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := site(t, emusite.Options{Work: sleeps(10 * time.Second), Burst: c.burst, TaskPollers: c.poller, Cloud: awsemu.Options{Warm: c.warm, CPU: asMeasured(cpu), Limits: true}})
				defer s.Close()
				if err := s.Register(t.Context(), fan("wide", 125)); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				k := trigger(t, s, "wide", "r")
				run, err := s.Wait(t.Context(), k, 10*time.Minute)
				if err != nil || run.State != airflow.RunSuccess {
					t.Fatal(run.State, err)
				}
				var started awsemu.Spread
				for _, at := range s.Starts {
					started = append(started, at.Sub(start))
				}
				took := run.EndDate.Sub(start)
				report(t, "125 tasks of 10 s: %.2f s from trigger to end; tasks started after %s\n%s%s", took.Seconds(), started, s, awsemu.FormatOperations(s.Cloud.Trace.Operations()))
				if c.most > 0 {
					within(t, "parallel-125, "+c.name, took, c.most)
				}
			})
		})
	}
}

// TestEmulatedMap10000: one run with 10,000 mapped tasks that do nothing, on a new
// table.
func TestEmulatedMap10000(t *testing.T) {
	long(t)
	cpu := calibrated(t)
	for _, c := range []struct {
		name  string
		width int
	}{{"1,000", 1000}, {"10,000", 10000}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := site(t, emusite.Options{Burst: true, Cloud: awsemu.Options{Warm: -1, CPU: asMeasured(cpu), Limits: true}})
				defer s.Close()
				err := s.Register(t.Context(), enginetest.DAG{ID: "map", Fields: map[string]any{"max_active_tasks": 100000}, Tasks: []enginetest.Task{{ID: "m", ExpandLit: c.width}, {ID: "end", Upstream: []string{"m"}}}})
				if err != nil {
					t.Fatal(err)
				}
				before := s.Cloud.Table.Units.Write + s.Cloud.Table.Units.IndexWrite
				start := time.Now()
				k := trigger(t, s, "map", "r")
				run, err := s.Wait(t.Context(), k, 30*time.Minute)
				if err != nil || run.State != airflow.RunSuccess {
					t.Fatal(run.State, err, s)
				}
				took := run.EndDate.Sub(start)
				s.Settle()
				u := s.Cloud.Table.Units
				sqs := 0
				for _, q := range s.Cloud.Queues() {
					sqs += q.Counts.Sends + q.Counts.Receives + q.Counts.Deletes
				}
				calls := float64(sqs) / float64(c.width)
				per := (u.Write + u.IndexWrite - before) / float64(c.width)
				var started awsemu.Spread
				for _, at := range s.Starts {
					started = append(started, at.Sub(start))
				}
				report(t, "map of %d: %.2f s from trigger to end; tasks started after %s; %.2f write units and %.2f calls of SQS a task; %d throttled\n%s%sscheduler:\n%s", c.width, took.Seconds(), started, per, calls, u.Throttled, s,
					awsemu.FormatOperations(s.Cloud.Trace.Operations()), top(s.Cloud.Trace.Sequences("scheduler")))
				if c.width == 10000 {
					within(t, "map of 10,000", took, 20*time.Second)
					atMost(t, "map of 10,000, write units a task", per, 3.5)
					atMost(t, "map of 10,000, calls of SQS a task", calls, 3.5)
					atMost(t, "map of 10,000, throttled requests", float64(u.Throttled), 0)
				}
			})
		})
	}
}

package awsemu_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/engine/enginetest"
)

// TestEmulatedHop: the warm hop from the end of a task to the start of the next.
func TestEmulatedHop(t *testing.T) {
	cpu := calibrated(t)
	synctest.Test(t, func(t *testing.T) {
		s := site(t, emusite.Options{Cloud: awsemu.Options{Warm: 12, CPU: cpu}})
		defer s.Close()
		const runs, length = 60, 25
		if err := s.Register(t.Context(), enginetest.Chain("chain", length)); err != nil {
			t.Fatal(err)
		}
		for i := range runs {
			trigger(t, s, "chain", fmt.Sprint("r", i))
			time.Sleep(250 * time.Millisecond)
		}
		var legs emusite.Legs
		for i := range runs {
			k := runKey("chain", fmt.Sprint("r", i))
			if run, err := s.Wait(t.Context(), k, time.Minute); err != nil || run.State != airflow.RunSuccess {
				t.Fatal(run.State, err)
			}
			if i < 12 {
				continue // environments meet the DAG for the first time
			}
			for n := range length - 1 {
				if err := s.Hop(&legs, taskOf(k, fmt.Sprintf("t%03d", n)), taskOf(k, fmt.Sprintf("t%03d", n+1))); err != nil {
					t.Fatal(err)
				}
			}
		}
		report(t, "warm hop, %d runs of a chain of %d tasks\n%s%s", runs, length, legs, s)
		report(t, "calls of an invocation\nscheduler\n%sworker\n%s", top(s.Cloud.Trace.Sequences("scheduler")), top(s.Cloud.Trace.Sequences("worker")))
		within(t, "warm hop p50", legs.Hop.At(0.5), 75*time.Millisecond)
		within(t, "warm hop p99", legs.Hop.At(0.99), 200*time.Millisecond)
	})
}

// TestEmulatedChain: a chain of ten tasks of 10 s.
func TestEmulatedChain(t *testing.T) {
	cpu := calibrated(t)
	synctest.Test(t, func(t *testing.T) {
		s := site(t, emusite.Options{Work: sleeps(10 * time.Second), Cloud: awsemu.Options{Warm: 2, CPU: cpu}})
		defer s.Close()
		if err := s.Register(t.Context(), enginetest.Chain("chain", 10)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		run, err := s.Wait(t.Context(), trigger(t, s, "chain", "r"), 10*time.Minute)
		if err != nil || run.State != airflow.RunSuccess {
			t.Fatal(run.State, err)
		}
		report(t, "chain of ten 10-s tasks: %.2f s\n%s%s", run.EndDate.Sub(start).Seconds(), s, awsemu.FormatOperations(s.Cloud.Trace.Operations()))
		within(t, "chain of ten", run.EndDate.Sub(start), 102*time.Second)
	})
}

// Package awsemu_test computes Gust's figures on AWS from the real handlers on the
// emulated cloud (internal/awsemu): `make bench-aws` prints them. They are emulated,
// not measured: published latencies, a virtual clock, computing time of this
// machine.
//
// GUST_LATENCY names other latencies, GUST_EMU_LONG runs what takes minutes,
// GUST_EMU_STRICT fails what misses its target, GUST_EMU_LOG prints the functions'
// logs.
package awsemu_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

func latencies(t testing.TB) *awsemu.Latencies {
	t.Helper()
	l, err := awsemu.LoadLatencies()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sleeps is work that takes time and returns nothing.
func sleeps(d time.Duration) emusite.Work {
	return func(ctx context.Context, _ *taskrunner.Task) (*taskrunner.Result, error) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(d):
			return nil, nil
		}
	}
}

// logger says what the functions log, where GUST_EMU_LOG is set.
func logger() *slog.Logger {
	if os.Getenv("GUST_EMU_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func site(t *testing.T, o emusite.Options) *emusite.Site {
	t.Helper()
	o.Cloud.Latencies, o.Cloud.Log, o.Folder = latencies(t), logger(), t.TempDir()
	if o.Cloud.Seed == 0 {
		o.Cloud.Seed = 1
	}
	s, err := emusite.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func trigger(t *testing.T, s *emusite.Site, dag, run string) store.RunKey {
	t.Helper()
	k, err := s.Trigger(t.Context(), dag, run)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func runKey(dag, run string) store.RunKey {
	return store.RunKey{DagID: airflow.DagID(dag), RunID: airflow.RunID(run)}
}

func taskOf(k store.RunKey, task string) airflow.TaskInstanceKey {
	return airflow.TaskInstanceKey{DagID: k.DagID, RunID: k.RunID, TaskID: airflow.TaskID(task), MapIndex: airflow.Unmapped}
}

// vCPU is what a function has of one: computing takes so much longer.
func vCPU(function string) float64 { return float64(awsenv.MemoryMB(function)) / 1769 }

var (
	calibrateOnce sync.Once
	calibration   awsemu.CPUTimes
)

// calibrated measures what handlers compute, one at a time, and returns it as
// charged to functions of their memory.
func calibrated(t *testing.T) awsemu.CPU {
	t.Helper()
	calibrateOnce.Do(func() {
		synctest.Test(t, func(t *testing.T) {
			s := site(t, emusite.Options{TickOff: true, Cloud: awsemu.Options{Warm: 1, CPU: calibration.Record}})
			defer s.Close()
			if err := s.Register(t.Context(), enginetest.Chain("warmup", 60)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Wait(t.Context(), trigger(t, s, "warmup", "r"), time.Hour); err != nil {
				t.Fatal(err)
			}
		})
		fmt.Printf("computing time per call, measured here (charged × %.2f to the scheduler of %d MB, × %.2f to workers of %d MB)\n%s",
			1/vCPU(awsenv.Scheduler), awsenv.MemoryMB(awsenv.Scheduler), 1/vCPU(awsenv.Worker), awsenv.MemoryMB(awsenv.Worker), calibration.String())
	})
	medians := calibration.Medians(1)
	return func(function, operation string, real time.Duration) time.Duration {
		return time.Duration(float64(medians(function, operation, real)) / vCPU(function))
	}
}

// report prints figures, with the word that they must carry.
func report(t *testing.T, format string, args ...any) {
	t.Helper()
	fmt.Printf("EMULATED %s: "+format+"\n", append([]any{t.Name()}, args...)...)
}

// within says whether a figure meets its target. A miss fails the test where
// GUST_EMU_STRICT is set; it is always printed.
func within(t *testing.T, what string, got, most time.Duration) {
	t.Helper()
	target(t, what, got <= most, fmt.Sprintf("%v of %v", got.Round(100*time.Microsecond), most))
}

// atMost is within for numbers.
func atMost(t *testing.T, what string, got, most float64) {
	t.Helper()
	target(t, what, got <= most, fmt.Sprintf("%.2f of %.2f", got, most))
}

func target(t *testing.T, what string, met bool, figures string) {
	t.Helper()
	verdict := "met"
	if !met {
		verdict = "MISSED"
		if os.Getenv("GUST_EMU_STRICT") != "" {
			t.Errorf("%s: %s", what, figures)
		}
	}
	fmt.Printf("EMULATED target %s: %s: %s\n", what, figures, verdict)
}

// long skips what takes minutes, unless GUST_EMU_LONG is set.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("GUST_EMU_LONG") == "" {
		t.Skip("takes minutes: make bench-aws, or GUST_EMU_LONG=1")
	}
}

// top renders the most frequent sequences of calls.
func top(seqs map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(seqs), func(a, b string) int { return seqs[b] - seqs[a] })
	out := ""
	for _, k := range keys[:min(6, len(keys))] {
		out += fmt.Sprintf("%6d  %.300s\n", seqs[k], k)
	}
	return out
}

var storeAll = store.ListOptions{}

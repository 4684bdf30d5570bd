package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	nFlag      = flag.Int("n", 150, "number of scenarios")
	seedFlag   = flag.Uint64("seed", 0, "run this one seed, with its trace; with -from the first of n")
	fromFlag   = flag.Uint64("from", 1, "first seed")
	enoughFlag = flag.Int("failures", 3, "stop after so many failing seeds")
)

// TestSimulation runs -n scenarios, or the one of -seed with its whole trace.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		res := Run(*seedFlag, true)
		fmt.Printf("%s\n%s\n", res.Scenario, strings.Join(res.Trace, "\n"))
		if res.Err != nil {
			t.Fatalf("seed %d: %v", *seedFlag, res.Err)
		}
		t.Logf("seed %d: %+v", *seedFlag, res.Stats)
		return
	}
	begin := time.Now()
	total, failed := simulate(*fromFlag, *nFlag, *enoughFlag)
	for _, f := range failed {
		res := Run(f.seed, true)
		tail := res.Trace
		if len(tail) > 60 {
			tail = tail[len(tail)-60:]
		}
		t.Errorf("seed %d: %v\nscenario:\n%s\ntrace (end):\n%s\nreplay: make sim SEED=%d", f.seed, f.err, res.Scenario, strings.Join(tail, "\n"), f.seed)
	}
	took := time.Since(begin)
	t.Logf("%d scenarios in %s (%.0f/s): %+v", *nFlag, took.Round(time.Millisecond), float64(*nFlag)/took.Seconds(), total)
	if *nFlag >= 1000 && len(failed) == 0 && total.Wide == 0 {
		t.Errorf("no run of several chunks in %d scenarios", *nFlag)
	}
	if *nFlag >= 100 && len(failed) == 0 {
		for name, n := range map[string]int{"claims": total.Claims, "crashes": total.Crashes, "faults": total.Faults, "interventions": total.Actions,
			"interleavings": total.Interleaved, "asset runs": total.AssetRuns, "backfills": total.Backfills, "edits": total.Edits,
			"callbacks": total.Callbacks, "missed deadlines": total.Deadlines, "broken files": total.Broken, "teardowns": total.Teardowns,
			"instances of mapped groups": total.Grouped, "replayed steps": total.Replayed} {
			if n == 0 {
				t.Errorf("no %s in %d scenarios: the simulation tests nothing", name, *nFlag)
			}
		}
	}
}

type failure struct {
	seed uint64
	err  error
}

// simulate runs n seeds on all cores and stops after some failures. Every 32nd
// seed runs twice: the same history must lead to the same store.
func simulate(from uint64, n, enough int) (total Stats, failed []failure) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := from
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				mu.Lock()
				seed := next
				next++
				stop := seed >= from+uint64(n) || len(failed) >= enough
				mu.Unlock()
				if stop {
					return
				}
				res := Run(seed, false)
				err := res.Err
				if err == nil && seed%32 == 0 {
					if again := Run(seed, false); again.Dump != res.Dump || again.Err != nil {
						err = fmt.Errorf("the same seed led to another store (%v)", again.Err)
					}
				}
				mu.Lock()
				total.add(res.Stats)
				if err != nil {
					failed = append(failed, failure{seed, err})
				}
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return total, failed
}

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(1600) // a scenario is small, and garbage
	os.Exit(m.Run())
}

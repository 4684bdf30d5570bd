package awsemu_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gustflow/gust/internal/awsemu"
	"github.com/gustflow/gust/internal/awsemu/emusite"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/store"
)

// manyDags is 100,000, or what GUST_EMU_DAGS says.
func manyDags(t *testing.T) int {
	t.Helper()
	v := os.Getenv("GUST_EMU_DAGS")
	if v == "" {
		return 100000
	}
	n, err := strconv.Atoi(v)
	if err != nil || n <= 1000 {
		t.Fatalf("GUST_EMU_DAGS=%s: expected a number above 1000", v)
	}
	return n
}

// noon is when the DAGs of these scenarios are due, and its cron expression.
const noon = "30 12 * * *"

func nextNoon() time.Time {
	return time.Now().Truncate(24 * time.Hour).Add(12*time.Hour + 30*time.Minute)
}

// handlersOnAWS is how many runs an invocation of the scheduler works on side by
// side where nothing else is configured.
const handlersOnAWS = 8

// TestEmulatedTicks: a tick's work grows with the DAGs that are due, not with
// those that are registered.
func TestEmulatedTicks(t *testing.T) {
	long(t)
	cpu := calibrated(t)
	calls := map[int]int{}
	for _, n := range []int{1000, manyDags(t)} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := site(t, emusite.Options{Handlers: handlersOnAWS, Cloud: awsemu.Options{Warm: -1, CPU: cpu, Limits: true}})
				defer s.Close()
				if err := s.RegisterMany(t.Context(), n, noon, nextNoon()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10*time.Minute + 30*time.Second) // what is set up once has been
				s.Cloud.Trace.Reset()
				before := billOf(s)
				time.Sleep(10 * time.Minute)
				b := billOf(s).minus(before)
				for op, k := range s.Cloud.Trace.Operations() {
					if strings.HasPrefix(op, awsenv.Scheduler) {
						calls[n] += k
					}
				}
				report(t, "%d DAGs, none due: %.1f calls, %.1f read units, %.1f write units, %.1f SQS calls a tick", n, float64(calls[n])/10, b.reads/10, b.writes/10, b.sqs/10)
			})
		})
	}
	if a, b := calls[1000], calls[manyDags(t)]; b > a*11/10+2 {
		t.Errorf("ten idle ticks make %d calls with 1,000 DAGs and %d with %d", a, b, manyDags(t))
	}
}

// killer kills environments of the scheduler: the first tick that hands DAGs on,
// when it has sent so many requests, and one invocation of so many.
type killer struct {
	mu           sync.Mutex
	from         time.Time // nothing is killed before
	sends, every int
	tick         bool // was killed
	planners     int  // that were killed
	seen         map[int]int
}

func (k *killer) kill(function string, invocation int, operation string) bool {
	if function != awsenv.Scheduler || time.Now().Before(k.from) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seen == nil {
		k.seen = map[int]int{}
	}
	if operation == "SQS.SendMessageBatch" && !k.tick {
		if k.seen[invocation]++; k.seen[invocation] == k.sends {
			k.tick = true
			return true
		}
	}
	if k.every > 0 && invocation%k.every == 0 && operation == "DynamoDB.PutItem" {
		k.planners++
		return true
	}
	return false
}

// TestEmulatedDue: all DAGs are due at once, and all runs are made within five
// minutes, each once; also where a tick and planners are killed. 100,000 take some
// ten minutes of this machine and 5 GB; GUST_EMU_DAGS makes them fewer.
func TestEmulatedDue(t *testing.T) {
	long(t)
	cpu := calibrated(t)
	for _, c := range []struct {
		name string
		n    int
		kill bool
	}{{"few", 50, false}, {"1,000", 1000, false}, {"all", manyDags(t), false}, {"killed", min(10000, manyDags(t)), true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := nextNoon()
				k := killer{from: at, sends: c.n / 10 / 10 / 4, every: 200}
				o := emusite.Options{Handlers: handlersOnAWS, Cloud: awsemu.Options{Warm: -1, CPU: cpu, Limits: true}}
				if c.kill {
					o.Cloud.Kill = k.kill
				}
				s := site(t, o)
				defer s.Close()
				if err := s.RegisterMany(t.Context(), c.n, noon, at); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Until(at.Add(-30 * time.Second)))
				s.Cloud.Trace.Reset()
				clear(s.Cloud.Table.Units.Hottest)
				before := billOf(s)
				quiet := store.New(s.Cloud.Table.Driver(), nil)
				for end := at.Add(20 * time.Minute); time.Now().Before(end); {
					time.Sleep(time.Second)
					page, err := quiet.DuePage(t.Context(), time.Now(), "", "", 1)
					if err != nil {
						t.Fatal(err)
					}
					if !time.Now().Before(at) && len(page.Dags) == 0 {
						break
					}
				}
				planned := time.Since(at)
				for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
					if page, err := quiet.ActivePage(t.Context(), "", 1); err != nil || len(page.Runs) == 0 {
						break
					}
				}
				b, u, n := billOf(s).minus(before), s.Cloud.Table.Units, float64(c.n)
				runs, err := s.Runs(t.Context(), c.n)
				if err != nil {
					t.Fatal(err)
				}
				f := scheduler(s)
				report(t, "%d DAGs due at once: all runs made after %.1f s (%.0f a second), first %s; ended after %.1f s: %v\n"+
					"  a DAG: %.2f write units, %.2f read units, %.3f SQS calls, %.4f invocations, %.1f ms of 1 GB; %d throttled\n"+
					"  scheduler: %d invocations, at most %d at once, %d killed\n  most write units of a partition within a second: %s\n%s",
					c.n, planned.Seconds(), n/planned.Seconds(), runs.Created.Sub(at).Round(time.Millisecond), runs.Ended.Sub(at).Seconds(), runs.States,
					b.writes/n, b.reads/n, b.sqs/n, b.invocations/n, b.gbs*1000/n, u.Throttled,
					f.Counts.Invocations, f.Counts.MostBusy, f.Counts.Killed, hottest(u.Hottest), s)
				if made := runs.Made(); made != c.n {
					t.Errorf("%d runs of %d DAGs", made, c.n)
				}
				if c.kill && (!k.tick || k.planners == 0) {
					t.Errorf("killed tick: %t, killed planners: %d", k.tick, k.planners)
				}
				within(t, fmt.Sprintf("%d DAGs due at once, %s", c.n, c.name), planned, 5*time.Minute)
			})
		})
	}
}

// scheduler is the scheduler function of a site.
func scheduler(s *emusite.Site) *awsemu.Function {
	fs := s.Cloud.Functions()
	return fs[slices.IndexFunc(fs, func(f *awsemu.Function) bool { return f.Name == awsenv.Scheduler })]
}

// hottest lists the partitions that were written most within a second.
func hottest(units map[string]float64) string {
	keys := slices.SortedFunc(maps.Keys(units), func(a, b string) int { return cmp.Compare(units[b], units[a]) })
	out := ""
	for _, k := range keys[:min(3, len(keys))] {
		out += fmt.Sprintf("%s %.0f; ", k, units[k])
	}
	return out
}

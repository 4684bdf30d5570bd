package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
)

// Scenario is what a seed is about: everything drawn before time begins.
type Scenario struct {
	Calm     bool // no fault of any kind
	Embedded bool // workers die with the process that took their dispatch
	Tool     bool // a passive engine beside the scheduler
	Two      bool // two schedulers on one store: limits are not exact then
	Config   engine.Config
	Length   time.Duration

	SweepEvery, DiscoverEvery time.Duration

	Reads, Writes faultkv.Odds
	CrashEvery    int // calls of the store between two deaths, about; 0 = never
	Skew          time.Duration
	Jumps         bool // the clock jumps forward
	Mess          float64
	Lossy         float64 // share of messages lost
	Actions       int     // interventions

	// IndexLag and ReadLag are by how many item changes index queries and reads
	// that are not consistent may be behind; they catch up within LagTime.
	IndexLag, ReadLag int
	LagTime           time.Duration

	Pools []airflow.Pool
	Dags  []*simDag
}

// simDag is a DAG with what its tasks do.
type simDag struct {
	spec     enginetest.DAG
	version  int
	assets   []string
	kinds    map[string]taskKind
	graphs   []*scheduler.Graph // of all versions
	maxRuns  int                // largest max_active_runs of any version
	pausedAt time.Time          // zero = never paused
	broken   bool               // its file cannot be read at present
	gone     bool               // its file is not there at present
	missed   bool               // its file was away for a while
	wide     bool               // has a run of several chunks
}

// taskKind is what a simulated task does beside succeeding and failing.
type taskKind uint8

const (
	kindPlain taskKind = iota
	kindBranch
	kindShortCircuit
	kindSensor // reschedules
	kindDefer
	kindList // returns a list to expand over
)

var kindNames = [...]string{"plain", "branch", "short circuit", "sensor", "defer", "list"}

// newScenario draws a scenario.
func (w *World) newScenario() *Scenario {
	r := w.rng
	sc := &Scenario{
		Calm: w.chance(0.2), Embedded: w.chance(0.5),
		Length:     w.between(10*time.Minute, 50*time.Minute),
		SweepEvery: w.between(30*time.Second, 90*time.Second), DiscoverEvery: w.between(30*time.Second, 2*time.Minute),
		Config: engine.Config{
			Parallelism: 1 + r.IntN(12), HeartbeatTimeout: w.between(100*time.Second, 200*time.Second),
			QueuedTimeout: w.between(2*time.Minute, 5*time.Minute), DefaultPoolSlots: 2 + r.IntN(16), MaxRequeues: r.IntN(4),
		},
		Actions: r.IntN(12),
	}
	if sc.Calm {
		sc.Tool = false
	} else {
		odds := func(scale float64) faultkv.Odds {
			return faultkv.Odds{FailBefore: scale * r.Float64(), TimeoutAfter: scale * r.Float64(), Throttle: scale * r.Float64(), Delay: 5 * scale * r.Float64()}
		}
		if w.chance(0.75) {
			scale := pick(w, 0.003, 0.01, 0.03)
			sc.Reads, sc.Writes = odds(scale/3), odds(scale)
			sc.Reads.Stale = scale * r.Float64()
		}
		if w.chance(0.6) {
			sc.CrashEvery = 100 << r.IntN(4)
		}
		if w.chance(0.25) {
			sc.Skew = w.between(100*time.Millisecond, 5*time.Second)
		}
		sc.Jumps = w.chance(0.2)
		if w.chance(0.6) {
			sc.Mess = pick(w, 0.02, 0.1, 0.25)
		}
		if w.chance(0.5) {
			sc.Lossy = pick(w, 0.01, 0.05, 0.15)
		}
		sc.Tool = w.chance(0.4)
		sc.Two = w.chance(0.15)
		if w.chance(0.3) {
			sc.IndexLag, sc.ReadLag = r.IntN(40), r.IntN(40)
			sc.LagTime = w.between(10*time.Millisecond, 3*time.Second)
		}
	}
	for i := 0; i < r.IntN(3); i++ {
		sc.Pools = append(sc.Pools, airflow.Pool{Name: fmt.Sprintf("pool%d", i), Slots: 1 + r.IntN(3), IncludeDeferred: w.chance(0.3)})
	}
	n := 1 + r.IntN(4)
	var produced []string
	for i := 0; i < n; i++ {
		d := w.newDag(sc, fmt.Sprintf("dag%d", i))
		if i+1 < n && w.chance(0.35) && len(d.spec.Tasks) > 0 { // a producer
			asset := fmt.Sprintf("asset%d", i)
			t := &d.spec.Tasks[r.IntN(len(d.spec.Tasks))]
			if !t.Empty {
				t.Outlets = []string{asset}
				produced = append(produced, asset)
			}
		}
		if len(produced) > 0 && d.spec.Cron == "" && w.chance(0.7) {
			d.assets = []string{produced[r.IntN(len(produced))]}
			if len(produced) > 1 && w.chance(0.3) {
				d.assets = append([]string(nil), produced[:2]...)
			}
			self := false
			for _, t := range d.spec.Tasks {
				for _, o := range t.Outlets {
					for _, a := range d.assets {
						self = self || o == a
					}
				}
			}
			if self { // would feed itself for ever
				d.assets = nil
			}
			d.spec.Assets = d.assets
		}
		sc.Dags = append(sc.Dags, d)
	}
	return sc
}

// newDag draws a DAG.
func (w *World) newDag(sc *Scenario, id string) *simDag {
	r := w.rng
	d := &simDag{kinds: map[string]taskKind{}}
	d.spec = enginetest.DAG{ID: id, Fields: map[string]any{"max_active_runs": 1 + r.IntN(4), "max_active_tasks": 1 + r.IntN(6)}}
	f := d.spec.Fields
	if w.chance(0.5) {
		every := pick(w, 3, 5, 10)
		d.spec.Cron = fmt.Sprintf("*/%d * * * *", every)
		f["catchup"] = w.chance(0.6)
		f["start_date"] = float64(w.now.Add(-time.Duration(r.IntN(5)*every) * time.Minute).Unix())
		f["end_date"] = float64(w.now.Add(time.Duration(1+r.IntN(5)) * time.Duration(every) * time.Minute).Unix())
	}
	if w.chance(0.08) {
		f["fail_fast"] = true
	}
	if w.chance(0.12) {
		f["dagrun_timeout"] = float64(60 + r.IntN(900))
	}
	if w.chance(0.06) {
		f["max_consecutive_failed_dag_runs"] = 1 + r.IntN(3)
	}
	past := w.chance(0.2)
	shape := pick(w, "layers", "layers", "chain", "fan", "diamond")
	n := 1 + r.IntN(7)
	for i := 0; i < n; i++ {
		w.addTask(sc, d, shape, past)
	}
	if w.chance(0.25) {
		w.addGroup(sc, d, past)
	}
	if w.chance(0.2) {
		w.addSetup(d)
	}
	if w.chance(0.006) {
		w.addWide(sc, d)
	}
	w.addCallbacks(d)
	w.addDeadlines(d)
	return d
}

// addTask draws one more task below those that a DAG has.
func (w *World) addTask(sc *Scenario, d *simDag, shape string, past bool) {
	r := w.rng
	i := len(d.spec.Tasks)
	t := enginetest.Task{ID: fmt.Sprintf("t%d", i), Fields: map[string]any{}}
	for d.kinds[t.ID] != 0 || d.has(t.ID) {
		i++
		t.ID = fmt.Sprintf("t%d", i)
	}
	n := len(d.spec.Tasks)
	up := func(k int) { t.Upstream = append(t.Upstream, d.spec.Tasks[k].ID) }
	if n > 0 {
		switch shape {
		case "chain":
			up(n - 1)
		case "fan":
			up(0)
		case "diamond":
			if n%3 == 0 {
				up(n - 1)
				if n > 1 {
					up(n - 2)
				}
			} else {
				up(n - n%3)
			}
		default:
			for _, k := range r.Perm(n)[:min(n, r.IntN(4))] {
				up(k)
			}
		}
	}
	f := t.Fields
	kind := pick(w, kindPlain, kindPlain, kindPlain, kindPlain, kindPlain, kindBranch, kindShortCircuit, kindSensor, kindDefer, kindList)
	if n > 0 && w.chance(0.15) {
		if src := d.spec.Tasks[r.IntN(n)]; d.kinds[src.ID] == kindList && src.ExpandOver == "" && src.ExpandLit == 0 {
			t.ExpandOver = src.ID
			t.Upstream = without(t.Upstream, src.ID)
		}
	}
	if t.ExpandOver == "" && w.chance(0.05) {
		t.ExpandLit = 1 + r.IntN(4)
	}
	if t.ExpandOver != "" || t.ExpandLit > 0 {
		if kind == kindBranch || kind == kindShortCircuit || kind == kindList {
			kind = kindPlain
		}
	} else if w.chance(0.08) {
		t.Empty, kind = true, kindPlain
	}
	d.kinds[t.ID] = kind
	if w.chance(0.3) && len(t.Upstream) > 0 {
		f["trigger_rule"] = string(pick(w, airflow.RuleAllDone, airflow.RuleOneSuccess, airflow.RuleOneFailed, airflow.RuleNoneFailed,
			airflow.RuleNoneFailedMinOneSuccess, airflow.RuleAllFailed, airflow.RuleAlways, airflow.RuleNoneSkipped, airflow.RuleAllSkipped,
			airflow.RuleOneDone, airflow.RuleAllDoneMinOneSuccess))
	}
	if w.chance(0.5) {
		f["retries"] = 1 + r.IntN(3)
		f["retry_delay"] = float64(1 + r.IntN(90))
		if w.chance(0.3) {
			f["retry_exponential_backoff"] = 2.0
			if w.chance(0.5) {
				f["max_retry_delay"] = float64(100 + r.IntN(100))
			}
		}
	}
	if len(sc.Pools) > 0 && w.chance(0.4) {
		p := sc.Pools[r.IntN(len(sc.Pools))]
		f["pool"] = p.Name
		f["pool_slots"] = 1 + r.IntN(p.Slots)
	}
	if w.chance(0.3) {
		f["priority_weight"] = 1 + r.IntN(10)
		f["weight_rule"] = string(pick(w, airflow.WeightDownstream, airflow.WeightUpstream, airflow.WeightAbsolute))
	}
	if w.chance(0.12) {
		f["max_active_tis_per_dag"] = 1 + r.IntN(2)
	}
	if w.chance(0.1) {
		f["max_active_tis_per_dagrun"] = 1 + r.IntN(2)
	}
	if past && w.chance(0.5) {
		f["depends_on_past"] = true
		if w.chance(0.3) {
			f["wait_for_downstream"] = true
		}
	}
	d.spec.Tasks = append(d.spec.Tasks, t)
}

func (d *simDag) has(id string) bool {
	for _, t := range d.spec.Tasks {
		if t.ID == id {
			return true
		}
	}
	return false
}

func without(xs []string, x string) (out []string) {
	for _, y := range xs {
		if y != x {
			out = append(out, y)
		}
	}
	return out
}

// String describes the scenario.
func (sc *Scenario) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "calm=%t embedded=%t tool=%t two=%t length=%s sweep=%s discover=%s crash_every=%d skew=%s jumps=%t mess=%g lossy=%g actions=%d\n",
		sc.Calm, sc.Embedded, sc.Tool, sc.Two, sc.Length, sc.SweepEvery, sc.DiscoverEvery, sc.CrashEvery, sc.Skew, sc.Jumps, sc.Mess, sc.Lossy, sc.Actions)
	fmt.Fprintf(&b, "index lag=%d read lag=%d lag time=%s\n", sc.IndexLag, sc.ReadLag, sc.LagTime)
	fmt.Fprintf(&b, "config %+v\nreads %+v\nwrites %+v\npools %+v\n", sc.Config, sc.Reads, sc.Writes, sc.Pools)
	for _, d := range sc.Dags {
		fmt.Fprintf(&b, "%s cron=%q assets=%v %v\n", d.spec.ID, d.spec.Cron, d.spec.Assets, d.spec.Fields)
		for _, t := range d.spec.Tasks {
			fmt.Fprintf(&b, "    %s (%s) <- %v %v", t.ID, kindNames[d.kinds[t.ID]], t.Upstream, t.Fields)
			if t.ExpandOver != "" || t.ExpandLit > 0 {
				fmt.Fprintf(&b, " expands over %s%d", t.ExpandOver, t.ExpandLit)
			}
			if t.Empty {
				b.WriteString(" empty")
			}
			if t.Outlets != nil {
				fmt.Fprintf(&b, " outlets %v", t.Outlets)
			}
			if t.Group != "" {
				fmt.Fprintf(&b, " in %s", t.Group)
			}
			b.WriteByte('\n')
		}
		for _, g := range d.spec.Groups {
			fmt.Fprintf(&b, "    group %+v\n", g)
		}
	}
	return b.String()
}

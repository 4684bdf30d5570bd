package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// submit sends dispatches to workers: each message may be delayed, lost or doubled.
func (w *World) submit(from *proc, ds []worker.Dispatch) error {
	for _, d := range ds {
		w.check.submitted(d)
		copies := 1
		if !w.quiet && !w.sc.Calm {
			switch {
			case w.chance(w.sc.Lossy):
				copies = 0
				w.tracef("message %s is lost", d)
			case w.chance(w.sc.Mess):
				copies = 2 + w.rng.IntN(2)
			}
		}
		for ; copies > 0; copies-- {
			delay := w.between(time.Millisecond, 300*time.Millisecond)
			if !w.quiet && w.chance(w.sc.Mess) {
				delay = w.between(time.Second, 4*time.Minute)
			}
			w.deliver(from, from.gen, d, delay)
		}
	}
	if !w.quiet && w.chance(w.sc.Lossy/3) {
		return fmt.Errorf("submit: %w (simulated)", airflow.ErrUnavailable)
	}
	return nil
}

// job is a worker process with one dispatch.
type job struct {
	w       *World
	d       worker.Dispatch
	who     worker.Identity
	home    *proc // the process it lives in, nil if it is on its own
	gen     int
	tries   int
	dead    bool
	claimed bool
	done    bool
	beats   bool
	report  *worker.Report
	tc      *worker.TaskContext
}

// deliver makes a worker look at a message after a delay.
func (w *World) deliver(from *proc, gen int, d worker.Dispatch, delay time.Duration) {
	w.pids++
	j := &job{w: w, d: d, who: worker.Identity{Hostname: fmt.Sprintf("worker%d", w.pids), PID: w.pids, Unixname: "gust"}}
	if w.sc.Embedded {
		j.home, j.gen = from, gen
		j.who.Hostname = from.host()
	}
	w.after(delay, true, j.claim)
}

// backend is where the worker reaches the control plane: nil while it is down.
func (j *job) backend() *engine.Backend {
	if j.home != nil {
		if !j.home.alive || j.home.gen != j.gen || j.home.gate.dead {
			j.dead = true // died with its process
			return nil
		}
		return j.home.be
	}
	if p := j.w.active(); p != nil && !p.gate.dead {
		return p.be
	}
	return nil
}

// again calls f once more after a moment, as workers do when the control plane
// does not answer; after many times the worker gives up and dies.
func (j *job) again(f func()) {
	if j.tries++; j.tries > 30 || j.dead {
		j.dead = true
		return
	}
	j.w.after(j.w.between(500*time.Millisecond, 4*time.Second), true, f)
}

func retryable(err error) bool {
	return errors.Is(err, airflow.ErrThrottled) || errors.Is(err, airflow.ErrUnavailable) || errors.Is(err, airflow.ErrConflict) || errors.Is(err, kv.ErrClosed)
}

func (j *job) claim() {
	w := j.w
	be := j.backend()
	if be == nil {
		if !j.dead {
			j.again(j.claim)
		}
		return
	}
	tc, err := be.Claim(w.ctx, j.d, j.who)
	switch {
	case err == nil:
	case retryable(err):
		w.tracef("claim %s by pid %d: %v", j.d, j.who.PID, err)
		j.again(j.claim)
		return
	default:
		w.tracef("claim %s by pid %d refused: %v", j.d, j.who.PID, err)
		if !errors.Is(err, airflow.ErrSuperseded) && !errors.Is(err, airflow.ErrNotFound) && j.backend() != nil {
			w.fail("claim of %s failed with an error that no worker expects: %v", j.d, err)
		}
		return
	}
	w.stats.Claims++
	w.tracef("claim %s by pid %d: try %d", j.d, j.who.PID, tc.TryNumber)
	w.check.started(j.d, j.who, tc)
	j.claimed, j.tc, j.tries = true, tc, 0
	if !w.quiet && w.chance(w.sc.Mess/2) { // the answer got lost: claimed again by the same worker
		if _, err := be.Claim(w.ctx, j.d, j.who); err != nil && !retryable(err) && !errors.Is(err, airflow.ErrSuperseded) && !errors.Is(err, airflow.ErrNotFound) && j.backend() != nil {
			w.fail("repeated claim of %s: %v", j.d, err)
		}
	}
	length := w.between(10*time.Millisecond, 8*time.Second)
	if w.chance(0.1) {
		length = w.between(10*time.Second, 5*time.Minute)
	}
	j.beats = true
	mess := w.sc.Mess
	if w.quiet {
		mess = 0
	}
	switch {
	case w.chance(mess / 2):
		w.tracef("pid %d will die", j.who.PID)
		w.after(length, true, func() { j.dead = true })
	case w.chance(mess / 2):
		w.tracef("pid %d will fall silent", j.who.PID)
		j.beats = false
		w.after(w.sc.Config.HeartbeatTimeout+w.between(-30*time.Second, 3*time.Minute), true, j.finish)
	default:
		w.after(length, true, j.finish)
	}
	if length > 20*time.Second {
		w.after(20*time.Second, true, j.beat)
	}
}

func (j *job) gone() bool {
	if j.dead || j.done {
		return true
	}
	if j.home != nil && (!j.home.alive || j.home.gen != j.gen) {
		j.dead = true
	}
	return j.dead
}

func (j *job) beat() {
	if j.gone() || !j.beats {
		return
	}
	if be := j.backend(); be != nil {
		if err := be.Heartbeat(j.w.ctx, j.d, j.who); errors.Is(err, airflow.ErrSuperseded) {
			j.w.tracef("heartbeat of %s: told to stop", j.d)
			j.yield()
			return
		}
	}
	j.w.after(20*time.Second, true, j.beat)
}

// yield stops the task and says so.
func (j *job) yield() {
	if j.gone() {
		return
	}
	be := j.backend()
	if be == nil {
		j.again(j.yield)
		return
	}
	if !j.w.quiet && j.w.chance(j.w.sc.Mess/4) {
		j.dead = true
		return
	}
	if err := be.Yield(j.w.ctx, j.d, j.who); err != nil && retryable(err) {
		j.again(j.yield)
		return
	}
	j.done = true
	j.w.stats.Superseded++
}

func (j *job) finish() {
	w := j.w
	if j.gone() {
		return
	}
	if j.report == nil {
		j.report = w.outcome(j)
	}
	be := j.backend()
	if be == nil {
		if !j.dead {
			j.again(j.finish)
		}
		return
	}
	err := be.Finish(w.ctx, j.d, j.report)
	w.check.reported(j, err)
	switch {
	case err == nil:
		w.stats.Reports++
		w.tracef("pid %d reports %s: %s", j.who.PID, j.d, j.report.Outcome)
		j.done = true
		if !w.quiet && w.chance(w.sc.Mess) {
			w.after(w.between(0, 5*time.Minute), true, func() {
				if be := j.backend(); be != nil {
					_ = be.Finish(w.ctx, j.d, j.report)
				}
			})
		}
	case retryable(err):
		w.tracef("pid %d reports %s %s: %v", j.who.PID, j.d, j.report.Outcome, err)
		j.again(j.finish)
	case errors.Is(err, airflow.ErrSuperseded):
		w.tracef("pid %d reports %s %s: refused, %v", j.who.PID, j.d, j.report.Outcome, err)
		j.yield()
	default:
		if !errors.Is(err, airflow.ErrNotFound) && j.backend() != nil {
			w.fail("report of %s failed with an error that no worker expects: %v", j.d, err)
		}
		j.dead = true
	}
}

// outcome draws what a task reports.
func (w *World) outcome(j *job) *worker.Report {
	r := &worker.Report{EndDate: w.now.UTC().Truncate(time.Microsecond)}
	d := w.dag(string(j.d.Key.DagID))
	kind := d.kinds[string(j.d.Key.TaskID)]
	switch x := w.rng.Float64(); {
	case x < 0.12:
		r.Outcome, r.Error = worker.OutcomeFailed, "simulated failure"
		return r
	case x < 0.15:
		r.Outcome, r.Error = worker.OutcomeFailedFinal, "simulated final failure"
		return r
	case x < 0.18:
		r.Outcome = worker.OutcomeSkipped
		return r
	}
	if kind == kindSensor && j.tc.RescheduleCount < 3 && w.chance(0.6) {
		r.Outcome, r.RescheduleAt = worker.OutcomeUpForReschedule, r.EndDate.Add(w.between(5*time.Second, 2*time.Minute))
		return r
	}
	if kind == kindDefer && j.tc.NextMethod == "" {
		r.Outcome = worker.OutcomeDeferred
		r.Deferral = &worker.Deferral{NextMethod: "done", Trigger: worker.Trigger{Kind: worker.TriggerTime, At: r.EndDate.Add(w.between(time.Second, 4*time.Minute))}}
		switch {
		case w.chance(0.3):
			r.Deferral.Timeout = w.between(10*time.Second, 3*time.Minute)
		case w.chance(0.3) && len(w.sc.Dags) > 1:
			other := w.sc.Dags[w.rng.IntN(len(w.sc.Dags))]
			r.Deferral.Trigger.Kind, r.Deferral.Trigger.DagID = worker.TriggerDagRun, airflow.DagID(other.spec.ID)
		case w.chance(0.2):
			r.Deferral.Trigger.EndState = airflow.TISuccess
		}
		return r
	}
	r.Outcome = worker.OutcomeSuccess
	push := func(v any) {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		r.XComs = append(r.XComs, worker.XComPush{Key: airflow.XComReturnKey, Value: b})
		r.PushedReturnValue = true
	}
	down := d.down(string(j.d.Key.TaskID))
	switch {
	case kind == kindList:
		list := make([]int, w.rng.IntN(5))
		push(list)
		n := len(list)
		r.MappedLength = &n
	case kind == kindBranch && len(down) > 0:
		r.Skip = &worker.SkipChoice{Followed: []airflow.TaskID{}}
		for _, t := range down {
			if w.chance(0.5) {
				r.Skip.Followed = append(r.Skip.Followed, airflow.TaskID(t))
			}
		}
	case kind == kindShortCircuit && len(down) > 0 && w.chance(0.4):
		r.Skip = &worker.SkipChoice{Skipped: []airflow.TaskID{airflow.TaskID(down[0])}, IgnoreDownstreamTriggerRules: w.chance(0.5)}
	case w.chance(0.5):
		push(w.rng.IntN(1000))
	}
	for _, o := range j.tc.Task.Outlets {
		r.AssetEvents = append(r.AssetEvents, worker.OutletEvent{Asset: o})
	}
	return r
}

// down lists what is directly below a task, of the DAG's present version.
func (d *simDag) down(id string) (out []string) {
	for _, t := range d.spec.Tasks {
		for _, u := range append([]string{t.ExpandOver}, t.Upstream...) {
			if u == id {
				out = append(out, t.ID)
				break
			}
		}
	}
	return out
}

func (w *World) dag(id string) *simDag {
	for _, d := range w.sc.Dags {
		if d.spec.ID == id {
			return d
		}
	}
	panic("unknown DAG " + id)
}

// cancel is the executor's way to stop a dispatch; the fence in the store is
// what really stops it, so it does nothing but show.
func (w *World) cancel(d worker.Dispatch, cause string) { w.tracef("cancel %s: %s", d, cause) }

// procDied is told when a process is gone.
func (w *World) procDied(p *proc) { w.tracef("%s is dead", p) }

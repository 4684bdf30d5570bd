package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// Record is one step of a run as it happened: its inputs and what they led to,
// so that Replay can decide it again. The state itself is recorded only at the
// first step after a load, and from time to time: a step of a wide run costs
// what changed, not what there is.
type Record struct {
	Run store.RunKey `json:"run"`
	// Seq counts the records since the last one with a state. A gap means that
	// records were lost.
	Seq     int       `json:"seq"`
	Base    int64     `json:"base"`    // version of the run's state before the step
	Version int64     `json:"version"` // and after it; equal if nothing had to be written
	At      time.Time `json:"at"`      // the step's clock
	// Header and Chunks are the encoded state before the step, if it is recorded.
	Header []byte   `json:"header,omitempty"`
	Chunks [][]byte `json:"chunks,omitempty"`
	// DagHash is the DAG version the state refers to.
	DagHash string `json:"dag_hash"`

	// Events says in words what the step took in, Inputs what it amounts to.
	Events []string `json:"events,omitempty"`
	Inputs []Input  `json:"inputs,omitempty"`
	// Facts are what the decision depended on outside the run; nil if nothing was
	// decided (a tool's intervention).
	Facts *scheduler.Facts `json:"facts,omitempty"`
	// Granted are the positions that got a slot.
	Granted       []int                  `json:"granted,omitempty"`
	QueuedTimeout time.Duration          `json:"queued_timeout,omitempty"`
	Limits        scheduler.ReportLimits `json:"limits"`

	Transitions []scheduler.Transition `json:"transitions,omitempty"`
	RunBefore   airflow.DagRunState    `json:"run_before"`
	RunState    airflow.DagRunState    `json:"run_state"`
	Reason      scheduler.Code         `json:"reason,omitempty"`
}

// Input is one change that a step took in before it decided.
type Input struct {
	Start  bool              `json:"start,omitempty"`
	Report *scheduler.Report `json:"report,omitempty"`
	// Action says that an operator intervened; what was done is in the
	// transitions, and the next record has the state.
	Action bool `json:"action,omitempty"`
}

// recordStateEvery bounds how far a replay has to go back for a state.
const recordStateEvery = 1024

// recording is what a run keeps between two records.
type recording struct {
	state *scheduler.RunState // to which seq refers
	seq   int
}

// recordBefore begins the record of a step, if steps are recorded.
func (e *Engine) recordBefore(r *run) *Record {
	if e.records == nil {
		return nil
	}
	rec := &Record{Run: r.key, RunBefore: r.state.Header.State, DagHash: r.state.Header.DagHash, Seq: r.recording.seq, Base: r.version}
	if r.recording.state != r.state || r.recording.seq >= recordStateEvery {
		rec.Seq = 0
		rec.Header = scheduler.Encode(r.state)
		for i := range r.state.Chunks {
			rec.Chunks = append(rec.Chunks, scheduler.EncodeChunk(r.state, i))
		}
	}
	return rec
}

// record hands a committed step over. A step that changed nothing is not recorded.
func (e *Engine) record(r *run, rec *Record, mail []Event, o *outcome, now time.Time) {
	if rec == nil || len(o.transitions) == 0 && len(o.inputs) == 0 && rec.RunBefore == r.state.Header.State && rec.Base == r.version {
		return
	}
	r.recording = recording{r.state, rec.Seq + 1}
	rec.Version, rec.At, rec.Transitions, rec.RunState, rec.Reason = r.version, now, o.transitions, r.state.Header.State, o.decision.RunReason
	rec.Inputs, rec.Facts, rec.Granted = o.inputs, o.facts, o.granted
	rec.QueuedTimeout, rec.Limits = e.cfg.QueuedTimeout, e.reportLimits()
	for _, ev := range mail {
		rec.Events = append(rec.Events, ev.describe())
	}
	for _, in := range o.inputs {
		if in.Action {
			r.recording.state = nil
		}
	}
	e.records(*rec)
}

func (e *Engine) reportLimits() scheduler.ReportLimits {
	return scheduler.ReportLimits{MaxMapLength: e.cfg.MaxMapLength, MaxRequeues: e.cfg.MaxRequeues, MaxRetryDelay: e.cfg.MaxRetryDelay}
}

// describe says in words what an event is.
func (ev Event) describe() string {
	switch {
	case ev.Start:
		return "the run may start"
	case ev.Action != nil:
		return "an operator intervened"
	case ev.Core != nil:
		return airflow.TIName(ev.Core.Task, ev.Core.MapIndex) + ": " + ev.Cause
	case ev.Fire:
		return instanceOf(ev) + ": its trigger fired"
	case ev.Claimed:
		return instanceOf(ev) + " was claimed"
	case ev.Report != nil:
		return instanceOf(ev) + " reported " + ev.Report.Outcome.String()
	case ev.Dispatch != nil:
		return instanceOf(ev) + " has reported"
	}
	return "looked at again"
}

func instanceOf(ev Event) string {
	return airflow.TIName(ev.Dispatch.Key.TaskID, ev.Dispatch.Key.MapIndex)
}

// Replay decides the recorded steps of one run again, in their order.
type Replay struct {
	// Graph returns a compiled DAG version by its content hash.
	Graph func(hash string) (*scheduler.Graph, error)

	g    *scheduler.Graph
	rs   *scheduler.RunState
	next int
}

// Replayed is a step that was decided again.
type Replayed struct {
	Record
	// Decided is false where the step could not be decided again; Note says why.
	Decided bool
	Note    string
	// Now are the transitions, NowRun and NowReason the run's state, as they would be
	// decided by this program. Differs says that they are not those recorded.
	Now       []scheduler.Transition
	NowRun    airflow.DagRunState
	NowReason scheduler.Code
	Differs   bool
}

// Step decides the next recorded step. An error means that the record cannot be read.
func (p *Replay) Step(rec Record) (Replayed, error) {
	out := Replayed{Record: rec}
	if rec.Header != nil {
		if err := p.take(rec, &out); err != nil {
			return out, err
		}
	} else if p.rs != nil && rec.Seq != p.next {
		p.rs = nil
		out.Note = "records were lost before this step: it cannot be decided again"
	}
	p.next = rec.Seq + 1
	if p.rs == nil {
		if out.Note == "" {
			out.Note = "the state before this step is not recorded"
		}
		return out, nil
	}
	for _, in := range rec.Inputs {
		switch {
		case in.Action:
			p.rs = nil
			out.Note = "an operator intervened: what was done is recorded, not how it was decided"
			return out, nil
		case in.Start:
			scheduler.StartRun(p.rs, rec.At)
		case in.Report != nil:
			if res := scheduler.Apply(p.g, p.rs, *in.Report, rec.Limits, rec.At); res.Refused == "" {
				out.Now = append(out.Now, res.Transitions...)
			}
		}
	}
	if rec.Facts != nil {
		d := scheduler.Decide(p.g, p.rs, *rec.Facts, rec.At)
		out.Now, out.NowReason = append(out.Now, d.Transitions...), d.RunReason
		out.Now = append(out.Now, scheduler.Dispatch(p.g, p.rs, rec.Granted, rec.QueuedTimeout, rec.At)...)
	}
	out.Decided, out.NowRun = true, p.rs.Header.State
	out.Differs = !slices.Equal(out.Now, rec.Transitions) || out.NowRun != rec.RunState || out.NowReason != rec.Reason
	return out, nil
}

// State returns the run's state after the last step, nil if that could not be
// decided again. The caller must not change it.
func (p *Replay) State() (*scheduler.Graph, *scheduler.RunState) { return p.g, p.rs }

// take continues with a recorded state.
func (p *Replay) take(rec Record, out *Replayed) error {
	g, err := p.Graph(rec.DagHash)
	if err != nil {
		return err
	}
	rs, err := scheduler.Decode(g, rec.Header, rec.Chunks)
	if err != nil {
		return fmt.Errorf("recorded state of run %s: %w", rec.Run, err)
	}
	if p.rs != nil && p.g == g && !sameStates(p.rs, rs) {
		out.Note = "the state had changed outside of the recorded steps"
	}
	p.g, p.rs = g, rs
	return nil
}

// sameStates compares what people see of two states.
func sameStates(a, b *scheduler.RunState) bool {
	if a.Len() != b.Len() || a.Header.State != b.Header.State {
		return false
	}
	for pos := 0; pos < a.Len(); pos++ {
		x, y := a.At(pos), b.At(pos)
		if x.Task != y.Task || x.MapIndex != y.MapIndex || x.DispatchSeq != y.DispatchSeq {
			return false
		}
		// That a dispatch was claimed is kept in memory only: a restart forgets it.
		if x.State != y.State && !(x.State == airflow.TIRunning && y.State == airflow.TIQueued) {
			return false
		}
	}
	return a.Header.DagHash == b.Header.DagHash
}

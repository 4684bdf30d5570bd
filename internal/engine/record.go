package engine

import (
	"encoding/json"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// Record is one step of a run as it happened: what `gust replay` shows again.
type Record struct {
	Run     store.RunKey `json:"run"`
	Version int64        `json:"version"` // after the step
	At      time.Time    `json:"at"`
	// Events says in words what the step took in.
	Events      []string               `json:"events,omitempty"`
	Transitions []scheduler.Transition `json:"transitions,omitempty"`
	RunBefore   airflow.DagRunState    `json:"run_before"`
	RunState    airflow.DagRunState    `json:"run_state"`
	Reason      scheduler.Code         `json:"reason,omitempty"`
	Header      []byte                 `json:"header,omitempty"` // state before the step
	Chunks      [][]byte               `json:"chunks,omitempty"`
	Mail        []json.RawMessage      `json:"mail,omitempty"`
}

// recordBefore keeps the state before a step, if steps are recorded.
func (e *Engine) recordBefore(r *run) *Record {
	if e.records == nil {
		return nil
	}
	rec := &Record{Run: r.key, RunBefore: r.state.Header.State, Header: scheduler.Encode(r.state)}
	for i := range r.state.Chunks {
		rec.Chunks = append(rec.Chunks, scheduler.EncodeChunk(r.state, i))
	}
	return rec
}

// record hands a committed step over.
func (e *Engine) record(r *run, rec *Record, mail []Event, o *outcome, now time.Time) {
	if rec == nil || len(o.transitions) == 0 && rec.RunBefore == r.state.Header.State {
		return
	}
	rec.Version, rec.At, rec.Transitions, rec.RunState, rec.Reason = r.version, now, o.transitions, r.state.Header.State, o.decision.RunReason
	for _, ev := range mail {
		rec.Events = append(rec.Events, ev.describe())
	}
	e.records(*rec)
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
		return ev.Dispatch.Key.String() + ": its trigger fired"
	case ev.Claimed:
		return ev.Dispatch.Key.String() + " was claimed"
	case ev.Report != nil:
		return ev.Dispatch.Key.String() + " reported " + ev.Report.Outcome.String()
	case ev.Dispatch != nil:
		return ev.Dispatch.Key.String() + " has reported"
	}
	return "nothing in particular"
}

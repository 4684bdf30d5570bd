// Package workertest has an in-memory worker.Backend and builders of dispatches
// for tests of operators and of the worker's loop.
package workertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// Backend is a worker.Backend in memory. Fields may be set before use; the
// maps are guarded by the methods afterwards.
type Backend struct {
	mu sync.Mutex
	// Contexts are handed out by Claim, once each.
	Contexts map[worker.Dispatch]*worker.TaskContext
	claimed  map[worker.Dispatch]worker.Identity
	// Superseded makes heartbeats and reports of a dispatch fail with its cause.
	superseded map[worker.Dispatch]string
	reports    map[worker.Dispatch][]*worker.Report
	beats      int
	// Fail makes the next n calls of a method fail with ErrUnavailable.
	Fail map[string]int

	XComs       map[worker.XComQuery]json.RawMessage
	Variables   map[string]string
	Connections map[string]airflow.Connection
	Dags        map[airflow.DagID]*airflow.DAG
	Paused      map[airflow.DagID]bool
	Runs        []airflow.DagRun
	States      map[airflow.DagID]map[airflow.RunID]map[string]airflow.TIState
	Triggered   []worker.TriggerRequest
	Cleared     []airflow.RunID
	// Next is what NextDataInterval returns; nil = no next run.
	Next    *[2]time.Time
	Yielded []worker.Dispatch
	// OnHeartbeat is called by each heartbeat.
	OnHeartbeat func()
}

// NewBackend returns an empty Backend.
func NewBackend() *Backend {
	return &Backend{
		Contexts: map[worker.Dispatch]*worker.TaskContext{}, claimed: map[worker.Dispatch]worker.Identity{}, superseded: map[worker.Dispatch]string{},
		reports: map[worker.Dispatch][]*worker.Report{}, Fail: map[string]int{}, XComs: map[worker.XComQuery]json.RawMessage{},
		Variables: map[string]string{}, Connections: map[string]airflow.Connection{}, Dags: map[airflow.DagID]*airflow.DAG{},
		Paused: map[airflow.DagID]bool{}, States: map[airflow.DagID]map[airflow.RunID]map[string]airflow.TIState{},
	}
}

func (b *Backend) fail(method string) error {
	if b.Fail[method] > 0 {
		b.Fail[method]--
		return fmt.Errorf("%w: %s was told to fail", airflow.ErrUnavailable, method)
	}
	return nil
}

// Supersede stops a dispatch at its next heartbeat.
func (b *Backend) Supersede(d worker.Dispatch, cause string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.superseded[d] = cause
}

// Reports returns the reports of a dispatch.
func (b *Backend) Reports(d worker.Dispatch) []*worker.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*worker.Report(nil), b.reports[d]...)
}

// Beats is the number of heartbeats.
func (b *Backend) Beats() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.beats
}

// Claim implements worker.Backend.
func (b *Backend) Claim(_ context.Context, d worker.Dispatch, who worker.Identity) (*worker.TaskContext, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail("Claim"); err != nil {
		return nil, err
	}
	tc := b.Contexts[d]
	if tc == nil {
		return nil, &worker.SupersededError{Cause: "no such dispatch"}
	}
	if by, ok := b.claimed[d]; ok && by != who {
		return nil, &worker.SupersededError{Cause: "claimed by another worker"}
	}
	b.claimed[d] = who
	return tc, nil
}

// Heartbeat implements worker.Backend.
func (b *Backend) Heartbeat(_ context.Context, d worker.Dispatch, _ worker.Identity) error {
	if b.OnHeartbeat != nil {
		b.OnHeartbeat()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beats++
	if err := b.fail("Heartbeat"); err != nil {
		return err
	}
	if cause, ok := b.superseded[d]; ok {
		return &worker.SupersededError{Cause: cause}
	}
	return nil
}

// Finish implements worker.Backend.
func (b *Backend) Finish(_ context.Context, d worker.Dispatch, r *worker.Report) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail("Finish"); err != nil {
		return err
	}
	if cause, ok := b.superseded[d]; ok {
		return &worker.SupersededError{Cause: cause}
	}
	if b.Fail["TooLarge"] > 0 {
		b.Fail["TooLarge"]--
		return airflow.ErrTooLarge
	}
	// As over a wire: the report must survive encoding.
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c := new(worker.Report)
	if err := json.Unmarshal(raw, c); err != nil {
		return err
	}
	b.reports[d] = append(b.reports[d], c)
	for _, x := range r.XComs {
		b.XComs[query(d, x.Key)] = x.Value
	}
	return nil
}

// Yield records that a superseded dispatch has stopped.
func (b *Backend) Yield(_ context.Context, d worker.Dispatch, _ worker.Identity) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Yielded = append(b.Yielded, d)
	return nil
}

func query(d worker.Dispatch, key string) worker.XComQuery {
	return worker.XComQuery{DagID: d.Key.DagID, RunID: d.Key.RunID, TaskID: d.Key.TaskID, Key: key, MapIndex: d.Key.MapIndex}
}

// SetXCom implements worker.Backend.
func (b *Backend) SetXCom(_ context.Context, d worker.Dispatch, xs []worker.XComPush) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range xs {
		b.XComs[query(d, x.Key)] = x.Value
	}
	return nil
}

// TriggerDagRun implements worker.Backend.
func (b *Backend) TriggerDagRun(_ context.Context, _ worker.Dispatch, r worker.TriggerRequest) (*airflow.DagRun, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail("TriggerDagRun"); err != nil {
		return nil, err
	}
	if r.RunID == "" {
		r.RunID = airflow.RunID("manual__" + taskrunner.PyISO(r.RunAfter))
	}
	for i := range b.Runs {
		x := &b.Runs[i]
		if x.DagID == r.DagID && (x.RunID == r.RunID || r.LogicalDate != nil && x.LogicalDate != nil && x.LogicalDate.Equal(*r.LogicalDate)) {
			return x, fmt.Errorf("%w: run %s", airflow.ErrAlreadyExists, x.RunID)
		}
	}
	b.Triggered = append(b.Triggered, r)
	run := airflow.DagRun{DagID: r.DagID, RunID: r.RunID, LogicalDate: r.LogicalDate, RunAfter: r.RunAfter, Conf: r.Conf, State: airflow.RunQueued}
	b.Runs = append(b.Runs, run)
	return &run, nil
}

// SetRunState changes the state of a run.
func (b *Backend) SetRunState(dag airflow.DagID, id airflow.RunID, s airflow.DagRunState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.Runs {
		if b.Runs[i].DagID == dag && b.Runs[i].RunID == id {
			b.Runs[i].State = s
		}
	}
}

// ClearDagRun implements worker.Backend.
func (b *Backend) ClearDagRun(_ context.Context, _ worker.Dispatch, _ airflow.DagID, run airflow.RunID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Cleared = append(b.Cleared, run)
	return nil
}

// SetVariable implements worker.Backend.
func (b *Backend) SetVariable(_ context.Context, _ worker.Dispatch, v airflow.Variable) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Variables[v.Key] = v.Value
	return nil
}

// DeleteVariable implements worker.Backend.
func (b *Backend) DeleteVariable(_ context.Context, _ worker.Dispatch, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.Variables, key)
	return nil
}

// GetXCom implements worker.Reader.
func (b *Backend) GetXCom(_ context.Context, q worker.XComQuery) (json.RawMessage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q.IncludePriorDates = false
	if v, ok := b.XComs[q]; ok {
		return v, nil
	}
	return nil, airflow.ErrNotFound
}

// ListXCom implements worker.Reader.
func (b *Backend) ListXCom(_ context.Context, q worker.XComQuery) ([]worker.MappedXCom, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []worker.MappedXCom
	for k, v := range b.XComs {
		if k.DagID == q.DagID && k.RunID == q.RunID && k.TaskID == q.TaskID && k.Key == q.Key {
			out = append(out, worker.MappedXCom{MapIndex: k.MapIndex, Value: v})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].MapIndex < out[j].MapIndex })
	return out, nil
}

// GetVariable implements worker.Reader.
func (b *Backend) GetVariable(_ context.Context, key string) (airflow.Variable, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.Variables[key]
	if !ok {
		return airflow.Variable{}, airflow.ErrNotFound
	}
	return airflow.Variable{Key: key, Value: v}, nil
}

// GetConnection implements worker.Reader.
func (b *Backend) GetConnection(_ context.Context, id string) (airflow.Connection, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.Connections[id]
	if !ok {
		return airflow.Connection{}, airflow.ErrNotFound
	}
	c.ConnID = id
	return c, nil
}

// GetDagRun implements worker.Reader.
func (b *Backend) GetDagRun(_ context.Context, dag airflow.DagID, run airflow.RunID) (*airflow.DagRun, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.Runs {
		if r.DagID == dag && r.RunID == run {
			return &r, nil
		}
	}
	return nil, airflow.ErrNotFound
}

// PreviousDagRun implements worker.Reader.
func (b *Backend) PreviousDagRun(_ context.Context, of airflow.DagRun, state airflow.DagRunState) (*airflow.DagRun, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var best *airflow.DagRun
	for i := range b.Runs {
		r := b.Runs[i]
		if r.DagID != of.DagID || r.LogicalDate == nil || of.LogicalDate == nil || !r.LogicalDate.Before(*of.LogicalDate) || state != "" && r.State != state {
			continue
		}
		if best == nil || best.LogicalDate.Before(*r.LogicalDate) {
			best = &r
		}
	}
	if best == nil {
		return nil, airflow.ErrNotFound
	}
	return best, nil
}

// FindDagRuns implements worker.Reader.
func (b *Backend) FindDagRuns(_ context.Context, q worker.RunQuery) ([]airflow.DagRun, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []airflow.DagRun
	for _, r := range b.Runs {
		if r.DagID == q.DagID && dateIn(r, q.LogicalDates) {
			out = append(out, r)
		}
	}
	return out, nil
}

func dateIn(r airflow.DagRun, dates []time.Time) bool {
	for _, d := range dates {
		if r.LogicalDate != nil && r.LogicalDate.Equal(d) {
			return true
		}
	}
	return len(dates) == 0
}

// TaskStates implements worker.Reader.
func (b *Backend) TaskStates(ctx context.Context, q worker.TaskStatesQuery) (map[airflow.RunID]map[string]airflow.TIState, error) {
	runs, err := b.FindDagRuns(ctx, worker.RunQuery{DagID: q.DagID, LogicalDates: q.LogicalDates})
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[airflow.RunID]map[string]airflow.TIState{}
	for _, r := range runs {
		m := map[string]airflow.TIState{}
		for name, s := range b.States[q.DagID][r.RunID] {
			id, _, _ := strings.Cut(name, "[")
			for _, want := range q.TaskIDs {
				if string(want) == id {
					m[name] = s
				}
			}
		}
		out[r.RunID] = m
	}
	return out, err
}

// GetDag implements worker.Reader.
func (b *Backend) GetDag(_ context.Context, dag airflow.DagID) (*airflow.DagModel, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &airflow.DagModel{DagID: dag, IsPaused: b.Paused[dag]}, nil
}

// GetDagVersion implements worker.Reader.
func (b *Backend) GetDagVersion(_ context.Context, dag airflow.DagID) (*airflow.DAG, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.Dags[dag]; d != nil {
		return d, nil
	}
	return nil, airflow.ErrNotFound
}

// NextDataInterval implements worker.Reader.
func (b *Backend) NextDataInterval(context.Context, *airflow.DAG, airflow.DagRun) (start, end time.Time, ok bool, err error) {
	if b.Next == nil {
		return start, end, false, nil
	}
	return b.Next[0], b.Next[1], true, nil
}

// Log collects records.
type Log struct {
	mu      sync.Mutex
	records []taskrunner.Record
	closed  bool
}

// WriteRecord implements taskrunner.LogSink.
func (l *Log) WriteRecord(r taskrunner.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.New("the log is closed")
	}
	l.records = append(l.records, r)
	return nil
}

// Close implements taskrunner.LogSink.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

// Text returns level, logger and event of all records, a line each.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, r := range l.records {
		fmt.Fprintf(&b, "%s %s %s\n", r.Level, r.Logger, r.Event)
	}
	return b.String()
}

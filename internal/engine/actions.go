package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/timetable"
)

// TriggerOptions ask for a manual run.
type TriggerOptions struct {
	DagID airflow.DagID
	RunID airflow.RunID // "" = generated
	// LogicalDate of the run; nil takes none (NoLogicalDate, or an API trigger
	// without one).
	LogicalDate   *time.Time
	NoLogicalDate bool
	// ReplaceMicroseconds cuts the logical date to the second, Airflow's CLI default.
	ReplaceMicroseconds bool
	// DataInterval overrides the timetable's inference.
	DataIntervalStart, DataIntervalEnd *time.Time
	RunAfter                           time.Time // zero = now
	Conf                               json.RawMessage
	Note                               string
	TriggeredBy                        airflow.TriggeredBy
	Type                               airflow.DagRunType // "" = manual
	User                               string
	// RequestID makes repeating a request harmless: the run it created is returned.
	RequestID string
	// Validate checks the conf against the DAG's params; nil = not checked.
	Validate func(*airflow.DAG, json.RawMessage) error
}

// Trigger creates a run. ErrNotFound: no such DAG. ErrAlreadyExists: a run with
// that id or logical date exists; it is returned with the error. InvalidError:
// run_id, conf or params.
func (e *Engine) Trigger(ctx context.Context, o TriggerOptions) (airflow.DagRun, error) {
	m, err := e.store.GetDag(ctx, o.DagID)
	if err != nil {
		return airflow.DagRun{}, fmt.Errorf("DAG %q: %w", o.DagID, err)
	}
	if m.IsStale {
		return airflow.DagRun{}, fmt.Errorf("DAG %q: %w: its file no longer defines it", o.DagID, airflow.ErrNotAllowed)
	}
	if m.HasImportErrors {
		return airflow.DagRun{}, fmt.Errorf("DAG %q: %w: its file %s has import errors; mend them first (gust dags list-import-errors)", o.DagID, airflow.ErrNotAllowed, m.RelativeFileloc)
	}
	g, err := e.docs.get(ctx, m.LatestHash)
	if err != nil {
		return airflow.DagRun{}, err
	}
	if o.Validate != nil {
		if err := o.Validate(g.DAG, confOf(o.Conf)); err != nil {
			return airflow.DagRun{}, err
		}
	}
	now := e.utcNow()
	if o.RunAfter.IsZero() {
		o.RunAfter = now
	}
	if o.Type == "" {
		o.Type = airflow.RunTypeManual
	}
	info := airflow.DagRun{
		DagID: o.DagID, RunType: o.Type, State: airflow.RunQueued, QueuedAt: &now,
		TriggeredBy: o.TriggeredBy, TriggeringUserName: o.User, Conf: confOf(o.Conf), Note: o.Note,
		DagVersion: m.LatestVersion, DagHash: m.LatestHash, BundleHash: m.BundleHash, RequestID: o.RequestID,
	}
	if o.RunID != "" {
		if err := airflow.CheckRunID(string(o.RunID)); err != nil {
			return airflow.DagRun{}, airflow.Invalid("run_id", "%v", err)
		}
	}
	manual, err := e.manualRun(g.DAG, o, now)
	if err != nil {
		return airflow.DagRun{}, err
	}
	info.RunID, info.RunAfter = airflow.RunID(manual.RunID), manual.RunAfter.UTC()
	if manual.LogicalDate != nil {
		info.LogicalDate = timePtr(*manual.LogicalDate)
		info.DataIntervalStart, info.DataIntervalEnd = timePtr(manual.DataInterval.Start), timePtr(manual.DataInterval.End)
	}
	if o.RequestID != "" {
		if info.RunID, err = e.store.ReserveRequest(ctx, o.RequestID, info.RunID, now.Add(30*24*time.Hour)); err != nil {
			return airflow.DagRun{}, err
		}
	}
	if err := e.store.CreateRun(ctx, info); err != nil {
		if !errors.Is(err, airflow.ErrAlreadyExists) {
			return airflow.DagRun{}, err
		}
		key := store.RunKey{DagID: info.DagID, RunID: info.RunID}
		if info.LogicalDate != nil {
			if id, lerr := e.store.RunOfLogicalDate(ctx, info.DagID, *info.LogicalDate); lerr == nil {
				key.RunID = id
			}
		}
		have, gerr := e.store.GetRun(ctx, key)
		if gerr != nil {
			return info, err
		}
		if o.RequestID != "" && have.RequestID == o.RequestID {
			return have, nil
		}
		return have, err
	}
	if e.remote() {
		// Not heard of, it starts with the next tick.
		e.sendAll(ctx, Message{Kind: MessageDag, DagID: info.DagID, RunID: info.RunID})
		return info, nil
	}
	e.adopt(ctx, info)
	e.dagMoved(info.DagID)
	return info, nil
}

// manualRun works out id, dates and interval of a manual run, as Airflow's API
// does or as its CLI and TriggerDagRunOperator do.
func (e *Engine) manualRun(dag *airflow.DAG, o TriggerOptions, now time.Time) (timetable.ManualRun, error) {
	tt, err := timetable.Parse(dag.Timetable)
	if err != nil {
		return timetable.ManualRun{}, err
	}
	var id *string
	if o.RunID != "" {
		s := string(o.RunID)
		id = &s
	}
	ld := o.LogicalDate
	if o.NoLogicalDate {
		ld = nil
	}
	var run timetable.ManualRun
	switch o.TriggeredBy {
	case airflow.TriggeredByRestAPI, airflow.TriggeredByUI:
		run, err = timetable.APITrigger(tt, timetable.TriggerRequest{RunID: id, LogicalDate: ld, RunAfter: &o.RunAfter, DataIntervalStart: o.DataIntervalStart, DataIntervalEnd: o.DataIntervalEnd}, now)
	default:
		run, err = timetable.TriggerDag(tt, id, &o.RunAfter, ld, o.ReplaceMicroseconds, now)
	}
	if err != nil {
		return run, airflow.Invalid("logical_date", "%v", err)
	}
	if id == nil && o.Type != airflow.RunTypeManual {
		run.RunID = timetable.RunID(string(o.Type), run.RunAfter.UTC())
	}
	return run, nil
}

// act carries out an intervention on a run and waits for its commit.
func (e *Engine) act(ctx context.Context, key store.RunKey, action func(*scheduler.Graph, *scheduler.RunState, time.Time) (scheduler.ActionResult, error)) (scheduler.ActionResult, error) {
	return e.actOnce(ctx, key, nil, action)
}

// actOnce is act with a mark, if not nil, that is written with the intervention.
func (e *Engine) actOnce(ctx context.Context, key store.RunKey, mark *store.PendingEffect, action func(*scheduler.Graph, *scheduler.RunState, time.Time) (scheduler.ActionResult, error)) (scheduler.ActionResult, error) {
	info, err := e.store.GetRun(ctx, key)
	if err != nil {
		return scheduler.ActionResult{}, fmt.Errorf("run %s: %w", key, err)
	}
	r := e.lookup(info)
	var res scheduler.ActionResult
	done := make(chan error, 1)
	ev := Event{Done: done, Mark: mark, Action: func(g *scheduler.Graph, rs *scheduler.RunState, now time.Time) (scheduler.ActionResult, error) {
		var err error
		res, err = action(g, rs, now)
		return res, err
	}}
	// The caller's goroutine does the step, so that it works without a running loop.
	if err := e.step(ctx, r, []Event{ev}); err != nil {
		return res, err
	}
	select {
	case err = <-done:
	default:
	}
	if !r.stateFinished() {
		e.dagMoved(key.DagID)
	}
	return res, err
}

func (r *run) stateFinished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state != nil && r.state.Header.State.Finished()
}

// ClearRequest asks for clearing task instances.
type ClearRequest struct {
	scheduler.ClearOptions
	// DryRun lists what would be cleared and changes nothing.
	DryRun bool
	// LatestVersion moves the run to the newest version of its DAG first.
	LatestVersion bool
	User          string
	// mark is written with the clear, before which once is called: an error of it
	// leaves the run alone. nil: there is none.
	mark *store.PendingEffect
	once func(context.Context) error
}

// Clear clears task instances of a run, so that they run again.
func (e *Engine) Clear(ctx context.Context, key store.RunKey, q ClearRequest) (scheduler.ActionResult, error) {
	if q.DryRun {
		return e.preview(ctx, key, func(g *scheduler.Graph, rs *scheduler.RunState, now time.Time) (scheduler.ActionResult, error) {
			return scheduler.Clear(g, rs, q.ClearOptions, now)
		})
	}
	var latest *scheduler.Graph
	var m airflow.DagModel
	if q.LatestVersion {
		var err error
		if m, err = e.store.GetDag(ctx, key.DagID); err != nil {
			return scheduler.ActionResult{}, err
		}
		if latest, err = e.docs.get(ctx, m.LatestHash); err != nil {
			return scheduler.ActionResult{}, err
		}
	}
	res, err := e.actOnce(ctx, key, q.mark, func(g *scheduler.Graph, rs *scheduler.RunState, now time.Time) (scheduler.ActionResult, error) {
		if q.once != nil {
			if err := q.once(ctx); err != nil {
				return scheduler.ActionResult{}, err
			}
		}
		var all scheduler.ActionResult
		if latest != nil && rs.Header.DagHash != m.LatestHash {
			all = scheduler.Rebase(g, latest, rs, now)
			rs.Header.DagHash, rs.Header.DagVersion = m.LatestHash, m.LatestVersion
			rs.HeaderDirty = true
			g = latest
		}
		res, err := scheduler.Clear(g, rs, q.ClearOptions, now)
		res.Transitions = append(all.Transitions, res.Transitions...)
		res.Effects = append(all.Effects, res.Effects...)
		if err == nil && latest != nil {
			// Before the commit, so that no dispatch of it starts in the old files; and
			// not for a clear that is refused.
			_, err = e.store.UpdateRun(context.WithoutCancel(ctx), key, func(i *airflow.DagRun) error { i.BundleHash = m.BundleHash; return nil })
		}
		return res, err
	})
	if err == nil {
		e.audit(ctx, "clear", q.User, key.DagID, key.RunID, fmt.Sprintf("%d task instances", len(res.Transitions)))
	}
	return res, err
}

// preview applies an action to a copy of the run's state.
func (e *Engine) preview(ctx context.Context, key store.RunKey, action func(*scheduler.Graph, *scheduler.RunState, time.Time) (scheduler.ActionResult, error)) (scheduler.ActionResult, error) {
	info, err := e.store.GetRun(ctx, key)
	if err != nil {
		return scheduler.ActionResult{}, fmt.Errorf("run %s: %w", key, err)
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil || rs == nil {
		return scheduler.ActionResult{}, err
	}
	return action(g, rs, e.utcNow())
}

// MarkTask sets the state of task instances by hand.
func (e *Engine) MarkTask(ctx context.Context, key store.RunKey, o scheduler.MarkOptions, user string) (scheduler.ActionResult, error) {
	res, err := e.act(ctx, key, func(g *scheduler.Graph, rs *scheduler.RunState, now time.Time) (scheduler.ActionResult, error) {
		return scheduler.MarkTask(g, rs, o, now)
	})
	if err == nil {
		e.audit(ctx, "mark_"+o.State.String(), user, key.DagID, key.RunID, fmt.Sprintf("%d task instances", len(res.Transitions)))
	}
	return res, err
}

// MarkRun sets the state of a run by hand: success, failed or queued.
func (e *Engine) MarkRun(ctx context.Context, key store.RunKey, s airflow.DagRunState, user string) (scheduler.ActionResult, error) {
	res, err := e.act(ctx, key, func(g *scheduler.Graph, rs *scheduler.RunState, now time.Time) (scheduler.ActionResult, error) {
		return scheduler.MarkRun(g, rs, s, now)
	})
	if err == nil {
		e.audit(ctx, "mark_run_"+string(s), user, key.DagID, key.RunID, "")
	}
	return res, err
}

// SetPaused pauses or un-pauses a DAG. Pausing lets what runs go on and starts
// nothing new; un-pausing plans from now.
func (e *Engine) SetPaused(ctx context.Context, dag airflow.DagID, paused bool, user string) (airflow.DagModel, error) {
	was := false
	m, err := e.store.UpdateDag(ctx, dag, func(m *airflow.DagModel) error {
		was = m.IsPaused
		m.IsPaused = paused
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("DAG %q: %w", dag, err)
	}
	if was != paused {
		event := "unpaused"
		if paused {
			event = "paused"
		}
		e.audit(ctx, event, user, dag, "", "")
	}
	e.DagChanged(dag)
	return m, nil
}

// BackfillRequest asks for a backfill, or with DryRun what it would do.
type BackfillRequest struct {
	airflow.Backfill
	DryRun bool
	User   string
}

// BackfillRun is one run that a backfill makes or runs again.
type BackfillRun struct {
	LogicalDate time.Time `json:"logical_date"`
	timetable.RunInfo
	// Existing is the run that is cleared and run again, "" for a new one.
	Existing airflow.RunID `json:"existing_run_id,omitempty"`
	// Skipped says why no run is made for the date; "" if one is.
	Skipped string `json:"exception_reason,omitempty"`
}

// CreateBackfill creates a backfill and all of its runs, queued. It returns the
// runs in their order of creation; with DryRun nothing is written.
func (e *Engine) CreateBackfill(ctx context.Context, q BackfillRequest) (airflow.Backfill, []BackfillRun, error) {
	b := q.Backfill
	m, err := e.store.GetDag(ctx, b.DagID)
	if err != nil {
		return b, nil, fmt.Errorf("DAG %q: %w", b.DagID, err)
	}
	g, err := e.docs.get(ctx, m.LatestHash)
	if err != nil {
		return b, nil, err
	}
	tt, err := timetable.Parse(g.DAG.Timetable)
	if err != nil {
		return b, nil, err
	}
	if b.MaxActiveRuns <= 0 {
		b.MaxActiveRuns = 10
	}
	if b.ReprocessBehavior == "" {
		b.ReprocessBehavior = airflow.ReprocessNone
	}
	if !q.DryRun {
		active, err := e.lists.ListActiveBackfills(ctx)
		if err != nil {
			return b, nil, err
		}
		for _, a := range active {
			if a.DagID == b.DagID {
				return b, nil, fmt.Errorf("%w: DAG %q has another backfill that is not finished: %d", airflow.ErrAlreadyExists, b.DagID, a.ID)
			}
		}
	}
	existing := map[time.Time]airflow.DagRun{}
	err = e.eachRun(ctx, b.DagID, func(c airflow.DagRun) bool {
		if c.LogicalDate != nil {
			existing[c.LogicalDate.UTC()] = c
		}
		return true
	})
	if err != nil {
		return b, nil, err
	}
	past := false
	for _, t := range g.DAG.Tasks {
		past = past || t.DependsOnPast
	}
	now := e.utcNow()
	infos, err := timetable.BackfillRuns(tt, timetable.BackfillRequest{
		DagID: string(b.DagID), From: b.FromDate, To: b.ToDate, Reverse: b.Reverse,
		ReprocessBehavior: timetable.ReprocessBehavior(b.ReprocessBehavior), DependsOnPast: past, Now: now,
		ExistingRun: func(ld time.Time) (string, bool) {
			c, ok := existing[ld.UTC()]
			return string(c.State), ok
		},
	})
	if err != nil {
		return b, nil, airflow.Invalid("backfill", "%v", err)
	}
	var runs []BackfillRun
	for _, info := range infos {
		br := BackfillRun{RunInfo: info, LogicalDate: info.LogicalDate.UTC()}
		if have, ok := existing[br.LogicalDate]; ok {
			br.Existing = have.RunID
		}
		runs = append(runs, br)
	}
	if q.DryRun {
		return b, runs, nil
	}
	if len(runs) == 0 {
		return b, nil, airflow.Invalid("backfill", "no runs to create between %s and %s: every date has a run already, or lies in the future", b.FromDate.Format(time.RFC3339), b.ToDate.Format(time.RFC3339))
	}
	b.CreatedAt, b.UpdatedAt, b.CompletedAt, b.TriggeringUserName = now, now, nil, q.User
	if b, err = e.store.CreateBackfill(ctx, b); err != nil {
		return b, nil, err
	}
	e.mu.Lock()
	e.backfills[b.ID] = b
	e.mu.Unlock()
	for i, br := range runs {
		if err := e.backfillRun(ctx, m, b, br, i+1, now); err != nil {
			return b, runs, err
		}
	}
	e.dagMoved(b.DagID)
	e.audit(ctx, "create_backfill", q.User, b.DagID, "", fmt.Sprintf("backfill %d: %d runs", b.ID, len(runs)))
	return b, runs, nil
}

// backfillRun makes one run of a backfill, or takes over the existing run of its date.
func (e *Engine) backfillRun(ctx context.Context, m airflow.DagModel, b airflow.Backfill, br BackfillRun, ordinal int, now time.Time) error {
	if br.Existing == "" {
		start, end := br.DataInterval.Start.UTC(), br.DataInterval.End.UTC()
		info := newRun(scheduler.NewDagRun{
			RunID:   airflow.RunID(timetable.RunID(string(airflow.RunTypeBackfill), br.RunAfter)),
			RunType: airflow.RunTypeBackfill, LogicalDate: &br.LogicalDate, DataIntervalStart: &start, DataIntervalEnd: &end,
			RunAfter: br.RunAfter.UTC(), Conf: confOf(b.DagRunConf), BackfillOrdinal: ordinal,
		}, m, now, airflow.TriggeredByBackfill)
		info.BackfillID = b.ID
		info.TriggeringUserName = b.TriggeringUserName
		return e.createRun(ctx, info)
	}
	key := store.RunKey{DagID: b.DagID, RunID: br.Existing}
	info, err := e.store.UpdateRun(ctx, key, func(i *airflow.DagRun) error {
		i.RunType, i.TriggeredBy, i.BackfillID, i.BackfillOrdinal = airflow.RunTypeBackfill, airflow.TriggeredByBackfill, b.ID, ordinal
		if len(b.DagRunConf) > 0 && string(b.DagRunConf) != "null" {
			i.Conf = b.DagRunConf
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.setInfo(e.lookup(info), info)
	_, err = e.Clear(ctx, key, ClearRequest{ClearOptions: scheduler.ClearOptions{ResetDagRun: true}, LatestVersion: b.RunOnLatestVersion, User: b.TriggeringUserName})
	return err
}

// PauseBackfill pauses or un-pauses a backfill: no more of its runs start.
func (e *Engine) PauseBackfill(ctx context.Context, id int64, paused bool) (airflow.Backfill, error) {
	now := e.utcNow()
	b, err := e.store.UpdateBackfill(ctx, id, func(b *airflow.Backfill) error {
		if b.CompletedAt != nil {
			return fmt.Errorf("%w: backfill %d is completed", airflow.ErrNotAllowed, id)
		}
		b.IsPaused, b.UpdatedAt = paused, now
		return nil
	})
	if err != nil {
		return b, err
	}
	e.mu.Lock()
	e.backfills[id] = b
	e.mu.Unlock()
	e.dagMoved(b.DagID)
	return b, nil
}

// CancelBackfill fails the queued runs of a backfill and completes it; running
// ones finish.
func (e *Engine) CancelBackfill(ctx context.Context, id int64, user string) (airflow.Backfill, error) {
	b, err := e.PauseBackfill(ctx, id, true)
	if err != nil {
		return b, err
	}
	active, err := e.lists.ListActiveRuns(ctx, b.DagID)
	if err != nil {
		return b, err
	}
	for _, r := range active {
		if r.BackfillID == id && r.State == airflow.RunQueued {
			if _, err := e.MarkRun(ctx, store.RunKey{DagID: r.DagID, RunID: r.RunID}, airflow.RunFailed, user); err != nil {
				return b, err
			}
		}
	}
	now := e.utcNow()
	b, err = e.store.UpdateBackfill(ctx, id, func(b *airflow.Backfill) error {
		b.CompletedAt, b.UpdatedAt = &now, now
		return nil
	})
	if err == nil {
		e.mu.Lock()
		delete(e.backfills, id)
		e.mu.Unlock()
		e.dagMoved(b.DagID)
	}
	e.audit(ctx, "cancel_backfill", user, b.DagID, "", fmt.Sprintf("backfill %d", id))
	return b, err
}

// CreateAssetEvent records an asset event made by a person or another system.
func (e *Engine) CreateAssetEvent(ctx context.Context, a store.AssetKey, extra json.RawMessage) (airflow.AssetEvent, error) {
	if _, err := e.store.GetAsset(ctx, a); err != nil {
		return airflow.AssetEvent{}, fmt.Errorf("asset %q: %w", a.Name, err)
	}
	ev := airflow.AssetEvent{ID: "external#" + e.newID(), AssetName: a.Name, AssetURI: a.URI, Extra: extra, SourceMapIndex: airflow.Unmapped, Timestamp: e.utcNow()}
	waiting, err := e.recordAssetEvent(ctx, ev, "")
	for _, dag := range waiting {
		e.dagMoved(dag)
	}
	return ev, err
}

// DeleteRun removes a queued or finished run with everything that belongs to it.
// A running one is refused (ErrNotAllowed): mark it failed first. ErrConflict: it
// was changed meanwhile. A call that was cut short is completed by repeating it.
func (e *Engine) DeleteRun(ctx context.Context, key store.RunKey) error {
	e.mu.Lock()
	r := e.runs[key]
	e.mu.Unlock()
	if r != nil {
		r.mu.Lock() // no step of this process meanwhile
		defer r.mu.Unlock()
	}
	var err error
	for range stepAttempts {
		// Somebody may start or clear it meanwhile: then it is looked at again.
		if err = e.deleteStored(ctx, key); !errors.Is(err, airflow.ErrConflict) {
			break
		}
	}
	if err != nil {
		return err
	}
	if r != nil {
		e.unload(r)
	}
	e.forgetDeleted(key)
	e.dagMoved(key.DagID)
	return nil
}

// deleteStored deletes what the store has of a run. From its first write on no
// step is committed; cut short, it can be repeated.
func (e *Engine) deleteStored(ctx context.Context, key store.RunKey) error {
	info, err := e.store.GetRun(ctx, key)
	if err != nil {
		return fmt.Errorf("run %s: %w", key, err)
	}
	g, err := e.docs.get(ctx, info.DagHash)
	if err != nil {
		return err
	}
	st, err := e.store.LoadRunState(ctx, key)
	if err != nil {
		return err
	}
	var rs *scheduler.RunState
	if st.Header != nil {
		if g, rs, err = e.decodeState(ctx, key, g, st); err != nil {
			return err
		}
	}
	if !st.Deleting {
		if info.State == airflow.RunRunning || rs != nil && rs.Header.State == airflow.RunRunning {
			return fmt.Errorf("run %s: %w: it is running; mark it failed first", key, airflow.ErrNotAllowed)
		}
		if rs != nil && rs.Count(airflow.TIRunning)+rs.Count(airflow.TIQueued)+rs.Count(airflow.TIRestarting) > 0 {
			return fmt.Errorf("run %s: %w: it has running task instances; mark it failed first", key, airflow.ErrNotAllowed)
		}
		if err := e.store.BeginDeleteRun(ctx, key, st.Version); err != nil {
			return err
		}
	}
	for pos := 0; rs != nil && pos < rs.Len(); pos++ {
		if rs.At(pos).DispatchSeq == 0 {
			continue // never started: no rows
		}
		if err := e.store.DeleteTaskInstance(ctx, rs.Key(g, pos)); err != nil {
			return err
		}
	}
	return e.store.DeleteRun(ctx, info)
}

package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// A task that asks people (human in the loop) defers with TriggerHITL. Before the
// report of the deferral its worker stores the request. An answer is written into
// it, once; then the scheduler is told to resume the instance. The resumed worker
// reads the answer from the request itself, so that what has to be delivered is
// only that there is one: a sweep finds it again.

// HITLUser is a person as Airflow's API names one.
type HITLUser struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// HITLDetail is a request to people and what came of it.
type HITLDetail struct {
	store.HITL
	Request worker.HITLRequest
	// AssignedUsers may answer; everybody may if there are none.
	AssignedUsers []HITLUser
	// Response is nil unless it was answered.
	Response *worker.HITLResponse
	// RespondedAt is zero without a Response; RespondedBy is nil when defaults were taken.
	RespondedAt time.Time
	RespondedBy *HITLUser
}

// ReadHITL decodes a stored request.
func ReadHITL(h store.HITL) (HITLDetail, error) {
	d := HITLDetail{HITL: h}
	if err := json.Unmarshal(h.Request, &d.Request); err != nil {
		return d, fmt.Errorf("%w: request of %s: %w", kv.ErrCorrupt, h.Key, err)
	}
	d.AssignedUsers = hitlUsers(d.Request.AssignedUsers)
	if h.Answer == nil {
		return d, nil
	}
	d.Response = &worker.HITLResponse{}
	if err := json.Unmarshal(h.Answer, d.Response); err != nil {
		return d, fmt.Errorf("%w: answer to %s: %w", kv.ErrCorrupt, h.Key, err)
	}
	var err error
	if d.RespondedAt, err = time.Parse(time.RFC3339Nano, d.Response.RespondedAt); err != nil {
		return d, fmt.Errorf("%w: answer to %s: %w", kv.ErrCorrupt, h.Key, err)
	}
	if us := hitlUsers(d.Response.RespondedByUser); len(us) > 0 {
		d.RespondedBy = &us[0]
	}
	return d, nil
}

// hitlUsers reads one user or a list of them; a text is both id and name.
func hitlUsers(raw json.RawMessage) (out []HITLUser) {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		list = []json.RawMessage{raw}
	}
	for _, x := range list {
		var u HITLUser
		if json.Unmarshal(x, &u.ID) == nil {
			u.Name = u.ID
		} else if json.Unmarshal(x, &u) != nil {
			continue
		}
		if u.ID != "" {
			out = append(out, u)
		}
	}
	return out
}

// HITLAnswer is what a person answers.
type HITLAnswer struct {
	ChosenOptions []string
	// ParamsInput is a JSON object with a value for every param of the request; nil = {}.
	ParamsInput json.RawMessage
	User        HITLUser
}

// AnswerHITL answers the open request of an instance's present try and resumes the
// instance. ErrNotFound: there is no such instance or it asks nothing. ErrConflict:
// it was answered, its time ran out, or the instance does not wait any more.
// ErrNotAllowed: others are assigned. InvalidError: the choice or the params.
func (e *Engine) AnswerHITL(ctx context.Context, k airflow.TaskInstanceKey, a HITLAnswer) (HITLDetail, error) {
	ctx = kv.WithLabel(ctx, "engine.hitl")
	info, err := e.store.GetRun(ctx, store.RunKey{DagID: k.DagID, RunID: k.RunID})
	if err != nil {
		return HITLDetail{}, err
	}
	g, rs, err := e.readState(ctx, info)
	if err != nil {
		return HITLDetail{}, err
	}
	pos := -1
	if rs != nil {
		pos = rs.Find(g, k.TaskID, k.MapIndex)
	}
	if pos < 0 {
		return HITLDetail{}, fmt.Errorf("%w: task instance %s", airflow.ErrNotFound, k)
	}
	h, err := e.store.GetHITL(ctx, k, int(rs.At(pos).TryNumber))
	if err != nil {
		return HITLDetail{}, err
	}
	d, err := ReadHITL(h)
	if err != nil {
		return d, err
	}
	switch {
	case h.Status != store.HITLOpen:
		return d, fmt.Errorf("%w: the request of %s is %s", airflow.ErrConflict, k, h.Status)
	case !waits(rs.At(pos), h):
		return d, fmt.Errorf("%w: %s does not wait for an answer any more: it is %s", airflow.ErrConflict, k, rs.At(pos).State)
	case len(d.AssignedUsers) > 0 && !slices.ContainsFunc(d.AssignedUsers, func(u HITLUser) bool { return u.ID == a.User.ID }):
		return d, fmt.Errorf("%w: user %q is not among those who are assigned", airflow.ErrNotAllowed, a.User.ID)
	}
	if len(a.ParamsInput) == 0 {
		a.ParamsInput = json.RawMessage("{}")
	}
	if err := d.Request.Check(a.ChosenOptions, a.ParamsInput); err != nil {
		return d, err
	}
	by, err := json.Marshal(a.User)
	if err != nil {
		return d, err
	}
	answer, err := json.Marshal(worker.HITLResponse{ChosenOptions: a.ChosenOptions, ParamsInput: a.ParamsInput, RespondedByUser: by, RespondedAt: e.utcNow().Format(time.RFC3339Nano)})
	if err != nil {
		return d, err
	}
	if h, err = e.store.EndHITL(ctx, h, answer); err != nil {
		if errors.Is(err, airflow.ErrConflict) {
			if have, rerr := ReadHITL(h); rerr == nil {
				d = have // what somebody else answered
			}
		}
		return d, err
	}
	e.fireHITL(ctx, info, worker.Dispatch{Key: k, DispatchSeq: h.DispatchSeq})
	return ReadHITL(h)
}

// waits reports whether an instance waits for the answer to a request: the state
// may not know yet that the dispatch which asked has deferred.
func waits(ti *scheduler.TI, h store.HITL) bool {
	return ti.DispatchSeq == h.DispatchSeq && (ti.State == airflow.TIDeferred || ti.State == airflow.TIRunning || ti.State == airflow.TIQueued)
}

// fireHITL tells whoever decides that a request was answered. What is lost is
// found by a sweep.
func (e *Engine) fireHITL(ctx context.Context, info airflow.DagRun, d worker.Dispatch) {
	if e.outbox != nil {
		m := ReportOf(d)
		m.Kind = MessageFire
		e.sendAll(context.WithoutCancel(ctx), m)
		return
	}
	if !e.passive {
		e.Post(info, Event{Dispatch: &d, Fire: true})
	}
}

// answered reports whether the request of a hosted trigger is over: only then does
// it fire before its time, whoever says so.
func (e *Engine) answered(ctx context.Context, r *run, pos int) (bool, error) {
	h, err := e.store.GetHITL(ctx, r.state.Key(r.graph, pos), int(r.state.At(pos).TryNumber))
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && h.Status != store.HITLOpen && h.DispatchSeq == r.state.At(pos).DispatchSeq, err
}

// hitlAsked are the waiting dispatches of a run that ask people.
func (r *run) hitlAsked() (out []askedPeople) {
	for pos, t := range r.triggers {
		if ti := r.state.At(pos); t.deferral.Trigger.Kind == worker.TriggerHITL && ti.State == airflow.TIDeferred && ti.DispatchSeq == t.dispatch.DispatchSeq {
			out = append(out, askedPeople{t.dispatch, int(ti.TryNumber)})
		}
	}
	slices.SortFunc(out, func(a, b askedPeople) int {
		return cmp.Compare(a.dispatch.String(), b.dispatch.String())
	})
	return out
}

type askedPeople struct {
	dispatch worker.Dispatch
	try      int
}

// sweepHITL resumes the instances whose requests were answered while nobody was told.
func (e *Engine) sweepHITL(ctx context.Context, r *run, asked []askedPeople) error {
	for _, x := range asked {
		h, err := e.store.GetHITL(ctx, x.dispatch.Key, x.try)
		if isNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if h.Status != store.HITLOpen && h.DispatchSeq == x.dispatch.DispatchSeq {
			d := x.dispatch
			e.post(r, Event{Dispatch: &d, Fire: true})
		}
	}
	return nil
}

// storeHITL stores the request of a dispatch that asks people. It is called before
// its report is stored: whoever sees the instance wait can see what for.
func (b *Backend) storeHITL(ctx context.Context, d worker.Dispatch, try int, r *worker.Report) error {
	if r.Outcome != worker.OutcomeDeferred || r.Deferral == nil || r.Deferral.Trigger.Kind != worker.TriggerHITL || r.Deferral.Trigger.Request == nil {
		return nil
	}
	request, err := json.Marshal(r.Deferral.Trigger.Request)
	if err != nil {
		return fmt.Errorf("request of %s: %w", d, err)
	}
	return b.e.store.PutHITL(ctx, d.Key, try, d.DispatchSeq, request, r.EndDate)
}

// resumeHITL gives a resumed dispatch what came of its request. One that is still
// open has run out of time: its defaults are taken, or it is closed. From then on
// nobody can answer it. ok is false if the try made no request.
func (b *Backend) resumeHITL(ctx context.Context, d worker.Dispatch, try int, tc *worker.TaskContext) (ok bool, err error) {
	h, err := b.e.store.GetHITL(ctx, d.Key, try)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if h.DispatchSeq >= d.DispatchSeq {
		return true, nil // the dispatch that asked, delivered again: it cannot start
	}
	if h.Status == store.HITLOpen {
		rec, err := ReadHITL(h)
		if err != nil {
			return true, err
		}
		var answer json.RawMessage
		if len(rec.Request.Defaults) > 0 {
			if answer, err = json.Marshal(worker.HITLResponse{
				ChosenOptions: rec.Request.Defaults, ParamsInput: rec.Request.DefaultInput(), RespondedAt: b.e.utcNow().Format(time.RFC3339Nano),
			}); err != nil {
				return true, err
			}
		}
		if h, err = b.e.store.EndHITL(ctx, h, answer); err != nil && !errors.Is(err, airflow.ErrConflict) {
			return true, err
		}
	}
	if h.Status == store.HITLAnswered {
		tc.TriggerEvent = h.Answer
		return true, nil
	}
	tc.NextMethod, tc.NextKwargs = worker.MethodFail, json.RawMessage(`{"error":"`+worker.TriggerTimeout+`"}`)
	return true, nil
}

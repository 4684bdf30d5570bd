package engine_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// asks is the report of a task that asks people.
func asks(h *enginetest.Harness, q worker.HITLRequest, timeout time.Duration) enginetest.Outcome {
	d := &worker.Deferral{Trigger: worker.Trigger{Kind: worker.TriggerHITL, Request: &q}, NextMethod: "execute_complete", Timeout: timeout}
	if timeout > 0 {
		d.Trigger.At = h.Clock.Now().Add(timeout)
	}
	return enginetest.Outcome{Report: worker.Report{Outcome: worker.OutcomeDeferred, Deferral: d}}
}

// settle hands the messages of schedulers that share a store to a fresh one.
func settle(t *testing.T, h *enginetest.Harness) {
	t.Helper()
	for h.Outbox != nil {
		ms := h.Outbox.Take(h.Clock.Now())
		if len(ms) == 0 {
			return
		}
		for _, m := range ms {
			if failed := h.Engine.Handle(t.Context(), []engine.Delivery{{Message: m, ReceiveCount: 1}}); len(failed) > 0 {
				t.Fatalf("message %+v failed", m)
			}
		}
	}
	h.Engine.Drain(t.Context())
}

func approval() worker.HITLRequest {
	return worker.HITLRequest{Subject: "ship?", Options: []string{"Approve", "Reject"}, Params: json.RawMessage(`{"n":{"value":1,"schema":{}}}`), AssignedUsers: json.RawMessage(`[{"id":"ann","name":"Ann"}]`)}
}

var ann = engine.HITLUser{ID: "ann", Name: "Ann"}

// waiting is a run whose one task waits for an answer.
func waiting(t *testing.T, h *enginetest.Harness, q worker.HITLRequest, timeout time.Duration) (store.RunKey, airflow.TaskInstanceKey) {
	t.Helper()
	register(t, h, enginetest.Chain("c", 1))
	k := trigger(t, h, "c", "r")
	h.Engine.Drain(t.Context())
	settle(t, h)
	if err := h.Run(t.Context(), h.Queue.Take()[0], asks(h, q, timeout)); err != nil {
		t.Fatal(err)
	}
	settle(t, h)
	wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"t000": airflow.TIDeferred})
	return k, airflow.TaskInstanceKey{DagID: "c", RunID: "r", TaskID: "t000", MapIndex: airflow.Unmapped}
}

// resumed runs what was dispatched and returns how its worker found itself.
func resumed(t *testing.T, h *enginetest.Harness) (method string, answer worker.HITLResponse) {
	t.Helper()
	settle(t, h)
	n := 0
	for _, d := range h.Queue.Take() {
		tc, err := h.Backend.Claim(t.Context(), d, h.Who)
		if err != nil {
			t.Fatal(err)
		}
		n++
		method = tc.NextMethod
		if len(tc.TriggerEvent) > 0 {
			if err := json.Unmarshal(tc.TriggerEvent, &answer); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Finish(t.Context(), d, tc, enginetest.Success(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Fatalf("%d dispatches, expected one", n)
	}
	settle(t, h)
	return method, answer
}

// TestAnswerResumes: one answer is taken, by who may give it, and its task goes on
// with it.
func TestAnswerResumes(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		k, ti := waiting(t, h, approval(), 0)
		good := engine.HITLAnswer{ChosenOptions: []string{"Approve"}, ParamsInput: json.RawMessage(`{"n":2}`), User: ann}
		for what, c := range map[string]struct {
			change func(*engine.HITLAnswer)
			want   string
		}{
			"a stranger":      {func(a *engine.HITLAnswer) { a.User = engine.HITLUser{ID: "bob", Name: "Ann"} }, "not among"},
			"no option":       {func(a *engine.HITLAnswer) { a.ChosenOptions = nil }, "at least one"},
			"unknown option":  {func(a *engine.HITLAnswer) { a.ChosenOptions = []string{"Maybe"} }, "not one of the options"},
			"several options": {func(a *engine.HITLAnswer) { a.ChosenOptions = []string{"Approve", "Reject"} }, "expected one"},
			"no params":       {func(a *engine.HITLAnswer) { a.ParamsInput = nil }, "does not match"},
		} {
			a := good
			c.change(&a)
			if _, err := h.Engine.AnswerHITL(ctx, ti, a); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		// That somebody says so does not resume it.
		seq := must(h.Store.GetHITL(ctx, ti, 1)).DispatchSeq
		h.Engine.Post(airflow.DagRun{DagID: "c", RunID: "r", State: airflow.RunRunning}, engine.Event{Dispatch: &worker.Dispatch{Key: ti, DispatchSeq: seq}, Fire: true})
		h.Engine.Drain(ctx)
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"t000": airflow.TIDeferred})

		d, err := h.Engine.AnswerHITL(ctx, ti, good)
		if err != nil || d.RespondedBy == nil || *d.RespondedBy != ann || !d.RespondedAt.Equal(h.Clock.Now()) {
			t.Fatalf("%+v %v", d, err)
		}
		again := good
		again.ChosenOptions = []string{"Reject"}
		if d, err := h.Engine.AnswerHITL(ctx, ti, again); !errors.Is(err, airflow.ErrConflict) || d.Response == nil || d.Response.ChosenOptions[0] != "Approve" {
			t.Errorf("a second answer: %+v %v", d, err)
		}
		method, answer := resumed(t, h)
		if method != "execute_complete" || len(answer.ChosenOptions) != 1 || answer.ChosenOptions[0] != "Approve" || string(answer.ParamsInput) != `{"n":2}` {
			t.Errorf("resumed with %s %+v", method, answer)
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

// TestStoredAnswerIsFound: whoever stored the answer died before the scheduler was told.
func TestStoredAnswerIsFound(t *testing.T) {
	on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
		ctx := t.Context()
		k, ti := waiting(t, h, approval(), 0)
		lost := engine.New(engine.Options{Store: h.Store, Passive: true, Now: h.Clock.Now}) // tells nobody
		if _, err := lost.AnswerHITL(ctx, ti, engine.HITLAnswer{ChosenOptions: []string{"Reject"}, ParamsInput: json.RawMessage(`{"n":2}`), User: ann}); err != nil {
			t.Fatal(err)
		}
		settle(t, h)
		wantStates(t, h, k, airflow.RunRunning, map[string]airflow.TIState{"t000": airflow.TIDeferred})
		if h.Outbox != nil {
			if failed := h.Engine.Handle(ctx, []engine.Delivery{{Message: engine.Message{Kind: engine.MessageSweep, DagID: "c", RunID: "r"}, ReceiveCount: 1}}); len(failed) > 0 {
				t.Fatal(failed)
			}
		} else {
			h.Restart()
			if err := h.Engine.Recover(ctx, engine.RecoverOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, answer := resumed(t, h); len(answer.ChosenOptions) != 1 || answer.ChosenOptions[0] != "Reject" {
			t.Errorf("resumed with %+v", answer)
		}
		wantStates(t, h, k, airflow.RunSuccess, nil)
	})
}

// TestNobodyAnswers: the time runs out, and from then on nobody can answer.
func TestNobodyAnswers(t *testing.T) {
	for _, defaults := range [][]string{{"Reject"}, nil} {
		on(t, engine.Config{}, func(t *testing.T, h *enginetest.Harness) {
			ctx := t.Context()
			q := approval()
			q.Defaults = defaults
			_, ti := waiting(t, h, q, time.Hour)
			h.Clock.Advance(time.Hour + time.Second)
			if h.Outbox != nil {
				if failed := h.Engine.Handle(ctx, []engine.Delivery{{Message: engine.Message{Kind: engine.MessageRun, DagID: "c", RunID: "r"}, ReceiveCount: 1}}); len(failed) > 0 {
					t.Fatal(failed)
				}
			} else if _, err := h.Engine.Tick(ctx, 1); err != nil {
				t.Fatal(err)
			}
			method, answer := resumed(t, h)
			want, status := worker.MethodFail, store.HITLClosed
			if defaults != nil {
				want, status = "execute_complete", store.HITLAnswered
				if len(answer.ChosenOptions) != 1 || answer.ChosenOptions[0] != "Reject" || string(answer.ParamsInput) != `{"n":1}` || answer.RespondedByUser != nil {
					t.Errorf("defaults: %+v", answer)
				}
			}
			if s := must(h.Store.GetHITL(ctx, ti, 1)).Status; method != want || s != status {
				t.Errorf("resumed with %s, the request is %s", method, s)
			}
			if _, err := h.Engine.AnswerHITL(ctx, ti, engine.HITLAnswer{ChosenOptions: []string{"Approve"}, ParamsInput: json.RawMessage(`{"n":2}`), User: ann}); !errors.Is(err, airflow.ErrConflict) {
				t.Errorf("too late: %v", err)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

func testHITL(t *testing.T, s *store.Store) {
	ctx := t.Context()
	k := airflow.TaskInstanceKey{DagID: "d#1", RunID: "r", TaskID: "t", MapIndex: 3}
	other := airflow.TaskInstanceKey{DagID: "a", RunID: "r", TaskID: "t", MapIndex: airflow.Unmapped}
	at := epoch.Add(1234567 * time.Microsecond)
	listed := func(want map[store.HITLStatus]int) {
		t.Helper()
		for _, status := range []store.HITLStatus{store.HITLOpen, store.HITLAnswered, store.HITLClosed} {
			hs, _, err := s.ListHITL(ctx, status, store.ListOptions{})
			ok(t, err)
			if len(hs) != want[status] {
				t.Errorf("%s: %+v, expected %d", status, hs, want[status])
			}
		}
	}
	_, err := s.GetHITL(ctx, k, 1)
	is(t, err, airflow.ErrNotFound)
	ok(t, s.PutHITL(ctx, k, 1, 2, json.RawMessage(`{"subject":"a"}`), at))
	ok(t, s.PutHITL(ctx, other, 1, 1, json.RawMessage(`{"subject":"o"}`), at.Add(time.Second)))
	listed(map[store.HITLStatus]int{store.HITLOpen: 2})
	h := must[store.HITL](t)(s.GetHITL(ctx, k, 1))
	if h.Key != k || h.TryNumber != 1 || h.DispatchSeq != 2 || h.Status != store.HITLOpen || !h.CreatedAt.Equal(at) || string(h.Request) != `{"subject":"a"}` || h.Answer != nil {
		t.Errorf("%+v", h)
	}
	done := must[store.HITL](t)(s.EndHITL(ctx, h, json.RawMessage(`{"chosen_options":["x"]}`)))
	if done.Status != store.HITLAnswered {
		t.Errorf("%+v", done)
	}
	for _, late := range []json.RawMessage{json.RawMessage(`{"chosen_options":["y"]}`), nil} { // the first answer stays
		have, err := s.EndHITL(ctx, h, late)
		is(t, err, airflow.ErrConflict)
		if have.Status != store.HITLAnswered || string(have.Answer) != `{"chosen_options":["x"]}` {
			t.Errorf("%+v", have)
		}
	}
	ok(t, s.PutHITL(ctx, k, 1, 2, json.RawMessage(`{"subject":"again"}`), at)) // a report that is repeated
	if h := must[store.HITL](t)(s.GetHITL(ctx, k, 1)); h.Status != store.HITLAnswered || string(h.Request) != `{"subject":"a"}` {
		t.Errorf("%+v", h)
	}
	listed(map[store.HITLStatus]int{store.HITLOpen: 1, store.HITLAnswered: 1})
	// The next try asks again: the one before is history.
	ok(t, s.PutHITL(ctx, k, 2, 5, json.RawMessage(`{"subject":"b"}`), at.Add(time.Minute)))
	listed(map[store.HITLStatus]int{store.HITLOpen: 2})
	if h := must[store.HITL](t)(s.GetHITL(ctx, k, 1)); h.Status != store.HITLAnswered || h.Answer == nil {
		t.Errorf("%+v", h)
	}
	hs, _, err := s.ListHITL(ctx, store.HITLOpen, store.ListOptions{})
	ok(t, err)
	if len(hs) != 2 || hs[0].Key != other || hs[1].Key != k || hs[1].TryNumber != 2 {
		t.Errorf("in order of time: %+v", hs)
	}
	if h := must[store.HITL](t)(s.EndHITL(ctx, hs[1], nil)); h.Status != store.HITLClosed || h.Answer != nil {
		t.Errorf("%+v", h)
	}
	listed(map[store.HITLStatus]int{store.HITLOpen: 1, store.HITLClosed: 1})
	if all, err := s.ListHITLs(ctx, store.HITLOpen, store.HITLClosed, store.HITLAnswered); err != nil || len(all) != 2 {
		t.Errorf("%+v %v", all, err)
	}
	ok(t, s.DeleteTaskInstance(ctx, k))
	_, err = s.EndHITL(ctx, h, nil)
	is(t, err, airflow.ErrNotFound)
	listed(map[store.HITLStatus]int{store.HITLOpen: 1})
}

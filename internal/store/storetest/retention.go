package storetest

import (
	"encoding/json"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

func testRetention(t *testing.T, s *store.Store) {
	ctx := t.Context()
	k := airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}
	if n := must[int](t)(s.DeleteXComs(ctx, k, false)); n != 0 {
		t.Errorf("XComs of no instance: %d", n)
	}
	ok(t, s.Claim(ctx, k, 1, 1, "me", epoch, store.AttemptDoc{Hostname: "h"}))
	ok(t, s.PutXCom(ctx, k, 1, "large", []byte(`"x"`), epoch))
	if n := must[int](t)(s.DeleteXComs(ctx, k, false)); n != 0 {
		t.Errorf("XComs of a running instance: %d", n)
	}
	ok(t, s.Finish(ctx, k, 1, "me", store.AttemptDoc{Hostname: "h", XComs: map[string]json.RawMessage{"small": []byte("1")}, LargeXComs: []string{"large"}}))
	for _, dry := range []bool{true, false} {
		if n := must[int](t)(s.DeleteXComs(ctx, k, dry)); n != 2 {
			t.Errorf("dry run %v: %d XComs", dry, n)
		}
	}
	if xs := must[[]airflow.XCom](t)(s.ListXComs(ctx, k)); len(xs) != 0 {
		t.Errorf("XComs %v", xs)
	}
	if a := must[store.Attempt](t)(s.GetAttempt(ctx, k)); a.Hostname != "h" || a.Status != store.AttemptDone {
		t.Errorf("the row %+v", a)
	}
	e := airflow.AssetEvent{ID: "e#1", AssetName: "a#", AssetURI: "u", Timestamp: epoch}
	_, err := s.RecordAssetEvent(ctx, e, nil)
	ok(t, err)
	ok(t, s.DeleteAssetEvent(ctx, e))
	ok(t, s.DeleteAssetEvent(ctx, e))
	ok(t, s.PutAudit(ctx, store.AuditEvent{ID: "x", When: epoch}))
	ok(t, s.DeleteAudit(ctx, "x"))
	ok(t, s.DeleteAudit(ctx, "x"))
	es, _, err := s.ListAllAssetEvents(ctx, store.ListOptions{})
	ok(t, err)
	as, _, err := s.ListAudit(ctx, store.ListOptions{})
	if ok(t, err); len(es)+len(as) != 0 {
		t.Errorf("left: %v %v", es, as)
	}
}

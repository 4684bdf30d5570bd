package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/blob/memblob"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
	"github.com/gustflow/gust/internal/store/storetest"
)

// TestStoreLargeValues runs the whole suite on a store that keeps large XComs as
// objects.
func TestStoreLargeValues(t *testing.T) {
	storetest.Run(t, func(testing.TB) kv.Driver { return memkv.New(memkv.Options{}) }, store.WithLargeValues(&memblob.Objects{}))
}

func objects(t *testing.T, o *memblob.Objects) (keys []string) {
	t.Helper()
	if err := o.List(t.Context(), "", func(i blob.ObjectInfo) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestLargeXComs(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	objs := &memblob.Objects{}
	m := meterkv.New(memkv.New(memkv.Options{}))
	s := store.New(m, nil, store.WithLargeValues(objs))
	k := airflow.TaskInstanceKey{DagID: "größe/1", RunID: airflow.RunID("manual__" + strings.Repeat("x", 240)), TaskID: "..", MapIndex: -1}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.Claim(ctx, k, 1, 1, "w", now, store.AttemptDoc{}))
	small := json.RawMessage(`"` + strings.Repeat("s", store.LargeXComBytes-2) + `"`)
	large := json.RawMessage(`"` + strings.Repeat("l", store.LargeXComBytes-1) + `"`)
	check(s.PutXCom(ctx, k, 1, "small", small, now))
	if got := objects(t, objs); len(got) != 0 {
		t.Errorf("64 KB became an object: %q", got)
	}
	m.Reset()
	check(s.PutXCom(ctx, k, 1, "a/b", large, now))
	if got := objects(t, objs); len(got) != 1 || !strings.Contains(got[0], "/attempt=1/a%2Fb.") {
		t.Errorf("objects %q", got)
	}
	if units := m.Total().TotalWriteUnits(); units != 1 {
		t.Errorf("a large XCom took %v write units, want 1", units)
	}
	x, err := s.GetXCom(ctx, k, "a/b")
	if err != nil || string(x.Value) != string(large) || !x.Timestamp.Equal(now) {
		t.Errorf("%d bytes came back, %v", len(x.Value), err)
	}
	if xs, err := s.ListXComs(ctx, k); err != nil || len(xs) != 2 || len(xs[0].Value) != len(large) {
		t.Errorf("list: %d values, %v", len(xs), err)
	}

	// A program without the object store says so instead of giving a wrong value.
	if _, err := store.New(m, nil).GetXCom(ctx, k, "a/b"); !errors.Is(err, airflow.ErrUnavailable) {
		t.Errorf("without objects: want ErrUnavailable, got %v", err)
	}
	if err := store.New(m, nil).DeleteTaskInstance(ctx, k); !errors.Is(err, airflow.ErrUnavailable) {
		t.Errorf("deletion without objects: want ErrUnavailable, got %v", err)
	}
	if vs, err := store.New(m, nil).GetXComs(ctx, []airflow.TaskInstanceKey{k}, "small"); err != nil || len(vs[0]) != len(small) {
		t.Errorf("an item is read without objects: %v", err)
	}

	// A damaged object is an error.
	name := objects(t, objs)[0]
	check(objs.Put(ctx, name, []byte(`"other"`)))
	if _, err := s.GetXCom(ctx, k, "a/b"); !errors.Is(err, kv.ErrCorrupt) {
		t.Errorf("damaged: want ErrCorrupt, got %v", err)
	}
	check(objs.Put(ctx, name, large))

	check(s.Finish(ctx, k, 1, "w", store.AttemptDoc{LargeXComs: []string{"a/b", "small"}}))
	if n, err := s.DeleteXComs(ctx, k, true); err != nil || n != 2 || len(objects(t, objs)) != 1 {
		t.Errorf("dry run: %d, %v", n, err)
	}
	if n, err := s.DeleteXComs(ctx, k, false); err != nil || n != 2 || len(objects(t, objs)) != 0 {
		t.Errorf("deleted %d, %v, left %q", n, err, objects(t, objs))
	}
	check(s.Claim(ctx, k, 2, 2, "w", now, store.AttemptDoc{}))
	check(s.PutXCom(ctx, k, 2, "again", large, now))
	check(s.DeleteTaskInstance(ctx, k))
	if got := objects(t, objs); len(got) != 0 {
		t.Errorf("left after the instance: %q", got)
	}
}

// TestManyLargeXComs: values of mapped instances come in their order, and the
// first error ends the call.
func TestManyLargeXComs(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	objs := &memblob.Objects{}
	s := store.New(memkv.New(memkv.Options{}), nil, store.WithLargeValues(objs))
	var keys []airflow.TaskInstanceKey
	for i := range 60 {
		k := airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "m", MapIndex: i}
		keys = append(keys, k)
		if err := s.Claim(ctx, k, 1, 1, "w", now, store.AttemptDoc{}); err != nil {
			t.Fatal(err)
		}
		v := fmt.Sprintf(`"%d%s"`, i, strings.Repeat(".", (i%2)*store.LargeXComBytes))
		if err := s.PutXCom(ctx, k, 1, "k", json.RawMessage(v), now); err != nil {
			t.Fatal(err)
		}
	}
	vs, err := s.GetXComs(ctx, keys, "k")
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vs {
		if want := fmt.Sprintf(`"%d`, i); !strings.HasPrefix(string(v), want) || len(v) < (i%2)*store.LargeXComBytes {
			t.Errorf("value %d begins %.9s", i, v)
		}
	}
	if err := objs.Delete(context.Background(), objects(t, objs)[7]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetXComs(ctx, keys, "k"); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("with a lost object: want ErrNotFound, got %v", err)
	}
}

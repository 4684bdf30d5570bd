package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

var writeStore = flag.Bool("write-store", false, "write the store of this format version to testdata; never replaces one")

// storedItem is an item as testdata keeps it.
type storedItem struct {
	PK, SK  string
	Attrs   map[string]any       // strings, numbers and booleans
	Bytes   map[string][]byte    // base64
	Index   map[string][2]string `json:",omitempty"`
	Expires int64                `json:",omitempty"`
}

// recording notes every key that is written, so that a store can be dumped
// through the port.
type recording struct {
	kv.Driver
	keys map[kv.Key]bool
}

func (r recording) Write(ctx context.Context, op kv.Op) error {
	r.keys[op.ItemKey()] = true
	return r.Driver.Write(ctx, op)
}

func (r recording) Transact(ctx context.Context, token string, ops []kv.Op) error {
	for _, op := range ops {
		r.keys[op.ItemKey()] = true
	}
	return r.Driver.Transact(ctx, token, ops)
}

func storePath(version int) string {
	return filepath.Join("testdata", fmt.Sprintf("store-v%d.jsonl", version))
}

// scenario leaves a store with a finished run, one in the middle of a chain, one
// that waits for a retry, and a mapped one.
func scenario(t *testing.T, h *enginetest.Harness) {
	ctx := t.Context()
	register(t, h, enginetest.Chain("chain", 3))
	register(t, h, enginetest.DAG{ID: "retry", Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"retries": 2, "retry_delay": 60.0}}}})
	register(t, h, enginetest.DAG{ID: "mapped", Tasks: []enginetest.Task{{ID: "a"}, {ID: "b", ExpandOver: "a"}}})
	trigger(t, h, "chain", "finished")
	runAll(t, h, enginetest.Succeed)
	h.Clock.Advance(1e9)
	trigger(t, h, "chain", "halfway")
	if err := h.Run(ctx, h.Queue.Take()[0], enginetest.Success("x")); err != nil {
		t.Fatal(err)
	}
	h.Queue.Take()
	trigger(t, h, "retry", "waiting")
	runAll(t, h, func(worker.Dispatch, *worker.TaskContext) enginetest.Outcome { return enginetest.Fail() })
	trigger(t, h, "mapped", "wide")
	if err := h.Run(ctx, h.Queue.Take()[0], enginetest.Success([]int{1, 2, 3})); err != nil {
		t.Fatal(err)
	}
	if err := h.Run(ctx, h.Queue.Take()[1], enginetest.Success(7)); err != nil {
		t.Fatal(err)
	}
}

// TestUpgrade starts on stores that earlier releases wrote, and finishes their
// runs. A release that changes FormatVersion adds its own file and keeps the old.
func TestUpgrade(t *testing.T) {
	if *writeStore {
		dump(t)
	}
	if _, err := os.Stat(storePath(store.FormatVersion)); err != nil {
		t.Fatalf("no store of the present format: run `go test ./internal/engine -run TestUpgrade -write-store` once: %v", err)
	}
	for v := 1; v <= store.FormatVersion; v++ {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			d := memkv.New(memkv.Options{})
			restore(t, d, storePath(v))
			h := enginetest.New(d, engine.Config{}, nil)
			defer h.Engine.Close()
			ctx := t.Context()
			h.Clock.Advance(2 * 60 * 1e9)
			if err := h.Engine.Recover(ctx, engine.RecoverOptions{Lost: func(store.Attempt) bool { return true }}); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Engine.Tick(ctx, 1); err != nil {
				t.Fatal(err)
			}
			runAll(t, h, enginetest.Succeed)
			for _, k := range []store.RunKey{{DagID: "chain", RunID: "finished"}, {DagID: "chain", RunID: "halfway"}, {DagID: "retry", RunID: "waiting"}, {DagID: "mapped", RunID: "wide"}} {
				wantStates(t, h, k, airflow.RunSuccess, nil)
			}
			x, err := h.Store.GetXCom(ctx, airflow.TaskInstanceKey{DagID: "chain", RunID: "halfway", TaskID: "t000", MapIndex: -1}, "return_value")
			if err != nil || string(x.Value) != `"x"` {
				t.Errorf("XCom of an earlier release: %s %v", x.Value, err)
			}
		})
	}
}

func dump(t *testing.T) {
	path := storePath(store.FormatVersion)
	if _, err := os.Stat(path); err == nil {
		t.Fatalf("%s is there: released formats do not change", path)
	}
	r := recording{memkv.New(memkv.Options{}), map[kv.Key]bool{}}
	h := enginetest.New(r, engine.Config{}, nil)
	scenario(t, h)
	h.Engine.Close()
	var keys []kv.Key
	for k := range r.keys {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	var out bytes.Buffer
	for _, k := range keys {
		it, err := r.Get(t.Context(), k, true)
		if err != nil {
			continue // deleted again
		}
		s := storedItem{PK: it.PK, SK: it.SK, Attrs: map[string]any{}, Bytes: map[string][]byte{}, Index: map[string][2]string{}, Expires: it.ExpiresAt}
		for n, v := range it.Attrs {
			switch v.Kind() {
			case kv.KindString:
				s.Attrs[n] = v.Str()
			case kv.KindInt:
				s.Attrs[n] = v.Int()
			case kv.KindBool:
				s.Attrs[n] = v.Bool()
			default:
				s.Bytes[n] = v.Bytes()
			}
		}
		for n, ik := range it.Index {
			s.Index[string(n)] = [2]string{ik.PK, ik.SK}
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(b, '\n'))
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func restore(t *testing.T, d kv.Driver, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<22)
	for sc.Scan() {
		var s storedItem
		dec := json.NewDecoder(bytes.NewReader(sc.Bytes()))
		dec.UseNumber()
		if err := dec.Decode(&s); err != nil {
			t.Fatal(err)
		}
		it := kv.Item{Key: kv.Key{PK: s.PK, SK: s.SK}, Attrs: map[string]kv.Value{}, Index: map[kv.IndexName]kv.Key{}, ExpiresAt: s.Expires}
		for n, v := range s.Attrs {
			switch v := v.(type) {
			case string:
				it.Attrs[n] = kv.String(v)
			case bool:
				it.Attrs[n] = kv.Bool(v)
			case json.Number:
				i, err := v.Int64()
				if err != nil {
					t.Fatal(err)
				}
				it.Attrs[n] = kv.Int(i)
			}
		}
		for n, b := range s.Bytes {
			it.Attrs[n] = kv.Bytes(b)
		}
		for n, k := range s.Index {
			it.Index[kv.IndexName(n)] = kv.Key{PK: k[0], SK: k[1]}
		}
		if err := d.Write(t.Context(), kv.Put(it, kv.NotExists())); err != nil {
			t.Fatal(err)
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
}

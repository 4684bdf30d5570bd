package meterkv_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/kvtest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
)

func TestSuite(t *testing.T) {
	kvtest.Run(t, func(t testing.TB) kv.Driver { return meterkv.New(memkv.New(memkv.Options{})) }, nil)
}

// sized returns an item of exactly that many bytes.
func sized(sk string, size int) kv.Item {
	it := kv.Item{Key: kv.Key{PK: "p", SK: sk}, Attrs: map[string]kv.Value{"d": kv.Bytes(nil)}}
	it.Attrs["d"] = kv.Bytes(make([]byte, size-it.Size()))
	return it
}

// TestBill checks each rule of the package comment by its figures.
func TestBill(t *testing.T) {
	at := func(sk string) kv.Key { return kv.Key{PK: "i", SK: sk} }
	indexed := func(it kv.Item, size int, index kv.Key) kv.Item { // in an index, with an included attribute of that size
		it = it.Clone()
		it.Index = map[kv.IndexName]kv.Key{kv.GSI1: index}
		it.Attrs[kv.AttrIndexed] = kv.String(strings.Repeat("x", size))
		return it
	}
	put := func(it kv.Item) kv.Op { return kv.Put(it, kv.Cond{}) }
	key := kv.Key{PK: "p", SK: "a"}
	write := func(op kv.Op) func(context.Context, kv.Driver) error {
		return func(ctx context.Context, d kv.Driver) error { return d.Write(ctx, op) }
	}
	transact := func(token string, ops ...kv.Op) func(context.Context, kv.Driver) error {
		return func(ctx context.Context, d kv.Driver) error { return d.Transact(ctx, token, ops) }
	}
	small := kv.Item{Key: key, Attrs: map[string]kv.Value{"n": kv.Int(1)}}
	for name, c := range map[string]struct {
		have                []kv.Item
		do                  func(context.Context, kv.Driver) error
		read, write, index  float64
		refused             int64
		wantErr             error
		calls, bytesWritten int64
	}{
		"create 1 KB":               {do: write(put(sized("a", 1024))), write: 1, calls: 1, bytesWritten: 1024},
		"create 1 KB and a byte":    {do: write(put(sized("a", 1025))), write: 2, calls: 1, bytesWritten: 1025},
		"replace 3 KB by 1 KB":      {have: []kv.Item{sized("a", 3000)}, do: write(put(sized("a", 1000))), write: 3, calls: 1, bytesWritten: 1000},
		"update 3 KB":               {have: []kv.Item{sized("a", 3000)}, do: write(kv.Update(key, kv.Exists(), kv.Add("n", 1))), write: 3, calls: 1, bytesWritten: 3000 + 3},
		"delete 3 KB":               {have: []kv.Item{sized("a", 3000)}, do: write(kv.Delete(key, kv.Exists())), write: 3, calls: 1},
		"delete nothing":            {do: write(kv.Delete(key, kv.Cond{})), write: 1, calls: 1},
		"refused on 3 KB":           {have: []kv.Item{sized("a", 3000)}, do: write(kv.Delete(key, kv.NotExists())), write: 3, calls: 1, refused: 1, wantErr: kv.ErrConditionFailed},
		"refused on nothing":        {do: write(kv.Delete(key, kv.Exists())), write: 1, calls: 1, refused: 1, wantErr: kv.ErrConditionFailed},
		"invalid":                   {do: write(kv.Delete(kv.Key{}, kv.Exists())), wantErr: kv.ErrInvalid},
		"index: appears":            {do: write(put(indexed(small, 10, at("1")))), write: 1, index: 1, calls: 1, bytesWritten: int64(indexed(small, 10, at("1")).Size())},
		"index: appears with 2 KB":  {do: write(put(indexed(small, 1500, at("1")))), write: 2, index: 2, calls: 1, bytesWritten: int64(indexed(small, 1500, at("1")).Size())},
		"index: nothing included":   {have: []kv.Item{indexed(small, 10, at("1"))}, do: write(kv.Update(key, kv.Exists(), kv.Assign("state", kv.String("")))), write: 1, calls: 1, bytesWritten: int64(indexed(small, 10, at("1")).Size()) + 5},
		"index: included changes":   {have: []kv.Item{indexed(small, 10, at("1"))}, do: write(kv.Update(key, kv.Exists(), kv.Assign(kv.AttrIndexed, kv.String("0123456789")))), write: 1, index: 1, calls: 1, bytesWritten: int64(indexed(small, 10, at("1")).Size())},
		"index: key moves":          {have: []kv.Item{indexed(small, 10, at("1"))}, do: write(kv.Update(key, kv.Exists()).WithIndex(kv.GSI1, at("2"))), write: 1, index: 2, calls: 1, bytesWritten: int64(indexed(small, 10, at("1")).Size())},
		"index: vanishes":           {have: []kv.Item{indexed(small, 10, at("1"))}, do: write(kv.Delete(key, kv.Exists())), write: 1, index: 1, calls: 1},
		"index: two, both appear":   {have: []kv.Item{small}, do: write(kv.Update(key, kv.Exists()).WithIndex(kv.GSI1, at("1")).WithIndex(kv.GSI2, at("1"))), write: 1, index: 2, calls: 1, bytesWritten: int64(small.Size()) + 2*(12+2)},
		"transact doubles":          {have: []kv.Item{sized("b", 3000)}, do: transact("", put(sized("a", 1024)), kv.Update(kv.Key{PK: "p", SK: "b"}, kv.Exists(), kv.Remove("x"))), write: 2 + 6, calls: 1, bytesWritten: 4024},
		"transact: check":           {have: []kv.Item{sized("b", 3000)}, do: transact("", put(sized("a", 10)), kv.Check(kv.Key{PK: "p", SK: "b"}, kv.Exists())), write: 2 + 6, calls: 1, bytesWritten: 10},
		"transact: index not twice": {do: transact("", put(indexed(small, 10, at("1")))), write: 2, index: 1, calls: 1, bytesWritten: int64(indexed(small, 10, at("1")).Size())},
		"transact: cancelled":       {have: []kv.Item{sized("b", 3000)}, do: transact("", put(indexed(small, 10, at("1"))), kv.Check(kv.Key{PK: "p", SK: "b"}, kv.NotExists())), write: 2 + 6, calls: 1, refused: 1, wantErr: kv.ErrConditionFailed},
		"transact: repeated": {have: []kv.Item{sized("b", 5000)}, do: func(ctx context.Context, d kv.Driver) error {
			op := kv.Update(kv.Key{PK: "p", SK: "b"}, kv.Exists(), kv.Remove("x"))
			return errors.Join(d.Transact(ctx, "t", []kv.Op{op}), d.Transact(ctx, "t", []kv.Op{op}))
		}, write: 10, read: 4, calls: 2, bytesWritten: 5000},
		"get 4 KB":          {have: []kv.Item{sized("a", 4096)}, do: get("a", true), read: 1, calls: 1},
		"get 4 KB and 1":    {have: []kv.Item{sized("a", 4097)}, do: get("a", true), read: 2, calls: 1},
		"get 5 KB eventual": {have: []kv.Item{sized("a", 5000)}, do: get("a", false), read: 1, calls: 1},
		"get nothing":       {do: get("a", true), read: 1, calls: 1, wantErr: kv.ErrNotFound},
		"get nothing half":  {do: get("a", false), read: 0.5, calls: 1, wantErr: kv.ErrNotFound},
		"batch get rounds each": {have: []kv.Item{sized("a", 100), sized("b", 5000)}, do: func(ctx context.Context, d kv.Driver) error {
			_, err := d.BatchGet(ctx, []kv.Key{key, {PK: "p", SK: "b"}, {PK: "p", SK: "absent"}, key}, true)
			return err
		}, read: 1 + 2 + 1, calls: 1},
		"batch get in calls of 100": {do: func(ctx context.Context, d kv.Driver) error {
			keys := make([]kv.Key, 201)
			for i := range keys {
				keys[i] = kv.Key{PK: "p", SK: fmt.Sprint(i)}
			}
			_, err := d.BatchGet(ctx, keys, false)
			return err
		}, read: 100.5, calls: 3},
		"query rounds the sum": {have: []kv.Item{sized("a", 100), sized("b", 5000)}, do: query(kv.Query{PK: "p", Consistent: true}), read: 2, calls: 1},
		"query eventual":       {have: []kv.Item{sized("a", 100), sized("b", 5000)}, do: query(kv.Query{PK: "p"}), read: 1, calls: 1},
		"query nothing":        {do: query(kv.Query{PK: "p"}), read: 0.5, calls: 1},
		"query index":          {have: []kv.Item{indexed(sized("a", 20000), 10, at("1"))}, do: query(kv.Query{PK: "i", Index: kv.GSI1}), read: 0.5, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := meterkv.New(memkv.New(memkv.Options{}))
			for _, it := range c.have {
				if err := d.Write(t.Context(), put(it)); err != nil {
					t.Fatal(err)
				}
			}
			d.Reset()
			if err := c.do(kv.WithLabel(t.Context(), "op"), d); !errors.Is(err, c.wantErr) {
				t.Fatalf("error %v, want %v", err, c.wantErr)
			}
			got := d.ByLabel()["op"]
			if got.ReadUnits != c.read || got.WriteUnits != c.write || got.IndexWriteUnits != c.index || got.Refused != c.refused ||
				got.TotalCalls() != c.calls || got.BytesWritten != c.bytesWritten {
				t.Errorf("%+v, want read %v, write %v, index %v, refused %d, calls %d, bytes written %d",
					got, c.read, c.write, c.index, c.refused, c.calls, c.bytesWritten)
			}
		})
	}
}

func get(sk string, consistent bool) func(context.Context, kv.Driver) error {
	return func(ctx context.Context, d kv.Driver) error {
		_, err := d.Get(ctx, kv.Key{PK: "p", SK: sk}, consistent)
		return err
	}
}

func query(q kv.Query) func(context.Context, kv.Driver) error {
	return func(ctx context.Context, d kv.Driver) error { _, err := d.Query(ctx, q); return err }
}

func TestLabelsAndPartitions(t *testing.T) {
	d := meterkv.New(memkv.New(memkv.Options{}))
	for i, label := range []string{"engine.step", "worker.claim", "engine.step", ""} {
		ctx := t.Context()
		if label != "" {
			ctx = kv.WithLabel(ctx, label)
		}
		op := kv.Update(kv.Key{PK: fmt.Sprint("p", i%2), SK: "s"}, kv.Cond{}, kv.Add("n", 1)).WithIndex(kv.GSI1, kv.Key{PK: "due", SK: "1"})
		if err := d.Write(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	by := d.ByLabel()
	if by["engine.step"].WriteUnits != 2 || by["worker.claim"].WriteUnits != 1 || by[""].WriteUnits != 1 || d.Total().TotalWriteUnits() != 4+2 {
		t.Errorf("%+v", by)
	}
	if p := d.PartitionWrites(); p["p0"] != 2 || p["p1"] != 2 || p["gsi1:due"] != 2 {
		t.Errorf("%v", p)
	}
	if s := d.String(); !strings.Contains(s, "engine.step") || strings.Count(s, "\n") != 4 {
		t.Errorf("report:\n%s", s)
	}
	d.Reset()
	if d.Total().TotalCalls() != 0 {
		t.Error("Reset leaves figures")
	}
}

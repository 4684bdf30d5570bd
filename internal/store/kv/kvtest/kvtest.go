// Package kvtest is the suite that every kv.Driver passes. A driver's test calls [Run] once per mode of the driver, and
// [RunEquivalence] to compare it with memkv on random operations.
package kvtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

// Open returns an empty store with [kv.DefaultSchema], and registers its closing with t.Cleanup. It is called several
// times per test.
type Open func(t testing.TB) kv.Driver

// Except names the tests of the suite that a driver is excused from, each with the reason. A name that the suite does
// not have fails, so that excuses do not outlive what they excuse.
type Except map[string]string

var suite = []struct {
	name string
	run  func(t *testing.T, open Open)
}{
	{"CreateGetUpdateDelete", testCRUD},
	{"Updates", testUpdates},
	{"OwnedMaps", testOwnedMaps},
	{"Conditions", testConditions},
	{"ConditionShowsItem", testConditionShowsItem},
	{"Invalid", testInvalid},
	{"ClosedAndCancelled", testClosed},
	{"BatchGet", testBatchGet},
	{"AtomicityMatrix", testAtomicity},
	{"TransactLimits", testTransactLimits},
	{"Tokens", testTokens},
	{"NestedUpdate", testNestedUpdate},
	{"OneWinner", testOneWinner},
	{"NoLostUpdate", testNoLostUpdate},
	{"Transfers", testTransfers},
	{"LostAnswers", testLostAnswers},
	{"Pages", testPages},
	{"CursorStable", testCursorStable},
	{"Cursors", testCursors},
	{"Ranges", testRanges},
	{"PageBytes", testPageBytes},
	{"Strings", testStrings},
	{"ByteOrder", testByteOrder},
	{"Sizes", testSizes},
	{"Indexes", testIndexes},
	{"IndexPages", testIndexPages},
	{"IndexStrings", testIndexStrings},
}

// Run runs the suite.
func Run(t *testing.T, open Open, except Except) {
	t.Helper()
	for name := range except {
		if !slices.ContainsFunc(suite, func(s struct {
			name string
			run  func(*testing.T, Open)
		}) bool {
			return s.name == name
		}) {
			t.Errorf("Except names %q, which the suite does not have", name)
		}
	}
	for _, s := range suite {
		t.Run(s.name, func(t *testing.T) {
			if reason, ok := except[s.name]; ok {
				t.Skip(reason)
			}
			s.run(t, open)
		})
	}
}

// bundle is a store with the calls that tests make most, failing the test on what they do not expect.
type bundle struct {
	*testing.T
	d kv.Driver
}

func setup(t *testing.T, open Open) bundle { return bundle{t, open(t)} }

func key(pk, sk string) kv.Key { return kv.Key{PK: pk, SK: sk} }

func item(pk, sk string, attrs map[string]kv.Value) kv.Item {
	return kv.Item{Key: key(pk, sk), Attrs: attrs}
}

func n(v int64) map[string]kv.Value { return map[string]kv.Value{"n": kv.Int(v)} }

func (b bundle) write(op kv.Op) {
	b.Helper()
	if err := b.d.Write(b.Context(), op); err != nil {
		b.Fatalf("%v %v: %v", op.Kind, op.ItemKey(), err)
	}
}

func (b bundle) put(it kv.Item) {
	b.Helper()
	b.write(kv.Put(it, kv.Cond{}))
}

// get returns the item, nil when there is none.
func (b bundle) get(k kv.Key) *kv.Item {
	b.Helper()
	it, err := b.d.Get(b.Context(), k, true)
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		b.Fatalf("get %v: %v", k, err)
	}
	return &it
}

func (b bundle) want(want kv.Item) {
	b.Helper()
	got := b.get(want.Key)
	if got == nil {
		b.Fatalf("%v is absent, want %v", want.Key, want)
	}
	if !got.Equal(want) {
		b.Fatalf("%v is\n %v, want\n %v", want.Key, *got, want)
	}
}

func (b bundle) wantNone(k kv.Key) {
	b.Helper()
	if got := b.get(k); got != nil {
		b.Fatalf("%v is %v, want no item", k, *got)
	}
}

func (b bundle) wantErr(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("error %v, want %v", err, want)
	}
}

// all returns the items of a query, page by page.
func (b bundle) all(q kv.Query) []kv.Item {
	b.Helper()
	var out []kv.Item
	start := q
	for range 10_000 {
		page, err := b.d.Query(b.Context(), q)
		if err != nil {
			b.Fatalf("query %+v: %v", q, err)
		}
		out = append(out, page.Items...)
		if page.Cursor == "" {
			return out
		}
		q.Cursor = page.Cursor
	}
	b.Fatalf("query %+v does not end: %d items so far", start, len(out))
	return nil
}

func (b bundle) sks(q kv.Query) []string {
	b.Helper()
	out := []string{}
	for _, it := range b.all(q) {
		out = append(out, it.SK)
	}
	return out
}

func (b bundle) wantSKs(q kv.Query, want ...string) {
	b.Helper()
	if got := b.sks(q); !slices.Equal(got, want) {
		b.Fatalf("query %+v returned %q, want %q", q, got, want)
	}
}

// eventually waits until an eventually consistent answer is as wanted. It writes to an unrelated item meanwhile,
// because a store may lag by writes instead of by time.
func (b bundle) eventually(what string, try func() error) {
	b.Helper()
	var err error
	for start, i := time.Now(), int64(0); time.Since(start) < 10*time.Second; i++ {
		if err = try(); err == nil {
			return
		}
		b.put(item("kvtest-nudge", "x", n(i)))
		if i > 50 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	b.Fatalf("%s: still %v", what, err)
}

func (b bundle) eventuallySKs(q kv.Query, want ...string) {
	b.Helper()
	b.eventually(fmt.Sprintf("query %+v", q), func() error {
		if got := b.sks(q); !slices.Equal(got, want) {
			return fmt.Errorf("returned %q, want %q", got, want)
		}
		return nil
	})
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

package kvtest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/faultkv"
)

// testNestedUpdate runs one read-modify-write inside another: exactly the inner one wins.
func testNestedUpdate(t *testing.T, open Open) {
	for _, how := range []string{"write", "transact"} {
		b := setup(t, open)
		k := key("p", how)
		b.put(kv.Item{Key: k, Attrs: map[string]kv.Value{"version": kv.Int(1)}})
		modify := func(who string, meanwhile func()) error {
			version := b.get(k).Int("version")
			meanwhile()
			op := kv.Update(k, kv.Eq("version", kv.Int(version)), kv.Add("version", 1), kv.Assign("by", kv.String(who)))
			if how == "write" {
				return b.d.Write(t.Context(), op)
			}
			return b.d.Transact(t.Context(), who, []kv.Op{op})
		}
		var inner error
		outer := modify("outer", func() { inner = modify("inner", func() {}) })
		if inner != nil {
			t.Errorf("%s: inner update: %v", how, inner)
		}
		b.wantErr(outer, kv.ErrConditionFailed)
		b.want(kv.Item{Key: k, Attrs: map[string]kv.Value{"version": kv.Int(2), "by": kv.String("inner")}})
	}
}

func testOneWinner(t *testing.T, open Open) {
	b := setup(t, open)
	const claimants, rounds = 16, 10
	for round := range rounds {
		k := key("TI", fmt.Sprint(round))
		b.put(kv.Item{Key: k, Attrs: map[string]kv.Value{"state": kv.String("queued")}})
		var wins atomic.Int64
		var winner atomic.Value
		var wg sync.WaitGroup
		for g := range claimants {
			wg.Go(func() {
				me := kv.String(fmt.Sprint("worker", g))
				op := kv.Update(k, kv.Eq("state", kv.String("queued")), kv.Assign("state", kv.String("running")), kv.Assign("owner", me))
				var err error
				if (g+round)%2 == 0 {
					err = b.d.Write(t.Context(), op)
				} else {
					err = b.d.Transact(t.Context(), "", []kv.Op{op})
				}
				switch {
				case err == nil:
					wins.Add(1)
					winner.Store(me)
				case errors.Is(err, kv.ErrConditionFailed), kv.Retryable(err):
				default:
					t.Errorf("claim: %v", err)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d claims succeeded, want 1", wins.Load())
		}
		if got := b.get(k); got.Attrs["owner"] != winner.Load() {
			t.Fatalf("owner %v, want %v", got.Attrs["owner"], winner.Load())
		}
	}
}

// again repeats f while it fails for a reason that passes.
func again(f func() error) error {
	for {
		if err := f(); err == nil || !errors.Is(err, kv.ErrTransactionConflict) && !errors.Is(err, kv.ErrThrottled) {
			return err
		}
	}
}

func testNoLostUpdate(t *testing.T, open Open) {
	b := setup(t, open)
	const writers, each = 8, 25
	k := key("p", "s")
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			for i := range each {
				op := kv.Update(k, kv.Cond{}, kv.Add("n", 1))
				err := again(func() error {
					if i%5 == 0 {
						return b.d.Transact(t.Context(), fmt.Sprintf("%d-%d", g, i), []kv.Op{op, kv.Update(key("p", fmt.Sprint(g)), kv.Cond{}, kv.Add("n", 1))})
					}
					return b.d.Write(t.Context(), op)
				})
				if err != nil {
					t.Errorf("add: %v", err)
				}
			}
		})
	}
	wg.Wait()
	b.want(kv.Item{Key: k, Attrs: n(writers * each)})
	for g := range writers {
		b.want(kv.Item{Key: key("p", fmt.Sprint(g)), Attrs: n(each / 5)})
	}
}

// testTransfers moves units between accounts in transactions, some of which are refused: none appears or vanishes, and
// no account goes below zero.
func testTransfers(t *testing.T, open Open) {
	b := setup(t, open)
	const accounts, start = 5, 20
	for a := range accounts {
		b.put(kv.Item{Key: key("account", fmt.Sprint(a)), Attrs: n(start)})
	}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			for i := range 40 {
				from, to, units := (g+i)%accounts, (g+i+1+i%3)%accounts, int64(1+i%17)
				if from == to {
					continue
				}
				err := again(func() error {
					return b.d.Transact(t.Context(), "", []kv.Op{
						kv.Update(key("account", fmt.Sprint(to)), kv.Exists(), kv.Add("n", units)),
						kv.Update(key("account", fmt.Sprint(from)), kv.Ge("n", kv.Int(units)), kv.Add("n", -units)),
					})
				})
				if err != nil && !errors.Is(err, kv.ErrConditionFailed) {
					t.Errorf("transfer: %v", err)
				}
			}
		})
	}
	wg.Wait()
	sum := int64(0)
	for _, it := range b.all(kv.Query{PK: "account", Consistent: true}) {
		if it.Int("n") < 0 {
			t.Errorf("%v is below zero", it)
		}
		sum += it.Int("n")
	}
	if sum != accounts*start {
		t.Errorf("sum %d, want %d", sum, accounts*start)
	}
}

// testLostAnswers repeats requests whose answer was lost although they were done.
func testLostAnswers(t *testing.T, open Open) {
	b := setup(t, open)
	lossy := faultkv.New(b.d, faultkv.Options{Write: faultkv.Odds{TimeoutAfter: 1}, Transact: faultkv.Odds{TimeoutAfter: 1}})
	k := key("p", "s")
	ctx := t.Context()

	ops := []kv.Op{kv.Update(k, kv.Cond{}, kv.Add("n", 1)), kv.Put(item("p", "mark", nil), kv.NotExists())}
	err := lossy.Transact(ctx, "token", ops)
	b.wantErr(err, kv.ErrUnavailable)
	if kv.NotApplied(err) || !kv.Retryable(err) {
		t.Errorf("lost answer: NotApplied %v, Retryable %v", kv.NotApplied(err), kv.Retryable(err))
	}
	if err := b.d.Transact(ctx, "token", ops); err != nil {
		t.Fatalf("repeated transaction: %v", err)
	}
	b.want(kv.Item{Key: k, Attrs: n(1)})

	// A single write has no token: its condition makes the repetition harmless and the error shows that it was done.
	op := kv.Update(k, kv.Eq("n", kv.Int(1)), kv.Assign("n", kv.Int(2)), kv.Assign("by", kv.String("me")))
	b.wantErr(lossy.Write(ctx, op), kv.ErrUnavailable)
	var failed *kv.ConditionFailedError
	if err := b.d.Write(ctx, op); !errors.As(err, &failed) {
		t.Fatalf("repeated write: %v, want a ConditionFailedError", err)
	}
	if failed.Item == nil || failed.Item.Str("by") != "me" || failed.Item.Int("n") != 2 {
		t.Errorf("the error shows %v, want the item that the first write made", failed.Item)
	}
}

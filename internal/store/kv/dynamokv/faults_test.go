package dynamokv_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/dynamokv"
)

func item(pk, sk string, n int64) kv.Item {
	return kv.Item{Key: kv.Key{PK: pk, SK: sk}, Attrs: map[string]kv.Value{"n": kv.Int(n)}}
}

// TestErrorsAreClassified makes every call meet every fault, once and for ever.
func TestErrorsAreClassified(t *testing.T) {
	clean := dynamotest.Start(t)
	table := dynamotest.Table(t, clean)
	plain := dynamotest.OpenTable(t, clean, table)
	key := kv.Key{PK: "p", SK: "s"}
	restore := func() {
		t.Helper()
		if err := plain.Write(t.Context(), kv.Put(item("p", "s", 1), kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	step := kv.Update(key, kv.Eq("n", kv.Int(1)), kv.Assign("n", kv.Int(2)))
	calls := map[string]struct {
		do     func(context.Context, kv.Driver) error
		write  bool
		repeat bool // after an unknown outcome
	}{
		"get": {do: func(ctx context.Context, d kv.Driver) error {
			it, err := d.Get(ctx, key, true)
			if err == nil && it.Int("n") != 1 {
				return fmt.Errorf("%w: %v", kv.ErrCorrupt, it)
			}
			return err
		}, repeat: true},
		"batch get": {do: func(ctx context.Context, d kv.Driver) error {
			got, err := d.BatchGet(ctx, []kv.Key{key, {PK: "p", SK: "absent"}}, true)
			if err == nil && (len(got) != 1 || got[key].Int("n") != 1) {
				return fmt.Errorf("%w: %v", kv.ErrCorrupt, got)
			}
			return err
		}, repeat: true},
		"query": {do: func(ctx context.Context, d kv.Driver) error {
			page, err := d.Query(ctx, kv.Query{PK: "p", Consistent: true})
			if err == nil && (len(page.Items) != 1 || page.Items[0].Int("n") != 1) {
				return fmt.Errorf("%w: %v", kv.ErrCorrupt, page)
			}
			return err
		}, repeat: true},
		"add": {do: func(ctx context.Context, d kv.Driver) error {
			return d.Write(ctx, kv.Update(key, kv.Exists(), kv.Add("n", 1)))
		}, write: true},
		"step": {do: func(ctx context.Context, d kv.Driver) error { return d.Write(ctx, step) }, write: true, repeat: true},
		"transact": {do: func(ctx context.Context, d kv.Driver) error {
			return d.Transact(ctx, "", []kv.Op{kv.Update(key, kv.Exists(), kv.Add("n", 1))})
		}, write: true, repeat: true},
	}
	ambiguous := map[fault]bool{failed: true, failedLate: true, overloaded: true, reset: true, lost: true, cut: true}
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			for f := throttled; f <= noAccess; f++ {
				if f == hanging || (f == partial || f == idle) && name != "batch get" || f == conflict && !c.write {
					continue
				}
				// Once, then everything works.
				restore()
				w := newWire(script(f))
				err := c.do(t.Context(), openWire(t, w, table))
				applied := f == failedLate || f == lost || f == cut
				switch {
				case f == noTable || f == noAccess:
					if !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, kv.ErrNotFound) || w.count() != 1 {
						t.Errorf("%v: %v after %d requests, want %v at once", f, err, w.count(), kv.ErrUnavailable)
					}
				case ambiguous[f] && !c.repeat, applied && name == "step":
					if !errors.Is(err, kv.ErrUnavailable) || kv.NotApplied(err) {
						t.Errorf("%v once: %v, want an unknown outcome", f, err)
					}
					if want := map[bool]int{true: 2, false: 1}[c.repeat]; w.count() != want {
						t.Errorf("%v once: %d requests, want %d", f, w.count(), want)
					}
				case err != nil:
					t.Errorf("%v once: %v", f, err)
				}
				if c.write {
					it, gerr := plain.Get(t.Context(), key, true)
					want := int64(1)
					if err == nil || applied {
						want = 2
					}
					if gerr != nil || it.Int("n") != want {
						t.Errorf("%v once (%v): the item is %v, %v; want n = %d", f, err, it, gerr, want)
					}
				}
				// For ever.
				restore()
				w = newWire(always(f))
				err = c.do(t.Context(), openWire(t, w, table))
				want := kv.ErrUnavailable
				switch f {
				case throttled, throttled2, throttled3, idle:
					want = kv.ErrThrottled
				case conflict:
					want = kv.ErrTransactionConflict
				case partial: // half of one key is none
					want = kv.ErrThrottled
				}
				if !errors.Is(err, want) || errors.Is(err, kv.ErrNotFound) || errors.Is(err, kv.ErrConditionFailed) {
					t.Errorf("%v for ever: %v, want %v", f, err, want)
				}
				if c.write && kv.NotApplied(err) != certain[f] {
					t.Errorf("%v for ever: NotApplied is %t for %v", f, kv.NotApplied(err), err)
				}
				tries := 10
				if ambiguous[f] && !c.repeat || f == noTable || f == noAccess {
					tries = 1
				}
				if f != partial && w.count() != tries {
					t.Errorf("%v for ever: %d requests, want %d", f, w.count(), tries)
				}
			}
		})
	}
}

// TestTimeoutAfterDone loses the answer by waiting.
func TestTimeoutAfterDone(t *testing.T) {
	clean := dynamotest.Start(t)
	table := dynamotest.Table(t, clean)
	add := kv.Update(kv.Key{PK: "p", SK: "s"}, kv.Cond{}, kv.Add("n", 1))
	w := newWire(script(hanging, none, hanging, none, hanging))
	d := openWire(t, w, table)
	if err := d.Write(t.Context(), add); !errors.Is(err, kv.ErrUnavailable) || kv.NotApplied(err) {
		t.Errorf("write: %v", err)
	}
	if _, err := d.Get(t.Context(), add.Key, true); err != nil {
		t.Error(err)
	}
	if err := d.Transact(t.Context(), "", []kv.Op{add}); err != nil {
		t.Errorf("transact: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := d.Write(ctx, add); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kv.ErrUnavailable) || kv.NotApplied(err) {
		t.Errorf("write whose caller gave up: %v", err)
	}
	if it, err := d.Get(t.Context(), add.Key, true); err != nil || it.Int("n") != 3 {
		t.Errorf("%v %v, want each addition once", it, err)
	}
}

// TestGivingUpWhileThrottled ends the caller's context during a pause: nothing was done.
func TestGivingUpWhileThrottled(t *testing.T) {
	table := dynamotest.Table(t, dynamotest.Start(t))
	put := kv.Put(item("p", "s", 1), kv.Cond{})
	for name, do := range map[string]func(context.Context, kv.Driver) error{
		"write":    func(ctx context.Context, d kv.Driver) error { return d.Write(ctx, put) },
		"transact": func(ctx context.Context, d kv.Driver) error { return d.Transact(ctx, "", []kv.Op{put}) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWire(always(throttled))
		client := dynamotest.StartWith(t, func(o *dynamodb.Options) { o.HTTPClient = w })
		pauses := 0
		d, err := dynamokv.New(dynamokv.Options{Client: client, Table: table, Attempts: 1000, Sleep: func(ctx context.Context, d time.Duration) error {
			if d <= 0 || d > 2*time.Second {
				t.Errorf("%s: pause %d lasts %v", name, pauses, d)
			}
			if pauses++; pauses == 30 {
				cancel()
			}
			return ctx.Err()
		}})
		if err != nil {
			t.Fatal(err)
		}
		err = do(ctx, d)
		if !errors.Is(err, kv.ErrThrottled) || !errors.Is(err, context.Canceled) || !kv.NotApplied(err) || w.count() != 30 {
			t.Errorf("%s after %d tries: %v", name, w.count(), err)
		}
	}
}

// TestLostAnswersAreRecognized loses the answer of the writes that carry an identity: the store's callers see that it was
// they who did it, and others that it was not.
func TestLostAnswersAreRecognized(t *testing.T) {
	clean := dynamotest.Start(t)
	table := dynamotest.Table(t, clean)
	for _, f := range []fault{lost, failedLate, cut, failed, reset} {
		ti := airflow.TaskInstanceKey{DagID: "d", RunID: airflow.RunID(f.String()), TaskID: "t", MapIndex: -1}
		run := store.RunKey{DagID: "d", RunID: ti.RunID}
		s := store.New(openWire(t, newWire(script(f)), table), nil)
		if err := s.Claim(t.Context(), ti, 1, 1, "me", time.Now(), store.AttemptDoc{}); err != nil {
			t.Errorf("%v: claim: %v", f, err)
		}
		s = store.New(openWire(t, newWire(script(f)), table), nil)
		if err := s.Claim(t.Context(), ti, 1, 1, "another", time.Now(), store.AttemptDoc{}); !errors.Is(err, airflow.ErrSuperseded) {
			t.Errorf("%v: claim of another: %v", f, err)
		}
		s = store.New(openWire(t, newWire(script(f)), table), nil)
		if v, err := s.CommitRunState(t.Context(), run, 0, []byte("header"), [][]byte{[]byte("chunk")}, []int{0}); err != nil || v != 1 {
			t.Errorf("%v: commit: %d %v", f, v, err)
		}
		s = store.New(openWire(t, newWire(script(f)), table), nil)
		if v, err := s.CommitRunState(t.Context(), run, 0, []byte("other"), [][]byte{[]byte("chunk")}, []int{0}); err == nil {
			t.Errorf("%v: commit of another on the same version: %d", f, v)
		}
		if st, err := s.LoadRunState(t.Context(), run); err != nil || string(st.Header) != "header" || st.Version != 1 {
			t.Errorf("%v: %+v %v", f, st, err)
		}
	}
}

// TestNothingLostNothingDoubled runs writers through faulty wires and compares what is stored with what they were told.
func TestNothingLostNothingDoubled(t *testing.T) {
	clean := dynamotest.Start(t)
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			table := dynamotest.Table(t, clean)
			plain := dynamotest.OpenTable(t, clean, table)
			ctx := t.Context()
			const writers, rounds, accounts = 4, 40, 5
			for a := range accounts {
				if err := plain.Write(ctx, kv.Put(item("account", fmt.Sprint(a), 100), kv.NotExists())); err != nil {
					t.Fatal(err)
				}
			}
			if err := plain.Write(ctx, kv.Put(item("version", "s", 0), kv.NotExists())); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var added, perhaps, steps, moved int64
			claims := map[int]int{}
			var wg sync.WaitGroup
			for g := range writers {
				d := openWire(t, newWire(seeded(seed*100+uint64(g), 0.3)), table)
				wg.Go(func() {
					for i := range rounds {
						me := kv.String(fmt.Sprint(g, "-", i))
						// An addition: done exactly when it says so.
						err := d.Write(ctx, kv.Update(kv.Key{PK: "counter", SK: "s"}, kv.Cond{}, kv.Add("n", 1)))
						mu.Lock()
						switch {
						case err == nil:
							added++
						case !kv.NotApplied(err):
							perhaps++
						}
						mu.Unlock()
						// A claim: one of the writers gets it, and knows.
						op := kv.Update(kv.Key{PK: "claim", SK: fmt.Sprint(i)}, kv.Missing("owner"), kv.Assign("owner", me))
						mine := false
						for {
							err := d.Write(ctx, op)
							var cf *kv.ConditionFailedError
							if errors.As(err, &cf) {
								mine = cf.Item.Attrs["owner"] == me
								break
							}
							if mine = err == nil; mine {
								break
							}
							if !kv.Retryable(err) {
								t.Errorf("claim: %v", err)
								break
							}
						}
						// A step of a version, by whoever comes first; the item tells whose it was.
						was, err := d.Get(ctx, kv.Key{PK: "version", SK: "s"}, true)
						if errors.Is(err, kv.ErrNotFound) {
							t.Errorf("get: %v", err)
						}
						stepped := false
						if err == nil {
							next := was.Int("n") + 1
							err := d.Write(ctx, kv.Update(was.Key, kv.Eq("n", kv.Int(was.Int("n"))), kv.Assign("n", kv.Int(next)), kv.Assign(fmt.Sprint("by", next), me)))
							now, gerr := plain.Get(ctx, was.Key, true)
							if gerr != nil {
								t.Error(gerr)
							}
							stepped = now.Attrs[fmt.Sprint("by", next)] == me
							if err == nil && !stepped || stepped && kv.NotApplied(err) {
								t.Errorf("step: %v, but the item says %t", err, stepped)
							}
						}
						// A transfer: repeated under its token until it is known, done once.
						token := fmt.Sprint("transfer-", g, "-", i)
						ops := []kv.Op{
							kv.Update(kv.Key{PK: "account", SK: fmt.Sprint((g + i) % accounts)}, kv.Exists(), kv.Add("n", -3)),
							kv.Update(kv.Key{PK: "account", SK: fmt.Sprint((g + i + 1) % accounts)}, kv.Exists(), kv.Add("n", 3), kv.Add("in", 1)),
						}
						for {
							err := d.Transact(ctx, token, ops)
							if err == nil {
								break
							}
							if !kv.Retryable(err) {
								t.Errorf("transfer: %v", err)
								break
							}
						}
						mu.Lock()
						if mine {
							claims[i]++
						}
						if stepped {
							steps++
						}
						moved++
						mu.Unlock()
						// All keys are read, however often some are left out.
						var keys []kv.Key
						for a := range accounts {
							keys = append(keys, kv.Key{PK: "account", SK: fmt.Sprint(a)}, kv.Key{PK: "account", SK: fmt.Sprint("absent", a)})
						}
						if got, err := d.BatchGet(ctx, keys, true); err == nil && len(got) != accounts || err != nil && !kv.Retryable(err) {
							t.Errorf("batch get: %d items, %v", len(got), err)
						}
						if page, err := d.Query(ctx, kv.Query{PK: "account", Consistent: true}); err == nil && len(page.Items) != accounts {
							t.Errorf("query: %d items", len(page.Items))
						}
					}
				})
			}
			wg.Wait()
			get := func(pk, sk string) kv.Item {
				it, err := plain.Get(ctx, kv.Key{PK: pk, SK: sk}, true)
				if err != nil {
					t.Fatal(err)
				}
				return it
			}
			if n := get("counter", "s").Int("n"); n < added || n > added+perhaps {
				t.Errorf("counter %d, want %d and at most %d more", n, added, perhaps)
			}
			for i := range rounds {
				if claims[i] != 1 {
					t.Errorf("claim %d: %d owners think it is theirs", i, claims[i])
				}
			}
			if n := get("version", "s").Int("n"); n != steps {
				t.Errorf("version %d after %d steps", n, steps)
			}
			var sum, in int64
			for a := range accounts {
				it := get("account", fmt.Sprint(a))
				sum, in = sum+it.Int("n"), in+it.Int("in")
			}
			if sum != accounts*100 || in != moved {
				t.Errorf("sum %d, want %d; %d transfers, want %d", sum, accounts*100, in, moved)
			}
			t.Logf("%d additions done, %d unknown; %d steps; %d transfers", added, perhaps, steps, moved)
			if perhaps == 0 {
				t.Error("no outcome was unknown: the faults show nothing")
			}
		})
	}
}

// TestBatchesAreCompleted reads many keys while most answers leave some out.
func TestBatchesAreCompleted(t *testing.T) {
	clean := dynamotest.Start(t)
	table := dynamotest.Table(t, clean)
	plain := dynamotest.OpenTable(t, clean, table)
	var keys []kv.Key
	var ops []kv.Op
	for i := range 350 {
		it := item(fmt.Sprint("p", i%3), fmt.Sprintf("s%03d", i), int64(i))
		keys = append(keys, it.Key)
		if i%5 != 0 {
			ops = append(ops, kv.Put(it, kv.Cond{}))
		}
	}
	for len(ops) > 0 {
		n := min(len(ops), kv.MaxTransactOps)
		if err := plain.Transact(t.Context(), "", ops[:n]); err != nil {
			t.Fatal(err)
		}
		ops = ops[n:]
	}
	for seed := range uint64(10) {
		draw := seeded(seed, 1)
		w := newWire(func(op string) fault {
			if f := draw(op); f == partial || f == idle || f == throttled || f == lost {
				return f
			}
			return partial
		})
		d := openWire(t, w, table)
		got, err := d.BatchGet(t.Context(), keys, seed%2 == 0)
		if err == nil && len(got) != 280 || err != nil && (!kv.Retryable(err) || got != nil) {
			t.Errorf("seed %d: %d items after %d requests, %v", seed, len(got), w.count(), err)
		}
		if w.count() < 8 {
			t.Errorf("seed %d: only %d requests", seed, w.count())
		}
		// When the table is no longer busy, the rest comes.
		w.draw = script(partial, idle, throttled, partial, lost, partial, partial, idle)
		got, err = d.BatchGet(t.Context(), append(keys, keys...), true)
		if err != nil || len(got) != 280 {
			t.Fatalf("seed %d: %d items, %v", seed, len(got), err)
		}
		for k, it := range got {
			if it.Key != k || k.SK != fmt.Sprintf("s%03d", it.Int("n")) {
				t.Errorf("%v is %v", k, it)
			}
		}
	}
}

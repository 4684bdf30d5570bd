package sqlitekv

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/store/kv"
)

// side opens another connection, for looking at the file from outside: a connection is for one goroutine.
func side(t testing.TB, s *Store) *conn {
	t.Helper()
	c, err := dial(s.path, "rw", busyPragma(s.opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func openTest(t testing.TB, path string, opts Options) *Store {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "gust.db")
	}
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		it := kv.Item{Key: kv.Key{PK: "p", SK: "s"}, Attrs: map[string]kv.Value{}, Index: map[kv.IndexName]kv.Key{}}
		for i := range rapid.IntRange(0, 40).Draw(rt, "attrs") {
			name := fmt.Sprint(rapid.String().Draw(rt, "name"), i)
			it.Attrs[name] = rapid.OneOf(rapid.Map(rapid.String(), kv.String), rapid.Map(rapid.Int64(), kv.Int),
				rapid.Map(rapid.SliceOf(rapid.Byte()), kv.Bytes), rapid.Map(rapid.Bool(), kv.Bool)).Draw(rt, "value")
		}
		for i := range rapid.IntRange(0, 6).Draw(rt, "entries") {
			it.Index[kv.IndexName(fmt.Sprint("gsi", i))] = kv.Key{PK: rapid.String().Draw(rt, "pk"), SK: rapid.String().Draw(rt, "sk")}
		}
		body := encode(nil, &it)
		got := kv.Item{Key: it.Key}
		if err := decode(body, &got); err != nil || !got.Equal(it) {
			rt.Fatalf("%v, %v; want %v", got, err, it)
		}
		if string(encode(nil, &got)) != string(body) {
			rt.Fatal("equal items have different bodies")
		}
		cut := rapid.IntRange(0, len(body)-1).Draw(rt, "cut")
		if err := decode(body[:cut], &kv.Item{}); !errors.Is(err, kv.ErrCorrupt) {
			rt.Fatalf("a body cut at %d of %d: %v", cut, len(body), err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{codecVersion, 0, 0})
	f.Add(encode(nil, &kv.Item{Attrs: map[string]kv.Value{"a": kv.String("x"), "b": kv.Int(-1)}, Index: map[kv.IndexName]kv.Key{"gsi1": {PK: "p", SK: "s"}}}))
	f.Fuzz(func(t *testing.T, body []byte) {
		var it kv.Item
		if err := decode(body, &it); err != nil && !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("error %v, want %v", err, kv.ErrCorrupt)
		}
	})
}

func TestSettings(t *testing.T) {
	s := openTest(t, "", Options{})
	if err := s.Write(t.Context(), step(1)); !errors.Is(err, kv.ErrConditionFailed) {
		t.Fatal(err)
	}
	for pragma, want := range map[string]any{"synchronous": int64(2), "journal_mode": "wal", "wal_autocheckpoint": int64(0)} {
		if got, err := s.w.c.scalar("PRAGMA " + pragma); err != nil || got != want {
			t.Errorf("%s = %v (%v), want %v", pragma, got, err, want)
		}
	}
}

// TestQueryPlans makes sure that no query sorts or reads rows that it does not return.
func TestQueryPlans(t *testing.T) {
	s := openTest(t, "", Options{})
	cursor := &kv.Cursor{Index: kv.GSI1, Key: kv.Key{PK: "p", SK: "s"}, Entry: kv.Key{PK: "i", SK: "ab"}}
	for _, index := range []kv.IndexName{"", kv.GSI1} {
		for _, r := range []kv.Range{{}, kv.Prefix("a"), kv.Between("a", ""), kv.Between("", "b"), kv.Between("a", "b")} {
			for _, after := range []*kv.Cursor{nil, cursor} {
				for _, desc := range []bool{false, true} {
					q := kv.Query{PK: "i", Index: index, SK: r, Descending: desc}
					c := after
					if c != nil && index == "" {
						c = &kv.Cursor{Key: kv.Key{PK: "i", SK: "ab"}}
					}
					sql, args := querySQL(q, c)
					var plan []string
					err := s.w.c.query("EXPLAIN QUERY PLAN "+sql, func(row []driver.Value) (bool, error) {
						plan = append(plan, fmt.Sprint(row[3]))
						return true, nil
					}, args...)
					if err != nil {
						t.Fatal(err)
					}
					p := strings.Join(plan, "; ")
					if !strings.Contains(p, "SEARCH") || strings.Contains(p, "TEMP B-TREE") || strings.Contains(p, "SCAN") {
						t.Errorf("%s\n plan: %s", sql, p)
					}
					// With a cursor, the search must start at it, whatever ties there are.
					start := map[bool]string{false: ">", true: "<"}[desc] + "?"
					if index != "" {
						start = "(isk,pk,sk)" + start[:1] + "(?,?,?)"
					}
					if after != nil && !strings.Contains(p, start) {
						t.Errorf("%s\n does not start at the cursor: %s", sql, p)
					}
				}
			}
		}
	}
}

func TestDiskFull(t *testing.T) {
	t.Run("PageLimit", func(t *testing.T) {
		s := openTest(t, "", Options{maxPages: 60})
		fillDisk(t, s, func(acked []kv.Key) {
			for _, k := range acked[:8] {
				if err := s.Write(t.Context(), kv.Delete(k, kv.Exists())); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
	t.Run("Device", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("cannot mount a small file system here: %v", err)
		}
		t.Cleanup(func() { // after the store is closed
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		ballast := filepath.Join(dir, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 300<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		s := openTest(t, filepath.Join(dir, "gust.db"), Options{CheckpointBytes: 64 << 10})
		fillDisk(t, s, func([]kv.Key) {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// fillDisk writes until the disk is full, and checks that everything acknowledged before, and nothing else, is there,
// and that the store works again once there is space.
func fillDisk(t *testing.T, s *Store, free func(acked []kv.Key)) {
	ctx := t.Context()
	var mu sync.Mutex
	acked := map[kv.Key]bool{}
	var full error
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				it := kv.Item{Key: kv.Key{PK: fmt.Sprint("p", g), SK: fmt.Sprint(i)}, Attrs: map[string]kv.Value{"d": kv.Bytes(make([]byte, 3000))}}
				err := s.Write(ctx, kv.Put(it, kv.NotExists()))
				mu.Lock()
				if err != nil {
					full = err
					mu.Unlock()
					return
				}
				acked[it.Key] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if !errors.Is(full, kv.ErrDiskFull) || !errors.Is(full, kv.ErrUnavailable) || !kv.NotApplied(full) || !strings.Contains(full.Error(), "free some space") {
		t.Fatalf("error %v, want %v", full, kv.ErrDiskFull)
	}
	if len(acked) < 10 {
		t.Errorf("only %d items were written", len(acked))
	}
	check := func(want int) {
		t.Helper()
		found := 0
		for g := range 4 {
			if err := kv.All(ctx, s, kv.Query{PK: fmt.Sprint("p", g)}, func(it kv.Item) bool {
				found++
				if !acked[it.Key] {
					t.Errorf("%v is there although its write failed", it.Key)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
		if found != want {
			t.Errorf("%d items, acknowledged were %d", found, want)
		}
	}
	check(len(acked))
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
	free(slices.Collect(maps.Keys(acked)))
	if err := s.Write(ctx, kv.Put(kv.Item{Key: kv.Key{PK: "again", SK: "x"}, Attrs: map[string]kv.Value{"d": kv.Bytes(make([]byte, 3000))}}, kv.NotExists())); err != nil {
		t.Errorf("after space was freed: %v", err)
	}
}

// hold takes the write lock as another process would.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	c, err := dial(s.path, "rw", "PRAGMA busy_timeout=1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := errors.Join(c.run("ROLLBACK"), c.close()); err != nil {
			t.Error(err)
		}
	}
}

func TestLockedByAnotherProcess(t *testing.T) {
	s := openTest(t, "", Options{BusyTimeout: 50 * time.Millisecond})
	op := kv.Update(kv.Key{PK: "p", SK: "s"}, kv.Cond{}, kv.Add("n", 1))
	release := hold(t, s)
	err := s.Write(t.Context(), op)
	if !errors.Is(err, kv.ErrThrottled) || !kv.NotApplied(err) || !kv.Retryable(err) {
		t.Errorf("error %v, want %v", err, kv.ErrThrottled)
	}
	if _, err := s.Query(t.Context(), kv.Query{PK: "p"}); err != nil {
		t.Errorf("readers must not wait for the lock: %v", err)
	}
	release()
	if err := s.Write(t.Context(), op); err != nil {
		t.Error(err)
	}
	if it, err := s.Get(t.Context(), op.Key, true); err != nil || it.Int("n") != 1 {
		t.Errorf("%v, %v; want n = 1", it, err)
	}

	// A short hold is waited for.
	s2 := openTest(t, s.path, Options{})
	release = hold(t, s)
	time.AfterFunc(100*time.Millisecond, release)
	if err := s2.Write(t.Context(), op); err != nil {
		t.Error(err)
	}
}

func TestCancelledWhileWaiting(t *testing.T) {
	s := openTest(t, "", Options{})
	release := hold(t, s)
	op := func(sk string) kv.Op { return kv.Update(kv.Key{PK: "p", SK: sk}, kv.Cond{}, kv.Add("n", 1)) }
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { first <- s.Write(ctx, op("first")) }() // the writer takes it and waits for the lock
	for len(s.queue) > 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	second := make(chan error)
	go func() { second <- s.Write(ctx, op("second")) }() // stays in the queue
	for len(s.queue) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) || !kv.NotApplied(err) {
		t.Errorf("queued write: %v, want a cancellation that was not applied", err)
	}
	if err := <-first; !errors.Is(err, context.Canceled) || kv.NotApplied(err) {
		t.Errorf("write under way: %v, want a cancellation of unknown outcome", err)
	}
	release()
	if err := s.Write(t.Context(), op("third")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), op("second").Key, true); !errors.Is(err, kv.ErrNotFound) {
		t.Errorf("the withdrawn write was done: %v", err)
	}
	if _, err := s.Get(t.Context(), op("first").Key, true); err != nil {
		t.Errorf("the write under way was done after all, but: %v", err)
	}
}

func TestCloseWhileBusy(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "gust.db")
		s := openTest(t, path, Options{})
		acked := make([]int64, 8)
		var wg sync.WaitGroup
		for g := range acked {
			wg.Go(func() {
				for {
					err := s.Write(context.Background(), kv.Update(kv.Key{PK: "p", SK: fmt.Sprint(g)}, kv.Cond{}, kv.Add("n", 1)))
					if errors.Is(err, kv.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					acked[g]++
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if rest, _ := filepath.Glob(path + "-*"); len(rest) > 0 {
			t.Errorf("a clean close leaves %v", rest)
		}
		s = openTest(t, path, Options{})
		for g, want := range acked {
			if it, err := s.Get(t.Context(), kv.Key{PK: "p", SK: fmt.Sprint(g)}, true); err != nil || it.Int("n") != want {
				t.Errorf("%v (%v), acknowledged were %d", it, err, want)
			}
		}
	}
}

// TestLogStaysSmall writes without a pause, with readers, many times the size at which the log is copied.
func TestLogStaysSmall(t *testing.T) {
	const limit = 1 << 20
	s := openTest(t, "", Options{CheckpointBytes: limit})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := s.Query(t.Context(), kv.Query{PK: "p", Limit: 50}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	largest := int64(0)
	var writers sync.WaitGroup
	for g := range 4 {
		writers.Go(func() {
			for i := range 600 {
				it := kv.Item{Key: kv.Key{PK: "p", SK: fmt.Sprintf("%d-%d", g, i%50)}, Attrs: map[string]kv.Value{"d": kv.Bytes(make([]byte, 20_000))}}
				if err := s.Write(t.Context(), kv.Put(it, kv.Cond{})); err != nil {
					t.Error(err)
				}
				if fi, err := os.Stat(s.path + "-wal"); err == nil && g == 0 {
					largest = max(largest, fi.Size())
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
	t.Logf("48 MB written, the log was never above %d KB", largest>>10)
	if largest > 12*limit {
		t.Errorf("the log grew to %d bytes", largest)
	}
}

func TestTokensAndExpiry(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var mu sync.Mutex
	s := openTest(t, "", Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	later := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
	ctx := t.Context()
	add := []kv.Op{kv.Update(kv.Key{PK: "p", SK: "n"}, kv.Cond{}, kv.Add("n", 1))}
	c := side(t, s)
	rows := func() int64 {
		n, err := c.number("SELECT count(*) FROM token")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, step := range []struct {
		later time.Duration
		want  int64
	}{{0, 1}, {9 * time.Minute, 1}, {2 * time.Minute, 2}, {time.Hour, 3}} {
		later(step.later)
		if _, err := s.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		if err := s.Transact(ctx, "token", add); err != nil {
			t.Fatal(err)
		}
		if it, err := s.Get(ctx, add[0].Key, true); err != nil || it.Int("n") != step.want {
			t.Errorf("after %v: %v (%v), want %d", step.later, it, err, step.want)
		}
	}
	later(time.Hour)

	for i := range 450 { // more than two chunks
		it := kv.Item{Key: kv.Key{PK: "x", SK: fmt.Sprintf("%03d", i)}, ExpiresAt: now.Unix() + int64(i), Index: map[kv.IndexName]kv.Key{kv.GSI1: {PK: "i", SK: "1"}}}
		if err := s.Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	later(440 * time.Second)
	if n, err := s.Collect(ctx); err != nil || n != 441 {
		t.Errorf("collected %d (%v), want 441", n, err)
	}
	if rows() != 0 {
		t.Errorf("%d old tokens are kept", rows())
	}
	for _, q := range []kv.Query{{PK: "x"}, {PK: "i", Index: kv.GSI1}} {
		if page, err := s.Query(ctx, q); err != nil || len(page.Items) != 9 {
			t.Errorf("%+v: %d items (%v), want 9", q, len(page.Items), err)
		}
	}
}

func TestBackup(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "with space ? % # and ü.db"), Options{})
	ctx := t.Context()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				a, b := kv.Key{PK: "p", SK: fmt.Sprint("a", g)}, kv.Key{PK: "p", SK: fmt.Sprint("b", g)}
				if err := s.Transact(ctx, "", []kv.Op{kv.Update(a, kv.Cond{}, kv.Add("n", 1)), kv.Update(b, kv.Cond{}, kv.Add("n", 1)).WithIndex(kv.GSI1, kv.Key{PK: "i", SK: "k"})}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	dest := filepath.Join(t.TempDir(), "backup.db")
	err := s.Backup(ctx, dest)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Backup(ctx, dest); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("backup over a file: %v, want %v", err, kv.ErrInvalid)
	}
	if fi, err := os.Stat(dest); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", fi.Mode(), err)
	}
	c := openTest(t, dest, Options{})
	if err := c.Check(ctx); err != nil {
		t.Error(err)
	}
	page, err := c.Query(ctx, kv.Query{PK: "p"})
	if err != nil || len(page.Items) != 4 {
		t.Fatalf("%v, %v", page, err)
	}
	for g := range 2 {
		if page.Items[g].Int("n") != page.Items[g+2].Int("n") || page.Items[g].Int("n") == 0 {
			t.Errorf("the copy cuts a transaction in two: %v, %v", page.Items[g], page.Items[g+2])
		}
	}
}

func TestIndexesChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gust.db")
	s := openTest(t, path, Options{Schema: kv.Schema{Indexes: []kv.Index{{Name: "gsi1", Include: []string{"x"}}, {Name: "gsi2"}}}})
	ctx := t.Context()
	for i := range 10 {
		k := kv.Key{PK: "i", SK: fmt.Sprint(i)}
		it := kv.Item{Key: kv.Key{PK: "p", SK: fmt.Sprint(i)}, Attrs: map[string]kv.Value{"x": kv.Int(1), "y": kv.Int(2)}, Index: map[kv.IndexName]kv.Key{"gsi1": k, "gsi2": k}}
		if err := s.Write(ctx, kv.Put(it, kv.Cond{})); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path, Options{Schema: kv.Schema{Indexes: []kv.Index{{Name: "gsi1", Include: []string{"y"}}}}})
	page, err := s.Query(ctx, kv.Query{PK: "i", Index: "gsi1"})
	if err != nil || len(page.Items) != 10 || page.Items[0].Int("y") != 2 || page.Items[0].Has("x") {
		t.Errorf("rebuilt index: %v (%v)", page.Items, err)
	}
	if _, err := s.Query(ctx, kv.Query{PK: "i", Index: "gsi2"}); !errors.Is(err, kv.ErrInvalid) {
		t.Errorf("dropped index: %v", err)
	}
}

// TestBatching checks that concurrent writes do share commits: that is the whole point of the writer.
func TestBatching(t *testing.T) {
	s := openTest(t, "", Options{})
	release := hold(t, s)
	var wg sync.WaitGroup
	const writes = 300
	results := make([]error, writes)
	for i := range writes {
		wg.Go(func() {
			op := kv.Update(kv.Key{PK: "p", SK: "s"}, kv.Cond{}, kv.Add("n", 1))
			if i%3 == 0 {
				op.Cond = kv.Eq("n", kv.Int(-1)) // fails without hurting the others
			}
			results[i] = s.Write(t.Context(), op)
		})
	}
	for len(s.queue) < writes-1 {
		time.Sleep(time.Millisecond)
	}
	release()
	wg.Wait()
	frames := int64(0)
	if err := side(t, s).query("PRAGMA wal_checkpoint(PASSIVE)", func(row []driver.Value) (bool, error) {
		frames, _ = row[1].(int64)
		return false, nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, err := range results {
		if (i%3 == 0) != errors.Is(err, kv.ErrConditionFailed) || i%3 != 0 && err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if it, err := s.Get(t.Context(), kv.Key{PK: "p", SK: "s"}, true); err != nil || it.Int("n") != writes*2/3 {
		t.Errorf("%v, %v; want %d", it, err, writes*2/3)
	}
	// Each commit that changes the row appends at least one page to the log; creating the file took some, too.
	if frames > 30 {
		t.Errorf("%d pages in the log: %d writes did not share commits", frames, writes)
	}
}

// TestFailedBatchLeavesNothing makes SQLite fail in the middle of a batch, after some of it was written.
func TestFailedBatchLeavesNothing(t *testing.T) {
	s := openTest(t, "", Options{})
	release := hold(t, s)
	ctx := t.Context()
	broken := errors.New("broken")
	done := make(chan error)
	it := func(sk string) *kv.Item {
		return &kv.Item{Key: kv.Key{PK: "p", SK: sk}, Index: map[kv.IndexName]kv.Key{kv.GSI1: {PK: "i", SK: sk}}}
	}
	go func() { done <- s.Write(ctx, kv.Put(*it("first"), kv.Cond{})) }()
	for len(s.queue) > 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	failing := requests.Get().(*request)
	failing.task = func(w *writer) error { return errors.Join(w.store(change{next: it("half")}), broken) }
	failed := make(chan error)
	go func() { failed <- s.submit(ctx, failing) }()
	for len(s.queue) < 1 {
		time.Sleep(time.Millisecond)
	}
	go func() { done <- s.Write(ctx, kv.Put(*it("last"), kv.Cond{})) }()
	for len(s.queue) < 2 {
		time.Sleep(time.Millisecond)
	}
	release()
	if err := errors.Join(<-done, <-done); err != nil {
		t.Errorf("the others in the batch: %v", err)
	}
	if err := <-failed; !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	for _, q := range []kv.Query{{PK: "p"}, {PK: "i", Index: kv.GSI1}} {
		page, err := s.Query(ctx, q)
		if err != nil || len(page.Items) != 2 || page.Items[0].SK != "first" || page.Items[1].SK != "last" {
			t.Errorf("%+v: %v (%v), want first and last", q, page.Items, err)
		}
	}
}

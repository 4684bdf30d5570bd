// Package blobtest is the conformance suite of blob.Store drivers.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/blob"
)

// Harness makes empty stores for the suite.
type Harness struct {
	// New returns an empty store whose clock is now.
	New func(t *testing.T, now func() time.Time) blob.Store
	// Resolution is set for a store whose times are those of a service: the suite
	// then sleeps instead of moving its clock, and allows for times that are so
	// coarse.
	Resolution time.Duration
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, blob.Store, *clock)
	}{
		{"RoundTrip", testRoundTrip},
		{"Absent", testAbsent},
		{"WrongContent", testWrongContent},
		{"BadHash", testBadHash},
		{"PutAgain", testPutAgain},
		{"FailingReader", testFailingReader},
		{"Delete", testDelete},
		{"DeleteBefore", testDeleteBefore},
		{"List", testList},
		{"ConcurrentPut", testConcurrentPut},
		{"PutAgainstDelete", testPutAgainstDelete},
		{"Cancelled", testCancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			ck := &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), resolution: h.Resolution}
			c.run(t, h.New(t, ck.now), ck)
		})
	}
}

type clock struct {
	resolution time.Duration

	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	if c.resolution > 0 {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// is reports whether t is now, as far as the store can tell.
func (c *clock) is(t time.Time) bool {
	off := c.now().Sub(t)
	return off == 0 || c.resolution > 0 && off > -c.resolution && off < 10*c.resolution
}

func (c *clock) advance(d time.Duration) {
	if c.resolution > 0 {
		time.Sleep(2 * c.resolution)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func put(t *testing.T, s blob.Store, content string) string {
	t.Helper()
	h := blob.Hash([]byte(content))
	if err := s.Put(context.Background(), h, strings.NewReader(content)); err != nil {
		t.Fatalf("Put: %v", err)
	}
	return h
}

func get(t *testing.T, s blob.Store, hash string) string {
	t.Helper()
	r, err := s.Get(context.Background(), hash)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	defer r.Close()
	b, err := io.ReadAll(blob.Verify(hash, r))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return string(b)
}

func has(t *testing.T, s blob.Store, hash string) bool {
	t.Helper()
	ok, err := s.Has(context.Background(), hash)
	if err != nil {
		t.Fatalf("Has: %v", err)
	}
	return ok
}

func testRoundTrip(t *testing.T, s blob.Store, _ *clock) {
	for _, content := range []string{"", "x", "line\nline\n", string(bytes.Repeat([]byte{0, 255, 7}, 1<<20))} {
		h := put(t, s, content)
		if got := get(t, s, h); got != content {
			t.Errorf("%d bytes came back as %d others", len(content), len(got))
		}
		if !has(t, s, h) {
			t.Errorf("Has is false after Put")
		}
	}
}

func testAbsent(t *testing.T, s blob.Store, _ *clock) {
	h := blob.Hash([]byte("absent"))
	if _, err := s.Get(context.Background(), h); !errors.Is(err, airflow.ErrNotFound) {
		t.Errorf("Get: want ErrNotFound, got %v", err)
	}
	if has(t, s, h) {
		t.Error("Has of an absent blob is true")
	}
	if done, err := s.Delete(context.Background(), h, time.Time{}); err != nil || done {
		t.Errorf("Delete of an absent blob: %v, %v", done, err)
	}
}

func testWrongContent(t *testing.T, s blob.Store, _ *clock) {
	h := blob.Hash([]byte("right"))
	if err := s.Put(context.Background(), h, strings.NewReader("wrong")); !errors.Is(err, blob.ErrHashMismatch) {
		t.Errorf("want ErrHashMismatch, got %v", err)
	}
	if has(t, s, h) {
		t.Error("wrong content was stored")
	}
}

func testBadHash(t *testing.T, s blob.Store, _ *clock) {
	ctx := context.Background()
	good := blob.Hash(nil)
	for _, h := range []string{"", "ab", "../../etc/passwd", strings.ToUpper(good), good[:62] + "/.", good + "0"} {
		if err := s.Put(ctx, h, strings.NewReader("")); err == nil {
			t.Errorf("Put under %q succeeded", h)
		}
		if _, err := s.Get(ctx, h); err == nil || errors.Is(err, airflow.ErrNotFound) {
			t.Errorf("Get of %q: want an error that names the hash, got %v", h, err)
		}
		if _, err := s.Has(ctx, h); err == nil {
			t.Errorf("Has of %q succeeded", h)
		}
		if _, err := s.Delete(ctx, h, time.Time{}); err == nil {
			t.Errorf("Delete of %q succeeded", h)
		}
	}
}

func testPutAgain(t *testing.T, s blob.Store, ck *clock) {
	h := put(t, s, "same")
	ck.advance(time.Hour)
	first := ck.now() // the second Put is not before this
	put(t, s, "same")
	if got := get(t, s, h); got != "same" {
		t.Errorf("got %q", got)
	}
	err := s.List(context.Background(), func(i blob.Info) error {
		if i.Hash == h && (!ck.is(i.Put) || i.Put.Before(first.Add(-ck.resolution))) {
			t.Errorf("second Put left the time at %v, now is %v", i.Put, ck.now())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type failingReader struct{ n int }

var errRead = errors.New("reader failed")

func (f *failingReader) Read(p []byte) (int, error) {
	if f.n == 0 {
		return 0, errRead
	}
	f.n--
	return copy(p, "part"), nil
}

func testFailingReader(t *testing.T, s blob.Store, _ *clock) {
	h := blob.Hash([]byte("partpart"))
	if err := s.Put(context.Background(), h, &failingReader{n: 2}); !errors.Is(err, errRead) {
		t.Errorf("want the reader's error, got %v", err)
	}
	if has(t, s, h) {
		t.Error("a blob was stored although its reader failed")
	}
	if err := s.List(context.Background(), func(i blob.Info) error { return fmt.Errorf("listed %v", i) }); err != nil {
		t.Error(err)
	}
}

func testDelete(t *testing.T, s blob.Store, _ *clock) {
	a, b := put(t, s, "a"), put(t, s, "b")
	if done, err := s.Delete(context.Background(), a, time.Time{}); err != nil || !done {
		t.Fatalf("Delete: %v, %v", done, err)
	}
	if has(t, s, a) || !has(t, s, b) {
		t.Error("Delete removed the wrong blob")
	}
	put(t, s, "a")
	if got := get(t, s, a); got != "a" {
		t.Errorf("put after delete: got %q", got)
	}
}

func testDeleteBefore(t *testing.T, s blob.Store, ck *clock) {
	h := put(t, s, "young")
	if done, err := s.Delete(context.Background(), h, ck.now()); err != nil || done {
		t.Errorf("a blob put at the limit was deleted: %v, %v", done, err)
	}
	ck.advance(time.Hour)
	limit := ck.now()
	put(t, s, "young") // put again: young again
	if done, err := s.Delete(context.Background(), h, limit); err != nil || done {
		t.Errorf("a blob that was put again was deleted: %v, %v", done, err)
	}
	ck.advance(2 * time.Second)
	if done, err := s.Delete(context.Background(), h, ck.now()); err != nil || !done {
		t.Errorf("an old blob was kept: %v, %v", done, err)
	}
}

func testList(t *testing.T, s blob.Store, ck *clock) {
	want := map[string]int64{}
	for i := range 50 {
		content := strings.Repeat("z", i)
		want[put(t, s, content)] = int64(i)
	}
	got := map[string]int64{}
	err := s.List(context.Background(), func(i blob.Info) error {
		if _, twice := got[i.Hash]; twice {
			t.Errorf("%s listed twice", i.Hash)
		}
		if !ck.is(i.Put) {
			t.Errorf("%s: put at %v, want %v", i.Hash, i.Put, ck.now())
		}
		got[i.Hash] = i.Size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for h, n := range want {
		if size, ok := got[h]; !ok || size != n {
			t.Errorf("%s: listed %v with %d bytes, want %d", h, ok, size, n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d blobs listed, want %d", len(got), len(want))
	}
	stop := errors.New("stop")
	calls := 0
	if err := s.List(context.Background(), func(blob.Info) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("List did not stop at the first error: %v after %d calls", err, calls)
	}
}

func testConcurrentPut(t *testing.T, s blob.Store, _ *clock) {
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	content := strings.Repeat("concurrent", 10000)
	h := blob.Hash([]byte(content))
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := s.Put(context.Background(), h, strings.NewReader(content)); err != nil {
				errs <- err
				return
			}
			if ok, err := s.Has(context.Background(), h); err != nil || !ok {
				errs <- fmt.Errorf("absent after Put: %v, %w", ok, err)
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if get(t, s, h) != content {
		t.Error("content differs")
	}
}

// testPutAgainstDelete: a Put that has returned is never undone by a Delete that
// may only take what is older.
func testPutAgainstDelete(t *testing.T, s blob.Store, ck *clock) {
	ctx := context.Background()
	rounds := 200
	if ck.resolution > 0 {
		rounds = 5
	}
	for i := range rounds {
		content := fmt.Sprint("race", i)
		h := put(t, s, content)
		ck.advance(time.Hour)
		limit := ck.now()
		done := make(chan error, 1)
		go func() {
			_, err := s.Delete(ctx, h, limit)
			done <- err
		}()
		put(t, s, content)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !has(t, s, h) {
			t.Fatalf("round %d: the blob was deleted after it had been put again", i)
		}
	}
}

func testCancelled(t *testing.T, s blob.Store, _ *clock) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h := blob.Hash([]byte("x"))
	if err := s.Put(ctx, h, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: want Canceled, got %v", err)
	}
	if has(t, s, h) {
		t.Error("a cancelled Put stored the blob")
	}
}

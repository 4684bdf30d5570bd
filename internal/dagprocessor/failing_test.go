package dagprocessor

import (
	"context"
	"fmt"
	"sync"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
)

// failing is a driver of which one write fails. It counts writes.
type failing struct {
	kv.Driver
	mu     sync.Mutex
	armed  bool
	left   int
	hit    bool
	writes int
}

func (f *failing) driver() kv.Driver {
	f.Driver = memkv.New(memkv.Options{})
	return f
}

// arm lets the n-th write from now on fail.
func (f *failing) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.left, f.hit = true, n, false
}

// disarm reports whether a write failed.
func (f *failing) disarm() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	return f.hit
}

func (f *failing) Write(ctx context.Context, op kv.Op) error {
	f.mu.Lock()
	fail := f.armed && f.left == 0
	f.left--
	f.writes++
	f.hit = f.hit || fail
	f.mu.Unlock()
	if fail {
		return fmt.Errorf("%w: injected", kv.ErrUnavailable)
	}
	return f.Driver.Write(ctx, op)
}

// written returns the number of writes since it was asked last.
func (f *failing) written() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.writes
	f.writes = 0
	return n
}

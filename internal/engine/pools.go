package engine

import (
	"context"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// poolCache reads pool sizes at most every poolRefresh.
type poolCache struct {
	store        *store.Store
	defaultSlots int
	reading      lock // held by who reads the store

	mu    sync.Mutex // never held over a call
	read  time.Time
	reset int // counts invalidations: a read that began before one is not fresh
	pools []airflow.Pool
}

func newPoolCache(s *store.Store, defaultSlots int) *poolCache {
	return &poolCache{store: s, defaultSlots: defaultSlots, reading: newLock()}
}

// get returns a pool as last read.
func (c *poolCache) get(name string) (airflow.Pool, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.pools {
		if p.Name == name {
			return p, true
		}
	}
	return airflow.Pool{}, false
}

// all returns the pools as last read; they are not changed.
func (c *poolCache) all() []airflow.Pool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pools
}

const poolRefresh = 5 * time.Second

// poolRefreshShared is how long a scheduler function may keep the sizes of pools:
// reading them takes two requests, which a step would wait for.
const poolRefreshShared = time.Minute

// refresh gives the sizes of the pools to the admission when they may have
// changed; of those who ask at once one reads and the others wait. A store that
// does not answer leaves the last known sizes in force.
func (c *poolCache) refresh(ctx context.Context, a *admission, now time.Time) {
	every := poolRefresh
	if a == nil { // ledgers: who changes a pool wakes those who wait for it
		every = poolRefreshShared
	}
	if _, ok := c.fresh(now, every); ok || c.reading.lock(ctx) != nil {
		return
	}
	defer c.reading.unlock()
	reset, ok := c.fresh(now, every)
	if ok {
		return
	}
	pools, err := c.store.ListPools(ctx)
	if err != nil {
		return
	}
	found := false
	for _, p := range pools {
		found = found || p.Name == airflow.DefaultPool
	}
	if !found {
		pools = append(pools, airflow.Pool{Name: airflow.DefaultPool, Slots: c.defaultSlots})
	}
	c.mu.Lock()
	c.pools = pools
	if c.reset == reset {
		c.read = now
	}
	c.mu.Unlock()
	if a != nil {
		a.setPools(pools)
	}
}

// fresh reports whether what was read last is young enough, and how often it was
// declared out of date.
func (c *poolCache) fresh(now time.Time, every time.Duration) (reset int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reset, !c.read.IsZero() && now.Sub(c.read) < every && !now.Before(c.read)
}

// invalidate makes the next step read the pools again.
func (c *poolCache) invalidate() {
	c.mu.Lock()
	c.read = time.Time{}
	c.reset++
	c.mu.Unlock()
}

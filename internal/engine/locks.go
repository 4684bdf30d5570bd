package engine

import (
	"context"
	"hash/fnv"

	"github.com/gustflow/gust/internal/airflow"
)

// lock is a mutex that may be held over calls of the store. Who waits for it waits
// on a channel: as long as the context lasts, and so that a clock of
// testing/synctest goes on.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

// lock returns when the caller holds it, or the context's error.
func (l lock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l lock) unlock() { <-l }

// dagLocks keep two goroutines from planning one DAG at once.
type dagLocks [64]lock

func newDagLocks() (l dagLocks) {
	for i := range l {
		l[i] = newLock()
	}
	return l
}

func (l *dagLocks) of(dag airflow.DagID) lock {
	h := fnv.New32a()
	h.Write([]byte(dag))
	return l[h.Sum32()%uint32(len(l))]
}

package engine

import (
	"context"

	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

// Check reports whether a running dispatch is still wanted, by a read of half a
// unit: workers on other machines ask every few seconds, so that clear and mark
// end a task soon. A *worker.SupersededError says why it must stop; other errors
// mean that it is not known.
func (b *Backend) Check(ctx context.Context, d worker.Dispatch) error {
	ctx = kv.WithLabel(ctx, "worker.check")
	ok, err := b.e.store.MayRun(ctx, d.Key, d.DispatchSeq)
	if err != nil || ok {
		return err
	}
	return &worker.SupersededError{Cause: b.supersededBy(ctx, d)}
}

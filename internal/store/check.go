package store

import (
	"context"
	"errors"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// MayRun reports whether a claimed dispatch may go on: no floor above it, no
// later claim. It is a cheap read that may be a second old, so that true means
// "not known to be superseded"; a false was confirmed with a consistent read.
func (s *Store) MayRun(ctx context.Context, k airflow.TaskInstanceKey, seq uint32) (bool, error) {
	for _, consistent := range []bool{false, true} {
		it, err := s.kv.Get(ctx, rowKey(k), consistent)
		switch {
		case errors.Is(err, kv.ErrNotFound): // its run was deleted, or the claim is not seen yet
		case err != nil:
			return true, translate(err)
		case it.Int(attrSeq) == int64(seq) && it.Int(attrMinSeq) <= int64(seq) && it.Str(attrStatus) == string(AttemptRunning):
			return true, nil
		}
	}
	return false, nil
}

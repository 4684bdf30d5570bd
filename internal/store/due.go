package store

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// DuePage is a page of the index of DAGs that wait for a date.
type DuePage struct {
	Dags []airflow.DagID // by date, then by id
	// Last is where the page ends: the next one begins after it. More says whether
	// there may be one.
	Last string
	More bool
}

// DuePage lists the DAGs whose date is now or earlier and that come after a place
// in that order ("" = from the beginning), at most limit, up to the place to ("" =
// all that are due). It reads the index alone, which may be behind: who plans one
// of them reads the DAG.
func (s *Store) DuePage(ctx context.Context, now time.Time, after, to string, limit int) (DuePage, error) {
	if end := afterPrefix(sortableTime(now)); to == "" || to > end {
		to = end
	}
	p := DuePage{Last: after}
	if after > to {
		return p, nil
	}
	q := kv.Query{Index: kv.GSI2, PK: dueIndex, SK: kv.Between(afterKey(after), to), Limit: limit}
	for {
		page, err := s.kv.Query(ctx, q)
		if err != nil {
			return p, translate(err)
		}
		for _, it := range page.Items {
			p.Last = it.Index[kv.GSI2].SK
			p.Dags = append(p.Dags, airflow.DagID(splitKey(p.Last)[1]))
		}
		if p.More = page.Cursor != ""; !p.More || len(p.Dags) >= limit {
			return p, nil
		}
		q.Cursor, q.Limit = page.Cursor, limit-len(p.Dags)
	}
}

// afterKey is the first key after a key: keys of the lists have no control characters.
func afterKey(key string) string {
	if key == "" {
		return ""
	}
	return key + "\x01"
}

// FanOut is how far the DAGs that are due were handed to others.
type FanOut struct {
	// To is the place in the order of DuePage up to which they were; Until is when
	// the last of them is to be planned. Zero = nothing is under way.
	To    string    `json:"to,omitempty"`
	Until time.Time `json:"until,omitzero"`
	// Marks are places on the way with the time at which all before them were to be
	// planned, in order.
	Marks []FanOutMark `json:"marks,omitempty"`
}

// FanOutMark is a place in the order of DuePage and a time.
type FanOutMark struct {
	To string    `json:"to"`
	At time.Time `json:"at"`
}

// ActivePage is a page of the list of unfinished runs.
type ActivePage struct {
	Runs []airflow.DagRun
	Last string // where the page ends
	More bool
}

// ActivePage lists unfinished runs by DAG and id, after a place in that order (""
// = from the beginning), at most limit.
func (s *Store) ActivePage(ctx context.Context, after string, limit int) (ActivePage, error) {
	runs, cursor, err := listIndex(ctx, s, kv.GSI2, activePK, ListOptions{From: afterKey(after), Limit: limit}, docReader[airflow.DagRun])
	p := ActivePage{Runs: runs, Last: after, More: cursor != ""}
	if n := len(runs); n > 0 {
		p.Last = joinKey(string(runs[n-1].DagID), string(runs[n-1].RunID))
	}
	return p, err
}

// DagItem is the key of what is known of a DAG, for reports on the item itself.
func DagItem(id airflow.DagID) kv.Key { return dagKey(id) }

// RunItem is the key of what is known of a run, for reports on the item itself.
func RunItem(k RunKey) kv.Key { return infoKey(k) }

package scheduler

import (
	"fmt"
	"reflect"
)

// checkDerived compares the counters of a run with those made anew from its instances.
func checkDerived(g *Graph, rs *RunState) error {
	fresh := &RunState{Header: rs.Header, Gone: rs.Gone, skips: rs.skips, lengths: rs.lengths}
	for _, c := range rs.Chunks {
		k := &Chunk{TIs: append([]TI(nil), c.TIs...)}
		fresh.Chunks = append(fresh.Chunks, k)
	}
	fresh.reset(g)
	if fresh.counts != rs.counts {
		return fmt.Errorf("counts %v, counted again %v", rs.counts, fresh.counts)
	}
	for i := range rs.tasks {
		a, b := rs.tasks[i], fresh.tasks[i]
		for s := range a.snap {
			if a.snap[s] != b.snap[s] {
				return fmt.Errorf("task %d: snapshot %v, counted again %v", i, a.snap, b.snap)
			}
		}
		a.class, b.class = 0, 0 // a cache
		if !reflect.DeepEqual(a, b) {
			return fmt.Errorf("task %d: %+v, counted again %+v", i, a, b)
		}
	}
	if rs.run.limited != fresh.run.limited {
		return fmt.Errorf("limited %d, counted again %d", rs.run.limited, fresh.run.limited)
	}
	return nil
}

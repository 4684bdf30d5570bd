package scheduler

import "time"

// wakeHeap is a binary heap of times at which an instance must be looked at
// again. Entries go stale when the instance's WakeAt changes; they are dropped
// when they surface.
type wakeHeap []wake

type wake struct {
	at  Micros
	pos int32
}

func (h *wakeHeap) push(at Micros, pos int32) {
	if at == 0 {
		return
	}
	*h = append(*h, wake{at, pos})
	s := *h
	for i := len(s) - 1; i > 0; {
		p := (i - 1) / 2
		if !s[i].before(s[p]) {
			return
		}
		s[i], s[p] = s[p], s[i]
		i = p
	}
}

// before orders by time, then position, so that the order never depends on history.
func (w wake) before(o wake) bool { return w.at < o.at || w.at == o.at && w.pos < o.pos }

func (h *wakeHeap) pop() {
	s := *h
	last := len(s) - 1
	s[0] = s[last]
	s = s[:last]
	*h = s
	for i := 0; ; {
		k := 2*i + 1
		if k >= last {
			return
		}
		if k+1 < last && s[k+1].before(s[k]) {
			k++
		}
		if !s[k].before(s[i]) {
			return
		}
		s[i], s[k] = s[k], s[i]
		i = k
	}
}

// nextWake returns the earliest valid entry.
func (rs *RunState) nextWake() (wake, bool) {
	h := &rs.run.wakes
	for len(*h) > 0 {
		w := (*h)[0]
		if rs.ti(w.pos).WakeAt == w.at {
			return w, true
		}
		h.pop()
	}
	return wake{}, false
}

// DueByTime reports whether the time of an instance has come: a delay is over, a
// deferral or the wait for a worker has lasted too long.
func (rs *RunState) DueByTime(now time.Time) bool {
	w, ok := rs.nextWake()
	return ok && w.at <= At(now)
}

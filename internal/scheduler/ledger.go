package scheduler

import (
	"slices"
	"sort"

	"github.com/gustflow/gust/internal/airflow"
)

// Ledger is who holds and who waits for the slots of one limit across runs: a
// finite pool, max_active_tis_per_dag of a task, parallelism. It is the authority
// where no process is (design 2a): a scheduler reads it, decides with Request or
// Settle and writes it back under the version it read.
//
// A run states what it holds absolutely, so that saying it again changes nothing:
// before a step is committed it may only say more (Request), after the commit
// what is true (Settle). Whoever dies in between leaves it holding too much,
// never too little, and Settle of the same run mends it.
type Ledger struct {
	Runs []LedgerRun `json:"runs,omitempty"` // by DagID, RunID
}

// LedgerRun is the entry of a run.
type LedgerRun struct {
	DagID airflow.DagID `json:"d"`
	RunID airflow.RunID `json:"r"`
	Held  int           `json:"h,omitempty"` // slots its instances occupy, at most
	// Promised are slots set aside for it since it was last told to come.
	Promised   int    `json:"p,omitempty"`
	PromisedAt Micros `json:"pa,omitempty"`
	// Lanes are what waits, most urgent first.
	Lanes []LedgerLane `json:"w,omitempty"`
}

// LedgerLane is the waiting instances of one task of a run.
type LedgerLane struct {
	Task     airflow.TaskID `json:"t"`
	Weight   int64          `json:"w,omitempty"`
	Date     Micros         `json:"d,omitempty"` // logical date of the run
	MapIndex int32          `json:"m"`           // of the first
	Slots    int            `json:"s"`           // each of them takes
	Count    int            `json:"n"`
}

func (r LedgerRun) key() RunKey { return RunKey{r.DagID, r.RunID} }

func (l *Ledger) find(k RunKey) (int, bool) {
	return slices.BinarySearchFunc(l.Runs, k, func(r LedgerRun, k RunKey) int {
		if r.DagID != k.DagID {
			return cmpText(string(r.DagID), string(k.DagID))
		}
		return cmpText(string(r.RunID), string(k.RunID))
	})
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// put replaces the entry of a run; an empty one is removed. It reports whether
// anything changed.
func (l *Ledger) put(e LedgerRun) bool {
	i, ok := l.find(e.key())
	empty := e.Held == 0 && e.Promised == 0 && len(e.Lanes) == 0
	switch {
	case ok && empty:
		l.Runs = slices.Delete(l.Runs, i, i+1)
	case ok:
		o := l.Runs[i]
		if o.Held == e.Held && o.Promised == e.Promised && o.PromisedAt == e.PromisedAt && slices.Equal(o.Lanes, e.Lanes) {
			return false
		}
		l.Runs[i] = e
	case empty:
		return false
	default:
		l.Runs = slices.Insert(l.Runs, i, e)
	}
	return true
}

// Entry returns the entry of a run; the zero entry with its key if it has none.
func (l *Ledger) Entry(k RunKey) LedgerRun {
	if i, ok := l.find(k); ok {
		return l.Runs[i]
	}
	return LedgerRun{DagID: k.DagID, RunID: k.RunID}
}

// Used returns the slots held and promised.
func (l *Ledger) Used() int {
	n := 0
	for _, r := range l.Runs {
		n += r.Held + r.Promised
	}
	return n
}

// claimant is a lane in the order in which slots are handed out.
type claimant struct {
	run  int // index in Ledger.Runs, -1 = the caller
	key  RunKey
	lane LedgerLane
}

// line merges the waiting lanes of all runs but one with own, in the order of
// Airflow's queue: priority weight, logical date, map index. What a run was
// promised covers its most urgent lanes already.
func (l *Ledger) line(k RunKey, own []LedgerLane) []claimant {
	var out []claimant
	for _, lane := range own {
		out = append(out, claimant{-1, k, lane})
	}
	for i, r := range l.Runs {
		if r.key() == k {
			continue
		}
		covered := r.Promised
		for _, lane := range r.Lanes {
			n := 0
			if lane.Slots > 0 {
				n = min(lane.Count, covered/lane.Slots)
			}
			covered -= n * lane.Slots
			if lane.Count -= n; lane.Count > 0 {
				out = append(out, claimant{i, r.key(), lane})
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		switch {
		case a.lane.Weight != b.lane.Weight:
			return a.lane.Weight > b.lane.Weight
		case a.lane.Date != b.lane.Date:
			return a.lane.Date < b.lane.Date
		case a.lane.MapIndex != b.lane.MapIndex:
			return a.lane.MapIndex < b.lane.MapIndex
		case a.key != b.key:
			return cmpText(string(a.key.DagID), string(b.key.DagID)) < 0 || a.key.DagID == b.key.DagID && a.key.RunID < b.key.RunID
		}
		return a.lane.Task < b.lane.Task
	})
	return out
}

// Request is asked before a step is committed by a run that holds held slots
// after it and has lanes that want more. It returns how many slots the run may
// hold in all: what it gives back in the same step it may use again, but not
// ahead of others that are more urgent. changed says that the ledger must be
// written before the step is.
func (l *Ledger) Request(k RunKey, held int, lanes []LedgerLane, slots int) (quota int, changed bool) {
	e := l.Entry(k)
	own := max(0, e.Held-held) + e.Promised
	assignable := max(0, slots-l.Used()-max(0, held-e.Held)+own)
	quota = held
	var waiting []LedgerLane
	for _, c := range l.line(k, lanes) {
		n := c.lane.Count
		if c.lane.Slots > 0 {
			n = min(n, assignable/c.lane.Slots)
		}
		assignable -= n * c.lane.Slots
		if c.run >= 0 {
			continue
		}
		quota += n * c.lane.Slots
		if c.lane.Count -= n; c.lane.Count > 0 {
			waiting = append(waiting, c.lane)
		}
	}
	e.Held = max(e.Held, quota)
	e.Promised, e.PromisedAt = 0, 0
	e.Lanes = waiting
	return quota, l.put(e)
}

// Settle is told after a step was committed what its run holds and what of it
// waits for this limit, and hands free slots to those who wait. It returns the
// runs to be told, which may be the run itself. Slots are promised to a run once:
// it takes them, or gives them back, with its next Request or Settle.
func (l *Ledger) Settle(k RunKey, held int, waiting []LedgerLane, slots int, now Micros) (tell []RunKey, changed bool) {
	e := l.Entry(k)
	e.Held, e.Promised, e.PromisedAt, e.Lanes = held, 0, 0, waiting
	changed = l.put(e)
	free := slots - l.Used()
	if free <= 0 {
		return nil, changed
	}
	for _, c := range l.line(RunKey{}, nil) {
		n := c.lane.Count
		if c.lane.Slots > 0 {
			n = min(n, free/c.lane.Slots)
		}
		if n == 0 {
			continue
		}
		free -= n * c.lane.Slots
		r := &l.Runs[c.run]
		r.Promised += n * c.lane.Slots
		r.PromisedAt = now
		changed = true
		if !slices.Contains(tell, c.key) {
			tell = append(tell, c.key)
		}
	}
	return tell, changed
}

// Overdue lists the runs that were promised slots before the given time and have
// not come.
func (l *Ledger) Overdue(before Micros) (ks []RunKey) {
	for _, r := range l.Runs {
		if r.Promised > 0 && r.PromisedAt < before {
			ks = append(ks, r.key())
		}
	}
	return ks
}

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
// before a step is committed it asks for more (Request), after the commit it says
// what is true (Settle). Whoever dies in between leaves it holding too much, never
// too little, until a later step settles or askedFor has passed.
type Ledger struct {
	Runs []LedgerRun `json:"runs,omitempty"` // by DagID, RunID
}

// LedgerRun is the entry of a run.
type LedgerRun struct {
	DagID airflow.DagID `json:"d"`
	RunID airflow.RunID `json:"r"`
	// Version is that of the run's state which Held and Lanes speak of: what an
	// earlier step has to say, late, does not count.
	Version int64 `json:"v,omitempty"`
	Held    int   `json:"h,omitempty"` // slots its instances occupy
	// Asked is what a step that was to follow the version Base may hold, if it is
	// more; By names the scheduler.
	Asked   int    `json:"a,omitempty"`
	Base    int64  `json:"b,omitempty"`
	By      string `json:"by,omitempty"`
	AskedAt Micros `json:"at,omitempty"`
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

// askedFor is how long a step may take from Request to its commit: longer than
// any invocation lives.
const askedFor = Micros(2 * 60 * 1e6)

// uses is what an entry takes of the limit.
func (r LedgerRun) uses() int { return max(r.Held, r.Asked) + r.Promised }

// put replaces the entry of a run; an empty one is removed. It reports whether
// anything changed.
func (l *Ledger) put(e LedgerRun) bool {
	i, ok := l.find(e.key())
	if e.Asked <= e.Held {
		e.Asked, e.Base, e.By, e.AskedAt = 0, 0, "", 0
	}
	if e.Promised == 0 {
		e.PromisedAt = 0
	}
	empty := e.uses() == 0 && len(e.Lanes) == 0
	switch {
	case ok && empty:
		l.Runs = slices.Delete(l.Runs, i, i+1)
	case ok:
		o := l.Runs[i]
		if o.Held == e.Held && o.Asked == e.Asked && o.Promised == e.Promised && slices.Equal(o.Lanes, e.Lanes) {
			return false // versions and times alone are not worth a write
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
		n += r.uses()
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
// hold in all, and how many more instances of each task that covers: what it gives back in the same step it may use again, but not
// ahead of others that are more urgent. changed says that the ledger must be
// written before the step is. base is the version of the run's state that the
// step was decided on, by the scheduler.
func (l *Ledger) Request(k RunKey, base int64, by string, held int, lanes []LedgerLane, slots int, now Micros) (quota int, granted map[airflow.TaskID]int, changed bool) {
	e := l.Entry(k)
	assignable := max(0, slots-l.Used()+e.uses()-held)
	quota, granted = held, map[airflow.TaskID]int{}
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
		granted[c.lane.Task] += n
		if c.lane.Count -= n; c.lane.Count > 0 {
			waiting = append(waiting, c.lane)
		}
	}
	if quota > max(e.Held, e.Asked) {
		e.Asked, e.Base, e.By, e.AskedAt = quota, base, by, now
	}
	e.Promised = 0
	if base >= e.Version {
		e.Lanes = waiting
	}
	return quota, granted, l.put(e)
}

// Settle is told by a scheduler after a step was committed, as the given version,
// what its run holds, held before and what of it waits for this limit, and hands free slots to those who wait. It returns the
// runs to be told, which may be the run itself. Slots are promised to a run once:
// it takes them, or gives them back, with its next Request or Settle.
func (l *Ledger) Settle(k RunKey, version int64, by string, was, held int, waiting []LedgerLane, slots int, now Micros) (tell []RunKey, changed bool) {
	e := l.Entry(k)
	current := version >= e.Version
	if current {
		if version > e.Base || e.By == by || now-e.AskedAt > askedFor {
			e.Asked = 0
		}
		// An entry that is not what the step before has left waits for that one's
		// word still, which must not count any more.
		outrun := e.Held != was
		e.Held, e.Promised, e.Lanes, e.Version = held, 0, waiting, version
		if changed = l.put(e); !changed && outrun {
			if i, ok := l.find(k); ok {
				l.Runs[i].Version, changed = version, true
			}
		}
	}
	free := slots - l.Used()
	if free <= 0 {
		return nil, changed
	}
	for _, c := range l.line(RunKey{}, nil) {
		if c.key == k && !current {
			continue // what waits in it is known to a later step
		}
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
